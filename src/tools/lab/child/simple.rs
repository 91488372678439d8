//! Servers as they are written first: a thread for each connection, a channel, and nothing else.
//! They are here to fail; nobody should run one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

use super::super::outcome::Point;
use super::super::strategy::Strategy;
use super::tell;

const CAPACITY: usize = 1000;
const SMALL_CAPACITY: usize = 10;
const BACKLOG: i32 = 4096;
const NO_ROOM: Duration = Duration::from_millis(10);

type Message = Vec<u8>;

/// Accepts until the process is ended.
pub(super) fn serve(strategy: &Strategy) -> io::Result<()> {
    let listener = listen()?;
    let capacity = match strategy {
        Strategy::SmallBuffer => SMALL_CAPACITY,
        _ => CAPACITY,
    };
    let books = Arc::new(Books::default());
    let (buffer, received) = sync_channel(capacity);
    let handlers_send_to = match strategy {
        // The receiving end is kept, as in a program whose consumer is stuck elsewhere.
        Strategy::Naive => {
            start("consumer", move || hold(received))?;
            buffer
        }
        Strategy::SingleSender => {
            let (to_sender, from_handlers) = sync_channel(0);
            let books = Arc::clone(&books);
            start("consumer", move || consume(&received, &books))?;
            start("sender", move || pass_on(&from_handlers, &buffer))?;
            to_sender
        }
        _ => {
            let books = Arc::clone(&books);
            start("consumer", move || consume(&received, &books))?;
            buffer
        }
    };
    let told = Arc::clone(&books);
    tell(listener.local_addr()?.port(), move || {
        Some(sample(&told.lock()))
    })?;
    for (stream, number) in listener.incoming().zip(0..) {
        let (to, books) = (handlers_send_to.clone(), Arc::clone(&books));
        let started =
            stream.and_then(|stream| start("handler", move || handle(stream, number, &to, &books)));
        if started.is_err() {
            // Out of descriptors or threads, and none the wiser.
            thread::sleep(NO_ROOM);
        }
    }
    Ok(())
}

/// With a queue that is long enough: behind std's 128 the clients of a load wait for a second for
/// their SYN to be tried again, and every timeline would begin later than it says.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The handler of every tutorial.
fn handle(stream: TcpStream, number: u64, to: &SyncSender<Message>, books: &Books) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut message = Vec::new();
        // Half a message at the end of a stream is none.
        match stream.read_until(b'\n', &mut message) {
            Ok(1..) if message.ends_with(b"\n") => {}
            _ => return,
        }
        books.lock().inside += 1;
        // A try first, so that only those who wait are seen waiting.
        let outcome = match to.try_send(message) {
            Err(TrySendError::Full(message)) => {
                books.lock().waiting.insert(number, Instant::now());
                to.send(message)
            }
            _ => Ok(()),
        };
        books.lock().waiting.remove(&number);
        if outcome.is_err() {
            return;
        }
    }
}

fn consume(received: &Receiver<Message>, books: &Books) {
    let mut stdout = io::stdout().lock();
    for message in received {
        // The one slow write.
        if stdout
            .write_all(&message)
            .and_then(|()| stdout.flush())
            .is_err()
        {
            return;
        }
        books.lock().inside -= 1;
    }
}

/// What every message of every connection goes through.
fn pass_on(from: &Receiver<Message>, to: &SyncSender<Message>) {
    for message in from {
        if to.send(message).is_err() {
            return;
        }
    }
}

fn hold(received: Receiver<Message>) {
    loop {
        thread::park();
        // Never reached for long: parks may end for no reason.
        let _ = &received;
    }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
}

/// For the lab's eyes; a server of this kind knows nothing of itself.
type Books = Mutex<Counts>;

#[derive(Debug, Default)]
struct Counts {
    inside: u64,
    /// Handlers that wait, by number, which is the order in which they came.
    waiting: BTreeMap<u64, Instant>,
}

fn sample(counts: &Counts) -> Point {
    let since = counts.waiting.values().min();
    Point {
        buffered: counts.inside,
        longest_wait: since.map_or(Duration::ZERO, Instant::elapsed),
        ..Point::default()
    }
}
