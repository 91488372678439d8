//! What has to hold when a server is over, whatever happened to it.

use std::collections::{BTreeMap, BTreeSet};

use super::answering::{Speech, Taken};
use super::beside::{Beside, Third};
use super::client::{Sent, Whole};
use super::common::checker::{Checker, Counters};
use super::common::exit::Exit;
use super::envelope;
use super::receiver::Came;
use super::script::{Kept, Settings};
use super::wire::{self, Seen};

/// What arrived at one output.
struct Arrived<'a> {
    settings: &'a Settings,
    sent: &'a Sent,
    has_envelope: bool,
    /// Whether each listener sends to it.
    from: [bool; 2],
    messages: u64,
    blank: u64,
    /// Beginnings that the end of a stream may still have made messages.
    partial: BTreeMap<Vec<u8>, u64>,
    /// Each of them may come again.
    may_repeat: bool,
    checker: Checker,
}

impl<'a> Arrived<'a> {
    fn new(settings: &'a Settings, sent: &'a Sent, output: usize) -> Arrived<'a> {
        let beside = settings.beside.as_ref();
        Arrived {
            settings,
            sent,
            has_envelope: beside.is_some_and(|beside| beside.has_envelope[output]),
            from: [0, 1].map(|nth| beside.is_none_or(|beside| beside.routes[nth][output])),
            messages: 0,
            blank: 0,
            partial: sent.partial.clone(),
            may_repeat: false,
            checker: Checker::default(),
        }
    }

    /// Takes a stream's whole messages, and returns how many bytes are left of one that is not.
    fn take(&mut self, framing: &str, stream: &[u8]) -> usize {
        let (messages, rest) = wire::read(framing, stream);
        for message in messages {
            self.one(message);
        }
        rest.len()
    }

    /// Takes a message as it is in an output.
    fn one(&mut self, message: &[u8]) {
        self.messages += 1;
        if !self.has_envelope {
            return self.message(message, None);
        }
        match envelope::open(message) {
            Ok((message, listener)) => self.message(&message, Some(listener)),
            Err(why) => self.checker.broken(message, why),
        }
    }

    /// Takes a message that was taken by a receiver that speaks so.
    fn answered(&mut self, speech: Speech, message: &[u8]) {
        match speech {
            Speech::Bulk if !self.has_envelope => {
                self.messages += 1;
                match envelope::document(message) {
                    Ok(Some(message)) => self.message(&message, None),
                    // Which one it was cannot be told.
                    Ok(None) => {}
                    Err(why) => self.checker.broken(message, why),
                }
            }
            Speech::Lines => self.one(&wire::of_line(message)),
            Speech::Bulk | Speech::Redis => self.one(message),
        }
    }

    /// `listener`: the envelope's word.
    fn message(&mut self, message: &[u8], listener: Option<usize>) {
        match self.recognise(message) {
            Seen::Blank => self.blank += 1,
            Seen::Tagged(connection, seq) => {
                let came_to = self.sent.listeners.get(&connection).copied();
                if came_to.is_some_and(|nth| !self.from[nth]) {
                    self.checker
                        .broken(message, "its listener does not send here");
                }
                if listener.is_some() && listener != came_to {
                    self.checker
                        .broken(message, "another listener in the envelope");
                }
                self.checker.arrived(connection, seq);
            }
            Seen::Broken(why) => match self.partial.get_mut(message) {
                // The end of a stream made it a message.
                Some(_) if self.may_repeat => {}
                Some(count @ 1..) => *count -= 1,
                _ => self.checker.broken(message, why),
            },
        }
    }

    /// As its connection's listener has it: the tag of a message says which connection sent it.
    fn recognise(&self, message: &[u8]) -> Seen {
        let framings = [self.settings.framing, self.settings.second];
        let [first, second] = framings.map(|framing| wire::recognise(framing, message));
        let is_of_second = match &second {
            Seen::Tagged(connection, _) => {
                let came_to = self.sent.listeners.get(connection);
                came_to.is_some_and(|&nth| framings[nth] == framings[1])
            }
            Seen::Blank => true,
            Seen::Broken(_) => false,
        };
        if is_of_second { second } else { first }
    }

    /// Once, whole and in order.
    fn judge(&self) {
        self.checker.expect_ordered(&self.sent.begun);
        let (blank, sent) = (self.blank, self.sent.blank);
        assert!(blank <= sent, "{blank} blank ones of {sent}");
    }

    /// Of each connection of the clients.
    fn counters(&self) -> impl Iterator<Item = (u32, Counters)> {
        let begun = self.sent.begun.iter();
        begun.map(|&(connection, count)| (connection, self.checker.counters(connection, count)))
    }

    /// Messages that were recognised and had arrived before.
    fn repeated(&self) -> u64 {
        self.counters()
            .map(|(_, counters)| counters.duplicated)
            .sum()
    }

    /// Of whom everything was read, everything is here.
    fn judge_whole(&self, exit: &Exit) {
        for whole in &self.sent.whole {
            let came_to = self.sent.listeners[&whole.connection];
            let Some(missing) = self.missing_of(whole).filter(|_| self.from[came_to]) else {
                continue;
            };
            let counters = self.checker.counters(whole.connection, whole.messages);
            assert_eq!(counters.missing, missing, "{whole:?}: {counters:?}; {exit}");
        }
    }

    /// Where the policy is to close, what comes behind one that is too long is not read.
    fn missing_of(&self, whole: &Whole) -> Option<u64> {
        match (self.settings.oversize, whole.oversize) {
            ("truncate", _) | (_, 0) => Some(0),
            ("drop", oversize) => Some(oversize),
            _ => None,
        }
    }
}

