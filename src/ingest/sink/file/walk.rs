//! Opening a file by its name without following a symbolic link that somebody else has put on the
//! way.
//!
//! The kernel's own protection (fs.protected_symlinks) may be off, and covers only sticky,
//! world-writable folders. So the path is walked here, a component at a time and each from the
//! folder that was opened before: no link can be put in place of a folder between the look at it
//! and its use.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;

/// How many symbolic links the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Flags of a descriptor to look at, or to go on from.
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const FOLDER: OFlags = LOOK.union(OFlags::DIRECTORY);

/// What was opened.
pub(super) struct Opened {
    pub(super) file: File,
    /// Where the file is; to look at, or to go on from.
    pub(super) folder: OwnedFd,
    /// The file's name there.
    pub(super) name: OsString,
    /// The file is in the root of a mount.
    pub(super) is_mounted: bool,
    /// The file was made.
    pub(super) is_made: bool,
}

/// Opens a file as open(2) does. A symbolic link on the way is followed if it belongs to this user,
/// to root or to the owner of the folder that it is in. The kernel's own links (/proc/self/fd/1)
/// are always followed: nobody else can make such a link.
///
/// Where `was_mounted` says that the file is to be in the root of a mount, and nothing is mounted
/// there, no file is made: the mount would hide it when it comes back. A file that is there already
/// was put there on purpose, and is opened.
///
/// # Errors
/// What open(2) says; for a link that is not followed, who owns the link.
pub(super) fn open(
    path: &Path,
    flags: OFlags,
    mode: Mode,
    was_mounted: bool,
) -> io::Result<Opened> {
    let mut walk = Walk::new(path)?;
    loop {
        let name = walk.go_to_last()?;
        let is_mounted = walk.is_at_mount();
        let is_missing = was_mounted && !is_mounted;
        let mut flags = flags | OFlags::CLOEXEC;
        flags.set(
            OFlags::CREATE,
            flags.contains(OFlags::CREATE) && !is_missing,
        );
        // A second try without O_EXCL, and with O_CREAT, whatever the first one said: the kernel
        // protects files of others in sticky folders by it (fs.protected_regular, proc_sys_fs(5)).
        let is_made = flags.contains(OFlags::CREATE).then(|| {
            let flags = flags | OFlags::EXCL | OFlags::NOFOLLOW;
            openat(&walk.folder, &*name, flags, mode)
        });
        if let Some(Ok(made)) = is_made {
            return Ok(Opened {
                file: made.into(),
                folder: walk.folder,
                name,
                is_mounted,
                is_made: true,
            });
        }
        let file = match openat(&walk.folder, &*name, flags | OFlags::NOFOLLOW, mode) {
            // Of another user's link in a sticky folder, /tmp first of all, the kernel says EACCES
            // where a file may be made.
            Err(error)
                if error == Errno::LOOP || (error == Errno::ACCESS && walk.is_at_link(&name)) =>
            {
                if walk.follow(&name)? == Link::IsFollowed {
                    continue;
                }
                openat(&walk.folder, &*name, flags, mode)?.into()
            }
            Err(Errno::NOENT) if is_missing => {
                let text = "its directory was a mount point, and nothing is mounted there";
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            opened => opened?.into(),
        };
        return Ok(Opened {
            file,
            folder: walk.folder,
            name,
            is_mounted,
            is_made: false,
        });
    }
}

/// The folder of a file, found as [`open`] finds it, and the file's name there, of which nothing is
/// known.
pub(super) fn find_folder(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let mut walk = Walk::new(path)?;
    let name = walk.go_to_last()?;
    Ok((walk.folder, name))
}

/// The folder and the name that a file is opened by, found as [`open`] finds it: no link any more,
/// if there is such a file.
pub(super) fn find_file(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let mut walk = Walk::new(path)?;
    loop {
        let name = walk.go_to_last()?;
        if !walk.is_at_link(&name) {
            return Ok((walk.folder, name));
        }
        if walk.follow(&name)? == Link::IsTheKernels {
            let text =
                "this is a link of the kernel's, not a name that can be given to another file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
}

/// Looks for a link on the way that [`open`] would not follow. Whatever else is wrong there is for
/// others to tell.
pub(super) fn check(path: &Path) -> io::Result<()> {
    let outcome = Walk::new(path).and_then(|mut walk| {
        loop {
            let name = walk.go_to_last()?;
            if !walk.is_at_link(&name) || walk.follow(&name)? == Link::IsTheKernels {
                return Ok(());
            }
        }
    });
    match outcome {
        Err(error)
            if error
                .get_ref()
                .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Foreign>) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Why a link is not followed.
#[derive(Debug)]
struct Foreign {
    name: OsString,
    owner: u32,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, owner) = (self.name.display(), self.owner);
        write!(
            f,
            "the symbolic link {name} belongs to user {owner}, who is neither this one, root nor the owner of its directory: it is not followed"
        )
    }
}

impl std::error::Error for Foreign {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The link's target is on the way now.
    IsFollowed,
    /// The link is in /proc, and its target need not have a name.
    IsTheKernels,
}

struct Walk {
    /// Where the walk has come to.
    folder: OwnedFd,
    /// What is still to be walked, the next component last.
    rest: Vec<OsString>,
    links: usize,
}

impl Walk {
    fn new(path: &Path) -> io::Result<Walk> {
        let mut walk = Walk {
            folder: open_at_start(path.as_os_str())?,
            rest: Vec::new(),
            links: 0,
        };
        walk.push(path.as_os_str());
        Ok(walk)
    }

    /// Puts a path before what is left. Of its last component a slash is kept: open(2) takes that
    /// for no file.
    fn push(&mut self, path: &OsStr) {
        let is_folder = path.as_bytes().ends_with(b"/") && self.rest.is_empty();
        let names = path.as_bytes().split(|&byte| byte == b'/');
        let names = names.filter(|name| !name.is_empty()).rev();
        let from = self.rest.len();
        self.rest
            .extend(names.map(|name| OsString::from_vec(name.to_vec())));
        if is_folder && let Some(last) = self.rest.get_mut(from) {
            last.push("/");
        }
    }

    /// Goes to the folder of the last component, which it returns.
    fn go_to_last(&mut self) -> io::Result<OsString> {
        loop {
            let Some(name) = self.rest.pop() else {
                // `/` itself, or nothing.
                return Ok(OsString::from("."));
            };
            if self.rest.is_empty() {
                return Ok(name);
            }
            match openat(
                &self.folder,
                &*name,
                FOLDER | OFlags::NOFOLLOW,
                Mode::empty(),
            ) {
                Ok(folder) => self.folder = folder,
                // Not a folder: a link, perhaps.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    if self.follow(&name)? == Link::IsTheKernels {
                        self.folder = openat(&self.folder, &*name, FOLDER, Mode::empty())?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the walk stands in the root of another file system than the folder above has.
    fn is_at_mount(&self) -> bool {
        let above = statat(&self.folder, c"..", AtFlags::empty());
        matches!((fstat(&self.folder), above), (Ok(here), Ok(above)) if here.st_dev != above.st_dev)
    }

    fn look(&self, name: &OsStr) -> io::Result<OwnedFd> {
        Ok(openat(
            &self.folder,
            name,
            LOOK | OFlags::NOFOLLOW,
            Mode::empty(),
        )?)
    }

    fn is_at_link(&self, name: &OsStr) -> bool {
        self.look(name).is_ok_and(|found| is_link(&found))
    }

    /// Reads a link and puts what it leads to on the way.
    fn follow(&mut self, name: &OsStr) -> io::Result<Link> {
        let link = self.look(name)?;
        if !is_link(&link) {
            return Err(Errno::NOTDIR.into());
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        if fstatfs(&link)?.f_type == PROC_SUPER_MAGIC {
            return Ok(Link::IsTheKernels);
        }
        let owner = fstat(&link)?.st_uid;
        let trusted = [
            rustix::process::geteuid().as_raw(),
            0,
            fstat(&self.folder)?.st_uid,
        ];
        if !trusted.contains(&owner) {
            let name = name.to_owned();
            let foreign = Foreign { name, owner };
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, foreign));
        }
        let target = OsString::from_vec(readlinkat(&link, c"", Vec::new())?.into_bytes());
        // Two descriptors at a time are counted.
        drop(link);
        if target.as_bytes().starts_with(b"/") {
            self.folder = open_at_start(&target)?;
        }
        self.push(&target);
        Ok(Link::IsFollowed)
    }
}

fn open_at_start(path: &OsStr) -> io::Result<OwnedFd> {
    let start = match path.as_bytes().first() {
        None => return Err(Errno::NOENT.into()),
        Some(b'/') => "/",
        Some(_) => ".",
    };
    Ok(rustix::fs::open(start, FOLDER, Mode::empty())?)
}

fn is_link(found: impl AsFd) -> bool {
    fstat(found).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests;
