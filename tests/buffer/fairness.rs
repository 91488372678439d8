//! Senders that are held up are served in the order in which they came: nobody starves, whatever
//! the weight of its messages.

use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::client;
use crate::common::small;
use crate::common::tagged::{Tagged, parse};
use crate::common::wait::{DEADLINE, wait_until};

/// What is sent by the one whose number is above all others'.
const LARGE: usize = 64 << 10;
const SMALL: usize = 100;
const SMALL_SENDERS: usize = 64;
/// How often each sender has to come through.
const TURNS: u64 = 30;
/// What the sink takes for a message.
const SINK_TAKES: Duration = Duration::from_micros(100);

#[test]
fn a_large_message_never_starves_among_many_small_ones() {
    let mut config = small::config();
    config.max_connections = Some(SMALL_SENDERS + 1);
    // Little room beside a large one: were small ones let past, they would keep it out for ever.
    config.buffer_bytes = LARGE + (4 << 10);
    let arrived = Arc::new(Mutex::new([0; SMALL_SENDERS + 1]));
    let seen = Arc::clone(&arrived);
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .start_each(
            |connection, out| {
                let mut lines = BufReader::new(connection).split(b'\n');
                while let Some(mut line) = lines.next().transpose()? {
                    line.shrink_to_fit();
                    out.send(line)?;
                }
                Ok(())
            },
            move |message| {
                thread::sleep(SINK_TAKES);
                let (connection, _) = parse(&message)?;
                seen.lock().unwrap()[connection as usize] += 1;
                Ok(())
            },
        )
        .unwrap();
    let addr = server.local_addrs()[0];
    let senders: Vec<_> = (0..=SMALL_SENDERS)
        .map(|number| {
            thread::spawn(move || {
                let size = if number == SMALL_SENDERS {
                    LARGE
                } else {
                    SMALL
                };
                let tagged = Tagged::new(number as u32);
                let mut stream = client::connect(addr);
                // Little in the kernel's hands, or filling that takes longer than all the rest.
                let socket = socket2::SockRef::from(&stream);
                socket.set_send_buffer_size(4 << 10).unwrap();
                let lines = (0..).map(|seq| tagged.lines(seq..seq + 1, size));
                for line in lines {
                    // Until the server is shut down.
                    if stream.write_all(&line).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    let counts = || *arrived.lock().unwrap();
    // Those who come first have the server to themselves: turns are counted once everybody is
    // there.
    let everybody_had = |turns: u64, since: &[u64]| {
        let had = || {
            counts()
                .iter()
                .zip(since)
                .all(|(count, since)| count - since >= turns)
        };
        wait_until("a few turns of everybody", DEADLINE, had);
        counts()
    };
    let begun = everybody_had(1, &[0; SMALL_SENDERS + 1]);
    let ended = everybody_had(TURNS, &begun);
    let turns: Vec<u64> = begun
        .iter()
        .zip(ended)
        .map(|(begun, ended)| ended - begun)
        .collect();
    let stats = server.shutdown(Duration::ZERO).stats;
    for sender in senders {
        sender.join().unwrap();
    }
    assert!(stats.is_balanced(), "{stats:?}");
    let (large, small) = (turns[SMALL_SENDERS], &turns[..SMALL_SENDERS]);
    let each = small.iter().sum::<u64>() / SMALL_SENDERS as u64;
    eprintln!("large ones: {large}; small ones: {each} of each sender");
    // Turn by turn it would be as many. A thread that alone has a processor may find room, and
    // nobody waiting for it, more often than that: but not all of them, and not ten times as often.
    assert!(
        each <= 10 * large,
        "{large} large ones, small ones {small:?}"
    );
}
