//! What librdkafka's threads tell the sink: what became of each message, and how the brokers are.

use std::sync::Arc;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::server::Notifier;

/// A message of a batch, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) batch: u64,
    pub(super) nth: u32,
}

impl Place {
    /// More messages than any batch has: a batch is an eighth of the buffer at most, and the bytes
    /// of a read.
    const NTH_BITS: u32 = 24;

    /// What librdkafka hands back with the message's report: it needs no allocation.
    pub(super) fn pack(self) -> usize {
        (self.batch as usize) << Self::NTH_BITS | self.nth as usize
    }

    fn unpack(packed: usize) -> Place {
        Place {
            batch: (packed >> Self::NTH_BITS) as u64,
            nth: (packed & ((1 << Self::NTH_BITS) - 1)) as u32,
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) place: Place,
    /// `None`: the brokers have it.
    pub(super) error: Option<RDKafkaErrorCode>,
}

#[derive(Debug, Default)]
pub(super) struct Reports {
    /// As many as messages are out, at most.
    reports: Mutex<Vec<Report>>,
    state: Mutex<State>,
    notifier: OnceLock<Notifier>,
}

/// How the brokers are, as far as the sink was not told yet.
#[derive(Debug, Default)]
struct State {
    /// No broker can be reached, or none lets us in.
    unreachable: Option<String>,
    warning: Option<String>,
    /// Why a connection was last lost or not made. Kept: librdkafka does not repeat itself for half
    /// a minute.
    cause: Option<String>,
    /// Anything was told at all.
    is_heard: bool,
}

impl Reports {
    /// Who is told of reports. The same for the life of the sink's server.
    pub(super) fn set_notifier(&self, notifier: Notifier) {
        self.notifier.get_or_init(|| notifier);
    }

    pub(super) fn add(&self, report: Report) {
        let is_first = {
            let mut reports = self.reports.lock();
            reports.push(report);
            reports.len() == 1
        };
        if is_first {
            self.state.lock().is_heard = true;
            self.notify();
        }
    }

    fn notify(&self) {
        if let Some(notifier) = self.notifier.get() {
            notifier.notify();
        }
    }

    pub(super) fn take(&self) -> Vec<Report> {
        let mut reports = self.reports.lock();
        if reports.is_empty() {
            return Vec::new();
        }
        // The next ones are likely as many.
        let room = Vec::with_capacity(reports.len());
        std::mem::replace(&mut *reports, room)
    }

    pub(super) fn take_unreachable(&self) -> Option<String> {
        self.state.lock().unreachable.take()
    }

    pub(super) fn take_heard(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_heard)
    }

    pub(super) fn take_warning(&self) -> Option<String> {
        self.state.lock().warning.take()
    }
}

/// Called by librdkafka, on the thread that polls it.
pub(super) struct Context {
    reports: Arc<Reports>,
}

impl Context {
    pub(super) fn new(reports: Arc<Reports>) -> Self {
        Context { reports }
    }
}

impl ClientContext for Context {
    /// Lost connections (`FAIL`) come as errors, too, if they are more than information, and that
    /// no broker is left comes without a reason: it is the last of these. What is `FATAL` is asked
    /// for.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let mut state = self.reports.state.lock();
        if facility == "FAIL" {
            let (_, cause) = text.split_once("]: ").unwrap_or(("", text));
            state.cause = Some(cause.to_owned());
            state.is_heard = true;
        } else if facility != "FATAL" && level as i32 <= RDKafkaLogLevel::Warning as i32 {
            state.warning = Some(format!("{facility}: {text}"));
        }
    }

    fn error(&self, error: KafkaError, why: &str) {
        let mut state = self.reports.state.lock();
        state.is_heard = true;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let cause = state.cause.as_deref().unwrap_or(why);
                state.unreachable = Some(format!("no broker can be reached: {cause}"));
            }
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                state.unreachable = Some(why.to_owned());
            }
            _ => state.warning = Some(why.to_owned()),
        }
        drop(state);
        self.reports.notify();
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, packed: usize) {
        let error = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        self.reports.add(Report {
            place: Place::unpack(packed),
            error,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_way_through_librdkafka() {
        for batch in [0, 1, 4096, (1 << 40) - 1] {
            for nth in [0, 1, (1 << 24) - 1] {
                let place = Place { batch, nth };
                assert_eq!(Place::unpack(place.pack()), place);
            }
        }
    }
}
