//! The server of drainline's shape as one would write it with tokio: a task for each connection,
//! lines by `LinesCodec`, a bounded mpsc channel with `send_timeout`, one consumer.
//!
//! The consumer takes all there is at a time and writes it at once.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_util::codec::{FramedRead, LinesCodec};

const MAX_MESSAGE: usize = 64 << 10;
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const BACKLOG: u32 = 4096;
const MAX_PER_WRITE: usize = 1024;

struct Args {
    listen: SocketAddr,
    /// `null`, or the path of a file or FIFO that is appended to.
    sink: String,
    workers: usize,
    is_current_thread: bool,
    is_echo: bool,
    buffer_messages: usize,
    read_buffer: usize,
}

impl Args {
    fn read() -> Result<Args, String> {
        let mut args = Args {
            listen: ([127, 0, 0, 1], 5140).into(),
            sink: "null".to_owned(),
            workers: 2,
            is_current_thread: false,
            is_echo: false,
            buffer_messages: 1024,
            read_buffer: 8 << 10,
        };
        let mut typed = std::env::args().skip(1);
        while let Some(flag) = typed.next() {
            let mut value = || typed.next().ok_or(format!("{flag} needs a value"));
            let unreadable = |error| format!("{flag}: {error}");
            match flag.as_str() {
                "--listen" => args.listen = value()?.parse().map_err(|error| format!("{error}"))?,
                "--sink" => args.sink = value()?,
                "--workers" => args.workers = value()?.parse().map_err(unreadable)?,
                "--buffer-messages" => {
                    args.buffer_messages = value()?.parse().map_err(unreadable)?
                }
                "--read-buffer" => args.read_buffer = value()?.parse().map_err(unreadable)?,
                "--current-thread" => args.is_current_thread = true,
                "--echo" => args.is_echo = true,
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        Ok(args)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::read()?;
    let runtime = if args.is_current_thread {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(args.workers)
            .enable_all()
            .build()?
    };
    // On a task: the thread that blocks on the runtime is none of its workers.
    runtime.block_on(async { tokio::spawn(serve(args)).await? })?;
    Ok(())
}

async fn serve(args: Args) -> io::Result<()> {
    let out: Box<dyn Write + Send> = if args.sink == "null" {
        Box::new(io::sink())
    } else {
        Box::new(
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(&args.sink)?,
        )
    };
    let (sender, receiver) = mpsc::channel(args.buffer_messages);
    let consumer = tokio::spawn(consume(receiver, out));

    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(args.listen)?;
    let listener = socket.listen(BACKLOG)?;
    let acceptor = tokio::spawn(accept(listener, sender, args.read_buffer, args.is_echo));

    signal(SignalKind::terminate())?.recv().await;
    acceptor.abort();
    report(consumer).await;
    Ok(())
}

/// The consumer ends with the last connection. While some are still open, what was consumed is not
/// known.
async fn report(consumer: JoinHandle<u64>) {
    if let Ok(Ok(messages)) = tokio::time::timeout(Duration::from_secs(1), consumer).await {
        println!("{{\"messages\":{messages}}}");
    }
}

async fn accept(listener: TcpListener, sender: Sender<String>, read_buffer: usize, is_echo: bool) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            if is_echo {
                echo(stream, sender, read_buffer).await;
            } else {
                read(stream, sender, read_buffer).await;
            }
        });
    }
}

async fn read(stream: TcpStream, sender: Sender<String>, read_buffer: usize) {
    let codec = LinesCodec::new_with_max_length(MAX_MESSAGE);
    let mut lines = FramedRead::with_capacity(stream, codec, read_buffer);
    while let Some(Ok(line)) = lines.next().await {
        if !send(&sender, line).await {
            return;
        }
    }
}

/// The timer is made only where the channel is full.
async fn send(sender: &Sender<String>, line: String) -> bool {
    match sender.try_send(line) {
        Ok(()) => true,
        Err(TrySendError::Full(line)) => sender.send_timeout(line, SEND_TIMEOUT).await.is_ok(),
        Err(TrySendError::Closed(_)) => false,
    }
}

async fn echo(stream: TcpStream, sender: Sender<String>, read_buffer: usize) {
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let codec = LinesCodec::new_with_max_length(MAX_MESSAGE);
    let mut lines = FramedRead::with_capacity(reader, codec, read_buffer);
    let mut reply = Vec::new();
    while let Some(Ok(line)) = lines.next().await {
        reply.clear();
        reply.extend_from_slice(line.as_bytes());
        reply.push(b'\n');
        if writer.write_all(&reply).await.is_err() {
            return;
        }
        if !send(&sender, line).await {
            return;
        }
    }
}

async fn consume(mut receiver: Receiver<String>, mut out: Box<dyn Write + Send>) -> u64 {
    let mut messages = 0;
    let mut taken = Vec::with_capacity(MAX_PER_WRITE);
    let mut block = Vec::with_capacity(MAX_MESSAGE);
    while receiver.recv_many(&mut taken, MAX_PER_WRITE).await > 0 {
        messages += taken.len() as u64;
        for line in taken.drain(..) {
            block.extend_from_slice(line.as_bytes());
            block.push(b'\n');
        }
        out.write_all(&block).expect("the sink failed");
        block.clear();
    }
    messages
}
