//! The ledger does not balance if any one booking of the quota is left out.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use super::*;
use crate::server::Server;
use crate::server::state::connection_state::ListenerName;

const ONE: Weight = Weight {
    messages: 1,
    bytes: 10,
};
const TWO: Weight = Weight {
    messages: 2,
    bytes: 10,
};

/// A server of two listeners that nobody connects to: the test alone uses its quota, as a
/// connection of the first, and checks its public ledger.
struct Books {
    server: Server,
    state: Arc<ConnectionState>,
}

impl Books {
    fn new() -> Books {
        let server = Server::builder::<Vec<u8>>()
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .start_each(|_, _| Ok(()), |_| Ok(()))
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let state = ConnectionState::new(
            1,
            stream.peer_addr().unwrap().into(),
            stream.into(),
            ListenerName::default(),
        );
        Books {
            server,
            state: Arc::new(state),
        }
    }

    fn quota(&self) -> &Quota {
        &self.server.shared.quota
    }

    fn is_balanced(&self) -> bool {
        self.server.stats().is_balanced()
    }

    fn enter(&self, weight: Weight) -> Acquired {
        self.quota().acquire(&self.state, weight, SendWait::Never)
    }

    /// Queues a send as a waiting one is queued, without a thread that waits.
    fn queue(&self, weight: Weight) {
        let mut inner = self.quota().inner.lock();
        inner.rows[0].received += weight.messages;
        inner.rows[0].in_flight += weight.messages;
        let Acquire::Queued(ticket) = inner.semaphore.acquire(weight, || Arc::clone(&self.state))
        else {
            panic!("the buffer has capacity")
        };
        *self.state.wait.lock() = WaitState::Queued(ticket);
    }

    /// Takes all capacity that is left.
    fn fill(&self) {
        let limit = self.server.shared.config.buffer_messages as u64;
        let rest = Weight {
            messages: limit - self.quota().counts().used.messages,
            bytes: 0,
        };
        assert_eq!(self.enter(rest), Acquired::Granted);
    }
}

/// A path of a message through the quota, whole and with one booking left out.
struct Way {
    name: &'static str,
    whole: fn(&Books),
    without: fn(&Books),
}

/// One path for every booking in quota.rs. Bookings before the one left out are made in full.
const WAYS: &[Way] = &[
    Way {
        name: "received, by a send",
        whole: |books| assert_eq!(books.enter(TWO), Acquired::Granted),
        without: |books| {
            let mut inner = books.quota().inner.lock();
            let taken = inner.semaphore.try_acquire(TWO);
            assert_eq!(taken, Acquire::Granted);
        },
    },
    Way {
        name: "in flight, granted",
        whole: |books| assert_eq!(books.enter(TWO), Acquired::Granted),
        without: |books| books.quota().inner.lock().rows[0].received += TWO.messages,
    },
    Way {
        name: "in flight, waiting",
        whole: |books| {
            books.fill();
            books.queue(TWO);
        },
        without: |books| {
            books.fill();
            books.queue(TWO);
            let mut inner = books.quota().inner.lock();
            let WaitState::Queued(ticket) = *books.state.wait.lock() else {
                panic!("not in line")
            };
            inner.semaphore.cancel(ticket);
        },
    },
    Way {
        name: "received, by a handler that drops",
        whole: |books| {
            books
                .quota()
                .dropped(&books.state, DropReason::ByHandler, 3)
        },
        without: |books| {
            books.quota().inner.lock().rows[0]
                .dropped
                .add(DropReason::ByHandler, 3)
        },
    },
    Way {
        name: "dropped, by a handler",
        whole: |books| {
            books
                .quota()
                .dropped(&books.state, DropReason::ByHandler, 3)
        },
        without: |books| books.quota().inner.lock().rows[0].received += 3,
    },
    Way {
        name: "delivered",
        whole: |books| {
            books.enter(TWO);
            books.quota().picked_up();
            books.quota().delivered(0, TWO);
        },
        without: |books| {
            books.enter(TWO);
            books.quota().settle(0, TWO, |_, _| {});
        },
    },
    Way {
        name: "in flight, given back",
        whole: |books| {
            books.enter(TWO);
            books.quota().picked_up();
            books.quota().delivered(0, TWO);
        },
        without: |books| {
            books.enter(TWO);
            books.quota().inner.lock().rows[0].delivered += TWO.messages;
        },
    },
    Way {
        name: "delivered in part",
        whole: |books| {
            books.enter(TWO);
            books.quota().delivered_some(0, 1);
        },
        without: |books| {
            books.enter(TWO);
            books
                .quota()
                .inner
                .lock()
                .semaphore
                .give_back(Weight { bytes: 0, ..ONE });
        },
    },
    Way {
        name: "dropped, unacknowledged",
        whole: |books| {
            books.enter(TWO);
            books.quota().picked_up();
            books.quota().nack(0, TWO);
        },
        without: |books| {
            books.enter(TWO);
            books.quota().settle(0, TWO, |_, _| {});
        },
    },
    Way {
        name: "dropped, a grant taken back",
        whole: |books| {
            books.enter(TWO);
            books.quota().undo(0, TWO, DropReason::NoSlot);
        },
        without: |books| {
            books.enter(TWO);
            books.quota().settle(0, TWO, |_, _| {});
        },
    },
    Way {
        name: "dropped, refused",
        whole: |books| {
            books.fill();
            assert_eq!(books.enter(ONE), Acquired::Refused(DropReason::Full));
        },
        without: |books| {
            books.fill();
            books.quota().inner.lock().rows[0].received += 1;
        },
    },
    Way {
        name: "dropped, out of line",
        whole: |books| {
            books.fill();
            books.queue(TWO);
            assert!(books.quota().abort(&books.state, EndReason::Aborted));
        },
        without: |books| {
            books.fill();
            books.queue(TWO);
            let mut inner = books.quota().inner.lock();
            let WaitState::Queued(ticket) = *books.state.wait.lock() else {
                panic!("not in line")
            };
            assert!(matches!(
                inner.semaphore.cancel(ticket),
                Cancel::Left(TWO, _)
            ));
        },
    },
    Way {
        name: "dropped, in line at the close",
        whole: |books| {
            books.fill();
            books.queue(TWO);
            books.quota().close(DropReason::Shutdown);
        },
        without: |books| {
            books.fill();
            books.queue(TWO);
            assert_eq!(books.quota().inner.lock().semaphore.close().len(), 1);
        },
    },
];

