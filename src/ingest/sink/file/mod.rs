//! A file that is appended to.

mod options;

mod walk;

mod name;

mod sync;

mod rotation;
mod stamp;

#[cfg(feature = "gzip")]
mod gzip;

#[cfg(feature = "strftime")]
mod dated;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::Level;
use rustix::fs::{AtFlags, OFlags, unlinkat};

#[cfg(feature = "strftime")]
use self::dated::Dated;
#[cfg(feature = "gzip")]
use self::gzip::Gzip;
use self::name::Patience;
pub use self::options::FileOptions;
use self::rotation::{Named, Rotation};
pub use self::sync::Fsync;
use self::sync::Syncs;
use super::batches::Batches;
use super::contract::{Resources, Sink, SinkError};
use super::fd_writer::{FdWriter, Reader};
use super::unlinked::Unlinked;
use crate::server::Logger;

/// Appends messages, in the output framing, to a file. Delivered means that write(2) took the
/// message's last byte, framing included: it is in the system's cache and survives a crash of this
/// process, not one of the machine. With [`Fsync::Batch`] it means that fdatasync(2) returned after
/// that, and survives both.
///
/// A file that does not exist is created with mode 0640 (before the umask). A FIFO is written to as
/// a pipe is, and must have a reader when it is opened.
///
/// A file that does not end in a delimiter was left by a process that was killed or ran out of time
/// in the middle of a message. The first write after an open ends that half message, so that it
/// stays a message of its own, and the log says so. In an output framing that counts, or where the
/// file may not be read, this cannot be done.
///
/// A message that was written in part, because the disk was full, is resumed at the next byte only
/// if that part is still what the file ends in. If the file was truncated meanwhile, or somebody
/// else has appended to it, the message is written anew, and the log says so. In an output framing
/// that counts, the part and what was appended to it then read as one message.
///
/// A file at its size limit (RLIMIT_FSIZE) is a failure that may pass, like a full disk, if the
/// process ignores or catches SIGXFSZ, as the program does; by default that signal kills it
/// (setrlimit(2)). **A symbolic link** on the way to the file, or in its place, is followed only if
/// it belongs to this user, to root, or to the owner of the directory that it is in: nobody else
/// decides which file is written to. Whether fs.protected_symlinks (proc_sys_fs(5)) is on makes no
/// difference.
///
/// **The file's name** is looked up once a second. A file that was moved away or deleted is written
/// to for 10 s more, so that a rotation can ask for a reopen; if nobody does, the file is opened or
/// created by its name, and the log says so. A reopen that fails is tried again until it is done. A
/// file that fails for another reason than a full disk (EIO, ESTALE: its mount is gone) is opened
/// anew before each try, if something has its name; where opening it fails the same way, the file
/// is closed, so that the dead mount can be unmounted. In a directory that was a mount point and is
/// none for now, no file is created. Delivered messages that went to a deleted file are counted in
/// [`unlinked_messages`](crate::SinkCounts::unlinked_messages).
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    options: FileOptions,
    output: FdWriter,
    syncs: Syncs,
    /// A sync failed where that could not be told.
    late: Option<SinkError>,
    /// For the last sync, once there is something to sync.
    logger: Option<Logger>,
    rotation: Option<Rotation>,
    #[cfg(feature = "gzip")]
    gzip: Option<Gzip>,
    #[cfg(feature = "strftime")]
    dated: Option<Dated>,
    /// Device and inode of a regular file when it was opened: a file on a dead mount does not tell
    /// any more.
    identity: Option<(u64, u64)>,
    unlinked: Unlinked,
    patience: Patience,
    /// A reopen failed and is still to be done.
    is_reopen_due: bool,
    /// The last write failed for another reason than a full disk.
    is_dead: bool,
    /// The file was closed, because its mount is dead.
    is_released: bool,
    /// The file's directory was a mount point.
    is_mounted: bool,
    is_reader_away: bool,
}

