//! A server that messages go on to, near or far: started anew for each turn, in its own folder.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::Outcome;
use crate::delay::Delay;
use crate::process::{Running, free_address};
use crate::scenario::Sink;
use crate::{provision, receiver};

pub(crate) const STREAM: &str = "stream";
pub(crate) const TOPIC: &str = "topic";
const PARTITIONS: &str = "12";

#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) server: Running,
    kind: Kind,
    /// Brokers that it says it has.
    brokers: String,
    delay: Option<Delay>,
    _folder: TempDir,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Drainline,
    Redis,
    Http,
    Kafka,
}

impl Destination {
    /// Starts what this sink is, with such a round trip to it. `None`: it is no server.
    pub(crate) fn start(sink: Sink, round_trip: Option<Duration>) -> Outcome<Option<Destination>> {
        let kind = match sink {
            Sink::Null | Sink::Fifo | Sink::Tmpfs | Sink::Disk => return Ok(None),
            Sink::Drainline => Kind::Drainline,
            Sink::Redis => Kind::Redis,
            Sink::Http => Kind::Http,
            Sink::Kafka => Kind::Kafka,
        };
        let folder = tempfile::Builder::new()
            .prefix("side-by-side-")
            .tempdir_in("/dev/shm")?;
        let address = free_address()?;
        let command = match kind {
            Kind::Drainline => {
                let mut command = Command::new(provision::DRAINLINE);
                command.args(["--listen", &address.to_string()]);
                command.args(["--sink", "null", "--report", "json"]);
                command
            }
            Kind::Redis => {
                let mut command = Command::new(provision::redis_server()?);
                command
                    .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
                    .args(["--save", "", "--appendonly", "no", "--dir"])
                    .arg(folder.path());
                command
            }
            Kind::Http => {
                let mut command = Command::new(env::current_exe()?);
                command.args([receiver::ARGUMENT, &address.to_string()]);
                command
            }
            Kind::Kafka => {
                let millis = round_trip.map_or(0, |time| time.as_millis());
                let mut command = Command::new(provision::kafka_mock()?);
                command.args([TOPIC, PARTITIONS, &millis.to_string()]);
                command
            }
        };
        let mut server = Running::start(command, address, folder.path())?;
        let mut brokers = String::new();
        let mut delay = None;
        match kind {
            // Brokers tell clients their own addresses, and wait by themselves.
            Kind::Kafka => brokers = server.wait_for_line()?,
            _ => {
                server.wait_until_listening()?;
                delay = round_trip.map(|time| Delay::start(address, time / 2));
            }
        }
        Ok(Some(Destination {
            server,
            kind,
            brokers,
            delay: delay.transpose()?,
            _folder: folder,
        }))
    }

    /// Its URL, as drainline is told it.
    pub(crate) fn url(&self) -> String {
        let delayed = self.delay.as_ref().map(Delay::address);
        let address = delayed.unwrap_or(self.server.address);
        match self.kind {
            Kind::Drainline => format!("tcp://{address}"),
            Kind::Redis => format!("redis://{address}/{STREAM}"),
            Kind::Http => format!("http://{address}"),
            Kind::Kafka => format!("kafka://{}/{TOPIC}", self.brokers),
        }
    }

    /// Brokers of Kafka, as a client is told them.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// How many it has, in all.
    pub(crate) fn messages(&self) -> Outcome<u64> {
        match self.kind {
            Kind::Drainline => self.delivered(),
            Kind::Redis => self.entries(),
            Kind::Http => receiver::messages(self.server.address),
            Kind::Kafka => Err("a mock of Kafka does not say what it has".into()),
        }
    }

    /// What has come over the connections that are open, and is not before the sink any more.
    fn delivered(&self) -> Outcome<u64> {
        let status = self.server.status()?;
        let connections = status["connections"].as_array().ok_or("no connections")?;
        let messages = connections.iter().map(|it| it["messages"].as_u64());
        let received: u64 = messages.map(Option::unwrap_or_default).sum();
        let in_flight = status["in_flight"].as_u64().ok_or("no in_flight")?;
        Ok(received.saturating_sub(in_flight))
    }

    /// Entries of the stream.
    fn entries(&self) -> Outcome<u64> {
        let mut stream = TcpStream::connect(self.server.address)?;
        let length = STREAM.len();
        write!(stream, "*2\r\n$4\r\nXLEN\r\n${length}\r\n{STREAM}\r\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let number = line.trim().strip_prefix(':').ok_or(line.clone())?;
        Ok(number.parse()?)
    }
}
