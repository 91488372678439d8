//! The running ingest server, from outside.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ledger::Bytes;
use super::shared::Shared;
use crate::server::{self, Bound, ConnectionInfo, Journal};

/// A running ingest server. Its close semantics are those of [`server::Handle`].
#[derive(Debug)]
pub struct Handle {
    server: server::Handle,
    pub(super) shared: Arc<Shared>,
}

/// Both ledgers, at one moment or at the end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The server's.
    pub server: server::Report,
    /// What became of the bytes.
    pub bytes: Bytes,
    /// How often the sink failed and was tried again.
    pub sink_failures: u64,
    /// How often the sink could not be reopened and went on as it was.
    pub failed_reopens: u64,
    /// Delivered messages that went to a file that somebody had deleted: gone with it. Known to about a second.
    pub unlinked_messages: u64,
}

impl Report {
    /// Whether both ledgers close.
    pub fn is_balanced(&self) -> bool {
        self.server.stats.is_balanced() && self.bytes.is_balanced()
    }
}

impl Handle {
    pub(super) fn new(server: server::Handle, shared: Arc<Shared>) -> Self {
        Handle { server, shared }
    }

    /// As [`server::Handle::local_addrs`].
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.server.local_addrs()
    }

    /// As [`server::Handle::bound`].
    pub fn bound(&self) -> Bound {
        self.server.bound()
    }

    /// Both ledgers now.
    pub fn report(&self) -> Report {
        self.with_bytes(server::Report::so_far(self.server.stats()))
    }

    /// As [`server::Handle::connections`].
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.server.connections()
    }

    /// As [`server::Handle::abort`].
    pub fn abort(&self, id: u64) -> bool {
        self.server.abort(id)
    }

    /// As [`server::Handle::journal`].
    pub fn journal(&self) -> Journal {
        self.server.journal()
    }

    /// Asks the sink to open anew what it writes to. It does within a tenth of a second, even when nothing
    /// flows or it is waiting to try again what failed, unless it is held up in a write. A failure keeps what
    /// it had, is logged and counted.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// As [`server::Handle::drain`].
    pub fn drain(&self, within: Duration) {
        self.server.drain(within);
    }

    /// As [`server::Handle::wait`].
    pub fn wait(&self) -> Report {
        self.with_bytes(self.server.wait())
    }

    /// As [`server::Handle::wait_before_exit`].
    pub fn wait_before_exit(&self) -> Report {
        self.with_bytes(self.server.wait_before_exit())
    }

    /// As [`server::Handle::shutdown`].
    pub fn shutdown(&self, within: Duration) -> Report {
        self.with_bytes(self.server.shutdown(within))
    }

    fn with_bytes(&self, server: server::Report) -> Report {
        Report {
            server,
            bytes: self.shared.ledger.read(),
            sink_failures: self.shared.sink_failures.load(Ordering::Relaxed),
            failed_reopens: self.shared.failed_reopens.load(Ordering::Relaxed),
            unlinked_messages: self.shared.unlinked_messages.load(Ordering::Relaxed),
        }
    }
}
