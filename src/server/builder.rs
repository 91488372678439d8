//! Putting a server together, and starting its threads.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use log::Level;
use parking_lot::Mutex;

use super::config::{Config, OnPause};
use super::ends::connection::Connection;
use super::ends::receiver::{Inbox, Received};
use super::ends::sender::{Outbox, Parcel, Weigh};
use super::error::{BoxError, StartError};
use super::limits::{self, Bound, BufferMemory, Needs};
use super::running::{Handle, Threads};
use super::state::accepting::Accepting;
use super::state::admission::Gate;
use super::state::consumer_state::ConsumerPulse;
use super::state::exits::Exits;
use super::state::lifecycle::Lifecycle;
use super::state::listener::{self, Listener};
use super::state::logger::Journal;
use super::state::promise::{self, Promise};
use super::state::quota::Budget;
use super::state::table::Table;
use super::state::waker::Bell;
use super::state::{Shared, Spawner, Standing, ThreadBody};
use super::threads::acceptor::{Acceptor, MakeHandler};
use super::threads::consumer;
use super::threads::handler;
use super::threads::reaper;
use super::threads::watchdog::Watchdog;
use crate::policy::{Linger, Weight};

/// How long [`Inbox::recv`] waits at a time where nobody asked for a tick.
const LONG_TICK: Duration = Duration::from_secs(1);
/// How long the consumer sleeps where it lingers.
const LINGER: Duration = Duration::from_micros(500);

/// A TCP server for messages of type `T`.
///
/// # A server for your own type
/// ```
/// use std::io::{BufRead, BufReader, Write};
/// use std::net::TcpStream;
/// use std::time::Duration;
/// use drainline::{Server, Weigh};
///
/// struct Reading { sensor: String, value: f64 }
///
/// impl Weigh for Reading {
///     fn bytes(&self) -> usize { self.sensor.capacity() }
/// }
///
/// let (seen, readings) = std::sync::mpsc::channel();
/// let server = Server::<Reading>::builder()
///     .listen("127.0.0.1:0".parse()?)
///     .start_each(
///         |conn, out| {
///             for line in BufReader::new(conn).lines() {
///                 let line = line?;
///                 if let Some((sensor, value)) = line.split_once(' ') {
///                     out.send(Reading { sensor: sensor.to_owned(), value: value.parse()? })?;
///                 }
///             }
///             Ok(())
///         },
///         move |reading| Ok(seen.send((reading.sensor.clone(), reading.value))?),
///     )?;
///
/// let mut client = TcpStream::connect(server.local_addrs()[0])?;
/// client.write_all(b"kitchen 21.5\n")?;
/// drop(client);
/// assert_eq!(readings.recv()?, ("kitchen".to_owned(), 21.5));
///
/// let report = server.shutdown(Duration::from_secs(5));
/// assert_eq!(report.stats.delivered, 1);
/// assert!(report.stats.is_balanced());
/// # Ok::<(), drainline::BoxError>(())
/// ```
///
/// # Requests and responses
/// A handler may reply, and a drain lets it answer the whole requests that were sent:
/// ```
/// use std::io::{BufRead, BufReader, Read, Write};
/// use std::net::TcpStream;
/// use drainline::Server;
///
/// let server = Server::<String>::builder()
///     .listen("127.0.0.1:0".parse()?)
///     .start_each(
///         |conn, log| {
///             let mut conn = BufReader::new(conn);
///             loop {
///                 let mut request = String::new();
///                 if conn.read_line(&mut request)? == 0 {
///                     return Ok(());
///                 }
///                 writeln!(conn.get_mut(), "you said {}", request.trim_end())?;
///                 log.send(request)?;
///             }
///         },
///         |request| {
///             assert!(request.ends_with('\n'));
///             Ok(())
///         },
///     )?;
///
/// let mut client = TcpStream::connect(server.local_addrs()[0])?;
/// client.write_all(b"hello\n")?;
/// client.shutdown(std::net::Shutdown::Write)?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "you said hello\n");
/// # drop(server);
/// # Ok::<(), drainline::BoxError>(())
/// ```
pub struct Server<T> {
    of: PhantomData<T>,
}

