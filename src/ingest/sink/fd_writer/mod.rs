//! Writing batches to a descriptor on one thread, which must never be stuck behind a reader that
//! has stopped.

mod pending;
mod place;
mod terminal;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use log::Level;

use super::batches::Batches;
use super::contract::SinkError;
use crate::ingest::batch::Batch;
use pending::Pending;
pub(super) use place::Reader;
use place::{Mark, Place, Since};
use terminal::{Piece, Shown};

/// Slices in one writev(2): fewer than IOV_MAX, and enough.
const MAX_SLICES: u64 = 64;
/// From so many bytes on no more batches are gathered into a write: that would save nothing, and
/// keep buffers from coming back.
const ENOUGH_BYTES: usize = 1 << 20;

/// Writes batches to a descriptor: knows how far the first batch is written, and never blocks in a
/// write for longer than about a tenth of a second, but for a file.
///
/// Accepted means that write(2) took the byte: the reader's end of a pipe or the system's cache has
/// it. A batch that was written in part is resumed at the next byte, in a regular file only if that
/// part is still what the file ends in. If the file was truncated, or somebody else has appended to
/// it, the message is written anew, so that it is whole, and the log says so.
///
/// On a terminal control characters are escaped, see [`Stdout`](super::Stdout).
#[derive(Debug)]
pub struct FdWriter {
    place: Place,
    /// The sink's name in the log.
    name: String,
    /// What is written and not accepted.
    pending: Pending,
    /// Bytes that are written of the batch behind those, the first one mostly.
    offset: usize,
    /// On a terminal: how many bytes are shown of the escape for the next byte.
    of_next: usize,
    /// Those bytes were written to another place.
    is_moved: bool,
    /// Where those bytes end in a regular file, if in the middle of a message.
    mark: Option<Mark>,
    /// The file has not been looked at, and may end in half a message of another writer.
    is_fresh: bool,
    /// Messages that were accepted in all.
    accepted: u64,
    /// A terminal gets the messages' bytes as they are.
    is_raw: bool,
    room: Room,
}

/// How much more may be written to a file.
#[derive(Clone, Copy, Debug)]
struct Room {
    bytes: u64,
    /// Nothing is in the file: a message that is longer than the file may be goes there.
    is_whole: bool,
    /// The next message does not fit.
    is_short: bool,
}

impl Room {
    const UNLIMITED: Room = Room {
        bytes: u64::MAX,
        is_whole: false,
        is_short: false,
    };
}

impl FdWriter {
    /// This process's standard output.
    ///
    /// # Errors
    /// Standard output is closed, or was when the process began: then std has opened the null
    /// device in its place, for reading and writing, and all output would be lost. A null device
    /// that was opened for both by somebody else is therefore refused, too.
    pub fn stdout() -> io::Result<FdWriter> {
        let place = Place::standard(rustix::stdio::stdout(), 1)?;
        Ok(Self::new(place, "stdout".to_owned()))
    }

    /// This process's standard error.
    ///
    /// # Errors
    /// As [`stdout`](FdWriter::stdout).
    pub fn stderr() -> io::Result<FdWriter> {
        let place = Place::standard(rustix::stdio::stderr(), 2)?;
        Ok(Self::new(place, "stderr".to_owned()))
    }

    /// A file that was opened by its name, for appending and with O_NONBLOCK.
    pub(super) fn file(file: File, name: String) -> io::Result<FdWriter> {
        let place = Place::named(file)?;
        let is_fresh = place.is_regular();
        Ok(FdWriter {
            is_fresh,
            ..Self::new(place, name)
        })
    }

