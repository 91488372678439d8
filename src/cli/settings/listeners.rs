//! The settings of one listener, a row each, as a `[[listener]]` table of the configuration file
//! has them. What is not set there is as for every listener.

use drainline::Listener;

use super::origin::{Named, Origins};
use crate::cli::document::Place;
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::unset;
use crate::cli::listen::{ListenUrl, Url};
use crate::cli::values::Name;

/// One listener. [`Default`] stands for what a table leaves out, which no table does with the
/// address.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSettings {
    pub(crate) name: Option<String>,
    pub(crate) address: ListenUrl,
    pub(super) given: Origins,
    /// Where its table begins; `None` for a listener of `listen`.
    pub(super) table: Option<Place>,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        super::fields::default_listen().into()
    }
}

impl From<ListenUrl> for ListenerSettings {
    /// A listener without a name and without settings of its own.
    fn from(address: ListenUrl) -> Self {
        ListenerSettings {
            name: None,
            address,
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

    #[cfg(test)]
    pub(super) fn forget_origins(&mut self) {
        self.given = Origins::default();
        self.table = None;
    }

    /// A listener with these settings.
    pub(super) fn of(&self, listener: Listener) -> Listener {
        match &self.name {
            Some(name) => listener.named(name.as_str()),
            None => listener,
        }
    }
}

const GROUP: &str = "A listener";

/// The row whose value every table has.
pub(super) const ADDRESS: &str = "address";
pub(super) const NAME: &str = "name";

/// Every key of a `[[listener]]` table.
pub(crate) fn rows() -> Vec<Flag<ListenerSettings>> {
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
    ]
}
