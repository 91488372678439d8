//! What was sent and is not answered, and what has to be sent again, in which order.

use std::collections::VecDeque;
use std::ops::Range;

/// Messages of one batch that stand next to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The batch's number.
    pub(super) number: u64,
    /// The messages' places in the batch.
    pub(super) messages: Range<u64>,
    /// Bytes of their commands, where these are sent.
    bytes: usize,
}

impl Piece {
    pub(super) fn new(number: u64, messages: Range<u64>) -> Self {
        Piece {
            number,
            messages,
            bytes: 0,
        }
    }

    /// Adds what follows, if it does. A piece that is answered gives its bytes back at once, so it
    /// does not grow without end.
    fn takes(&mut self, number: u64, message: u64, bytes: usize) -> bool {
        let follows = self.number == number && self.messages.end == message;
        if follows && self.bytes < MAX_PIECE {
            self.messages.end += 1;
            self.bytes += bytes;
            return true;
        }
        false
    }
}

/// The least bytes at which a piece grows no more.
const MAX_PIECE: usize = 16 << 10;

/// The messages of one connection at a time. Answers come in the order of the commands.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: VecDeque<Piece>,
    /// Bytes of the commands in `sent`.
    bytes: usize,
    /// Answered with an error that may pass, on this connection.
    failed: Vec<Piece>,
    /// To be sent before anything new.
    again: VecDeque<Piece>,
    /// The number of the first batch that was never begun.
    next: u64,
}

impl InFlight {
    /// What is to be sent next; `messages_of` says how many a batch has that is held.
    pub(super) fn next_piece(&mut self, messages_of: impl Fn(u64) -> Option<u64>) -> Option<Piece> {
        if let Some(piece) = self.again.pop_front() {
            return Some(piece);
        }
        let messages = messages_of(self.next)?;
        self.next += 1;
        Some(Piece::new(self.next - 1, 0..messages))
    }

    /// What of a piece is not sent after all.
    pub(super) fn put_back(&mut self, piece: Piece) {
        if !piece.messages.is_empty() {
            self.again
                .push_front(Piece::new(piece.number, piece.messages));
        }
    }

    /// The command of a message is begun: `bytes` long.
    pub(super) fn sends(&mut self, number: u64, message: u64, bytes: usize) {
        self.bytes += bytes;
        if let Some(last) = self.sent.back_mut()
            && last.takes(number, message, bytes)
        {
            return;
        }
        self.sent.push_back(Piece {
            number,
            messages: message..message + 1,
            bytes,
        });
    }

    /// Bytes of commands that are sent and not answered, to the whole piece.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Messages that are sent and not answered.
    pub(super) fn messages(&self) -> u64 {
        let messages = self.sent.iter().map(|piece| &piece.messages);
        messages.map(|messages| messages.end - messages.start).sum()
    }

    /// Takes as many of the next `most` answered messages as are of one piece. `None`: nothing is
    /// out.
    pub(super) fn answered(&mut self, most: u64) -> Option<Piece> {
        let first = self.sent.front_mut()?;
        let start = first.messages.start;
        let end = first.messages.end.min(start.saturating_add(most));
        let answered = Piece::new(first.number, start..end);
        first.messages.start = end;
        if first.messages.is_empty() {
            self.bytes -= first.bytes;
            self.sent.pop_front();
        }
        Some(answered)
    }

    /// What was answered with an error that may pass.
    pub(super) fn failed(&mut self, piece: Piece) {
        match self.failed.last_mut() {
            Some(last)
                if last.number == piece.number && last.messages.end == piece.messages.start =>
            {
                last.messages.end = piece.messages.end;
            }
            _ => self.failed.push(piece),
        }
    }

    /// The connection is over: what failed and what is unanswered is to be sent again, in the order
    /// in which it was sent, before what was to be sent anyway.
    pub(super) fn is_over(&mut self) {
        let unanswered = self.sent.drain(..);
        let all = self.failed.drain(..).chain(unanswered);
        let all: Vec<Piece> = all
            .map(|piece| Piece::new(piece.number, piece.messages))
            .collect();
        for piece in all.into_iter().rev() {
            match self.again.front_mut() {
                Some(first)
                    if first.number == piece.number
                        && first.messages.start == piece.messages.end =>
                {
                    first.messages.start = piece.messages.start;
                }
                _ => self.again.push_front(piece),
            }
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Send(u64),
        Accept(u64),
        Fail(u64),
        Lose,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..9u64).prop_map(Step::Send),
            4 => (1..9u64).prop_map(Step::Accept),
            2 => (1..5u64).prop_map(Step::Fail),
            1 => Just(Step::Lose),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// Against a list of all messages: each is out at most once, each is accepted exactly once
        /// in the end, and what is sent on one connection is in order.
        #[test]
        fn each_message_is_accepted_once(
            sizes in proptest::collection::vec(1..7u64, 1..9),
            steps in steps(),
        ) {
            let mut in_flight = InFlight::default();
            let mut accepted: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            let mut current: Option<Piece> = None;
            let mut last = None;
            let ends = [Step::Lose, Step::Send(u64::MAX), Step::Accept(u64::MAX)];
            for step in steps.into_iter().chain(ends) {
                match step {
                    Step::Send(most) => for _ in 0..most {
                        let of = |number| sizes.get(number as usize).copied();
                        let Some(mut piece) = current.take().or_else(|| in_flight.next_piece(of))
                        else {
                            break;
                        };
                        let place = (piece.number, piece.messages.start);
                        prop_assert!(last < Some(place), "{last:?} before {place:?}");
                        last = Some(place);
                        prop_assert!(!accepted.contains_key(&place), "{place:?} again");
                        in_flight.sends(place.0, place.1, 5000);
                        piece.messages.start += 1;
                        current = Some(piece).filter(|piece| !piece.messages.is_empty());
                    }
                    Step::Accept(mut most) => while most > 0 {
                        let Some(piece) = in_flight.answered(most) else { break };
                        most -= piece.messages.end - piece.messages.start;
                        for message in piece.messages {
                            *accepted.entry((piece.number, message)).or_default() += 1;
                        }
                    }
                    Step::Fail(most) => if let Some(piece) = in_flight.answered(most) {
                        in_flight.failed(piece);
                    }
                    Step::Lose => {
                        if let Some(piece) = current.take() {
                            in_flight.put_back(piece);
                        }
                        in_flight.is_over();
                        prop_assert!(in_flight.is_empty() && in_flight.bytes() == 0);
                        last = None;
                    }
                }
            }
            let all = sizes.iter().enumerate();
            let all = all.flat_map(|(number, size)| (0..*size).map(move |at| (number as u64, at)));
            let all: Vec<_> = all.map(|place| (place, 1)).collect();
            prop_assert_eq!(accepted.into_iter().collect::<Vec<_>>(), all);
            prop_assert_eq!((in_flight.bytes(), in_flight.messages()), (0, 0));
        }
    }
}