impl File {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// What open(2) says; a symbolic link that is not followed is told with its owner. A FIFO needs
    /// a reader.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<File> {
        File::options().open(path)
    }

    /// How a file is to be written, from the defaults of [`open`](File::open) on.
    pub fn options() -> FileOptions {
        FileOptions::default()
    }

    fn open_with(path: PathBuf, options: FileOptions, mut syncs: Syncs) -> io::Result<File> {
        let opened = open(&path, &options, Missing::IsCreated, false, &mut syncs);
        let (mut output, is_mounted) =
            opened.map_err(|error| name::explain_at_start(error, &path))?;
        if options.fsync == Fsync::Batch {
            output.hold_back();
        }
        let rotation = Rotation::of(&options);
        if rotation.is_some() {
            Named::find(&path)?.check()?;
        }
        #[cfg(feature = "gzip")]
        let gzip = options.gzip.then(|| Gzip::of(path.clone()));
        let mut file = File {
            path,
            identity: output.identity(),
            unlinked: Unlinked::of(&output),
            output,
            syncs,
            late: None,
            logger: None,
            rotation,
            #[cfg(feature = "gzip")]
            gzip,
            #[cfg(feature = "strftime")]
            dated: None,
            options,
            patience: Patience::default(),
            is_reopen_due: false,
            is_dead: false,
            is_released: false,
            is_mounted,
            is_reader_away: false,
        };
        file.begin_rotation();
        Ok(file)
    }

    /// As [`Stdout::terminal_escape`](super::Stdout::terminal_escape), should the file be a
    /// terminal.
    #[must_use]
    pub fn terminal_escape(mut self, is_on: bool) -> File {
        self.output.set_terminal_escape(is_on);
        self
    }

    /// Whether the file is a terminal, and control characters in messages are escaped.
    pub fn escapes(&self) -> bool {
        self.output.escapes()
    }

    /// Looks for a symbolic link that [`open`](File::open) would not follow, and opens nothing.
    ///
    /// # Errors
    /// There is such a link. Whatever else is wrong with the path is not told.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn check_links(path: impl AsRef<Path>) -> io::Result<()> {
        walk::check(path.as_ref())
    }

    /// The folder of a file, to be used with openat(2) and the like, and the file's name in it. On
    /// the way to the folder the symbolic links are followed that [`open`](File::open) would
    /// follow; whether the name is a link is not looked at.
    ///
    /// # Errors
    /// There is no such folder, or a link on the way is not followed.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn find_folder(path: impl AsRef<Path>) -> io::Result<(OwnedFd, OsString)> {
        walk::find_folder(path.as_ref())
    }

    /// Opens the file by its name, and says whether that is another file than before.
    fn open_again(&mut self, missing: Missing) -> io::Result<bool> {
        let (options, was_mounted) = (&self.options, self.is_mounted);
        let (output, is_mounted) =
            open(&self.path, options, missing, was_mounted, &mut self.syncs)?;
        let identity = output.identity();
        let is_another = self.is_released || identity.is_none() || identity != self.identity;
        self.unlinked.replaced(&self.output, &output);
        self.output.replace(output);
        self.identity = identity;
        self.syncs.renew();
        self.patience.renew();
        self.is_reopen_due = false;
        self.is_released = false;
        self.is_mounted = is_mounted;
        self.begin_rotation();
        self.hold_off_gzip(false);
        Ok(is_another)
    }

    /// Before a try, after one that failed for another reason than a full disk: a new descriptor
    /// may work.
    fn revive(&mut self, logger: &Logger) -> io::Result<()> {
        match self.open_again(Missing::IsAnError) {
            Ok(false) => Ok(()),
            Ok(true) => {
                let name = self.output.name();
                let text = || format!("the sink {name} was opened anew, since it had failed");
                logger.log_limited("opened anew", Level::Info, text);
                Ok(())
            }
            Err(error) if self.is_released => Err(error),
            Err(error) if name::is_mount_dead(&error) => {
                // While the file is open its mount cannot be unmounted.
                self.unlinked.replaced(&self.output, &self.output);
                self.output.release()?;
                self.is_released = true;
                Err(error)
            }
            Err(error) if self.syncs.has_failed() => Err(error),
            // There is no other descriptor, and the old one may recover.
            Err(_) => Ok(()),
        }
    }

    /// Writes what there is; where each group is synced before it is accepted, one group.
    fn write_group(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        loop {
            self.rotate_if_time(batches)?;
            let outcome = self.output.write(batches);
            if self.output.is_at_limit() {
                self.sync_group(batches)?;
                self.rotate_if_full(batches.logger());
                continue;
            }
            if self.syncs.how() != Fsync::Batch {
                return outcome;
            }
            let is_group = outcome.is_err()
                || self.output.has_enough_pending()
                || !batches.more(Batches::MAX_WINDOW, Duration::ZERO)
                || self.output.has_written_all(batches);
            if is_group {
                // Also what was written before a write failed.
                self.sync_group(batches)?;
                return outcome;
            }
        }
    }

    /// Syncs what is written, and accepts it.
    fn sync_group(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        if !self.output.has_pending() {
            return Ok(());
        }
        match self.syncs.sync(&self.output) {
            Ok(()) => {
                self.output.accept(batches);
                Ok(())
            }
            Err(error) => {
                self.output.write_again();
                let text = format!("{error}; what was to be synced is written again");
                Err(SinkError::Retry(io::Error::other(text)))
            }
        }
    }

    /// Syncs what was written if it is time; `is_last`: there will be no later time.
    fn sync_if_due(&mut self, is_last: bool) -> Result<(), SinkError> {
        if !self.syncs.is_due(is_last) {
            return Ok(());
        }
        self.syncs.sync(&self.output).map_err(|error| {
            let text = format!("{error}; what was written since the last sync may be lost");
            SinkError::Retry(io::Error::other(text))
        })
    }

    /// Whether the name has been leading elsewhere for too long.
    fn is_lost(&mut self) -> bool {
        let Some(identity) = self.identity else {
            return false;
        };
        let leads = name::leads(&self.path, identity);
        self.patience.is_over(leads)
    }

    /// Logs once that nobody reads the FIFO, until somebody did.
    fn tell_reader_away(&mut self, logger: &Logger) {
        if !std::mem::replace(&mut self.is_reader_away, true) {
            let name = self.output.name();
            let text = format!(
                "nobody reads the sink {name}: the next message ends the server, unless a reader comes first"
            );
            logger.log(Level::Warn, text);
        }
    }
}

