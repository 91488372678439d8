//! A file that is renamed, deleted, truncated, or dead, with and without a request to reopen it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::fifo;
use crate::common::guard::Guarded;
use crate::common::mount::{MountPoint, attempt};
use crate::common::root::is_root;
use crate::common::wait::{DEADLINE, wait_until};
use rustix::process::{Resource, Signal};
use tempfile::TempDir;

/// What the log says of a file that was opened by its name although nobody had asked for it.
const BY_NAME: &str = "nobody asked for a reopen";
const FAILED: &str = "goes on as it was: reopening failed";
const AT_LAST: &str = "was reopened at last";
/// So long a file that was moved away is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(10);
const LONGER: Duration = Duration::from_secs(13);
/// A reopen that failed is tried every second.
const SOME_TRIES: Duration = Duration::from_millis(2500);

/// A server, and the file that it began with, held so that it can be read whatever becomes of its
/// name.
struct Case {
    server: Drainline,
    client: TcpStream,
    path: PathBuf,
    renamed: PathBuf,
    first: File,
    _directory: TempDir,
}

impl Case {
    #[track_caller]
    fn start() -> Case {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("log");
        let server = Drainline::start(&["--sink", &format!("file:{}", path.display())]);
        let mut case = Case {
            client: server.connect(),
            server,
            first: File::open(&path).unwrap(),
            renamed: folder.join("log.1"),
            path,
            _directory: directory,
        };
        case.send("first\n");
        case.wait_until_first_holds("first\n");
        case
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap()
    }

    #[track_caller]
    fn send(&mut self, line: &str) {
        self.client.write_all(line.as_bytes()).unwrap();
    }

    #[track_caller]
    fn wait_until_first_holds(&self, expected: &str) {
        wait_until(expected, DEADLINE, || {
            let mut bytes = vec![0; expected.len() + 1];
            let len = self.first.read_at(&mut bytes, 0).unwrap();
            bytes[..len] == *expected.as_bytes()
        });
    }

    #[track_caller]
    fn wait_until_holds(&self, expected: &str) {
        wait_until(expected, DEADLINE, || {
            fs::read(&self.path).is_ok_and(|bytes| bytes == expected.as_bytes())
        });
    }

    #[track_caller]
    fn wait_until_logged(&self, text: &str) {
        let logged = || self.server.stderr_text().contains(text);
        wait_until(text, DEADLINE, logged);
    }

    #[track_caller]
    fn end(mut self) -> Exit {
        client::half_close(self.client);
        let exit = self.server.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        exit
    }
}

/// Whoever sends one a millisecond gets no line for each.
#[test]
fn hangups_that_follow_each_other_all_reopen_and_are_logged_once_with_their_count() {
    const HANGUPS: usize = 6;
    let mut case = Case::start();
    for _ in 0..HANGUPS {
        fs::rename(&case.path, &case.renamed).unwrap();
        case.server.signal(Signal::HUP);
        wait_until("the new file", DEADLINE, || case.path.exists());
    }
    let exit = case.end();
    let others = HANGUPS - 1;
    for (text, reason) in [
        ("SIGHUP: reopening the file", "SIGHUP"),
        ("was reopened", "reopened"),
    ] {
        assert_eq!(exit.stderr.matches(text).count(), 1, "{exit}");
        let told = format!("suppressed {others} similar messages: {reason}\n");
        assert!(exit.stderr.contains(&told), "{told:?}: {exit}");
    }
}

#[test]
fn a_hangup_reopens_a_renamed_file_even_when_nothing_flows() {
    let mut case = Case::start();
    fs::rename(&case.path, &case.renamed).unwrap();
    case.server.signal(Signal::HUP);
    wait_until("the new file", DEADLINE, || case.path.exists());
    case.send("after\n");
    case.wait_until_holds("after\n");
    case.wait_until_first_holds("first\n");
    let exit = case.end();
    assert_eq!(exit.u64("failed_reopens"), 0);
    assert!(!exit.stderr.contains(BY_NAME), "{exit}");
}

#[test]
fn a_reopen_that_fails_keeps_the_old_file_is_counted_and_tried_again_until_it_is_done() {
    let mut case = Case::start();
    fs::rename(&case.path, &case.renamed).unwrap();
    fs::create_dir(&case.path).unwrap();
    case.server.signal(Signal::HUP);
    case.wait_until_logged(FAILED);
    case.send("still here\n");
    case.wait_until_first_holds("first\nstill here\n");
    fs::remove_dir(&case.path).unwrap();
    case.wait_until_logged(AT_LAST);
    case.send("and there\n");
    case.wait_until_holds("and there\n");
    let exit = case.end();
    // Once, however often it was tried.
    assert_eq!(exit.u64("failed_reopens"), 1, "{exit}");
    assert_eq!(exit.stderr.matches(AT_LAST).count(), 1, "{exit}");
    assert_eq!(exit.u64("unlinked_messages"), 0, "{exit}");
}

