//! The way to a file, beside open(2).

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, lchown, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A directory with what may stand on a way, and the way to it.
fn tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("folder/inner")).expect("folders");
    fs::write(at("file"), "there").expect("a file");
    let links = [
        ("file", "to-file"),
        ("new", "to-new"),
        ("folder", "to-folder"),
        ("folder/", "to-folder-slash"),
        ("file/", "to-file-slash"),
        ("../../", "folder/inner/up"),
        ("./to-to-file", "self-through"),
        ("to-file", "to-to-file"),
        ("circle", "circle"),
        ("folder/../folder/inner/up/file", "around"),
        ("nowhere/file", "to-nowhere"),
        (".", "here"),
    ];
    for (target, name) in links {
        symlink(target, at(name)).expect("a link");
    }
    symlink(directory.path(), at("absolute")).expect("a link");
    // One more than are followed, and as many.
    for count in [MAX_LINKS, MAX_LINKS + 1] {
        let mut target = PathBuf::from("file");
        for nth in 1..=count {
            let name = format!("chain-{count}-{nth}");
            symlink(&target, at(&name)).expect("a link");
            target = name.into();
        }
    }
    directory
}

/// In what it says, what it opens and what it makes.
#[test]
fn it_opens_what_open_does() {
    let paths = [
        "file",
        "new",
        "to-file",
        "to-new",
        "to-folder/new",
        "to-folder-slash/new",
        "to-file-slash",
        "folder",
        "to-folder",
        "folder/",
        "new/",
        "to-new/",
        "file/",
        "file/new",
        "to-file/new",
        "folder/inner/up/file",
        "folder/inner/up/up/new",
        "self-through",
        "around",
        "circle",
        "circle/new",
        "to-nowhere",
        "nowhere/new",
        "here/here/file",
        "here",
        "absolute/absolute/file",
        "absolute/new",
        "./folder//inner/../../new",
        ".",
        "..",
        "folder/.",
        "folder/..",
        "chain-40-40",
        "chain-41-41",
        "folder/inner/up/folder/../file",
    ];
    for path in paths {
        let outcomes = [true, false].map(|is_walked| {
            let tree = tree();
            let path = format!("{}/{path}", tree.path().display());
            let flags = OFlags::WRONLY | OFlags::APPEND;
            let opened = if is_walked {
                let mode = Mode::from_raw_mode(0o640);
                open(Path::new(&path), flags | OFlags::CREATE, mode, false)
                    .map(|opened| opened.file)
            } else {
                let mut options = fs::OpenOptions::new();
                options.append(true).create(true).mode(0o640).open(&path)
            };
            let made = ["new", "folder/new", "nowhere"];
            let made =
                made.map(|name| fs::metadata(tree.path().join(name)).map(|it| it.ino()).ok());
            let inode = opened.as_ref().ok().and_then(|file| file.metadata().ok());
            let inode = inode.map(|metadata| metadata.ino());
            let which = (
                fs::metadata(tree.path().join("file"))
                    .ok()
                    .map(|it| it.ino())
                    == inode,
                made.map(|made| made.is_some() && made == inode),
            );
            (
                opened.map(drop).map_err(|error| error.raw_os_error()),
                which,
            )
        });
        assert_eq!(outcomes[0], outcomes[1], "{path}");
    }
}

#[test]
fn the_kernels_own_links_are_followed_and_a_path_of_nothing_is_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    let file = File::create(&path).expect("a file");
    for way in [
        format!("/proc/self/fd/{}", file.as_raw_fd()),
        format!("/dev/fd/{}", file.as_raw_fd()),
        format!("/proc/thread-self/root{}", path.display()),
    ] {
        let opened = open(Path::new(&way), OFlags::WRONLY, Mode::empty(), false);
        let inode = opened.expect(&way).file.metadata().expect("metadata").ino();
        assert_eq!(inode, file.metadata().expect("metadata").ino(), "{way}");
        assert!(check(Path::new(&way)).is_ok());
    }
    let nothing = open(Path::new(""), OFlags::WRONLY, Mode::empty(), false);
    let error = nothing.err().and_then(|error| error.raw_os_error());
    assert_eq!(error, Some(Errno::NOENT.raw_os_error()));
    let root = open(Path::new("/"), OFlags::WRONLY, Mode::empty(), false);
    let error = root.err().and_then(|error| error.raw_os_error());
    assert_eq!(error, Some(Errno::ISDIR.raw_os_error()));
}

/// Whoever may rename in a folder of the way: the file and a folder are exchanged for links while
/// the way is walked.
#[test]
fn a_link_that_is_put_there_in_any_moment_is_not_followed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    for (folder, link, target) in [
        ("folder", "link", "secret"),
        ("folder/inner", "inner-link", "../secret"),
    ] {
        fs::create_dir(at(folder)).expect("a folder");
        symlink(target, at("folder").join(link)).expect("a link");
        lchown(at("folder").join(link), Some(65534), None).expect("another's");
    }
    fs::create_dir(at("secret")).expect("a folder");
    let secrets = ["secret/file", "folder/secret"].map(at);
    for secret in &secrets {
        fs::write(secret, "").expect("a file");
    }
    fs::write(at("folder/file"), "").expect("a file");
    fs::write(at("folder/inner/file"), "").expect("a file");
    let secrets = secrets.map(|secret| fs::metadata(secret).expect("it is there").ino());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |one: &str, other: &str| {
                let (one, other) = (at(one), at(other));
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags)
            };
            while !is_over.load(Ordering::Relaxed) {
                exchange("folder/file", "folder/link").expect("an exchange");
                exchange("folder/inner", "folder/inner-link").expect("an exchange");
            }
        });
        let (mut opened, mut of_others) = (0, 0);
        for nth in 0..4000 {
            let path = at(["folder/file", "folder/inner/file"][nth % 2]);
            let flags = OFlags::WRONLY | OFlags::APPEND;
            if let Ok(it) = open(&path, flags, Mode::empty(), false) {
                opened += 1;
                let inode = it.file.metadata().expect("metadata").ino();
                of_others += usize::from(secrets.contains(&inode));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(of_others, 0);
        assert!(opened > 0);
    });
}
