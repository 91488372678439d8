//! What holds of every stream of records that a client of TLS sends, however the wire cuts it and
//! whatever somebody in between does to it: [`check`].
//!
//! The property tests and the fuzz target share this: they differ in where their bytes are from.

// Each of them uses a part.
#![allow(dead_code)]
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, OnceLock};

use drainline::Tls;
use drainline::tls_in_memory::{End, InMemory};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, version};

/// No session holds more for bytes that come and go: two records that come, and one of each other
/// kind.
const MOST_HELD: usize = 96 << 10;

/// What a client sends, and what becomes of it on the way.
#[derive(Debug, Clone)]
pub struct Stream {
    pub is_tls12: bool,
    /// So many bytes are sent in records of their own.
    pub parts: Vec<usize>,
    /// The client says that its stream ends.
    pub is_closed: bool,
    /// Where the wire cuts: the sizes of pieces, over and over. None is 0.
    pub pieces: Vec<usize>,
    /// How much the server reads at once; not 0.
    pub read: usize,
    pub change: Option<Change>,
}

/// What somebody in between does to one record.
#[derive(Debug, Clone)]
pub struct Change {
    /// The record's number among all of the client's.
    pub record: usize,
    pub how: How,
}

#[derive(Debug, Clone)]
pub enum How {
    /// This byte of it, counted round and round, has these bits turned over.
    Flip(usize, u8),
    Drop,
    Twice,
    /// It comes behind the next one of the same flight.
    Swap,
    /// This comes before it.
    Before(Vec<u8>),
    /// The wire ends inside it, or before.
    Cut(usize),
}

struct Setup {
    tls: Tls,
    clients: [Arc<ClientConfig>; 2],
}

/// One certificate for all streams.
fn setup() -> &'static Setup {
    static SETUP: OnceLock<Setup> = OnceLock::new();
    SETUP.get_or_init(|| {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = own.signing_key.serialize_pem();
        let client = |version| {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::clone(own.cert.der())).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap();
            Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
        };
        Setup {
            tls: Tls::from_pem(own.cert.pem().as_bytes(), key.as_bytes()).unwrap(),
            clients: [client(&version::TLS13), client(&version::TLS12)],
        }
    })
}

/// Checks a stream as a fuzzer makes it up: the first bytes say what is sent and what is done to
/// it, those behind them where the wire cuts, or what somebody puts in between.
pub fn check_fuzzed(data: &[u8]) {
    let Some((&[how, record, at, bits, sizes, read], rest)) = data.split_first_chunk() else {
        return;
    };
    let how_changed = match how >> 2 & 7 {
        0 => None,
        1 => Some(How::Drop),
        2 => Some(How::Twice),
        3 => Some(How::Swap),
        4 => Some(How::Before(rest.to_vec())),
        5 => Some(How::Cut(usize::from(at))),
        _ => Some(How::Flip(usize::from(at), bits.max(1))),
    };
    let record = usize::from(record % 16);
    check(&Stream {
        is_tls12: how & 1 == 1,
        is_closed: how & 2 == 2,
        parts: (0..sizes % 8)
            .map(|part| [1, 40, 700, 20_000][usize::from(sizes >> 3 ^ part) % 4])
            .collect(),
        pieces: match rest {
            [] => vec![usize::MAX],
            rest => rest.iter().map(|&len| piece(len)).collect(),
        },
        read: [1, 100, 5_000, 64 << 10][usize::from(read) % 4],
        change: how_changed.map(|how| Change { record, how }),
    });
}

/// Small ones as they are; larger ones reach over whole records.
fn piece(len: u8) -> usize {
    match usize::from(len) {
        len @ ..128 => len.max(1),
        len => (len - 127) * 300,
    }
}