type Spoil = fn(&mut Inner);

/// What is wrong with the rows of a message on its way, and what makes it so.
const ROWS: &[(&str, Spoil)] = &[
    ("in flight, of the row", |inner| {
        inner.rows[0].in_flight -= 2
    }),
    ("a row that is another's", |inner| inner.rows.swap(0, 1)),
    ("a whole row", |inner| {
        inner.rows[0] = MessageCounts::default()
    }),
    ("received, at another's row", |inner| {
        inner.rows[0].received -= 2;
        inner.rows[1].received += 2;
    }),
    ("in flight, at another's row", |inner| {
        inner.rows[0].in_flight -= 2;
        inner.rows[1].in_flight += 2;
    }),
];

#[test]
fn the_ledger_does_not_close_with_a_row_that_is_wrong() {
    for (name, spoil) in ROWS {
        let books = Books::new();
        books.enter(TWO);
        // Two rows that close are right whichever listener they are given: what is delivered then
        // is not.
        spoil(&mut books.quota().inner.lock());
        books.quota().picked_up();
        books.quota().delivered(0, TWO);
        assert!(!books.is_balanced(), "nobody noticed: {name}");
    }
}

#[test]
fn the_ledger_closes_by_every_way_and_not_with_a_booking_left_out() {
    for way in WAYS {
        let books = Books::new();
        assert!(books.is_balanced(), "before {}", way.name);
        (way.whole)(&books);
        assert!(books.is_balanced(), "{}", way.name);
        let books = Books::new();
        (way.without)(&books);
        assert!(!books.is_balanced(), "nobody noticed: {}", way.name);
    }
}

/// What is in flight then is booked, and nothing else: a booking that was left out still shows.
#[test]
fn books_that_are_closed_have_nothing_in_flight_and_hide_nothing() {
    for way in WAYS {
        let books = Books::new();
        (way.whole)(&books);
        books.quota().close(DropReason::Shutdown);
        books.quota().close_books();
        let stats = books.server.stats();
        assert!(books.is_balanced() && stats.in_flight == 0, "{}", way.name);
        let books = Books::new();
        (way.without)(&books);
        books.quota().close_books();
        assert!(!books.is_balanced(), "nobody noticed: {}", way.name);
    }
}

#[test]
fn what_is_said_of_an_item_after_the_books_were_closed_counts_for_nothing() {
    for (time_out, reason) in [
        (true, DropReason::Shutdown),
        (false, DropReason::SinkFailed),
    ] {
        let books = Books::new();
        let quota = books.quota();
        for _ in 0..4 {
            assert_eq!(books.enter(TWO), Acquired::Granted);
            quota.picked_up();
        }
        quota.delivered(0, TWO);
        if time_out {
            quota.time_out();
        }
        quota.close_books();
        let at_the_end = |what| {
            let stats = books.server.stats();
            assert!(books.is_balanced(), "{what}: {stats:?}");
            let dropped = (stats.dropped.get(reason), stats.dropped.total());
            assert_eq!((stats.delivered, dropped, stats.in_flight), (2, (6, 6), 0));
            let cut = if time_out { 6 } else { 0 };
            assert_eq!(quota.counts().cut, cut, "{what}");
        };
        at_the_end("closed");
        quota.delivered_some(0, 1);
        quota.delivered(0, ONE);
        at_the_end("delivered");
        quota.refused(0, TWO);
        at_the_end("refused");
        quota.nack(0, TWO);
        at_the_end("dropped");
    }
}

