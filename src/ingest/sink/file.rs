//! A file that is appended to.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Output, Sink, SinkError, Work};

/// The mode of a file that is created, before the umask: logs are for their owner and group.
const MODE: u32 = 0o640;

/// Appends messages, in the output framing, to a file. Delivered means that write(2) took the message's last byte,
/// framing included: it is in the system's cache and survives a crash of this process, not one of the machine.
///
/// The file is created with mode 0640 (before the umask) if it is not there. A FIFO is written to as a pipe
/// is; it must have a reader when it is opened.
///
/// A file that does not end in what ends a message was left so by whoever was killed or cut off while it wrote. The
/// first write after an open ends that half message, so that it stays one of its own, and the log says so. It cannot
/// where the output framing counts, or where the file may not be read.
///
/// A message that was written in part, since the disk was full, is resumed at its byte only if that part is still what the
/// file ends in. If the file was truncated meanwhile, or somebody else has appended to it, the message is written anew, and
/// the log says so. In an output framing that counts, what somebody else appended to a part spoils that part.
///
/// A file at its size limit (RLIMIT_FSIZE) is a failure that may pass, like a full disk, if the process ignores
/// or catches SIGXFSZ, as the program does; by default that signal kills it (setrlimit(2)).
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    output: Output,
}

impl File {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<File> {
        let path = path.into();
        let output = open(&path)?;
        Ok(File { path, output })
    }
}

/// Non-blocking, so that a FIFO without a reader is an error and not a wait; a regular file knows no
/// difference (open(2)). A regular one is opened for reading, too, where that is allowed, for a look at its end.
fn open(path: &Path) -> io::Result<Output> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(flags);
    // Not a FIFO: who holds both of its ends is never told that its reader is gone (fifo(7)).
    if std::fs::metadata(path).map_or(true, |there| there.is_file()) {
        match options.clone().read(true).open(path) {
            Ok(file) if file.metadata()?.is_file() => return Output::file(file, name(path)),
            // It may be written only; or it was a file a moment ago.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Output::file(options.open(path)?, name(path))
}

fn name(path: &Path) -> String {
    format!("file:{}", path.display())
}

impl Sink for File {
    fn name(&self) -> String {
        self.output.name().to_owned()
    }

    fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
        self.output.write(work)
    }

    fn is_inside_message(&self, work: &Work<'_>) -> bool {
        self.output.is_inside_message(work)
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.output.replace(open(&self.path)?);
        Ok(true)
    }
}
