//! The builder of a server: listeners, settings, checks and the start.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel as channel;
use log::Level;

use super::config::{Config, OnOverload};
use super::ends::connection::{Connection, MAX_HEAD_BYTES};
use super::ends::receiver::{Received, Receiver};
use super::ends::sender::{Envelope, Sender};
use super::ends::weigh::Weigh;
use super::error::{BoxError, ConfigError, StartError};
use super::limits::{
    self, BufferMemory, OutputNeeds, Requirements, ResourceLimits, SettingNames, TlsMemory,
    heap_bytes,
};
use super::listener::{self, BoundListeners, Listener};
use super::parts::Parts;
use super::running::Server;
use super::state::handler_thread::Serve;
use super::state::promise::{self, Promise};
use super::state::{Shared, Spawner, ThreadBody};
use super::threads::consumer;
use super::threads::handler::Handlers;
use super::wire::MAX_PEER_NAME;

/// How long a `start_each` consumer waits for a message at a time.
const MAX_RECV: Duration = Duration::from_secs(1);

type Handler<T> =
    Box<dyn Fn(&mut Connection, &Sender<T>) -> Result<(), BoxError> + Send + Sync + 'static>;

/// Collects the settings and listeners of a server, which [`start`](Builder::start) starts.
#[must_use = "a builder does nothing until it is started"]
pub struct Builder<T> {
    config: Config,
    /// The listeners, each with its own handler if it has one.
    listeners: Vec<(Listener, Option<Handler<T>>)>,
    spawner: Option<Spawner>,
    requirements: Requirements,
    is_one_way: bool,
    of: PhantomData<T>,
}

impl Server {
    /// Begins a server for messages of type `T`, with default settings and no listener.
    pub fn builder<T: Weigh + Send + 'static>() -> Builder<T> {
        Builder {
            config: Config::default(),
            listeners: Vec::new(),
            spawner: None,
            requirements: Requirements::default(),
            is_one_way: false,
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

    pub(crate) fn settings(&self) -> &Config {
        &self.config
    }

    pub(crate) fn listener_count(&self) -> usize {
        self.listeners.len()
    }

    /// Adds a listener on `address`. Port 0 stands for any free port, which [`Server::local_addrs`]
    /// returns. `[::]` accepts IPv4 clients, too, unless another listener has an IPv4 address with
    /// the same port.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listeners.push((Listener::on(address), None));
        self
    }

    /// Adds a listener that has a name or is bound already.
    pub fn listener(mut self, listener: impl Into<Listener>) -> Self {
        self.listeners.push((listener.into(), None));
        self
    }

    /// Adds a listener whose connections have a handler of their own, not that of
    /// [`start`](Builder::start). All share the buffer, the consumer and the limits.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    /// use drainline::{Listener, Server};
    ///
    /// let server = Server::builder::<String>()
    ///     .listen("127.0.0.1:0".parse()?)
    ///     .listener_with(
    ///         Listener::on("127.0.0.1:0".parse()?).named("health"),
    ///         |conn, _| Ok(writeln!(&*conn, "{} is up", conn.listener())?),
    ///     )
    ///     .start_each(|_, _| Ok(()), |_| Ok(()))?;
    ///
    /// let mut answer = String::new();
    /// TcpStream::connect(server.local_addrs()[1])?.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "health is up\n");
    /// # Ok::<(), drainline::BoxError>(())
    /// ```
    pub fn listener_with(
        mut self,
        listener: impl Into<Listener>,
        handler: impl Fn(&mut Connection, &Sender<T>) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.listeners
            .push((listener.into(), Some(Box::new(handler))));
        self
    }

