//! The buffer's line against a naive twin: any order of take, cancel, give back, finish and close.

use drainline::policy::{Acquire, Cancel, Ticket, Weight, WeightedSemaphore};
use proptest::prelude::*;

/// Small enough that everything happens often: full in one dimension, in the other, in both.
const LIMIT: Weight = weight(10, 40);

const fn weight(messages: u64, bytes: u64) -> Weight {
    Weight { messages, bytes }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    /// Granted: what is left of its weight is out.
    Out(Weight),
    /// Refused, cancelled, finished or ended by close.
    Over,
}

#[derive(Clone, Debug)]
struct Entry {
    weight: Weight,
    ticket: Option<Ticket>,
    state: State,
}

/// Everything that ever asked, in order. It remembers no sums: it recounts them.
#[derive(Debug, Default)]
struct Twin {
    entries: Vec<Entry>,
    closed: bool,
}

impl Twin {
    fn ids(&self, wanted: impl Fn(State) -> bool) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|&id| wanted(self.entries[id].state))
            .collect()
    }

    fn waiting(&self) -> Vec<usize> {
        self.ids(|state| state == State::Waiting)
    }

    fn out(&self) -> Vec<usize> {
        self.ids(|state| matches!(state, State::Out(_)))
    }

    fn used(&self) -> Weight {
        let mut sum = weight(0, 0);
        for entry in &self.entries {
            if let State::Out(left) = entry.state {
                sum = weight(sum.messages + left.messages, sum.bytes + left.bytes);
            }
        }
        sum
    }

    fn in_flight(&self) -> u64 {
        let waiting = self.waiting().into_iter();
        self.used().messages
            + waiting
                .map(|id| self.entries[id].weight.messages)
                .sum::<u64>()
    }

    fn has_room_for(&self, more: Weight) -> bool {
        let used = self.used();
        used.messages + more.messages <= LIMIT.messages && used.bytes + more.bytes <= LIMIT.bytes
    }

    fn acquire(&mut self, asked: Weight, wait: bool) -> &'static str {
        let (answer, state) = if self.closed {
            ("closed", State::Over)
        } else if asked.messages > LIMIT.messages || asked.bytes > LIMIT.bytes {
            ("too heavy", State::Over)
        } else if self.waiting().is_empty() && self.has_room_for(asked) {
            ("granted", State::Out(asked))
        } else if wait {
            ("queued", State::Waiting)
        } else {
            ("busy", State::Over)
        };
        self.entries.push(Entry {
            weight: asked,
            ticket: None,
            state,
        });
        answer
    }

    /// The ids served: from the head on, as long as the head fits.
    fn serve(&mut self) -> Vec<usize> {
        let mut served = Vec::new();
        while let Some(&head) = self.waiting().first() {
            let asked = self.entries[head].weight;
            if !self.has_room_for(asked) {
                break;
            }
            self.entries[head].state = State::Out(asked);
            served.push(head);
        }
        served
    }
}

/// One thing that may happen. Numbers pick among what is there.
#[derive(Clone, Debug)]
enum Op {
    Acquire { asked: Weight, wait: bool },
    Cancel { pick: usize },
    GiveBack { pick: usize, part: Weight },
    Finish { pick: usize },
    Close,
}

fn any_weight() -> impl Strategy<Value = Weight> {
    prop_oneof![
        8 => (0..=4u64, 0..=16u64),
        2 => (0..=12u64, 0..=48u64),
        1 => (Just(LIMIT.messages), Just(LIMIT.bytes)),
        1 => prop_oneof![Just((11, 1)), Just((1, 41)), Just((u64::MAX, 1)), Just((1, u64::MAX))],
    ]
    .prop_map(|(messages, bytes)| weight(messages, bytes))
}

fn any_op() -> impl Strategy<Value = Op> {
    let pick = any::<usize>();
    prop_oneof![
        40 => (any_weight(), prop::bool::weighted(0.8))
            .prop_map(|(asked, wait)| Op::Acquire { asked, wait }),
        15 => pick.prop_map(|pick| Op::Cancel { pick }),
        15 => (pick, 0..=4u64, 0..=16u64).prop_map(|(pick, messages, bytes)| Op::GiveBack {
            pick,
            part: weight(messages, bytes),
        }),
        25 => pick.prop_map(|pick| Op::Finish { pick }),
        1 => Just(Op::Close),
    ]
}

