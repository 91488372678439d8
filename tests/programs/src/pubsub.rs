//! Publish and subscribe by lines: `sub TOPIC`, and `pub TOPIC TEXT`, which every subscriber of it
//! is sent.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use drainline::ingest::{Framing, ReadMessages};
use drainline::{BoxError, Config, Connection, Sender, Server, Weigh, Writer, heap_bytes};

pub enum Request {
    Subscribe(String, Writer),
    Publish(String, String),
}

impl Weigh for Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Subscribe(topic, _) => heap_bytes(topic.capacity()),
            Request::Publish(topic, text) => {
                heap_bytes(topic.capacity()) + heap_bytes(text.capacity())
            }
        }
    }
}

fn handle(conn: &mut Connection, out: &Sender<Request>) -> Result<(), BoxError> {
    let writer = conn.writer();
    for line in conn.messages(Framing::Lines, 4096) {
        let line = String::from_utf8(line?)?;
        out.send(match line.split(' ').collect::<Vec<_>>()[..] {
            ["sub", topic] => Request::Subscribe(topic.to_owned(), writer.clone()),
            ["pub", topic, ..] => {
                Request::Publish(topic.to_owned(), line["pub ".len()..].to_owned() + "\n")
            }
            _ => return Err("sub TOPIC, or pub TOPIC TEXT".into()),
        })?;
    }
    Ok(())
}

pub fn start(address: SocketAddr) -> Result<Server, BoxError> {
    let mut topics: HashMap<String, Vec<Writer>> = HashMap::new();
    let mut config = Config::default();
    // So long one subscriber that takes nothing holds up all others, once.
    config.write_timeout = Some(Duration::from_secs(1));
    let builder = Server::builder::<Request>().config(config).listen(address);
    Ok(builder.start_each(handle, move |request| {
        match request {
            Request::Subscribe(topic, writer) => topics.entry(topic).or_default().push(writer),
            Request::Publish(topic, text) => {
                if let Some(writers) = topics.get_mut(&topic) {
                    writers.retain_mut(|writer| writer.write_all(text.as_bytes()).is_ok());
                }
            }
        }
        Ok(())
    })?)
}

pub fn main() -> Result<(), BoxError> {
    start("127.0.0.1:5144".parse()?)?.wait();
    Ok(())
}