    /// Spawns handlers' threads with your function, for example to set a CPU affinity or a
    /// priority. The body must run on a new thread. On an error, its client waits, nobody else is
    /// accepted, and `spawn` is called again after 5 ms to 1 s; a client that has waited 10 s is
    /// rejected as `no_thread`. A few threads may call `spawn` at the same time, among them those
    /// that are new, each before it serves its own client; no lock is held. While `spawn` blocks,
    /// so does the caller: an acceptor, or a client's thread.
    pub fn spawner(
        mut self,
        spawn: impl Fn(std::thread::Builder, ThreadBody) -> io::Result<JoinHandle<()>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.spawner = Some(Box::new(spawn));
        self
    }

    /// Adds threads and descriptors that the process will still need for itself to the limits. What
    /// the process has when it starts the server is counted anyway. Default: none.
    pub fn reserve(mut self, threads: u64, descriptors: u64) -> Self {
        self.requirements.other_threads = threads;
        self.requirements.other_descriptors = descriptors;
        self
    }

    /// Adds bytes of memory that the process takes for itself to the limits, beside the 8 MiB that
    /// they count for any process ([`ResourceLimits::memory_bytes`]). Default: none.
    pub fn reserve_memory(mut self, bytes: u64) -> Self {
        self.requirements.other_bytes = bytes;
        self
    }

    /// Sets what your users call a setting, given the name of its field: a program with flags
    /// returns the flag. The notes of [`check`](Builder::check), which [`start`](Builder::start)
    /// logs, use these names. Default: the field's name.
    pub fn setting_names(mut self, name: fn(&str) -> String) -> Self {
        self.requirements.names = SettingNames(name);
        self
    }

    /// Adds the memory of read buffers, which the ingest keeps beside what handlers and the buffer
    /// hold.
    pub(crate) fn buffer_memory(mut self, memory: BufferMemory) -> Self {
        self.requirements.memory = memory;
        self
    }

    /// The handlers never reply, and nobody else writes to the peers: a drain may end the sending
    /// direction at once, and read on until the peers have ended their streams.
    pub(crate) fn one_way(mut self) -> Self {
        self.is_one_way = true;
        self
    }

    /// Adds what outputs need of their own.
    pub(crate) fn output_needs(mut self, needs: OutputNeeds) -> Self {
        self.requirements.outputs = needs;
        self
    }

    /// Checks the settings, and whether the system can meet the limits. Starts nothing. Also
    /// returns notes for the operator: a default that had to shrink, or memory that may not
    /// suffice.
    ///
    /// # Errors
    /// As [`start`](Builder::start).
    pub fn check(&self) -> Result<(ResourceLimits, Vec<String>), StartError> {
        self.check_with(
            &self.config,
            self.requirements.memory,
            OutputNeeds::default(),
        )
    }

    /// As [`check`](Builder::check), with other settings.
    pub(crate) fn check_with(
        &self,
        config: &Config,
        memory: BufferMemory,
        outputs: OutputNeeds,
    ) -> Result<(ResourceLimits, Vec<String>), StartError> {
        let requirements = Requirements {
            outputs,
            ..self.requirements_of(config, memory)?
        };
        let fit = limits::fit(config, &requirements, &promise::system())?;
        let tls_notes = self.listeners.iter().filter_map(|(own, _)| own.tls_note());
        let notes = fit.notes.into_iter().chain(tls_notes).collect();
        Ok((fit.limits, notes))
    }

    /// Whether the settings hold, those of listeners included. Asks nothing of the system.
    pub(crate) fn check_settings_with(&self, config: &Config) -> Result<(), ConfigError> {
        config.check()?;
        listener::check_all(self.listeners.iter().map(|(listener, _)| listener), config)
    }

    fn opening_bytes(&self, config: &Config) -> u64 {
        let mut listeners = self.listeners.iter();
        match listeners.any(|(listener, _)| listener.expects_proxy(config)) {
            true => MAX_HEAD_BYTES,
            false => 0,
        }
    }

    fn own_list_bytes(&self) -> u64 {
        let listeners = self.listeners.iter();
        listeners.map(|(listener, _)| listener.list_bytes()).sum()
    }

    fn told_bytes(&self) -> u64 {
        let listeners = self.listeners.iter();
        listeners.map(|(listener, _)| listener.told_bytes()).sum()
    }

