//! Three small servers as they are written with std alone, and what they become here. The std ones
//! have no limit on threads, memory or time; what replaces them has all three, and is as long.

/// Sends back what it is sent.
pub mod echo {
    pub mod before {
        use std::io;
        use std::net::{TcpListener, TcpStream};
        use std::thread;

        fn handle(stream: TcpStream) -> io::Result<()> {
            io::copy(&mut &stream, &mut &stream)?;
            Ok(())
        }

        pub fn serve(listener: TcpListener) -> io::Result<()> {
            for stream in listener.incoming() {
                let stream = stream?;
                thread::spawn(move || handle(stream));
            }
            Ok(())
        }
    }

    pub mod after {
        use std::io;
        use std::net::TcpListener;

        use drainline::{BoxError, Connection, Server};

        fn handle(stream: &mut Connection) -> Result<(), BoxError> {
            io::copy(&mut &*stream, &mut &*stream)?;
            Ok(())
        }

        pub fn serve(listener: TcpListener) -> Result<Server, BoxError> {
            Ok(Server::builder().listener(listener).serve(handle)?)
        }
    }
}

/// Answers a request for a page, in the manner of HTTP/1.0.
pub mod http {
    pub mod before {
        use std::io::{self, BufRead, BufReader, Write};
        use std::net::{TcpListener, TcpStream};
        use std::thread;

        fn handle(mut stream: TcpStream) -> io::Result<()> {
            let mut lines = BufReader::new(&stream).lines();
            let request = lines.next().transpose()?.unwrap_or_default();
            while lines
                .next()
                .transpose()?
                .is_some_and(|line| !line.is_empty())
            {}
            let (status, page) = match request.as_str() {
                "GET / HTTP/1.0" | "GET / HTTP/1.1" => ("200 OK", "<h1>Hello</h1>"),
                _ => ("404 Not Found", "<h1>Nothing here</h1>"),
            };
            let length = page.len();
            write!(
                stream,
                "HTTP/1.0 {status}\r\nContent-Length: {length}\r\n\r\n{page}"
            )
        }

        pub fn serve(listener: TcpListener) -> io::Result<()> {
            for stream in listener.incoming() {
                let stream = stream?;
                thread::spawn(move || handle(stream));
            }
            Ok(())
        }
    }

    pub mod after {
        use std::io::Write;
        use std::net::TcpListener;

        use drainline::ingest::{Framing, ReadMessages};
        use drainline::{BoxError, Connection, Server};

        fn handle(stream: &mut Connection) -> Result<(), BoxError> {
            let mut lines = stream.messages(Framing::Lines, 8 << 10);
            let request = lines.next_message()?.unwrap_or_default();
            while lines.next_message()?.is_some_and(|line| !line.is_empty()) {}
            let (status, page) = match &request[..] {
                b"GET / HTTP/1.0" | b"GET / HTTP/1.1" => ("200 OK", "<h1>Hello</h1>"),
                _ => ("404 Not Found", "<h1>Nothing here</h1>"),
            };
            let length = page.len();
            write!(
                lines,
                "HTTP/1.0 {status}\r\nContent-Length: {length}\r\n\r\n{page}"
            )?;
            Ok(())
        }

        pub fn serve(listener: TcpListener) -> Result<Server, BoxError> {
            Ok(Server::builder().listener(listener).serve(handle)?)
        }
    }
}

/// A chat: what one says, all others are sent.
pub mod chat {
    pub mod before {
        use std::io::{self, BufRead, BufReader, Write};
        use std::net::{TcpListener, TcpStream};
        use std::sync::{Arc, Mutex};
        use std::thread;

        type Room = Mutex<Vec<TcpStream>>;

        fn handle(stream: TcpStream, room: &Room) -> io::Result<()> {
            let own = stream.peer_addr()?;
            room.lock().unwrap().push(stream.try_clone()?);
            for line in BufReader::new(stream).lines() {
                let line = line?;
                let mut room = room.lock().unwrap();
                room.retain_mut(|other| match other.peer_addr() {
                    Ok(peer) if peer == own => true,
                    Ok(_) => writeln!(other, "{line}").is_ok(),
                    Err(_) => false,
                });
            }
            let is_other = |other: &TcpStream| other.peer_addr().is_ok_and(|peer| peer != own);
            room.lock().unwrap().retain(is_other);
            Ok(())
        }

        pub fn serve(listener: TcpListener) -> io::Result<()> {
            let room = Arc::new(Room::default());
            for stream in listener.incoming() {
                let (stream, room) = (stream?, Arc::clone(&room));
                thread::spawn(move || handle(stream, &room));
            }
            Ok(())
        }
    }

    pub mod after {
        use std::io::Write;
        use std::net::TcpListener;
        use std::sync::Mutex;

        use drainline::ingest::{Framing, ReadMessages};
        use drainline::{BoxError, Connection, Server, Writer};

        pub type Room = Mutex<Vec<Writer>>;

        pub fn handle(stream: &mut Connection, room: &Room) -> Result<(), BoxError> {
            let own = stream.id();
            let mut others = room.lock().unwrap();
            // Those who have left, though nobody has spoken since.
            others.retain(|other| !other.is_closed());
            others.push(stream.writer());
            drop(others);
            for line in stream.messages(Framing::Lines, 4096) {
                let line = [line?, b"\n".to_vec()].concat();
                let mut room = room.lock().unwrap();
                room.retain_mut(|other| other.id() == own || other.write_all(&line).is_ok());
            }
            Ok(())
        }

        pub fn serve(listener: TcpListener) -> Result<Server, BoxError> {
            let room = Room::default();
            let handle = move |stream: &mut Connection| handle(stream, &room);
            Ok(Server::builder().listener(listener).serve(handle)?)
        }
    }
}
