//! The file of a Unix socket: making it, taking over one that nobody listens on any more, and
//! removing it.
//!
//! A killed process leaves its file, and bind(2) fails on it. Whether anybody listens there, only a
//! connect tells. Between that look, the removal and listen(2), another start may do the same; so
//! starts of drainline take a lock for these steps, and each finds either a socket that answers or
//! one that nobody will listen on. Binding under another name and renaming would need no lock, but
//! replaces a socket that another start has just made, and getsockname(2), and with it ss(8), would
//! show that other name for ever.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::server::deadline::Deadline;
use crate::server::ranges;

/// How long a start waits for another that makes a socket of the same name, which takes less than a
/// millisecond.
const MAX_LOCK: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// How often a start takes over files that others put there meanwhile.
const MAX_TAKEOVERS: usize = 8;

/// Who may connect: connect(2) needs the permission to write to the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    /// The file's user and group, where they are not those of the process.
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// The file of a bound socket. Dropped, it removes the file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    /// Absolute: the process may change its directory.
    path: PathBuf,
    id: FileId,
}

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(metadata: &fs::Metadata) -> FileId {
        FileId(metadata.dev(), metadata.ino())
    }
}

impl SocketFile {
    /// Binds a stream socket to `path` and makes it listen. A socket that nobody listens on is
    /// taken over; anything else that is there stays.
    pub(crate) fn listen(
        path: &Path,
        access: Access,
        backlog: i32,
    ) -> io::Result<(Socket, SocketFile)> {
        let address = address(path)?;
        let _lock = Lock::of(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // The file gets the socket's mode, less the umask: it never allows more than it is to.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(access.mode))?;
        let mut takeovers = 0;
        while let Err(error) = socket.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse || takeovers == MAX_TAKEOVERS {
                return Err(error);
            }
            takeovers += 1;
            remove_stale(path, &address)?;
        }
        let file = SocketFile::bound(path, access)?;
        socket.listen(backlog)?;
        Ok((socket, file))
    }

    /// The file of a socket that was just bound, with the access that it is to have. Nobody can
    /// connect before listen(2).
    fn bound(path: &Path, access: Access) -> io::Result<SocketFile> {
        // What was opened cannot be replaced by a link on the way to chown and chmod.
        let opened = open_path(path)?;
        let in_proc = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let stat = rustix::fs::fstat(&opened)?;
        let file = SocketFile {
            path: std::path::absolute(path)?,
            id: FileId(stat.st_dev, stat.st_ino),
        };
        if access.uid.is_some() || access.gid.is_some() {
            let (uid, gid) = (access.uid.map(Uid::from_raw), access.gid.map(Gid::from_raw));
            rustix::fs::chownat(&opened, "", uid, gid, AtFlags::EMPTY_PATH)
                .map_err(|error| because("its owner cannot be set", error))?;
        }
        if stat.st_mode & 0o777 != access.mode {
            fs::set_permissions(&in_proc, Permissions::from_mode(access.mode))
                .map_err(|error| because("its mode cannot be set", error))?;
        }
        Ok(file)
    }

    /// Removes the file if it still is this socket's: its name may be another server's by now, or
    /// gone. Must be called while the socket still answers, so that no start takes the name over
    /// between the look and the removal.
    fn remove_if_own(&self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| FileId::of(&found) == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove_if_own();
    }
}

/// The address of a path.
///
/// # Errors
/// A socket cannot have this path.
fn address(path: &Path) -> io::Result<SockAddr> {
    let (bytes, most) = (path.as_os_str().as_bytes(), *ranges::UNIX_PATH.end());
    let why = if bytes.is_empty() {
        "the path is empty".to_owned()
    } else if bytes.contains(&0) {
        "the path has a NUL byte".to_owned()
    } else if bytes.len() > most {
        format!("the path has {} bytes, and may have {most}", bytes.len())
    } else {
        return SockAddr::unix(path);
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Removes what is at `path`, if that is a socket on which nobody listens.
///
/// # Errors
/// Something else is there, somebody listens, or nobody can tell.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let Some(before) = look(path)? else {
        return Ok(());
    };
    if !before.file_type().is_socket() {
        let what = match before.file_type() {
            found if found.is_dir() => "a directory",
            found if found.is_symlink() => "a symbolic link",
            _ => "a file that is no socket",
        };
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{what} is in the way"),
        ));
    }
    // Never blocks: a listener whose queue is full says EAGAIN. Who listens sees a client that
    // leaves without a byte.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let answer = socket.connect(address);
    match answer.as_ref().map_err(Errno::from_io_error) {
        Err(Some(Errno::CONNREFUSED)) => {}
        Err(Some(Errno::NOENT)) => return Ok(()),
        // EPROTOTYPE: a socket of another type is bound there, such as one for datagrams.
        Ok(()) | Err(Some(Errno::AGAIN | Errno::PROTOTYPE)) => {
            let text = "another process listens there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        Err(_) => {
            answer
                .map_err(|error| because("a socket is in the way, and cannot be asked", error))?;
        }
    }
    match look(path)? {
        Some(now) if FileId::of(&now) == FileId::of(&before) => fs::remove_file(path)
            .map_err(|error| because("the socket of an ended process cannot be removed", error)),
        _ => Ok(()),
    }
}