#[test]
fn what_goes_to_a_deleted_file_is_counted_and_a_folder_that_is_back_gets_the_rest() {
    let mut case = Case::start();
    fs::remove_dir_all(case.folder()).unwrap();
    case.server.signal(Signal::HUP);
    case.wait_until_logged(FAILED);
    // It notices by itself, whether something comes or not.
    case.send("to nowhere\n");
    case.wait_until_logged("messages went to it since");
    fs::create_dir(case.folder()).unwrap();
    case.wait_until_logged(AT_LAST);
    case.send("to the file\n");
    case.wait_until_holds("to the file\n");
    case.wait_until_first_holds("first\nto nowhere\n");
    let exit = case.end();
    // The first, too, if it was written in the second of the deletion.
    let unlinked = exit.u64("unlinked_messages");
    assert!((1..=2).contains(&unlinked), "{exit}");
}

/// The last look is the last thing that is done.
#[test]
fn what_went_to_a_file_that_was_deleted_a_moment_before_the_end_is_counted() {
    let mut case = Case::start();
    fs::remove_file(&case.path).unwrap();
    case.send("to nowhere\n");
    case.wait_until_first_holds("first\nto nowhere\n");
    let exit = case.end();
    assert!(exit.u64("unlinked_messages") >= 1, "{exit}");
    assert!(
        exit.stderr.contains("was deleted while it was written to"),
        "{exit}"
    );
}

/// A rotation that renames before its HUP has 10 s for that.
#[test]
fn a_renamed_file_is_left_alone_for_a_while_and_then_opened_by_its_name() {
    let mut case = Case::start();
    fs::rename(&case.path, &case.renamed).unwrap();
    // Others may put a new one there (logrotate's create), which changes nothing.
    thread::sleep(LEFT_ALONE / 4);
    fs::write(&case.path, "new\n").unwrap();
    case.send("to the old one\n");
    case.wait_until_first_holds("first\nto the old one\n");
    assert_eq!(fs::read(&case.path).unwrap(), b"new\n");
    case.wait_until_logged(BY_NAME);
    case.send("to the new one\n");
    case.wait_until_holds("new\nto the new one\n");
    let exit = case.end();
    assert_eq!(exit.stderr.matches(BY_NAME).count(), 1, "{exit}");
    // It has a name all the time.
    assert_eq!(exit.u64("unlinked_messages"), 0, "{exit}");
}

#[test]
fn a_deleted_file_is_made_again_without_a_hangup() {
    let mut case = Case::start();
    fs::remove_file(&case.path).unwrap();
    case.wait_until_logged(BY_NAME);
    case.send("after\n");
    case.wait_until_holds("after\n");
    case.end();
}

/// Where its rest has no space the whole message goes to the file that has the name now.
#[test]
fn a_full_file_that_is_moved_away_gets_no_more() {
    let mut case = Case::start();
    case.server.limit(Resource::Fsize, Some(10));
    case.send("second\nthird\n");
    case.wait_until_first_holds("first\nseco");
    fs::rename(&case.path, &case.renamed).unwrap();
    case.wait_until_logged(BY_NAME);
    case.server.limit(Resource::Fsize, None);
    case.wait_until_holds("second\nthird\n");
    case.wait_until_first_holds("first\nseco");
    case.end();
}

#[test]
fn a_file_that_is_copied_and_truncated_is_written_to_from_its_beginning() {
    let mut case = Case::start();
    fs::copy(&case.path, &case.renamed).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&case.path)
        .unwrap()
        .set_len(0)
        .unwrap();
    case.send("after\n");
    case.wait_until_holds("after\n");
    thread::sleep(LONGER);
    case.send("and on\n");
    case.wait_until_holds("after\nand on\n");
    let exit = case.end();
    assert!(!exit.stderr.contains(BY_NAME), "{exit}");
}

/// What has no file of its own by that name, or leads to one, is what it was.
#[test]
fn links_devices_and_fifos_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("target"), "").unwrap();
    symlink("target", at("link")).unwrap();
    fifo::make(at("fifo"));
    let open = |path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    };
    let _held = open(at("fifo"));
    let paths = [
        at("link"),
        at("fifo"),
        "/dev/null".into(),
        "/dev/full".into(),
        "/dev/stdout".into(),
    ];
    let start = |path: &PathBuf| Drainline::start(&["--sink", &format!("file:{}", path.display())]);
    let mut servers: Vec<Drainline> = paths.iter().map(start).collect();
    // A FIFO that was moved away has its reader still.
    fs::rename(at("fifo"), at("moved")).unwrap();
    let mut client = servers[0].connect();
    thread::sleep(LONGER);
    client.write_all(b"through the link\n").unwrap();
    client::half_close(client);
    for server in &mut servers {
        let exit = server.terminate();
        exit.assert_code(0);
        for told in ["WARN", "ERROR"] {
            assert!(!exit.stderr.contains(told), "{exit}");
        }
    }
    assert_eq!(fs::read(at("target")).unwrap(), b"through the link\n");
    assert!(at("link").is_symlink() && !at("fifo").exists());
}

