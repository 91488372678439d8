//! Leaves out one booking at a time: the ledger says so, whichever it is.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use super::*;
use crate::server::{Handle, Server};

const ONE: Weight = Weight {
    messages: 1,
    bytes: 10,
};
const TWO: Weight = Weight {
    messages: 2,
    bytes: 10,
};

/// A server that nobody connects to: its budget is ours, and its ledger is the one that everybody reads.
struct Books {
    handle: Handle,
    record: Arc<Record>,
}

impl Books {
    fn new() -> Books {
        let handle = Server::<Vec<u8>>::builder()
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .start_each(|_, _| Ok(()), |_| Ok(()))
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let record = Record::new(1, stream.peer_addr().unwrap(), stream);
        Books {
            handle,
            record: Arc::new(record),
        }
    }

    fn budget(&self) -> &Budget {
        &self.handle.shared.budget
    }

    fn is_balanced(&self) -> bool {
        self.handle.stats().is_balanced()
    }

    fn enter(&self, weight: Weight) -> Room {
        self.budget().enter(&self.record, weight, Patience::None)
    }

    /// As a send that waits enters: it is in line, and nobody is parked.
    fn queue(&self, weight: Weight) {
        let mut inner = self.budget().inner.lock();
        inner.received += weight.messages;
        let Take::Queued(ticket) = inner.queue.take(weight, true, || Arc::clone(&self.record))
        else {
            panic!("there is room")
        };
        *self.record.place.lock() = Place::Queued(ticket);
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let limit = self.handle.shared.config.buffer_messages as u64;
        let rest = Weight {
            messages: limit - self.budget().counts().used.messages,
            bytes: 0,
        };
        assert_eq!(self.enter(rest), Room::Granted);
    }
}

/// A way of a message, as it is and with one booking of it left out.
struct Way {
    name: &'static str,
    whole: fn(&Books),
    without: fn(&Books),
}

/// Every line of this file's parent that books, once. What precedes it is booked in full.
const WAYS: &[Way] = &[
    Way {
        name: "received, by a send",
        whole: |books| assert_eq!(books.enter(TWO), Room::Granted),
        without: |books| {
            let mut inner = books.budget().inner.lock();
            let taken = inner.queue.take(TWO, false, || Arc::clone(&books.record));
            assert_eq!(taken, Take::Granted);
        },
    },
    Way {
        name: "in flight, granted",
        whole: |books| assert_eq!(books.enter(TWO), Room::Granted),
        without: |books| books.budget().inner.lock().received += TWO.messages,
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
            let mut inner = books.budget().inner.lock();
            let Place::Queued(ticket) = *books.record.place.lock() else {
                panic!("not in line")
            };
            inner.queue.cancel(ticket);
        },
    },
    Way {
        name: "received, by a handler that drops",
        whole: |books| books.budget().dropped(DropReason::Handler, 3),
        without: |books| {
            books
                .budget()
                .inner
                .lock()
                .dropped
                .add(DropReason::Handler, 3)
        },
    },
    Way {
        name: "dropped, by a handler",
        whole: |books| books.budget().dropped(DropReason::Handler, 3),
        without: |books| books.budget().inner.lock().received += 3,
    },
    Way {
        name: "delivered",
        whole: |books| {
            books.enter(TWO);
            books.budget().picked_up();
            books.budget().delivered(TWO);
        },
        without: |books| {
            books.enter(TWO);
            books.budget().settle(TWO, |_| {});
        },
    },
    Way {
        name: "in flight, given back",
        whole: |books| {
            books.enter(TWO);
            books.budget().picked_up();
            books.budget().delivered(TWO);
        },
        without: |books| {
            books.enter(TWO);
            books.budget().inner.lock().delivered += TWO.messages;
        },
    },
    Way {
        name: "delivered in part",
        whole: |books| {
            books.enter(TWO);
            books.budget().delivered_some(1);
        },
        without: |books| {
            books.enter(TWO);
            books
                .budget()
                .inner
                .lock()
                .queue
                .give_back(Weight { bytes: 0, ..ONE });
        },
    },
    Way {
        name: "dropped, let go of undone",
        whole: |books| {
            books.enter(TWO);
            books.budget().picked_up();
            books.budget().undone(TWO);
        },
        without: |books| {
            books.enter(TWO);
            books.budget().settle(TWO, |_| {});
        },
    },
    Way {
        name: "dropped, a grant undone",
        whole: |books| {
            books.enter(TWO);
            books.budget().undo(TWO, DropReason::NoSlot);
        },
        without: |books| {
            books.enter(TWO);
            books.budget().settle(TWO, |_| {});
        },
    },
    Way {
        name: "dropped, refused",
        whole: |books| {
            books.fill();
            assert_eq!(books.enter(ONE), Room::Refused(DropReason::Full));
        },
        without: |books| {
            books.fill();
            books.budget().inner.lock().received += 1;
        },
    },
    Way {
        name: "dropped, out of line",
        whole: |books| {
            books.fill();
            books.queue(TWO);
            assert!(books.budget().abort(&books.record, EndReason::Aborted));
        },
        without: |books| {
            books.fill();
            books.queue(TWO);
            let mut inner = books.budget().inner.lock();
            let Place::Queued(ticket) = *books.record.place.lock() else {
                panic!("not in line")
            };
            assert!(matches!(inner.queue.cancel(ticket), Cancel::Left(TWO, _)));
        },
    },
    Way {
        name: "dropped, in line at the close",
        whole: |books| {
            books.fill();
            books.queue(TWO);
            books.budget().close(DropReason::Shutdown);
        },
        without: |books| {
            books.fill();
            books.queue(TWO);
            assert_eq!(books.budget().inner.lock().queue.close().0, 2);
        },
    },
];

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

