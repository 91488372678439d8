//! A collector of StatsD counters and gauges over TCP, which prints their sums at an interval.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use drainline::ingest::{Framing, ReadMessages};
use drainline::{BoxError, Received, Server};

/// A name, a value, and whether it is a gauge.
type Sample = (String, (f64, bool));

/// `name:value|c` or `name:value|g`.
fn parse(line: &[u8]) -> Option<Sample> {
    let (name, rest) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let (value, kind) = rest.split_once('|')?;
    Some((name.to_owned(), (value.parse().ok()?, kind == "g")))
}

pub fn start(
    address: SocketAddr,
    interval: Duration,
    mut print: impl FnMut(&BTreeMap<String, f64>) + Send + 'static,
) -> Result<Server, BoxError> {
    Ok(Server::builder::<Sample>().listen(address).start(
        |conn, out| {
            for line in conn.messages(Framing::Lines, 1024) {
                if let Some(sample) = parse(&line?) {
                    out.send(sample)?;
                }
            }
            Ok(())
        },
        move |receiver| {
            let mut sums: BTreeMap<String, f64> = BTreeMap::new();
            let mut due = Instant::now() + interval;
            loop {
                match receiver.recv_until(due) {
                    Received::Message(delivery) => {
                        let (name, (value, is_gauge)) = delivery.ack();
                        let sum = sums.entry(name).or_default();
                        *sum = if is_gauge { value } else { *sum + value };
                    }
                    Received::RoomWanted => {}
                    Received::Timeout => {
                        print(&std::mem::take(&mut sums));
                        due += interval;
                    }
                    Received::Closed => {
                        print(&sums);
                        return Ok(());
                    }
                }
            }
        },
    )?)
}

pub fn main() -> Result<(), BoxError> {
    let print = |sums: &BTreeMap<String, f64>| eprintln!("{sums:?}");
    start("127.0.0.1:8125".parse()?, Duration::from_secs(10), print)?.wait();
    Ok(())
}
