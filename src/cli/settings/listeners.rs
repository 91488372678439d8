//! The settings of one listener, a row each, as a `[[listener]]` table of the configuration file
//! has them. What is not set there is as for every listener.

use std::time::Duration;

use drainline::ingest::{Framing, IngestListener, MAX_MESSAGE_RANGE, Oversize};
use drainline::{FirstByteTimeout, Listener, Peers, ranges};

use super::flags::{FIRST_BYTE_TIMEOUT, PEERS};
use super::origin::{Named, Origins};
#[cfg(feature = "tls")]
use super::tls::TlsSettings;
use crate::cli::document::Place;
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{Count, auto, choice, list, off, rate, size, time, unset};
use crate::cli::listen::{ListenUrl, SocketSpec, Url};
use crate::cli::values::{self, Name, Owner, UnixMode, UnixOwner};

/// One listener. [`Default`] stands for what a table leaves out, which no table does with the
/// address.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSettings {
    pub(crate) name: Option<String>,
    pub(crate) address: ListenUrl,
    framing: Option<Framing>,
    max_message: Option<usize>,
    oversize: Option<Oversize>,
    max_connections: Option<usize>,
    rate_limit: Option<Option<u64>>,
    frame_timeout: Option<Option<Duration>>,
    idle_timeout: Option<Option<Duration>>,
    first_byte_timeout: Option<FirstByteTimeout>,
    handshake_timeout: Option<Duration>,
    allow: Option<Option<Vec<Peers>>>,
    proxy_from: Option<Option<Vec<Peers>>>,
    pub(super) unix_mode: Option<u32>,
    unix_owner: Option<Option<UnixOwner>>,
    to: Option<Vec<String>>,
    #[cfg(feature = "tls")]
    pub(super) tls: TlsSettings,
    pub(super) given: Origins,
    /// Where its table begins; `None` for a listener of `listen`.
    pub(super) table: Option<Place>,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        ListenUrl::default().into()
    }
}

impl From<ListenUrl> for ListenerSettings {
    /// A listener without a name and without settings of its own.
    fn from(address: ListenUrl) -> Self {
        ListenerSettings {
            name: None,
            address,
            framing: None,
            max_message: None,
            oversize: None,
            max_connections: None,
            rate_limit: None,
            frame_timeout: None,
            idle_timeout: None,
            first_byte_timeout: None,
            handshake_timeout: None,
            allow: None,
            proxy_from: None,
            unix_mode: None,
            unix_owner: None,
            to: None,
            #[cfg(feature = "tls")]
            tls: TlsSettings::default(),
            given: Origins::default(),
            table: None,
        }
    }
}

impl ListenerSettings {
    /// What a row is called at its place in the table.
    pub(super) fn named(&self, row: &str) -> Named {
        let rows = rows();
        let found = rows.iter().find(|known| known.name == row);
        self.given.named(found.expect("the name of a row"))
    }

    /// Whether its table sets a row.
    pub(super) fn has(&self, row: &str) -> bool {
        self.given.origin(row).is_some()
    }

    /// The value of a row, as it was given.
    pub(super) fn words(&self, row: &str) -> String {
        let rows = rows();
        let found = rows.iter().find(|known| known.name == row);
        found.map_or_else(String::new, |row| self.given.value(row, self))
    }

    #[cfg(test)]
    pub(super) fn forget_origins(&mut self) {
        self.given = Origins::default();
        self.table = None;
    }

    /// Whether the common value of a row holds for the listener where its table has none.
    pub(super) fn inherits(&self, row: &str) -> bool {
        match row {
            // That of all listeners together is no limit of one.
            "max-connections" => false,
            "unix-mode" | "unix-owner" => matches!(self.address.socket, SocketSpec::Unix(_)),
            row if row.starts_with("tls-") => self.address.speaks_tls && self.inherits_tls(row),
            _ => true,
        }
    }

    #[cfg(not(feature = "tls"))]
    fn inherits_tls(&self, _: &str) -> bool {
        false
    }

    /// The longest message, if a length of its own.
    pub(super) fn max_message(&self) -> Option<usize> {
        self.max_message
    }

    /// The names of the outputs that get its messages; `None`: all.
    pub(super) fn to(&self) -> Option<&[String]> {
        self.to.as_deref()
    }

    /// How the listener's messages are told apart, if in a way of its own.
    pub(super) fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Who may connect, if the listener has a list of its own; empty: everybody.
    pub(super) fn allow(&self) -> Option<&[Peers]> {
        let list = self.allow.as_ref()?;
        Some(list.as_deref().unwrap_or_default())
    }

    /// Who names its clients, if the listener has a list of its own; empty: nobody.
    pub(super) fn proxy_from(&self) -> Option<&[Peers]> {
        let list = self.proxy_from.as_ref()?;
        Some(list.as_deref().unwrap_or_default())
    }

