//! Where a server's messages go: a FIFO whose reader stops and starts, or a file that fills up and
//! is rotated, by others or by the server.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Resource, Signal};
use tempfile::TempDir;

use super::common::child::Drainline;
use super::common::fifo;
use super::script::Kept;
use super::wire;

/// What a reader takes in one go, before it rests.
const ALL: u64 = u64::MAX;
const END: u64 = u64::MAX - 1;
const REST: Duration = Duration::from_millis(2);

pub struct Outlet {
    directory: TempDir,
    kind: Kind,
}

enum Kind {
    Fifo {
        pace: Arc<AtomicU64>,
        reader: JoinHandle<Vec<u8>>,
    },
    File {
        rotated: u32,
    },
    /// With what stands behind its path.
    Rotated {
        options: String,
    },
}

impl Outlet {
    pub fn new(kept: Kept) -> Outlet {
        let directory = tempfile::tempdir().unwrap();
        let kind = match kept {
            Kept::Fifo => {
                let path = directory.path().join("messages");
                fifo::make(&path);
                let pace = Arc::new(AtomicU64::new(ALL));
                // The writing end is held too: a server that reopens it, or is not there yet, is no
                // end.
                let fifo = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                    .open(&path)
                    .unwrap();
                let of_reader = Arc::clone(&pace);
                let reader = thread::spawn(move || read(fifo, &of_reader));
                Kind::Fifo { pace, reader }
            }
            Kept::File => Kind::File { rotated: 0 },
            Kept::Rotated { size, gzip, fsync } => Kind::Rotated {
                // None is deleted: all are read in the end.
                options: format!("rotate_size={size}&keep=100000&gzip={gzip}&fsync={fsync}"),
            },
        };
        Outlet { directory, kind }
    }

    /// As an output is told.
    pub fn url(&self) -> String {
        let path = self.path();
        match &self.kind {
            Kind::Rotated { options } => format!("file://{}?{options}", path.display()),
            _ => format!("file:{}", path.display()),
        }
    }

    /// Another file's path in its folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("messages")
    }

    /// Where the file is renamed to.
    fn rotated(&self, nth: u32) -> PathBuf {
        self.directory.path().join(format!("messages.{nth}"))
    }

    /// Lets `more` bytes pass: of a FIFO again and again, of a file once.
    pub fn let_pass(&self, server: &mut Drainline, more: u64) {
        match &self.kind {
            Kind::Fifo { pace, .. } => pace.store(more, Ordering::Relaxed),
            Kind::File { .. } | Kind::Rotated { .. } => {
                let len = fs::metadata(self.path()).map_or(0, |file| file.len());
                server.limit(Resource::Fsize, Some(len + more));
            }
        }
    }

    pub fn heal(&self, server: &mut Drainline) {
        match &self.kind {
            Kind::Fifo { pace, .. } => pace.store(ALL, Ordering::Relaxed),
            Kind::File { .. } | Kind::Rotated { .. } => _ = server.limit(Resource::Fsize, None),
        }
    }

    /// Renames the file, if it is there and the server does not, and asks for another.
    pub fn rotate(&mut self, server: &mut Drainline) {
        if let Kind::File { rotated: nth } = self.kind
            && fs::rename(self.path(), self.rotated(nth)).is_ok()
        {
            self.kind = Kind::File { rotated: nth + 1 };
        }
        server.signal(Signal::HUP);
    }

    /// All that it got, once the server has ended. A message that was written in part when its file
    /// was renamed begins anew in the next one, so its beginning in the old one is left out.
    pub fn bytes(self, output: &str) -> Vec<u8> {
        match self.kind {
            Kind::File { rotated } => {
                let mut bytes = Vec::new();
                for nth in 0..rotated {
                    let mut part = fs::read(self.rotated(nth)).unwrap();
                    let torn = wire::read(output, &part).1.len();
                    part.truncate(part.len() - torn);
                    bytes.extend(part);
                }
                // The last may not have been opened any more.
                bytes.extend(fs::read(self.path()).unwrap_or_default());
                bytes
            }
            Kind::Rotated { .. } => {
                let mut bytes = Vec::new();
                for path in old(&self.path()) {
                    let part = whole(&path);
                    assert_eq!(wire::read(output, &part).1.len(), 0, "{path:?} is torn");
                    bytes.extend(part);
                }
                bytes.extend(fs::read(self.path()).unwrap());
                bytes
            }
            Kind::Fifo { pace, reader } => {
                pace.store(END, Ordering::Relaxed);
                reader.join().unwrap()
            }
        }
    }
}

/// The old files that a server has made of its file, by age, which is in their names. The end may
/// have come while one was compressed.
fn old(path: &Path) -> BTreeSet<PathBuf> {
    let begin = format!("{}-", path.file_name().unwrap().display());
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with(&begin) && !name.ends_with(".tmp"))
        .map(|name| path.with_file_name(name.trim_end_matches(".gz")))
        .collect()
}

/// An old file, or what it was compressed to.
fn whole(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|_| {
        let compressed = File::open(format!("{}.gz", path.display())).unwrap();
        let mut bytes = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(compressed);
        decoder.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn read(mut fifo: File, pace: &AtomicU64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let pace = pace.load(Ordering::Relaxed);
        let most = (pace as usize).min(buffer.len());
        let read = fifo.read(&mut buffer[..most]).unwrap_or(0);
        bytes.extend_from_slice(&buffer[..read]);
        if read == 0 && pace == END {
            return bytes;
        }
        if read == 0 || pace < END {
            thread::sleep(REST);
        }
    }
}
