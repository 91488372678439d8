//! What the seed fixes: each stage's settings, each client's sessions, each fault and when it
//! comes.

use std::fmt::Write;
use std::iter;
use std::time::Duration;

use drainline::ingest::Framing;

use super::beside::{self, Act, Beside};
use super::common::tagged::XorShift;
use super::common::wait::DEADLINE;

/// The name of the second listener.
pub const SECOND: &str = "second";
/// The longest message that a server takes; see [`OVERSIZE`].
pub const MAX_MESSAGE: usize = 1024;
/// What an oversize message has before it is truncated.
pub const OVERSIZE: usize = 3000;

/// Draws that depend on where they are drawn, and not on what was drawn elsewhere.
pub fn dice(seed: u64, place: &[u64]) -> XorShift {
    let mix = |seed, place: &u64| XorShift::new(seed ^ place.wrapping_add(1)).next();
    XorShift::new(place.iter().fold(seed, mix))
}

pub fn pick<T: Copy>(dice: &mut XorShift, from: &[T]) -> T {
    from[dice.up_to(from.len()) - 1]
}

pub fn one_in(dice: &mut XorShift, n: usize) -> bool {
    dice.up_to(n) == 1
}

/// What carries a listener's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    Tls,
    Unix,
}

/// What keeps a server's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Fifo,
    /// A file that others rotate.
    File,
    /// A file that the server rotates.
    Rotated {
        size: &'static str,
        gzip: bool,
        fsync: &'static str,
    },
}

impl Kept {
    pub fn rotated(dice: &mut XorShift) -> Kept {
        Kept::Rotated {
            // In smaller ones fsync = "batch" is slower than clients are, by far.
            size: pick(dice, &["32KiB", "64KiB", "1MiB"]),
            gzip: one_in(dice, 2),
            fsync: pick(dice, &["batch", "batch", "100ms", "off"]),
        }
    }
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    pub framing: Framing,
    /// Of each listener.
    pub carriers: [Carrier; 2],
    pub output: &'static str,
    pub oversize: &'static str,
    /// It may slow senders down, and loses nothing.
    pub is_gentle: bool,
    pub kept: Kept,
    /// Its clients come through a balancer.
    pub is_behind: bool,
    /// Its second output, if it has one.
    pub beside: Option<Beside>,
    flags: Vec<String>,
    /// Of the second listener, and its table in the configuration file. The first has what is
    /// common.
    pub second: Framing,
    table: String,
}