/// # Panics
/// With what does not hold.
#[track_caller]
pub fn judge(
    settings: &Settings,
    exit: &Exit,
    kept: &[u8],
    came: Option<&Came>,
    third: Option<&[u8]>,
    sent: &Sent,
) {
    assert!(
        matches!(exit.code, Some(0 | 3 | 4)) && exit.report["error"].is_null(),
        "{exit}"
    );
    exit.assert_closes();
    assert_eq!(exit.report["stuck"], 0, "{exit}");
    let known = exit.u64("bytes_read") + exit.u64("unread_bytes");
    assert!(known <= sent.bytes, "clients sent {}: {exit}", sent.bytes);

    let rejected = exit.sum("connections.rejected") - exit.u64("connections.rejected.shutdown");
    let is_lossless = exit.sum("dropped") == exit.u64("dropped.oversize") && rejected == 0;
    let is_whole = settings.is_gentle && is_lossless;

    judge_kept(settings, settings.kept, exit, 0, kept, sent, is_whole);
    if let (Some(Third { kept, .. }), Some(bytes)) = (
        settings.beside.as_ref().and_then(|it| it.third.as_ref()),
        third,
    ) {
        let has_all = is_whole && exit.sum("outputs.2.dropped") == 0;
        judge_kept(settings, *kept, exit, 2, bytes, sent, has_all);
    }
    if let (Some(beside), Some(came)) = (&settings.beside, came) {
        judge_rows(beside, exit);
        let (refused, told) = (exit.u64("outputs.1.dropped.refused"), came.taken.refused);
        assert!(refused <= told, "the receiver has refused {told}: {exit}");
        let has_all = is_whole && exit.sum("outputs.1.dropped") == 0;
        match beside.speech {
            None => judge_second(settings, beside, exit, came, sent, has_all),
            Some(speech) => {
                judge_answered(settings, beside, speech, exit, &came.taken, sent, has_all);
            }
        }
    }
}

/// An output's messages are in its file, or have come out of its FIFO, once.
fn judge_kept(
    settings: &Settings,
    kept: Kept,
    exit: &Exit,
    output: usize,
    bytes: &[u8],
    sent: &Sent,
    has_all: bool,
) {
    let row = match settings.beside {
        Some(_) => format!("outputs.{output}."),
        None => String::new(),
    };
    let mut arrived = Arrived::new(settings, sent, output);
    let rest = arrived.take(settings.output, bytes);
    let is_cut = exit.u64(&format!("{row}dropped.shutdown")) > 0;
    assert!(
        rest == 0 || is_cut,
        "{output}: {rest} bytes of half a message: {exit}"
    );
    let (delivered, messages) = (exit.u64(&format!("{row}delivered")), arrived.messages);
    let is_synced = matches!(kept, Kept::Rotated { fsync: "batch", .. });
    if is_cut && is_synced {
        // What was written was not synced yet.
        assert!(delivered <= messages, "{output}: {messages}: {exit}");
    } else {
        assert_eq!(delivered, messages, "{output}: {exit}");
    }
    arrived.judge();
    if has_all {
        arrived.judge_whole(exit);
    }
}

/// What the rows of outputs say, held against what the listeners' say.
fn judge_rows(beside: &Beside, exit: &Exit) {
    for (nth, &name) in beside.names().iter().enumerate() {
        let count = |figure: &str| exit.u64(&format!("outputs.{nth}.{figure}"));
        let of_listeners = |figure: &str| -> u64 {
            let from = beside
                .routes
                .iter()
                .zip(0..)
                .filter(|(route, _)| route[nth]);
            from.map(|(_, at)| exit.u64(&format!("listeners.{at}.{figure}")))
                .sum()
        };
        let is_required = beside.is_required(nth);
        let output = &exit.report["outputs"][nth];
        assert_eq!(output["name"], name, "{exit}");
        assert_eq!(output["required"], is_required, "{exit}");
        // The thread of each has ended, and nothing is before it.
        assert_eq!(
            (count("in_flight"), count("buffered_bytes")),
            (0, 0),
            "{exit}"
        );
        // What was dropped sooner was handed to nobody.
        let (received, delivered) = (of_listeners("received"), of_listeners("delivered"));
        assert!(
            count("received") <= received,
            "{name} of {received}: {exit}"
        );
        assert!(
            count("received") >= delivered,
            "{name} of {delivered}: {exit}"
        );
        let dropped = exit.sum(&format!("outputs.{nth}.dropped"));
        let settled = count("dropped.shutdown") + count("dropped.refused");
        if !is_required {
            assert_eq!(dropped, settled + count("dropped.full"), "{exit}");
            continue;
        }
        // What it has not accepted is not delivered.
        assert!(
            count("delivered") >= delivered,
            "{name} of {delivered}: {exit}"
        );
        assert_eq!(dropped, settled, "{exit}");
        let at_the_end = count("dropped.shutdown");
        assert!(at_the_end == 0 || exit.code == Some(4), "{name}: {exit}");
    }
    let of_all = (0..beside.names().len()).filter(|&nth| beside.routes.iter().all(|it| it[nth]));
    let received: BTreeSet<u64> = of_all
        .map(|nth| exit.u64(&format!("outputs.{nth}.received")))
        .collect();
    assert!(
        received.len() <= 1,
        "{received:?} of those that are handed everything: {exit}"
    );
    if exit.code != Some(4) {
        judge_delivered(beside, exit);
    }
}

