//! What the options of all schemes have in common.

use std::fmt::{self, Display};
use std::io;

/// The group of the rows of outputs.
pub(crate) const GROUP: &str = "An output";

/// Values of an output that do not go together.
#[derive(Debug)]
pub(crate) struct Contradiction {
    /// The name of the row that is told.
    pub(crate) row: &'static str,
    /// What would go: `no password_file beside it`.
    pub(crate) expected: String,
}

impl Contradiction {
    pub(crate) fn new(row: &'static str, expected: impl Into<String>) -> Contradiction {
        let expected = expected.into();
        Contradiction { row, expected }
    }
}

/// A value of an output that can never be, which only the sink itself can tell: the error of a
/// scheme's check and of its open.
#[derive(Debug)]
pub(crate) struct Unfit(pub(crate) io::Error);

impl Unfit {
    /// Whether this is one.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Unfit>())
    }

    /// What a sink refuses as a value, rather than for how things are.
    pub(crate) fn of(error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::InvalidInput => io::Error::new(error.kind(), Unfit(error)),
            _ => error,
        }
    }
}

impl Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Unfit {}
