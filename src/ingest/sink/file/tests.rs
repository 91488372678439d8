//! A file that is synced, on a disk that the test has in its hands.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::sync::Disk;
use super::*;
use crate::ingest::Ingest;
use crate::server::Server;

const DEADLINE: Duration = Duration::from_secs(60);

/// Says which descriptor is to be synced, and does what it is told.
#[derive(Debug)]
struct InHands {
    asked: Sender<RawFd>,
    told: Receiver<io::Result<()>>,
    folders: Sender<Folder>,
}

/// A folder that was synced, and the names that were there by then.
type Folder = (PathBuf, Vec<OsString>);

impl Disk for InHands {
    fn sync(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.asked.send(file.as_raw_fd()).unwrap();
        self.told.recv_timeout(DEADLINE).unwrap()
    }

    fn sync_folder(&mut self, folder: BorrowedFd<'_>) -> io::Result<()> {
        let path = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
        let names = fs::read_dir(&path)?.map(|entry| entry.unwrap().file_name());
        let names = names.collect();
        self.folders.send((path, names)).unwrap();
        Ok(())
    }
}

struct Case {
    server: Server,
    client: TcpStream,
    path: PathBuf,
    asked: Receiver<RawFd>,
    tell: Sender<io::Result<()>>,
    folders: Receiver<Folder>,
    _directory: tempfile::TempDir,
}

impl Case {
    fn start(fsync: Fsync) -> Case {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let (asked, asks) = channel();
        let (tell, told) = channel();
        let (tell_folder, folders) = channel();
        let disk = InHands {
            asked,
            told,
            folders: tell_folder,
        };
        let options = File::options().fsync(fsync);
        let file = options.open_on(path.clone(), Box::new(disk)).unwrap();
        let server = Ingest::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .start(file)
            .unwrap();
        Case {
            client: TcpStream::connect(server.local_addrs()[0]).unwrap(),
            server,
            path,
            asked: asks,
            tell,
            folders,
            _directory: directory,
        }
    }

    fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).unwrap();
    }

    fn asked(&self) -> RawFd {
        self.asked.recv_timeout(DEADLINE).unwrap()
    }

    fn held(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn(&Server) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.server) {
            assert!(begun.elapsed() < DEADLINE, "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it; every sync from now on is well.
    fn end(self) -> crate::server::Report {
        for _ in 0..10 {
            let _ = self.tell.send(Ok(()));
        }
        drop(self.client);
        let report = self.server.shutdown(DEADLINE);
        assert!(report.is_balanced(), "{report:?}");
        report
    }
}

fn eio() -> io::Result<()> {
    Err(rustix::io::Errno::IO.into())
}

#[test]
fn nothing_is_delivered_before_the_sync_that_covers_it_returned_and_what_came_meanwhile_is_one_group()
 {
    let mut case = Case::start(Fsync::Batch);
    case.send("first\n");
    case.asked();
    assert_eq!(case.held(), "first\n");
    for nth in 2..=200 {
        case.send(&format!("{nth}\n"));
        let all_are_there = |server: &Server| server.stats().received == nth;
        case.wait_until("received", all_are_there);
    }
    assert_eq!(case.server.stats().delivered, 0);
    case.tell.send(Ok(())).unwrap();
    case.asked();
    assert_eq!(case.server.stats().delivered, 1);
    assert_eq!(case.held().lines().count(), 200);
    case.tell.send(Ok(())).unwrap();
    case.wait_until("all delivered", |server| server.stats().delivered == 200);
    assert!(case.asked.try_recv().is_err(), "one sync for all that came");
    assert_eq!(case.end().stats.delivered, 200);
}

/// A file whose name is lost in a crash has lost all that was delivered to it.
#[test]
fn the_folder_is_synced_once_the_file_is_made_in_it_and_before_the_file_itself() {
    let mut case = Case::start(Fsync::Batch);
    let folder = case.path.parent().unwrap().canonicalize().unwrap();
    let made = [OsString::from("messages")];
    // The file is open: nothing was received yet.
    let synced = case.folders.try_recv().unwrap();
    assert_eq!(synced, (folder.clone(), made.to_vec()));
    case.send("one\n");
    case.asked();
    case.tell.send(Ok(())).unwrap();
    case.wait_until("one", |server| server.stats().delivered == 1);
    assert!(case.folders.try_recv().is_err(), "nothing was made");
    // A rotation by somebody else.
    fs::rename(&case.path, folder.join("old")).unwrap();
    case.server.reopen();
    let (path, names) = case.folders.recv_timeout(DEADLINE).unwrap();
    assert_eq!(path, folder);
    assert!(names.contains(&made[0]), "{names:?}");
    case.end();
    // Where a crash of the machine may cost messages, it may cost the file.
    for fsync in [Fsync::Off, Fsync::Interval(Duration::from_secs(1))] {
        let case = Case::start(fsync);
        assert!(case.folders.try_recv().is_err(), "{fsync:?}");
        case.end();
    }
}

#[cfg(feature = "strftime")]
#[test]
fn each_folder_in_which_one_with_a_date_or_the_file_was_made_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let (tell_folder, folders) = channel();
    let disk = InHands {
        asked: channel().0,
        told: channel().1,
        folders: tell_folder,
    };
    let pattern = format!("{}/%Y/%m/messages", root.display());
    let options = File::options().fsync(Fsync::Batch);
    let file = options.open_dated_on(pattern, Box::new(disk)).unwrap();
    drop(file);
    let mut made_in = root;
    let synced: Vec<Folder> = folders.try_iter().collect();
    for (path, names) in &synced {
        assert_eq!((path, names.len()), (&made_in, 1), "{synced:?}");
        made_in.push(&names[0]);
    }
    assert!(made_in.ends_with("messages"), "{synced:?}");
    assert_eq!(synced.len(), 3, "{synced:?}");
}