/// Plays the stream.
///
/// # Panics
/// With what does not hold:
///
/// - Nothing is read that was not sent, nor in another order.
/// - All that was sent before a change is read.
/// - The stream's end is believed only where all was read.
/// - Without a change all is read, and the end is what the client made it.
/// - No byte is both read and unread, and no more is held than records need.
pub fn check(stream: &Stream) {
    let setup = setup();
    let config = &setup.clients[usize::from(stream.is_tls12)];
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    client.set_buffer_limit(None);
    let mut server = Server {
        session: InMemory::new(&setup.tls).unwrap(),
        pieces: &stream.pieces,
        next: 0,
        buf: vec![0; stream.read],
        fed: 0,
        plain: Vec::new(),
        end: End::Not,
    };
    let mut between = Between {
        change: stream.change.as_ref(),
        seen: 0,
        is_changed: false,
        is_cut: false,
    };
    let mut has_shaken_hands = false;
    while !has_shaken_hands {
        let flight = records(&mut client);
        server.feed(&between.pass(flight));
        let answer = server.session.take_sent();
        if answer.is_empty() || !take(&mut client, &answer) {
            break;
        }
        has_shaken_hands = !client.is_handshaking();
    }
    let (mut sent, mut intact) = (Vec::new(), 0);
    if has_shaken_hands {
        // What ends the handshake, data and the end go in one flight.
        let mut flight = records(&mut client);
        for &len in &stream.parts {
            let start = sent.len();
            sent.extend((start..start + len).map(|at| (at * 7 % 251) as u8));
            client.writer().write_all(&sent[start..]).unwrap();
            flight.extend(records(&mut client));
            if between.is_before_change(&flight) {
                intact = sent.len();
            }
        }
        if stream.is_closed {
            client.send_close_notify();
            flight.extend(records(&mut client));
        }
        server.feed(&between.pass(flight));
    }
    server.cut();
    let (read, end) = (server.plain.len(), &server.end);
    let text = || format!("{read} of {} bytes, {end:?}: {stream:?}", sent.len());
    assert!(sent.starts_with(&server.plain), "{}", text());
    assert!(read >= intact, "{intact} were intact, {}", text());
    assert_ne!(*end, End::Not, "{}", text());
    if *end == End::Closed {
        assert!(stream.is_closed && read == sent.len(), "{}", text());
    }
    if !between.is_changed {
        let expected = match stream.is_closed {
            true => End::Closed,
            false => End::Cut,
        };
        assert!(has_shaken_hands && read == sent.len(), "{}", text());
        assert_eq!(*end, expected, "{}", text());
    }
}

struct Server<'a> {
    session: InMemory,
    pieces: &'a [usize],
    next: usize,
    buf: Vec<u8>,
    fed: usize,
    plain: Vec<u8>,
    end: End,
}

impl Server<'_> {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let piece = self.pieces[self.next % self.pieces.len()];
            self.next += 1;
            let (now, later) = bytes.split_at(piece.min(bytes.len()));
            self.session.feed(now);
            self.fed += now.len();
            self.read();
            bytes = later;
        }
    }

    fn cut(&mut self) {
        self.session.cut();
        self.read();
    }

    /// All that there is.
    fn read(&mut self) {
        loop {
            let read = self.session.read(&mut self.buf);
            assert!(self.session.held_bytes() <= MOST_HELD);
            match read {
                Ok(len) => {
                    assert!(matches!(self.end, End::Not), "bytes behind {:?}", self.end);
                    self.plain.extend_from_slice(&self.buf[..len]);
                }
                Err(end) => {
                    let is_final = matches!(self.end, End::Not) || self.end == end;
                    assert!(is_final, "{end:?} behind {:?}", self.end);
                    self.end = end;
                    break;
                }
            }
        }
        let known = self.plain.len() as u64 + self.session.unread_bytes();
        assert!(known <= self.fed as u64, "{known} of {}", self.fed);
    }
}

/// Who is between client and server.
struct Between<'a> {
    change: Option<&'a Change>,
    /// Records that came by.
    seen: usize,
    is_changed: bool,
    is_cut: bool,
}

impl Between<'_> {
    /// Whether records that come next, up to so many, are before the change.
    fn is_before_change(&self, flight: &[u8]) -> bool {
        let records = split(flight).len();
        (self.change).is_none_or(|change| self.seen + records <= change.record)
    }

    /// What becomes of the client's next records.
    fn pass(&mut self, flight: Vec<u8>) -> Vec<u8> {
        if self.is_cut {
            return Vec::new();
        }
        let mut records = split(&flight);
        let seen = self.seen;
        self.seen += records.len();
        let Some(change) = self.change else {
            return flight;
        };
        let Some(at) = (change.record.checked_sub(seen)).filter(|at| *at < records.len()) else {
            return flight;
        };
        match &change.how {
            How::Flip(byte, bits) => {
                let byte = byte % records[at].len();
                records[at][byte] ^= bits;
            }
            How::Drop => drop(records.remove(at)),
            How::Twice => records.insert(at, records[at].clone()),
            How::Swap if at + 1 < records.len() => records.swap(at, at + 1),
            How::Swap => {}
            How::Before(bytes) => records.insert(at, bytes.clone()),
            How::Cut(len) => {
                records.truncate(at + 1);
                records[at].truncate(*len);
                self.is_cut = true;
            }
        }
        let passed = records.concat();
        self.is_changed = passed != flight || self.is_cut;
        passed
    }
}

/// The records, by their headers.
fn split(mut flight: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let [_, _, _, high, low, ..] = *flight {
        let (record, rest) = flight.split_at(5 + usize::from(u16::from_be_bytes([high, low])));
        records.push(record.to_vec());
        flight = rest;
    }
    records
}

/// What the client's session has to send.
fn records(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Whether the client takes it. What it has to say to that is not sent.
fn take(client: &mut ClientConnection, mut answer: &[u8]) -> bool {
    while !answer.is_empty() {
        client.read_tls(&mut answer).unwrap();
        if client.process_new_packets().is_err() {
            return false;
        }
    }
    true
}
