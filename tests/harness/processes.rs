//! The harness's clients and child processes: each wait ends, and no child is left behind.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::client::{self, Closed};
use crate::common::embedded::{self, Embedded};
use crate::common::guard::{Collector, Guarded};
use crate::common::proc;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};

const SIZE: usize = 120;

#[test]
fn every_cut_sends_the_same_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let expected = Tagged::new(9).lines(5..300, SIZE);
    for cut in [
        Cut::Once,
        Cut::Blocks,
        Cut::Random { seed: 1, most: 50 },
        Cut::Random { seed: 2, most: 1 },
    ] {
        let mut sender = client::connect(addr);
        let (mut receiver, _) = listener.accept().unwrap();
        let collector = thread::spawn(move || client::read_to_end(&mut receiver));
        let sent = Tagged::new(9).send(&mut sender, 5..300, SIZE, cut).all();
        assert_eq!(
            (sent.messages, sent.bytes),
            (295, expected.len() as u64),
            "{cut:?}"
        );
        drop(sender);
        assert_eq!(
            collector.join().unwrap(),
            (expected.clone(), Closed::Clean),
            "{cut:?}"
        );
    }
}

#[test]
fn clients_tell_a_reset_from_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let accept = || listener.accept().unwrap().0;
    let mut clients = client::connect_many(addr, 3);
    let (first, second, third) = (accept(), accept(), accept());
    assert!(!client::is_closed(&clients[0]));
    client::reset(first);
    assert_eq!(client::wait_for_close(&mut clients[0]), Closed::Reset);
    wait_until("the end seen", DEADLINE, || client::is_closed(&clients[0]));

    assert_eq!(
        client::trickle(&mut clients[1], b"abc", Duration::from_millis(1)),
        3
    );
    let server = thread::spawn(move || client::read_to_end(&mut { second }));
    assert_eq!(client::half_close(clients.remove(1)), Closed::Clean);
    assert_eq!(server.join().unwrap(), (b"abc".to_vec(), Closed::Clean));

    clients[1].write_all(b"unread").unwrap();
    wait_until("six bytes there", DEADLINE, || {
        third.peek(&mut [0; 16]).unwrap() == 6
    });
    drop(third);
    assert_eq!(client::wait_for_close(&mut clients[1]), Closed::Reset);
}

#[test]
#[should_panic(expected = "waited 20ms in vain: the impossible")]
fn a_wait_ends_at_its_deadline() {
    wait_until("the impossible", Duration::from_millis(20), || false);
}

#[test]
fn a_guarded_child_does_not_outlive_its_test() {
    let mut command = Command::new("sleep");
    let mut child = Guarded(command.arg("600").stdout(Stdio::piped()).spawn().unwrap());
    let stdout = Collector::start(child.0.stdout.take().unwrap());
    assert!(child.ended().is_none());
    assert!(
        child.wait(Duration::from_millis(20)).is_none(),
        "it has not ended, and is killed"
    );
    assert!(child.ended().is_some());
    drop(child);
    // Its pipe has no writer any more.
    stdout.finish();
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("echo") => {
            embedded::tell("ready");
            while let Some(word) = embedded::hear() {
                embedded::tell(&format!("heard {word} {}", std::env::var("WITH").unwrap()));
            }
        }
        Some("threads") => {
            let _threads: Vec<_> = (0..20)
                .map(|_| thread::spawn(|| thread::park_timeout(DEADLINE)))
                .collect();
            let _stream = TcpStream::connect(std::env::var("ADDR").unwrap()).unwrap();
            embedded::tell("ready");
            while embedded::hear().is_some() {}
        }
        Some("panic") => panic!("as asked"),
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

#[test]
fn the_executable_runs_itself_as_a_child() {
    let mut child = Embedded::start("processes::child_entry", "echo", &[("WITH", "care")]);
    child.wait_line("ready");
    child.say("one");
    child.say("two");
    assert_eq!(child.wait_lines("heard ", 2), ["one care", "two care"]);
    assert_eq!(child.end(), Some(0), "{}", child.told());
    assert_eq!(
        Embedded::start("processes::child_entry", "panic", &[]).end(),
        Some(101)
    );
}

#[test]
fn a_childs_threads_descriptors_and_memory_are_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut idle = Embedded::start("processes::child_entry", "echo", &[("WITH", "")]);
    idle.wait_line("ready");
    let addr = listener.local_addr().unwrap().to_string();
    let mut busy = Embedded::start("processes::child_entry", "threads", &[("ADDR", &addr)]);
    let watch = proc::Watch::start(busy.pid());
    busy.wait_line("ready");
    assert_eq!(proc::threads(busy.pid()), proc::threads(idle.pid()) + 20);
    assert_eq!(
        proc::descriptors(busy.pid()),
        proc::descriptors(idle.pid()) + 1
    );
    assert_eq!(
        proc::thread_names(busy.pid()).len() as u64,
        proc::threads(busy.pid())
    );
    assert!(
        proc::rss_bytes(busy.pid()) > 100_000
            && proc::peak_rss_bytes(busy.pid()) >= proc::rss_bytes(busy.pid())
    );
    assert!(proc::cpu_time(busy.pid()) < DEADLINE);
    let peak = watch.stop();
    assert!(peak.threads >= 21 && peak.samples > 0, "{peak:?}");
    assert_eq!((idle.end(), busy.end()), (Some(0), Some(0)));
}
