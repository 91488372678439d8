//! The buffer holds exactly what it may, in messages and in bytes; its room comes back when the
//! consumer says so.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::puppets::{Actor, Answer, Item, Stage};
use crate::common::small;
use crate::common::wait::{DEADLINE, stays, wait_until, wait_until_prompt};
use drainline::policy::Weight;
use drainline::{DropReason, PauseAfter, Received, SendError};

type Sent = Answer<Result<(), SendError<Item>>>;

/// Longer than a tick.
const A_WHILE: Duration = Duration::from_millis(150);
/// A consumer that was told to receive mostly blocks by then. If not, it has nobody to wake it up,
/// and is prompt.
const BLOCKS_BY: Duration = Duration::from_millis(5);

/// Bounds of the test's own; whoever finds no room waits longer than any test takes.
fn stage(messages: usize, bytes: usize) -> Stage {
    let mut config = small::config();
    config.buffer_messages = messages;
    config.buffer_bytes = bytes;
    config.send_timeout = DEADLINE * 10;
    config.pause_after = PauseAfter::Off;
    Stage::start(config)
}

fn heavy(name: u64, bytes: usize) -> Item {
    Item {
        bytes,
        ..Item::light(name)
    }
}

fn many(name: u64, messages: u64) -> Item {
    Item {
        messages,
        ..Item::light(name)
    }
}

#[track_caller]
fn send_all(from: &Actor, items: impl IntoIterator<Item = Item>) {
    for item in items {
        assert_eq!(from.send(item).wait(), Ok(()));
    }
}

/// Has the handler send what finds no room, and returns once it stands in line.
#[track_caller]
fn send_waiting(stage: &Stage, from: &Actor, item: Item) -> Sent {
    let before = stage.server.stats().senders_waiting;
    let sent = from.send(item);
    wait_until("a sender in line", DEADLINE, || {
        stage.server.stats().senders_waiting == before + 1
    });
    sent.assert_pending();
    sent
}

fn buffered(stage: &Stage) -> Weight {
    stage.server.stats().buffered
}

/// What an item weighs that has no heap of its own, as the buffer counts it.
fn weight_of_nothing() -> usize {
    let stage = stage(10, 1 << 20);
    send_all(&stage.connect(), [Item::light(0)]);
    let bytes = buffered(&stage).bytes as usize;
    stage.end();
    assert!((size_of::<Item>()..size_of::<Item>() + 64).contains(&bytes));
    bytes
}

#[test]
fn exactly_n_messages_fit_and_the_next_one_waits() {
    let stage = stage(4, 1 << 20);
    let (first, second) = (stage.connect(), stage.connect());
    send_all(&first, (0..4).map(Item::light));
    assert_eq!(buffered(&stage).messages, 4);
    let fifth = send_waiting(&stage, &second, Item::light(4));
    assert_eq!(buffered(&stage).messages, 4);
    assert_eq!(
        stage.server.stats().in_flight,
        5,
        "who waits is in flight, too"
    );

    stage.take(1);
    assert_eq!(stage.finish_oldest().name, 0);
    assert_eq!(fifth.wait(), Ok(()));
    assert_eq!(buffered(&stage).messages, 4);
    assert_eq!(stage.end().stats.delivered, 5);
}

#[test]
fn an_item_counts_as_many_messages_as_it_holds_and_at_least_one() {
    let stage = stage(10, 1 << 20);
    let (first, second) = (stage.connect(), stage.connect());
    send_all(&first, [many(0, 7), many(1, 0), many(2, 2)]);
    assert_eq!(buffered(&stage).messages, 10);
    let next = send_waiting(&stage, &second, many(3, 0));
    stage.take(2);
    stage.finish_oldest();
    assert_eq!(next.wait(), Ok(()));
    assert_eq!(buffered(&stage).messages, 4);
    assert_eq!(stage.end().stats.received, 11);
}

#[test]
fn exactly_as_many_bytes_fit_as_the_bound_says() {
    const ITEMS: usize = 5;
    const EACH: usize = 1000;
    let all = ITEMS * (EACH + weight_of_nothing());
    for (bound, fit) in [(all, ITEMS), (all - 1, ITEMS - 1)] {
        let stage = stage(100, bound);
        let (first, second) = (stage.connect(), stage.connect());
        send_all(&first, (0..fit as u64).map(|name| heavy(name, EACH)));
        assert_eq!(buffered(&stage).bytes as usize, all / ITEMS * fit);
        let next = send_waiting(&stage, &second, heavy(9, EACH));
        stage.take(1);
        stage.finish_oldest();
        assert_eq!(next.wait(), Ok(()));
        assert_eq!(buffered(&stage).bytes as usize, all / ITEMS * fit);
        stage.end();
    }
}