/// As where a mount died and came back: the descriptor is dead, the name leads to what lives. Here
/// it is another process's file, which takes nothing when that process has ended.
#[test]
fn a_dead_descriptor_is_given_up_for_what_has_the_name_now() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let process = Command::new("sleep")
        .arg("1000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut process = Guarded(process);
    symlink(format!("/proc/{}/oom_score_adj", process.pid()), at("link")).unwrap();
    let mut server = Drainline::start(&["--sink", &format!("file:{}", at("link").display())]);
    let mut client = server.connect();
    client.write_all(b"900\n").unwrap();
    let adjusted = || fs::read(at("link")).unwrap() == b"900\n";
    wait_until("a living file", DEADLINE, adjusted);
    process.signal(Signal::KILL);
    process.wait(DEADLINE);
    client.write_all(b"901\n").unwrap();
    wait_until("a dead file", DEADLINE, || {
        server.stderr_text().contains("No such process")
    });
    fs::write(at("target"), "").unwrap();
    symlink("target", at("new")).unwrap();
    fs::rename(at("new"), at("link")).unwrap();
    wait_until("a living file", DEADLINE, || {
        fs::read(at("target")).unwrap() == b"901\n"
    });
    client::half_close(client);
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert!(
        exit.stderr.contains("was opened anew, since it had failed"),
        "{exit}"
    );
    assert!(!exit.stderr.contains(BY_NAME), "{exit}");
}

/// What the log says of a directory that is not what it was.
const NO_MOUNT: &str = "its directory was a mount point, and nothing is mounted there";

/// It would be hidden when the mount comes back. The descriptor lives on until it does.
#[test]
fn no_file_is_made_where_a_mount_is_missing() {
    let mounted = MountPoint::new();
    if !mounted.tmpfs() {
        return;
    }
    let path = mounted.join("log");
    let mut server = Drainline::start(&["--sink", &format!("file:{}", path.display())]);
    let mut client = server.connect();
    let first = File::open(&path).unwrap();
    assert!(mounted.unmount(true));
    wait_until("the missing mount told", DEADLINE, || {
        server.stderr_text().contains(NO_MOUNT)
    });
    server.signal(Signal::HUP);
    wait_until("the failed reopen told", DEADLINE, || {
        server.stderr_text().contains(FAILED)
    });
    assert!(!path.exists());
    client.write_all(b"one\n").unwrap();
    wait_until("the old file", DEADLINE, || {
        first.metadata().unwrap().len() == 4
    });
    assert!(mounted.tmpfs());
    wait_until("the reopen", DEADLINE, || {
        server.stderr_text().contains(AT_LAST)
    });
    client.write_all(b"two\n").unwrap();
    client::half_close(client);
    server.terminate().assert_code(0);
    assert_eq!(fs::read(&path).unwrap(), b"two\n");
}

/// A dead file is no reason that its mount cannot be taken away, and brings nothing but errors to
/// whoever holds it.
#[test]
fn a_file_whose_mount_died_and_came_back_gets_what_was_held_up_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let mounted = MountPoint::new();
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    if !attempt(Command::new("mkfs.ext4").arg("-q").arg(&image)) || !mounted.ext4(&image) {
        return;
    }
    let path = mounted.join("log");
    fs::write(&path, "before\n").unwrap();
    // On the disk, before there is none.
    File::open(&path).unwrap().sync_all().unwrap();
    let mut server = Drainline::start(&["--sink", &format!("file:{}", path.display())]);
    let mut client = server.connect();
    let device = rustix::fs::stat(mounted.path()).unwrap().st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap();
    let trigger = Path::new("/sys/fs/ext4")
        .join(device.file_name().unwrap())
        .join("trigger_fs_error");
    if let Err(error) = fs::write(&trigger, "1") {
        eprintln!("left out: {}: {error}", trigger.display());
        return;
    }
    client.write_all(b"held up\n").unwrap();
    wait_until("the failure told", DEADLINE, || {
        server.stderr_text().contains("; trying again in ")
    });
    wait_until("a mount that nobody holds", DEADLINE, || {
        mounted.unmount(false)
    });
    assert!(!path.exists());
    assert!(mounted.ext4(&image));
    wait_until("what was held up", DEADLINE, || {
        fs::read(&path).is_ok_and(|bytes| bytes == b"before\nheld up\n")
    });
    client::half_close(client);
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("delivered"), 1, "{exit}");
    assert!(
        exit.stderr.contains("was opened anew, since it had failed"),
        "{exit}"
    );
}

