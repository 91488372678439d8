//! A server's second output, where the seed gives it one, and perhaps a third: what is drawn for
//! them, and what happens to the receiver of the second one.

use std::fmt::Write;
use std::iter;
use std::time::Duration;

use super::answering::{INDEX, MOODS, Mood, Speech};
use super::common::tagged::XorShift;
use super::script::{Carrier, Fault, Kept, Timed, dice, one_in, pick};

/// The names of all.
const NAMES: [&str; 3] = ["kept", "beside", "third"];

/// Of outputs that are not required.
const BUFFERS: [&str; 3] = ["16KiB", "64KiB", "16MiB"];
/// Of a command: longer than a drain that may find one stopped, so that it is not ended for that.
const STOPPED_LATE: &str = "shell = true\nstop_timeout = \"10s\"\n";

#[derive(Debug, Clone)]
pub struct Beside {
    /// Messages wait for it, too.
    pub is_required: bool,
    /// To its receiver.
    pub carrier: Carrier,
    /// A command is its receiver, and what is said here of connections means nothing.
    pub is_command: bool,
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
    pub has_envelope: [bool; 3],
    /// Which outputs each listener sends to.
    pub routes: [[bool; 3]; 2],
    buffer: &'static str,
    pub third: Option<Third>,
}

/// A third output, a file.
#[derive(Debug, Clone)]
pub struct Third {
    pub kept: Kept,
    is_required: bool,
    has_envelope: bool,
    /// Whether each listener sends to it.
    from: [bool; 2],
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
        let is_command = one_in(&mut self::dice(seed, &[16, nth as u64]), 4);
        let speech = match apart.up_to(8) {
            _ if is_command => None,
            1 | 2 => None,
            3 | 4 => Some(Speech::Lines),
            5 | 6 => Some(Speech::Bulk),
            _ => Some(Speech::Redis),
        };
        let carriers = match speech {
            _ if is_command => [Carrier::Tcp; 3],
            None => [Carrier::Tcp, Carrier::Tls, Carrier::Unix],
            Some(_) => [Carrier::Tcp, Carrier::Tcp, Carrier::Tls],
        };
        let requests = pick(apart, &[1, 2, 4]);
        let third = Third::draw(seed, nth);
        let from = third.as_ref().map_or([false; 2], |third| third.from);
        Some(Beside {
            is_required,
            is_command,
            carrier: pick(apart, &carriers),
            speech,
            dies: one_in(dice, 2) || speech.is_some(),
            refuses: speech.is_some() && one_in(apart, 4),
            requests,
            options: match is_command {
                true => STOPPED_LATE.to_owned(),
                false => options(speech, requests, apart),
            },
            stays_away: one_in(dice, 3),
            output: pick(dice, &[output, "octet-counted", "length-prefixed"]),
            has_envelope: {
                let envelopes = [[false; 2], [false; 2], [true, false], [false, true]];
                let [kept, own] = pick(dice, &envelopes);
                [kept, own, third.as_ref().is_some_and(|it| it.has_envelope)]
            },
            routes: {
                let [first, second] = pick(dice, routes);
                [
                    [first[0], first[1], from[0]],
                    [second[0], second[1], from[1]],
                ]
            },
            buffer: pick(dice, &BUFFERS),
            third,
        })
    }

    /// How many threads and descriptors come with the first messages.
    pub fn begins_late(&self) -> u64 {
        match self.speech {
            Some(Speech::Lines | Speech::Bulk) => self.requests,
            _ => 0,
        }
    }

    /// How many descriptors go with its receiver, until there is another message.
    pub fn leaves(&self) -> u64 {
        // To a command's stdin, and of its stderr.
        if self.is_command { 2 } else { 1 }
    }

    /// The names of all outputs.
    pub fn names(&self) -> &'static [&'static str] {
        match self.third {
            Some(_) => &NAMES,
            None => &NAMES[..2],
        }
    }

    /// Whether messages wait for an output.
    pub fn is_required(&self, output: usize) -> bool {
        match output {
            0 => true,
            1 => self.is_required,
            _ => self.third.as_ref().is_some_and(|third| third.is_required),
        }
    }

    /// The tables of the configuration file, by the outputs' URLs. A receiver's certificate is from
    /// this authority.
    pub fn tables(&self, urls: &[String], authority: &str) -> String {
        let mut file = String::new();
        for (nth, (name, url)) in self.names().iter().zip(urls).enumerate() {
            write!(file, "[[output]]\nname = \"{name}\"\nsink = \"{url}\"\n").unwrap();
            if self.has_envelope[nth] {
                file.push_str("envelope = \"json\"\n");
            }
            if nth == 1 {
                file.push_str(&self.keys(authority));
            }
            if !self.is_required(nth) {
                let third = self.third.as_ref().filter(|_| nth == 2);
                let buffer = third.map_or(self.buffer, |third| third.buffer);
                write!(file, "required = false\nbuffer_bytes = \"{buffer}\"\n").unwrap();
            }
        }
        file
    }

    /// What the second output's table says of its receiver.
    fn keys(&self, authority: &str) -> String {
        let mut file = self.options.clone();
        if self.speech.is_none() {
            writeln!(file, "framing = \"{}\"", self.output).unwrap();
        }
        if self.carrier == Carrier::Tls {
            writeln!(
                file,
                "tls_ca = \"{authority}\"\nconnect_timeout = \"700ms\""
            )
            .unwrap();
        }
        file
    }

    /// What the table of a listener says of it.
    pub fn to(&self, listener: usize) -> String {
        let route = self.routes[listener];
        let names = self.names().iter().zip(route);
        let names: Vec<&str> = names
            .filter_map(|(name, has)| has.then_some(*name))
            .collect();
        match names.len() == self.names().len() {
            true => String::new(),
            false => format!("to = {names:?}\n"),
        }
    }
}

impl Third {
    fn draw(seed: u64, nth: usize) -> Option<Third> {
        let dice = &mut dice(seed, &[17, nth as u64]);
        one_in(dice, 2).then(|| Third {
            kept: match one_in(dice, 2) {
                true => Kept::rotated(dice),
                false => Kept::File,
            },
            is_required: one_in(dice, 2),
            has_envelope: one_in(dice, 4),
            from: pick(dice, &[[true, true], [true, false], [false, true]]),
            buffer: pick(dice, &BUFFERS),
        })
    }
}

/// What its table says of requests, or of commands of Redis.
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
    let Beside {
        dies,
        speech,
        is_command,
        ..
    } = *beside;
    let is_tls = beside.carrier == Carrier::Tls;
    let mut is_away = false;
    iter::repeat_with(move || {
        let act = match dice.up_to(14) {
            _ if is_away => Act::Heal,
            1 | 2 => Act::Stall,
            3 | 4 => Act::Slow(dice.up_to(4000) as u64),
            5 | 6 => Act::Heal,
            7 | 8 if dies => Act::Die,
            // A command that ends has not read its pipe to the end.
            9..=14 if is_command => Act::Heal,
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
