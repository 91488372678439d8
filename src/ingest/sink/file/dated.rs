//! A path with a date in it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::ZonedDateTime;
use log::Level;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::options::{FileOptions, wrong};
use super::sync::{Disk, Syncs, System};
use super::{File, Missing, walk};
use crate::ingest::sink::batches::Batches;
use crate::ingest::sink::contract::{Resources, Sink, SinkError};

/// A path with conversions of strftime(3), and what it was at the last look.
#[derive(Debug)]
pub(super) struct Dated {
    pattern: String,
    /// The second of the last look, since 1970.
    looked: Option<u64>,
}

impl FileOptions {
    /// Opens or creates a file whose path has the date in it, in local time: the conversions of
    /// strftime(3), `/var/log/messages/%Y-%m-%d.log`, where `%%` is a percent sign. Before a write,
    /// at most once a second, it is looked whether the path is another one now; then that file is
    /// opened or created, between two messages. One that cannot be opened is tried again after a
    /// second, and messages go on to the file of before meanwhile. Old files are left alone.
    ///
    /// Directories that have a date in their names, or are in one that has, are made, with mode
    /// 0750 less the umask, or [`mode`](FileOptions::mode) and the right to enter for whoever may
    /// read, and with the [`owner`](FileOptions::owner). The others have to be there.
    ///
    /// The time zone is that of the variable `TZ`, or of /etc/localtime, or else UTC.
    ///
    /// # Errors
    /// As [`open`](FileOptions::open); a conversion that is none; options that rotate the file: the
    /// date does.
    pub fn open_dated(self, pattern: impl Into<String>) -> io::Result<File> {
        self.open_dated_on(pattern.into(), Box::new(System))
    }

    pub(super) fn open_dated_on(self, pattern: String, disk: Box<dyn Disk>) -> io::Result<File> {
        self.check()?;
        if self.rotates() {
            return Err(wrong(
                "a file with a date in its path is not rotated otherwise",
            ));
        }
        let dated = Dated::new(pattern);
        let path = dated.path()?;
        let mut syncs = Syncs::new(self.fsync, disk);
        dated.make_folders(&path, &self, &mut syncs)?;
        let mut file = File::open_with(path, self, syncs)?;
        file.output.set_name(dated.title());
        file.dated = Some(dated);
        Ok(file)
    }

    /// As [`resources`](FileOptions::resources), with a date in the path.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn resources_dated(&self) -> Resources {
        let undated = self.resources();
        Resources {
            // A folder that is made.
            descriptors: undated.descriptors + 1,
            ..undated
        }
    }

    /// The folder of a path with the date in it that has to be there: those in it are made.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn folder_without_date(pattern: &str) -> &Path {
        let undated = pattern.split('%').next().unwrap_or_default();
        Path::new(&undated[..undated.rfind('/').map_or(0, |slash| slash + 1)])
    }

    /// What a path with the date in it is now.
    ///
    /// # Errors
    /// A conversion is none of strftime(3)'s.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn path_now(pattern: &str) -> io::Result<PathBuf> {
        Dated::new(pattern.to_owned()).path()
    }
}

impl Dated {
    pub(super) fn new(pattern: String) -> Dated {
        Dated {
            pattern,
            looked: None,
        }
    }

    pub(super) fn title(&self) -> String {
        format!("file://{}", self.pattern)
    }

    /// What the path is now, in local time.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        let now = ZonedDateTime::now();
        let text = jiff::fmt::strtime::format(&self.pattern, &now)
            .map_err(|error| wrong(format!("{} is no path with a date: {error}", self.pattern)))?;
        Ok(PathBuf::from(text))
    }

    /// What the path is now, if that is another one. Looks once a second.
    fn changed(&mut self, from: &Path) -> Option<PathBuf> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let second = since.unwrap_or_default().as_secs();
        if self.looked.replace(second) == Some(second) {
            return None;
        }
        self.path().ok().filter(|path| path != from)
    }

    /// Makes the folders of a path that have a date in their names, or are in one that has.
    pub(super) fn make_folders(
        &self,
        path: &Path,
        options: &FileOptions,
        syncs: &mut Syncs,
    ) -> io::Result<()> {
        let undated = FileOptions::folder_without_date(&self.pattern);
        let first = undated.components().count() + 1;
        for len in first..path.components().count() {
            let folder: PathBuf = path.components().take(len).collect();
            make_folder(&folder, options, syncs)?;
        }
        Ok(())
    }
}

fn make_folder(path: &Path, options: &FileOptions, syncs: &mut Syncs) -> io::Result<()> {
    let (folder, name) = walk::find_folder(path)?;
    match mkdirat(&folder, &*name, options.mode_of_folders()) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => {
            let error = io::Error::from(error);
            let text = format!("the directory {} cannot be made: {error}", path.display());
            return Err(io::Error::new(error.kind(), text));
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(&folder, &*name, flags, Mode::empty())?;
    options.give_away(&made)?;
    syncs.made_in(&folder)
}

impl File {
    /// Goes on in another file if the date in the path has changed, and no message stands there in
    /// part.
    pub(super) fn follow_date(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let Some(path) = self.changed_path() else {
            return Ok(());
        };
        if self.is_inside_message(batches) {
            return Ok(());
        }
        self.sync_group(batches)?;
        let synced = self.sync_if_due(true);
        if let Err(error) = self.go_on_in(path) {
            let name = self.output.name();
            batches.logger().log_limited("no new file", Level::Warn, || {
                format!(
                    "the sink {name} goes on in the file of before: it cannot open that of now: {error}"
                )
            });
        }
        synced
    }

    /// The path of now, if it is another one.
    pub(super) fn changed_path(&mut self) -> Option<PathBuf> {
        let dated = self.dated.as_mut()?;
        dated.changed(&self.path)
    }

    /// Opens another file, or goes on as it was.
    pub(super) fn go_on_in(&mut self, path: PathBuf) -> io::Result<()> {
        if let Some(dated) = &self.dated {
            dated.make_folders(&path, &self.options, &mut self.syncs)?;
        }
        let before = (std::mem::replace(&mut self.path, path), self.is_mounted);
        // What is known of a mount is of the folder of before.
        self.is_mounted &= self.path.parent() == before.0.parent();
        if let Err(error) = self.open_again(Missing::IsCreated) {
            (self.path, self.is_mounted) = before;
            return Err(error);
        }
        self.is_dead = false;
        Ok(())
    }
}
