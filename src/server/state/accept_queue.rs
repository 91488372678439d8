//! The clients in a listener's accept queue, by the kernel's table of sockets (proc_pid_net(5)).
//!
//! TCP_INFO's tcpi_unacked has the queue's length, too, but neither rustix nor socket2 has a safe
//! call for TCP_INFO. The table is opened at start, because the queue matters most when no
//! descriptor is left to open the table with.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::net::SocketAddr;
use std::time::Instant;

use parking_lot::Mutex;

use crate::server::deadline::Deadline;

/// The open table of all TCP sockets of one address family.
#[derive(Debug)]
pub(crate) struct SocketTable {
    file: File,
    half_open: &'static Mutex<HalfOpenPorts>,
}

static HALF_OPEN: [Mutex<HalfOpenPorts>; 2] = [const { Mutex::new(HalfOpenPorts::NONE) }; 2];

/// The ports to which connects had begun, for all listeners that ask at the same time: if each of a
/// thousand read the table, which lists the other listeners, too, a drain would take seconds.
#[derive(Debug)]
struct HalfOpenPorts {
    /// When the table was last read to its end, the beginning of that.
    read_at: Option<Instant>,
    ports: [u64; HalfOpenPorts::WORDS],
}

/// Clients that are connected but not accepted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) clients: usize,
    /// What these clients have sent.
    pub(crate) unread_bytes: u64,
}

impl SocketTable {
    /// `None` if the system does not show the table.
    pub(crate) fn open(address: SocketAddr) -> Option<SocketTable> {
        let (path, half_open) = match address {
            SocketAddr::V4(_) => ("/proc/self/net/tcp", &HALF_OPEN[0]),
            SocketAddr::V6(_) => ("/proc/self/net/tcp6", &HALF_OPEN[1]),
        };
        let file = File::open(path).ok()?;
        Some(SocketTable { file, half_open })
    }

    /// The number of clients in the queue of the listener with this inode. `None` if the listener
    /// is not in the table.
    pub(crate) fn length(&self, inode: u64) -> Option<usize> {
        length(self.read()?, inode)
    }

    /// As [`length`](SocketTable::length), with the bytes that the clients have sent. Reads the
    /// rows of all sockets of the machine, but stops at the deadline: the bytes are what was seen
    /// by then.
    pub(crate) fn queued(&self, inode: u64, until: Deadline) -> Option<Queued> {
        queued(self.read()?, inode, until)
    }

    /// How many clients have begun to connect to this listener and are not in its queue yet. Reads
    /// the rows of all sockets of the machine, unless another listener has just done so and nobody
    /// was there for the port, but stops at the deadline. Blocks while another listener reads them.
    pub(crate) fn half_open(&self, inode: u64, port: u16, until: Deadline) -> Option<usize> {
        let asked = Instant::now();
        let mut ports = self.half_open.lock();
        if ports.is_older_than(asked) {
            ports.read(self.read()?, until)?;
        }
        if !ports.contains(port) {
            return Some(0);
        }
        drop(ports);
        half_open(self.read()?, inode, until)
    }

    fn read(&self) -> Option<impl BufRead> {
        let mut file = &self.file;
        file.rewind().ok()?;
        Some(BufReader::new(file))
    }
}

impl HalfOpenPorts {
    const WORDS: usize = (u16::MAX as usize + 1) / u64::BITS as usize;

    const NONE: HalfOpenPorts = HalfOpenPorts {
        read_at: None,
        ports: [0; HalfOpenPorts::WORDS],
    };

    fn is_older_than(&self, asked: Instant) -> bool {
        self.read_at.is_none_or(|read_at| read_at < asked)
    }

    /// `None` if the deadline comes before the table's end.
    fn read(&mut self, mut table: impl BufRead, until: Deadline) -> Option<()> {
        let began = Instant::now();
        *self = HalfOpenPorts::NONE;
        let mut line = Vec::new();
        while !until.has_passed() {
            line.clear();
            if table.read_until(b'\n', &mut line).ok()? == 0 {
                self.read_at = Some(began);
                return Some(());
            }
            let row = std::str::from_utf8(&line).ok().and_then(Row::parse);
            if let Some(port) = row.and_then(|row| row.half_open_port()) {
                let (word, bit) = HalfOpenPorts::place(port);
                self.ports[word] |= bit;
            }
        }
        None
    }

    fn contains(&self, port: u16) -> bool {
        let (word, bit) = HalfOpenPorts::place(port);
        self.ports[word] & bit != 0
    }

