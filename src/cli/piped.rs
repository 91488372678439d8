//! A configuration file that comes through a pipe: from `<(...)` of a shell, or on stdin.
//!
//! A pipe is read once, and the program executes itself once more. So the text stays on stdin as a
//! file without a name, and a variable says so until the program is what it should be. It is in no
//! variable itself, which every process that this one starts would inherit, nor in a descriptor of
//! its own, whose number would say nothing sure of what it is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use rustix::stdio;

/// How stdin is named in place of a file, and its own name.
const DASH: &str = "-";
const STDIN: &str = "/dev/stdin";

/// The variable by which the program knows that the text is on stdin: the number of its process,
/// which an execution keeps and no other has.
const ON_STDIN: &str = "DRAINLINE_CONFIG_ON_STDIN";

/// The longest that a start waits for whoever writes the text.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A file by the name under which it can be opened.
pub(super) fn path(typed: &Path) -> &Path {
    match typed == Path::new(DASH) {
        true => Path::new(STDIN),
        false => typed,
    }
}

/// The text of a pipe that was handed to this process, at most `max_bytes` of it and one more;
/// `None` if that is no such pipe. A FIFO with a name is none: its writer may never come. The text
/// stays on stdin. Blocks for at most 10 s.
pub(super) fn read(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    if !is_descriptor(path) {
        return Ok(None);
    }
    if std::env::var_os(ON_STDIN) == Some(this_process()) {
        let mut kept = File::from(stdio::stdin().try_clone_to_owned()?);
        kept.rewind()?;
        let mut bytes = Vec::new();
        kept.take(max_bytes + 1).read_to_end(&mut bytes)?;
        return Ok(Some(bytes));
    }
    if !fs::metadata(path)?.file_type().is_fifo() {
        return Ok(None);
    }
    let bytes = read_to_end(open(path)?, max_bytes)?;
    let mut kept = File::from(memfd_create("configuration", MemfdFlags::CLOEXEC)?);
    kept.write_all(&bytes)?;
    stdio::dup2_stdin(&kept)?;
    Ok(Some(bytes))
}

/// What the program has to be given in its environment when it is executed again after
/// [`read`].
pub(super) fn variable() -> (&'static str, OsString) {
    (ON_STDIN, this_process())
}

/// Takes the text from stdin, where nothing reads it any more.
pub(super) fn forget() {
    if let Ok(null) = File::open("/dev/null") {
        let _ = stdio::dup2_stdin(&null);
    }
}

fn this_process() -> OsString {
    std::process::id().to_string().into()
}

fn is_descriptor(path: &Path) -> bool {
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    path == Path::new(STDIN)
        || ["/dev/fd", "/proc/self/fd"].into_iter().any(|folder| {
            let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
            name.is_some_and(is_number)
        })
}

/// The pipe, so that a read of it never blocks. One that another user made cannot be opened again.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match options.read(true).custom_flags(flags).open(path) {
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && path == Path::new(STDIN) =>
        {
            Ok(stdio::stdin().try_clone_to_owned()?.into())
        }
        opened => opened,
    }
}

fn read_to_end(mut pipe: File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let end = Instant::now() + MAX_WAIT;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while bytes.len() as u64 <= max_bytes {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = format!("not written to its end within {} s", MAX_WAIT.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        let wait = Timespec::try_from(left).ok();
        let mut ready = [PollFd::new(&pipe, PollFlags::IN)];
        match poll(&mut ready, wait.as_ref()) {
            Ok(1..) => {}
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match pipe.read(&mut part) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
