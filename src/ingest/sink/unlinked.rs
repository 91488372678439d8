//! Messages that went to a file that was deleted.

use log::Level;

use super::batches::Batches;
use super::fd_writer::FdWriter;
use crate::server::counted;

/// Counts messages that are written to a file that has no name any more: the messages are gone with
/// the file's last descriptor.
///
/// The moment of the deletion is known to about a second, by the look before and the look after it:
/// what was written in that second counts, too.
#[derive(Debug, Default)]
pub(super) struct Unlinked {
    /// The file had a name at some look. A file that never had a name was meant to have none.
    had_name: bool,
    /// Messages that had been written at the last look.
    seen: u64,
    /// Messages to a deleted file that another one has replaced, not booked yet.
    left: u64,
}

impl Unlinked {
    /// Looks at a file before anything is written to it.
    pub(super) fn of(output: &FdWriter) -> Unlinked {
        Unlinked {
            had_name: output.links().is_some_and(|links| links > 0),
            ..Unlinked::default()
        }
    }

    /// Looks at the file for the last time, before `by` takes its place.
    pub(super) fn replaced(&mut self, output: &FdWriter, by: &FdWriter) {
        self.left += self.since(output);
        let (seen, left) = (output.accepted(), self.left);
        *self = Unlinked {
            seen,
            left,
            ..Unlinked::of(by)
        };
    }

    /// Looks at the file; books and logs the messages that were lost to its deletion since.
    pub(super) fn look(&mut self, output: &FdWriter, batches: &Batches<'_>) {
        let messages = self.since(output) + std::mem::take(&mut self.left);
        self.seen = output.accepted();
        if messages == 0 {
            return;
        }
        let all = batches.state().count_unlinked(messages);
        batches.logger().log_limited("the file is deleted", Level::Warn, || {
            let (name, all) = (output.name(), counted(all, "message"));
            format!(
                "the file of the sink {name} was deleted while it was written to: {all} went to it since"
            )
        });
    }

    /// Messages that were written since the last look, if the file is deleted.
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
