//! A peer that is far away: a proxy that passes bytes on after a while, as many as come.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Its threads end with its connections, or with this process.
#[derive(Debug)]
pub(crate) struct Delay {
    address: SocketAddr,
}

impl Delay {
    /// Passes on what comes to [`address`](Delay::address), `one_way` later, and what comes back as
    /// well.
    pub(crate) fn start(to: SocketAddr, one_way: Duration) -> Outcome<Delay> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else {
                    return;
                };
                for stream in [&client, &server] {
                    let _ = stream.set_nodelay(true);
                }
                if let (Ok(client), Ok(server)) = (client.try_clone(), server.try_clone()) {
                    pass(client, server, one_way);
                }
                pass(server, client, one_way);
            }
        });
        Ok(Delay { address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One direction, by two threads: to wait for one part does not delay the next.
fn pass(mut from: TcpStream, mut to: TcpStream, one_way: Duration) {
    let (sender, parts) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + one_way;
            if sender.send((due, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, part) in parts {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&part).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