impl Settings {
    pub fn draw(seed: u64, nth: usize) -> Settings {
        let dice = &mut dice(seed, &[1, nth as u64]);
        let framing = Framing::ALL[nth];
        // One in which no message can be torn.
        let outputs: &[&str] = match framing {
            Framing::Lines => &["lines", "octet-counted", "length-prefixed"],
            Framing::Nul => &["nul", "octet-counted", "length-prefixed"],
            _ => &["octet-counted", "length-prefixed"],
        };
        let output = pick(dice, outputs);
        let oversize = pick(dice, &["truncate", "drop", "close"]);
        let is_gentle = one_in(dice, 2);
        let has_fifo = one_in(dice, 2);
        let mut flags = format!(
            "--framing {framing} --output-framing {output} --oversize {oversize} --max-message {MAX_MESSAGE} \
             --send-timeout 300ms --max-connections {} --buffer-messages {} --buffer-bytes {}KiB",
            pick(dice, &[4, 6, 64]),
            pick(dice, &[16, 300, 5000]),
            pick(dice, &[32, 64, 512]),
        );
        flags += if is_gentle {
            " --when-full block --frame-timeout off --pause-after 150ms"
        } else {
            pick(dice, &[" --when-full abort", " --when-full drop"])
        };
        if !is_gentle {
            flags += pick(dice, &["", " --on-overload close", " --on-overload refuse"]);
            flags += pick(dice, &[" --frame-timeout 400ms", " --idle-timeout 500ms"]);
            flags += pick(dice, &[" --pause-after 100ms", " --pause-after off"]);
        }
        flags += pick(dice, &["", "", " --rate-limit 2000", " --accept-rate 50"]);
        flags += pick(dice, &["", " --coalesce 20ms", " --coalesce off"]);
        flags += pick(dice, &["", " --reuse-threads off", " --reuse-threads 5ms"]);
        // Drawn apart, so that what a seed drew before is the same.
        let is_behind = one_in(&mut self::dice(seed, &[6, nth as u64]), 2);
        if is_behind {
            flags += " --proxy-from 127.0.0.1";
            flags += if is_gentle {
                ""
            } else {
                " --handshake-timeout 300ms"
            };
        }
        let (second, table) = second_listener(seed, nth, output, is_gentle);
        // A stage has every carrier sooner or later; the seed says which comes first.
        let carriers = carriers(&mut self::dice(seed, &[9]), nth, is_behind);
        if carriers.contains(&Carrier::Tls) && !is_behind && !is_gentle {
            flags += " --handshake-timeout 300ms";
        }
        let rotation = &mut self::dice(seed, &[15, nth as u64]);
        Settings {
            beside: Beside::draw(seed, nth, output),
            framing,
            carriers,
            second,
            table,
            output,
            oversize,
            is_gentle,
            kept: match (has_fifo, one_in(rotation, 2)) {
                (true, _) => Kept::Fifo,
                (false, true) => Kept::rotated(rotation),
                (false, false) => Kept::File,
            },
            is_behind,
            flags: flags.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// How many threads compress old files, from the first messages on.
    pub fn compressing(&self) -> u64 {
        let third = self.beside.as_ref().and_then(|it| it.third.as_ref());
        let files = [Some(self.kept), third.map(|third| third.kept)];
        let compresses = |kept: &&Kept| matches!(kept, Kept::Rotated { gzip: true, .. });
        files.iter().flatten().filter(compresses).count() as u64
    }

    /// Whether a life ends without the receiver of its second output.
    pub fn ends_alone(&self, life: u64) -> bool {
        let beside = self.beside.as_ref();
        life == 0 && beside.is_some_and(|beside| beside.stays_away)
    }

    pub fn flags(&self, life: u64) -> Vec<String> {
        let drain_timeout = format!("{}ms", self.drain_timeout(life).as_millis());
        let drain_timeout = ["--drain-timeout".to_owned(), drain_timeout];
        self.flags.iter().cloned().chain(drain_timeout).collect()
    }

    fn drain_timeout(&self, life: u64) -> Duration {
        match life {
            // All of it may be waited for.
            0 if self.ends_alone(life) => Duration::from_millis(1500),
            0 => Duration::from_secs(6),
            // It ends in peace, with what clients have left in the kernel's queue: nothing is cut,
            // however busy the machine is.
            _ => DEADLINE / 2,
        }
    }

    /// Who ends later than this has waited for somebody.
    pub fn longest_drain(&self, life: u64) -> Duration {
        self.drain_timeout(life) + DEADLINE / 3
    }

    /// The configuration file: two listeners, the first at this path where it is a Unix socket, and
    /// the second at that one, and what is written for one that speaks TLS.
    pub fn file(&self, paths: [&str; 2], tls: &str) -> String {
        let own = ["", &format!("name = \"{SECOND}\"\n{}", self.table)];
        let mut file = String::new();
        for (nth, ((carrier, path), own)) in (0..).zip(self.carriers.iter().zip(paths).zip(own)) {
            let (address, tls) = match carrier {
                Carrier::Tcp => ("tcp://127.0.0.1:0".to_owned(), ""),
                Carrier::Tls => ("tls://127.0.0.1:0".to_owned(), tls),
                Carrier::Unix => (format!("unix:{path}"), ""),
            };
            let to = self.beside.as_ref().map(|beside| beside.to(nth));
            let to = to.unwrap_or_default();
            write!(
                file,
                "[[listener]]\naddress = \"{address}\"\n{to}{tls}{own}"
            )
            .unwrap();
        }
        file
    }
}

/// No two stages beside each other have the same. Behind a balancer nobody comes by a Unix socket.
fn carriers(dice: &mut XorShift, nth: usize, is_behind: bool) -> [Carrier; 2] {
    const PAIRS: [[Carrier; 2]; 5] = [
        [Carrier::Tcp, Carrier::Tls],
        [Carrier::Unix, Carrier::Tcp],
        [Carrier::Tls, Carrier::Unix],
        [Carrier::Tcp, Carrier::Tcp],
        [Carrier::Tls, Carrier::Tcp],
    ];
    PAIRS[(dice.up_to(PAIRS.len()) + nth) % PAIRS.len()].map(|carrier| match carrier {
        Carrier::Unix if is_behind => Carrier::Tls,
        carrier => carrier,
    })
}

/// The second listener's framing, in which no message can be torn in the output either, and the
/// settings of its own.
fn second_listener(seed: u64, nth: usize, output: &str, is_gentle: bool) -> (Framing, String) {
    let dice = &mut dice(seed, &[8, nth as u64]);
    let framing = match output {
        "lines" => Framing::Lines,
        "nul" => Framing::Nul,
        _ => pick(dice, Framing::ALL),
    };
    let mut table = format!(
        "framing = \"{framing}\"\nmax_connections = {}\n",
        pick(dice, &[1, 2, 4])
    );
    table += pick(
        dice,
        &["", "rate_limit = \"500/s\"\n", "rate_limit = \"off\"\n"],
    );
    if !is_gentle {
        table += pick(dice, &["", "frame_timeout = \"200ms\"\n"]);
        table += pick(
            dice,
            &["", "idle_timeout = \"300ms\"\n", "idle_timeout = \"off\"\n"],
        );
    }
    (framing, table)
}

/// What a client does next.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Messages of up to `size` bytes, cut into writes of up to `most`.
    Messages {
        count: u64,
        size: usize,
        most: usize,
    },
    /// A message, a byte at a time.
    Trickle {
        size: usize,
    },
    /// Bytes that no text holds.
    Wild {
        count: u64,
    },
    Blank,
    Oversize,
    /// Nothing for a while, between messages.
    Quiet(Duration),
    /// Nothing for a while, inside a message.
    Stall(Duration),
}

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Ends its stream and waits for the server's end.
    HalfClose,
    /// Ends it without a look back.
    Close,
    Reset,
    /// The same, inside a message.
    HalfCloseInside,
    ResetInside,
    /// Sends what no framing knows, or, in one that knows everything, another protocol's hello.
    Garbage,
}

