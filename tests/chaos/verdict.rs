//! What has to hold when a server is over, whatever happened to it.

use super::client::Sent;
use super::common::checker::Checker;
use super::common::exit::Exit;
use super::script::Settings;
use super::wire::{self, Seen};

/// As its connection's listener has it: the tag of a message says which connection sent it.
fn recognise(settings: &Settings, sent: &Sent, message: &[u8]) -> Seen {
    let first = wire::recognise(settings.framing, message);
    let is_of = |seen: &Seen, framing| match seen {
        Seen::Tagged(connection, _) => sent.framings.get(connection) == Some(&framing),
        Seen::Blank => true,
        Seen::Broken(_) => false,
    };
    let second = wire::recognise(settings.second, message);
    match is_of(&second, settings.second) {
        true => second,
        false => first,
    }
}

/// # Panics
/// With what does not hold.
#[track_caller]
pub fn judge(settings: &Settings, exit: &Exit, output: &[u8], mut sent: Sent) {
    assert!(
        matches!(exit.code, Some(0 | 3 | 4)) && exit.report["error"].is_null(),
        "{exit}"
    );
    exit.assert_closes();
    assert_eq!(exit.report["stuck"], 0, "{exit}");
    let known = exit.u64("bytes_read") + exit.u64("unread_bytes");
    assert!(known <= sent.bytes, "clients sent {}: {exit}", sent.bytes);

    let (messages, rest) = wire::read(settings.output, output);
    assert!(
        rest.is_empty() || exit.code == Some(4),
        "{} bytes of half a message: {exit}",
        rest.len()
    );
    assert_eq!(exit.u64("delivered"), messages.len() as u64, "{exit}");
    let mut checker = Checker::default();
    let mut blank = 0;
    for message in messages {
        match recognise(settings, &sent, message) {
            Seen::Blank => blank += 1,
            Seen::Tagged(connection, seq) => checker.arrived(connection, seq),
            Seen::Broken(why) => match sent.partial.get_mut(message) {
                // The end of a stream made it a message.
                Some(count @ 1..) => *count -= 1,
                _ => checker.broken(message, why),
            },
        }
    }
    checker.expect_ordered(&sent.begun);
    assert!(blank <= sent.blank, "{blank} blank ones of {}", sent.blank);

    let rejected = exit.sum("connections.rejected") - exit.u64("connections.rejected.shutdown");
    let is_lossless = exit.sum("dropped") == exit.u64("dropped.oversize") && rejected == 0;
    if settings.is_gentle && is_lossless {
        for whole in &sent.whole {
            // Where the policy is to close, what comes behind one that is too long is not read.
            let missing = match (settings.oversize, whole.oversize) {
                ("truncate", _) | (_, 0) => 0,
                ("drop", oversize) => oversize,
                _ => continue,
            };
            let counters = checker.counters(whole.connection, whole.messages);
            assert_eq!(counters.missing, missing, "{whole:?}: {counters:?}; {exit}");
        }
    }
}