impl FileOptions {
    /// Looks whether [`open`](FileOptions::open) would refuse these options at a path that it can
    /// open, and opens nothing.
    ///
    /// # Errors
    /// As there.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn check_at(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.check_kind(std::fs::metadata(path).map_or(true, |there| there.is_file()))?;
        match self.rotates() {
            true => Named::find(path)?.check(),
            false => Ok(()),
        }
    }

    /// What the sink takes beside its file ([`Sink::resources`]).
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn resources(&self) -> Resources {
        // Beside the two that any reopen takes: the folder that is synced, and the one in which the
        // file is renamed.
        let folders = [self.fsync == Fsync::Batch, self.rotates()];
        let own = Resources {
            descriptors: folders.into_iter().map(u64::from).sum(),
            memory_bytes: Rotation::pruning_bytes(self.keep),
            ..Resources::default()
        };
        #[cfg(feature = "gzip")]
        if self.gzip {
            return Resources {
                descriptors: own.descriptors + gzip::RESOURCES.descriptors,
                memory_bytes: own.memory_bytes + gzip::RESOURCES.memory_bytes,
                ..gzip::RESOURCES
            };
        }
        own
    }
}

/// What becomes of a file that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsCreated,
    /// Where a mount is gone, a new file would be hidden when the mount comes back.
    IsAnError,
}

