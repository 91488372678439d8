//! Making a FIFO.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// As mkfifo(1) does, with mode 600.
pub fn make(path: impl AsRef<Path>) {
    mknodat(
        CWD,
        path.as_ref(),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
}
