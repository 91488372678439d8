//! The parts that a server is put together from, and the start of its threads.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use parking_lot::Mutex;

use super::config::Config;
use super::ends::receiver::Receiver;
use super::ends::sender::Envelope;
use super::error::StartError;
use super::limits::{self, ResourceLimits};
use super::listener::system;
use super::running::Threads;
use super::state::accepting::Accepting;
use super::state::admission::Admission;
use super::state::busy_polling::BusyPolling;
use super::state::consumer_state::ConsumerState;
use super::state::exits::Exits;
use super::state::lifecycle::Lifecycle;
use super::state::listener_state::ListenerState;
use super::state::logger::Logger;
use super::state::promise::Promise;
use super::state::quota::Quota;
use super::state::table::Table;
use super::state::tick_time::TickTime;
use super::state::waker::Waker;
use super::state::{OverloadSnapshot, ReaperEvent, Shared, Spawner, ThreadBody};
use super::threads::acceptor::Acceptor;
use super::threads::reaper;
use super::threads::watchdog::Watchdog;
use crate::policy::Linger;

/// How long the consumer sleeps when it lingers.
const LINGER: Duration = Duration::from_micros(500);

/// What the threads of a new server share, and the parts that only one thread is given.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    wakes: channel::Receiver<()>,
    events: channel::Receiver<ReaperEvent>,
    logger_body: ThreadBody,
}

impl Parts {
    pub(super) fn new(
        listeners: Vec<ListenerState>,
        wakers: Vec<Arc<Waker>>,
        config: Config,
        limits: ResourceLimits,
        promise: Promise,
        spawner: Option<Spawner>,
    ) -> Self {
        let (quota, wakes) = Quota::new(config.buffer_limit(), listeners.len());
        let (reaper, events) = channel::bounded(limits.max_connections + 1);
        let (logger, logger_body) = Logger::new();
        let exits = Arc::new(Exits::new());
        let admission = Admission::new(
            &config,
            limits.max_connections,
            &listeners,
            Arc::clone(&exits),
            wakers,
        );
        let shared = Arc::new(Shared {
            admission: Arc::new(admission),
            accepting: Accepting::new(listeners.len()),
            limits,
            promise: Mutex::new(Some(promise)),
            started: Instant::now(),
            tick_time: TickTime::now(),
            ticks: AtomicU64::new(0),
            fixed_threads: listeners.len() + limits::OWN_THREADS as usize,
            table: Arc::new(Table::new(listeners.len())),
            busy_polling: BusyPolling::new(config.busy_poll),
            quota: Arc::new(quota),
            consumer: Arc::new(ConsumerState::new()),
            exits,
            reaper,
            snapshot: Mutex::new(OverloadSnapshot::default()),
            lifecycle: Lifecycle::new(listeners.len()),
            logger,
            spawner,
            listeners,
            config,
        });
        Parts {
            shared,
            wakes,
            events,
            logger_body: Box::new(logger_body),
        }
    }

    pub(super) fn receiver<T>(&self, queued: channel::Receiver<Box<Envelope<T>>>) -> Receiver<T> {
        let (shared, config) = (&self.shared, &self.shared.config);
        let linger = config
            .linger
            .then(|| Linger::new(config.busy_reads as f64, LINGER));
        Receiver::new(
            queued,
            self.wakes.clone(),
            Arc::clone(&shared.quota),
            Arc::clone(&shared.consumer),
            shared.logger.clone(),
            linger,
        )
    }

    /// Starts every thread but the handlers'. If a start fails, the threads that run are ended.
    pub(super) fn start<T: Send + 'static>(
        self,
        queued: channel::Receiver<Box<Envelope<T>>>,
        acceptors: Vec<Acceptor>,
        consumer: impl FnOnce(Arc<Shared>) + Send + 'static,
    ) -> Result<Threads, StartError> {
        let shared = &self.shared;
        let quota = Arc::clone(&shared.quota);
        // Counts what the consumer never received as dropped.
        let drop_rest = Box::new(move || {
            while let Ok(envelope) = queued.try_recv() {
                quota.picked_up();
                quota.nack(envelope.listener(), envelope.weight());
            }
        });
        let mut threads = Threads::new(Arc::clone(shared), drop_rest);
        threads.logger = Some(spawn("logger", self.logger_body)?);
        threads.reaper = Some(spawn("reaper", {
            let (shared, events) = (Arc::clone(shared), self.events);
            move || reaper::run(&shared, &events)
        })?);
        threads.watchdog = Some(spawn("watchdog", {
            let is_over = threads.is_over();
            let watchdog = Watchdog::new(Arc::clone(shared));
            move || watchdog.run(is_over)
        })?);
        threads.consumer = Some(spawn("consumer", {
            let shared = Arc::clone(shared);
            move || consumer(shared)
        })?);
        for acceptor in acceptors {
            threads
                .acceptors
                .push(spawn("acceptor", move || acceptor.run())?);
        }
        Ok(threads)
    }
}

fn spawn(
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(system(name))
}