/// Makes the connection read, and returns what the watchdog sees of it then.
fn reading(books: &Books) -> Sample {
    books.state.enter(Activity::Reading);
    books.state.sample()
}

const DEADLINES: [(EndReason, Breach); 3] = [
    (EndReason::FrameTimeout, Breach::Frame),
    (EndReason::IdleTimeout, Breach::Idle),
    (EndReason::WriteTimeout, Breach::Write),
];

#[test]
fn a_verdict_on_what_a_connection_showed_before_takes_nothing_out_of_line() {
    for (reason, breach) in DEADLINES {
        let books = Books::new();
        books.fill();
        books.state.frame_progress(0, true);
        let seen = reading(&books);
        // The read returns with a message just then, and the message waits for the buffer.
        books.state.add_bytes(10);
        books.state.frame_progress(1, true);
        books.state.enter(Activity::Working);
        books.queue(ONE);
        assert!(!books.quota().expire(&books.state, reason, breach, &seen));
        assert!(matches!(*books.state.wait.lock(), WaitState::Queued(_)));
        assert_eq!(books.state.ended(), None, "{reason:?}");
        assert_eq!(books.quota().counts().dropped.total(), 0);
    }
}

#[test]
fn a_verdict_ends_only_who_has_not_come_on_since() {
    for (reason, breach) in DEADLINES {
        let books = Books::new();
        books.state.frame_progress(0, true);
        let seen = reading(&books);
        books.state.add_bytes(10);
        books.state.frame_progress(1, true);
        books.state.enter(Activity::Working);
        assert!(!books.quota().expire(&books.state, reason, breach, &seen));
        let seen = reading(&books);
        assert!(books.quota().expire(&books.state, reason, breach, &seen));
        assert_eq!(books.state.ended(), Some(reason));
        assert!(!books.quota().expire(&books.state, reason, breach, &seen));
    }
}

#[test]
fn what_was_read_before_a_deadline_passed_is_still_sent() {
    for (reason, breach) in DEADLINES {
        let books = Books::new();
        books.state.frame_progress(0, true);
        let seen = reading(&books);
        assert!(books.quota().expire(&books.state, reason, breach, &seen));
        assert_eq!(books.enter(ONE), Acquired::Granted, "{reason:?}");
        assert!(books.is_balanced());
    }
    let books = Books::new();
    assert!(books.quota().abort(&books.state, EndReason::Aborted));
    assert_eq!(
        books.enter(ONE),
        Acquired::Refused(DropReason::ConnectionClosed)
    );
}

/// Keeps the log's "lost meanwhile" equal to the ledger's number.
#[test]
fn what_was_read_behind_a_message_that_waited_too_long_is_lost_to_a_full_buffer_too() {
    for (reason, lost) in [(EndReason::SendTimeout, 2), (EndReason::Aborted, 0)] {
        let books = Books::new();
        assert!(books.quota().abort(&books.state, reason));
        assert_eq!(
            books.enter(TWO),
            Acquired::Refused(DropReason::ConnectionClosed)
        );
        let counts = books.quota().counts();
        assert_eq!(counts.lost_to_full, lost, "{reason:?}");
        assert_eq!(counts.dropped.get(DropReason::ConnectionClosed), 2);
    }
}

/// The test moves the clock of the sender's wait: no watchdog ticks this quota.
#[test]
fn a_sender_is_as_patient_as_its_process_ran() {
    const WAIT: Duration = Duration::from_millis(500);
    let books = Books::new();
    let (quota, _wakes) = Quota::new(ONE, 1);
    assert_eq!(
        quota.acquire(&books.state, ONE, SendWait::Never),
        Acquired::Granted
    );
    let began = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let _served_here = books.state.serve_on_current_thread();
            quota.acquire(&books.state, ONE, SendWait::DropAfter(WAIT))
        });
        // No tick, as in a process that is stopped.
        std::thread::sleep(WAIT * 3);
        assert!(
            !sender.is_finished(),
            "it gave up while its clock stood still"
        );
        while !sender.is_finished() {
            assert!(began.elapsed() < Duration::from_secs(60));
            quota.tick();
            std::thread::sleep(WAIT / 10);
        }
        assert!(matches!(
            sender.join(),
            Ok(Acquired::Refused(DropReason::Full))
        ));
    });
}
