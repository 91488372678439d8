//! A descriptor that is written to by one thread, which must not be lost to a reader that has stopped.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, major, minor};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{SinkError, Work};
use crate::ingest::batch::Batch;

/// How long one poll(2) waits before the deadline is looked at.
const SLICE: Duration = Duration::from_millis(100);
/// What a pipe takes without blocking once poll(2) says that it is writable (pipe(7), PIPE_BUF).
const PIPE_BUF: usize = 4096;
/// The null device's major and minor number (null(4)).
const NULL_DEVICE: (u32, u32) = (1, 3);
/// Slices in one writev(2): less than IOV_MAX, more than pays.
const MOST_SLICES: usize = 64;
/// Bytes from which on nothing more is gathered: it would save nothing, and keep buffers from coming back.
const ENOUGH_BYTES: usize = 1 << 20;

#[derive(Debug)]
enum Kind {
    /// A regular file, or a device: a write takes as long as it takes, and nothing can wake it.
    /// Reopening a regular file instead would begin at offset 0 and overwrite it.
    Blocking(File),
    /// A pipe, FIFO or terminal, reopened for ourselves with O_NONBLOCK: a file description of its own, so
    /// that whoever shares the other one does not find it non-blocking.
    NonBlocking(File),
    /// A pipe or terminal that could not be reopened (another user's, or no /proc): poll, then little.
    Polled(OwnedFd),
    /// A socket (the journal's, under systemd): it cannot be reopened (ENXIO), but asked not to wait.
    Socket(OwnedFd),
}

/// A place for bytes: where in a batch it is, and how to write without being lost in it.
///
/// Accepted means that write(2) took the byte: the reader's end of a pipe or the system's cache has it. A
/// batch that was written in part is resumed at that very byte.
#[derive(Debug)]
pub struct Output {
    kind: Kind,
    /// Bytes of the first batch that are written.
    offset: usize,
    /// They were written to another place.
    is_moved: bool,
    /// A file that was opened by its name, whose end has not been looked at since.
    is_fresh: bool,
}

impl Output {
    /// This process's standard output.
    ///
    /// # Errors
    /// It is closed, or was when the process began: std opens the null device in its place, for reading and writing,
    /// and all that is written would be gone. So a null device that was opened so by others is refused, too.
    pub fn stdout() -> io::Result<Output> {
        Self::of(rustix::stdio::stdout(), 1)
    }

    /// This process's standard error.
    ///
    /// # Errors
    /// As [`stdout`](Output::stdout).
    pub fn stderr() -> io::Result<Output> {
        Self::of(rustix::stdio::stderr(), 2)
    }

    /// A file that was opened by its name, for appending and with O_NONBLOCK.
    pub(super) fn file(file: File) -> io::Result<Output> {
        let is_regular = file_type(file.as_fd())? == FileType::RegularFile;
        Ok(Output {
            kind: if is_regular {
                Kind::Blocking(file)
            } else {
                Kind::NonBlocking(file)
            },
            offset: 0,
            is_moved: false,
            is_fresh: is_regular,
        })
    }

    fn of(fd: BorrowedFd<'static>, number: u32) -> io::Result<Output> {
        if is_closed(fd)? {
            let name = if number == 1 { "stdout" } else { "stderr" };
            let text = format!("{name} is closed, or the null device opened for reading, too");
            return Err(io::Error::other(text));
        }
        let own = || fd.try_clone_to_owned();
        let reopened = || reopen(number).or_else(|_| own().map(Kind::Polled));
        let kind = match file_type(fd)? {
            FileType::Socket => Kind::Socket(own()?),
            FileType::Fifo => reopened()?,
            FileType::CharacterDevice if rustix::termios::isatty(fd) => reopened()?,
            _ => Kind::Blocking(own()?.into()),
        };
        Ok(Output {
            kind,
            offset: 0,
            is_moved: false,
            is_fresh: false,
        })
    }

    /// Puts another place in this one's stead. A message that is written in part begins anew there: it is whole
    /// in the new place, and its beginning stays in the old one. Where both are the same file it goes on.
    pub(super) fn replace(&mut self, other: Output) {
        // What stands unfinished at the end of the same file is ours.
        if !self.is_same_file(&other) {
            self.is_moved = true;
            self.is_fresh = other.is_fresh;
        }
        self.kind = other.kind;
    }

    fn is_same_file(&self, other: &Output) -> bool {
        match (
            rustix::fs::fstat(&self.kind),
            rustix::fs::fstat(&other.kind),
        ) {
            (Ok(this), Ok(other)) => (this.st_dev, this.st_ino) == (other.st_dev, other.st_ino),
            _ => false,
        }
    }

    /// Before the first write to a file that was opened by its name: ends the half message that whoever wrote to it
    /// before has left there. Else ours would be glued to it. Says whether there was one, as far as the output framing
    /// shows it and the file may be read.
    pub(super) fn end_half_message(&mut self, work: &Work<'_>) -> Result<bool, SinkError> {
        let Some(batch) = work.first().filter(|_| self.is_fresh) else {
            return Ok(false);
        };
        let last = self.last_byte();
        let missing = batch
            .framing()
            .delimiter()
            // Where nothing is there, or nobody knows what, nothing is missing.
            .filter(|delimiter| last.is_some_and(|last| last != *delimiter));
        if let Some(delimiter) = missing {
            let byte = [delimiter];
            let slices = [IoSlice::new(&byte)];
            let write = || self.write_some(&slices).map_err(|error| self.judge(error));
            while write()?.is_none() {
                if work.is_cut() {
                    return Ok(false);
                }
            }
        }
        self.is_fresh = false;
        Ok(missing.is_some())
    }

