//! A file that is appended to.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Output, Sink, SinkError, Work};

/// The mode of a file that is created, before the umask: logs are for their owner and group.
const MODE: u32 = 0o640;

/// Appends messages, one a line, to a file. Delivered means that write(2) took the last byte of the line:
/// it is in the system's cache and survives a crash of this process, not one of the machine.
///
/// The file is created with mode 0640 (before the umask) if it is not there. A FIFO is written to as a pipe
/// is; it must have a reader when it is opened.
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
/// difference (open(2)).
fn open(path: &Path) -> io::Result<Output> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(flags)
        .open(path)?;
    Output::file(file)
}

impl Sink for File {
    fn name(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
        self.output.write(work)
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.output.replace(open(&self.path)?);
        Ok(true)
    }
}
