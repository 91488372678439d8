//! When a file is rotated, and what the old ones are called.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use log::Level;
use rustix::fs::{
    Access, AtFlags, Dir, Mode, OFlags, RenameFlags, accessat, openat, renameat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::options::{FileOptions, wrong};
use super::stamp::Stamp;
use super::walk;
use super::{File, Missing};
use crate::ingest::sink::batches::Batches;
use crate::ingest::sink::contract::{Sink, SinkError};
use crate::ingest::sink::fd_writer::FdWriter;
use crate::server::Logger;

/// The longest name of a file (NAME_MAX, limits.h).
const MAX_NAME: usize = 255;
/// What is appended to the name of an old file, at most.
const MAX_SUFFIX: usize = "-".len() + Stamp::LEN + UNFINISHED.len();
/// What is behind the time in the name of a file that is being compressed.
pub(super) const UNFINISHED: &str = ".gz.tmp";
/// Names that are tried for one old file.
const MAX_TRIES: usize = 100;

/// When the file is rotated.
#[derive(Debug)]
pub(super) struct Rotation {
    size: Option<u64>,
    every: Option<Duration>,
    keep: Option<usize>,
    /// The next time, of those that are multiples of `every`.
    next: SystemTime,
    /// A rotation failed, and is tried again after the next look after the file.
    is_put_off: bool,
}

/// A file by its real name: where symbolic links have led to.
pub(super) struct Named {
    pub(super) folder: OwnedFd,
    pub(super) name: OsString,
}

/// An old file: sorted by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Old {
    pub(super) stamp: Stamp,
    /// What stands behind the time in its name: of a compressed one, `.gz`.
    pub(super) suffix: &'static str,
}

impl Rotation {
    /// `None` where nothing asks for it.
    pub(super) fn of(options: &FileOptions) -> Option<Rotation> {
        options.rotates().then_some(Rotation {
            size: options.rotate_size,
            every: options.rotate_every,
            keep: options.keep,
            next: SystemTime::UNIX_EPOCH,
            is_put_off: false,
        })
    }

    /// A file is written to from now on.
    pub(super) fn begin(&mut self, output: &mut FdWriter) {
        self.is_put_off = false;
        output.limit_size(self.size.unwrap_or(u64::MAX));
        if let Some(every) = self.every {
            // What is there may be from before a restart.
            let is_empty = output.size().is_none_or(|size| size == 0);
            let written = output.written_at().filter(|_| !is_empty);
            let now = SystemTime::now();
            self.next = next_multiple(written.map_or(now, |written| written.min(now)), every);
        }
    }

    fn is_time(&self) -> bool {
        !self.is_put_off && self.every.is_some() && SystemTime::now() >= self.next
    }

    /// Deletes the oldest old files.
    fn prune(&self, file: &Named) -> io::Result<()> {
        let Some(keep) = self.keep else {
            return Ok(());
        };
        // An old file and its compressed form are one.
        let mut newest = BTreeSet::new();
        let mut is_over = false;
        file.each_old(|old| {
            newest.insert(old.stamp);
            if newest.len() > keep {
                newest.pop_first();
                is_over = true;
            }
            Ok(())
        })?;
        let Some(first_kept) = newest.first().filter(|_| is_over) else {
            return Ok(());
        };
        file.each_old(|old| match old.stamp < *first_kept {
            true => file.unlink(&file.name_of(old)),
            false => Ok(()),
        })
    }

    /// What the times of old files that stay take while it is looked which do, at most, in bytes: a
    /// node of the tree is half full at least.
    pub(super) fn pruning_bytes(keep: Option<usize>) -> u64 {
        const EACH: usize = 4 * size_of::<Stamp>();
        keep.map_or(0, |keep| (keep + 1) as u64 * EACH as u64)
    }
}

/// The next time that is a whole multiple of `every` since 1970 in UTC.
fn next_multiple(after: SystemTime, every: Duration) -> SystemTime {
    let since = after
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let count = since.as_nanos() / every.as_nanos() + 1;
    let next = count.saturating_mul(every.as_nanos());
    let next = Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX));
    SystemTime::UNIX_EPOCH + next
}

