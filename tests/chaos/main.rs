//! Everything at once, from a seed: clients of every framing come by TCP, TLS and Unix sockets,
//! trickle, stall, reset, break off handshakes and send garbage, sinks stall, fill and recover,
//! files are rotated. The receiver of a second output leaves, dies and comes back, or answers in
//! each wrong way that HTTP and Redis have, or is a command that is stopped and killed; a third
//! output is beside it. Signals arrive, descriptors run out, each server is drained in the middle
//! and started again. In the end the ledgers close, each listener's and each output's by itself,
//! what was delivered is what was sent, in order and once, or at least once where it is answered,
//! and nothing has leaked.
//!
//! `DRAINLINE_SEED` chooses the seed, `DRAINLINE_LONG` makes it a minute. The seed fixes what each
//! client and each fault does; when they come to do it is the machine's.
#![cfg(all(
    feature = "cli",
    feature = "tls",
    feature = "http",
    feature = "redis",
    feature = "gzip"
))]
#![allow(clippy::unwrap_used, clippy::print_stderr)]
// `pub` in a module here means: for the other modules.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../heads/mod.rs"]
mod heads;

mod answering;
mod beside;
mod beyond;
mod carrier;
mod client;
mod envelope;
mod outlet;
mod receiver;
mod script;
mod stage;
mod verdict;
mod wire;

use std::env;
use std::fmt::Arguments;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// What happened so far; said when the test fails.
struct Logger {
    seed: u64,
    begun: Instant,
    lines: Mutex<Vec<String>>,
}

impl Logger {
    fn new(seed: u64) -> Logger {
        Logger {
            seed,
            begun: Instant::now(),
            lines: Mutex::default(),
        }
    }

    fn note(&self, what: Arguments<'_>) {
        let line = format!("{:7.3} {what}", self.begun.elapsed().as_secs_f64());
        // A stage that failed must not take the others' words away.
        let mut lines = self
            .lines
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        lines.push(line);
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        if thread::panicking() {
            let lines = self
                .lines
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            eprintln!("DRAINLINE_SEED={}\n{}", self.seed, lines.join("\n"));
        }
    }
}

#[test]
fn whatever_comes_the_ledger_closes_every_message_is_whole_and_nothing_leaks() {
    let seed = match env::var("DRAINLINE_SEED") {
        Ok(seed) => seed.parse().expect("DRAINLINE_SEED is a number"),
        Err(_) => 4,
    };
    let is_long = env::var_os("DRAINLINE_LONG").is_some();
    let duration = Duration::from_secs(if is_long { 60 } else { 10 });
    let logger = Logger::new(seed);
    thread::scope(|scope| {
        for nth in 0..drainline::ingest::Framing::ALL.len() {
            let logger = &logger;
            scope.spawn(move || stage::play(logger, seed, nth, duration));
        }
    });
    eprintln!("seed {seed}\n{}", summary(&logger));
}

/// What each of the lives came to.
fn summary(logger: &Logger) -> String {
    let lines = logger.lines.lock().unwrap();
    let lives = lines.iter().filter(|line| line.contains(stage::CAME_TO));
    lives.cloned().collect::<Vec<_>>().join("\n")
}