/// The semaphore and its twin, taking the same steps.
struct Pair {
    semaphore: WeightedSemaphore<usize>,
    twin: Twin,
}

impl Pair {
    fn step(&mut self, op: &Op) {
        match *op {
            Op::Acquire { asked, wait } => self.acquire(asked, wait),
            Op::Cancel { pick } => self.cancel(pick),
            Op::GiveBack { pick, part } => {
                let Some((id, left)) = self.pick_out(pick) else {
                    return;
                };
                let part = weight(part.messages.min(left.messages), part.bytes.min(left.bytes));
                self.twin.entries[id].state = State::Out(weight(
                    left.messages - part.messages,
                    left.bytes - part.bytes,
                ));
                let woken = self.semaphore.give_back(part);
                assert_eq!(woken, self.twin.serve(), "woken by a give back");
            }
            Op::Finish { pick } => {
                let Some((id, left)) = self.pick_out(pick) else {
                    return;
                };
                self.twin.entries[id].state = State::Over;
                let woken = self.semaphore.finish(left);
                assert_eq!(woken, self.twin.serve(), "woken by a finish");
            }
            Op::Close => self.close(),
        }
    }

    fn pick_out(&self, pick: usize) -> Option<(usize, Weight)> {
        let out = self.twin.out();
        let id = *out.get(pick.checked_rem(out.len())?)?;
        match self.twin.entries[id].state {
            State::Out(left) => Some((id, left)),
            _ => None,
        }
    }

    fn acquire(&mut self, asked: Weight, wait: bool) {
        let id = self.twin.entries.len();
        let mut waker_kept = false;
        let answer = match wait {
            true => self.semaphore.acquire(asked, || {
                waker_kept = true;
                id
            }),
            false => self.semaphore.try_acquire(asked),
        };
        let said = match answer {
            Acquire::Granted => "granted",
            Acquire::Queued(_) => "queued",
            Acquire::Busy => "busy",
            Acquire::TooHeavy => "too heavy",
            Acquire::Closed => "closed",
        };
        assert_eq!(
            said,
            self.twin.acquire(asked, wait),
            "{asked:?}, wait: {wait}"
        );
        assert_eq!(waker_kept, said == "queued", "a waker is made to be kept");
        if let Acquire::Queued(ticket) = answer {
            self.twin.entries[id].ticket = Some(ticket);
        }
    }

    /// Whoever ever queued may try: it may have been granted, cancelled or ended long ago.
    fn cancel(&mut self, pick: usize) {
        let queued: Vec<usize> = (0..self.twin.entries.len())
            .filter(|&id| self.twin.entries[id].ticket.is_some())
            .collect();
        let Some(nth) = pick.checked_rem(queued.len()) else {
            return;
        };
        let entry = &mut self.twin.entries[queued[nth]];
        let expected = if entry.state == State::Waiting {
            entry.state = State::Over;
            let asked = entry.weight;
            Cancel::Left(asked, self.twin.serve())
        } else {
            Cancel::Gone
        };
        let ticket = self.twin.entries[queued[nth]].ticket.unwrap();
        assert_eq!(self.semaphore.cancel(ticket), expected);
    }

    fn close(&mut self) {
        let ended = self.twin.waiting();
        let expected: Vec<_> = ended
            .iter()
            .map(|&id| (self.twin.entries[id].weight, id))
            .collect();
        for id in ended {
            self.twin.entries[id].state = State::Over;
        }
        self.twin.closed = true;
        assert_eq!(self.semaphore.close(), expected);
    }

