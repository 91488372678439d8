//! A server in this process whose handlers and whose consumer do what the test tells them, one
//! thing at a time.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use drainline::{Config, Connection, Delivery, Received, Receiver, Report, Sender, Server};
use drainline::{SendError, Weigh};

use super::client;
use super::small;
use super::wait::DEADLINE;

/// How often a puppet without a task looks whether the play is over.
const LOOK: Duration = Duration::from_millis(10);

/// An item of a known weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub name: u64,
    pub messages: u64,
    pub bytes: usize,
}

impl Item {
    /// One message, without a byte of heap.
    pub fn light(name: u64) -> Item {
        Item {
            name,
            messages: 1,
            bytes: 0,
        }
    }
}

impl Weigh for Item {
    fn messages(&self) -> u64 {
        self.messages
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

type Held = Vec<Delivery<Item>>;
type ConsumerTask = Box<dyn FnOnce(&mut Receiver<Item>, &mut Held) + Send>;
type HandlerTask = Box<dyn FnOnce(&mut Connection, &Sender<Item>) + Send>;

/// What a puppet will answer.
#[derive(Debug)]
#[must_use]
pub struct Answer<R>(mpsc::Receiver<R>);

impl<R> Answer<R> {
    /// Blocks until it is there, for at most [`DEADLINE`].
    ///
    /// # Panics
    /// When it is not there by then, or the puppet ended without one.
    #[track_caller]
    pub fn wait(self) -> R {
        match self.0.recv_timeout(DEADLINE) {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Whether the answer is still to come. An answer that is there is lost.
    pub fn is_pending(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Empty))
    }

    /// # Panics
    /// When the answer is there already.
    #[track_caller]
    pub fn assert_pending(&self) {
        assert!(self.is_pending(), "it should still wait");
    }
}

/// A running server. Drop cuts it.
#[derive(Debug)]
pub struct Stage {
    // Before the server, so that its puppet knows that the play is over.
    consumer: mpsc::Sender<ConsumerTask>,
    arrivals: mpsc::Receiver<mpsc::Sender<HandlerTask>>,
    pub server: Server,
}

/// One connection: the client's end, and the handler's strings.
#[derive(Debug)]
pub struct Actor {
    pub client: TcpStream,
    tasks: mpsc::Sender<HandlerTask>,
}

impl Stage {
    #[track_caller]
    pub fn start(config: Config) -> Stage {
        let (consumer, consumer_tasks) = mpsc::channel::<ConsumerTask>();
        let (arrived, arrivals) = mpsc::channel();
        let arrived = Mutex::new(arrived);
        let server = small::server::<Item>()
            .config(config)
            .listen("127.0.0.1:0".parse().unwrap())
            .start(
                move |conn, out| {
                    let (sender, tasks) = mpsc::channel::<HandlerTask>();
                    // Nobody waits for an arrival once the play is over.
                    let _ = arrived.lock().unwrap().send(sender);
                    loop {
                        match tasks.recv_timeout(LOOK) {
                            Ok(task) => task(conn, out),
                            Err(RecvTimeoutError::Timeout) if !conn.is_draining() => {}
                            Err(_) => return Ok(()),
                        }
                    }
                },
                move |receiver| {
                    let mut held = Held::new();
                    while let Ok(task) = consumer_tasks.recv() {
                        task(receiver, &mut held);
                    }
                    // The rest is delivered.
                    loop {
                        held.drain(..).for_each(|delivery| _ = delivery.ack());
                        match receiver.recv(LOOK) {
                            Received::Message(delivery) => held.push(delivery),
                            Received::Timeout | Received::RoomWanted => {}
                            Received::Closed => return Ok(()),
                        }
                    }
                },
            )
            .unwrap();
        Stage {
            consumer,
            arrivals,
            server,
        }
    }

    #[track_caller]
    pub fn connect(&self) -> Actor {
        let client = client::connect(self.server.local_addrs()[0]);
        let tasks = self.arrivals.recv_timeout(DEADLINE).unwrap();
        Actor { client, tasks }
    }

    /// Has the consumer do something with its receiver and with the deliveries that it holds,
    /// undone, oldest first.
    pub fn consumer<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Receiver<Item>, &mut Held) -> R + Send + 'static,
    ) -> Answer<R> {
        let (sender, answer) = mpsc::channel();
        self.consumer
            .send(Box::new(move |receiver, held| {
                let _ = sender.send(task(receiver, held));
            }))
            .unwrap();
        Answer(answer)
    }

    /// Has the consumer take items that are there, and hold them.
    #[track_caller]
    pub fn take(&self, items: usize) {
        let taken = self.consumer(move |receiver, held| {
            for _ in 0..items {
                match receiver.recv(DEADLINE) {
                    Received::Message(delivery) => held.push(delivery),
                    other => return Err(format!("{other:?} instead of an item")),
                }
            }
            Ok(())
        });
        taken.wait().unwrap();
    }

    /// Has the consumer finish the oldest delivery that it holds.
    #[track_caller]
    pub fn finish_oldest(&self) -> Item {
        self.consumer(|_, held| held.remove(0).ack()).wait()
    }

    /// Lets the consumer deliver the rest, and ends the server in good order; a handler's task must
    /// be able to end.
    #[track_caller]
    pub fn end(self) -> Report {
        drop(self.consumer);
        let report = self.server.shutdown(DEADLINE);
        assert!(report.stats.is_balanced(), "{report:?}");
        assert!(!report.timed_out && report.error.is_none(), "{report:?}");
        assert_eq!(report.stats.in_flight, 0, "{report:?}");
        report
    }
}

impl Actor {
    /// Has the handler do something.
    pub fn run<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Connection, &Sender<Item>) -> R + Send + 'static,
    ) -> Answer<R> {
        let (sender, answer) = mpsc::channel();
        self.tasks
            .send(Box::new(move |conn, out| {
                let _ = sender.send(task(conn, out));
            }))
            .unwrap();
        Answer(answer)
    }

    /// Has the handler send an item.
    pub fn send(&self, item: Item) -> Answer<Result<(), SendError<Item>>> {
        self.run(move |_, out| out.send(item))
    }

    pub fn id(&self) -> u64 {
        self.run(|conn, _| conn.id()).wait()
    }
}
