//! A client that plays its sessions, one after the other, and keeps what it sent.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use drainline::ingest::Framing;
use rustls::ClientConfig;

use super::carrier::{Place, Stream};
use super::common::tagged::{Tagged, XorShift};
use super::heads::encode;
use super::script::{Hello, Leave, Opening, Session, Step, dice};
use super::wire::{self, Kind};

/// How often whoever waits looks whether the play is over.
const LOOK: Duration = Duration::from_millis(20);
const BETWEEN_BYTES: Duration = Duration::from_millis(1);

/// What clients sent to one of a server's lives.
#[derive(Debug, Default)]
pub struct Sent {
    /// Messages begun, by connection.
    pub begun: Vec<(u32, u64)>,
    /// Which listener each connection came to.
    pub listeners: BTreeMap<u32, usize>,
    /// What each connection was to do.
    pub played: Vec<(u32, Session)>,
    /// Connections of which the server read everything, for certain, if nobody was disconnected.
    pub whole: Vec<Whole>,
    /// Beginnings of messages before a stream's end, where that makes them messages, and how often
    /// each was sent.
    pub partial: BTreeMap<Vec<u8>, u64>,
    pub blank: u64,
    pub bytes: u64,
    pub sessions: u64,
}

/// A connection of which everything was read.
#[derive(Debug)]
pub struct Whole {
    pub connection: u32,
    pub messages: u64,
    /// So many of them were too long.
    pub oversize: u64,
}

/// A server's life, as its clients see it.
#[derive(Debug)]
pub struct Life {
    /// Each client comes to one of them.
    pub listeners: [(Place, Framing); 2],
    pub trusts: Arc<ClientConfig>,
    pub is_behind: bool,
    /// The drain has begun: what a client learns from now on is no proof.
    pub is_draining: AtomicBool,
    pub stop: AtomicBool,
    pub sent: Mutex<Sent>,
    pub numbers: AtomicU32,
}