const NOBODY: u32 = 65534;
const SOMEBODY: u32 = 65533;
const NOT_FOLLOWED: &str = "it is not followed";

fn link(target: impl AsRef<Path>, at: &Path, owner: u32) {
    symlink(target, at).unwrap();
    lchown(at, Some(owner), Some(owner)).unwrap();
}

/// By its owner: ours, root's, and that of the directory's owner are followed, whatever the
/// kernel's own protection says.
#[test]
fn a_link_of_somebody_else_is_not_followed_at_start_and_not_by_check() {
    if !is_root("make another user's link") {
        return;
    }
    // Who owns the directory, the link, and runs the program, and whether it is followed.
    let cases = [
        (0, 0, 0, true),
        (0, NOBODY, 0, false),
        (NOBODY, NOBODY, 0, true),
        (NOBODY, SOMEBODY, 0, false),
        (NOBODY, 0, 0, true),
        (0, 0, NOBODY, true),
        (0, NOBODY, NOBODY, true),
        (0, SOMEBODY, NOBODY, false),
        (SOMEBODY, SOMEBODY, NOBODY, true),
        (SOMEBODY, 0, NOBODY, true),
    ];
    // As /tmp is, and as it is not: in a sticky one the kernel has a word, too, and other errors.
    let cases = [0o777, 0o1777]
        .into_iter()
        .flat_map(|mode| cases.map(|case| (mode, case)));
    for (mode, (folder, owner, user, is_followed)) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (to, shared) = (directory.path().join("to"), directory.path().join("shared"));
        for made in [&to, &shared] {
            fs::create_dir(made).unwrap();
            fs::set_permissions(made, fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
        chown(&shared, Some(folder), None).unwrap();
        // The file itself, one that leads on to such a one, and a folder on the way.
        link(to.join("first"), &shared.join("first"), owner);
        link("../to/second", &shared.join("leading"), owner);
        symlink("leading", shared.join("second")).unwrap();
        link(&to, &shared.join("folder"), owner);
        for (sink, made) in [
            ("first", "first"),
            ("second", "second"),
            ("folder/third", "third"),
        ] {
            let sink = format!("file:{}", shared.join(sink).display());
            let what = format!("{sink} of {folder}, {owner}, by {user}, {mode:o}");
            let args = ["--sink", &sink];
            let mut check = Drainline::with(&["--sink", &sink, "--check"])
                .uid(user)
                .spawn();
            let checked = check.wait();
            assert!(!to.join(made).exists(), "{what}: {checked}");
            if is_followed {
                checked.assert_code(0);
                Drainline::with(&args)
                    .uid(user)
                    .start()
                    .terminate()
                    .assert_code(0);
                assert!(to.join(made).exists(), "{what}");
                continue;
            }
            let exit = Drainline::with(&args).uid(user).spawn().wait();
            for exit in [checked, exit] {
                exit.assert_code(1);
                assert!(exit.stderr.contains(NOT_FOLLOWED), "{what}: {exit}");
                assert!(
                    exit.stderr.contains(&format!("user {owner},")),
                    "{what}: {exit}"
                );
            }
            assert!(!to.join(made).exists(), "{what}");
        }
    }
}

#[test]
fn a_link_that_somebody_else_puts_there_is_not_followed_at_a_reopen() {
    if !is_root("make another user's link") {
        return;
    }
    let mut case = Case::start();
    let target = case.folder().join("target");
    fs::rename(&case.path, &case.renamed).unwrap();
    link(&target, &case.path, NOBODY);
    case.server.signal(Signal::HUP);
    case.wait_until_logged(NOT_FOLLOWED);
    case.send("still here\n");
    case.wait_until_first_holds("first\nstill here\n");
    assert!(!target.exists());
    // A file that is there is not written to either.
    fs::write(&target, "").unwrap();
    thread::sleep(SOME_TRIES);
    fs::remove_file(&case.path).unwrap();
    case.wait_until_logged(AT_LAST);
    case.send("and there\n");
    case.wait_until_holds("and there\n");
    assert_eq!(fs::read(&target).unwrap(), b"");
    case.end();
}

#[test]
fn links_that_lead_in_a_circle_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    symlink("two", at("one")).unwrap();
    symlink("one", at("two")).unwrap();
    for path in [at("one"), at("one").join("log")] {
        let sink = format!("file:{}", path.display());
        for more in [&[][..], &["--check"]] {
            let exit = Drainline::with(&[&["--sink", &sink], more].concat())
                .spawn()
                .wait();
            exit.assert_code(1);
            assert!(exit.stderr.contains("symbolic links"), "{exit}");
        }
    }
}
