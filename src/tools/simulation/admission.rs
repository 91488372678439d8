//! Who is let in: permits, the pause, the accept rate, and the kernel's queue before it.

use std::collections::VecDeque;
use std::time::Duration;

use drainline::policy::TokenBucket;
use drainline::{Config, Counters, OnOverload, RejectReason};

/// The longest queue of an ordinary Linux (net.core.somaxconn in listen(2)).
const SOMAXCONN: usize = 4096;

#[derive(Debug)]
pub(super) struct Admission {
    max_connections: usize,
    backlog: usize,
    pub(super) on_overload: OnOverload,
    pub(super) is_paused: bool,
    /// Connections that have a thread.
    pub(super) open: usize,
    /// The kernel's queue: connected, as far as the clients know.
    pub(super) queue: VecDeque<usize>,
    accepts: Option<TokenBucket>,
    pub(super) rejected: Counters<RejectReason>,
    /// Somebody is letting in: whoever makes room meanwhile need not.
    pub(super) is_admitting: bool,
}

impl Admission {
    pub(super) fn new(config: &Config) -> Self {
        let accepts = config.accept_rate;
        Admission {
            max_connections: config
                .max_connections
                .unwrap_or(Config::DEFAULT_MAX_CONNECTIONS),
            backlog: config.backlog.map_or(SOMAXCONN, |backlog| backlog as usize),
            on_overload: config.on_overload,
            is_paused: false,
            open: 0,
            queue: VecDeque::new(),
            accepts: accepts.map(|rate| TokenBucket::new(rate as f64, Duration::ZERO)),
            rejected: Counters::default(),
            is_admitting: false,
        }
    }

    /// Why new clients are not accepted, if they are not.
    pub(super) fn not_accepting(&self) -> Option<RejectReason> {
        if self.is_paused {
            Some(RejectReason::Paused)
        } else if self.open >= self.max_connections {
            Some(RejectReason::MaxConnections)
        } else {
            None
        }
    }

    /// The kernel takes no more connections on.
    pub(super) fn is_queue_full(&self) -> bool {
        self.queue.len() >= self.backlog
    }

    /// Takes the next one out of the queue, if it may come in; or says how long the accept rate
    /// holds it back.
    pub(super) fn next(&mut self, now: Duration) -> Result<Option<usize>, Duration> {
        if self.queue.is_empty() || self.not_accepting().is_some() {
            return Ok(None);
        }
        if let Some(accepts) = &mut self.accepts {
            let wait = accepts.wait(now);
            if !wait.is_zero() {
                return Err(wait);
            }
            accepts.take(1, now);
        }
        self.open += 1;
        Ok(self.queue.pop_front())
    }
}
