//! The least that a thread per connection costs: each reads as drainline reads (64 KiB, a small
//! stack) and discards what it read, or writes it to a file, or over a connection that all share,
//! as it came. No framing, no channel, no consumer: there messages are torn.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{error, thread};

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use socket2::{Domain, Socket, Type};

const READ_BYTES: usize = 64 << 10;
const STACK_BYTES: usize = 256 << 10;
const BACKLOG: i32 = 4096;

static BYTES: AtomicU64 = AtomicU64::new(0);
static OPEN: AtomicU64 = AtomicU64::new(0);

/// Where bytes go.
#[derive(Clone)]
enum Sink {
    Null,
    File(Arc<File>),
    Stream(Arc<Mutex<TcpStream>>),
}

impl Sink {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Null => Ok(()),
            Sink::File(file) => (&**file).write_all(bytes),
            Sink::Stream(stream) => stream.lock().expect("a writer panicked").write_all(bytes),
        }
    }
}

fn main() -> Result<(), Box<dyn error::Error>> {
    let (address, sink): (SocketAddr, Sink) = match arguments().as_slice() {
        [listen, address] if listen == "--listen" => (address.parse()?, Sink::Null),
        [listen, address, sink, path] if listen == "--listen" && sink == "--sink" => {
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            (address.parse()?, Sink::File(Arc::new(file)))
        }
        [listen, address, forward, to] if listen == "--listen" && forward == "--forward" => {
            let stream = Mutex::new(TcpStream::connect(to)?);
            (address.parse()?, Sink::Stream(Arc::new(stream)))
        }
        _ => {
            let usage = "usage: floor-peer --listen ADDRESS [--sink FILE | --forward ADDRESS]";
            return Err(usage.into());
        }
    };
    let mut signals = Signals::new([SIGTERM])?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    thread::spawn(move || accept(&socket, sink));

    signals.forever().next();
    // Whoever is still being read has its bytes counted when it ends.
    for _ in 0..100 {
        if OPEN.load(Ordering::Acquire) == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    println!("{{\"bytes\":{}}}", BYTES.load(Ordering::Relaxed));
    Ok(())
}

fn arguments() -> Vec<String> {
    std::env::args().skip(1).collect()
}

fn accept(listener: &Socket, sink: Sink) {
    loop {
        let Ok((socket, _)) = listener.accept() else {
            continue;
        };
        let stream = TcpStream::from(socket);
        let sink = sink.clone();
        OPEN.fetch_add(1, Ordering::Relaxed);
        let spawned = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                BYTES.fetch_add(take(stream, &sink), Ordering::Relaxed);
                OPEN.fetch_sub(1, Ordering::Release);
            });
        spawned.expect("no thread");
    }
}

fn take(mut stream: TcpStream, sink: &Sink) -> u64 {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        sink.write(&buffer[..read]).expect("the sink failed");
        bytes += read as u64;
    }
    bytes
}
