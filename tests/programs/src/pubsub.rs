//! Publish and subscribe by lines: `sub TOPIC`, and `pub TOPIC TEXT`, which every subscriber of it
//! is sent.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use drainline::ingest::{Framing, ReadMessages};
use drainline::{BoxError, Config, Connection, Sender, Server, Weigh, Writer};

/// Writers to those who subscribed, with their topics, by the number of their connection.
pub type Subscribers = HashMap<u64, (Writer, Vec<String>)>;

/// What one connection may subscribe to.
pub const MAX_TOPICS: usize = 16;
const MAX_LINE: usize = 4096;

pub enum Request {
    Subscribe(String, Writer),
    Publish(String, String),
}

impl Weigh for Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Subscribe(topic, writer) => topic.bytes() + writer.bytes(),
            Request::Publish(topic, text) => topic.bytes() + text.bytes(),
        }
    }
}

pub fn handle(conn: &mut Connection, out: &Sender<Request>) -> Result<(), BoxError> {
    let writer = conn.writer();
    for line in conn.messages(Framing::Lines, MAX_LINE) {
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

pub fn consume(subscribers: &mut Subscribers, request: Request) {
    match request {
        Request::Subscribe(topic, writer) => {
            // Those who have left, though nobody has published since.
            subscribers.retain(|_, (writer, _)| !writer.is_closed());
            let subscriber = subscribers.entry(writer.id());
            let (writer, topics) = subscriber.or_insert((writer, Vec::new()));
            match topics.contains(&topic) {
                true => {}
                false if topics.len() < MAX_TOPICS => topics.push(topic),
                false => drop(writer.write_all(b"too many topics\n")),
            }
        }
        Request::Publish(topic, text) => subscribers.retain(|_, (writer, topics)| {
            !topics.contains(&topic) || writer.write_all(text.as_bytes()).is_ok()
        }),
    }
}

pub fn start(address: SocketAddr) -> Result<Server, BoxError> {
    let mut subscribers = Subscribers::new();
    let mut config = Config::default();
    // So long one subscriber that takes nothing holds up all others, once.
    config.write_timeout = Some(Duration::from_secs(1));
    // The consumer keeps the topics; so counted, the printed limits include them.
    config.handler_bytes += MAX_TOPICS * MAX_LINE;
    let builder = Server::builder::<Request>().config(config).listen(address);
    Ok(builder.start_each(handle, move |request| {
        consume(&mut subscribers, request);
        Ok(())
    })?)
}

pub fn main() -> Result<(), BoxError> {
    start("127.0.0.1:5144".parse()?)?.wait();
    Ok(())
}