/// A record of a connection that reads, and what the watchdog saw of it.
fn reading(books: &Books) -> Sample {
    books.record.enter(Activity::Reading);
    books.record.sample()
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
        books.record.progress(0, true);
        let seen = reading(&books);
        // The read comes back with a message just then, and the message waits for room.
        books.record.add_bytes(10);
        books.record.progress(1, true);
        books.record.enter(Activity::Working);
        books.queue(ONE);
        assert!(!books.budget().expire(&books.record, reason, breach, &seen));
        assert!(matches!(*books.record.place.lock(), Place::Queued(_)));
        assert_eq!(books.record.ended(), None, "{reason:?}");
        assert_eq!(books.budget().counts().dropped.total(), 0);
    }
}

#[test]
fn a_verdict_ends_only_who_has_not_come_on_since() {
    for (reason, breach) in DEADLINES {
        let books = Books::new();
        books.record.progress(0, true);
        let seen = reading(&books);
        books.record.add_bytes(10);
        books.record.progress(1, true);
        books.record.enter(Activity::Working);
        assert!(!books.budget().expire(&books.record, reason, breach, &seen));
        let seen = reading(&books);
        assert!(books.budget().expire(&books.record, reason, breach, &seen));
        assert_eq!(books.record.ended(), Some(reason));
        assert!(!books.budget().expire(&books.record, reason, breach, &seen));
    }
}

#[test]
fn what_was_read_before_a_deadline_passed_is_still_sent() {
    for (reason, breach) in DEADLINES {
        let books = Books::new();
        books.record.progress(0, true);
        let seen = reading(&books);
        assert!(books.budget().expire(&books.record, reason, breach, &seen));
        assert_eq!(books.enter(ONE), Room::Granted, "{reason:?}");
        assert!(books.is_balanced());
    }
    let books = Books::new();
    assert!(books.budget().abort(&books.record, EndReason::Aborted));
    assert_eq!(books.enter(ONE), Room::Refused(DropReason::Aborted));
}

/// So that the log's "lost meanwhile" is the ledger's number.
#[test]
fn what_was_read_behind_a_message_that_waited_too_long_is_lost_to_a_full_buffer_too() {
    for (reason, lost) in [(EndReason::SendTimeout, 2), (EndReason::Aborted, 0)] {
        let books = Books::new();
        assert!(books.budget().abort(&books.record, reason));
        assert_eq!(books.enter(TWO), Room::Refused(DropReason::Aborted));
        let counts = books.budget().counts();
        assert_eq!(counts.lost_to_full, lost, "{reason:?}");
        assert_eq!(counts.dropped.get(DropReason::Aborted), 2);
    }
}

/// A wait of a sender whose clock the test moves: the server's own watchdog does not tick this budget.
#[test]
fn a_sender_is_as_patient_as_its_process_ran() {
    const PATIENCE: Duration = Duration::from_millis(500);
    let books = Books::new();
    let (budget, _nudged) = Budget::new(ONE);
    assert_eq!(
        budget.enter(&books.record, ONE, Patience::None),
        Room::Granted
    );
    let began = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            books.record.belongs_to_this_thread();
            budget.enter(&books.record, ONE, Patience::Drop(PATIENCE))
        });
        // Nobody ticks, as in a process that is stopped.
        std::thread::sleep(PATIENCE * 3);
        assert!(
            !sender.is_finished(),
            "it gave up while its clock stood still"
        );
        while !sender.is_finished() {
            assert!(began.elapsed() < Duration::from_secs(60));
            budget.tick();
            std::thread::sleep(PATIENCE / 10);
        }
        assert!(matches!(sender.join(), Ok(Room::Refused(DropReason::Full))));
    });
}
