//! What a sender meets when the buffer stays full: `when_full` and `send_timeout`.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::common::client::{self, Closed};
use crate::common::puppets::{Actor, Item, Stage};
use crate::common::small;
use crate::common::wait::{DEADLINE, stays, wait_until};
use drainline::policy::OverloadLevel;
use drainline::{DropReason, EndReason, Ended, PauseAfter, SendError, WhenFull};

const TIMEOUT: Duration = Duration::from_millis(200);

/// A server whose buffer holds one message, and that message.
fn full_stage(when_full: WhenFull) -> (Stage, Actor) {
    let mut config = small::config();
    config.buffer_messages = 1;
    config.when_full = when_full;
    config.send_timeout = TIMEOUT;
    config.pause_after = PauseAfter::Off;
    let stage = Stage::start(config);
    let first = stage.connect();
    assert_eq!(first.send(Item::light(0)).wait(), Ok(()));
    (stage, first)
}

/// What a send came to, and how long it took.
fn timed(actor: &Actor, item: Item) -> (Result<(), SendError<Item>>, Duration) {
    let sent = actor.run(move |_, out| {
        let began = Instant::now();
        (out.send(item), began.elapsed())
    });
    sent.wait()
}

/// So many sends, and less than they take if each waits.
const MANY: u64 = 30;
const LESS_THAN_MANY: Duration = Duration::from_millis(TIMEOUT.as_millis() as u64 / 2 * MANY);

#[test]
fn abort_ends_the_connection_after_the_timeout_and_gives_the_item_back() {
    let (stage, _first) = full_stage(WhenFull::Abort);
    let mut actor = stage.connect();
    let ended = actor.run(|conn, out| {
        let began = Instant::now();
        let first = out.send(Item::light(1));
        let took = began.elapsed();
        // From now on everything fails at once, and says why.
        let later: Vec<_> = (0..MANY).map(|name| out.send(Item::light(name))).collect();
        let read = conn.read(&mut [0]).unwrap_err();
        (first, took, later, Ended::reason_of(&read))
    });
    let (first, took, later, read) = ended.wait();
    assert_eq!(first, Err(SendError::Aborted(Item::light(1))));
    assert!(took >= TIMEOUT, "{took:?}");
    let aborted = (0..MANY).map(|name| Err(SendError::Aborted(Item::light(name))));
    assert_eq!(later, aborted.collect::<Vec<_>>());
    assert_eq!(read, Some(EndReason::SendTimeout));

    assert_eq!(client::wait_for_close(&mut actor.client), Closed::Clean);
    wait_until("the loss seen", DEADLINE, || {
        stage
            .server
            .stats()
            .overload_seconds
            .get(OverloadLevel::Shedding)
            > Duration::ZERO
    });
    wait_until("its end counted", DEADLINE, || {
        stage.server.stats().ended.get(EndReason::SendTimeout) == 1
    });
    let report = stage.end();
    assert_eq!(
        report.stats.dropped.get(DropReason::ConnectionClosed),
        MANY + 1
    );
    assert_eq!(
        (report.stats.received, report.stats.delivered),
        (MANY + 2, 1)
    );
}

#[test]
fn drop_waits_once_and_then_not_again_until_one_succeeds() {
    let (stage, _first) = full_stage(WhenFull::Drop);
    let actor = stage.connect();
    let (sent, took) = timed(&actor, Item::light(1));
    assert_eq!(sent, Err(SendError::Full(Item::light(1))));
    assert!(took >= TIMEOUT, "{took:?}");

    let mut together = Duration::ZERO;
    for name in 0..MANY {
        let (sent, took) = timed(&actor, Item::light(name));
        assert_eq!(sent, Err(SendError::Full(Item::light(name))));
        together += took;
    }
    assert!(together < LESS_THAN_MANY, "{together:?}");

    // One that succeeds gives the patience back.
    stage.take(1);
    stage.finish_oldest();
    assert_eq!(actor.send(Item::light(2)).wait(), Ok(()));
    let (sent, took) = timed(&actor, Item::light(3));
    assert_eq!(sent, Err(SendError::Full(Item::light(3))));
    assert!(took >= TIMEOUT, "{took:?}");

    assert!(!client::is_closed(&actor.client));
    let report = stage.end();
    assert_eq!(report.stats.dropped.get(DropReason::Full), MANY + 2);
    assert_eq!(report.stats.dropped.total(), MANY + 2);
    assert_eq!(
        (report.stats.received, report.stats.delivered),
        (MANY + 4, 2)
    );
    assert_eq!(report.stats.ended.get(EndReason::SendTimeout), 0);
}

#[test]
fn drop_does_not_wait_again_because_of_an_item_that_could_never_fit() {
    let (stage, _first) = full_stage(WhenFull::Drop);
    let actor = stage.connect();
    let too_heavy = Item {
        messages: 2,
        ..Item::light(1)
    };
    let mut together = Duration::ZERO;
    assert_eq!(
        timed(&actor, Item::light(0)).0,
        Err(SendError::Full(Item::light(0)))
    );
    for name in 0..MANY {
        let sent = actor.send(too_heavy).wait();
        assert!(matches!(sent, Err(SendError::TooHeavy(error)) if error.item == too_heavy));
        let (sent, took) = timed(&actor, Item::light(name));
        assert_eq!(sent, Err(SendError::Full(Item::light(name))));
        together += took;
    }
    assert!(together < LESS_THAN_MANY, "{together:?}");
    stage.end();
}

#[test]
fn drop_spends_the_patience_of_one_connection_and_of_no_other() {
    let (stage, _first) = full_stage(WhenFull::Drop);
    let (one, other) = (stage.connect(), stage.connect());
    assert!(timed(&one, Item::light(1)).0.is_err());
    let (sent, took) = timed(&other, Item::light(2));
    assert!(sent.is_err() && took >= TIMEOUT, "{took:?}");
    stage.end();
}

#[test]
fn wait_waits_beyond_every_timeout_and_loses_nothing() {
    let (stage, _first) = full_stage(WhenFull::Block);
    let actor = stage.connect();
    let sent = actor.send(Item::light(1));
    stays("it waits", TIMEOUT * 4, || sent.is_pending());
    wait_until("the wait seen", DEADLINE, || {
        stage.server.stats().overload == OverloadLevel::Backpressure
    });
    stage.take(1);
    stage.finish_oldest();
    assert_eq!(sent.wait(), Ok(()));
    let report = stage.end();
    assert_eq!(
        (report.stats.delivered, report.stats.dropped.total()),
        (2, 0)
    );
}

#[test]
fn an_abort_by_hand_ends_a_wait_that_has_no_end() {
    let (stage, _first) = full_stage(WhenFull::Block);
    let actor = stage.connect();
    let id = actor.id();
    let sent = actor.send(Item::light(1));
    wait_until("a sender in line", DEADLINE, || {
        stage.server.stats().senders_waiting == 1
    });
    assert!(stage.server.abort(id));
    assert!(!stage.server.abort(id), "it was ended already");
    assert!(!stage.server.abort(id + 100), "there is no such connection");
    assert_eq!(sent.wait(), Err(SendError::Aborted(Item::light(1))));
    drop(actor);
    let report = stage.end();
    assert_eq!(report.stats.dropped.get(DropReason::ConnectionClosed), 1);
    assert_eq!(report.stats.ended.get(EndReason::Aborted), 1);
}
