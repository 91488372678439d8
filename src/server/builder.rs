//! Putting a server together, and starting its threads.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use log::Level;
use parking_lot::Mutex;

use super::config::{Config, OnOverload};
use super::ends::connection::Connection;
use super::ends::receiver::{Received, Receiver};
use super::ends::sender::{Envelope, Sender, Weigh};
use super::error::{BoxError, StartError};
use super::limits::{self, BufferMemory, Requirements, ResourceLimits};
use super::running::{Server, Threads};
use super::state::accepting::Accepting;
use super::state::admission::Admission;
use super::state::consumer_state::ConsumerState;
use super::state::exits::Exits;
use super::state::handler_thread::Serve;
use super::state::lifecycle::Lifecycle;
use super::state::listener::{self, Listener};
use super::state::logger::Logger;
use super::state::promise::{self, Promise};
use super::state::quota::Quota;
use super::state::table::Table;
use super::state::waker::Waker;
use super::state::{Ending, OverloadSnapshot, Shared, Spawner, ThreadBody};
use super::threads::acceptor::Acceptor;
use super::threads::handler::Handlers;
use super::threads::watchdog::Watchdog;
use super::threads::{consumer, reaper};
use crate::policy::{Linger, Weight};

/// How long [`Receiver::recv`] waits at a time where nobody asked for a tick.
const LONG_TICK: Duration = Duration::from_secs(1);
/// How long the consumer sleeps where it lingers.
const LINGER: Duration = Duration::from_micros(500);

enum Source {
    Address(SocketAddr),
    Inherited(TcpListener),
}

impl Source {
    /// The port that it has of IPv4, unless any will do.
    fn v4_port(&self) -> Option<u16> {
        let address = match self {
            Source::Address(address) => *address,
            Source::Inherited(listener) => listener.local_addr().ok()?,
        };
        let is_v4 = address.ip().to_canonical().is_ipv4();
        (is_v4 && address.port() != 0).then_some(address.port())
    }
}

/// What a server is made of. Each method says what it adds; [`start`](Builder::start) makes it.
#[must_use = "a builder does nothing until it is started"]
pub struct Builder<T> {
    config: Config,
    listeners: Vec<Source>,
    spawner: Spawner,
    requirements: Requirements,
    of: PhantomData<T>,
}

impl Server {
    /// Begins a server for messages of type `T`, with default settings and no listener.
    pub fn builder<T: Weigh + Send + 'static>() -> Builder<T> {
        Builder {
            config: Config::default(),
            listeners: Vec::new(),
            spawner: Box::new(|builder, body| builder.spawn(body)),
            requirements: Requirements::default(),
            of: PhantomData,
        }
    }
}

