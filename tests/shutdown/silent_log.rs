//! A log that nobody reads holds up neither the server nor its end.

use std::io::Write;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::common::client;
use crate::common::embedded;
use crate::common::handlers::{anywhere, lines};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until, within};
use drainline::Received;

/// A logger that never comes back from a line: a stderr that nobody reads.
struct Blocked;

impl log::Log for Blocked {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        loop {
            thread::park();
        }
    }

    fn flush(&self) {}
}

/// For the whole process: each test here has one of its own.
fn block_log() {
    log::set_logger(&Blocked).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
}

#[test]
fn lines_at_debug_leave_the_others_their_room_and_what_is_left_out_is_counted() {
    embedded::alone(
        "silent_log::lines_at_debug_leave_the_others_their_room_and_what_is_left_out_is_counted",
        || {
            const ROOM: u64 = 1024;
            block_log();
            let server = small::server::<String>()
                .listen(anywhere())
                .start_each(|_, _| Ok(()), |_| Ok(()))
                .unwrap();
            let logger = server.logger();
            let lost = || server.stats().log_lines_lost;
            for nth in 0..3 * ROOM {
                logger.log_debug(|| nth.to_string());
            }
            // One of them may be in the logger's hands.
            assert!((2 * ROOM - 1..=2 * ROOM).contains(&lost()), "{}", lost());
            let before = lost();
            for _ in 0..ROOM {
                logger.log(log::Level::Warn, "a warning");
            }
            assert_eq!(lost(), before);
            logger.log(log::Level::Warn, "one too many, or the last");
            logger.log(log::Level::Warn, "one too many");
            assert!(lost() > before);
        },
    );
}

/// Everything that a shutdown and a drop wait for at their end is stuck: the log, the consumer, a
/// handler.
#[test]
fn a_blocked_log_beside_a_stuck_consumer_holds_up_neither_a_shutdown_nor_a_drop() {
    embedded::alone(
        "silent_log::a_blocked_log_beside_a_stuck_consumer_holds_up_neither_a_shutdown_nor_a_drop",
        || {
            block_log();
            for drops in [false, true] {
                let (release, never) = channel::<()>();
                let (took, taken) = channel();
                let server = small::server()
                    .listen(anywhere())
                    .start(lines, move |receiver| {
                        let held = receiver.recv(DEADLINE);
                        assert!(matches!(held, Received::Message(_)));
                        took.send(())?;
                        let _ = never.recv();
                        Ok(())
                    })
                    .unwrap();
                let mut client = client::connect(server.local_addrs()[0]);
                client.write_all(b"one\ntwo\n").unwrap();
                wait_until("both received", DEADLINE, || server.stats().received == 2);
                taken.recv_timeout(DEADLINE).unwrap();
                // The promise is a second after the deadline.
                let report = within("the end", Duration::from_secs(15), move || {
                    if drops {
                        drop(server);
                        return None;
                    }
                    Some(server.shutdown(Duration::from_millis(200)))
                });
                if let Some(report) = report {
                    assert!(report.timed_out && report.stats.is_balanced(), "{report:?}");
                }
                client::wait_for_close(&mut client);
                drop(release);
            }
        },
    );
}
