//! The file that refused messages are appended to.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::ingest::sink::File as FileSink;

/// Logs are for their owner and group.
const MODE: Mode = Mode::from_raw_mode(0o640);

#[derive(Debug)]
pub(super) struct Aside {
    path: PathBuf,
    max_bytes: u64,
    file: File,
    /// Why the last message that found no room found none.
    full: String,
}

impl Aside {
    pub(super) fn open(path: &Path, max_bytes: u64) -> io::Result<Aside> {
        Ok(Aside {
            path: path.to_owned(),
            max_bytes,
            file: open(path).map_err(|error| explained(path, &error))?,
            full: String::new(),
        })
    }

    pub(super) fn full(&self) -> &str {
        &self.full
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it by its name.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path).map_err(|error| explained(&self.path, &error))?;
        Ok(())
    }

    /// Appends messages until one fails, or one finds no room, which is no error: says how many.
    pub(super) fn write_all<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a [u8]>,
    ) -> (u64, io::Result<()>) {
        let mut written = 0;
        for message in messages {
            match self.write(message) {
                Ok(true) => written += 1,
                Ok(false) => break,
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Appends a message and a line feed, whole or not at all; not if the file would then have more
    /// bytes than it may.
    fn write(&mut self, message: &[u8]) -> io::Result<bool> {
        let before = self.file.metadata()?.len();
        if before + message.len() as u64 + 1 > self.max_bytes {
            self.full = format!(
                "{} has {before} bytes, a message {} and a line feed, and refused_max is {}",
                self.path.display(),
                message.len(),
                self.max_bytes
            );
            return Ok(false);
        }
        // Without a copy: a message may be longer than any body.
        match write_line(&self.file, message) {
            Ok(()) => Ok(true),
            Err(error) => {
                // The disk is full: half a line would be taken for a message.
                let _ = self.file.set_len(before);
                Err(explained(&self.path, &error))
            }
        }
    }
}

fn write_line(mut file: &File, message: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(message), IoSlice::new(b"\n")];
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A symbolic link in its place is followed by nobody; on the way there as by the file sink.
fn open(path: &Path) -> io::Result<File> {
    let (folder, name) = FileSink::find_folder(path)?;
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK;
    let irregular = || io::Error::other("not a regular file");
    let file = match openat(&folder, &name, flags, MODE) {
        Ok(file) => File::from(file),
        // A FIFO without a reader, a socket.
        Err(Errno::NXIO) => return Err(irregular()),
        Err(error) => return Err(error.into()),
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(irregular()),
    }
}

fn explained(path: &Path, error: &io::Error) -> io::Error {
    let text = format!(
        "refused messages cannot be written to {}: {error}",
        path.display()
    );
    io::Error::new(error.kind(), text)
}