impl<T: Weigh + Send + 'static> Builder<T> {
    /// Replaces the settings. Default: [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens on `address`, too. Port 0: one that is free; [`Server::local_addrs`] tells. `[::]` takes IPv4
    /// clients, too, unless another listener has an IPv4 address with the same port.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listeners.push(Source::Address(address));
        self
    }

    /// Takes over a listener that is bound and listens already. It is made non-blocking.
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listeners.push(Source::Inherited(listener));
        self
    }

    /// Spawns handlers' threads in a way of your own: with a CPU affinity, a priority, a count of your own.
    /// The body must run on a new thread. An error turns the client away as `no_thread`, and nobody is
    /// accepted for a while. Called under a lock of the server: it must not call back into it, nor block
    /// for long.
    pub fn spawner(
        mut self,
        spawn: impl Fn(std::thread::Builder, ThreadBody) -> io::Result<JoinHandle<()>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.spawner = Box::new(spawn);
        self
    }

    /// Counts threads and descriptors into the bound that the process will still need for itself.
    /// What it has when it starts the server is counted anyway.
    pub fn reserve(mut self, threads: u64, descriptors: u64) -> Self {
        self.requirements.other_threads = threads;
        self.requirements.other_descriptors = descriptors;
        self
    }

    /// Counts what the room above holds of buffers beside what connections and the buffer hold.
    pub(crate) fn buffer_memory(mut self, memory: BufferMemory) -> Self {
        self.requirements.memory = memory;
        self
    }

    /// Checks the settings and holds the bound against the operating system; starts nothing.
    /// Also returns notes for the operator: a default that had to shrink, memory that may not suffice.
    ///
    /// # Errors
    /// As [`start`](Builder::start).
    pub fn check(&self) -> Result<(ResourceLimits, Vec<String>), StartError> {
        self.check_with(&self.config, self.requirements.memory)
    }

    /// As [`check`](Builder::check), with other settings.
    pub(crate) fn check_with(
        &self,
        config: &Config,
        memory: BufferMemory,
    ) -> Result<(ResourceLimits, Vec<String>), StartError> {
        let requirements = self.requirements_of(config, memory)?;
        let fit = limits::fit(config, &requirements, &promise::system())?;
        Ok((fit.limits, fit.notes))
    }

    fn requirements_of(
        &self,
        config: &Config,
        memory: BufferMemory,
    ) -> Result<Requirements, StartError> {
        config.check()?;
        if self.listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        // A listener that refuses connects keeps its port by two more sockets, one for each family.
        let guards = match config.on_overload {
            OnOverload::Refuse => 2 * self.listeners.len() as u64,
            OnOverload::Backlog | OnOverload::Close => 0,
        };
        Ok(Requirements {
            listeners: self.listeners.len(),
            other_descriptors: self.requirements.other_descriptors.saturating_add(guards),
            memory,
            ..self.requirements
        })
    }

    /// Starts the server. `handler` runs on a thread for each connection, `consumer` on the one consumer
    /// thread until its receiver is closed; both are told of a shutdown by what they wait in.
    ///
    /// A handler that returns an error or panics ends its connection, counted. A consumer that returns an
    /// error, panics, or returns before its receiver is closed stops the whole server: see
    /// [`Server::wait`].
    ///
    /// Installs no signal handler, no logger, and nothing else in the process.
    ///
    /// # Errors
    /// A setting that does not hold, limits that the system cannot hold, an address that cannot be
    /// listened on. Nothing is left running.
    pub fn start<H, C>(self, handler: H, consumer: C) -> Result<Server, StartError>
    where
        H: Fn(&mut Connection, &Sender<T>) -> Result<(), BoxError> + Send + Sync + 'static,
        C: FnOnce(&mut Receiver<T>) -> Result<(), BoxError> + Send + 'static,
    {
        let requirements = self.requirements_of(&self.config, self.requirements.memory)?;
        let config = self.config;
        let (fitted, promise) = Promise::take(&requirements, |system| {
            limits::fit(&config, &requirements, system)
        })?;
        let bound = Bound::all(self.listeners, &config)?;
        let (channel, queued) = channel::bounded::<Box<Envelope<T>>>(config.buffer_messages);
        let parts = Parts::new(config, fitted.limits, promise, self.spawner, bound.wakers());
        let shared = Arc::clone(&parts.shared);

        // Every acceptor before the first thread: what can fail short of a spawn has failed by then.
        let addresses = bound.addresses();
        let notes = [fitted.notes, bound.notes(&shared.config)].concat();
        let handlers = Arc::new(Handlers {
            shared: Arc::clone(&shared),
            channel,
            handler,
        });
        let acceptors = bound.acceptors(&shared, handlers)?;
        let receiver = parts.receiver(queued.clone());
        let threads = parts.start(queued, acceptors, move |shared| {
            consumer::run(&shared, receiver, consumer);
        })?;

        if let Some(promise) = &*shared.promise.lock() {
            promise.has_started(Arc::downgrade(&shared.admission));
        }
        for note in notes {
            shared.logger.log(Level::Warn, note);
        }
        Ok(Server::new(addresses, threads))
    }

    /// Starts the server with a consumer that calls `item` for each item; `Ok` means delivered. An error stops
    /// the whole server, as that of any consumer does.
    ///
    /// # Errors
    /// As [`start`](Builder::start).
    pub fn start_each<H, I>(self, handler: H, mut item: I) -> Result<Server, StartError>
    where
        H: Fn(&mut Connection, &Sender<T>) -> Result<(), BoxError> + Send + Sync + 'static,
        I: FnMut(&T) -> Result<(), BoxError> + Send + 'static,
    {
        self.start(handler, move |receiver| {
            loop {
                match receiver.recv(LONG_TICK) {
                    Received::Message(delivery) => {
                        item(delivery.get())?;
                        drop(delivery.ack());
                    }
                    Received::Timeout | Received::RoomWanted => {}
                    Received::Closed => return Ok(()),
                }
            }
        })
    }
}

/// The listeners of a server that starts.
struct Bound {
    listeners: Vec<(Listener, Arc<Waker>)>,
    inherited: usize,
    unguarded: Vec<SocketAddr>,
}

impl Bound {
    fn all(sources: Vec<Source>, config: &Config) -> Result<Self, StartError> {
        // `[::]` takes IPv4 clients, too, and would be refused a port that an IPv4 listener has.
        let v4_ports: Vec<u16> = sources.iter().filter_map(Source::v4_port).collect();
        let mut listeners = Vec::new();
        let mut inherited = 0;
        for source in sources {
            listeners.push(match source {
                Source::Address(address) => {
                    let is_v6 = address.ip().to_canonical().is_ipv6();
                    let only_v6 = is_v6 && v4_ports.contains(&address.port());
                    Listener::bind(address, only_v6, config)
                        .map_err(|source| StartError::Listen { address, source })?
                }
                Source::Inherited(listener) => {
                    inherited += 1;
                    Listener::inherit(listener, config).map_err(system("an inherited listener"))?
                }
            });
        }
        let unguarded = listener::guard_other_families(&mut listeners);
        let listeners = listeners
            .into_iter()
            .map(|listener| Ok((listener, Arc::new(Waker::new()?))))
            .collect::<io::Result<_>>()
            .map_err(system("an eventfd"))?;
        Ok(Bound {
            listeners,
            inherited,
            unguarded,
        })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter();
        listeners.map(|(listener, _)| listener.address).collect()
    }

