//! A sink that stalls and heals when it is told to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drainline::ingest::{Sink, SinkError, Work};

/// How soon an opened valve is seen.
const POLL: Duration = Duration::from_millis(5);

/// The test's hand on a [`Valve::sink`].
#[derive(Debug, Clone, Default)]
pub struct Valve(Arc<State>);

#[derive(Debug, Default)]
struct State {
    shut: AtomicBool,
    messages: AtomicU64,
    bytes: Mutex<Vec<u8>>,
}

impl Valve {
    /// A valve that lets everything pass.
    pub fn open() -> Valve {
        Valve::default()
    }

    /// A valve that lets nothing pass.
    pub fn shut() -> Valve {
        let valve = Valve::default();
        valve.stall();
        valve
    }

    /// From the next batch on, nothing passes.
    pub fn stall(&self) {
        self.0.shut.store(true, Ordering::Relaxed);
    }

    /// Everything passes.
    pub fn heal(&self) {
        self.0.shut.store(false, Ordering::Relaxed);
    }

    /// The messages that have passed.
    pub fn passed(&self) -> u64 {
        self.0.messages.load(Ordering::Relaxed)
    }

    /// All that has passed: lines.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.bytes.lock().unwrap().clone()
    }

    /// The sink behind it. It keeps what passes.
    pub fn sink(&self) -> impl Sink + use<> {
        Behind(Arc::clone(&self.0))
    }
}

struct Behind(Arc<State>);

impl Sink for Behind {
    fn name(&self) -> String {
        "valve".to_owned()
    }

    fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
        loop {
            // As a sink that blocks in its own write(2), but that ends with the server.
            while self.0.shut.load(Ordering::Relaxed) && !work.is_cut() {
                std::thread::sleep(POLL);
            }
            let Some(batch) = work.first() else {
                return Ok(());
            };
            if work.is_cut() {
                return Ok(());
            }
            let messages = batch.iter().count() as u64;
            self.0
                .bytes
                .lock()
                .unwrap()
                .extend_from_slice(batch.as_bytes());
            work.done();
            self.0.messages.fetch_add(messages, Ordering::Relaxed);
        }
    }
}
