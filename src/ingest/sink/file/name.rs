//! Whether the file that is written to is still the one that its name leads to.

use std::io;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

/// What the name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// To the file that is written to.
    Here,
    /// To nothing, or to another file.
    Elsewhere,
    /// Nobody can tell: a folder that may not be searched, a dead mount.
    Unknown,
}

/// `file` is its device and inode.
pub(super) fn leads(path: &Path, file: (u64, u64)) -> Leads {
    match rustix::fs::stat(path) {
        Ok(stat) if (stat.st_dev, stat.st_ino) == file => Leads::Here,
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Leads::Elsewhere,
        Err(_) => Leads::Unknown,
    }
}

/// open(2) says of a FIFO without a reader "No such device or address" (fifo(7)), though the FIFO
/// is there.
pub(super) fn explain_at_start(error: io::Error, path: &Path) -> io::Error {
    let is_fifo = || {
        let stat = rustix::fs::stat(path);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
    };
    match Errno::from_io_error(&error) {
        Some(Errno::NXIO) if is_fifo() => {
            io::Error::other("nobody reads this FIFO: start its reader first")
        }
        _ => error,
    }
}

/// Whether the file or its disk is full: then a new descriptor would not help.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
    )
}

/// Whether the error is of the mount, and not of the file alone.
pub(super) fn is_mount_dead(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::IO
                | Errno::STALE
                | Errno::NOTCONN
                | Errno::SHUTDOWN
                | Errno::NODEV
                | Errno::NXIO
                | Errno::HOSTDOWN
                | Errno::UCLEAN
                | Errno::ROFS
        )
    )
}

/// Counts the looks that found a name leading elsewhere. Looks are counted, and not time: a process
/// that stood still meanwhile has not waited for a reopen.
#[derive(Debug, Default)]
pub(super) struct Patience {
    looks: u32,
}

impl Patience {
    /// How long a rotation may take between renaming the file and asking for a reopen, in looks a
    /// second apart.
    const LOOKS: u32 = 10;

    /// Whether the patience is over.
    pub(super) fn is_over(&mut self, leads: Leads) -> bool {
        match leads {
            Leads::Here => self.looks = 0,
            Leads::Elsewhere => self.looks += 1,
            Leads::Unknown => {}
        }
        self.looks > Self::LOOKS
    }

    pub(super) fn renew(&mut self) {
        self.looks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_of_leading_elsewhere_and_no_return_between_are_enough() {
        let mut patience = Patience::default();
        for _ in 0..3 {
            for _ in 0..Patience::LOOKS {
                assert!(!patience.is_over(Leads::Elsewhere));
            }
            assert!(!patience.is_over(Leads::Unknown));
            assert!(!patience.is_over(Leads::Here));
        }
        for _ in 0..Patience::LOOKS {
            assert!(!patience.is_over(Leads::Elsewhere));
        }
        assert!(patience.is_over(Leads::Elsewhere));
        // Until the file was opened by its name.
        assert!(patience.is_over(Leads::Elsewhere));
        patience.renew();
        assert!(!patience.is_over(Leads::Elsewhere));
    }
}