    fn wakers(&self) -> Vec<Arc<Waker>> {
        let listeners = self.listeners.iter();
        listeners.map(|(_, waker)| Arc::clone(waker)).collect()
    }

    /// What an operator should know of them.
    fn notes(&self, config: &Config) -> Vec<String> {
        let mut notes = Vec::new();
        if self.inherited > 0 && config.on_overload == OnOverload::Refuse {
            let why = "an inherited listener could not come back";
            notes.push(format!(
                "on_overload = refuse: {why}, so it closes clients instead"
            ));
        }
        notes.extend(self.unguarded.iter().map(|address| {
            let port = address.port();
            format!("on_overload = refuse: another program has port {port} in the other family, and could take it from {address} while that is shut down, so it closes clients instead")
        }));
        notes
    }

    fn acceptors(
        self,
        shared: &Arc<Shared>,
        handler: Arc<dyn Serve>,
    ) -> Result<Vec<Acceptor>, StartError> {
        let listeners = self.listeners.into_iter().enumerate();
        let acceptors = listeners.map(|(number, (listener, waker))| {
            let (shared, handler) = (Arc::clone(shared), Arc::clone(&handler));
            Acceptor::new(number, listener, waker, shared, handler)
        });
        acceptors
            .collect::<io::Result<_>>()
            .map_err(system("a descriptor in reserve"))
    }
}

/// What the threads of a server that starts share, and the ends of it that only one of them has.
struct Parts {
    shared: Arc<Shared>,
    nudged: channel::Receiver<()>,
    endings: channel::Receiver<Ending>,
    logger_body: ThreadBody,
}

impl Parts {
    fn new(
        config: Config,
        limits: ResourceLimits,
        promise: Promise,
        spawner: Spawner,
        wakers: Vec<Arc<Waker>>,
    ) -> Self {
        let (quota, nudged) = Quota::new(Weight {
            messages: config.buffer_messages as u64,
            bytes: config.buffer_bytes as u64,
        });
        let (reaper, endings) = channel::bounded(limits.max_connections + 1);
        let (logger, logger_body) = Logger::new();
        let exits = Arc::new(Exits::new());
        let listeners = wakers.len();
        let admission = Admission::new(&config, limits.max_connections, Arc::clone(&exits), wakers);
        let shared = Arc::new(Shared {
            admission: Arc::new(admission),
            accepting: Accepting::new(listeners),
            limits,
            promise: Mutex::new(Some(promise)),
            started: Instant::now(),
            fixed_threads: listeners + limits::OWN_THREADS as usize,
            table: Table::default(),
            quota: Arc::new(quota),
            consumer: Arc::new(ConsumerState::new()),
            exits,
            reaper,
            snapshot: Mutex::new(OverloadSnapshot::default()),
            lifecycle: Lifecycle::new(listeners),
            logger,
            spawner,
            config,
        });
        Parts {
            shared,
            nudged,
            endings,
            logger_body: Box::new(logger_body),
        }
    }

    fn receiver<T>(&self, queued: channel::Receiver<Box<Envelope<T>>>) -> Receiver<T> {
        let (shared, config) = (&self.shared, &self.shared.config);
        let linger = config
            .linger
            .then(|| Linger::new(config.busy_reads as f64, LINGER));
        Receiver::new(
            queued,
            self.nudged.clone(),
            Arc::clone(&shared.quota),
            Arc::clone(&shared.consumer),
            shared.logger.clone(),
            linger,
        )
    }

    /// Starts every thread but the handlers'. Where one fails, those that run are ended.
    fn start<T: Send + 'static>(
        self,
        queued: channel::Receiver<Box<Envelope<T>>>,
        acceptors: Vec<Acceptor>,
        consumer: impl FnOnce(Arc<Shared>) + Send + 'static,
    ) -> Result<Threads, StartError> {
        let shared = &self.shared;
        let quota = Arc::clone(&shared.quota);
        // Books what the consumer never came to take.
        let drop_rest = Box::new(move || {
            while let Ok(envelope) = queued.try_recv() {
                quota.picked_up();
                quota.nack(envelope.weight);
            }
        });
        let mut threads = Threads::new(Arc::clone(shared), drop_rest);
        threads.logger = Some(spawn("logger", self.logger_body)?);
        threads.reaper = Some(spawn("reaper", {
            let (shared, endings) = (Arc::clone(shared), self.endings);
            move || reaper::run(&shared, &endings)
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

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