/// Every required output has accepted or refused what it was handed, so all of that was delivered,
/// but for what one of them has refused.
fn judge_delivered(beside: &Beside, exit: &Exit) {
    for (nth, name) in beside.names().iter().enumerate() {
        if !beside.is_required(nth) {
            continue;
        }
        let from = beside
            .routes
            .iter()
            .zip(0..)
            .filter(|(route, _)| route[nth]);
        let settled = |row: String| {
            exit.u64(&format!("{row}.delivered")) + exit.u64(&format!("{row}.dropped.refused"))
        };
        let of_listeners: u64 = from.map(|(_, at)| settled(format!("listeners.{at}"))).sum();
        let of_row = settled(format!("outputs.{nth}"));
        assert_eq!(of_row, of_listeners, "{name}: {exit}");
    }
}

/// The second output's messages arrive at most once. A message whose connection was lost begins
/// anew on the next one, so its beginning is left out.
fn judge_second(
    settings: &Settings,
    beside: &Beside,
    exit: &Exit,
    came: &Came,
    sent: &Sent,
    has_all: bool,
) {
    let mut arrived = Arrived::new(settings, sent, 1);
    let mut rest = 0;
    for stream in came.streams.iter().filter(|stream| !stream.is_empty()) {
        rest = arrived.take(beside.output, stream);
    }
    let is_cut = exit.u64("outputs.1.dropped.shutdown") > 0;
    assert!(
        rest == 0 || is_cut || came.was_reset,
        "{rest} bytes of half a message: {exit}"
    );
    arrived.judge();
    let delivered = exit.u64("outputs.1.delivered");
    // At the last deadline a command is killed, whatever is in its pipe.
    if came.was_reset || (beside.is_command && is_cut) {
        let messages = arrived.messages;
        assert!(messages <= delivered, "{messages} arrived: {exit}");
        return;
    }
    assert_eq!(arrived.messages, delivered, "{exit}");
    if has_all {
        arrived.judge_whole(exit);
    }
}

/// The second output's messages arrive at least once, whatever their receiver answered.
fn judge_answered(
    settings: &Settings,
    beside: &Beside,
    speech: Speech,
    exit: &Exit,
    taken: &Taken,
    sent: &Sent,
    has_all: bool,
) {
    let of = |may_repeat| Arrived {
        may_repeat,
        ..Arrived::new(settings, sent, 1)
    };
    let mut arrived = of(true);
    let mut connections = BTreeMap::<usize, Arrived<'_>>::new();
    for (connection, message) in &taken.messages {
        arrived.answered(speech, message);
        let connection = connections.entry(*connection).or_insert_with(|| of(false));
        connection.answered(speech, message);
    }
    arrived.checker.expect_known(&sent.begun);
    let count = |figure: &str| exit.u64(&format!("outputs.1.{figure}"));
    let (delivered, repeated, said) = (count("delivered"), arrived.repeated(), taken.said);
    let once = arrived.messages - repeated;
    assert!(
        delivered <= said,
        "of {said} it was said that they are taken: {exit}"
    );
    assert!(
        delivered <= once,
        "{once} arrived, {repeated} again: {exit}"
    );
    let recognised = arrived.checker.total() - repeated;
    assert!(
        recognised <= count("received"),
        "{recognised} arrived: {exit}"
    );
    if speech == Speech::Redis {
        // What is sent again is so on another connection.
        connections.values().for_each(Arrived::judge);
        let failures = count("sink_failures");
        assert!(
            failures > 0 || repeated == 0,
            "{repeated} again without a failure: {exit}"
        );
    }
    if speech == Speech::Lines && beside.requests == 1 {
        for (connection, counters) in arrived.counters() {
            let is_in_order = counters.misordered == 0;
            assert!(is_in_order, "{connection}: {counters:?}: {exit}");
        }
    }
    if has_all && (speech != Speech::Bulk || arrived.has_envelope) {
        arrived.judge_whole(exit);
    }
}
