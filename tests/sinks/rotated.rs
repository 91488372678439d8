//! A file that drainline rotates itself: each message is once, whole and in order in the old files
//! and the new one, whatever else happens to them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::common::checker::Checker;
use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::root::is_root;
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};
use drainline::ingest::sink::{File, FileOptions, Fsync};
use drainline::{Report, Server};

pub(crate) const SIZE: usize = 120;
pub(crate) const SMALL: u64 = 8 << 10;

pub(crate) struct Case {
    pub(crate) server: Server,
    pub(crate) path: PathBuf,
}

impl Case {
    #[track_caller]
    pub(crate) fn start(path: PathBuf, options: FileOptions) -> Case {
        let server = small::ingest()
            .listen("127.0.0.1:0".parse().unwrap())
            .start(options.open(&path).unwrap())
            .unwrap();
        Case { server, path }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        client::connect(self.server.local_addrs()[0])
    }

    pub(crate) fn old(&self) -> Vec<PathBuf> {
        old(&self.path)
    }

    /// Sends messages and waits until they are delivered.
    pub(crate) fn deliver(&self, connection: u32, range: Range<u64>) {
        let before = self.server.stats().delivered;
        let count = range.end - range.start;
        let mut stream = self.connect();
        send(&mut stream, connection, range, Cut::Blocks);
        drop(stream);
        wait_until("delivered", DEADLINE, || {
            self.server.stats().delivered == before + count
        });
    }

    #[track_caller]
    pub(crate) fn end(self) -> Report {
        let report = self.server.shutdown(DEADLINE);
        assert_both_close(&report);
        assert_eq!(report.sink.unlinked_messages, 0);
        report
    }
}

pub(crate) fn send(to: &mut TcpStream, connection: u32, range: Range<u64>, cut: Cut) {
    let _all = Tagged::new(connection).send(to, range, SIZE, cut).all();
}

/// The old files of a path, by name.
pub(crate) fn old(path: &Path) -> Vec<PathBuf> {
    let mut begin = path.file_name().unwrap().to_owned();
    begin.push("-");
    let begin = begin.into_string().unwrap();
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut old: Vec<_> = names
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&begin)
        })
        .collect();
    old.sort();
    old
}

/// What is in the old files and the new one, in that order. None is torn.
#[track_caller]
pub(crate) fn whole(path: &Path) -> Vec<u8> {
    let mut whole = Vec::new();
    for path in old(path).iter().chain([&path.to_owned()]) {
        let bytes = fs::read(path).unwrap();
        assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "{path:?}");
        whole.extend(bytes);
    }
    whole
}

#[test]
fn a_file_never_grows_beyond_its_size_and_every_message_is_whole_in_one_of_them() {
    for fsync in [
        Fsync::Off,
        Fsync::Batch,
        Fsync::Interval(Duration::from_millis(100)),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let options = File::options().rotate_size(SMALL).fsync(fsync);
        let case = Case::start(path.clone(), options);
        const MESSAGES: u64 = 500;
        thread::scope(|scope| {
            for connection in 0..4 {
                let mut stream = case.connect();
                scope.spawn(move || {
                    let cut = Cut::Random {
                        seed: u64::from(connection),
                        most: 3000,
                    };
                    send(&mut stream, connection, 0..MESSAGES, cut);
                });
            }
        });
        case.end();
        let all = whole(&path);
        let sent: Vec<_> = (0..4).map(|connection| (connection, MESSAGES)).collect();
        Checker::read(&all).expect_exact(&sent);
        let sizes: Vec<_> = old(&path)
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .collect();
        // As full as whole messages make them, of which the longest have SIZE bytes and an LF.
        let longest = SIZE as u64 + 1;
        let is_full = |&size: &u64| size <= SMALL && size + longest > SMALL;
        assert!(sizes.iter().all(is_full), "{sizes:?}");
        assert!(sizes.len() as u64 >= all.len() as u64 / SMALL, "{sizes:?}");
    }
}

