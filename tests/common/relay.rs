//! A stand-in between a client and a server that keeps what the client sent, connection by
//! connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// It passes one connection on at a time, to its end; the next waits in the backlog. So the server
/// has all of one before it sees the next.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Relay {
    pub fn to(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let pass_on = move || {
            let mut connections = Vec::new();
            loop {
                let (client, _) = listener.accept().unwrap();
                if stop.load(Ordering::Relaxed) {
                    return connections;
                }
                connections.push(pass(client, TcpStream::connect(server).unwrap()));
            }
        };
        Relay {
            address,
            is_over,
            thread: thread::spawn(pass_on),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What each client sent, in the order in which they came. All of them have ended, or it blocks
    /// until they have.
    pub fn finish(self) -> Vec<Vec<u8>> {
        self.is_over.store(true, Ordering::Relaxed);
        // It may be in accept.
        drop(TcpStream::connect(self.address));
        self.thread.join().unwrap()
    }
}

/// What the client sent until its end. Returns when the server has ended as well.
fn pass(mut client: TcpStream, mut server: TcpStream) -> Vec<u8> {
    let (mut sent, mut part) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let length = client.read(&mut part).unwrap();
        if length == 0 {
            break;
        }
        sent.extend_from_slice(&part[..length]);
        server.write_all(&part[..length]).unwrap();
    }
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut part).unwrap(), 0, "a reply");
    sent
}
