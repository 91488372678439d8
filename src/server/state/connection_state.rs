//! What the rest of the server sees of one connection. Its handler publishes without a lock or a
//! clock, and the watchdog reads once a tick.

mod drain;

use std::cell::RefCell;
use std::io;
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::Socket;

use super::leave::Leave;
use super::turns::{End, Turns};
use crate::policy::{Activity, Counts, Sample, Ticket};
use crate::server::config::TICK;
use crate::server::deadline::MAX_PARK;
use crate::server::ledger::{DropReason, EndReason};
use crate::server::peer::{Address, Peer};
use crate::server::tls::Session;
use crate::server::wire::SendNow;

/// A connection's wait for the buffer. A connection joins and leaves the queue under the quota's
/// lock; its handler takes the outcome from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitState {
    /// The connection does not wait.
    None,
    /// The connection waits for capacity.
    Queued(Ticket),
    /// The quota has reserved the capacity for the connection.
    Granted,
    /// The wait was ended, and the message is counted as dropped for this reason.
    Refused(DropReason),
}

const ACTIVITY_BITS: u32 = 4;

/// Which listener accepted a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerName {
    index: u32,
    is_in_texts: bool,
    name: Arc<str>,
}

impl ListenerName {
    /// The name of one of `count` listeners: its own, or else its address. Texts about a connection
    /// say it where there are several listeners, or the listener has a name of its own.
    pub(crate) fn new(index: usize, count: usize, own: Option<&str>, address: &Address) -> Self {
        ListenerName {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            is_in_texts: count > 1 || own.is_some(),
            name: own.map_or_else(|| address.to_string().into(), Arc::from),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index as usize
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn is_in_texts(&self) -> bool {
        self.is_in_texts
    }

    /// For a text, behind a peer: ` at NAME`, or nothing where that is not said.
    pub(crate) fn at(&self) -> String {
        at(&self.name, self.is_in_texts)
    }
}

/// For a text, behind a peer: ` by BALANCER` if there is one.
pub(crate) fn by(balancer: Option<Peer>) -> String {
    balancer
        .map(|balancer| format!(" by {balancer}"))
        .unwrap_or_default()
}

/// For a text, behind a peer: ` at LISTENER` if the text says the listener.
pub(crate) fn at(listener: &str, is_in_texts: bool) -> String {
    match is_in_texts {
        true => format!(" at {listener}"),
        false => String::new(),
    }
}

/// For a text, behind a peer: ` (NAME)` if its certificate calls it so.
pub(crate) fn named(name: Option<&Arc<str>>) -> String {
    name.map(|name| format!(" ({name})")).unwrap_or_default()
}

/// What comes before the peer's own bytes is not complete.
const OPENING: u8 = 1;
/// A drain has begun, which waits for that.
const DRAIN_DUE: u8 = 2;
/// The drain has ended reading.
const DRAINED: u8 = 4;

/// One cache line of atomics. Only the handler writes the first nine, only other threads write the
/// rest. A counter with one writer needs no read-modify-write, so publishing a read costs a handler
/// a few plain stores.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Published {
    /// The [`Activity`] in the lowest bits, and above them the number of changes so far. Both are
    /// in one word, so that the watchdog never charges a new activity with the time of the old.
    activity: AtomicU32,
    inside: AtomicBool,
    /// A record of a session has begun that is not whole.
    inside_record: AtomicBool,
    /// Records of a session that were read.
    records: AtomicU32,
    /// Bytes read below a session: the low bits.
    wire_bytes: AtomicU32,
    bytes: AtomicU64,
    reads: AtomicU64,
    frames: AtomicU64,
    messages: AtomicU64,
    ended: End,
    drain: AtomicBool,
    /// The peer had ended its stream before the drain began: all that will ever come is in the
    /// kernel.
    is_complete: AtomicBool,
    peer_gone: AtomicBool,
    /// The read delay of coalescing in microseconds; 0 to read at once.
    read_delay_us: AtomicU32,
}

const _: () = assert!(size_of::<Published>() == 64);

thread_local! {
    /// The connection whose handler runs on this thread, and which the writer of another connection
    /// asks whether it was ended. [`ServedHere`] drops it: for a destructor of the thread's own,
    /// each thread would have to allocate.
    static SERVED_HERE: RefCell<Option<ManuallyDrop<Arc<ConnectionState>>>> =
        const { RefCell::new(None) };
}

/// While this exists, its thread serves a connection. Dropped when the handler has returned, before
/// the socket is to be closed.
#[must_use = "dropped, it ends what it stands for"]
pub(crate) struct ServedHere;

impl Drop for ServedHere {
    fn drop(&mut self) {
        let served = SERVED_HERE.take();
        drop(served.map(ManuallyDrop::into_inner));
    }
}

#[derive(Debug)]
struct Encrypted {
    session: Session,
    /// What the peer's certificate calls it.
    peer_name: Option<Arc<str>>,
}

/// The shared state of one connection. The socket closes when the last reference is dropped: mostly
/// the handler's, which takes the connection out of the table before.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    published: Published,
    pub(crate) id: u64,
    /// Who connected.
    neighbor: Peer,
    /// The client that the neighbor, a balancer, has named.
    client: OnceLock<Peer>,
    /// Raw, of TCP and Unix alike.
    pub(crate) socket: Socket,
    /// What encrypts above the socket, once hands are shaken.
    session: OnceLock<Box<Encrypted>>,
    pub(crate) listener: ListenerName,
    pub(crate) turns: Arc<Turns>,
    thread: OnceLock<Thread>,
    /// [`OPENING`], [`DRAIN_DUE`] and [`DRAINED`]: in one word, so that a drain is either held off
    /// or found.
    opening: AtomicU8,
    pub(crate) leave: Leave,
    /// The handler allows coalescing to delay its reads.
    may_be_delayed: AtomicBool,
    /// The reads at the watchdog's last tick.
    seen_reads: AtomicU64,
    pub(crate) wait: Mutex<WaitState>,
}

