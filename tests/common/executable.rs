//! Files that a test makes and executes.
//!
//! Nobody can execute a file while somebody has it open for writing (execve(2), ETXTBSY), and a
//! process that another thread of the test has just forked has every descriptor of the test until
//! it executes its own program. So what is to be executed is written by a child process, and no
//! descriptor for writing it is ever open in the test.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::programs::run;

/// A copy of an executable. Only its mode is copied, not its owner.
#[track_caller]
pub fn copy(from: impl AsRef<Path>, to: &Path) {
    run(Command::new("cp").arg(from.as_ref()).arg(to));
}

/// A script that anybody may execute.
#[track_caller]
pub fn script(path: &Path, text: &str) {
    let mut source = path.as_os_str().to_owned();
    source.push(".source");
    fs::write(&source, text).unwrap();
    let mut install = Command::new("install");
    run(install.arg("--mode=755").arg(&source).arg(path));
    fs::remove_file(&source).unwrap();
}