impl Life {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends early when the play is over.
    fn rest(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.is_over() && Instant::now() < until {
            thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

/// Plays sessions until the life is over.
pub fn play(life: &Life, seed: u64, nth: usize, client: u64, from: u64) -> u64 {
    let mut number = from;
    let listener = client as usize % 2;
    let (place, framing) = &life.listeners[listener];
    while !life.is_over() {
        let session = Session::draw(seed, nth, client, number);
        life.rest(session.pause);
        if let Ok(stream) = Stream::connect(place, &life.trusts, LOOK) {
            let connection = life.numbers.fetch_add(1, Ordering::Relaxed);
            let random = dice(seed, &[4, nth as u64, client, number]);
            let mut sent = life.sent.lock().unwrap();
            sent.listeners.insert(connection, listener);
            sent.played.push((connection, session.clone()));
            drop(sent);
            Player::new(life, *framing, stream, connection, random).play(&session);
        }
        number += 1;
    }
    number
}

struct Player<'a> {
    life: &'a Life,
    framing: Framing,
    stream: Stream,
    connection: u32,
    tagged: Tagged,
    random: XorShift,
    next: u64,
    bytes: u64,
    blank: u64,
    oversize: u64,
    /// The server takes no more.
    is_cut: bool,
}

impl<'a> Player<'a> {
    fn new(
        life: &'a Life,
        framing: Framing,
        stream: Stream,
        connection: u32,
        random: XorShift,
    ) -> Player<'a> {
        Player {
            life,
            framing,
            stream,
            connection,
            tagged: Tagged::new(connection),
            random,
            next: 0,
            bytes: 0,
            blank: 0,
            oversize: 0,
            is_cut: false,
        }
    }

    fn play(mut self, session: &Session) {
        if self.life.is_behind && !self.open(session.opening) {
            self.is_cut = true;
        }
        if self.stream.is_tls() && !self.is_cut && !self.shake_hands(session.hello) {
            self.is_cut = true;
        }
        for step in &session.steps {
            self.step(*step);
        }
        let mut partial = None;
        let mut is_whole = false;
        let inside = matches!(session.leave, Leave::HalfCloseInside | Leave::ResetInside);
        let before = self.next;
        let mut begun = inside.then(|| self.begin());
        if !self.is_cut && !self.life.is_over() {
            match session.leave {
                Leave::HalfCloseInside => {
                    partial = begun.take().flatten();
                    self.half_close(session.is_closed);
                }
                Leave::HalfClose => is_whole = self.half_close(session.is_closed),
                Leave::Close if session.is_closed => self.say_end(),
                Leave::Close => {}
                Leave::Garbage => {
                    if let Some(garbage) = wire::garbage(self.framing) {
                        self.put(garbage, usize::MAX);
                        self.half_close(session.is_closed);
                    }
                }
                Leave::Reset | Leave::ResetInside => self.is_cut = true,
            }
        }
        if !self.stream.can_reset() {
            // Its end is that of a stream, whatever it was meant to be.
            partial = partial.or(begun.flatten());
        }
        let mut sent = self.life.sent.lock().unwrap();
        sent.begun.push((self.connection, self.next));
        if is_whole {
            sent.whole.push(Whole {
                connection: self.connection,
                messages: before,
                oversize: self.oversize,
            });
        }
        if let Some(partial) = partial {
            *sent.partial.entry(partial).or_default() += 1;
        }
        sent.blank += self.blank;
        sent.bytes += self.bytes;
        sent.sessions += 1;
        drop(sent);
        // Whoever was disconnected may be inside a message, whose beginning would be one at the
        // stream's end.
        if self.is_cut || self.life.is_over() {
            self.stream.reset();
        }
    }

    /// Sends what a balancer does. Returns whether messages may follow. Its bytes are among those
    /// that the server may count as unread.
    fn open(&mut self, opening: Opening) -> bool {
        let client = SocketAddr::from(([192, 0, 2, 1], self.connection as u16));
        let front = SocketAddr::from(([198, 51, 100, 1], 514));
        let sealed = |tlvs: &[u8]| encode::with_checksum(&encode::v2(client, front, tlvs));
        match opening {
            Opening::Head { is_v1: true, most } => self.hand_over(&encode::v1(client, front), most),
            Opening::Head { most, .. } => self.hand_over(&sealed(&encode::checksum()), most),
            Opening::Local => self.hand_over(&encode::v2_of(encode::LOCAL, 0, b""), usize::MAX),
            Opening::Part => {
                let head = sealed(&encode::checksum());
                let len = self.random.up_to(head.len() - 1);
                self.hand_over(&head[..len], usize::MAX);
            }
            Opening::Garbage => self.hand_over(b"<13>no head\n", usize::MAX),
            Opening::Silence => self.life.rest(Duration::from_millis(400)),
        }
        matches!(opening, Opening::Head { .. } | Opening::Local)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Messages { count, size, most } => {
                let frames: Vec<u8> = (0..count)
                    .flat_map(|_| self.frame(size, Kind::Plain))
                    .collect();
                self.put(&frames, most);
            }
            Step::Trickle { size } => {
                let frame = self.frame(size, Kind::Plain);
                for byte in frame {
                    self.put(&[byte], 1);
                    thread::sleep(BETWEEN_BYTES);
                }
            }
            Step::Wild { count } => {
                for _ in 0..count {
                    let frame = self.frame(200, Kind::Wild);
                    self.put(&frame, usize::MAX);
                }
            }
            Step::Blank => {
                self.blank += 1;
                let variant = self.random.next();
                let (frame, _) = wire::frame(self.framing, b"", variant);
                self.put(&frame, usize::MAX);
            }
            Step::Oversize => {
                self.oversize += 1;
                let frame = self.frame(0, Kind::Oversize);
                self.put(&frame, 700);
            }
            Step::Quiet(duration) => self.life.rest(duration),
            Step::Stall(duration) => {
                let frame = self.frame(100, Kind::Plain);
                let at = self.random.up_to(frame.len() - 1);
                self.put(&frame[..at], usize::MAX);
                self.life.rest(duration);
                self.put(&frame[at..], usize::MAX);
            }
        }
    }

    fn frame(&mut self, size: usize, kind: Kind) -> Vec<u8> {
        let (framing, variant) = (self.framing, self.random.next());
        let message = wire::message(framing, &self.tagged, self.next, size, kind);
        self.next += 1;
        wire::frame(framing, &message, variant).0
    }