impl ConnectionState {
    pub(crate) fn new(id: u64, peer: Peer, socket: Socket, listener: ListenerName) -> Self {
        let published = Published::default();
        published
            .activity
            .store(Activity::Starting as u32, Ordering::Relaxed);
        ConnectionState {
            published,
            id,
            neighbor: peer,
            client: OnceLock::new(),
            socket,
            session: OnceLock::new(),
            listener,
            turns: Arc::default(),
            thread: OnceLock::new(),
            opening: AtomicU8::new(0),
            leave: Leave::default(),
            may_be_delayed: AtomicBool::new(false),
            seen_reads: AtomicU64::new(0),
            wait: Mutex::new(WaitState::None),
        }
    }

    /// Whose bytes they are: the client that a balancer has named, or who connected.
    pub(crate) fn peer(&self) -> Peer {
        self.client.get().copied().unwrap_or(self.neighbor)
    }

    /// The balancer, once it has named its client.
    pub(crate) fn balancer(&self) -> Option<Peer> {
        self.client.get().map(|_| self.neighbor)
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.get().map(|encrypted| &encrypted.session)
    }

    /// What the certificate of the peer calls it.
    pub(crate) fn tls_name(&self) -> Option<&Arc<str>> {
        self.session.get()?.peer_name.as_ref()
    }

    /// The connection in a log line: `connection 17 from 192.0.2.1:4711`, the balancer, and the
    /// listener.
    pub(crate) fn label(&self) -> String {
        let (by, at) = (by(self.balancer()), self.listener.at());
        let name = named(self.tls_name());
        format!("connection {} from {}{name}{by}{at}", self.id, self.peer())
    }

    // ---- for the handler's thread

    /// Something comes before the peer's own bytes, which a drain lets be completed. Must be called
    /// before anybody can drain the connection.
    pub(crate) fn begin_opening(&self) {
        self.opening.store(OPENING, Ordering::Release);
    }

    /// Must be called by the handler's thread, so that [`unpark`](ConnectionState::unpark) can wake
    /// it. Nobody needs to be woken before: every wait checks the flags first. While the guard
    /// exists, the thread knows which connection it [serves](ConnectionState::served_here).
    pub(crate) fn serve_on_current_thread(self: &Arc<Self>) -> ServedHere {
        let _ = self.thread.set(std::thread::current());
        self.enter(Activity::Working);
        SERVED_HERE.set(Some(ManuallyDrop::new(Arc::clone(self))));
        ServedHere
    }

    /// The connection that the calling thread serves, if it is a handler's.
    pub(crate) fn served_here() -> Option<Arc<ConnectionState>> {
        SERVED_HERE.with_borrow(|served| served.as_deref().map(Arc::clone))
    }