impl<T: Weigh + Send + 'static> Server<T> {
    /// Begins a server with default settings and no listener.
    pub fn builder() -> Builder<T> {
        Builder {
            config: Config::default(),
            listeners: Vec::new(),
            spawner: Box::new(|builder, body| builder.spawn(body)),
            needs: Needs::default(),
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Server<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

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
    needs: Needs,
    of: PhantomData<T>,
}

impl<T: Weigh + Send + 'static> Builder<T> {
    /// Replaces the settings. Default: [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens on `address`, too. Port 0: one that is free; [`Handle::local_addrs`] tells. `[::]` takes IPv4
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
        self.needs.other_threads = threads;
        self.needs.other_descriptors = descriptors;
        self
    }

    /// Counts what the room above holds of buffers beside what connections and the buffer hold.
    pub(crate) fn buffer_memory(mut self, memory: BufferMemory) -> Self {
        self.needs.memory = memory;
        self
    }

    /// Checks the settings and holds the bound against the operating system; starts nothing.
    /// Also returns notes for the operator: a default that had to shrink, memory that may not suffice.
    ///
    /// # Errors
    /// As [`start`](Builder::start).
    pub fn check(&self) -> Result<(Bound, Vec<String>), StartError> {
        self.check_with(&self.config, self.needs.memory)
    }

    /// As [`check`](Builder::check), with other settings.
    pub(crate) fn check_with(
        &self,
        config: &Config,
        memory: BufferMemory,
    ) -> Result<(Bound, Vec<String>), StartError> {
        let needs = self.needs_of(config, memory)?;
        let fit = limits::fit(config, &needs, &promise::system())?;
        Ok((fit.bound, fit.notes))
    }

    fn needs_of(&self, config: &Config, memory: BufferMemory) -> Result<Needs, StartError> {
        config.check()?;
        if self.listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        // A listener that refuses connects keeps its port by two more sockets, one for each family.
        let guards = match config.on_pause {
            OnPause::Refuse => 2 * self.listeners.len() as u64,
            OnPause::Backlog | OnPause::Close => 0,
        };
        Ok(Needs {
            listeners: self.listeners.len(),
            other_descriptors: self.needs.other_descriptors.saturating_add(guards),
            memory,
            ..self.needs
        })
    }

    /// Starts the server. `handler` runs on a thread for each connection, `consumer` on the one consumer
    /// thread until its inbox is closed; both are told of a shutdown by what they wait in.
    ///
    /// A handler that returns an error or panics ends its connection, counted. A consumer that returns an
    /// error, panics, or returns before its inbox is closed stops the whole server: see
    /// [`Handle::wait`].
    ///
    /// Installs no signal handler, no logger, and nothing else in the process.
    ///
    /// # Errors
    /// A setting that does not hold, a bound that the system cannot hold, an address that cannot be
    /// listened on. Nothing is left running.
    pub fn start<H, C>(self, handler: H, consumer: C) -> Result<Handle, StartError>
    where
        H: Fn(&mut Connection, &Outbox<T>) -> Result<(), BoxError> + Send + Sync + 'static,
        C: FnOnce(&mut Inbox<T>) -> Result<(), BoxError> + Send + 'static,
    {
        let needs = self.needs_of(&self.config, self.needs.memory)?;
        let config = self.config;
        let (fit, promise) = Promise::take(&needs, |system| limits::fit(&config, &needs, system))?;
        let (bound, notes) = (fit.bound, fit.notes);
        let mut listeners = Vec::new();
        let mut inherited = 0;
        // `[::]` takes IPv4 clients, too, and would be refused a port that an IPv4 listener has.
        let v4_ports: Vec<u16> = self.listeners.iter().filter_map(Source::v4_port).collect();
        for source in self.listeners {
            listeners.push(match source {
                Source::Address(address) => {
                    let is_v6 = address.ip().to_canonical().is_ipv6();
                    let only_v6 = is_v6 && v4_ports.contains(&address.port());
                    Listener::bind(address, only_v6, &config)
                        .map_err(|source| StartError::Listen { address, source })?
                }
                Source::Inherited(listener) => {
                    inherited += 1;
                    Listener::inherit(listener, &config).map_err(system("an inherited listener"))?
                }
            });
        }
        let unguarded = listener::guard_other_families(&mut listeners);
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.address).collect();
        let bells: Vec<_> = listeners
            .iter()
            .map(|_| Bell::new().map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(system("an eventfd"))?;

        let (sender, receiver) = bounded::<Box<Parcel<T>>>(config.buffer_messages);
        let limit = Weight {
            messages: config.buffer_messages as u64,
            bytes: config.buffer_bytes as u64,
        };
        let (budget, nudged) = Budget::new(limit);
        let (endings, ended) = bounded(bound.max_connections + 1);
        let exits = Arc::new(Exits::new());
        let (journal, journal_body) = Journal::new();
        let shared = Arc::new(Shared {
            gate: Arc::new(Gate::new(
                &config,
                bound.max_connections,
                Arc::clone(&exits),
                bells.clone(),
            )),
            accepting: Accepting::new(listeners.len()),
            bound,
            promise: Mutex::new(Some(promise)),
            started: Instant::now(),
            fixed_threads: listeners.len() + limits::OWN_THREADS as usize,
            table: Table::default(),
            budget: Arc::new(budget),
            consumer: Arc::new(ConsumerPulse::new()),
            exits,
            reaper: endings,
            standing: Mutex::new(Standing::default()),
            lifecycle: Lifecycle::new(listeners.len()),
            journal: journal.clone(),
            spawner: self.spawner,
            config,
        });

        // Every acceptor before the first thread: what can fail short of a spawn has failed by then.
        let make_handler = make_handler(&shared, sender, handler);
        let acceptors: Vec<_> = listeners
            .into_iter()
            .zip(bells)
            .enumerate()
            .map(|(place, (listener, bell))| {
                Acceptor::new(
                    place,
                    listener,
                    bell,
                    Arc::clone(&shared),
                    Arc::clone(&make_handler),
                )
            })
            .collect::<Result<_, _>>()
            .map_err(system("a descriptor in reserve"))?;
        drop(make_handler);

        let budget = Arc::clone(&shared.budget);
        let rest = receiver.clone();
        let config = &shared.config;
        let linger = config
            .linger
            .then(|| Linger::new(config.busy_reads as f64, LINGER));
        let inbox = Inbox::new(
            receiver,
            nudged,
            Arc::clone(&budget),
            Arc::clone(&shared.consumer),
            journal.clone(),
            linger,
        );
        // Books what the consumer never came to take.
        let drop_rest = Box::new(move || {
            while let Ok(parcel) = rest.try_recv() {
                budget.picked_up();
                budget.undone(parcel.weight);
            }
        });
        let mut threads = Threads::new(Arc::clone(&shared), drop_rest);
        threads.journal = Some(spawn("journal", journal_body)?);
        threads.reaper = Some(spawn("reaper", {
            let shared = Arc::clone(&shared);
            move || reaper::run(&shared, &ended)
        })?);
        threads.watchdog = Some(spawn("watchdog", {
            let is_over = threads.is_over();
            let watchdog = Watchdog::new(Arc::clone(&shared));
            move || watchdog.run(is_over)
        })?);
        threads.consumer = Some(spawn("consumer", {
            let shared = Arc::clone(&shared);
            move || consumer::run(&shared, inbox, consumer)
        })?);
        for acceptor in acceptors {
            threads
                .acceptors
                .push(spawn("acceptor", move || acceptor.run())?);
        }

        if let Some(promise) = &*shared.promise.lock() {
            promise.has_started(Arc::downgrade(&shared.gate));
        }
        for note in notes {
            journal.say(Level::Warn, note);
        }
        if inherited > 0 && shared.config.on_pause == OnPause::Refuse {
            journal.say(
                Level::Warn,
                "on_pause = refuse: an inherited listener could not come back, so it closes clients instead",
            );
        }
        for address in unguarded {
            journal.say(
                Level::Warn,
                format!(
                    "on_pause = refuse: another program has port {} in the other family, and could take it from {address} while that is shut down, so it closes clients instead",
                    address.port()
                ),
            );
        }
        Ok(Handle::new(addresses, threads))
    }

    /// Starts the server with a consumer that calls `item` for each item; `Ok` means delivered. An error stops
    /// the whole server, as that of any consumer does.
    ///
    /// # Errors
    /// As [`start`](Builder::start).
    pub fn start_each<H, I>(self, handler: H, mut item: I) -> Result<Handle, StartError>
    where
        H: Fn(&mut Connection, &Outbox<T>) -> Result<(), BoxError> + Send + Sync + 'static,
        I: FnMut(&T) -> Result<(), BoxError> + Send + 'static,
    {
        self.start(handler, move |inbox| {
            loop {
                match inbox.recv(LONG_TICK) {
                    Received::Item(delivery) => {
                        item(delivery.get())?;
                        drop(delivery.done());
                    }
                    Received::Tick => {}
                    Received::Closed => return Ok(()),
                }
            }
        })
    }
}

/// The source of every handler's thread, and of its sending end: when the acceptors are gone, so is it,
/// and the channel ends with the last handler.
fn make_handler<T, H>(
    shared: &Arc<Shared>,
    sender: crossbeam_channel::Sender<Box<Parcel<T>>>,
    handler: H,
) -> MakeHandler
where
    T: Weigh + Send + 'static,
    H: Fn(&mut Connection, &Outbox<T>) -> Result<(), BoxError> + Send + Sync + 'static,
{
    let (shared, handler) = (Arc::clone(shared), Arc::new(handler));
    Arc::new(move |record| {
        let (shared, handler) = (Arc::clone(&shared), Arc::clone(&handler));
        let sender = sender.clone();
        Box::new(move || {
            let outbox = Outbox::new(
                sender,
                Arc::clone(&shared.budget),
                Arc::clone(&record),
                &shared.config,
            );
            handler::run(&shared, record, outbox, &*handler)
        })
    })
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