    fn place(port: u16) -> (usize, u64) {
        let port = usize::from(port);
        (port / 64, 1 << (port % 64))
    }
}

/// One socket of the table.
struct Row<'a> {
    /// Address and port, as the table writes them.
    local: &'a str,
    state: &'a str,
    /// `rx_queue`: clients for a listener, bytes for any other socket.
    received: u64,
    inode: u64,
}

impl Row<'_> {
    fn parse(line: &str) -> Option<Row<'_>> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        let state = fields.nth(1)?;
        let (_, received) = fields.next()?.split_once(':')?;
        Some(Row {
            local,
            state,
            received: u64::from_str_radix(received, 16).ok()?,
            inode: fields.nth(4)?.parse().ok()?,
        })
    }

    fn is_listener(&self, inode: u64) -> bool {
        const LISTEN: &str = "0A";
        self.state == LISTEN && self.inode == inode
    }

    /// The socket is a client of this listener and not accepted: accept(2) gives it an inode.
    fn came_to(&self, listener: &str) -> bool {
        let Some((address, port)) = listener.split_once(':') else {
            return false;
        };
        let is_any = address.bytes().all(|digit| digit == b'0');
        let is_its = self.local == listener
            || (is_any && self.local.rsplit_once(':').is_some_and(|own| own.1 == port));
        self.inode == 0 && is_its
    }

    fn is_half_open(&self, listener: &str) -> bool {
        self.is_connect() && self.came_to(listener)
    }

    fn is_connect(&self) -> bool {
        const SYN_RECV: &str = "03";
        self.state == SYN_RECV && self.inode == 0
    }

    /// The port to which a connect has begun.
    fn half_open_port(&self) -> Option<u16> {
        let (_, port) = self.local.rsplit_once(':').filter(|_| self.is_connect())?;
        u16::from_str_radix(port, 16).ok()
    }

    /// The bytes that a client in the listener's queue has sent; `None` for any other socket.
    fn sent_to(&self, listener: &str) -> Option<u64> {
        const ESTABLISHED: &str = "01";
        const CLOSE_WAIT: &str = "08";
        match self.state {
            _ if !self.came_to(listener) => None,
            ESTABLISHED => Some(self.received),
            // The kernel counts the client's FIN as a byte.
            CLOSE_WAIT => Some(self.received.saturating_sub(1)),
            _ => None,
        }
    }
}

fn length(mut table: impl BufRead, inode: u64) -> Option<usize> {
    let (_, clients) = find_listener(&mut table, inode)?;
    Some(clients)
}

/// The kernel lists all listeners before all other sockets, so one pass is enough, and the clients
/// are known however early the pass is stopped.
fn queued(mut table: impl BufRead, inode: u64, until: Deadline) -> Option<Queued> {
    let (local, clients) = find_listener(&mut table, inode)?;
    let mut unread_bytes = 0;
    for_each_at_port(table, &local, until, |row| {
        unread_bytes += row.sent_to(&local).unwrap_or(0);
    });
    Some(Queued {
        clients,
        unread_bytes,
    })
}

fn half_open(mut table: impl BufRead, inode: u64, until: Deadline) -> Option<usize> {
    if until.has_passed() {
        return None;
    }
    let (local, _) = find_listener(&mut table, inode)?;
    let mut half_open = 0;
    for_each_at_port(table, &local, until, |row| {
        half_open += usize::from(row.is_half_open(&local));
    });
    Some(half_open)
}

/// The listener's address as the table writes it, and the number of clients in its queue. Reads no
/// further than the listener's row.
fn find_listener(table: &mut impl BufRead, inode: u64) -> Option<(String, usize)> {
    let mut lines = table.lines().map_while(Result::ok);
    lines.find_map(|line| {
        let row = Row::parse(&line)?;
        let found = || (row.local.to_owned(), row.received as usize);
        row.is_listener(inode).then(found)
    })
}

