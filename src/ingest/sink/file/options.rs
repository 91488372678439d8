//! How a file is to be written.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};

use super::File;
use super::sync::{Disk, Fsync, Syncs, System};

/// The mode of a file that is made, before the umask: logs are for their owner and group.
const MODE: u32 = 0o640;
/// The id of no user and no group (chown(2)).
const NOBODY: u32 = u32::MAX;

/// How a [`File`] is to be written: [`File::options`].
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    pub(super) fsync: Fsync,
    pub(super) rotate_size: Option<u64>,
    pub(super) rotate_every: Option<Duration>,
    pub(super) keep: Option<usize>,
    #[cfg(feature = "gzip")]
    pub(super) gzip: bool,
    mode: Option<u32>,
    owner: (Option<u32>, Option<u32>),
}

impl FileOptions {
    /// What [`rotate_size`](FileOptions::rotate_size) may be, in bytes.
    pub const ROTATE_SIZES: RangeInclusive<u64> = 4096..=1 << 50;
    /// What [`rotate_every`](FileOptions::rotate_every) may be.
    pub const ROTATE_TIMES: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600);
    /// What [`keep`](FileOptions::keep) may be.
    pub const KEEP: RangeInclusive<usize> = 1..=100_000;

    /// When the file is synced, and so what "delivered" means. Default: [`Fsync::Off`]. Needs a
    /// regular file, and [`Fsync::Batch`] a directory that this user may read.
    #[must_use]
    pub fn fsync(mut self, fsync: Fsync) -> FileOptions {
        self.fsync = fsync;
        self
    }

    /// Rotates the file before it has more than so many bytes. Only a single message that is longer
    /// makes a larger file. Default: whatever its size.
    ///
    /// To **rotate** is to rename the file to `NAME-20261129T130500.123Z`, with the time of the
    /// rotation in UTC, and to go on in a new one. That happens between two messages: none is lost,
    /// and none is in two files. Names sort by age: where the clock was set back, or a name is
    /// taken, the time in the name is a millisecond more than in the newest one. Where the path is
    /// a symbolic link, the file that it leads to is renamed, in that one's directory. Where the
    /// name leads to another file (logrotate was there), nothing is renamed, and that file is
    /// opened. A rotation that fails is logged and tried again after a second; meanwhile the file
    /// grows. Needs a regular file, and a directory that this user may write.
    #[must_use]
    pub fn rotate_size(mut self, bytes: u64) -> FileOptions {
        self.rotate_size = Some(bytes);
        self
    }

    /// Rotates the file whenever the time in UTC is a multiple of this since 1970: with an hour at
    /// each full hour, with 24 hours at midnight UTC. To about a second; also while nothing flows,
    /// and at the first message after a start in another period than the file's last write. An
    /// empty file is not rotated. Default: never.
    #[must_use]
    pub fn rotate_every(mut self, every: Duration) -> FileOptions {
        self.rotate_every = Some(every);
        self
    }

    /// How many old files stay: at each rotation, those beyond that are deleted, the oldest first
    /// by the time in their names. Files with other names are left alone. Default: all stay.
    #[must_use]
    pub fn keep(mut self, old_files: usize) -> FileOptions {
        self.keep = Some(old_files);
        self
    }

    /// Whether old files are compressed, on a thread of the sink's own (`gzip`), each to `NAME.gz`,
    /// with the mode, the owner and the time of the old one, which is deleted when that is whole
    /// and synced. One that cannot be compressed (a full disk) stays as it is, which the log says,
    /// and is tried again after a minute or the next rotation. A process that ends or is killed
    /// meanwhile leaves the old file; it is compressed after the next start. Default: no.
    #[cfg(feature = "gzip")]
    #[must_use]
    pub fn gzip(mut self, is_on: bool) -> FileOptions {
        self.gzip = is_on;
        self
    }

    /// The permissions of a file that is made, by rotation or otherwise, whatever the umask is: the
    /// bits of chmod(2), from 0 to 0o777. A file that is there keeps its own. Default: 0640 less
    /// the umask.
    #[must_use]
    pub fn mode(mut self, bits: u32) -> FileOptions {
        self.mode = Some(bits);
        self
    }

    /// The user and the group of a file that is made, by their ids (chown(2)). A file that is there
    /// keeps its own. Only root may give files to other users, and anybody else to its own groups.
    /// Default, and for what is `None`: those of the process.
    #[must_use]
    pub fn owner(mut self, user: Option<u32>, group: Option<u32>) -> FileOptions {
        self.owner = (user, group);
        self
    }

    /// Opens or creates the file.
    ///
    /// # Errors
    /// As [`File::open`]; an option that is out of its range, contradicts another, or cannot be had
    /// of what the path leads to.
    pub fn open(self, path: impl Into<PathBuf>) -> io::Result<File> {
        self.open_on(path.into(), Box::new(System))
    }

    pub(super) fn open_on(self, path: PathBuf, disk: Box<dyn Disk>) -> io::Result<File> {
        self.check()?;
        let syncs = Syncs::new(self.fsync, disk);
        File::open_with(path, self, syncs)
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if let Fsync::Interval(interval) = self.fsync {
            within("the interval of fsync", interval, &Fsync::INTERVALS)?;
        }
        if let Some(bytes) = self.rotate_size {
            within(
                "the size of rotated files, in bytes,",
                bytes,
                &Self::ROTATE_SIZES,
            )?;
        }
        if let Some(every) = self.rotate_every {
            within("the time between rotations", every, &Self::ROTATE_TIMES)?;
        }
        if self.mode.is_some_and(|bits| bits > 0o777) {
            return Err(wrong("permissions are from 0 to 0o777"));
        }
        let (user, group) = self.owner;
        if [user, group].contains(&Some(NOBODY)) {
            return Err(wrong(format!(
                "{NOBODY} is the id of no user and no group (chown(2))"
            )));
        }
        if let Some(keep) = self.keep {
            within("the number of old files", keep, &Self::KEEP)?;
            if !self.rotates() {
                let text =
                    "old files are kept where the file is rotated: say a size or a time, too";
                return Err(wrong(text));
            }
        }
        Ok(())
    }

    /// The mode that a file is made with, before the umask.
    pub(super) fn mode_made_with(&self) -> Mode {
        Mode::from_raw_mode(self.mode.unwrap_or(MODE))
    }

    /// The mode that a folder is made with, before the umask: who may read files may enter it.
    #[cfg(feature = "strftime")]
    pub(super) fn mode_of_folders(&self) -> Mode {
        let bits = self.mode.unwrap_or(MODE);
        Mode::from_raw_mode(0o700 | bits | (bits & 0o444) >> 2)
    }

    /// Gives a file that was made its owner and its mode.
    pub(super) fn set_up(&self, made: &impl AsFd) -> io::Result<()> {
        self.give_away(made)?;
        if let Some(bits) = self.mode {
            fchmod(made, Mode::from_raw_mode(bits))?;
        }
        Ok(())
    }

    /// Gives what was made its owner.
    pub(super) fn give_away(&self, made: &impl AsFd) -> io::Result<()> {
        let (user, group) = self.owner;
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        fchown(made, user, group).map_err(|error| {
            let error = io::Error::from(error);
            let text = format!(
                "its owner cannot be set: {error}: only root may give files to other users, and anybody else to its own groups"
            );
            io::Error::new(error.kind(), text)
        })
    }

    pub(super) fn rotates(&self) -> bool {
        self.rotate_size.is_some() || self.rotate_every.is_some()
    }

    /// # Errors
    /// Only a regular file can be written in this way, and this is none.
    pub(super) fn check_kind(&self, is_regular: bool) -> io::Result<()> {
        let syncs = (self.fsync != Fsync::Off).then_some("fsync");
        match syncs.or(self.rotates().then_some("rotation")) {
            Some(option) if !is_regular => Err(wrong(format!(
                "this is no regular file, which {option} needs"
            ))),
            _ => Ok(()),
        }
    }
}

pub(super) fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

fn within<T: PartialOrd + fmt::Debug>(
    what: &str,
    value: T,
    range: &RangeInclusive<T>,
) -> io::Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (from, to) = (range.start(), range.end());
    Err(wrong(format!(
        "{what} is from {from:?} to {to:?}, and not {value:?}"
    )))
}