/// What is at `path`, itself and not what it links to.
fn look(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn because(what: &str, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// The right to make the socket of one path, among all starts of drainline. A file beside the
/// socket, locked by flock(2), which ends with the process. Dropped, it removes the file.
///
/// The directory itself could be locked without a file, but by anybody who may read it.
struct Lock {
    path: PathBuf,
    _file: OwnedFd,
}

impl Lock {
    fn of(path: &Path) -> io::Result<Lock> {
        let path = lock_path(path);
        let until = Deadline::after(MAX_LOCK);
        loop {
            // Without blocking, should somebody have put a FIFO there.
            let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
                .map_err(|error| cannot_lock(&path, error))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had the lock before may have removed this file.
                Ok(()) if is_at(&file, &path) => return Ok(Lock { path, _file: file }),
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if !until.has_passed() => std::thread::sleep(LOCK_RETRY),
                Err(error) => return Err(cannot_lock(&path, error)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".drainline-start");
    path.with_file_name(name)
}

fn is_at(file: impl AsFd, path: &Path) -> bool {
    let (Ok(opened), Ok(found)) = (rustix::fs::fstat(file), fs::symlink_metadata(path)) else {
        return false;
    };
    FileId(opened.st_dev, opened.st_ino) == FileId::of(&found)
}

fn cannot_lock(path: &Path, error: Errno) -> io::Error {
    match (error, path.parent()) {
        (Errno::NOENT, Some(parent)) => {
            let text = format!("there is no directory {}", parent.display());
            io::Error::new(io::ErrorKind::NotFound, text)
        }
        (Errno::WOULDBLOCK, _) => {
            let text = format!("another process holds the lock on {}", path.display());
            io::Error::new(io::ErrorKind::AddrInUse, text)
        }
        _ => because(&format!("cannot lock {}", path.display()), error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ACCESS: Access = Access {
        mode: 0o666,
        uid: None,
        gid: None,
    };

    fn socket_in(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("a.sock")
    }

    /// What a killed process leaves.
    fn stale(path: &Path) -> FileId {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        FileId::of(&fs::symlink_metadata(path).unwrap())
    }

    const STARTS: usize = 6;

    #[test]
    fn only_one_of_many_starts_takes_a_stale_socket_over_and_it_answers() {
        let at_once = std::sync::Barrier::new(STARTS);
        for _ in 0..200 {
            let folder = tempfile::tempdir().unwrap();
            let path = socket_in(&folder);
            stale(&path);
            let starts: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    at_once.wait();
                    SocketFile::listen(&path, ACCESS, 128)
                };
                let starts: Vec<_> = (0..STARTS).map(|_| scope.spawn(start)).collect();
                starts
                    .into_iter()
                    .map(|start| start.join().unwrap())
                    .collect()
            });
            let (listening, refused): (Vec<_>, Vec<_>) =
                starts.into_iter().partition(Result::is_ok);
            assert_eq!(listening.len(), 1);
            for error in refused.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            }
            std::os::unix::net::UnixStream::connect(&path).unwrap();
            drop(listening);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_no_socket_or_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(&folder);
        let refused = |of: &str| {
            let error = SocketFile::listen(&path, ACCESS, 1).unwrap_err();
            assert!(error.to_string().contains(of), "{error}");
        };
        fs::write(&path, "precious").unwrap();
        refused("a file that is no socket is in the way");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused("a directory is in the way");
        fs::remove_dir(&path).unwrap();
        let target = folder.path().join("target");
        let before = stale(&target);
        std::os::unix::fs::symlink(&target, &path).unwrap();
        refused("a symbolic link is in the way");
        assert_eq!(before, FileId::of(&fs::symlink_metadata(&target).unwrap()));
        fs::remove_file(&path).unwrap();

        let datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        refused("another process listens there");
        drop(datagrams);
        let (socket, file) = SocketFile::listen(&path, ACCESS, 1).unwrap();
        fs::remove_file(&path).unwrap();
        let other = stale(&path);
        drop((socket, file));
        assert_eq!(other, FileId::of(&fs::symlink_metadata(&path).unwrap()));
    }

    #[test]
    fn a_listener_whose_queue_is_full_is_one_that_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(&folder);
        let _first = SocketFile::listen(&path, ACCESS, 0).unwrap();
        for _ in 0..3 {
            let error = SocketFile::listen(&path, ACCESS, 0).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        }
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_with_what_would_do() {
        let refused = |path: &str| {
            let error = SocketFile::listen(Path::new(path), ACCESS, 1).unwrap_err();
            error.to_string()
        };
        let folder = tempfile::tempdir().unwrap();
        let long = socket_in(&folder).display().to_string() + &"x".repeat(108);
        let expected = format!("the path has {} bytes, and may have 107", long.len());
        assert_eq!(refused(&long), expected);
        assert_eq!(refused(""), "the path is empty");
        assert_eq!(refused("a\0b"), "the path has a NUL byte");
        let nowhere = folder.path().join("nowhere");
        let expected = format!("there is no directory {}", nowhere.display());
        assert_eq!(
            refused(&nowhere.join("a.sock").display().to_string()),
            expected
        );
    }

    #[test]
    fn the_mode_is_the_one_asked_for_whatever_the_umask_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(&folder);
        for mode in [0o666, 0o600, 0o660, 0o777] {
            let access = Access { mode, ..ACCESS };
            let _socket = SocketFile::listen(&path, access, 1).unwrap();
            let found = fs::symlink_metadata(&path).unwrap().mode() & 0o777;
            assert_eq!(found, mode, "{found:o}");
        }
    }
}
