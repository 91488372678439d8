//! The thread that tells a service manager what the server does, so that nobody else waits for it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use drainline::Server;
use log::Level;
use parking_lot::Mutex;
use sd_notify::NotifyState;

use super::Manager;

/// What a manager costs beside the server: the thread, and the socket.
pub(in crate::cli) const THREADS: u64 = 1;
pub(in crate::cli) const DESCRIPTORS: u64 = 1;

/// The longest between two looks at the server, and between two tries to tell something.
const MAX_LOOK: Duration = Duration::from_secs(1);
/// The shortest: the server ticks ten times a second.
const MIN_LOOK: Duration = Duration::from_millis(250);

/// What is to be told.
#[derive(Debug, Default)]
struct News {
    /// The server serves, and what its unit's status is.
    serves: Option<String>,
    /// The last reload, by the time of the monotonic clock at which it was asked for.
    reloaded: Option<NotifyState<'static>>,
    is_draining: bool,
    is_over: bool,
}

/// Says what is to be told, if there is somebody to be told. Never waits for the manager.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Teller(Option<(Arc<Mutex<News>>, Thread)>);

impl Teller {
    /// All listeners accept.
    pub(in crate::cli) fn serves(&self, status: String) {
        self.tell(|news| news.serves = Some(status));
    }

    /// A reload that was asked for at that time ([`NotifyState::monotonic_usec_now`]) is done:
    /// systemd takes no answer that is older than what it asked.
    pub(in crate::cli) fn reloaded(&self, asked: NotifyState<'static>) {
        self.tell(|news| news.reloaded = Some(asked));
    }

    pub(in crate::cli) fn is_draining(&self) {
        self.tell(|news| news.is_draining = true);
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        if let Some((news, thread)) = &self.0 {
            change(&mut news.lock());
            thread.unpark();
        }
    }
}

/// The thread, until it is ended.
#[derive(Debug)]
pub(in crate::cli) struct Notifier {
    thread: JoinHandle<()>,
    teller: Teller,
}

impl Notifier {
    pub(in crate::cli) fn start(manager: Manager, server: Arc<Server>) -> io::Result<Notifier> {
        let news = Arc::new(Mutex::default());
        let telling = Telling::new(manager, server, Arc::clone(&news));
        let thread = thread::Builder::new().name("notifier".to_owned());
        let thread = thread.spawn(move || telling.run())?;
        let teller = Teller(Some((news, thread.thread().clone())));
        Ok(Notifier { thread, teller })
    }

    pub(in crate::cli) fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// Blocks until the manager knows of the end: for at most 2 s, where it takes nothing.
    pub(in crate::cli) fn end(self) {
        self.teller.tell(|news| news.is_over = true);
        let _ = self.thread.join();
    }
}

/// What the thread knows.
struct Telling {
    manager: Manager,
    server: Arc<Server>,
    news: Arc<Mutex<News>>,
    look: Duration,
    ticks: u64,
    is_draining: bool,
}

impl Telling {
    fn new(manager: Manager, server: Arc<Server>, news: Arc<Mutex<News>>) -> Telling {
        // sd_watchdog_enabled(3) recommends half of the time. A look more, and a message may be
        // lost.
        let look = manager.watchdog().map_or(MAX_LOOK, |time| time / 4);
        Telling {
            look: look.clamp(MIN_LOOK, MAX_LOOK),
            ticks: server.ticks(),
            manager,
            server,
            news,
            is_draining: false,
        }
    }

    fn run(mut self) {
        let mut next_look = Instant::now();
        loop {
            let news = std::mem::take(&mut *self.news.lock());
            if news.is_draining || news.is_over {
                self.draining();
            }
            if news.is_over {
                return;
            }
            self.tell_of(news);
            if Instant::now() >= next_look {
                self.look();
                next_look = Instant::now() + self.look;
            }
            thread::park_timeout(next_look.saturating_duration_since(Instant::now()));
        }
    }

    /// What the manager does not take is told again at the next look: it waits for both.
    fn tell_of(&self, news: News) {
        let News {
            serves, reloaded, ..
        } = news;
        // A server that drains already has not begun to serve.
        if let Some(status) = serves.filter(|_| !self.is_draining) {
            let states = [NotifyState::Ready, NotifyState::Status(&status)];
            if !self.tell(&states) {
                self.news.lock().serves.get_or_insert(status);
            }
        }
        if let Some(asked) = reloaded {
            let is_told = self.tell(&[NotifyState::Reloading, asked.clone()])
                && self.tell(&[NotifyState::Ready]);
            if !is_told {
                self.news.lock().reloaded.get_or_insert(asked);
            }
        }
    }

    /// The manager hears that the process lives as long as the server ticks: neither a sink that
    /// stands still nor a peer holds up a tick.
    fn look(&mut self) {
        if self.server.is_draining() {
            self.draining();
        }
        let ticks = self.server.ticks();
        if self.manager.watchdog().is_some() && ticks != self.ticks {
            self.tell(&[NotifyState::Watchdog]);
        }
        self.ticks = ticks;
    }

    fn draining(&mut self) {
        if !self.is_draining {
            self.is_draining = true;
            self.tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) -> bool {
        let told = self.manager.tell(states);
        if let Err(error) = &told {
            let logger = self.server.logger();
            logger.log_limited("service manager", Level::Warn, || {
                format!("cannot tell the service manager: {error}")
            });
        }
        told.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use drainline::ingest::Ingest;
    use drainline::ingest::sink::Null;

    use super::*;

    fn told(manager: &UnixDatagram) -> Option<String> {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..length]).into_owned())
    }

    /// Until the watchdog of the server has ticked once more.
    fn wait_for_tick(server: &Server) {
        let ticks = server.ticks();
        while server.ticks() == ticks {
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn the_manager_hears_of_life_only_while_the_server_ticks() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("non-blocking");
        let builder = Ingest::builder().listen(([127, 0, 0, 1], 0).into());
        let server = Arc::new(builder.start(Null).expect("a server"));
        let manager = Manager::at(&path, Some(MAX_LOOK)).expect("a manager");
        let mut telling = Telling::new(manager, Arc::clone(&server), Arc::default());

        let life = Some("WATCHDOG=1\n".to_owned());
        wait_for_tick(&server);
        telling.look();
        assert_eq!(told(&socket), life);
        telling.ticks = u64::MAX;
        server.shutdown(Duration::ZERO);
        telling.look();
        assert_eq!(
            told(&socket).as_deref(),
            Some("STOPPING=1\nSTATUS=draining\n")
        );
        assert_eq!(told(&socket), life);
        telling.look();
        assert_eq!(told(&socket), None);
    }
}