    fn requirements_of(
        &self,
        config: &Config,
        memory: BufferMemory,
    ) -> Result<Requirements, StartError> {
        self.check_settings_with(config)?;
        if self.listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        // A listener that refuses connects keeps its port by two more sockets, one for each family.
        let may_refuse = |(listener, _): &&(Listener, _)| listener.may_refuse();
        let guards = match config.on_overload {
            OnOverload::Refuse => 2 * self.listeners.iter().filter(may_refuse).count() as u64,
            OnOverload::Backlog | OnOverload::Close => 0,
        };
        Ok(Requirements {
            listeners: self.listeners.len(),
            other_descriptors: self.requirements.other_descriptors.saturating_add(guards),
            has_spawner: self.spawner.is_some(),
            opening_bytes: self.opening_bytes(config),
            own_list_bytes: self.own_list_bytes(),
            told_bytes: self.told_bytes(),
            memory,
            tls: self.tls_memory(),
            ..self.requirements
        })
    }

    fn tls_memory(&self) -> TlsMemory {
        let listeners = self.listeners.iter().enumerate();
        let with_tls = listeners.filter_map(|(at, (listener, _))| {
            let mut memory = listener.tls_memory()?;
            let mut before = self.listeners[..at].iter();
            if before.any(|(before, _)| before.shares_tls(listener)) {
                memory.loaded_bytes = 0;
            }
            Some(memory)
        });
        with_tls.fold(TlsMemory::default(), |all, one| TlsMemory {
            bytes: all.bytes.max(one.bytes),
            connections: all.connections.saturating_add(one.connections),
            loaded_bytes: all.loaded_bytes.saturating_add(one.loaded_bytes),
        })
    }

    /// What the name of a peer's certificate adds to an item that says where it came from.
    pub(crate) fn tls_name_bytes(&self) -> usize {
        match self.tls_memory().connections {
            0 => 0,
            _ => heap_bytes(MAX_PEER_NAME + 2 * size_of::<usize>()),
        }
    }

    /// Starts the server. `handler` runs on a thread for each connection, `consumer` on the one
    /// consumer thread until its receiver is closed. Both learn of a shutdown by the call that they
    /// block in: reads, sends and `recv` return.
    ///
    /// A handler that returns an error or panics ends its connection, counted. A consumer that
    /// returns an error, panics, or returns before its receiver is closed stops the whole server:
    /// see [`Server::wait`].
    ///
    /// Installs no signal handler, no logger, and nothing else in the process.
    ///
    /// # Errors
    /// A setting is out of range, the system cannot meet the limits, or an address cannot be
    /// listened on. Nothing is left running.
    pub fn start<H, C>(self, handler: H, consumer: C) -> Result<Server, StartError>
    where
        H: Fn(&mut Connection, &Sender<T>) -> Result<(), BoxError> + Send + Sync + 'static,
        C: FnOnce(&mut Receiver<T>) -> Result<(), BoxError> + Send + 'static,
    {
        let requirements = self.requirements_of(&self.config, self.requirements.memory)?;
        let mut config = self.config;
        let (fitted, promise) = Promise::take(&requirements, |system| {
            limits::fit(&config, &requirements, system)
        })?;
        config.stack_size = fitted.stack_size;
        let (listens, own_handlers): (Vec<_>, Vec<_>) = self.listeners.into_iter().unzip();
        let bound = BoundListeners::all(listens, &config)?;
        limits::descriptor_table::grow(fitted.limits.descriptors);
        let (channel, queued) = channel::bounded::<Box<Envelope<T>>>(config.buffer_messages);
        let parts = Parts::new(
            bound.states(&config, self.is_one_way),
            bound.wakers(),
            config,
            fitted.limits,
            promise,
            self.spawner,
        );
        let shared = Arc::clone(&parts.shared);

        // Acceptors are made before the first thread, so that only a spawn can still fail
        // afterwards.
        let addresses = bound.addresses();
        let notes = [
            fitted.notes,
            bound.notes(&shared.config, requirements.names),
        ]
        .concat();
        let handlers = handlers_by_listener(&shared, channel, handler, own_handlers);
        let acceptors = bound.acceptors(&shared, handlers)?;
        let receiver = parts.receiver(queued.clone());
        let threads = parts.start(queued, acceptors, move |shared| {
            consumer::run(&shared, receiver, consumer);
        })?;

        if let Some(promise) = &*shared.promise.lock() {
            promise.has_started(Arc::downgrade(&shared.table));
        }
        for note in notes {
            shared.logger.log(Level::Warn, note);
        }
        Ok(Server::new(addresses, threads))
    }

