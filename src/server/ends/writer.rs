//! Writing to a peer from other threads than its handler's.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Weak};

use super::transport::{Caller, MAX_PER_WRITE, Unsent, WriteDeadline, send_all, wait_for_turn};
use super::weigh::Weigh;
use crate::server::error::Ended;
use crate::server::ledger::EndReason;
use crate::server::limits::heap_bytes;
use crate::server::state::Shared;
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::turns::Turns;

/// Writes to a connection's peer from any thread, while its handler reads: for a subscription that
/// pushes, or a timer. Clones write to the same connection.
///
/// A writer keeps no socket open: when the handler has returned, a blocked write and every later
/// write fail. Let the handler block in a read: a drain, an abort and a peer that is gone wake the
/// read, and the handler's return ends the writers.
///
/// # Memory
/// The writers of a connection that has ended keep about 450 bytes of heap together (their
/// [weight](Weigh)), until the last of them is dropped. The printed limits do not include what
/// the program keeps, so a list of writers must not wait for a failed write to let them go. Drop
/// those whose connections have ended before each new one is added, and there are never more than
/// connections:
///
/// ```
/// # use drainline::Writer;
/// fn join(room: &mut Vec<Writer>, writer: Writer) {
///     room.retain(|other| !other.is_closed() && other.id() != writer.id());
///     room.push(writer);
/// }
/// ```
///
/// # Writing
/// [`write`](Write::write) writes its whole buffer, and blocks until the kernel has all of it, at
/// most `write_timeout` for each 64 KiB. After that the connection ends as
/// [`write_timeout`](EndReason::WriteTimeout). Writes of several threads take turns, first come,
/// first served, and do not interleave; a write of the handler itself is one unit up to 64 KiB. A
/// drain does not end writers before the handler returns.
///
/// A handler may write to the peer of another connection. Once the handler's own connection has
/// ended, such as by an abort, its write waits no longer than a tenth of a second. If part of the
/// buffer was written by then, the connection that it was written to ends, too
/// ([`aborted`](EndReason::Aborted)), because its peer could not tell where the next write begins.
///
/// # Errors
/// Once the connection has ended, or that of the handler that writes, an error that wraps
/// [`Ended`]. Part of the buffer may have been written by then.
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
        let caller = Caller::this_thread();
        // The state, which has the socket, is held within a turn only: the handler's return waits
        // for that turn, and so does the permit for the next client.
        let turn = self.turns.join();
        if let Err(reason) = wait_for_turn(&turn, &caller) {
            return Err(Ended(reason).into_io());
        }
        if self.turns.is_over() {
            return ended(EndReason::HandlerReturned);
        }
        let (Some(state), Some(shared)) = (self.state.upgrade(), self.shared.upgrade()) else {
            return ended(EndReason::HandlerReturned);
        };
        let mut has_begun = false;
        for mut part in buf.chunks(MAX_PER_WRITE) {
            let len = part.len();
            let timeout = shared.config.write_timeout;
            let until = timeout.and_then(|wait| WriteDeadline::after(wait, &shared.quota));
            let unsent = send_all(&state, &mut part, until, Some(&caller));
            has_begun |= part.len() < len;
            let reason = match unsent {
                Ok(()) => continue,
                Err(Unsent::Ended(reason)) => return ended(reason),
                Err(Unsent::Failed(_)) => return ended(EndReason::Reset),
                Err(Unsent::TimedOut) => {
                    end(&shared, &state, EndReason::WriteTimeout);
                    return ended(EndReason::WriteTimeout);
                }
                Err(Unsent::CallerEnded(reason)) => reason,
            };
            if has_begun {
                // The peer could not tell where the next write begins.
                end(&shared, &state, EndReason::Aborted);
            }
            return Err(Ended(reason).into_io());
        }
        Ok(())
    }
}

fn end(shared: &Shared, state: &ConnectionState, reason: EndReason) {
    shared.quota.abort(state, reason);
    state.disconnect();
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

/// Counts what the writer keeps of a connection that has ended, each clone the whole of it.
impl Weigh for Writer {
    fn bytes(&self) -> usize {
        // The state fills whole cache lines. Its counts take one line, and malloc may lose another.
        let state = size_of::<ConnectionState>() + 2 * align_of::<ConnectionState>();
        heap_bytes(state) + heap_bytes(size_of::<Turns>() + 2 * size_of::<usize>())
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

    /// As the documentation says. In a vector of 100,000 of them each was measured to take 490
    /// bytes, of which 42 are the vector's.
    #[test]
    fn a_writer_weighs_what_it_keeps_of_an_ended_connection() {
        let (tell, told) = mpsc::channel();
        let server = Server::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .serve(move |conn| Ok(tell.send(conn.writer())?))
            .unwrap();
        let _client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        let writer: Writer = told.recv().unwrap();
        assert!((400..=550).contains(&writer.bytes()), "{}", writer.bytes());
    }

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
        let turn = turns.join();
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