#[test]
fn a_file_may_be_full_to_the_byte_and_a_message_that_would_pass_that_is_in_the_next_one() {
    const LINE: usize = 1024;
    let line = |letter: &str, len: usize| letter.repeat(len - 1) + "\n";
    let quarter = |letter| line(letter, LINE);
    for (lines, held) in [
        // The second file is full, too, and there is no third one before a message needs it.
        (
            ["a", "b", "c", "d", "e", "f", "g", "h"]
                .map(quarter)
                .to_vec(),
            vec![4, 4],
        ),
        (
            vec![
                quarter("a"),
                quarter("b"),
                quarter("c"),
                line("d", LINE + 1),
            ],
            vec![3, 1],
        ),
        (
            vec![line("a", 4 * LINE - 2), line("b", 2), line("c", 2)],
            vec![2, 1],
        ),
    ] {
        // In one batch, and in one each.
        for at_once in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("messages");
            let case = Case::start(path.clone(), File::options().rotate_size(4 * LINE as u64));
            let mut stream = case.connect();
            let pieces = match at_once {
                true => vec![lines.concat()],
                false => lines.clone(),
            };
            let mut sent = 0;
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
                sent += piece.matches('\n').count() as u64;
                wait_until("delivered", DEADLINE, || {
                    case.server.stats().delivered == sent
                });
            }
            drop(stream);
            case.end();
            let files = [old(&path), vec![path]].concat();
            let mut rest = &lines[..];
            for (file, count) in files.iter().zip(&held) {
                let (these, others) = rest.split_at(*count);
                assert_eq!(
                    fs::read_to_string(file).unwrap(),
                    these.concat(),
                    "{file:?}"
                );
                rest = others;
            }
            assert_eq!(files.len(), held.len(), "{files:?}");
        }
    }
}

#[test]
fn a_message_that_is_longer_than_the_file_may_be_has_a_file_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let case = Case::start(path.clone(), File::options().rotate_size(4096));
    let lines = [
        format!("{}\n", "a".repeat(10_000)),
        "b\n".to_owned(),
        format!("{}\n", "c".repeat(5000)),
        "d\ne\n".to_owned(),
    ];
    case.connect().write_all(lines.concat().as_bytes()).unwrap();
    wait_until("all", DEADLINE, || case.server.stats().delivered == 5);
    case.end();
    let held: Vec<_> = old(&path)
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(held, lines[..3]);
    assert_eq!(fs::read_to_string(&path).unwrap(), lines[3]);
}

#[test]
fn of_the_old_ones_the_newest_stay_and_files_of_other_names_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let others = [
        "messages-20200101",
        "messages-20200101T000000.000Z.txt",
        "messages-20200230T000000.000Z",
        "messages2-20200101T000000.000Z",
    ];
    for other in others {
        fs::write(directory.path().join(other), "kept").unwrap();
    }
    let ours = directory.path().join("messages-20200101T000000.000Z");
    fs::write(&ours, "an old one\n").unwrap();
    let case = Case::start(path.clone(), File::options().rotate_size(SMALL).keep(3));
    case.deliver(0, 0..1000);
    case.end();
    for other in others {
        assert!(directory.path().join(other).exists(), "{other}");
    }
    assert!(!ours.exists());
    let old = old(&path);
    let old: Vec<_> = old
        .iter()
        .filter(|path| !others.iter().any(|other| path.ends_with(other)))
        .collect();
    assert_eq!(old.len(), 3);
    // What is left is the end of what was sent.
    let mut held: Vec<u8> = old
        .iter()
        .flat_map(|path| fs::read(path).unwrap())
        .collect();
    held.extend(fs::read(&path).unwrap());
    let all = Tagged::new(0).lines(0..1000, SIZE);
    assert!(all.ends_with(&held));
}

/// The clock was ahead once, and somebody has taken names: nothing is replaced, and order is kept.
#[test]
fn names_go_on_behind_the_newest_one_and_replace_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let newest = directory.path().join("messages-99981231T235959.998Z");
    fs::write(&newest, "somebody's\n").unwrap();
    let case = Case::start(path.clone(), File::options().rotate_size(SMALL));
    case.deliver(0, 0..200);
    case.end();
    assert_eq!(fs::read(&newest).unwrap(), b"somebody's\n");
    let old = old(&path);
    assert!(old.len() > 2, "{old:?}");
    assert!(old[1].ends_with("messages-99981231T235959.999Z"), "{old:?}");
    assert!(old[2].ends_with("messages-99990101T000000.000Z"), "{old:?}");
    Checker::read(&whole(&path)[11..]).expect_exact(&[(0, 200)]);
}

#[test]
fn by_time_a_file_is_rotated_also_while_nothing_flows_and_an_empty_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let every = Duration::from_secs(1);
    let case = Case::start(path.clone(), File::options().rotate_every(every));
    case.deliver(0, 0..1);
    wait_until("rotated", DEADLINE, || case.old().len() == 1);
    thread::sleep(3 * every);
    assert_eq!(case.old().len(), 1);
    case.deliver(0, 1..2);
    wait_until("rotated again", DEADLINE, || case.old().len() == 2);
    case.end();
    Checker::read(&whole(&path)).expect_exact(&[(0, 2)]);
}

