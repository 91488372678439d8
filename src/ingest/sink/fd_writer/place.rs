//! A descriptor, and how to write to it without being stuck.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat, major, minor};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// How long one poll(2) waits before the deadline is looked at.
const SLICE: Duration = Duration::from_millis(100);
/// What a pipe takes without blocking once poll(2) says that it is writable (pipe(7), PIPE_BUF).
const PIPE_BUF: usize = 4096;
/// The null device's major and minor number (null(4)).
const NULL_DEVICE: (u32, u32) = (1, 3);
/// How many of the last bytes are read back to see whether they are still there.
const READ_BACK: usize = 4096;

#[derive(Debug)]
enum Kind {
    /// A regular file, or a device: a write takes as long as it takes, and nothing can wake it. A
    /// regular file of the shell's is not reopened: the new description would begin at offset 0 and
    /// overwrite the file.
    Blocking(File),
    /// A pipe, FIFO or terminal, reopened for ourselves with O_NONBLOCK: a file description of its
    /// own, so that whoever shares the other one does not find it non-blocking.
    NonBlocking(File),
    /// A pipe or terminal that could not be reopened (another user's, or no /proc): poll(2), then a
    /// small write.
    Polled(OwnedFd),
    /// A socket (the journal's, under systemd): it cannot be reopened (ENXIO), but send(2) can be
    /// asked not to wait.
    Socket(OwnedFd),
}

/// What an [`FdWriter`](super::FdWriter) writes to.
#[derive(Debug)]
pub(super) struct Place {
    kind: Kind,
    file_type: FileType,
    is_terminal: bool,
}

/// Where a file stood when a message was written to it in part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Where the part ends.
    end: u64,
}

/// What became of a part since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// The part is still what the file ends in, as far as can be told.
    Unchanged,
    /// The file was truncated.
    Shrunk,
    /// Something else stands behind the part, or in its place.
    Overwritten,
}

/// Who reads what is written.
#[derive(Debug)]
pub(in crate::ingest::sink) enum Reader {
    /// Somebody reads, or nobody has to: a file.
    There,
    /// Nobody reads the pipe. A FIFO, which has a name, may get another reader.
    Away(io::Error),
    /// The terminal was hung up, the socket is closed: nobody will ever read it again.
    Gone(io::Error),
}

impl Place {
    /// A standard stream of this process, by its number.
    pub(super) fn standard(fd: BorrowedFd<'static>, number: u32) -> io::Result<Place> {
        let name = if number == 1 { "stdout" } else { "stderr" };
        let why = match rustix::fs::fcntl_getfl(fd)? & OFlags::RWMODE {
            OFlags::RDONLY => Some("is opened for reading alone"),
            // std has opened the null device for reading and writing in the place of one that was
            // closed when the process began, so that no other file gets the number; a shell opens
            // it for writing alone.
            OFlags::RDWR if is_null_device(fd)? => {
                Some("is closed, or the null device opened for reading, too")
            }
            _ => None,
        };
        if let Some(why) = why {
            return Err(io::Error::other(format!("{name} {why}")));
        }
        let own = || fd.try_clone_to_owned();
        let reopened = || reopen(number).or_else(|_| own().map(Kind::Polled));
        let file_type = file_type(fd)?;
        let is_terminal = is_terminal(fd, file_type);
        let kind = match file_type {
            FileType::Socket => Kind::Socket(own()?),
            FileType::Fifo => reopened()?,
            _ if is_terminal => reopened()?,
            _ => Kind::Blocking(own()?.into()),
        };
        Ok(Place {
            kind,
            file_type,
            is_terminal,
        })
    }

