//! What arrived of each connection: the next number, and the gaps below it.

use std::collections::BTreeMap;
use std::io;

use super::super::tag::Tag;

/// Connections that can be told apart; 64 MB of memory.
pub(super) const MAX_CONNECTIONS: u32 = 4_000_000;
/// Gaps that are kept, over all connections; about 50 MB of memory.
const MAX_GAPS: usize = 1_000_000;

/// Everything that arrived.
#[derive(Debug)]
pub(super) struct SequenceCheck {
    /// By number: the load numbers its connections from 0.
    tracks: Vec<Track>,
    connections: Option<u32>,
    messages: Option<u64>,
    gaps: usize,
    max_gaps: usize,
    total: Total,
    show: usize,
    /// The first ones.
    torn: Vec<Torn>,
}

/// What arrived of one connection.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// One above the highest number that arrived; 0: nothing did.
    next: u64,
    /// Most connections have none.
    damage: Option<Box<Damage>>,
}

/// What is wrong with one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Damage {
    /// Ranges of numbers that did not arrive: the first of each, and one above its last.
    pub(super) gaps: BTreeMap<u64, u64>,
    pub(super) duplicated: u64,
    /// Arrived after a message with a higher number.
    pub(super) misordered: u64,
    /// Torn messages that begin like one of this connection.
    pub(super) torn: u64,
    /// Numbers that were not expected.
    pub(super) unexpected: u64,
    /// Nothing of it arrived.
    pub(super) is_absent: bool,
    /// Missing, of gaps that are kept no longer.
    forgotten: u64,
}

/// What is wrong with all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) connections: u64,
    /// Whole ones, repeated ones included.
    pub(super) messages: u64,
    pub(super) missing: u64,
    pub(super) duplicated: u64,
    pub(super) torn: u64,
    pub(super) misordered: u64,
    /// Messages, or of connections, that were not expected.
    pub(super) unexpected: u64,
    /// Connections of which nothing arrived.
    pub(super) absent: u64,
    /// There were more gaps than are kept: what came very late counts as duplicated.
    pub(super) is_rough: bool,
}

impl Total {
    /// Something arrived, and nothing is wrong with it.
    pub(super) fn is_clean(&self) -> bool {
        self.messages > 0 && self.damage() == 0
    }

    /// Nothing arrived, and nothing was said to be expected.
    pub(super) fn is_nothing(&self) -> bool {
        self.messages == 0 && self.damage() == 0
    }

    fn damage(&self) -> u64 {
        self.missing + self.duplicated + self.torn + self.misordered + self.unexpected + self.absent
    }
}

/// Something that is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Torn {
    /// Where in the input it begins.
    pub(super) offset: u64,
    pub(super) why: &'static str,
    /// How it begins.
    pub(super) text: String,
    /// The connection that it claims to be of.
    pub(super) connection: Option<u32>,
}

impl Torn {
    pub(super) fn new(offset: u64, bytes: &[u8], why: &'static str) -> Torn {
        // A counted message begins with its count.
        let header = (0..bytes.len().min(12)).find_map(|at| Tag::header(&bytes[at..]).ok());
        Torn {
            offset,
            why,
            text: bytes.escape_ascii().to_string(),
            connection: header.map(|(tag, _)| tag.connection),
        }
    }
}

