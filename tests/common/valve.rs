//! A sink that the test opens and shuts, and that keeps what it accepted.

use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use drainline::ingest::{Batches, Sink, SinkError};
use drainline::{Config, Server, Weigh};

use super::checker::Checker;
use super::client;
use super::echo::ANY;
use super::small;

/// How often a shut valve looks whether the server's last deadline has passed.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    messages: u64,
    bytes: Vec<u8>,
    /// Each batch's messages, if somebody wants to know.
    batches: Option<Vec<Vec<Vec<u8>>>>,
}

/// The test's end of it; the server's is [`sink`](Valve::sink).
#[derive(Debug, Clone, Default)]
pub struct Valve(Arc<(Mutex<State>, Condvar)>);

impl Valve {
    /// A sink that accepts nothing: it blocks in its own code, as a write to a pipe that nobody
    /// reads does.
    pub fn shut() -> Valve {
        Valve::default()
    }

    pub fn open() -> Valve {
        let valve = Valve::shut();
        valve.heal();
        valve
    }

    /// An open one that also keeps each message for [`messages`](Valve::messages).
    pub fn keeping_messages() -> Valve {
        let valve = Valve::open();
        valve.0.0.lock().unwrap().batches = Some(Vec::new());
        valve
    }

    /// From the next batch on nothing passes.
    pub fn stall(&self) {
        self.set_open(false);
    }

    /// Everything passes; a batch that waits goes through at once.
    pub fn heal(&self) {
        self.set_open(true);
    }

    fn set_open(&self, is_open: bool) {
        let (state, changed) = &*self.0;
        state.lock().unwrap().is_open = is_open;
        changed.notify_all();
    }

    pub fn sink(&self) -> impl Sink + use<> {
        ValveSink(self.clone())
    }

    /// The messages that it accepted, by the batch that they came in.
    ///
    /// # Panics
    /// When it was not made by [`keeping_messages`](Valve::keeping_messages).
    pub fn batches(&self) -> Vec<Vec<Vec<u8>>> {
        self.0.0.lock().unwrap().batches.clone().unwrap()
    }

    /// The messages that it accepted.
    ///
    /// # Panics
    /// As [`batches`](Valve::batches).
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.batches().concat()
    }

    /// All that it accepted, as it would be written out.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().bytes.clone()
    }

    /// How many messages it accepted.
    pub fn passed(&self) -> u64 {
        self.0.0.lock().unwrap().messages
    }

    /// How many bytes it accepted.
    pub fn len(&self) -> usize {
        self.0.0.lock().unwrap().bytes.len()
    }

    /// A checker that has read [`bytes`](Valve::bytes).
    pub fn checker(&self) -> Checker {
        Checker::read(&self.bytes())
    }
}

struct ValveSink(Valve);

impl Sink for ValveSink {
    fn name(&self) -> String {
        "valve".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let (state, changed) = &*self.0.0;
        while let Some(batch) = batches.first() {
            let mut state = state.lock().unwrap();
            while !state.is_open && !batches.is_timed_out() {
                state = changed.wait_timeout(state, LOOK).unwrap().0;
            }
            if batches.is_timed_out() {
                break;
            }
            state.bytes.extend_from_slice(batch.as_bytes());
            state.messages += batch.messages();
            if let Some(batches) = &mut state.batches {
                batches.push(batch.iter().map(<[u8]>::to_vec).collect());
            }
            drop(state);
            batches.ack();
        }
        Ok(())
    }
}

/// An embedded server that writes to it, and a client of that.
#[track_caller]
pub fn start(config: Config, valve: &Valve) -> (Server, TcpStream) {
    let server = small::ingest()
        .config(config)
        .listen(ANY.parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let client = client::connect(server.local_addrs()[0]);
    (server, client)
}
