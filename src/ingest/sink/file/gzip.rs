//! Compressing old files, on a thread of its own.

use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use log::Level;
use rustix::fs::{Gid, Mode, OFlags, Timestamps, Uid, fchmod, fchown, futimens, openat};

use super::rotation::{Named, Old, UNFINISHED};
use super::stamp::Stamp;
use super::sync::{Disk, System};
use crate::ingest::sink::contract::Resources;
use crate::server::Logger;

/// How much is read, compressed and written before a look whether it is all over.
const PIECE: usize = 64 << 10;
/// Old files of which the names are held at once.
const AT_ONCE: usize = 512;
/// When a file that could not be compressed is tried again, if nothing is rotated before.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// When it is looked again whether the newest old file is let go of.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the end waits for the thread, which is between two pieces soon, unless the disk hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the thread takes: the compressor (320 KiB), and as much of its stack while that is made;
/// pieces, and names of old files; the folder, to look at and to sync, and two files.
pub(super) const RESOURCES: Resources = Resources {
    threads: 1,
    descriptors: 4,
    memory_bytes: 1 << 20,
};

/// The thread. Dropped, it ends within a piece: a file that is half compressed is begun anew at the
/// next start.
#[derive(Debug)]
pub(super) struct Gzip {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    /// The newest old file may still be written to.
    is_held_off: Arc<AtomicBool>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    wake: SyncSender<Logger>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Gzip {
    /// Starts no thread yet: one that runs when the server counts its threads would count twice.
    pub(super) fn of(path: PathBuf) -> Gzip {
        Gzip {
            path,
            is_over: Arc::new(AtomicBool::new(false)),
            is_held_off: Arc::new(AtomicBool::new(false)),
            running: None,
        }
    }

    /// Starts the thread, if that is still to be done, and lets it begin with what a former process
    /// has left. Where there can be no thread, the next call tries again.
    pub(super) fn begin(&mut self, logger: &Logger) {
        if self.running.is_some() {
            return;
        }
        match self.start() {
            Ok(running) => {
                self.running = Some(running);
                self.wake(logger);
            }
            Err(error) => logger.log_limited("no thread to compress", Level::Warn, || {
                let path = self.path.display();
                format!("old files of file:{path} cannot be compressed for now: {error}")
            }),
        }
    }

    fn start(&self) -> io::Result<Running> {
        let (wake, woken) = sync_channel(1);
        let (end, ended) = sync_channel(0);
        let mut work = Work {
            path: self.path.clone(),
            disk: Box::new(System),
            is_over: Arc::clone(&self.is_over),
            is_held_off: Arc::clone(&self.is_held_off),
        };
        let body = move || {
            work.run(&woken);
            // Disconnects.
            drop(end);
        };
        let thread = thread::Builder::new().name("gzip".to_owned()).spawn(body)?;
        Ok(Running {
            wake,
            ended,
            thread,
        })
    }

    /// Before the file is renamed, holds off whoever would compress it, until another file is open
    /// or it has its name back.
    pub(super) fn hold_off(&self, is_on: bool) {
        self.is_held_off.store(is_on, Ordering::SeqCst);
    }

    /// There may be something to compress, which a thread that is still to be started looks for,
    /// too.
    pub(super) fn wake(&self, logger: &Logger) {
        if let Some(running) = &self.running {
            // A wake-up that was not taken yet stands for this one, too.
            let _ = running.wake.try_send(logger.clone());
        }
    }
}

impl Drop for Gzip {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let Some(running) = self.running.take() else {
            return;
        };
        drop(running.wake);
        let has_ended = running.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected);
        if has_ended {
            let _ = running.thread.join();
        }
    }
}

/// What the thread does.
struct Work {
    path: PathBuf,
    disk: Box<dyn Disk>,
    is_over: Arc<AtomicBool>,
    is_held_off: Arc<AtomicBool>,
}

