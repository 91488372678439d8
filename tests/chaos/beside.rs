//! A server's second output, where the seed gives it one: what is drawn for it, and what happens to
//! its receiver.

use std::fmt::Write;
use std::iter;
use std::path::Path;
use std::time::Duration;

use super::script::{Fault, Timed, dice, one_in, pick};

/// The names of both.
pub const NAMES: [&str; 2] = ["kept", "beside"];

#[derive(Debug, Clone)]
pub struct Beside {
    /// Messages wait for it, too.
    pub is_required: bool,
    pub is_unix: bool,
    /// Its receiver dies now and then, and what that has not read is lost. Otherwise it only leaves
    /// in good order.
    dies: bool,
    /// The first life's drain ends without its receiver.
    pub stays_away: bool,
    pub output: &'static str,
    /// Whose messages are in an object of JSON.
    pub has_envelope: [bool; 2],
    /// Which outputs each listener sends to.
    pub routes: [[bool; 2]; 2],
    buffer: &'static str,
}

impl Beside {
    /// `output`: a framing in which no message can be torn.
    pub fn draw(seed: u64, nth: usize, output: &'static str) -> Option<Beside> {
        let dice = &mut dice(seed, &[11, nth as u64]);
        if one_in(dice, 3) {
            return None;
        }
        let is_required = one_in(dice, 2);
        let both = [true, true];
        let kept = [true, false];
        // Each listener has one that is required, and each output a listener.
        let routes: &[[[bool; 2]; 2]] = match is_required {
            true => &[
                [both, both],
                [both, both],
                [kept, both],
                [kept, [false, true]],
            ],
            false => &[[both, both], [both, both], [both, kept], [kept, both]],
        };
        Some(Beside {
            is_required,
            is_unix: one_in(dice, 2),
            dies: one_in(dice, 2),
            stays_away: one_in(dice, 3),
            output: pick(dice, &[output, "octet-counted", "length-prefixed"]),
            has_envelope: pick(
                dice,
                &[[false; 2], [false; 2], [true, false], [false, true]],
            ),
            routes: pick(dice, routes),
            buffer: pick(dice, &["16KiB", "64KiB", "16MiB"]),
        })
    }

    /// Both tables of the configuration file, for a file at this path and a receiver at that URL.
    pub fn tables(&self, path: &Path, receiver: &str) -> String {
        let mut file = String::new();
        let sinks = [format!("file:{}", path.display()), receiver.to_owned()];
        for ((name, sink), has_envelope) in NAMES.iter().zip(sinks).zip(self.has_envelope) {
            write!(file, "[[output]]\nname = \"{name}\"\nsink = \"{sink}\"\n").unwrap();
            if has_envelope {
                file.push_str("envelope = \"json\"\n");
            }
        }
        writeln!(file, "framing = \"{}\"", self.output).unwrap();
        if !self.is_required {
            let buffer = self.buffer;
            write!(file, "required = false\nbuffer_bytes = \"{buffer}\"\n").unwrap();
        }
        file
    }

    /// What the table of a listener says of it.
    pub fn to(&self, listener: usize) -> String {
        let route = self.routes[listener];
        let names = NAMES.iter().zip(route);
        let names: Vec<&str> = names
            .filter_map(|(name, has)| has.then_some(*name))
            .collect();
        match route {
            [true, true] => String::new(),
            _ => format!("to = {names:?}\n"),
        }
    }
}

/// What happens to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It reads nothing.
    Stall,
    /// It reads so many bytes, and rests.
    Slow(u64),
    /// It is there, and reads everything.
    Heal,
    /// It ends its half of each connection, and reads the other to its end.
    Leave,
    /// It resets its connections, and listens no more.
    Die,
    /// The server is over.
    End,
}

/// What happens to the receiver in one of a server's lives, each with the time that passes before
/// it. Who is dead comes back next.
pub fn acts(seed: u64, nth: usize, life: u64, beside: &Beside) -> impl Iterator<Item = Timed> {
    let mut dice = dice(seed, &[12, nth as u64, life]);
    let dies = beside.dies;
    let mut is_away = false;
    iter::repeat_with(move || {
        let act = match dice.up_to(10) {
            _ if is_away => Act::Heal,
            1 | 2 => Act::Stall,
            3 | 4 => Act::Slow(dice.up_to(4000) as u64),
            5 | 6 => Act::Heal,
            7 | 8 if dies => Act::Die,
            _ => Act::Leave,
        };
        is_away = act == Act::Die;
        let pause = Duration::from_millis(dice.up_to(500) as u64);
        (pause, Fault::Beside(act))
    })
}
