//! What the system asks of the process: one thread waits for the next signal.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use drainline::ingest::Handle;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator;

use super::values::ReportFormat;
use super::{report, say};

/// Signals that are caught and kept until somebody serves them.
pub(super) struct Signals(iterator::Signals);

/// The thread that serves them.
pub(super) struct Serving {
    close: iterator::Handle,
    thread: JoinHandle<()>,
}

impl Signals {
    pub(super) fn register() -> io::Result<Signals> {
        iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGXFSZ]).map(Signals)
    }

    /// SIGTERM and SIGINT drain; a second one prints the ledger and ends the process at once. SIGHUP reopens
    /// the sink, SIGUSR1 lists the connections.
    pub(super) fn serve(
        mut self,
        handle: Arc<Handle>,
        drain_timeout: Duration,
        format: ReportFormat,
    ) -> io::Result<Serving> {
        let close = self.0.handle();
        let body = move || {
            let mut is_draining = false;
            for signal in &mut self.0 {
                match signal {
                    SIGHUP => handle.reopen(),
                    SIGUSR1 => say(&report::connections(&handle)),
                    // A file that may grow no more (RLIMIT_FSIZE). Left to itself it kills the process;
                    // caught, the write says EFBIG (setrlimit(2)), and the sink tries again.
                    SIGXFSZ => {}
                    _ if !is_draining => {
                        is_draining = true;
                        handle.drain(drain_timeout);
                    }
                    signal => {
                        say(&report::write(&handle.report(), format));
                        std::process::exit(128 + signal);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(body)?;
        Ok(Serving { close, thread })
    }
}

impl Serving {
    pub(super) fn end(self) {
        self.close.close();
        let _ = self.thread.join();
    }
}