/// What a balancer sends before a client's bytes.
#[derive(Debug, Clone, Copy)]
pub enum Opening {
    /// The head of a client, of version 1 or 2, in writes of up to `most` bytes.
    Head { is_v1: bool, most: usize },
    /// A head without a client.
    Local,
    /// A part of a head, and nothing behind it.
    Part,
    /// What is no head.
    Garbage,
    /// Nothing at all.
    Silence,
}

/// How a client of TLS begins.
#[derive(Debug, Clone, Copy)]
pub enum Hello {
    /// It shakes hands, in writes of up to `most` bytes.
    Whole {
        most: usize,
    },
    /// A part of the first or of the last flight, perhaps all of the first, and then it resets.
    Part {
        is_last: bool,
    },
    /// In the clear.
    Plain,
    Silence,
}

#[derive(Debug, Clone)]
pub struct Session {
    /// Behind a balancer.
    pub opening: Opening,
    /// Where TLS is spoken.
    pub hello: Hello,
    /// Its end is said there, too.
    pub is_closed: bool,
    pub steps: Vec<Step>,
    pub leave: Leave,
    /// Before it connects.
    pub pause: Duration,
}

impl Session {
    pub fn draw(seed: u64, nth: usize, client: u64, number: u64) -> Session {
        let dice = &mut dice(seed, &[2, nth as u64, client, number]);
        let steps = dice.up_to(6) - usize::from(one_in(dice, 8));
        let apart = &mut self::dice(seed, &[7, nth as u64, client, number]);
        let opening = opening(apart);
        let shaking = &mut self::dice(seed, &[10, nth as u64, client, number]);
        Session {
            opening,
            hello: hello(shaking),
            is_closed: !one_in(shaking, 4),
            steps: (0..steps).map(|_| step(dice)).collect(),
            leave: match dice.up_to(12) {
                1..=5 => Leave::HalfClose,
                6 => Leave::Close,
                7 => Leave::Reset,
                8 => Leave::HalfCloseInside,
                9 | 10 => Leave::ResetInside,
                _ => Leave::Garbage,
            },
            pause: Duration::from_millis(dice.up_to(60) as u64 - 1),
        }
    }
}