impl SequenceCheck {
    pub(super) fn new(
        connections: Option<u32>,
        messages: Option<u64>,
        show: usize,
    ) -> SequenceCheck {
        SequenceCheck {
            tracks: Vec::new(),
            connections,
            messages,
            gaps: 0,
            max_gaps: MAX_GAPS,
            total: Total::default(),
            show,
            torn: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn keep_gaps(&mut self, max: usize) {
        self.max_gaps = max;
    }

    /// # Errors
    /// There are more connections than can be told apart.
    pub(super) fn arrived(&mut self, connection: u32, seq: u64) -> io::Result<()> {
        if connection >= MAX_CONNECTIONS {
            return Err(io::Error::other(format!(
                "connection {connection}: at most {MAX_CONNECTIONS} can be told apart"
            )));
        }
        self.total.messages += 1;
        let is_expected = self.connections.is_none_or(|count| connection < count)
            && self.messages.is_none_or(|count| seq < count);
        let track = self.track(connection);
        if !is_expected {
            track.damage().unexpected += 1;
        } else if seq == track.next {
            track.next += 1;
        } else {
            let before = track.gap_count();
            track.out_of_turn(seq);
            let after = track.gap_count();
            self.gaps = self.gaps + after - before;
            self.forget_gaps(connection);
        }
        Ok(())
    }

    pub(super) fn torn(&mut self, torn: Torn) {
        self.total.torn += 1;
        if let Some(connection) = torn.connection
            && connection < self.connections.unwrap_or(MAX_CONNECTIONS)
            && (connection as usize) < self.tracks.len()
        {
            self.track(connection).damage().torn += 1;
        }
        if self.torn.len() < self.show {
            self.torn.push(torn);
        }
    }

    /// Nothing more comes: what is expected and is not there is missing.
    pub(super) fn finish(&mut self) {
        if let Some(count) = self.connections {
            let all = self.tracks.len().max(count as usize);
            self.tracks.resize_with(all, Track::default);
        } else if self.messages.is_some() && self.tracks.is_empty() {
            // There was one connection at least.
            self.tracks.push(Track::default());
        }
        let expected = self
            .connections
            .map_or(self.tracks.len(), |count| count as usize);
        for track in &mut self.tracks[..expected] {
            if track.next == 0 {
                track.damage().is_absent = true;
            }
            if let Some(end) = self.messages
                && track.next < end
            {
                let next = track.next;
                track.damage().gaps.insert(next, end);
            }
        }
        let mut total = self.total;
        for track in &self.tracks {
            total.connections += u64::from(track.next > 0);
            let Some(damage) = &track.damage else {
                continue;
            };
            total.missing += damage.missing();
            total.duplicated += damage.duplicated;
            total.misordered += damage.misordered;
            total.unexpected += damage.unexpected;
            total.absent += u64::from(damage.is_absent);
        }
        self.total = total;
    }

    /// Complete once it is finished.
    pub(super) fn total(&self) -> Total {
        self.total
    }

    /// The first torn ones.
    pub(super) fn first_torn(&self) -> &[Torn] {
        &self.torn
    }

    /// Each connection with something wrong.
    pub(super) fn damaged(&self) -> impl Iterator<Item = (u32, &Damage)> {
        let numbered = self.tracks.iter().enumerate();
        numbered.filter_map(|(number, track)| Some((number as u32, track.damage.as_deref()?)))
    }

    fn track(&mut self, connection: u32) -> &mut Track {
        let at = connection as usize;
        if self.tracks.len() <= at {
            self.tracks.resize_with(at + 1, Track::default);
        }
        &mut self.tracks[at]
    }

    /// Keeps the gaps within their bound, at the cost of this connection's oldest.
    fn forget_gaps(&mut self, connection: u32) {
        while self.gaps > self.max_gaps {
            let damage = self.track(connection).damage();
            let Some((first, end)) = damage.gaps.pop_first() else {
                break;
            };
            damage.forgotten += end - first;
            self.gaps -= 1;
            self.total.is_rough = true;
        }
    }
}

impl Track {
    fn damage(&mut self) -> &mut Damage {
        self.damage.get_or_insert_default()
    }

    fn gap_count(&self) -> usize {
        self.damage.as_ref().map_or(0, |damage| damage.gaps.len())
    }

    /// Another message than the next arrives.
    fn out_of_turn(&mut self, seq: u64) {
        let next = self.next;
        let damage = self.damage();
        if seq > next {
            damage.gaps.insert(next, seq);
            self.next = seq + 1;
            return;
        }
        let gap = damage.gaps.range(..=seq).next_back();
        match gap.map(|(first, end)| (*first, *end)) {
            Some((first, end)) if seq < end => {
                damage.misordered += 1;
                damage.gaps.remove(&first);
                if first < seq {
                    damage.gaps.insert(first, seq);
                }
                if seq + 1 < end {
                    damage.gaps.insert(seq + 1, end);
                }
            }
            _ => damage.duplicated += 1,
        }
    }
}

impl Damage {
    pub(super) fn missing(&self) -> u64 {
        let gaps: u64 = self.gaps.iter().map(|(first, end)| end - first).sum();
        gaps + self.forgotten
    }
}
