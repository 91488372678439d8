//! A stand-in between librdkafka and the mock of a cluster of one broker. It notes what is to be
//! written, and may ask for a login, which the mock knows nothing of.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::Cluster;
use super::login::{Account, Exchange};

const PRODUCE: i16 = 0;
const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

/// What a Produce request says of a batch of records.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) acks: i16,
    pub(crate) partition: i32,
    /// 0: not compressed, 2: Snappy, 3: LZ4.
    pub(crate) codec: i16,
    /// Negative: the producer is not idempotent.
    pub(crate) producer: i64,
    /// The number of its first record.
    pub(crate) sequence: i32,
    pub(crate) count: i32,
    /// As they are on the wire.
    pub(crate) records: Vec<u8>,
}

/// Takes connections until the process ends.
pub(crate) struct Gate {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    broker: SocketAddr,
    /// At which the broker is said to be.
    advertised: u16,
    account: Option<Account>,
    written: Mutex<Vec<Written>>,
    logins: Mutex<Vec<String>>,
}

impl Gate {
    pub(crate) fn before(cluster: &Cluster) -> Gate {
        Gate::new(cluster, None, None)
    }

    /// `advertised`: the port at which librdkafka is to come to the broker, if not the gate's own.
    pub(crate) fn new(
        cluster: &Cluster,
        account: Option<Account>,
        advertised: Option<u16>,
    ) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            broker: cluster.bootstrap_servers().parse().unwrap(),
            advertised: advertised.unwrap_or(port),
            account,
            written: Mutex::default(),
            logins: Mutex::default(),
        });
        let gate = Gate {
            port,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, shared) = (client.unwrap(), Arc::clone(&shared));
                // That a connection ends is no error.
                thread::spawn(move || shared.pass(client));
            }
        });
        gate
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All that the broker was asked to write.
    pub(crate) fn written(&self) -> Vec<Written> {
        self.shared.written.lock().unwrap().clone()
    }

    /// The mechanisms of the logins that succeeded.
    pub(crate) fn logins(&self) -> Vec<String> {
        self.shared.logins.lock().unwrap().clone()
    }
}

impl Shared {
    /// One request after the other, each with its answer.
    fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let mut broker = TcpStream::connect(self.broker)?;
        let mut login = None;
        let mut is_let_in = self.account.is_none();
        loop {
            let request = read_frame(&mut client)?;
            let mut it = Fields::of(&request);
            let (api, version, id) = (it.i16(), it.i16(), it.i32());
            // The client's name.
            it.text();
            let answer = match (api, &self.account) {
                (SASL_HANDSHAKE, Some(account)) => {
                    let is_known = it.text() == account.mechanism;
                    login = is_known.then(|| Exchange::with(account.clone()));
                    let error = if is_known {
                        0
                    } else {
                        UNSUPPORTED_SASL_MECHANISM
                    };
                    let mut answer = [&id.to_be_bytes()[..], &error.to_be_bytes()].concat();
                    answer.extend(1_i32.to_be_bytes());
                    answer.extend((account.mechanism.len() as i16).to_be_bytes());
                    answer.extend(account.mechanism.as_bytes());
                    answer
                }
                (SASL_AUTHENTICATE, Some(account)) => {
                    let login = login.as_mut().expect("no mechanism was chosen");
                    let said = login.answer(it.bytes());
                    if login.is_done() {
                        is_let_in = true;
                        self.logins
                            .lock()
                            .unwrap()
                            .push(account.mechanism.to_owned());
                    }
                    let error = if said.is_some() {
                        0
                    } else {
                        SASL_AUTHENTICATION_FAILED
                    };
                    let said = said.unwrap_or_default();
                    let mut answer = [&id.to_be_bytes()[..], &error.to_be_bytes()].concat();
                    // No text.
                    answer.extend((-1_i16).to_be_bytes());
                    answer.extend((said.len() as i32).to_be_bytes());
                    answer.extend(said);
                    // How long that holds: for good.
                    answer.extend(0_i64.to_be_bytes());
                    answer
                }
                (api, _) => {
                    // Brokers end a connection that goes on without a login.
                    if !is_let_in && api != API_VERSIONS {
                        return Ok(());
                    }
                    if api == PRODUCE {
                        self.written.lock().unwrap().extend(it.written(version));
                    }
                    write_frame(&mut broker, &request)?;
                    let mut answer = read_frame(&mut broker)?;
                    if api == API_VERSIONS && self.account.is_some() {
                        offer_login(&mut answer);
                    }
                    self.advertise(&mut answer);
                    answer
                }
            };
            write_frame(&mut client, &answer)?;
        }
    }

    /// Writes our port where the answer has the broker's.
    fn advertise(&self, answer: &mut [u8]) {
        let host = b"127.0.0.1";
        let at_port = |port: u16| [&host[..], &i32::from(port).to_be_bytes()].concat();
        let (theirs, ours) = (at_port(self.broker.port()), at_port(self.advertised));
        let length = theirs.len();
        for at in 0..(answer.len() + 1).saturating_sub(length) {
            if answer[at..at + length] == theirs {
                answer[at..at + length].copy_from_slice(&ours);
            }
        }
    }
}

