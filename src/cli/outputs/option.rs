//! What the options of all schemes have in common.

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