    /// A listener with these settings, under the name that it is given.
    pub(crate) fn of(&self, mut listener: Listener, name: Option<&str>) -> IngestListener {
        if let Some(name) = name {
            listener = listener.named(name);
        }
        if let Some(connections) = self.max_connections {
            listener = listener.max_connections(connections);
        }
        if let Some(rate) = self.rate_limit {
            listener = listener.rate_limit(rate);
        }
        if let Some(timeout) = self.frame_timeout {
            listener = listener.frame_timeout(timeout);
        }
        if let Some(timeout) = self.idle_timeout {
            listener = listener.idle_timeout(timeout);
        }
        if let Some(timeout) = self.first_byte_timeout {
            listener = listener.first_byte_timeout(timeout);
        }
        if let Some(timeout) = self.handshake_timeout {
            listener = listener.handshake_timeout(timeout);
        }
        if let Some(peers) = &self.allow {
            listener = listener.allow(peers.iter().flatten().cloned());
        }
        if let Some(balancers) = &self.proxy_from {
            listener = listener.proxy_from(balancers.iter().flatten().cloned());
        }
        if let Some(mode) = self.unix_mode {
            listener = listener.unix_mode(mode);
        }
        if let Some(owner) = self.unix_owner {
            let (uid, gid) = owner
                .map(|owner| (owner.uid, owner.gid))
                .unwrap_or_default();
            listener = listener.unix_owner(uid, gid);
        }
        let mut listener = IngestListener::from(listener);
        if let Some(framing) = self.framing {
            listener = listener.framing(framing);
        }
        if let Some(bytes) = self.max_message {
            listener = listener.max_message(bytes);
        }
        if let Some(oversize) = self.oversize {
            listener = listener.oversize(oversize);
        }
        if let Some(outputs) = &self.to {
            listener = listener.to(outputs);
        }
        listener
    }
}

const GROUP: &str = "A listener";

/// The row whose value every table has.
pub(super) const ADDRESS: &str = "address";
pub(super) const NAME: &str = "name";
/// The row that has names of outputs.
pub(super) const TO: &str = "to";

/// A row of the flag of the same name, for the listener alone.
macro_rules! own {
    ($name:literal, $purpose:literal, $kind:expr, $field:ident) => {
        Flag {
            name: $name,
            group: GROUP,
            purpose: $purpose,
            help: concat!("As --", $name, ", for the connections of this listener."),
            takes: field!(unset($kind), ListenerSettings.$field),
        }
    };
}

/// Every key of a `[[listener]]` table.
pub(crate) fn rows() -> Vec<Flag<ListenerSettings>> {
    #[cfg(feature = "tls")]
    let tls = super::tls::tls_rows!(ListenerSettings, GROUP);
    #[cfg(not(feature = "tls"))]
    let tls: Vec<Flag<ListenerSettings>> = Vec::new();
    plain_rows().into_iter().chain(tls).collect()
}

fn plain_rows() -> Vec<Flag<ListenerSettings>> {
    vec![
        Flag {
            name: NAME,
            group: GROUP,
            purpose: "name of the listener",
            help: "Names the listener in the log, the lists of connections, the port file and the \
                   first line at start. Without a name it is called by its address.",
            takes: field!(unset(Name), ListenerSettings.name),
        },
        Flag {
            name: ADDRESS,
            group: GROUP,
            purpose: "where it listens",
            help: "Where the listener listens, as one value of listen. Every table has it.",
            takes: field!(Url, ListenerSettings.address),
        },
        own!(
            "framing",
            "how its input delimits messages",
            choice(values::FRAMING).shown_as("FRAMING"),
            framing
        ),
        own!(
            "max-message",
            "its longest message",
            size(MAX_MESSAGE_RANGE, "64KiB"),
            max_message
        ),
        own!(
            "oversize",
            "what happens to longer messages",
            choice(values::OVERSIZE),
            oversize
        ),
        Flag {
            name: "max-connections",
            group: GROUP,
            purpose: "most connections of this listener",
            help: "Serves at most this many connections of this listener at once, which count in \
                   --max-connections, too, and cannot be more. Nothing is kept free for the listener: a \
                   limit for each of the others leaves it some. Further clients meet --on-overload.",
            takes: field!(
                unset(Count(ranges::MAX_CONNECTIONS)),
                ListenerSettings.max_connections
            ),
        },
        own!(
            "rate-limit",
            "most messages a second of each",
            off(rate(ranges::RATE_LIMIT, "1000/s")),
            rate_limit
        ),
        own!(
            "frame-timeout",
            "longest time inside one message",
            off(time(ranges::FRAME_TIMEOUT, "30s")),
            frame_timeout
        ),
        own!(
            "idle-timeout",
            "longest silence",
            off(time(ranges::IDLE_TIMEOUT, "10m")),
            idle_timeout
        ),
        own!(
            "first-byte-timeout",
            "longest silence after the connect",
            FIRST_BYTE_TIMEOUT,
            first_byte_timeout
        ),
        own!(
            "handshake-timeout",
            "longest handshake",
            time(ranges::HANDSHAKE_TIMEOUT, "10s"),
            handshake_timeout
        ),
        own!("allow", "who may connect", off(PEERS), allow),
        own!(
            "proxy-from",
            "balancers that name their clients",
            off(PEERS),
            proxy_from
        ),
        Flag {
            name: "unix-mode",
            group: GROUP,
            purpose: "permissions of its Unix socket",
            help: "As --unix-mode, for the socket of this listener.",
            takes: field!(unset(UnixMode), ListenerSettings.unix_mode),
        },
        Flag {
            name: "unix-owner",
            group: GROUP,
            purpose: "user and group of its Unix socket",
            help: "As --unix-owner, for the socket of this listener.",
            takes: field!(unset(auto(Owner)), ListenerSettings.unix_owner),
        },
        Flag {
            name: TO,
            group: GROUP,
            purpose: "outputs that get its messages",
            help: "The names of the outputs that get this listener's messages, at least one of them \
                   required. Without it all outputs do.",
            takes: field!(unset(list(Name)), ListenerSettings.to),
        },
    ]
}
