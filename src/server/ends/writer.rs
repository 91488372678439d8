//! Writing to a peer from other threads than its handler's.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::server::deadline::MAX_PARK;
use crate::server::error::Ended;
use crate::server::ledger::EndReason;
use crate::server::state::Shared;
use crate::server::state::connection_state::{ConnectionState, Turns};

/// The most bytes that one write hands to the kernel, and that `write_timeout` applies to.
pub(super) const MAX_PER_WRITE: usize = 64 << 10;

/// Writes to a connection's peer from any thread, while its handler reads: for a subscription that
/// pushes, or a timer. Clones write to the same connection.
///
/// A writer keeps nothing alive: when the handler has returned, a blocked write and every later
/// write fail. Let the handler block in a read: a drain, an abort and a peer that is gone wake the
/// read, and the handler's return ends the writers.
///
/// # Writing
/// [`write`](Write::write) writes its whole buffer, and blocks until the kernel has all of it, at
/// most `write_timeout` for each 64 KiB. After that the connection ends as
/// [`write_timeout`](EndReason::WriteTimeout). Writes of several threads do not interleave; a write
/// of the handler itself is one unit up to 64 KiB. A drain does not end writers before the handler
/// returns.
///
/// # Errors
/// Once the connection has ended, an error that wraps [`Ended`]. Part of the buffer may have been
/// written by then.
#[derive(Clone)]
pub struct Writer {
    id: u64,
    turns: Arc<Turns>,
    state: Weak<ConnectionState>,
    shared: Weak<Shared>,
}

impl Writer {
    pub(super) fn new(state: &Arc<ConnectionState>, shared: &Arc<Shared>) -> Self {
        Writer {
            id: state.id,
            turns: Arc::clone(&state.turns),
            state: Arc::downgrade(state),
            shared: Arc::downgrade(shared),
        }
    }

    /// The number of the connection.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the connection has ended, so that every later write fails.
    pub fn is_closed(&self) -> bool {
        self.turns.is_over() || self.turns.ended().is_some()
    }

    fn write_all_of(&self, buf: &[u8]) -> io::Result<()> {
        let ended = |reason| Err(Ended(self.turns.ended().unwrap_or(reason)).into_io());
        // The state, which has the socket, is held within a turn only: the handler's return waits
        // for that turn, and so does the permit for the next client.
        let _turn = self.turns.writing.lock();
        if self.turns.is_over() {
            return ended(EndReason::HandlerReturned);
        }
        let (Some(state), Some(shared)) = (self.state.upgrade(), self.shared.upgrade()) else {
            return ended(EndReason::HandlerReturned);
        };
        for part in buf.chunks(MAX_PER_WRITE) {
            // The clock of the sends' deadlines, which stands still while the process is stopped.
            let now = || shared.quota.running_time();
            let until = shared.config.write_timeout;
            let until = until.and_then(|wait| now().checked_add(wait));
            let left = || until.map_or(MAX_PARK, |until| until.saturating_sub(now()).min(MAX_PARK));
            if let Err(reason) = write_part(&state, part, left) {
                if reason == EndReason::WriteTimeout {
                    shared.quota.abort(&state, reason);
                    state.disconnect();
                }
                return ended(reason);
            }
        }
        Ok(())
    }
}

/// Writes all of a part, and waits for the peer in poll(2), which shutdown(2) wakes.
fn write_part(
    state: &ConnectionState,
    mut part: &[u8],
    left: impl Fn() -> Duration,
) -> Result<(), EndReason> {
    while !part.is_empty() {
        if let Some(reason) = state.ended() {
            return Err(reason);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(&state.stream, part, flags) {
            Ok(wrote) => part = &part[wrote..],
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => match left() {
                Duration::ZERO => return Err(EndReason::WriteTimeout),
                left => state.poll_writable(left),
            },
            Err(_) => return Err(EndReason::Reset),
        }
    }
    Ok(())
}

impl Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_all_of(buf).map(|()| buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("connection", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::Server;

    /// Until its turn, a writer holds nothing that would keep the socket of a connection open which
    /// is over by then.
    #[test]
    fn a_write_that_waits_for_its_turn_holds_no_socket() {
        let (tell, told) = mpsc::channel();
        let server = Server::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .serve(move |conn| {
                tell.send(conn.writer())?;
                Ok(conn.read(&mut [0]).map(drop)?)
            })
            .unwrap();
        let client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        let writer = told.recv().unwrap();
        let turns = Arc::clone(&writer.turns);
        let turn = turns.writing.lock();
        let holders = writer.state.strong_count();
        let writes: Vec<_> = (0..4)
            .map(|_| {
                let mut writer = writer.clone();
                thread::spawn(move || writer.write(b"x").map_err(|error| Ended::reason_of(&error)))
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(writer.state.strong_count(), holders);
        drop(client);
        // Its handler has returned, and waits for the turn.
        let end = Instant::now() + Duration::from_secs(60);
        while !turns.is_over() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        drop(turn);
        for write in writes {
            let reason = Some(EndReason::HandlerReturned);
            assert_eq!(write.join().unwrap(), Err(reason));
        }
    }
}