    fn new(place: Place, name: String) -> FdWriter {
        FdWriter {
            place,
            name,
            pending: Pending::default(),
            offset: 0,
            of_next: 0,
            is_moved: false,
            mark: None,
            is_fresh: false,
            accepted: 0,
            is_raw: false,
            room: Room::UNLIMITED,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    #[cfg(feature = "strftime")]
    pub(super) fn set_name(&mut self, name: String) {
        self.name = name;
    }

    /// As [`Stdout::terminal_escape`](super::Stdout::terminal_escape).
    #[must_use]
    pub fn terminal_escape(mut self, is_on: bool) -> FdWriter {
        self.set_terminal_escape(is_on);
        self
    }

    pub(super) fn set_terminal_escape(&mut self, is_on: bool) {
        self.is_raw = !is_on;
    }

    /// Whether the place is a terminal, and control characters are escaped.
    pub(super) fn escapes(&self) -> bool {
        self.place.is_terminal() && !self.is_raw
    }

    /// Whether the place is a regular file that is not appended to.
    pub(super) fn is_overwriting(&self) -> bool {
        self.place.is_overwriting()
    }

    /// Messages that were accepted in all.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The bytes that a regular file has.
    pub(super) fn size(&self) -> Option<u64> {
        self.place.stat().map(|stat| stat.st_size.cast_unsigned())
    }

    /// When a regular file was last written to.
    pub(super) fn written_at(&self) -> Option<SystemTime> {
        let stat = self.place.stat()?;
        let since = Duration::from_secs(u64::try_from(stat.st_mtime).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }

    /// The names that a regular file has.
    pub(super) fn links(&self) -> Option<u64> {
        self.place.stat().map(|stat| stat.st_nlink)
    }

    /// A regular file's device and inode.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        self.place.stat().map(|stat| (stat.st_dev, stat.st_ino))
    }

    /// Whether somebody reads what is written.
    pub(super) fn reader(&self) -> Reader {
        self.place.reader()
    }

    /// Goes on in the place of `other`. A message that is written in part is written anew there: it
    /// is whole in the new place, and its beginning stays in the old one. Where both are the same
    /// file, the message is resumed.
    pub(super) fn replace(&mut self, other: FdWriter) {
        // An unfinished message at the end of the same file is ours.
        if !self.place.is_same_file(&other.place) {
            self.is_moved = true;
            self.mark = None;
            self.is_fresh = other.is_fresh;
        }
        self.place = other.place;
    }

    /// Closes the place, so that a dead mount is not held. Nothing may be written before the place
    /// is [replaced](FdWriter::replace).
    pub(super) fn release(&mut self) -> io::Result<()> {
        let nowhere = Self::new(Place::nowhere()?, String::new());
        self.replace(nowhere);
        Ok(())
    }

    /// Whether what is written of `batches`, those that were offered last, ends in the middle of a
    /// message.
    pub fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        let is_inside =
            |batch: &Batch| self.of_next > 0 || batch.message_start(self.offset) != self.offset;
        !self.is_moved && self.current(batches).is_some_and(is_inside)
    }

    /// From now on a message that is written is not accepted before [`accept`](FdWriter::accept).
    pub(super) fn hold_back(&mut self) {
        self.pending.is_kept = true;
    }

    /// Whether something is written and not accepted.
    pub(super) fn has_pending(&self) -> bool {
        self.pending.bytes > 0
    }

    /// Whether so much is written and not accepted that it is to be accepted first.
    pub(super) fn has_enough_pending(&self) -> bool {
        self.pending.bytes >= Pending::ENOUGH_BYTES
    }

    /// Whether all that is held is written.
    pub(super) fn has_written_all(&self, batches: &Batches<'_>) -> bool {
        self.current(batches).is_none()
    }

    /// Accepts what is written.
    pub(super) fn accept(&mut self, batches: &mut Batches<'_>) {
        self.accepted += self.pending.accept(batches);
        let start = |batch: &Batch| batch.message_start(self.offset);
        self.pending.accepted_to = match self.offset {
            0 => 0,
            _ => batches.first().map_or(0, start),
        };
    }

    /// What was written and not accepted is written again.
    pub(super) fn write_again(&mut self) {
        self.offset = self.pending.forget();
        self.of_next = 0;
        self.is_moved = false;
        self.mark = None;
        self.is_fresh = self.place.is_regular();
    }

    /// Makes a regular file grow to `size` bytes, as it is now, and no further, but for a message
    /// that is longer, or was begun.
    pub(super) fn limit_size(&mut self, size: u64) {
        let is_now = self.size().unwrap_or(0);
        self.room = Room {
            bytes: size.saturating_sub(is_now),
            is_whole: is_now == 0,
            is_short: false,
        };
    }

    /// Bytes that are left of the file's size.
    pub(super) fn room(&self) -> u64 {
        self.room.bytes
    }

    /// Whether the next message does not fit into what is left of the file's size.
    pub(super) fn is_at_limit(&self) -> bool {
        self.room.is_short
    }

    /// The batch that is written next, or the rest of it.
    fn current<'b>(&self, batches: &'b Batches<'_>) -> Option<&'b Batch> {
        batches.get(batches.first_number() + self.pending.batches)
    }

    /// Writes batches from the front of `batches` until all are written, a write fails, or the
    /// deadline has passed. Waits for a slow reader in poll(2), a tenth of a second at a time.
    ///
    /// # Errors
    /// EPIPE and EBADF are final, and EIO of a terminal; any other error may pass.
    pub fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        if std::mem::take(&mut self.is_moved) {
            self.begin_anew(batches);
        }
        while self.current(batches).is_some()
            && !self.has_enough_pending()
            && !self.room.is_short
            && !batches.is_timed_out()
        {
            self.look_at_part(batches);
            self.end_half_message(batches)?;
            if self.is_fresh {
                // The last deadline came before the half message was ended.
                continue;
            }
            if let Err(error) = self.write_once(batches) {
                return Err(self.judge(error));
            }
        }
        Ok(())
    }

