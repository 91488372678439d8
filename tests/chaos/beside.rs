//! A server's second output, where the seed gives it one: what is drawn for it, and what happens to
//! its receiver.

use std::fmt::Write;
use std::iter;
use std::path::Path;
use std::time::Duration;

use super::answering::{INDEX, MOODS, Mood, Speech};
use super::common::tagged::XorShift;
use super::script::{Carrier, Fault, Timed, dice, one_in, pick};

/// The names of both.
pub const NAMES: [&str; 2] = ["kept", "beside"];

#[derive(Debug, Clone)]
pub struct Beside {
    /// Messages wait for it, too.
    pub is_required: bool,
    /// To its receiver.
    pub carrier: Carrier,
    /// What is spoken where messages are answered; otherwise they are a stream.
    pub speech: Option<Speech>,
    /// Its receiver dies now and then, and what that has not read is lost, if nothing is answered.
    /// Otherwise it only leaves in good order.
    dies: bool,
    /// Its receiver never takes some of the messages.
    pub refuses: bool,
    /// Of a client of HTTP.
    pub requests: u64,
    options: String,
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
        let apart = &mut self::dice(seed, &[13, nth as u64]);
        let speech = match apart.up_to(8) {
            1 | 2 => None,
            3 | 4 => Some(Speech::Lines),
            5 | 6 => Some(Speech::Bulk),
            _ => Some(Speech::Redis),
        };
        let carriers = match speech {
            None => [Carrier::Tcp, Carrier::Tls, Carrier::Unix],
            Some(_) => [Carrier::Tcp, Carrier::Tcp, Carrier::Tls],
        };
        let requests = pick(apart, &[1, 2, 4]);
        Some(Beside {
            is_required,
            carrier: pick(apart, &carriers),
            speech,
            dies: one_in(dice, 2) || speech.is_some(),
            refuses: speech.is_some() && one_in(apart, 4),
            requests,
            options: options(speech, requests, apart),
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

    /// How many threads and descriptors come beside those that it begins with.
    pub fn begins_late(&self) -> u64 {
        match self.speech {
            Some(Speech::Lines | Speech::Bulk) => self.requests,
            _ => 0,
        }
    }

    /// Both tables of the configuration file, for a file at this path and a receiver at that URL,
    /// whose certificate is from this authority.
    pub fn tables(&self, path: &Path, receiver: &str, authority: &str) -> String {
        let mut file = String::new();
        let sinks = [format!("file:{}", path.display()), receiver.to_owned()];
        for ((name, sink), has_envelope) in NAMES.iter().zip(sinks).zip(self.has_envelope) {
            write!(file, "[[output]]\nname = \"{name}\"\nsink = \"{sink}\"\n").unwrap();
            if has_envelope {
                file.push_str("envelope = \"json\"\n");
            }
        }
        match self.speech {
            None => writeln!(file, "framing = \"{}\"", self.output).unwrap(),
            Some(_) => file.push_str(&self.options),
        }
        if self.carrier == Carrier::Tls {
            writeln!(
                file,
                "tls_ca = \"{authority}\"\nconnect_timeout = \"700ms\""
            )
            .unwrap();
        }
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

/// What the output's table says of requests, or of commands.
fn options(speech: Option<Speech>, requests: u64, dice: &mut XorShift) -> String {
    let dialect = match speech {
        None => return String::new(),
        Some(Speech::Redis) => {
            let window = pick(dice, &["64KiB", "4MiB"]);
            return format!("window = \"{window}\"\nanswer_timeout = \"700ms\"\n");
        }
        Some(Speech::Bulk) => format!("dialect = \"elasticsearch\"\nindex = \"{INDEX}\"\n"),
        Some(Speech::Lines) => String::new(),
    };
    let body = pick(dice, &["4KiB", "64KiB", "1MiB"]);
    let linger = pick(dice, &["0s", "20ms", "200ms"]);
    let gzip = one_in(dice, 3);
    format!(
        "{dialect}requests = {requests}\nbody_bytes = \"{body}\"\nlinger = \"{linger}\"\n\
         gzip = {gzip}\ntimeout = \"700ms\"\n"
    )
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
    /// It resets the next connection when so many bytes have come, perhaps of its handshake.
    Break(usize),
    /// It answers so.
    Answer(Mood),
    /// The server is over.
    End,
}

/// What happens to the receiver in one of a server's lives, each with the time that passes before
/// it. Who is dead comes back next.
pub fn acts(seed: u64, nth: usize, life: u64, beside: &Beside) -> impl Iterator<Item = Timed> {
    let mut dice = dice(seed, &[12, nth as u64, life]);
    let Beside { dies, speech, .. } = *beside;
    let is_tls = beside.carrier == Carrier::Tls;
    let mut is_away = false;
    iter::repeat_with(move || {
        let act = match dice.up_to(14) {
            _ if is_away => Act::Heal,
            1 | 2 => Act::Stall,
            3 | 4 => Act::Slow(dice.up_to(4000) as u64),
            5 | 6 => Act::Heal,
            7 | 8 if dies => Act::Die,
            9 if dies => Act::Break(dice.up_to(2000)),
            // The hello is longer, and nobody goes on before it is answered.
            9 if is_tls => Act::Break(dice.up_to(150)),
            10..=13 if speech.is_some() => Act::Answer(pick(&mut dice, &MOODS)),
            _ => Act::Leave,
        };
        is_away = act == Act::Die;
        let pause = Duration::from_millis(dice.up_to(500) as u64);
        (pause, Fault::Beside(act))
    })
}