    pub(crate) fn enter(&self, activity: Activity) {
        let turns =
            (self.published.activity.load(Ordering::Relaxed) >> ACTIVITY_BITS).wrapping_add(1);
        self.published
            .activity
            .store(turns << ACTIVITY_BITS | activity as u32, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes(&self, n: usize) {
        add(&self.published.bytes, n as u64);
        add(&self.published.reads, 1);
    }

    pub(crate) fn add_messages(&self, n: u64) {
        add(&self.published.messages, n);
    }

    pub(crate) fn frame_progress(&self, finished: u64, inside: bool) {
        if finished > 0 {
            add(&self.published.frames, finished);
        }
        self.published.inside.store(inside, Ordering::Relaxed);
    }

    /// The balancer has named its client.
    pub(crate) fn set_client(&self, client: Peer) {
        let _ = self.client.set(client);
    }

    /// Hands are shaken.
    pub(crate) fn set_session(&self, session: Session, peer_name: Option<String>) {
        let encrypted = Encrypted {
            session,
            peer_name: peer_name.map(Arc::from),
        };
        let _ = self.session.set(Box::new(encrypted));
    }

    /// What was read of the session's records so far, and whether one has begun that is not whole:
    /// that counts as the inside of a frame, unless the handler is inside one of its own.
    pub(crate) fn record_progress(&self, records: u32, inside: bool) {
        self.published.records.store(records, Ordering::Relaxed);
        self.published
            .inside_record
            .store(inside, Ordering::Relaxed);
    }

    /// The peer has sent something of which a session may make nothing yet.
    pub(crate) fn add_wire_bytes(&self, n: usize) {
        let bytes = self.published.wire_bytes.load(Ordering::Relaxed);
        self.published
            .wire_bytes
            .store(bytes.wrapping_add(n as u32), Ordering::Relaxed);
    }

    pub(crate) fn allow_delay(&self) {
        self.may_be_delayed.store(true, Ordering::Relaxed);
    }

    /// The time between the moments at which this connection reads, if its reads are coalesced.
    pub(crate) fn read_delay(&self) -> Option<Duration> {
        let delay_us = self.published.read_delay_us.load(Ordering::Relaxed);
        (delay_us > 0).then(|| Duration::from_micros(u64::from(delay_us)))
    }

    // ---- for all threads

    pub(crate) fn may_be_delayed(&self) -> bool {
        self.may_be_delayed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_read_delay(&self, delay: Option<Duration>) {
        let delay_us = delay.map_or(0, |delay| delay.as_micros() as u32);
        self.published
            .read_delay_us
            .store(delay_us, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            reads: self.published.reads.load(Ordering::Relaxed),
            messages: self.frames(),
            bytes: self.published.bytes.load(Ordering::Relaxed),
        }
    }

    /// Reads that brought something since the last call, for the watchdog alone.
    pub(crate) fn take_new_reads(&self) -> u64 {
        let reads = self.published.reads.load(Ordering::Relaxed);
        reads - self.seen_reads.swap(reads, Ordering::Relaxed)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.published.messages.load(Ordering::Relaxed)
    }

    /// Frames finished so far.
    pub(crate) fn frames(&self) -> u64 {
        self.published.frames.load(Ordering::Relaxed)
    }

    pub(crate) fn sample(&self) -> Sample {
        let word = self.published.activity.load(Ordering::Relaxed);
        let inside = self.published.inside.load(Ordering::Relaxed);
        let inside_record = self.published.inside_record.load(Ordering::Relaxed);
        // Outside a frame of the handler's, each record is one.
        let records = match inside {
            true => 0,
            false => self.published.records.load(Ordering::Relaxed),
        };
        Sample {
            activity: activity_of(word & ((1 << ACTIVITY_BITS) - 1)),
            turns: word >> ACTIVITY_BITS,
            bytes: self.published.bytes.load(Ordering::Relaxed),
            wire_bytes: self.published.wire_bytes.load(Ordering::Relaxed),
            frames: self.frames() + u64::from(records),
            inside: inside || inside_record,
        }
    }

    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.published.ended.get()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.published.drain.load(Ordering::Acquire)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.published.is_complete.load(Ordering::Acquire)
    }

    /// Asks the kernel whether the peer has ended or reset the connection. Never blocks. A close
    /// and a half-close look alike (RDHUP); a reset is ERR and HUP.
    pub(crate) fn poll_peer_gone(&self) -> bool {
        self.poll_peer_gone_within(Duration::ZERO)
    }

    /// As [`poll_peer_gone`](ConnectionState::poll_peer_gone), but waits for the end for at most
    /// this long. A shutdown(2) of our own looks like the peer's end.
    pub(crate) fn poll_peer_gone_within(&self, wait: Duration) -> bool {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        self.poll(PollFlags::RDHUP, wait).intersects(gone)
    }

    /// Blocks until there is something to read, an end of the stream included, or `wait` is over.
    /// Returns whether there is.
    pub(crate) fn poll_readable(&self, wait: Duration) -> bool {
        !self.poll(PollFlags::IN, wait).is_empty()
    }

    /// Blocks until the kernel accepts bytes, the socket is shut down, or `wait` is over.
    /// Returns whether one of the first two is so.
    pub(crate) fn poll_writable(&self, wait: Duration) -> bool {
        !self.poll(PollFlags::OUT, wait).is_empty()
    }

    /// As [`poll_writable`](ConnectionState::poll_writable), but an end of `other` by the server
    /// ends the wait, too: its socket is shut down then.
    pub(crate) fn poll_writable_or_end_of(&self, other: &ConnectionState, wait: Duration) {
        let mut fds = [
            PollFd::new(&self.socket, PollFlags::OUT),
            PollFd::new(&other.socket, PollFlags::empty()),
        ];
        if let Ok(timeout) = Timespec::try_from(wait) {
            let _ = poll(&mut fds, Some(&timeout));
        }
        let is_over = !fds[1].revents().is_empty() && other.ended().is_none();
        if is_over && fds[0].revents().is_empty() {
            // The other peer is gone: its socket is over for good, and wakes poll(2) at once.
            self.poll_writable(wait.min(TICK));
        }
    }

    /// What poll(2) found, if anything. Its errors find nothing: callers look again.
    fn poll(&self, events: PollFlags, wait: Duration) -> PollFlags {
        let mut fds = [PollFd::new(&self.socket, events)];
        let wait = Timespec::try_from(wait);
        match wait.map(|wait| poll(&mut fds, Some(&wait))) {
            Ok(Ok(_)) => fds[0].revents(),
            _ => PollFlags::empty(),
        }
    }

    /// Whether the watchdog has found the peer gone; does not ask the kernel.
    pub(crate) fn peer_gone(&self) -> bool {
        self.published.peer_gone.load(Ordering::Relaxed)
    }

    pub(crate) fn set_peer_gone(&self) {
        self.published.peer_gone.store(true, Ordering::Relaxed);
    }

    /// Sets why the connection ended. The first reason is kept; returns whether this was the first.
    pub(crate) fn end(&self, reason: EndReason) -> bool {
        let first = self.published.ended.set(reason);
        if first {
            self.turns.ended.set(reason);
        }
        first
    }

    /// Shuts the socket down, which ends a blocked read or write, and unparks the handler's thread.
    /// The end reason must have been set before, or a woken read would take the shutdown for the
    /// peer's end.
    pub(crate) fn disconnect(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.unpark();
    }

    /// As [`disconnect`](ConnectionState::disconnect), but the handler can still write a goodbye.
    pub(crate) fn stop_reading(&self) {
        let _ = self.socket.shutdown(Shutdown::Read);
        self.unpark();
    }

    /// Ends the writes of other threads, because the handler has returned. Blocks until no write is
    /// under way: shutdown(2) ends a blocked write. From then on no writer holds this state, nor
    /// its socket.
    pub(crate) fn end_writers(&self) {
        self.turns.close();
        let turn = self.turns.join();
        if !turn.is_up() {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        while !turn.is_up() {
            std::thread::park_timeout(MAX_PARK);
        }
    }

    /// Tells a peer that has a session that nothing follows, as far as the kernel takes that at
    /// once. Where the connection was cut, the kernel takes nothing. Nor does it behind a leave: a
    /// try would only take the error away that says of bytes that were refused.
    pub(crate) fn close_session(&self) {
        match self.session() {
            Some(session) if !self.leave.is_told() => session.close(self),
            _ => {}
        }
    }

    pub(crate) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Bytes that the kernel has received and nobody has read; 0 if the kernel does not tell.
    pub(crate) fn unread_bytes(&self) -> u64 {
        unread_bytes(&self.socket)
    }
}

impl SendNow for ConnectionState {
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match rustix::net::send(&self.socket, bytes, flags) {
                Ok(sent) => return Ok(sent),
                Err(Errno::WOULDBLOCK) => return Ok(0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Bytes in the kernel's receive queue (FIONREAD, tcp(7)); 0 if the kernel does not tell.
pub(crate) fn unread_bytes(socket: &Socket) -> u64 {
    rustix::io::ioctl_fionread(socket).unwrap_or(0)
}

/// Adds to a counter that has only one writer.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

fn activity_of(code: u32) -> Activity {
    const ALL: [Activity; 11] = [
        Activity::Working,
        Activity::Reading,
        Activity::Sending,
        Activity::Pausing,
        Activity::Writing,
        Activity::Ending,
        Activity::Delayed,
        Activity::Asking,
        Activity::WaitingToWrite,
        Activity::Starting,
        Activity::Handshaking,
    ];
    ALL.get(code as usize).copied().unwrap_or_default()
}
