//! How a file is to be written.

use std::io;
use std::path::PathBuf;

use super::File;
use super::sync::{Disk, Fsync, System};

/// How a [`File`] is to be written: [`File::options`].
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    pub(super) fsync: Fsync,
}

impl FileOptions {
    /// When the file is synced, and so what "delivered" means. Default: [`Fsync::Off`]. Needs a
    /// regular file, and [`Fsync::Batch`] a directory that this user may read.
    #[must_use]
    pub fn fsync(mut self, fsync: Fsync) -> FileOptions {
        self.fsync = fsync;
        self
    }

    /// Opens or creates the file.
    ///
    /// # Errors
    /// As [`File::open`], and if the options cannot be had of what the path leads to.
    pub fn open(self, path: impl Into<PathBuf>) -> io::Result<File> {
        self.open_on(path.into(), Box::new(System))
    }

    pub(super) fn open_on(self, path: PathBuf, disk: Box<dyn Disk>) -> io::Result<File> {
        self.check()?;
        File::open_with(path, self, disk)
    }

    fn check(&self) -> io::Result<()> {
        let range = Fsync::INTERVALS;
        match self.fsync {
            Fsync::Interval(interval) if !range.contains(&interval) => Err(wrong(format!(
                "an interval of fsync is from {:?} to {:?}, and not {interval:?}",
                range.start(),
                range.end()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether only a regular file can be written in this way, and which option wants that.
    pub(super) fn wants_regular_file(&self) -> Option<&'static str> {
        (self.fsync != Fsync::Off).then_some("fsync")
    }
}

pub(super) fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}