    fn write_once(&mut self, batches: &mut Batches<'_>) -> io::Result<()> {
        if self.escapes() {
            return self.show_once(batches);
        }
        if let Some(mark) = self.mark {
            return self.resume_once(batches, mark);
        }
        let slices = self.gather(batches);
        if slices.is_empty() {
            self.room.is_short = true;
            return Ok(());
        }
        if let Some(written) = self.place.write_some(&slices)? {
            self.advance(batches, written);
        }
        Ok(())
    }

    /// Writes the rest of a message that was written up to `mark`, and nothing behind it: if the
    /// file was changed since the look at the part, the message is not delivered yet.
    fn resume_once(&mut self, batches: &mut Batches<'_>, mark: Mark) -> io::Result<()> {
        let Some(batch) = self.current(batches) else {
            return Ok(());
        };
        let rest = &batch.as_bytes()[self.offset..batch.message_end(self.offset)];
        if let Some(written) = self.place.write_some(&[IoSlice::new(rest)])? {
            match self.place.landed(mark, written) {
                Since::Unchanged => self.advance(batches, written),
                since => self.write_anew(batches, since),
            }
        }
        Ok(())
    }

    /// Shows a piece of the first batch on a terminal.
    fn show_once(&mut self, batches: &mut Batches<'_>) -> io::Result<()> {
        let Some(batch) = self.current(batches) else {
            return Ok(());
        };
        let before = Shown {
            offset: self.offset,
            of_next: self.of_next,
        };
        let piece = Piece::of(batch, before);
        if let Some(written) = self.place.write_some(&[IoSlice::new(piece.as_bytes())])? {
            let after = before.after(batch, written);
            self.of_next = after.of_next;
            self.advance(batches, after.offset - before.offset);
        }
        Ok(())
    }

    fn begin_anew(&mut self, batches: &Batches<'_>) {
        let start = |batch: &Batch| batch.message_start(self.offset);
        self.offset = self.current(batches).map_or(0, start);
        self.of_next = 0;
        self.mark = None;
    }

    /// Before a message that was written in part is resumed: begins the message anew if the file
    /// does not end in its part any more. Its rest would be the head of a truncated file, or the
    /// end of somebody else's message.
    fn look_at_part(&mut self, batches: &Batches<'_>) {
        let (Some(mark), Some(batch)) = (self.mark, self.current(batches)) else {
            return;
        };
        let part = &batch.as_bytes()[batch.message_start(self.offset)..self.offset];
        let since = self.place.since(mark, part);
        self.write_anew(batches, since);
    }

    /// Begins a message anew whose part has met with something.
    fn write_anew(&mut self, batches: &Batches<'_>, since: Since) {
        let what = match since {
            Since::Unchanged => return,
            Since::Shrunk => "was truncated",
            Since::Overwritten => "was written to by somebody else",
        };
        let name = &self.name;
        batches.logger().log_limited("message begun anew", Level::Warn, || {
            format!(
                "the sink {name} {what} in the middle of a message, which is written anew, from its beginning"
            )
        });
        self.place.seek_end();
        self.begin_anew(batches);
        self.is_fresh = true;
    }