#[test]
fn after_a_restart_in_another_period_the_file_is_rotated_before_it_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let day = Duration::from_secs(24 * 3600);
    let options = File::options().rotate_every(day);
    fs::write(&path, "of today\n").unwrap();
    let case = Case::start(path.clone(), options.clone());
    case.deliver(0, 0..1);
    case.end();
    // Unless midnight was in between.
    assert!(old(&path).is_empty());
    let file = OpenOptions::new().append(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - day).unwrap();
    drop(file);
    let before = fs::read(&path).unwrap();
    let case = Case::start(path.clone(), options);
    case.deliver(0, 1..2);
    case.end();
    assert_eq!(fs::read(&old(&path)[0]).unwrap(), before);
    assert_eq!(fs::read(&path).unwrap(), Tagged::new(0).lines(1..2, SIZE));
}

#[test]
fn where_the_path_is_a_link_the_link_stays_and_old_files_are_beside_what_it_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (
        directory.path().join("here"),
        directory.path().join("there"),
    );
    fs::create_dir(&here).unwrap();
    fs::create_dir(&there).unwrap();
    symlink("../there/real", here.join("link")).unwrap();
    let case = Case::start(here.join("link"), File::options().rotate_size(SMALL));
    case.deliver(0, 0..300);
    case.end();
    assert!(old(&here.join("link")).is_empty());
    assert!(here.join("link").is_symlink());
    assert!(old(&there.join("real")).len() > 2);
    Checker::read(&whole(&there.join("real"))).expect_exact(&[(0, 300)]);
}

/// As logrotate does with `create`: the file that the name leads to is another one then.
#[test]
fn a_file_that_somebody_else_has_put_there_is_opened_and_not_renamed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let case = Case::start(path.clone(), File::options().rotate_size(SMALL));
    case.deliver(0, 0..50);
    let moved = directory.path().join("messages.1");
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "").unwrap();
    // What fits goes to the moved one, and the first message that does not to the new one.
    case.deliver(0, 50..100);
    case.end();
    assert!(old(&path).is_empty());
    let mut all = fs::read(&moved).unwrap();
    let more = fs::read(&path).unwrap();
    assert!(!more.is_empty());
    all.extend(more);
    Checker::read(&all).expect_exact(&[(0, 100)]);
}

/// `copytruncate`: what counts is what is in the file now.
#[test]
fn a_file_that_was_truncated_is_not_rotated_for_what_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let case = Case::start(path.clone(), File::options().rotate_size(SMALL));
    let mut copies = Vec::new();
    for nth in 0..5 {
        case.deliver(0, nth * 50..nth * 50 + 50);
        copies.extend(fs::read(&path).unwrap());
        fs::File::create(&path).unwrap();
    }
    case.end();
    assert!(old(&path).is_empty());
    Checker::read(&copies).expect_exact(&[(0, 250)]);
}