/// Adds the requests of a login to those that the mock knows, up to their versions 1. Its answers
/// to the question are of the old form: a number, an error, a count, and three numbers each.
fn offer_login(answer: &mut Vec<u8>) {
    let mut it = Fields::of(answer);
    let (_id, error, count) = (it.i32(), it.i16(), it.i32());
    if error == 0 {
        answer[6..10].copy_from_slice(&(count + 2).to_be_bytes());
        let both = [SASL_HANDSHAKE, 0, 1, SASL_AUTHENTICATE, 0, 1];
        answer.splice(10..10, both.iter().flat_map(|number| number.to_be_bytes()));
    }
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.write_all(&[&(frame.len() as u32).to_be_bytes()[..], frame].concat())
}

/// The fields of a request that are not read yet.
struct Fields<'a> {
    rest: &'a [u8],
    /// Whether lengths are varints, and one more than they say.
    is_compact: bool,
}

impl<'a> Fields<'a> {
    fn of(rest: &'a [u8]) -> Fields<'a> {
        Fields {
            rest,
            is_compact: false,
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let [byte] = self.array();
            value |= usize::from(byte & 127) << shift;
            if byte < 128 {
                return value;
            }
            shift += 7;
        }
    }

    /// Of an array, or of bytes. What is null is as long as what is empty.
    fn length(&mut self) -> usize {
        match self.is_compact {
            true => self.varint().saturating_sub(1),
            false => self.i32().max(0) as usize,
        }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.length();
        self.take(length)
    }

    fn text(&mut self) -> &'a str {
        let length = match self.is_compact {
            true => self.length(),
            false => self.i16().max(0) as usize,
        };
        std::str::from_utf8(self.take(length)).unwrap()
    }

    /// librdkafka sends none of its own.
    fn tags(&mut self) {
        if self.is_compact {
            assert_eq!(self.varint(), 0, "tagged fields");
        }
    }

    /// The batches of a Produce request.
    fn written(&mut self, version: i16) -> Vec<Written> {
        assert!((3..=10).contains(&version), "version {version}");
        self.is_compact = version >= 9;
        self.tags();
        let _transaction = self.text();
        let acks = self.i16();
        let _timeout = self.i32();
        let mut all = Vec::new();
        for _ in 0..self.length() {
            let _topic = self.text();
            for _ in 0..self.length() {
                let partition = self.i32();
                all.push(batch(acks, partition, self.bytes()));
                self.tags();
            }
            self.tags();
        }
        all
    }
}

/// A batch of the one form that there is since Kafka 0.11.
fn batch(acks: i16, partition: i32, bytes: &[u8]) -> Written {
    let mut it = Fields::of(bytes);
    // Offset, length, epoch of the leader, the form's number, checksum.
    assert_eq!(it.take(21)[16], 2, "the form of a batch");
    let attributes = it.i16();
    // The last record's number and the times.
    it.take(20);
    let producer = it.i64();
    let _epoch = it.i16();
    Written {
        acks,
        partition,
        codec: attributes & 7,
        producer,
        sequence: it.i32(),
        count: it.i32(),
        records: it.rest.to_vec(),
    }
}