/// Opens a file without blocking, so that a FIFO without a reader is an error and not a wait; for a
/// regular file that makes no difference (open(2)). A regular file is opened for reading, too,
/// where that is allowed, for a look at its end. Says whether the file's directory is a mount
/// point.
fn open(
    path: &Path,
    options: &FileOptions,
    missing: Missing,
    was_mounted: bool,
    syncs: &mut Syncs,
) -> io::Result<(FdWriter, bool)> {
    let mut flags = OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
    if missing == Missing::IsCreated {
        flags |= OFlags::CREATE;
    }
    let mode = options.mode_made_with();
    let open = |access| walk::open(path, flags | access, mode, was_mounted);
    // A FIFO is not opened for both: whoever holds both of its ends is never told that its reader
    // is gone (fifo(7)).
    let mut opened = None;
    if std::fs::metadata(path).map_or(true, |there| there.is_file()) {
        match open(OFlags::RDWR) {
            Ok(both) if both.file.metadata()?.is_file() => opened = Some(both),
            // The file is not a regular file any more, or may only be written.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    let opened = match opened {
        Some(both) => both,
        None => open(OFlags::WRONLY)?,
    };
    if opened.is_made
        && let Err(error) = options.set_up(&opened.file)
    {
        // The next one would take it for a file that was there.
        let _ = unlinkat(&opened.folder, &opened.name, AtFlags::empty());
        return Err(error);
    }
    options.check_kind(opened.file.metadata()?.is_file())?;
    // Also of a file that was there: who made it may have had no time for that.
    syncs.made_in(&opened.folder)?;
    let output = FdWriter::file(opened.file, title(path))?;
    Ok((output, opened.is_mounted))
}

fn title(path: &Path) -> String {
    format!("file:{}", path.display())
}

impl Sink for File {
    fn name(&self) -> String {
        self.output.name().to_owned()
    }

    fn delivered_means(&self) -> String {
        self.syncs.how().delivered_means()
    }

    fn resources(&self) -> Resources {
        #[cfg(feature = "strftime")]
        if self.dated.is_some() {
            return self.options.resources_dated();
        }
        self.options.resources()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        #[cfg(feature = "strftime")]
        self.follow_date(batches)?;
        if self.is_dead || self.is_released || self.syncs.has_failed() {
            self.revive(batches.logger()).map_err(SinkError::Retry)?;
            self.is_dead = false;
        }
        let outcome = self.write_group(batches);
        if self.syncs.written() && self.logger.is_none() {
            self.logger = Some(batches.logger().clone());
        }
        if let Err(SinkError::Retry(error)) = &outcome {
            self.is_dead = !name::is_full(error);
        }
        outcome?;
        self.sync_if_due(false)
    }

    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.unlinked.look(&self.output, batches);
        self.count_again();
        #[cfg(feature = "gzip")]
        if let Some(gzip) = &mut self.gzip {
            gzip.begin(batches.logger());
        }
        self.rotate_if_time(batches)?;
        let is_lost = self.is_lost();
        let is_left = is_lost || self.is_reopen_due;
        let synced = match self.late.take() {
            None => self.sync_if_due(is_left),
            Some(late) => Err(late),
        };
        let logger = batches.logger();
        match self.output.reader() {
            Reader::There => self.is_reader_away = false,
            // While the server closes no further message may come.
            Reader::Away(_) if batches.is_closing() => {}
            Reader::Away(_) => self.tell_reader_away(logger),
            Reader::Gone(error) => return Err(SinkError::Fatal(error)),
        }
        if !is_left {
            return synced;
        }
        let was_due = self.is_reopen_due;
        let opened = self.open_again(Missing::IsCreated);
        let name = self.output.name();
        match opened {
            Ok(_) if was_due => {
                logger.log_limited("reopened at last", Level::Info, || {
                    format!("the sink {name} was reopened at last")
                });
            }
            Ok(_) => {
                let text = format!(
                    "the file of the sink {name} was moved away or deleted, and for 10 s nobody asked for a reopen: it was opened by its name"
                );
                logger.log(Level::Warn, text);
            }
            Err(error) => logger.log_limited("still not reopened", Level::Warn, || {
                format!(
                    "the sink {name} goes on as it was: it cannot be opened by its name: {error}"
                )
            }),
        }
        synced
    }

    fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        self.output.is_inside_message(batches)
    }

    fn reopen(&mut self) -> io::Result<bool> {
        // A reopen that fails is tried again until it is done.
        self.is_reopen_due = true;
        self.late = self.sync_if_due(true).err();
        #[cfg(feature = "strftime")]
        if let Some(path) = self.changed_path() {
            self.go_on_in(path)?;
            return Ok(true);
        }
        self.open_again(Missing::IsCreated)?;
        Ok(true)
    }
}

/// Nothing tells a sink that its messages are the last ones.
impl Drop for File {
    fn drop(&mut self) {
        let synced = self.sync_if_due(true);
        if let (Err(error), Some(logger)) = (synced, &self.logger) {
            let name = self.output.name();
            logger.log(Level::Warn, format!("the sink {name} failed: {error}"));
        }
    }
}

#[cfg(test)]
mod tests;
