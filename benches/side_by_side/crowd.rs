//! A crowd of clients, in a process that does nothing else: each connects, sends a line and stays.
//!
//! The process is this program, started with another argument. It has one thread: where threads
//! share a table of descriptors, the kernel lets them wait whenever it grows. A word on its stdin
//! has everybody come (anew), the times at which the first began and the last was through are its
//! answer, and it ends with its stdin.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::Outcome;
use crate::fifo::epoch_ns;
use crate::owned::Owned;

/// What this program is started with to be a crowd; an address and a number follow.
pub(crate) const ARGUMENT: &str = "--crowd";

/// With half of one address's ports in use (ip_local_port_range has 28,232) the kernel looks
/// through the whole of that half before it takes one of the other: a millisecond for each connect.
const FROM_ONE_ADDRESS: usize = 14_000;
/// None of those that the kernel gives.
const OTHER_PORTS: Range<u16> = 2000..20_000;
const LINE_BYTES: usize = 128;
/// Whoever is refused tries again this much later: the server is being started.
const RETRY_AFTER: Duration = Duration::from_millis(1);
const REFUSED_FOR_AT_MOST: Duration = Duration::from_secs(10);

/// The process, as the bench sees it. All its connections are closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    told: ChildStdin,
    said: BufReader<ChildStdout>,
    _process: Owned,
}

/// When a crowd came, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The first connect that was not refused began.
    pub(crate) begun_ns: u64,
    /// The last had returned, and its line was sent.
    pub(crate) ended_ns: u64,
}

impl Arrival {
    pub(crate) fn seconds(self) -> f64 {
        Duration::from_nanos(self.ended_ns.saturating_sub(self.begun_ns)).as_secs_f64()
    }

    fn read(text: &str) -> Option<Arrival> {
        let (begun, ended) = text.trim().split_once(' ')?;
        Some(Arrival {
            begun_ns: begun.parse().ok()?,
            ended_ns: ended.parse().ok()?,
        })
    }
}

impl Crowd {
    pub(crate) fn start(address: SocketAddr, connections: usize) -> Outcome<Crowd> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ARGUMENT, &address.to_string(), &connections.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (told, said) = (child.stdin.take(), child.stdout.take());
        let process = Owned::new(child);
        Ok(Crowd {
            told: told.ok_or("the crowd has no stdin")?,
            said: BufReader::new(said.ok_or("the crowd has no stdout")?),
            _process: process,
        })
    }

    /// Has everybody leave, and come. Does not wait for it.
    pub(crate) fn call(&mut self) -> Outcome<()> {
        Ok(self.told.write_all(b"come\n")?)
    }

    /// Waits until everybody has come.
    pub(crate) fn arrival(&mut self) -> Outcome<Arrival> {
        let mut answer = String::new();
        self.said.read_line(&mut answer)?;
        Ok(Arrival::read(&answer).ok_or("the crowd could not come")?)
    }
}

/// What that process does.
pub(crate) fn run(address: &str, connections: &str) -> Outcome<()> {
    let (address, connections): (SocketAddr, usize) = (address.parse()?, connections.parse()?);
    let line = [&[b'x'; LINE_BYTES - 1], &b"\n"[..]].concat();
    let mut crowd = Vec::with_capacity(connections);
    for told in io::stdin().lines() {
        told?;
        crowd.clear();
        let mut ports = OTHER_PORTS;
        let (mut first, begun_ns) = connect_when_not_refused(address)?;
        first.write_all(&line)?;
        crowd.push(first);
        for nth in 1..connections {
            let mut client = if nth < FROM_ONE_ADDRESS {
                TcpStream::connect(address)?
            } else {
                connect_from_another(&mut ports, address)?
            };
            client.write_all(&line)?;
            crowd.push(client);
        }
        crate::print(&format!("{begun_ns} {}\n", epoch_ns()));
    }
    Ok(())
}

/// The first of them, and when it began to connect.
fn connect_when_not_refused(address: SocketAddr) -> Outcome<(TcpStream, u64)> {
    let since = Instant::now();
    loop {
        let begun_ns = epoch_ns();
        match TcpStream::connect(address) {
            Err(error)
                if error.kind() == ErrorKind::ConnectionRefused
                    && since.elapsed() < REFUSED_FOR_AT_MOST =>
            {
                thread::sleep(RETRY_AFTER);
            }
            connected => return Ok((connected?, begun_ns)),
        }
    }
}

/// From another address of this machine, and from a port that a client before may have had. Some
/// server may listen on it everywhere: then from the next.
fn connect_from_another(ports: &mut Range<u16>, address: SocketAddr) -> Outcome<TcpStream> {
    const IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    for port in ports {
        match socket.bind(&SocketAddr::from((IP, port)).into()) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => {
                bound?;
                socket.connect(&address.into())?;
                return Ok(socket.into());
            }
        }
    }
    Err("no port is left for the crowd".into())
}
