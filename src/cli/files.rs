//! The files that the command line names: whether they can be opened, found out without a trace.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The kernel follows this many symbolic links (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Opens a file to be read, and waits for nothing: a FIFO without a writer would keep whoever opens
/// it for ever. A FIFO is not opened at all, since its writer would take the close for the end of
/// its reader, and a device may do anything when it is opened.
pub(super) fn open_regular(path: &Path) -> io::Result<fs::File> {
    let check = |file: &fs::Metadata| match (file.is_file(), file.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        _ => Err(io::Error::other("not a regular file")),
    };
    check(&fs::metadata(path)?)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).custom_flags(flags).open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// The error of opening a sink's file. Nothing is created, and a FIFO is not opened: its reader
/// would take the close for the end of the stream.
pub(super) fn check_sink(path: &Path) -> io::Result<()> {
    drainline::ingest::sink::File::check_links(path)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    if asks_for_folder(path) {
        return check_new(path);
    }
    match fs::metadata(path) {
        Ok(_) if is_fifo(path) => Ok(rustix::fs::access(path, Access::WRITE_OK)?),
        Ok(_) => fs::OpenOptions::new()
            .append(true)
            .custom_flags(flags)
            .open(path)
            .map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_new(&follow(path)),
        Err(error) => Err(error),
    }
}

pub(super) fn is_fifo(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo())
}

/// Whether [`write_whole`] can write a file at `path`. An existing file is replaced, and so is a
/// symbolic link to a file or to nothing, which may be somebody else's. Anything else is not ours
/// to remove: a folder, a FIFO, /dev/stdout.
pub(crate) fn check_replaced(path: &Path) -> io::Result<()> {
    find_replaced(path).map(drop)
}

/// The folder of a file that can be replaced, opened, so that a renamed folder changes nothing, and
/// the file's name in that folder.
fn find_replaced(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let (folder, name) = drainline::ingest::sink::File::find_folder(path)?;
    // A name that is too long, for example: the rename would fail when all is done.
    match rustix::fs::statat(&folder, &*name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    if let Ok(there) = rustix::fs::statat(&folder, &*name, AtFlags::empty()) {
        match FileType::from_raw_mode(there.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR.into()),
            _ => {
                let text = "not a regular file, and drainline would replace it";
                return Err(io::Error::other(text));
            }
        }
    }
    if asks_for_folder(path) {
        return Err(Errno::ISDIR.into());
    }
    check_folder(&folder)?;
    Ok((folder, name))
}

/// Whether a file that is written to `path` would replace `other`.
pub(crate) fn replaces(path: &Path, other: &Path) -> bool {
    resolve(path) == resolve(other)
}

/// Whether two paths name the same entry of the same folder, whatever it is or links to.
pub(crate) fn is_same_entry(one: &Path, other: &Path) -> bool {
    let ((one, name), (other, other_name)) = (split(one), split(other));
    let (name, other_name) = (Path::new(name), Path::new(other_name));
    let canonical = |folder: &Path| fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    // The names come first: each of many listeners is compared with each other.
    name == other_name && canonical(one) == canonical(other)
}

/// Writes a file that is whole whenever it exists: to a new file in the same folder, under a name
/// that nobody can guess (O_EXCL follows no link and waits for no FIFO), which is then renamed.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let (folder, name) = find_replaced(path)?;
    let new = format!(".drainline-{:016x}", RandomState::new().hash_one(path));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    // The umask takes its share.
    let file = rustix::fs::openat(&folder, &*new, flags, Mode::from_raw_mode(0o666))?;
    let written = fs::File::from(file)
        .write_all(text.as_bytes())
        .and_then(|()| Ok(rustix::fs::renameat(&folder, &*new, &folder, &*name)?));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&folder, &*new, AtFlags::empty());
    }
    written
}

/// Whether a path ends with a slash: open(2) then opens no file, whatever is there.
fn asks_for_folder(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// Whether a file of that name, which is not there, could be created.
fn check_new(path: &Path) -> io::Result<()> {
    let (folder, _) = split(path);
    if asks_for_folder(path) {
        fs::metadata(folder)?;
        return Err(Errno::ISDIR.into());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    check_folder(rustix::fs::open(folder, flags, Mode::empty())?)
}

/// Whether a file can be created in a folder. The folder's mode does not tell: there are read-only
/// file systems, and some in which not even root can. So an unnamed file is created (O_TMPFILE,
/// open(2)), or, where the file system has none, a file that is removed at once.
fn check_folder(folder: impl AsFd) -> io::Result<()> {
    let (flags, mode) = (OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    match rustix::fs::openat(&folder, c".", flags | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let name = format!(".drainline-check-{}", std::process::id());
            let flags = flags | OFlags::CREATE | OFlags::EXCL;
            rustix::fs::openat(&folder, &*name, flags, mode)?;
            Ok(rustix::fs::unlinkat(&folder, &*name, AtFlags::empty())?)
        }
        opened => opened.map(drop).map_err(io::Error::from),
    }
}

/// Where a symbolic link that leads to nothing would have a file created.
fn follow(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = split(&path).0.join(target),
            Err(_) => break,
        }
    }
    path
}

/// The canonical path of a file, as far as the path exists.
fn resolve(path: &Path) -> PathBuf {
    let path = follow(path);
    fs::canonicalize(&path).unwrap_or_else(|_| {
        let (folder, name) = split(&path);
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        folder.join(name)
    })
}

/// The folder as the kernel sees it, and the rest, which std would rid of its slash, or of `/.`.
fn split(path: &Path) -> (&Path, &OsStr) {
    let bytes = path.as_os_str().as_bytes();
    let named = bytes.iter().rposition(|&byte| byte != b'/').unwrap_or(0);
    let Some(slash) = bytes[..named].iter().rposition(|&byte| byte == b'/') else {
        return (Path::new("."), path.as_os_str());
    };
    let (folder, name) = bytes.split_at(slash + 1);
    (
        Path::new(OsStr::from_bytes(folder)),
        OsStr::from_bytes(name),
    )
}