#[test]
fn a_small_item_does_not_overtake_a_large_one_that_waits() {
    let stage = stage(10, 1 << 20);
    let (first, large, small) = (stage.connect(), stage.connect(), stage.connect());
    send_all(&first, [many(0, 4), many(1, 4)]);
    let large = send_waiting(&stage, &large, many(2, 6));
    // There is room for it, and yet it is not its turn.
    let small = send_waiting(&stage, &small, many(3, 1));
    stage.take(1);
    stage.finish_oldest();
    assert_eq!((large.wait(), buffered(&stage).messages), (Ok(()), 10));
    small.assert_pending();
    stage.take(1);
    stage.finish_oldest();
    assert_eq!((small.wait(), buffered(&stage).messages), (Ok(()), 7));
    stage.end();
}

#[test]
fn an_item_heavier_than_the_whole_bound_is_refused_at_once() {
    const BYTES: usize = 8192;
    let nothing = weight_of_nothing();
    let stage = stage(10, BYTES);
    let from = stage.connect();
    let texts = [
        "the item weighs 11 messages, and the whole buffer holds 10: raise buffer_messages",
        "the item weighs 8193 bytes, and the whole buffer holds 8192: raise buffer_bytes",
    ];
    for (item, text) in [many(0, 11), heavy(1, BYTES - nothing + 1)]
        .into_iter()
        .zip(texts)
    {
        // A send that waited would do so for ten deadlines.
        let Err(SendError::TooHeavy(error)) = from.send(item).wait() else {
            panic!("{item:?} was not refused");
        };
        assert_eq!((error.item, error.to_string().as_str()), (item, text));
    }
    assert_eq!(
        stage.server.stats().dropped.get(DropReason::Oversize),
        11 + 1
    );
    assert_eq!(stage.server.stats().dropped.total(), 12);
    assert_eq!(buffered(&stage), Weight::default());
    // As heavy as the bound is not too heavy, and the connection goes on.
    send_all(&from, [heavy(2, BYTES - nothing)]);
    assert_eq!(buffered(&stage).bytes as usize, BYTES);
    stage.take(1);
    stage.finish_oldest();
    send_all(&from, [many(3, 10)]);
    assert_eq!(stage.end().stats.received, 11 + 1 + 1 + 10);
}

#[test]
fn room_comes_back_when_an_item_is_done_and_not_when_it_is_taken() {
    let stage = stage(10, 1 << 20);
    let (first, second) = (stage.connect(), stage.connect());
    send_all(&first, [many(0, 10)]);
    let next = send_waiting(&stage, &second, many(1, 3));
    stage.take(1);
    assert_eq!(buffered(&stage).messages, 10);

    // Its messages come back one by one, and its bytes with the last word.
    let bytes = buffered(&stage).bytes;
    stage.consumer(|_, held| held[0].ack_first(2)).wait();
    assert_eq!(buffered(&stage), Weight { messages: 8, bytes });
    next.assert_pending();
    let remaining = stage.consumer(|_, held| {
        held[0].ack_first(1);
        held[0].remaining()
    });
    assert_eq!(remaining.wait(), 7);
    assert_eq!(next.wait(), Ok(()));
    let both = Weight {
        messages: 7 + 3,
        bytes: 2 * bytes,
    };
    assert_eq!(buffered(&stage), both);
    assert_eq!(stage.server.stats().delivered, 3);

    // More than there is counts as what there is.
    stage.consumer(|_, held| held[0].ack_first(100)).wait();
    assert_eq!(stage.server.stats().delivered, 10);
    assert_eq!(buffered(&stage).messages, 3);
    stage.finish_oldest();
    assert_eq!(buffered(&stage), Weight { messages: 3, bytes });
    assert_eq!(stage.end().stats.delivered, 13);
}

#[test]
fn bytes_wait_for_the_last_word_even_when_every_message_is_done() {
    let nothing = weight_of_nothing();
    let stage = stage(100, 8192);
    let (first, second) = (stage.connect(), stage.connect());
    send_all(&first, [heavy(0, 8192 - nothing)]);
    let next = send_waiting(&stage, &second, Item::light(1));
    stage.take(1);
    stage.consumer(|_, held| held[0].ack_first(1)).wait();
    assert_eq!(
        buffered(&stage),
        Weight {
            messages: 0,
            bytes: 8192
        }
    );
    next.assert_pending();
    stage.finish_oldest();
    assert_eq!(next.wait(), Ok(()));
    stage.end();
}