    /// A place that must not be written to: a write says EBADF.
    pub(super) fn nowhere() -> io::Result<Place> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty())?;
        Ok(Place {
            kind: Kind::Blocking(root.into()),
            file_type: FileType::Directory,
            is_terminal: false,
        })
    }

    /// A file that was opened by its name, for appending and with O_NONBLOCK.
    pub(super) fn named(file: File) -> io::Result<Place> {
        let file_type = file_type(file.as_fd())?;
        let is_terminal = is_terminal(file.as_fd(), file_type);
        let kind = if file_type == FileType::RegularFile {
            Kind::Blocking(file)
        } else {
            Kind::NonBlocking(file)
        };
        Ok(Place {
            kind,
            file_type,
            is_terminal,
        })
    }

    pub(super) fn is_regular(&self) -> bool {
        self.file_type == FileType::RegularFile
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether this is a regular file that is written to at an offset of our own instead of its
    /// end.
    pub(super) fn is_overwriting(&self) -> bool {
        let appends = |flags: OFlags| flags.contains(OFlags::APPEND);
        self.is_regular() && !rustix::fs::fcntl_getfl(self).is_ok_and(appends)
    }

    /// The status of a regular file.
    pub(super) fn stat(&self) -> Option<Stat> {
        let stat = || rustix::fs::fstat(self).ok();
        self.is_regular().then(stat).flatten()
    }

    /// Asks poll(2), without waiting, what a write would say, before there is something to write.
    pub(super) fn reader(&self) -> Reader {
        if let Kind::Blocking(_) = self.kind {
            return Reader::There;
        }
        let mut fds = [PollFd::new(self, PollFlags::empty())];
        let now = Timespec::default();
        if poll(&mut fds, Some(&now)).is_err() {
            return Reader::There;
        }
        let found = fds[0].revents();
        if found.contains(PollFlags::HUP) {
            let error = if self.is_terminal {
                Errno::IO
            } else {
                Errno::PIPE
            };
            return Reader::Gone(error.into());
        }
        // An error of a socket may pass: its next write tells.
        if found.contains(PollFlags::ERR) && self.file_type == FileType::Fifo {
            return Reader::Away(Errno::PIPE.into());
        }
        Reader::There
    }

    pub(super) fn is_same_file(&self, other: &Place) -> bool {
        match (rustix::fs::fstat(self), rustix::fs::fstat(other)) {
            (Ok(this), Ok(other)) => (this.st_dev, this.st_ino) == (other.st_dev, other.st_ino),
            _ => false,
        }
    }

    /// The last byte of a regular file that may be read.
    pub(super) fn last_byte(&self) -> Option<u8> {
        let Kind::Blocking(file) = &self.kind else {
            return None;
        };
        let last = file.metadata().ok()?.len().checked_sub(1)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, last).ok()?;
        Some(byte[0])
    }

    /// Where a regular file stands after a write that took a part.
    pub(super) fn mark(&self) -> Option<Mark> {
        if !self.is_regular() {
            return None;
        }
        // After a write to the end of a file the position is where that write ended, whoever has
        // appended since.
        let end = rustix::fs::tell(self).ok()?;
        Some(Mark { end })
    }

    /// Whether a part of a message, which was written up to `mark`, can be resumed. There is no
    /// lock between this look and the write: [`landed`](Place::landed) says what happened between.
    pub(super) fn since(&self, mark: Mark, part: &[u8]) -> Since {
        let Some(stat) = self.stat() else {
            return Since::Unchanged;
        };
        let size = stat.st_size.cast_unsigned();
        if size < mark.end {
            return Since::Shrunk;
        }
        // Without O_APPEND our offset is ours, whatever stands behind it.
        if size > mark.end && !self.is_overwriting() || self.is_other(mark, part) {
            return Since::Overwritten;
        }
        Since::Unchanged
    }

    /// What became of a part, written up to `mark`, by the time that the next `written` bytes were
    /// taken: whether these stand right behind the part. Where the offset is our own, without
    /// O_APPEND, a truncation in that very moment is not seen.
    pub(super) fn landed(&self, mark: Mark, written: usize) -> Since {
        let Ok(end) = rustix::fs::tell(self) else {
            return Since::Unchanged;
        };
        match end.cmp(&(mark.end + written as u64)) {
            Ordering::Less => Since::Shrunk,
            Ordering::Equal => Since::Unchanged,
            Ordering::Greater => Since::Overwritten,
        }
    }

    /// Whether the file, where it may be read, holds other bytes than `part` before `mark`: it was
    /// truncated, and has grown again.
    fn is_other(&self, mark: Mark, part: &[u8]) -> bool {
        let Kind::Blocking(file) = &self.kind else {
            return false;
        };
        let part = &part[part.len().saturating_sub(READ_BACK)..];
        let mut there = [0; READ_BACK];
        let there = &mut there[..part.len()];
        let Some(from) = mark.end.checked_sub(part.len() as u64) else {
            return true;
        };
        file.read_exact_at(there, from).is_ok() && there != part
    }

    /// Goes to the end of a regular file: a write to one that was opened without O_APPEND and
    /// truncated would leave a hole before it.
    pub(super) fn seek_end(&self) {
        let _ = rustix::fs::seek(self, SeekFrom::End(0));
    }

    /// Whether nobody will ever take a byte here again. A terminal that was hung up says EIO
    /// (write(2)); a disk may say it and recover.
    pub(super) fn is_gone(&self, error: &io::Error) -> bool {
        match Errno::from_io_error(error) {
            Some(Errno::PIPE | Errno::BADF) => true,
            Some(Errno::IO) => matches!(self.kind, Kind::NonBlocking(_) | Kind::Polled(_)),
            _ => false,
        }
    }

    /// Writes once; `None` if the reader took nothing for a while.
    pub(super) fn write_some(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
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
                // A blocking descriptor says so, too, if somebody who shares its description made
                // it non-blocking. A polled one has waited already.
                if !matches!(self.kind, Kind::Polled(_)) {
                    is_writable(self.as_fd())?;
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
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

fn is_null_device(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device == NULL_DEVICE)
}

fn file_type(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

fn is_terminal(fd: BorrowedFd<'_>, file_type: FileType) -> bool {
    file_type == FileType::CharacterDevice && rustix::termios::isatty(fd)
}

/// Waits a slice until a write would be taken. Where the reader is gone, too: the write will say
/// so.
fn is_writable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    let slice = Timespec::try_from(SLICE).ok();
    match poll(&mut fds, slice.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::io::Write;

    /// A place whose file ends in a part of a message.
    fn with_part(path: &std::path::Path) -> (Place, Mark) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let place = Place::named(file.unwrap()).unwrap();
        write(&place, b"whole\nhal");
        let mark = place.mark().unwrap();
        (place, mark)
    }

    fn write(place: &Place, bytes: &[u8]) {
        let written = place.write_some(&[IoSlice::new(bytes)]).unwrap();
        assert_eq!(written, Some(bytes.len()));
    }

    #[test]
    fn what_happens_between_the_look_at_a_part_and_the_write_behind_it_is_seen_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let truncate = || File::create(&path).map(drop);
        let append = || {
            let mut other = OpenOptions::new().append(true).open(&path)?;
            other.write_all(b"another's\n")
        };
        let nothing = || Ok(());
        type Act<'a> = &'a dyn Fn() -> io::Result<()>;
        let acts: [(Act<'_>, Since); 3] = [
            (&nothing, Since::Unchanged),
            (&truncate, Since::Shrunk),
            (&append, Since::Overwritten),
        ];
        for (act, expected) in acts {
            let (place, mark) = with_part(&path);
            assert_eq!(place.since(mark, b"hal"), Since::Unchanged);
            act().unwrap();
            write(&place, b"f\n");
            assert_eq!(place.landed(mark, 2), expected);
        }
    }
}