#[test]
fn what_cannot_be_rotated_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let rotated = || File::options().rotate_size(SMALL);
    let long = directory.path().join("m".repeat(230));
    for (options, path, expected) in [
        (File::options().keep(3), &path, "say a size or a time, too"),
        (File::options().rotate_size(4095), &path, "is from 4096 to"),
        (
            File::options().rotate_every(Duration::from_millis(999)),
            &path,
            "is from 1s to 31622400s",
        ),
        (File::options().mode(0o1000), &path, "from 0 to 0o777"),
        (
            File::options().owner(Some(u32::MAX), None),
            &path,
            "the id of no user",
        ),
        (rotated().keep(0), &path, "is from 1 to 100000"),
        (
            rotated(),
            &PathBuf::from("/dev/null"),
            "no regular file, which rotation needs",
        ),
        (rotated(), &long, "has at most"),
    ] {
        let error = options.open(path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// What was there keeps what it had.
#[test]
fn files_that_are_made_get_the_mode_and_the_owner_that_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let is_root = is_root("give files away");
    let owner = |uid, gid| match is_root {
        true => (uid, gid),
        false => (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
    };
    let (uid, gid) = owner(12_345, 23_456);
    // More than a umask lets through.
    let options = File::options()
        .rotate_size(SMALL)
        .mode(0o626)
        .owner(Some(uid), Some(gid));
    let path = directory.path().join("messages");
    fs::write(&path, "").unwrap();
    let of = |path: &Path| {
        let is = fs::metadata(path).unwrap();
        (is.mode() & 0o7777, is.uid(), is.gid())
    };
    let before = of(&path);
    let case = Case::start(path.clone(), options);
    case.deliver(0, 0..150);
    case.end();
    let old = old(&path);
    assert_eq!(old.len(), 2);
    assert_eq!(of(&old[0]), before);
    assert_eq!(of(&old[1]), (0o626, uid, gid));
    assert_eq!(of(&path), (0o626, uid, gid));
}

#[cfg(feature = "strftime")]
#[test]
fn when_the_date_in_the_path_changes_the_next_message_goes_to_a_new_file_in_folders_that_are_made()
{
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display().to_string();
    for fsync in [Fsync::Off, Fsync::Batch] {
        let sub = format!("{root}/{fsync:?}");
        let pattern = format!("{sub}/of-%Y/%m/100%%-%H%M%S.log");
        // What has no date in it has to be there.
        let options = || File::options().fsync(fsync).mode(0o640);
        assert!(options().open_dated(&pattern).is_err());
        fs::create_dir(&sub).unwrap();
        let server = small::ingest()
            .listen("127.0.0.1:0".parse().unwrap())
            .start(options().open_dated(&pattern).unwrap())
            .unwrap();
        let mut files = Vec::new();
        let mut sent = 0;
        let mut stream = client::connect(server.local_addrs()[0]);
        let begun = std::time::Instant::now();
        while files.len() < 4 {
            assert!(begun.elapsed() < DEADLINE, "{files:?}");
            send(&mut stream, 0, sent..sent + 10, Cut::Once);
            sent += 10;
            wait_until("delivered", DEADLINE, || server.stats().delivered == sent);
            files = dated_files(Path::new(&sub));
            // A reopen is for the file of now, too.
            server.reopen();
        }
        drop(stream);
        assert_both_close(&server.shutdown(DEADLINE));
        let held: Vec<u8> = dated_files(Path::new(&sub))
            .iter()
            .flat_map(|path| fs::read(path).unwrap())
            .collect();
        Checker::read(&held).expect_exact(&[(0, sent)]);
        let folder = files[0].parent().unwrap();
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o750);
    }
    let rotated = File::options().rotate_size(SMALL);
    for (options, pattern, expected) in [
        (rotated, "/%Y", "not rotated otherwise"),
        (File::options(), "/%Ä", "is no path with a date"),
    ] {
        let error = options.open_dated(pattern).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Those of one month, by name.
#[cfg(feature = "strftime")]
fn dated_files(root: &Path) -> Vec<PathBuf> {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let months = inside(root).into_iter().flat_map(|year| inside(&year));
    let mut files: Vec<_> = months.flat_map(|month| inside(&month)).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(files.iter().map(name).all(|name| name.starts_with("100%-")));
    files
}

#[cfg(feature = "gzip")]
mod gzip {
    //! Old files that are compressed.

    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::common::mount::MountPoint;

    fn options() -> FileOptions {
        File::options().rotate_size(SMALL).gzip(true)
    }

    fn is_whole(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "gz")
    }

    fn unpacked(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(fs::File::open(path).unwrap())
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }

    /// As [`super::whole`], once all old files are compressed.
    #[track_caller]
    fn whole(path: &Path) -> Vec<u8> {
        wait_until("all compressed", DEADLINE, || {
            old(path).iter().all(|path| is_whole(path))
        });
        let mut whole: Vec<u8> = old(path).iter().flat_map(|path| unpacked(path)).collect();
        whole.extend(fs::read(path).unwrap());
        whole
    }

    #[test]
    fn old_files_are_compressed_and_are_otherwise_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let case = Case::start(path.clone(), options().keep(1000));
        case.deliver(0, 0..150);
        wait_until("compressed", DEADLINE, || {
            case.old().first().is_some_and(|path| is_whole(path))
        });
        let first = fs::metadata(&case.old()[0]).unwrap();
        assert_eq!(first.mode() & 0o777, 0o604);
        let age = SystemTime::now()
            .duration_since(first.modified().unwrap())
            .unwrap();
        assert!(age < DEADLINE);
        case.deliver(0, 150..2000);
        Checker::read(&whole(&path)).expect_exact(&[(0, 2000)]);
        assert!(old(&path).len() > 20);
        case.end();
    }

    #[test]
    fn of_compressed_ones_the_newest_stay_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let case = Case::start(path.clone(), options().keep(2));
        for nth in 0..20 {
            case.deliver(0, nth * 70..nth * 70 + 70);
        }
        let held = whole(&path);
        assert_eq!(old(&path).len(), 2);
        assert!(Tagged::new(0).lines(0..1400, SIZE).ends_with(&held));
        case.end();
    }

    /// Killed while it wrote the compressed file, and between its last two steps.
    #[test]
    fn what_a_killed_process_left_half_compressed_is_made_whole_after_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let case = Case::start(path.clone(), options());
        case.deliver(0, 0..150);
        let all = whole(&path);
        case.end();
        let compressed = old(&path);
        assert!(compressed.len() >= 2);
        let plain = |path: &Path| path.with_extension("");
        // The first was half compressed, of the second only the old one was left to be deleted.
        let [first, second] = [&compressed[0], &compressed[1]];
        fs::write(plain(first), unpacked(first)).unwrap();
        let bytes = fs::read(first).unwrap();
        fs::remove_file(first).unwrap();
        let mut unfinished = first.clone().into_os_string();
        unfinished.push(".tmp");
        fs::write(&unfinished, &bytes[..bytes.len() / 2]).unwrap();
        fs::write(plain(second), unpacked(second)).unwrap();

        let case = Case::start(path.clone(), options());
        assert_eq!(whole(&path), all);
        wait_until("cleaned", DEADLINE, || !Path::new(&unfinished).exists());
        assert_eq!(old(&path), compressed);
        case.end();
    }

    #[test]
    fn a_compressed_file_that_has_something_else_is_not_replaced_and_the_old_one_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let plain = directory.path().join("messages-20200101T000000.000Z");
        let next = directory.path().join("messages-20200101T000000.001Z");
        fs::write(&plain, "ours\n").unwrap();
        fs::write(&next, "next\n").unwrap();
        let foreign = plain.with_extension("000Z.gz");
        fs::write(&foreign, "somebody's").unwrap();
        let case = Case::start(path.clone(), options());
        wait_until("the next one", DEADLINE, || !next.exists());
        assert_eq!(unpacked(&next.with_extension("001Z.gz")), b"next\n");
        assert_eq!(fs::read(&foreign).unwrap(), b"somebody's");
        assert_eq!(fs::read(&plain).unwrap(), b"ours\n");
        case.end();
    }

    /// The thread holds the names of 512 at a time. One of the first stays: none behind it does.
    #[test]
    fn more_old_files_than_are_held_at_once_are_all_compressed() {
        const COUNT: u64 = 600;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let old_one = |nth: u64| {
            let name = format!("messages-20200101T000000.{nth:03}Z");
            directory.path().join(name)
        };
        for nth in 0..COUNT {
            fs::write(old_one(nth), format!("{nth}\n")).unwrap();
        }
        let mut foreign = old_one(5).into_os_string();
        foreign.push(".gz");
        fs::write(&foreign, "somebody's").unwrap();
        let case = Case::start(path.clone(), options());
        wait_until("the last one", DEADLINE, || !old_one(COUNT - 1).exists());
        let plain: Vec<_> = (0..COUNT).filter(|&nth| old_one(nth).exists()).collect();
        assert_eq!(plain, [5]);
        for nth in (0..COUNT).filter(|&nth| nth != 5) {
            let mut name = old_one(nth).into_os_string();
            name.push(".gz");
            assert_eq!(unpacked(Path::new(&name)), format!("{nth}\n").into_bytes());
        }
        case.end();
    }

    #[test]
    fn on_a_full_disk_old_files_stay_as_they_are_until_there_is_space() {
        let small = MountPoint::new();
        if !small.tmpfs() {
            return;
        }
        let (path, ballast) = (small.join("messages"), small.join("ballast"));
        let case = Case::start(path.clone(), options());
        // An old one that is not to be compressed to nothing.
        let plain = small.join("messages-20200101T000000.000Z");
        let mut random = crate::common::tagged::XorShift::new(1);
        let bytes: Vec<u8> = (0..100 << 10).map(|_| random.next() as u8).collect();
        fs::write(&plain, &bytes).unwrap();
        fs::write(&ballast, vec![b'x'; 100 << 10]).unwrap();
        case.deliver(0, 0..100);
        wait_until("the small one compressed", DEADLINE, || {
            case.old().last().is_some_and(|path| is_whole(path))
        });
        assert_eq!(fs::read(&plain).unwrap(), bytes);
        assert_eq!(case.old().len(), 2, "{:?}", case.old());
        fs::remove_file(&ballast).unwrap();
        // The next rotation is the next try.
        case.deliver(0, 100..200);
        wait_until("the large one compressed", DEADLINE, || !plain.exists());
        assert_eq!(unpacked(&plain.with_extension("000Z.gz")), bytes);
        case.end();
    }
}