#[test]
fn a_delivery_that_is_let_go_of_undone_is_booked_as_lost_and_gives_its_room_back() {
    let stage = stage(10, 1 << 20);
    let (first, second) = (stage.connect(), stage.connect());
    send_all(&first, [many(0, 4), many(1, 6)]);
    let next = send_waiting(&stage, &second, many(2, 9));
    stage.take(2);
    stage.consumer(|_, held| held[1].ack_first(4)).wait();
    stage.consumer(|_, held| held.clear()).wait();
    assert_eq!(next.wait(), Ok(()));
    let stats = stage.server.stats();
    assert_eq!(
        (stats.delivered, stats.dropped.get(DropReason::SinkFailed)),
        (4, 4 + 2)
    );
    assert_eq!(stats.buffered.messages, 9);
    let report = stage.end();
    assert_eq!(
        (report.stats.delivered, report.stats.dropped.total()),
        (13, 6)
    );
}

/// What a receive of at most ten deadlines found, if it came back at all.
fn receive(stage: &Stage) -> Answer<String> {
    stage.consumer(|receiver, _| match receiver.recv(DEADLINE * 10) {
        Received::Timeout | Received::RoomWanted => "tick".to_owned(),
        other => format!("{other:?}"),
    })
}

#[test]
fn a_receive_returns_at_once_when_a_sender_waits_for_what_the_consumer_holds() {
    let stage = stage(2, 1 << 20);
    let (first, second) = (stage.connect(), stage.connect());
    send_all(&first, (0..2).map(Item::light));
    stage.take(2);
    let next = send_waiting(&stage, &second, Item::light(2));
    assert_eq!(receive(&stage).wait(), "tick");
    stage.finish_oldest();
    assert_eq!(next.wait(), Ok(()));
    stage.end();
}

#[test]
fn a_receive_that_blocks_returns_when_a_sender_begins_to_wait() {
    let stage = stage(2, 1 << 20);
    let (first, second) = (stage.connect(), stage.connect());
    send_all(&first, (0..2).map(Item::light));
    stage.take(2);
    let received = receive(&stage);
    // It holds undone deliveries, but nobody waits for them.
    stays("the receive blocks", A_WHILE, || received.is_pending());
    let next = send_waiting(&stage, &second, Item::light(2));
    assert_eq!(received.wait(), "tick");
    stage.finish_oldest();
    assert_eq!(next.wait(), Ok(()));
    stage.end();
}

#[test]
fn a_receive_is_woken_by_the_sender_and_does_not_find_it_by_looking() {
    let stage = stage(2, 1 << 20);
    let (first, second) = (stage.connect(), stage.connect());
    send_all(&first, (0..2).map(Item::light));
    stage.take(2);
    let mut names = 2..;
    // Unwoken it would look around every 100 ms.
    wait_until_prompt(Duration::from_millis(100), || {
        let name = names.next().unwrap();
        let received = receive(&stage);
        thread::sleep(BLOCKS_BY);
        let began = Instant::now();
        let next = second.send(Item::light(name));
        assert_eq!(received.wait(), "tick");
        let waited = began.elapsed();
        stage.finish_oldest();
        assert_eq!(next.wait(), Ok(()));
        stage.take(1);
        waited
    });
    stage.end();
}

#[test]
fn a_receive_waits_for_its_tick_when_nobody_waits() {
    let stage = stage(2, 1 << 20);
    let tick = Duration::from_millis(100);
    let waited = stage.consumer(move |receiver, _| {
        let began = Instant::now();
        let is_tick = matches!(
            receiver.recv(tick),
            Received::Timeout | Received::RoomWanted
        );
        (is_tick, began.elapsed())
    });
    let (is_tick, waited) = waited.wait();
    assert!(is_tick && waited >= tick, "{waited:?}");
    stage.end();
}

#[test]
fn a_look_into_the_inbox_does_not_wait() {
    let stage = stage(2, 1 << 20);
    send_all(&stage.connect(), [Item::light(7)]);
    let looks = stage.consumer(|receiver, held| {
        let Received::Message(delivery) = receiver.try_recv() else {
            panic!("an item was sent");
        };
        held.push(delivery);
        matches!(
            receiver.try_recv(),
            Received::Timeout | Received::RoomWanted
        )
    });
    assert!(looks.wait());
    assert_eq!(stage.finish_oldest(), Item::light(7));
    stage.end();
}