fn opening(dice: &mut XorShift) -> Opening {
    match dice.up_to(20) {
        1..=14 => Opening::Head {
            is_v1: one_in(dice, 2),
            most: pick(dice, &[1, 7, 1000]),
        },
        15 | 16 => Opening::Local,
        17 | 18 => Opening::Part,
        19 => Opening::Garbage,
        _ => Opening::Silence,
    }
}

fn hello(dice: &mut XorShift) -> Hello {
    match dice.up_to(20) {
        1..=15 => Hello::Whole {
            most: pick(dice, &[1, 50, 5000]),
        },
        16 => Hello::Part { is_last: false },
        17 => Hello::Part { is_last: true },
        18 | 19 => Hello::Plain,
        _ => Hello::Silence,
    }
}

fn step(dice: &mut XorShift) -> Step {
    let while_ms = |dice: &mut XorShift, most| Duration::from_millis(dice.up_to(most) as u64);
    match dice.up_to(14) {
        1..=6 => Step::Messages {
            count: dice.up_to(300) as u64,
            size: dice.up_to(MAX_MESSAGE - 20),
            most: pick(dice, &[7, 300, 5000, 100_000]),
        },
        7 => Step::Trickle {
            size: dice.up_to(60),
        },
        8 | 9 => Step::Wild {
            count: dice.up_to(20) as u64,
        },
        10 => Step::Blank,
        11 => Step::Oversize,
        12 => Step::Quiet(while_ms(dice, 700)),
        _ => Step::Stall(while_ms(dice, 700)),
    }
}

/// What happens to a server and its sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The sink takes no more: a FIFO that nobody reads, a file at its size limit.
    Stall,
    /// The sink takes so many bytes, and little by little.
    Slow(u64),
    /// The sink takes everything.
    Heal,
    Hangup,
    /// The file is renamed, and a SIGHUP comes.
    Rotate,
    Usr1,
    /// No descriptor is left, or so many.
    FewDescriptors(u64),
    ManyDescriptors,
    /// SIGSTOP, and SIGCONT after a while.
    Freeze(Duration),
    /// What happens to the receiver of the second output.
    Beside(Act),
}

/// A fault, and the time that passes before it.
pub type Timed = (Duration, Fault);

/// The faults of one of a server's lives.
pub fn faults(
    seed: u64,
    nth: usize,
    life: u64,
    beside: Option<&Beside>,
) -> impl Iterator<Item = Timed> {
    let acts = beside.map(|beside| beside::acts(seed, nth, life, beside));
    merged(of_server(seed, nth, life), acts.into_iter().flatten())
}

/// Both, each when it comes.
fn merged(
    one: impl Iterator<Item = Timed>,
    other: impl Iterator<Item = Timed>,
) -> impl Iterator<Item = Timed> {
    fn from_begin(timed: impl Iterator<Item = Timed>) -> impl Iterator<Item = Timed> {
        timed.scan(Duration::ZERO, |at, (pause, fault)| {
            *at += pause;
            Some((*at, fault))
        })
    }
    let (mut one, mut other) = (from_begin(one).peekable(), from_begin(other).peekable());
    let mut before = Duration::ZERO;
    iter::from_fn(move || {
        let is_others = match (one.peek(), other.peek()) {
            (Some((one, _)), Some((other, _))) => other < one,
            (one, _) => one.is_none(),
        };
        let (at, fault) = if is_others { other.next() } else { one.next() }?;
        let pause = at - before;
        before = at;
        Some((pause, fault))
    })
}

fn of_server(seed: u64, nth: usize, life: u64) -> impl Iterator<Item = Timed> {
    let mut dice = dice(seed, &[3, nth as u64, life]);
    iter::repeat_with(move || {
        let fault = match dice.up_to(20) {
            1..=3 => Fault::Stall,
            4..=6 => Fault::Slow(dice.up_to(4000) as u64),
            7..=10 => Fault::Heal,
            11..=12 => Fault::Hangup,
            13..=14 => Fault::Rotate,
            15 => Fault::Usr1,
            16 => Fault::FewDescriptors(dice.up_to(3) as u64 - 1),
            17..=18 => Fault::ManyDescriptors,
            _ => Fault::Freeze(Duration::from_millis(dice.up_to(250) as u64)),
        };
        (Duration::from_millis(dice.up_to(300) as u64), fault)
    })
}