    /// Before the first write to a file that was opened by its name, or that somebody else has
    /// changed: ends the half message at the file's end, or the next message would be glued to it.
    /// Where the output framing has no delimiter, or the file may not be read, this cannot be done.
    fn end_half_message(&mut self, batches: &Batches<'_>) -> Result<(), SinkError> {
        let Some(batch) = self.current(batches).filter(|_| self.is_fresh) else {
            return Ok(());
        };
        let last = self.place.last_byte();
        let missing = batch
            .framing()
            .delimiter()
            // In an empty file, or one that may not be read, nothing is missing.
            .filter(|delimiter| last.is_some_and(|last| last != *delimiter));
        if let Some(delimiter) = missing {
            let byte = [delimiter];
            let slices = [IoSlice::new(&byte)];
            let write = || {
                let written = self.place.write_some(&slices);
                written.map_err(|error| self.judge(error))
            };
            while write()?.is_none() {
                if batches.is_timed_out() {
                    return Ok(());
                }
            }
            let name = &self.name;
            let text = format!(
                "the sink {name} ended with an incomplete message; terminated it before appending"
            );
            batches.logger().log(Level::Warn, text);
        }
        self.is_fresh = false;
        Ok(())
    }

    /// What goes into one write: nothing, if the next message does not fit into the file.
    fn gather<'w>(&self, batches: &'w Batches<'_>) -> Vec<IoSlice<'w>> {
        let first = batches.first_number() + self.pending.batches;
        let (mut gathered, mut from) = (0, self.offset);
        let mut slices = Vec::new();
        for number in first..first + MAX_SLICES {
            let Some(batch) = batches.get(number).filter(|_| gathered < ENOUGH_BYTES) else {
                break;
            };
            let rest = &batch.as_bytes()[from..];
            let room = self.room.bytes.saturating_sub(gathered as u64);
            if rest.len() as u64 > room {
                let fitting = self.fitting(batch, from, room as usize, gathered > 0);
                slices.extend((fitting > 0).then(|| IoSlice::new(&rest[..fitting])));
                break;
            }
            slices.push(IoSlice::new(rest));
            gathered += rest.len();
            from = 0;
        }
        slices
    }

    /// How many bytes of a batch, from a byte on, are messages that fit into `room` bytes. A file
    /// takes the rest of a message that it has begun, and a first one, however long these are.
    fn fitting(&self, batch: &Batch, from: usize, room: usize, has_more: bool) -> usize {
        let end = batch.message_start(from + room);
        let must = (self.room.is_whole && !has_more) || batch.message_start(from) != from;
        match end.checked_sub(from) {
            Some(fitting) if fitting > 0 => fitting,
            _ if must => batch.message_end(from) - from,
            _ => 0,
        }
    }

    fn judge(&self, error: io::Error) -> SinkError {
        if self.place.is_gone(&error) {
            SinkError::Fatal(error)
        } else {
            SinkError::Retry(error)
        }
    }

    /// Writes all of `bytes` within about `patience`, and says whether all was written. For the
    /// last lines of a process.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn write_within(&self, bytes: &[u8], patience: Duration) -> bool {
        let begun = std::time::Instant::now();
        let mut at = 0;
        while at < bytes.len() && begun.elapsed() < patience {
            match self.write_part(&bytes[at..]) {
                Ok(written) => at += written,
                Err(_) => return false,
            }
        }
        at == bytes.len()
    }

    /// Writes as much of `bytes` as is taken at once, and returns how much that was: 0 after about
    /// a tenth of a second in which nothing was taken.
    ///
    /// # Errors
    /// As write(2): EPIPE if the reader is gone.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn write_part(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.place.write_some(&[IoSlice::new(bytes)])?;
        Ok(written.unwrap_or(0))
    }

    /// Books what was written: whole batches, and of the last one the messages whose last byte was
    /// written.
    fn advance(&mut self, batches: &mut Batches<'_>, mut written: usize) {
        self.mark = None;
        self.room.bytes = self.room.bytes.saturating_sub(written as u64);
        self.room.is_whole = false;
        while let Some(batch) = self.current(batches) {
            let (from, end) = (self.offset, batch.as_bytes().len());
            if written < end - from {
                self.offset += written;
                let messages = batch.count_in(from..self.offset);
                if self.place.is_regular() && batch.message_start(self.offset) != self.offset {
                    self.mark = self.place.mark();
                }
                self.accepted += self.pending.take(batches, messages, written);
                return;
            }
            written -= end - from;
            self.offset = 0;
            self.accepted += self.pending.take_batch(batches, end - from);
            if written == 0 {
                return;
            }
        }
    }
}

impl AsFd for FdWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.place.as_fd()
    }
}