/// Visits the rows of sockets that have the listener's port, until the deadline. A busy machine has
/// tens of thousands of other rows, in TIME_WAIT above all: of those only the port is looked at.
fn for_each_at_port(
    mut table: impl BufRead,
    listener: &str,
    until: Deadline,
    mut visit: impl FnMut(Row<'_>),
) {
    let Some((_, port)) = listener.rsplit_once(':') else {
        return;
    };
    let mut line = Vec::new();
    while !until.has_passed() {
        line.clear();
        match table.read_until(b'\n', &mut line) {
            Ok(read) if read > 0 => {}
            _ => return,
        }
        if local_port(&line, listener) == Some(port.as_bytes())
            && let Some(row) = std::str::from_utf8(&line).ok().and_then(Row::parse)
        {
            visit(row);
        }
    }
}

/// The port of a row's socket: the row begins with `  12: 0100007F:1414 `, and all addresses of a
/// table are as long as the listener's.
fn local_port<'a>(row: &'a [u8], listener: &str) -> Option<&'a [u8]> {
    const PORT: usize = 4;
    let number = row.iter().position(|&byte| byte == b':')?;
    let end = number + ": ".len() + listener.len();
    row.get(end - PORT..end)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1414 00000000:0000 0A 00000000:00000009 00:00000000 00000000     0        0 10 1 0 100 0 0 10 0
   1: 0100007F:1415 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   2: 00000000:1416 00000000:0000 0A 00000000:00000001 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0
   3: 0100007F:1415 0100007F:9000 01 00000000:00000020 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   4: 0100007F:1415 0100007F:9001 08 00000000:00000003 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   5: 0100007F:1415 0100007F:9002 01 00000000:00000400 00:00000000 00000000     0        0 77 1 0 20 4 30 10 -1
   6: 0100007F:1415 0100007F:9003 04 00000000:00000500 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   7: 0200007F:1416 0100007F:9004 01 00000000:00000007 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   8: 0100007F:9000 0100007F:1415 01 00000000:00000600 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   9: 0100007F:1415 0100007F:9005 03 00000000:00000000 01:00000019 00000000     0        0 0 1 0
  10: 0300007F:1416 0100007F:9006 03 00000000:00000000 01:00000019 00000000     0        0 0 1 0
  11: 0300007F:1416 0100007F:9007 03 00000000:00000000 01:00000019 00000000     0        0 0 1 0
";

    fn of(inode: u64) -> Option<(usize, u64)> {
        let queued = queued(TABLE.as_bytes(), inode, Deadline::NEVER);
        assert_eq!(
            length(TABLE.as_bytes(), inode),
            queued.map(|queued| queued.clients)
        );
        queued.map(|queued| (queued.clients, queued.unread_bytes))
    }

    /// A table without an end, as the table of a busy machine is to a reader that is too slow.
    struct Endless(&'static [u8]);

    impl std::io::Read for Endless {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                let last = TABLE.trim_end().rfind('\n').map_or(0, |end| end + 1);
                self.0 = &TABLE.as_bytes()[last..];
            }
            self.0.read(to)
        }
    }

    #[test]
    fn a_listeners_queue_is_told_with_what_those_in_it_have_sent_and_nothing_of_others() {
        assert_eq!(of(11), Some((3, 0x20 + 2)));
        assert_eq!(of(10), Some((9, 0)));
        assert_eq!(of(12), Some((1, 7)), "it listens on every address");
        assert_eq!(of(77), None);
    }

    #[test]
    fn at_the_deadline_the_table_is_read_no_further_and_the_clients_are_known() {
        for time in [Duration::ZERO, Duration::from_millis(20)] {
            let table = BufReader::new(Endless(TABLE.as_bytes()));
            let queued = queued(table, 11, Deadline::after(time));
            assert_eq!(queued.map(|queued| queued.clients), Some(3), "{time:?}");
        }
        let table = BufReader::new(Endless(TABLE.as_bytes()));
        let until = Deadline::after(Duration::from_millis(20));
        assert!(half_open(table, 12, until).is_some());
    }

    #[test]
    fn connects_that_have_begun_are_told_by_the_listener_that_they_came_to() {
        let of = |time| {
            let until = Deadline::after(time);
            [10, 11, 12, 77].map(|inode| half_open(TABLE.as_bytes(), inode, until))
        };
        assert_eq!(of(HOUR), [Some(0), Some(1), Some(2), None]);
        assert_eq!(of(Duration::ZERO), [None; 4], "it is too late to look");
    }

    #[test]
    fn who_asked_before_the_table_was_read_need_not_read_it_again() {
        let asked = Instant::now();
        let mut ports = HalfOpenPorts::NONE;
        assert!(ports.is_older_than(asked));
        let too_late = Deadline::after(Duration::ZERO);
        assert_eq!(ports.read(TABLE.as_bytes(), too_late), None);
        assert!(ports.is_older_than(asked), "it was not read to its end");
        assert_eq!(ports.read(TABLE.as_bytes(), Deadline::NEVER), Some(()));
        assert!(!ports.is_older_than(asked));
        assert!(ports.is_older_than(Instant::now() + HOUR));
        let half_open = [0x1414, 0x1415, 0x1416, 0x9000].map(|port| ports.contains(port));
        assert_eq!(half_open, [false, true, true, false]);
    }
}