    /// What holds after every step, whatever the step was.
    fn check(&self) {
        let (semaphore, twin) = (&self.semaphore, &self.twin);
        assert_eq!(semaphore.used(), twin.used());
        assert_eq!(semaphore.items(), twin.out().len() as u64);
        assert_eq!(semaphore.waiting(), twin.waiting().len());
        assert_eq!(semaphore.in_flight(), twin.in_flight());
        assert_eq!(semaphore.is_closed(), twin.closed);

        let used = semaphore.used();
        assert!(used.messages <= LIMIT.messages && used.bytes <= LIMIT.bytes);
        if let Some(&head) = twin.waiting().first() {
            let head = twin.entries[head].weight;
            assert!(!twin.has_room_for(head), "a fitting head was left waiting");
        }
        assert!(
            !twin.closed || semaphore.waiting() == 0,
            "waiting after close"
        );

        // Whoever was granted from the line came before everybody who still waits in it.
        let ticket_of = |id: &usize| twin.entries[*id].ticket;
        let last_granted = twin.out().iter().filter_map(ticket_of).max();
        let first_waiting = twin.waiting().iter().filter_map(ticket_of).min();
        if let (Some(granted), Some(waiting)) = (last_granted, first_waiting) {
            assert!(granted < waiting, "{granted:?} overtook {waiting:?}");
        }
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_order_of_steps_agrees_with_the_naive_twin(ops in prop::collection::vec(any_op(), 1..120)) {
        let mut pair = Pair { semaphore: WeightedSemaphore::new(LIMIT), twin: Twin::default() };
        for op in &ops {
            pair.step(op);
            pair.check();
        }
    }

    #[test]
    fn when_everything_out_is_finished_everybody_was_served_and_nothing_is_left(
        asked in prop::collection::vec(any_weight(), 1..60)
    ) {
        let mut pair = Pair { semaphore: WeightedSemaphore::new(LIMIT), twin: Twin::default() };
        for &asked in &asked {
            pair.acquire(asked, true);
        }
        while !pair.twin.out().is_empty() {
            pair.step(&Op::Finish { pick: 0 });
            pair.check();
        }
        prop_assert_eq!(pair.semaphore.waiting(), 0);
        prop_assert_eq!(pair.semaphore.items(), 0);
        prop_assert_eq!(pair.semaphore.in_flight(), 0);
        prop_assert_eq!(pair.semaphore.used(), weight(0, 0));
    }
}

fn queued<W>(semaphore: &mut WeightedSemaphore<W>, asked: Weight, waker: W) -> Ticket {
    match semaphore.acquire(asked, || waker) {
        Acquire::Queued(ticket) => ticket,
        other => panic!("{other:?} instead of queued"),
    }
}

#[test]
fn a_cancelled_head_lets_those_behind_it_through() {
    let mut semaphore = WeightedSemaphore::new(LIMIT);
    assert_eq!(
        semaphore.acquire(weight(8, 8), || "holder"),
        Acquire::Granted
    );
    let heavy = queued(&mut semaphore, weight(9, 9), "heavy");
    queued(&mut semaphore, weight(1, 1), "light");
    queued(&mut semaphore, weight(1, 1), "lighter");
    queued(&mut semaphore, weight(1, 1), "one too many");
    let woken = vec!["light", "lighter"];
    assert_eq!(semaphore.cancel(heavy), Cancel::Left(weight(9, 9), woken));
    assert_eq!(semaphore.waiting(), 1);
}

#[test]
fn a_grant_beats_the_timeout_that_comes_after_it() {
    let mut semaphore = WeightedSemaphore::new(LIMIT);
    assert_eq!(semaphore.acquire(LIMIT, || "holder"), Acquire::Granted);
    let ticket = queued(&mut semaphore, weight(1, 1), "waiter");
    assert_eq!(semaphore.finish(LIMIT), vec!["waiter"]);
    assert_eq!(semaphore.cancel(ticket), Cancel::Gone);
    assert_eq!(semaphore.used(), weight(1, 1), "the grant stands");
}

#[test]
fn nothing_is_granted_after_close_and_what_was_granted_stays() {
    let mut semaphore = WeightedSemaphore::new(LIMIT);
    assert_eq!(semaphore.acquire(LIMIT, || "holder"), Acquire::Granted);
    let ticket = queued(&mut semaphore, weight(3, 1), "waiter");
    assert_eq!(semaphore.close(), [(weight(3, 1), "waiter")]);
    assert_eq!(
        (semaphore.items(), semaphore.in_flight()),
        (1, LIMIT.messages)
    );
    assert_eq!(semaphore.finish(LIMIT), Vec::<&str>::new());
    assert_eq!(semaphore.cancel(ticket), Cancel::Gone);
    assert_eq!(semaphore.acquire(weight(1, 1), || "late"), Acquire::Closed);
    assert_eq!(semaphore.close(), []);
    assert_eq!((semaphore.items(), semaphore.in_flight()), (0, 0));
}