impl Work {
    fn run(&mut self, woken: &Receiver<Logger>) {
        let mut again: Option<Logger> = None;
        loop {
            let logger = match woken.recv_timeout(TRY_AGAIN) {
                Ok(logger) => logger,
                Err(RecvTimeoutError::Timeout) => match again.take() {
                    Some(logger) => logger,
                    None => continue,
                },
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = self.compress_all() {
                if self.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let path = self.path.display();
                logger.log_limited("not compressed", Level::Warn, || {
                    format!("the old files of file:{path} cannot be compressed for now: {error}")
                });
                again = Some(logger);
            }
        }
    }

    /// Compresses what is there, the oldest first, and removes what a process that was killed has
    /// left unfinished.
    fn compress_all(&mut self) -> io::Result<()> {
        let file = Named::find(&self.path)?;
        let (mut done, mut first_error) = (None, None);
        loop {
            let oldest = self.oldest_behind(&file, done)?;
            let Some(last) = oldest.last() else {
                return first_error.map_or(Ok(()), Err);
            };
            done = Some(last.stamp);
            for old in &oldest {
                let name = file.name_of(*old);
                if let Err(error) = self.compress(&file, &name) {
                    let name = name.display();
                    let text = format!("{name} stays as it is: {error}");
                    first_error.get_or_insert(io::Error::new(error.kind(), text));
                }
                if self.is_over.load(Ordering::Relaxed) {
                    return first_error.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// The oldest ones behind a time that are not compressed, up to [`AT_ONCE`], once the newest
    /// old file is let go of.
    fn oldest_behind(&self, file: &Named, done: Option<Stamp>) -> io::Result<Vec<Old>> {
        loop {
            let mut oldest = BinaryHeap::with_capacity(AT_ONCE + 1);
            file.each_old(|old| match old.suffix {
                UNFINISHED => file.unlink(&file.name_of(old)),
                "" if done.is_none_or(|done| old.stamp > done) => {
                    oldest.push(old);
                    if oldest.len() > AT_ONCE {
                        oldest.pop();
                    }
                    Ok(())
                }
                _ => Ok(()),
            })?;
            // What was found among them before this look, or is not there yet, is let go of.
            if !self.is_held_off.load(Ordering::SeqCst) {
                return Ok(oldest.into_sorted_vec());
            }
            self.go_on()?;
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn compress(&mut self, file: &Named, old: &OsStr) -> io::Result<()> {
        let with = |suffix: &str| {
            let mut name = old.to_owned();
            name.push(suffix);
            name
        };
        let (whole, unfinished) = (with(".gz"), with(UNFINISHED));
        let Some(mut plain) = absent(open(file, old))? else {
            // It is old enough to be deleted meanwhile.
            return Ok(());
        };
        if let Some(there) = absent(open(file, &whole))? {
            // A process was killed between its last two steps; or this file is somebody else's.
            if !self.is_same(there, &mut plain)? {
                let text = format!("{} is there, and has something else", whole.display());
                return Err(io::Error::new(ErrorKind::AlreadyExists, text));
            }
            return file.unlink(old);
        }
        let written = self
            .write(file, &mut plain, &unfinished)
            .and_then(|()| file.rename(&unfinished, &whole))
            .and_then(|()| self.disk.sync_folder(file.folder.as_fd()));
        if let Err(error) = written {
            let _ = file.unlink(&unfinished);
            return Err(error);
        }
        if absent(open(file, old))?.is_none() {
            // It was deleted as one too many, and so must this one be.
            return file.unlink(&whole);
        }
        file.unlink(old)
    }

    /// Compresses a file into a new one, synced, with the mode, owner and times of the first.
    fn write(&self, file: &Named, plain: &mut File, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let to = File::from(openat(&file.folder, name, flags, mode)?);
        let is = plain.metadata()?;
        // Whoever may not give files away has made the old one, too.
        let _ = fchown(
            &to,
            Some(Uid::from_raw(is.uid())),
            Some(Gid::from_raw(is.gid())),
        );
        fchmod(&to, Mode::from_raw_mode(is.mode() & 0o777))?;
        let seconds = u32::try_from(is.mtime()).unwrap_or(0);
        let builder = GzBuilder::new().mtime(seconds);
        let mut to: GzEncoder<File> = builder.write(to, Compression::default());
        let mut piece = vec![0; PIECE];
        loop {
            self.go_on()?;
            match plain.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => to.write_all(&piece[..read])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let to = to.finish()?;
        let at = rustix::fs::Timespec {
            tv_sec: is.mtime(),
            tv_nsec: is.mtime_nsec(),
        };
        let times = Timestamps {
            last_access: at,
            last_modification: at,
        };
        futimens(&to, &times)?;
        to.sync_all()
    }

    /// Whether a compressed file has what the other one has.
    fn is_same(&self, compressed: File, plain: &mut File) -> io::Result<bool> {
        let mut compressed = GzDecoder::new(io::BufReader::with_capacity(PIECE / 2, compressed));
        let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
        loop {
            self.go_on()?;
            let read = match plain.read(&mut one)? {
                0 => return Ok(compressed.read(&mut other[..1]).is_ok_and(|more| more == 0)),
                read => read,
            };
            // What cannot be read is not the same.
            if compressed.read_exact(&mut other[..read]).is_err() || one[..read] != other[..read] {
                return Ok(false);
            }
        }
    }

    fn go_on(&self) -> io::Result<()> {
        match self.is_over.load(Ordering::Relaxed) {
            true => Err(io::Error::other("it is all over")),
            false => Ok(()),
        }
    }
}

fn open(file: &Named, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = File::from(openat(file.folder.as_fd(), name, flags, Mode::empty())?);
    match opened.metadata()?.is_file() {
        true => Ok(opened),
        false => Err(io::Error::other("this is no regular file")),
    }
}

/// `None` of what is not there.
fn absent(opened: io::Result<File>) -> io::Result<Option<File>> {
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsString;
    use std::fs;
    use std::os::fd::{AsRawFd, BorrowedFd};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Tells the names in each folder that is synced.
    #[derive(Debug)]
    struct Tells(Sender<Vec<OsString>>);

    impl Disk for Tells {
        fn sync(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
            Err(io::Error::other("this is not asked for"))
        }

        fn sync_folder(&mut self, folder: BorrowedFd<'_>) -> io::Result<()> {
            let there = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
            let mut names: Vec<_> = there.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            self.0.send(names).unwrap();
            Ok(())
        }
    }

    /// After a crash of the machine there is one of the two.
    #[test]
    fn the_folder_is_synced_between_the_new_name_and_the_end_of_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let old = "messages-20200101T000000.000Z";
        fs::write(directory.path().join(old), "one\n").unwrap();
        let (tell, told) = channel();
        let mut work = Work {
            path: directory.path().join("messages"),
            disk: Box::new(Tells(tell)),
            is_over: Arc::default(),
            is_held_off: Arc::default(),
        };
        work.compress_all().unwrap();
        let compressed = format!("{old}.gz");
        let synced: Vec<_> = told.try_iter().collect();
        assert_eq!(synced, [[OsString::from(old), OsString::from(&compressed)]]);
        assert!(!directory.path().join(old).exists());
        assert!(directory.path().join(compressed).exists());
    }
}