    fn last_byte(&self) -> Option<u8> {
        let Kind::Blocking(file) = &self.kind else {
            return None;
        };
        let last = file.metadata().ok()?.len().checked_sub(1)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, last).ok()?;
        Some(byte[0])
    }

    /// Whether what is written of `work`, which is what it was offered last, ends in the middle of a message.
    pub fn is_inside_message(&self, work: &Work<'_>) -> bool {
        let is_inside = |batch: &Batch| batch.message_start(self.offset) != self.offset;
        !self.is_moved && work.first().is_some_and(is_inside)
    }

    /// Writes batches from the front of `work` until all is written, an error comes, or the deadline has
    /// passed. Waits for a slow reader in poll(2), a tenth of a second at a time.
    ///
    /// # Errors
    /// EPIPE and EBADF are final, and EIO of what was a terminal; whatever else may pass.
    pub fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
        if std::mem::take(&mut self.is_moved) {
            self.offset = work
                .first()
                .map_or(0, |batch| batch.message_start(self.offset));
        }
        while work.first().is_some() && !work.is_cut() {
            match self.write_some(&self.gather(work)) {
                Ok(Some(written)) => self.advance(work, written),
                Ok(None) => {}
                Err(error) => return Err(self.judge(error)),
            }
        }
        Ok(())
    }

    /// What goes into one write.
    fn gather<'w>(&self, work: &'w Work<'_>) -> Vec<IoSlice<'w>> {
        let mut gathered = 0;
        work.batches()
            .take(MOST_SLICES)
            .enumerate()
            .map(|(n, batch)| &batch.as_bytes()[if n == 0 { self.offset } else { 0 }..])
            .take_while(|bytes| {
                let is_enough = gathered >= ENOUGH_BYTES;
                gathered += bytes.len();
                !is_enough
            })
            .map(IoSlice::new)
            .collect()
    }

    fn judge(&self, error: io::Error) -> SinkError {
        if self.is_gone(&error) {
            SinkError::Fatal(error)
        } else {
            SinkError::Retry(error)
        }
    }

    /// Whether nobody will ever take a byte here again. A terminal that was hung up says EIO (write(2)); a
    /// disk may say it and recover.
    fn is_gone(&self, error: &io::Error) -> bool {
        match Errno::from_io_error(error) {
            Some(Errno::PIPE | Errno::BADF) => true,
            Some(Errno::IO) => matches!(self.kind, Kind::NonBlocking(_) | Kind::Polled(_)),
            _ => false,
        }
    }

    /// Writes all of `bytes` within about `patience`; says whether it did. For last words.
    pub fn write_within(&self, bytes: &[u8], patience: Duration) -> bool {
        let begun = std::time::Instant::now();
        let mut at = 0;
        while at < bytes.len() && begun.elapsed() < patience {
            match self.write_some(&[IoSlice::new(&bytes[at..])]) {
                Ok(written) => at += written.unwrap_or(0),
                Err(_) => return false,
            }
        }
        at == bytes.len()
    }

    /// One write; `None` if the reader took nothing for a while.
    fn write_some(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let first: &[u8] = slices.first().map_or(&[], |slice| slice);
        let written = match &self.kind {
            Kind::Blocking(file) | Kind::NonBlocking(file) => rustix::io::writev(file, slices),
            Kind::Socket(fd) => {
                rustix::net::send(fd, first, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
            Kind::Polled(fd) if !is_writable(fd.as_fd())? => Err(Errno::WOULDBLOCK),
            Kind::Polled(fd) => rustix::io::write(fd, &first[..first.len().min(PIPE_BUF)]),
        };
        match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => Ok(Some(written)),
            Err(Errno::INTR) => Ok(None),
            Err(Errno::WOULDBLOCK) => {
                // Also a blocking one: whoever shares its description may have made it non-blocking. A polled
                // one has waited.
                if !matches!(self.kind, Kind::Polled(_)) {
                    is_writable(self.kind.as_fd())?;
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Books what was written: whole batches, and of the last one the messages whose last byte was.
    fn advance(&mut self, work: &mut Work<'_>, mut written: usize) {
        while let Some(batch) = work.first() {
            let (from, end) = (self.offset, batch.as_bytes().len());
            if written < end - from {
                self.offset += written;
                let messages = batch.count_in(from..self.offset);
                work.done_first(messages);
                return;
            }
            written -= end - from;
            self.offset = 0;
            work.done();
            if written == 0 {
                return;
            }
        }
    }
}

impl AsFd for Kind {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Kind::Blocking(file) | Kind::NonBlocking(file) => file.as_fd(),
            Kind::Polled(fd) | Kind::Socket(fd) => fd.as_fd(),
        }
    }
}

/// The same pipe or terminal through a file description of our own (proc_pid_fd(5)).
fn reopen(number: u32) -> io::Result<Kind> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(flags.bits().cast_signed());
    options
        .open(format!("/proc/self/fd/{number}"))
        .map(Kind::NonBlocking)
}

/// Whether it was closed when the process began. std has opened the null device in its place then, for reading and
/// writing, so that no other file gets the number; a shell opens it for writing alone.
fn is_closed(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == NULL_DEVICE;
    Ok(is_null && rustix::fs::fcntl_getfl(fd)? & OFlags::RWMODE == OFlags::RDWR)
}

fn file_type(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Waits a slice for room. A reader that is gone counts as room: the write will say so.
fn is_writable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    let slice = Timespec::try_from(SLICE).ok();
    match poll(&mut fds, slice.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