    /// Sends the beginning of a message. Returns what of it is a message if the stream ends there.
    fn begin(&mut self) -> Option<Vec<u8>> {
        let (framing, variant) = (self.framing, self.random.next());
        let message = wire::message(framing, &self.tagged, self.next, 100, Kind::Plain);
        self.next += 1;
        let (frame, header) = wire::frame(framing, &message, variant);
        // Of the message at least a byte, and not all.
        let len = self.random.up_to(message.len() - 1);
        self.put(&frame[..header + len], usize::MAX);
        (header == 0).then(|| message[..len].to_vec())
    }

    /// Returns whether messages may follow.
    fn shake_hands(&mut self, hello: Hello) -> bool {
        let (most, has_part_of_last) = match hello {
            Hello::Whole { most } => (most, false),
            Hello::Part { is_last: true } => (usize::MAX, true),
            Hello::Part { is_last: false } => {
                // Perhaps all of it: then the answer finds nobody.
                let flight = self.stream.flight();
                let len = self.random.up_to(flight.len());
                self.hand_over(&flight[..len], usize::MAX);
                return false;
            }
            Hello::Plain => {
                self.hand_over(b"<13>in the clear\n", usize::MAX);
                return false;
            }
            Hello::Silence => {
                self.life.rest(Duration::from_millis(400));
                return false;
            }
        };
        while !self.is_cut {
            let is_last = !self.stream.is_handshaking();
            let mut flight = self.stream.flight();
            if is_last && has_part_of_last {
                flight.truncate(self.random.up_to(flight.len() - 1));
            }
            self.hand_over(&flight, most);
            if is_last {
                break;
            }
            match self.stream.take_answer() {
                Ok(0) => self.is_cut = true,
                Ok(_) => {}
                Err(error) if is_nothing(error.kind()) => self.is_cut = self.life.is_over(),
                Err(_) => self.is_cut = true,
            }
        }
        !has_part_of_last
    }

    /// Sends all of it, in writes of up to `most` bytes, unless the server cuts us or the play
    /// ends. Over TLS these are the sizes of records and of writes.
    fn put(&mut self, bytes: &[u8], most: usize) {
        if !self.stream.is_tls() {
            return self.hand_over(bytes, most);
        }
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_cut {
            let len = self.random.up_to(most.min(1 << 20)).min(rest.len());
            let records = self.stream.seal(&rest[..len]);
            self.hand_over(&records, most);
            rest = &rest[len..];
        }
    }

    /// As [`put`](Player::put), of bytes as they go over the wire.
    fn hand_over(&mut self, mut bytes: &[u8], most: usize) {
        while !bytes.is_empty() && !self.is_cut {
            let len = self.random.up_to(most.min(1 << 20)).min(bytes.len());
            match self.stream.write(&bytes[..len]) {
                Ok(taken) => {
                    self.bytes += taken as u64;
                    bytes = &bytes[taken..];
                }
                // Whose end is always a stream's must not leave in the middle of a message.
                Err(error) if is_nothing(error.kind()) => {
                    self.is_cut = self.life.is_over() && self.stream.can_reset();
                }
                Err(_) => self.is_cut = true,
            }
        }
    }

    /// Over TLS an end is said.
    fn say_end(&mut self) {
        if self.stream.is_tls() {
            let records = self.stream.end();
            self.hand_over(&records, usize::MAX);
        }
    }

    /// Ends the stream and waits for the server's end. Whether the server read everything, if it
    /// disconnected nobody.
    fn half_close(&mut self, is_closed: bool) -> bool {
        if is_closed {
            self.say_end();
        }
        if self.stream.shutdown().is_err() {
            return false;
        }
        loop {
            match self.stream.read(&mut [0; 64]) {
                Ok(0) => return !self.life.is_draining.load(Ordering::SeqCst),
                // What TLS has to say.
                Ok(_) if self.stream.is_tls() => {}
                Err(error) if is_nothing(error.kind()) && !self.life.is_over() => {}
                _ => return false,
            }
        }
    }
}

fn is_nothing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