impl File {
    /// Rotates the file if it is time, and no message stands there in part.
    pub(super) fn rotate_if_time(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let is_time = self.rotation.as_ref().is_some_and(Rotation::is_time);
        if !is_time || self.is_dead || self.is_released || self.is_inside_message(batches) {
            return Ok(());
        }
        if self.output.size() == Some(0) {
            self.begin_rotation();
            return Ok(());
        }
        self.sync_group(batches)?;
        self.rotate(batches.logger());
        Ok(())
    }

    /// Rotates a file that is at its size, as far as that was counted. Between two messages, of
    /// which all that are written are accepted.
    pub(super) fn rotate_if_full(&mut self, logger: &Logger) {
        let room = self.output.room();
        self.count_again();
        // Unless somebody has truncated it.
        if self.output.room() <= room {
            self.rotate(logger);
        }
    }

    /// The file is looked after: it may have been truncated, or written to by others.
    pub(super) fn count_again(&mut self) {
        if let Some(rotation) = &mut self.rotation {
            rotation.is_put_off = false;
            self.output.limit_size(rotation.size.unwrap_or(u64::MAX));
        }
    }

    /// As [`Gzip::hold_off`](super::gzip::Gzip::hold_off).
    pub(super) fn hold_off_gzip(&self, is_on: bool) {
        #[cfg(feature = "gzip")]
        if let Some(gzip) = &self.gzip {
            gzip.hold_off(is_on);
        }
        #[cfg(not(feature = "gzip"))]
        let _ = is_on;
    }

    #[cfg(feature = "gzip")]
    fn wake_gzip(&self, logger: &Logger) {
        if let Some(gzip) = &self.gzip {
            gzip.wake(logger);
        }
    }

    pub(super) fn begin_rotation(&mut self) {
        if let Some(rotation) = &mut self.rotation {
            rotation.begin(&mut self.output);
        }
    }

    fn rotate(&mut self, logger: &Logger) {
        // What is left behind is synced as it would have been.
        let synced = self.sync_if_due(true);
        let rotated = self.try_rotate(logger);
        let name = self.output.name();
        if let Err(error) = synced {
            let text = || format!("the sink {name} failed: {error}");
            logger.log_limited("not synced", Level::Warn, text);
        }
        match rotated {
            Ok(Some(old)) => logger.log_limited("rotated", Level::Info, || {
                let old = old.display();
                format!("the file of the sink {name} was rotated: the old one is {old}")
            }),
            Ok(None) => {}
            Err(error) => {
                logger.log_limited("not rotated", Level::Warn, || {
                    format!("the file of the sink {name} cannot be rotated, and grows: {error}")
                });
                if let Some(rotation) = &mut self.rotation {
                    rotation.is_put_off = true;
                    self.output.limit_size(u64::MAX);
                }
            }
        }
    }

    /// Returns the name of the old file; `None` if somebody else has renamed it.
    fn try_rotate(&mut self, logger: &Logger) -> io::Result<Option<OsString>> {
        let file = Named::find(&self.path)?;
        if !file.leads_to(self.identity) {
            self.open_again(Missing::IsCreated)?;
            return Ok(None);
        }
        self.hold_off_gzip(true);
        let old = match file.set_aside() {
            Ok(old) => old,
            Err(error) => {
                self.hold_off_gzip(false);
                return Err(error);
            }
        };
        if let Err(error) = self.open_again(Missing::IsCreated) {
            // Messages go on to the old file, by whatever name.
            self.is_reopen_due = file.take_back(&old).is_err();
            self.hold_off_gzip(self.is_reopen_due);
            return Err(error);
        }
        let pruned = self.rotation.as_ref().map(|rotation| rotation.prune(&file));
        if let Some(Err(error)) = pruned {
            let name = self.output.name();
            logger.log_limited("not deleted", Level::Warn, || {
                format!("an old file of the sink {name} cannot be deleted, and stays: {error}")
            });
        }
        #[cfg(feature = "gzip")]
        self.wake_gzip(logger);
        Ok(Some(old))
    }
}