    /// Starts the server with a consumer that calls `deliver` for each message; `Ok` means
    /// delivered. An error means that this message cannot be delivered: the error is logged, the
    /// message is counted as dropped ([`Refused`](super::DropReason::Refused)), and the server goes
    /// on. An error that is a [`Fatal`](crate::Fatal) stops the whole server.
    ///
    /// # Errors
    /// As [`start`](Builder::start).
    pub fn start_each<H, D>(self, handler: H, mut deliver: D) -> Result<Server, StartError>
    where
        H: Fn(&mut Connection, &Sender<T>) -> Result<(), BoxError> + Send + Sync + 'static,
        D: FnMut(T) -> Result<(), BoxError> + Send + 'static,
    {
        self.start(handler, move |receiver| {
            loop {
                match receiver.recv(MAX_RECV) {
                    Received::Message(delivery) => {
                        let refused = delivery.deliver_by(&mut deliver)?;
                        if let Some(error) = refused {
                            let logger = receiver.logger();
                            logger.log_limited("message refused", Level::Warn, || {
                                format!("the consumer refused a message: {error}")
                            });
                        }
                    }
                    Received::Timeout | Received::RoomWanted => {}
                    Received::Closed => return Ok(()),
                }
            }
        })
    }
}

impl Builder<()> {
    /// Starts a server whose handlers only reply and send no messages. All limits apply as ever.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::{Shutdown, TcpStream};
    /// use drainline::Server;
    ///
    /// let server = Server::builder()
    ///     .listen("127.0.0.1:0".parse()?)
    ///     .serve(|conn| Ok(std::io::copy(&mut &*conn, &mut &*conn).map(drop)?))?;
    ///
    /// let mut client = TcpStream::connect(server.local_addrs()[0])?;
    /// client.write_all(b"hello")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let mut echo = String::new();
    /// client.read_to_string(&mut echo)?;
    /// assert_eq!(echo, "hello");
    /// # Ok::<(), drainline::BoxError>(())
    /// ```
    ///
    /// # Errors
    /// As [`start`](Builder::start).
    pub fn serve<H>(self, handler: H) -> Result<Server, StartError>
    where
        H: Fn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.start_each(move |connection, _| handler(connection), |()| Ok(()))
    }
}

/// The handler for the connections of each listener: its own, or the common one.
fn handlers_by_listener<T, H>(
    shared: &Arc<Shared>,
    channel: channel::Sender<Box<Envelope<T>>>,
    handler: H,
    own_handlers: Vec<Option<Handler<T>>>,
) -> Vec<Arc<dyn Serve>>
where
    T: Weigh + Send + 'static,
    H: Fn(&mut Connection, &Sender<T>) -> Result<(), BoxError> + Send + Sync + 'static,
{
    let common: Arc<dyn Serve> = Arc::new(Handlers {
        shared: Arc::clone(shared),
        channel: channel.clone(),
        handler,
    });
    let serve = |own| -> Arc<dyn Serve> {
        match own {
            None => Arc::clone(&common),
            Some(handler) => Arc::new(Handlers {
                shared: Arc::clone(shared),
                channel: channel.clone(),
                handler,
            }),
        }
    };
    own_handlers.into_iter().map(serve).collect()
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