#[test]
fn after_a_sync_that_failed_its_group_is_written_again_and_synced_through_another_descriptor() {
    let mut case = Case::start(Fsync::Batch);
    case.send("safe\n");
    let first = case.asked();
    case.tell.send(Ok(())).unwrap();
    case.wait_until("the first", |server| server.stats().delivered == 1);
    case.send("one\ntwo\n");
    assert_eq!(case.asked(), first);
    case.tell.send(eio()).unwrap();
    let second = case.asked();
    assert_ne!(second, first, "the descriptor whose sync failed");
    assert_eq!(case.server.stats().delivered, 1);
    assert_eq!(case.held(), "safe\none\ntwo\none\ntwo\n");
    // Again, and with something that came meanwhile.
    case.send("three\n");
    case.wait_until("the third", |server| server.stats().received == 4);
    case.tell.send(eio()).unwrap();
    assert_ne!(case.asked(), second);
    case.tell.send(Ok(())).unwrap();
    case.wait_until("one and two", |server| server.stats().delivered >= 3);
    let report = case.end();
    assert_eq!((report.stats.delivered, report.sink.failures), (4, 2));
}

/// The descriptor that failed is let go of even where no other can be had, and nothing is delivered
/// until there is one.
#[test]
fn where_the_file_cannot_be_opened_anew_nothing_is_synced_and_nothing_delivered() {
    let mut case = Case::start(Fsync::Batch);
    case.send("one\n");
    case.asked();
    let aside = case.path.with_extension("aside");
    fs::rename(&case.path, &aside).unwrap();
    fs::create_dir(&case.path).unwrap();
    case.tell.send(eio()).unwrap();
    case.wait_until("some tries", |server| server.report().sink.failures >= 3);
    assert!(case.asked.try_recv().is_err());
    assert_eq!(case.server.stats().delivered, 0);
    fs::remove_dir(&case.path).unwrap();
    fs::rename(&aside, &case.path).unwrap();
    case.asked();
    case.tell.send(Ok(())).unwrap();
    case.wait_until("delivered", |server| server.stats().delivered == 1);
    assert_eq!(case.held(), "one\none\n");
    case.end();
}

#[test]
fn with_an_interval_messages_are_delivered_when_written_and_synced_once_for_all_afterwards() {
    let interval = Duration::from_millis(200);
    let mut case = Case::start(Fsync::Interval(interval));
    case.send("one\n");
    case.wait_until("one", |server| server.stats().delivered == 1);
    case.send("two\n");
    let first = case.asked();
    case.tell.send(eio()).unwrap();
    case.wait_until("the failure", |server| server.report().sink.failures == 1);
    case.send("three\n");
    case.wait_until("three", |server| server.stats().delivered == 3);
    assert_ne!(case.asked(), first, "the descriptor whose sync failed");
    case.tell.send(Ok(())).unwrap();
    // Nothing is written, and nothing synced.
    assert!(case.asked.recv_timeout(6 * interval).is_err());
    assert_eq!(case.held(), "one\ntwo\nthree\n");
    // What the end leaves unsynced is synced.
    case.send("four\n");
    case.wait_until("four", |server| server.stats().delivered == 4);
    case.server.drain(DEADLINE);
    case.asked();
    case.end();
}

#[test]
fn what_cannot_be_synced_and_an_interval_out_of_range_are_refused_in_words() {
    for interval in [Duration::ZERO, Duration::from_secs(3601)] {
        let options = File::options().fsync(Fsync::Interval(interval));
        let error = options.open("/dev/null").unwrap_err();
        assert!(error.to_string().contains("from 100ms to 3600s"), "{error}");
    }
    let options = File::options().fsync(Fsync::Batch);
    let error = options.open("/dev/null").unwrap_err();
    let expected = "this is no regular file, which fsync needs";
    assert_eq!(error.to_string(), expected);
}