impl Named {
    pub(super) fn find(path: &Path) -> io::Result<Named> {
        let (folder, name) = walk::find_file(path)?;
        Ok(Named { folder, name })
    }

    /// Whether the file can be renamed, as far as that can be told without doing it.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.name.len() + MAX_SUFFIX > MAX_NAME {
            return Err(wrong(format!(
                "the name of a file that is rotated has at most {} bytes, so that old ones can be named",
                MAX_NAME - MAX_SUFFIX
            )));
        }
        let flags = AtFlags::EACCESS;
        accessat(
            &self.folder,
            c".",
            Access::WRITE_OK | Access::EXEC_OK,
            flags,
        )
        .map_err(|error| {
            let error = io::Error::from(error);
            let text = format!("rotation needs a directory that this user may write: {error}");
            io::Error::new(error.kind(), text)
        })
    }

    /// Whether the name is this file's.
    pub(super) fn leads_to(&self, identity: Option<(u64, u64)>) -> bool {
        statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Some((stat.st_dev, stat.st_ino)) == identity)
    }

    /// Gives the file a name among the old ones, behind all of these, and returns it.
    pub(super) fn set_aside(&self) -> io::Result<OsString> {
        // A clock that was set back, or was ahead once, must not change the order of names.
        let mut stamp = Stamp::now();
        self.each_old(|old| {
            stamp = stamp.max(old.stamp.next());
            Ok(())
        })?;
        for _ in 0..MAX_TRIES {
            let name = self.name_of(Old { stamp, suffix: "" });
            match self.rename(&self.name, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => stamp = stamp.next(),
                outcome => return outcome.map(|()| name),
            }
        }
        let text = format!("{} names for the old file are taken", MAX_TRIES);
        Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
    }

    /// Gives an old file the name back that it had.
    pub(super) fn take_back(&self, old: &OsStr) -> io::Result<()> {
        self.rename(old, &self.name)
    }

    /// Deletes a file, if it is there.
    pub(super) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames, and replaces nothing.
    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let folder = self.folder.as_fd();
        match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // Not on every file system (NFS, rename(2)): then a look has to do.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => Ok(renameat(folder, from, folder, to)?),
                    Ok(_) => Err(Errno::EXIST.into()),
                    Err(error) => Err(error.into()),
                }
            }
            outcome => Ok(outcome?),
        }
    }

    pub(super) fn name_of(&self, old: Old) -> OsString {
        let mut name = self.name.clone();
        name.push(format!("-{}{}", old.stamp, old.suffix));
        name
    }

    /// Tells of each old one that is there, compressed and half compressed ones among them, in no
    /// order. Nobody limits how many there are, so whoever is told keeps no list of all.
    pub(super) fn each_old(&self, mut each: impl FnMut(Old) -> io::Result<()>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&self.folder, c".", flags, Mode::empty())?;
        for entry in Dir::new(folder)? {
            if let Some(old) = self.as_old(entry?.file_name().to_bytes()) {
                each(old)?;
            }
        }
        Ok(())
    }

    /// A name as an old file's, if it is one.
    fn as_old(&self, name: &[u8]) -> Option<Old> {
        let rest = name.strip_prefix(self.name.as_bytes())?;
        let rest = rest.strip_prefix(b"-")?;
        let (stamp, suffix) = rest.split_at_checked(Stamp::LEN)?;
        let suffixes = ["", ".gz", UNFINISHED];
        let suffix = suffixes
            .into_iter()
            .find(|known| known.as_bytes() == suffix)?;
        let stamp = Stamp::parse(stamp)?;
        Some(Old { stamp, suffix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_and_an_hour_when_it_is_full() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let day = Duration::from_secs(86_400);
        assert_eq!(next_multiple(at(0), day), at(86_400));
        assert_eq!(next_multiple(at(86_399), day), at(86_400));
        assert_eq!(next_multiple(at(86_400), day), at(172_800));
        let hour = Duration::from_secs(3600);
        assert_eq!(next_multiple(at(7_201), hour), at(10_800));
        // Before 1970 there were no files.
        let before = SystemTime::UNIX_EPOCH - day;
        assert_eq!(next_multiple(before, hour), at(3_600));
    }
}
