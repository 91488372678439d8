//! How many brokers a cluster has, against how many the limits count.

use std::time::{Duration, Instant};

use rdkafka::producer::{Producer, ThreadedProducer};

use super::reports::Context;

/// As often as librdkafka asks for itself.
const EVERY: Duration = Duration::from_secs(300);
/// Where nobody has answered.
const AGAIN: Duration = Duration::from_secs(10);
/// How long an answer may take: nothing else is done meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// librdkafka starts a thread for each broker of a cluster when it hears of it, and has no option
/// against that. So what the limits do not count can only be told.
#[derive(Debug)]
pub(super) struct Brokers {
    counted: usize,
    /// How many there were at the last look.
    found: usize,
    /// When to look next.
    look_at: Instant,
}

impl Brokers {
    pub(super) fn new(counted: usize) -> Brokers {
        Brokers {
            counted,
            found: 0,
            look_at: Instant::now(),
        }
    }

    /// Asks the cluster, if that is due, and says what there is to tell. Waits for an answer.
    pub(super) fn look(
        &mut self,
        producer: &ThreadedProducer<Context>,
        topic: &str,
    ) -> Option<String> {
        if Instant::now() < self.look_at {
            return None;
        }
        // Of the topic, which librdkafka knows: with none, all of the cluster would be listed.
        let metadata = producer.client().fetch_metadata(Some(topic), PATIENCE);
        let found = metadata.map(|metadata| metadata.brokers().len());
        let is_known = found.is_ok();
        self.look_at = Instant::now() + if is_known { EVERY } else { AGAIN };
        self.found(found.ok()?)
    }

    fn found(&mut self, brokers: usize) -> Option<String> {
        let before = std::mem::replace(&mut self.found, brokers);
        let counted = self.counted;
        (brokers != before && brokers > counted).then(|| {
            format!(
                "the cluster has {brokers} brokers, and the limits count {counted}: librdkafka has \
                 a thread and a connection for each, so threads, descriptors and memory may pass \
                 the limits; to count them, set max_brokers={brokers}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_are_not_counted_are_told_once_and_when_their_number_changes() {
        let mut brokers = Brokers::new(3);
        let told = [3, 4, 4, 5, 3, 2, 5].map(|found| brokers.found(found).is_some());
        assert_eq!(told, [false, true, false, true, false, false, true]);
    }
}
