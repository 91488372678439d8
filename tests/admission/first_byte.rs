//! A client that never says a byte gives its place up: which one, and when. Whoever has said
//! something keeps it.

use std::env;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::wait::{DEADLINE, wait_until};

const POLICIES: [&str; 3] = ["backlog", "close", "refuse"];

/// A server at its limit: one place is a talker's, the others are taken by clients that say
/// nothing, the first one first.
struct Full {
    server: Drainline,
    talker: TcpStream,
    silent: Vec<TcpStream>,
}

impl Full {
    fn start(places: usize, first_byte_timeout: &str, on_overload: &str) -> Full {
        let places_text = places.to_string();
        let mut server = Drainline::start(
            &[
                ["--max-connections", &places_text],
                ["--first-byte-timeout", first_byte_timeout],
                ["--on-overload", on_overload],
            ]
            .concat(),
        );
        let mut talker = server.connect();
        say(&server, &mut talker, "early");
        let silent = client::connect_many(server.addr(), places - 1);
        server.wait_for_status("every place taken", |status| {
            status["connections"].as_array().unwrap().len() == places
        });
        Full {
            server,
            talker,
            silent,
        }
    }

    /// A client that comes until it is let in. Returns its connection.
    fn let_in(&self, within: Duration) -> TcpStream {
        let mut client: Option<TcpStream> = None;
        wait_until("a client let in", within, || {
            if client.as_ref().is_none_or(client::is_closed) {
                client = client::try_connect(self.server.addr(), DEADLINE).ok();
                // Whoever is rejected notices it in vain.
                client
                    .iter_mut()
                    .for_each(|client| drop(client.write_all(b"late\n")));
            }
            self.server.stdout_contains(0, b"late\n")
        });
        client.unwrap()
    }

    fn closed(&self) -> Vec<usize> {
        let silent = self.silent.iter().enumerate();
        silent
            .filter(|(_, client)| client::is_closed(client))
            .map(|(place, _)| place)
            .collect()
    }

    /// Ends it. How many were ended for their silence, by its own word.
    fn end(mut self) -> u64 {
        say(&self.server, &mut self.talker, "still here");
        let exit = self.server.terminate();
        exit.assert_closes();
        exit.u64("connections.ended.first_byte_timeout")
    }
}

/// Returns when it is delivered.
#[track_caller]
fn say(server: &Drainline, client: &mut TcpStream, line: &str) {
    let line = format!("{line}\n");
    client.write_all(line.as_bytes()).unwrap();
    wait_until("a line delivered", DEADLINE, || {
        server.stdout_contains(0, line.as_bytes())
    });
}

#[test]
fn with_a_time_all_that_are_silent_go_when_it_has_passed_and_without_one_nobody_does() {
    for on_overload in POLICIES {
        let off = Full::start(3, "off", on_overload);
        let auto = Full::start(3, "auto", on_overload);
        let one = Full::start(3, "1s", on_overload);
        // A place comes back only by that.
        let _late = one.let_in(DEADLINE);
        wait_until("the end of the silent", DEADLINE, || one.closed() == [0, 1]);
        assert_eq!(one.end(), 2, "{on_overload}");
        for other in [off, auto] {
            assert_eq!(other.closed(), [0; 0], "{on_overload}");
            assert_eq!(other.end(), 0, "{on_overload}");
        }
    }
}

/// By default: who comes early and is silent gives way only for one that is kept out, and only
/// after a minute.
#[test]
fn for_a_client_that_is_kept_out_the_oldest_of_the_silent_gives_way_after_a_minute_and_no_other() {
    const PLACES: usize = 10;
    if env::var_os("DRAINLINE_LONG").is_none() {
        eprintln!("skipped: it takes a minute; DRAINLINE_LONG=1 runs it");
        return;
    }
    // Not under `refuse`, where nobody can see whether somebody is refused.
    let calm = ["backlog", "close"].map(|on_overload| Full::start(PLACES, "auto", on_overload));
    let servers = POLICIES.map(|on_overload| {
        let off = Full::start(PLACES, "off", on_overload);
        let auto = Full::start(PLACES, "auto", on_overload);
        (on_overload, off, auto)
    });
    // Most of it is waiting.
    let threads = servers.map(|(on_overload, off, auto)| {
        thread::spawn(move || {
            let mut late = auto.let_in(DEADLINE * 3);
            let gone = auto.closed();
            if on_overload == "refuse" {
                // Nobody can see there whether somebody is refused: as soon as every place is
                // taken again, the next one may go.
                assert!(
                    !gone.is_empty() && gone.iter().copied().eq(0..gone.len()),
                    "{gone:?}"
                );
            } else {
                assert_eq!(gone, [0], "{on_overload}");
            }
            say(&auto.server, &mut late, "and again");
            let ended = auto.end();
            assert!(
                ended == 1 || on_overload == "refuse" && ended >= gone.len() as u64,
                "{ended}"
            );
            assert_eq!(off.closed(), [0; 0], "{on_overload}");
            assert_eq!(off.end(), 0, "{on_overload}");
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
    // Older than all of them, and nobody came to it.
    for calm in calm {
        assert_eq!(calm.closed(), [0; 0]);
        assert_eq!(calm.end(), 0);
    }
}
