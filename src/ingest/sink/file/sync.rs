//! When a file is synced, and what becomes of a sync that failed.
//!
//! A sync that failed is never tried again on its descriptor. The kernel tells a failed write-back
//! once and takes the pages for clean from then on: the next fsync(2) would say that all is well
//! (fsync(2), ERRORS, EIO; PostgreSQL's fsync failure of 2018, lwn.net/Articles/752063). What
//! is not known to be on the disk is written again, and synced through a descriptor that was opened
//! after the failure.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fdatasync, fsync, openat};
use rustix::io::Errno;

use crate::ingest::sink::fd_writer::FdWriter;

/// When a file is synced: [`FileOptions::fsync`](super::FileOptions::fsync).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// Never: what was delivered survives a crash of the process, and not one of the machine, which
    /// loses what the system had not written to the disk yet: about 30 s of messages with Linux'
    /// defaults.
    #[default]
    Off,
    /// About so often, by fdatasync(2) on the sink's thread, while there is something to sync. A
    /// message is delivered when write(2) took it: a crash of the machine loses what was delivered
    /// since the last sync, which is this time and about a second at most, and the time that a sync
    /// takes. What is left at the end is synced when the sink is dropped. A sync that fails is
    /// logged and counted as a failure of the sink; what it was to cover may be lost.
    Interval(Duration),
    /// Before messages are delivered: that means that fdatasync(2) returned. All that has come
    /// while one sync ran is synced by the next one. The directory is synced after the file was
    /// opened or made. If a sync fails, the file is opened anew and all that waited for the sync is
    /// written again, so that messages may stand there twice, and before them an incomplete one.
    Batch,
}

impl Fsync {
    /// The shortest and the longest interval.
    pub const INTERVALS: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(3600);

    pub(super) fn delivered_means(self) -> String {
        let written = "write(2) took the message's last byte";
        match self {
            Fsync::Off => {
                format!("{written}: it survives a crash of the process, not one of the machine")
            }
            Fsync::Interval(interval) => format!(
                "{written}: a crash of the machine loses those since the last sync, one every {interval:?} or second"
            ),
            Fsync::Batch => {
                "fdatasync(2) returned: the message survives a crash of the machine".to_owned()
            }
        }
    }
}

/// The system's sync; in tests, one that fails.
pub(super) trait Disk: Send + fmt::Debug {
    fn sync(&mut self, file: BorrowedFd<'_>) -> io::Result<()>;

    /// As [`sync_folder`].
    fn sync_folder(&mut self, folder: BorrowedFd<'_>) -> io::Result<()>;
}

#[derive(Debug)]
pub(super) struct System;

impl Disk for System {
    fn sync(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            match fdatasync(file) {
                Err(Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    fn sync_folder(&mut self, folder: BorrowedFd<'_>) -> io::Result<()> {
        sync_folder(folder)
    }
}

/// What there is to sync.
#[derive(Debug)]
pub(super) struct Syncs {
    how: Fsync,
    disk: Box<dyn Disk>,
    /// When what was written is to be synced, where an interval decides.
    due: Option<Instant>,
    /// The last sync through this descriptor failed.
    has_failed: bool,
}

impl Syncs {
    pub(super) fn new(how: Fsync, disk: Box<dyn Disk>) -> Syncs {
        Syncs {
            how,
            disk,
            due: None,
            has_failed: false,
        }
    }

    pub(super) fn how(&self) -> Fsync {
        self.how
    }

    /// Something was written. Says whether that is to be synced later.
    pub(super) fn written(&mut self) -> bool {
        if let (Fsync::Interval(interval), None) = (self.how, self.due) {
            self.due = Some(Instant::now() + interval);
        }
        self.due.is_some()
    }

    /// Whether it is time for a sync; `is_last`: there will be no later time.
    pub(super) fn is_due(&self, is_last: bool) -> bool {
        self.due.is_some_and(|due| is_last || Instant::now() >= due)
    }

    /// Syncs the file.
    pub(super) fn sync(&mut self, file: &FdWriter) -> io::Result<()> {
        self.due = None;
        if self.has_failed {
            return Err(io::Error::other("a sync of this descriptor has failed"));
        }
        self.disk.sync(file.as_fd()).map_err(|error| {
            self.has_failed = true;
            io::Error::new(error.kind(), format!("fdatasync(2): {error}"))
        })
    }

    /// A file or a folder was made in this folder, or may have been.
    pub(super) fn made_in(&mut self, folder: impl AsFd) -> io::Result<()> {
        match self.how {
            Fsync::Batch => self.disk.sync_folder(folder.as_fd()),
            Fsync::Off | Fsync::Interval(_) => Ok(()),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// The file was opened anew.
    pub(super) fn renew(&mut self) {
        self.has_failed = false;
        self.due = None;
    }
}

/// Syncs a folder, so that a file that was made in it has its name after a crash. A file system
/// that cannot sync a folder says EINVAL, and has nothing to be synced there.
fn sync_folder(folder: impl AsFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let outcome = openat(folder, c".", flags, Mode::empty()).and_then(|folder| fsync(&folder));
    match outcome {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => {
            let error = io::Error::from(error);
            let text = format!("its directory cannot be synced: {error}");
            Err(io::Error::new(error.kind(), text))
        }
    }
}
