//! Messages that went to a file that was deleted.

use log::Level;

use super::{Batches, FdWriter};
use crate::server::counted;

/// What was written to a file since it has no name any more: it is gone with the last descriptor.
///
/// The moment of the deletion is known to about a second, by the look before and the look after it:
/// what was written in that second counts, too.
#[derive(Debug, Default)]
pub(super) struct Unlinked {
    /// It had a name when it was looked at. A file that never had one was meant so.
    had_name: bool,
    /// Messages that had been written at the last look.
    seen: u64,
    /// Those of a file that is not written to any more.
    left: u64,
}

impl Unlinked {
    /// Looks at it, before it is written to.
    pub(super) fn of(output: &FdWriter) -> Unlinked {
        Unlinked {
            had_name: output.links().is_some_and(|links| links > 0),
            ..Unlinked::default()
        }
    }

    /// Looks at it for the last time, before another one takes its place.
    pub(super) fn replaced(&mut self, output: &FdWriter, by: &FdWriter) {
        self.left += self.since(output);
        let (seen, left) = (output.accepted(), self.left);
        *self = Unlinked {
            seen,
            left,
            ..Unlinked::of(by)
        };
    }

    /// Looks at it; books and tells what went to nowhere since.
    pub(super) fn look(&mut self, output: &FdWriter, batches: &Batches<'_>) {
        let messages = self.since(output) + std::mem::take(&mut self.left);
        self.seen = output.accepted();
        if messages == 0 {
            return;
        }
        let all = batches.state.count_unlinked(messages);
        batches.receiver.logger().log_limited("unlinked", Level::Warn, || {
            let (name, all) = (output.name(), counted(all, "message"));
            format!(
                "the file of the sink {name} was deleted while it was written to: {all} went to it since"
            )
        });
    }

    /// Messages that were written since the last look, if it is deleted.
    fn since(&mut self, output: &FdWriter) -> u64 {
        match output.links() {
            Some(0) if self.had_name => output.accepted() - self.seen,
            links => {
                self.had_name |= links.is_some_and(|links| links > 0);
                0
            }
        }
    }
}
