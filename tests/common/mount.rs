//! A file system of the test's own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A directory to mount on. What is mounted there is unmounted in the end.
pub struct MountPoint {
    directory: TempDir,
}

impl MountPoint {
    pub fn new() -> MountPoint {
        MountPoint {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Mounts a tmpfs of 256 KiB. `false`, and said, where this machine does not let us.
    pub fn tmpfs(&self) -> bool {
        self.mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
    }

    /// Mounts an image as ext4 that is read-only from an error on. `false` as in
    /// [`tmpfs`](MountPoint::tmpfs).
    pub fn ext4(&self, image: &Path) -> bool {
        let what = [
            OsStr::new("-o"),
            OsStr::new("loop,errors=remount-ro"),
            image.as_os_str(),
        ];
        self.mount(&what)
    }

    fn mount<A: AsRef<OsStr>>(&self, what: &[A]) -> bool {
        attempt(Command::new("mount").args(what).arg(self.path()))
    }

    /// Lazily, if whoever holds a file there is to go on as if nothing were.
    pub fn unmount(&self, is_lazy: bool) -> bool {
        let lazy: &[&str] = if is_lazy { &["--lazy"] } else { &[] };
        let mut command = Command::new("umount");
        let output = command.args(lazy).arg(self.path()).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        // A child that a failing test leaves may still hold a file for a moment.
        while self.unmount(true) {}
    }
}

/// Runs a command of the machine's owner. `false`, and said, where it is not there or not allowed.
pub fn attempt(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("left out: {command:?}: {}", why.trim());
            false
        }
        Err(error) => {
            eprintln!("left out: {command:?}: {error}");
            false
        }
    }
}
