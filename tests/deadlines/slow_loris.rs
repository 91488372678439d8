//! Slow loris: hundreds of clients trickle half a message each. They are disconnected; quiet,
//! honest senders stay.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::proc;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};

const LORISES: usize = 500;
const HONEST: u32 = 10;

/// Sends a byte to each and leaves out those that are gone.
fn trickle(lorises: &mut Vec<TcpStream>) {
    lorises.retain_mut(|loris| match loris.write(b"x") {
        Ok(_) => true,
        Err(error) => {
            let kind = error.kind();
            let is_cut = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&kind);
            assert!(is_cut, "{error}");
            false
        }
    });
}

#[test]
fn slow_lorises_are_ended_while_quiet_honest_senders_stay() {
    const BETWEEN_BYTES: Duration = Duration::from_millis(50);
    let mut server = Drainline::start(&["--frame-timeout", "1s", "--max-connections", "600"]);
    let floor = proc::threads(server.pid());
    let mut honest: Vec<_> = (0..HONEST).map(|_| server.connect()).collect();
    for (number, client) in (0..).zip(&mut honest) {
        let sent = Tagged::new(number).send(client, 0..1, 100, Cut::Once);
        assert_eq!(sent.all().messages, 1);
    }
    let mut lorises = client::connect_many(server.addr(), LORISES);
    let began = Instant::now();
    while !lorises.is_empty() {
        trickle(&mut lorises);
        assert!(began.elapsed() < DEADLINE, "{} are left", lorises.len());
        thread::sleep(BETWEEN_BYTES);
    }
    // Their threads are gone, and the honest ones' are not.
    wait_until("threads joined", DEADLINE, || {
        proc::threads(server.pid()) <= floor + u64::from(HONEST)
    });
    assert!(!honest.iter().any(client::is_closed));
    for (number, client) in (0..).zip(&mut honest) {
        let sent = Tagged::new(number).send(client, 1..5, 100, Cut::Once);
        assert_eq!(sent.all().messages, 4);
    }
    for client in honest {
        client::half_close(client);
    }
    let exit = server.terminate();
    exit.assert_balanced();
    exit.assert_nothing_left();
    assert_eq!(exit.u64("connections.ended.frame_timeout"), LORISES as u64);
    assert_eq!(exit.u64("connections.ended.eof"), u64::from(HONEST));
    exit.assert_code(0);
    assert!(exit.u64("discarded.deadline_passed") >= LORISES as u64);
    let sent: Vec<_> = (0..HONEST).map(|number| (number, 5)).collect();
    server.checker().expect_exact(&sent);
}
