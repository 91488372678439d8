//! Reads what a sink wrote and says, per connection, what arrived, what is missing, and what is
//! wrong with it.

use std::collections::{BTreeMap, HashSet};

use super::tagged;

/// How many broken lines are kept, to be shown.
const SHOWN: usize = 5;

/// What arrived of one connection, held against the messages `0..count` that it sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that arrived, repeated ones included.
    pub seen: u64,
    /// Messages of the range that never arrived.
    pub missing: u64,
    /// The lowest of them.
    pub first_missing: Option<u64>,
    /// Arrivals of a message that had arrived before.
    pub duplicated: u64,
    /// First arrivals after a message with a higher number.
    pub misordered: u64,
    /// Different messages outside the range.
    pub beyond: u64,
}

impl Counters {
    fn is_in_order(&self) -> bool {
        self.duplicated == 0 && self.misordered == 0
    }
}

/// Collects tagged messages in the order in which a sink wrote them.
#[derive(Debug, Default)]
pub struct Checker {
    arrived: BTreeMap<u32, Vec<u64>>,
    torn: u64,
    shown: Vec<String>,
}

impl Checker {
    /// Reads a sink's whole output: lines, each ended by LF. A last one without it is torn.
    pub fn read(output: &[u8]) -> Checker {
        let mut checker = Checker::default();
        let whole = output
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in output[..whole].split_inclusive(|byte| *byte == b'\n') {
            checker.message(&line[..line.len() - 1]);
        }
        if whole < output.len() {
            checker.broken(&output[whole..], "no LF at the end");
        }
        checker
    }

    /// Adds one message, without its LF, as a consumer in this process was given it.
    pub fn message(&mut self, message: &[u8]) {
        match tagged::parse(message) {
            Ok((connection, seq)) => self.arrived(connection, seq),
            Err(why) => self.broken(message, why),
        }
    }

    /// Adds one message that the test has recognised by itself.
    pub fn arrived(&mut self, connection: u32, seq: u64) {
        self.arrived.entry(connection).or_default().push(seq);
    }

    /// Adds one that is no whole message.
    pub fn broken(&mut self, line: &[u8], why: &str) {
        self.torn += 1;
        if self.shown.len() < SHOWN {
            let start = line[..line.len().min(80)].escape_ascii();
            self.shown
                .push(format!("{why}, {} bytes: {start}", line.len()));
        }
    }

    /// Lines that are no whole message.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Messages of all connections, repeated ones included.
    pub fn total(&self) -> u64 {
        self.arrived.values().map(|seqs| seqs.len() as u64).sum()
    }

    /// Messages of one connection, repeated ones included.
    pub fn seen(&self, connection: u32) -> u64 {
        self.arrived
            .get(&connection)
            .map_or(0, |seqs| seqs.len() as u64)
    }

    /// What arrived of `connection`, which sent `0..count`.
    pub fn counters(&self, connection: u32, count: u64) -> Counters {
        let mut counters = Counters::default();
        let mut known = HashSet::new();
        let mut highest = None;
        for &seq in self.arrived.get(&connection).map_or(&[][..], Vec::as_slice) {
            counters.seen += 1;
            if !known.insert(seq) {
                counters.duplicated += 1;
                continue;
            }
            if Some(seq) < highest {
                counters.misordered += 1;
            }
            highest = highest.max(Some(seq));
            if seq >= count {
                counters.beyond += 1;
            }
        }
        counters.missing = count - (known.len() as u64 - counters.beyond);
        if counters.missing > 0 {
            counters.first_missing = (0..count).find(|seq| !known.contains(seq));
        }
        counters
    }

    /// Everything that was sent arrived: once, whole and in order; nothing else did. A pair is a
    /// connection and its count.
    ///
    /// # Panics
    /// With each connection (the first few) of which that is not so.
    #[track_caller]
    pub fn expect_exact(&self, sent: &[(u32, u64)]) {
        self.expect("everything", sent, |counters| {
            counters.is_in_order() && counters.missing == 0
        });
    }

    /// What arrived of each connection is `0..n` without a gap, `n` at most its count: once, whole
    /// and in order; nothing of any other connection did.
    ///
    /// # Panics
    /// With each connection (the first few) of which that is not so.
    #[track_caller]
    pub fn expect_prefix(&self, sent: &[(u32, u64)]) {
        // Without duplicates and strangers, a gapless prefix is one whose first missing message is
        // number `seen`.
        self.expect("a prefix", sent, |counters| {
            let first = counters.first_missing;
            counters.is_in_order() && first.is_none_or(|first| first == counters.seen)
        });
    }

    /// What arrived of each connection did so once, whole and in order, with gaps or without;
    /// nothing of any other connection did. This is what a server that may drop promises.
    ///
    /// # Panics
    /// With each connection (the first few) of which that is not so.
    #[track_caller]
    pub fn expect_ordered(&self, sent: &[(u32, u64)]) {
        self.expect("order", sent, Counters::is_in_order);
    }

    /// What arrived of each connection is whole, in whatever order and however often; nothing of
    /// any other connection did. This is what a server promises that sends again what was not
    /// answered.
    ///
    /// # Panics
    /// With each connection (the first few) of which that is not so.
    #[track_caller]
    pub fn expect_known(&self, sent: &[(u32, u64)]) {
        self.expect("known messages", sent, |_| true);
    }

    #[track_caller]
    fn expect(&self, what: &str, sent: &[(u32, u64)], is_sound: impl Fn(&Counters) -> bool) {
        let mut faults = self.shown.clone();
        let mut count = self.torn;
        let mut fault = |text: String| {
            count += 1;
            if faults.len() < 2 * SHOWN {
                faults.push(text);
            }
        };
        let counts: BTreeMap<u32, u64> = sent.iter().copied().collect();
        assert_eq!(
            counts.len(),
            sent.len(),
            "the test names a connection twice"
        );
        for (&connection, &count) in &counts {
            let counters = self.counters(connection, count);
            if counters.beyond > 0 || !is_sound(&counters) {
                fault(format!("connection {connection} of {count}: {counters:?}"));
            }
        }
        for (connection, seqs) in self
            .arrived
            .iter()
            .filter(|(connection, _)| !counts.contains_key(connection))
        {
            fault(format!(
                "connection {connection} sent nothing, and {} of its messages arrived",
                seqs.len()
            ));
        }
        assert!(
            count == 0,
            "expected {what}; {count} faults ({} torn), {} messages in all:\n  {}",
            self.torn,
            self.total(),
            faults.join("\n  ")
        );
    }
}
