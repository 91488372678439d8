//! A topic of Kafka.

mod brokers;
mod options;
mod reports;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use log::Level;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer};

use self::brokers::Brokers;
use self::reports::{Context, Place, Report, Reports};
use super::batches::Batches;
use super::contract::{AT_LEAST_ONCE, Resources, Sink, SinkError};
use crate::ingest::batch::Batch;
use crate::server::counted;

pub use self::options::{KafkaCompression, KafkaKey, KafkaOptions};

/// How long the sink waits for reports before it looks after other things.
const WAIT: Duration = Duration::from_secs(1);
/// The same while the server closes, when librdkafka is asked to linger no more each time.
const LAST_WAIT: Duration = Duration::from_millis(10);
/// The same where nothing more could be handed over, though something was reported:
/// librdkafka makes the room of a message free a moment after it has told its report.
const ROOM_WAIT: Duration = Duration::from_millis(1);
/// How long a producer that is given up has to say what became of its messages.
const MAX_GIVING_UP: Duration = Duration::from_secs(10);
/// How long a producer that works has for what is under way, before it is given up.
const MAX_ARRIVING: Duration = Duration::from_secs(2);

/// Adds messages to a topic of Kafka, each as the value of one record. Delivered means that all
/// in-sync replicas have the record (`acks=all`), as the broker's report says.
///
/// librdkafka sends: idempotently, so that its own retries neither lose, double nor reorder
/// records, and without a time limit, so that an outage of the brokers is waited for. The messages
/// that are out are bounded ([`KafkaOptions::queue_bytes`],
/// [`queue_messages`](KafkaOptions::queue_messages)); while they are, the senders are slowed down.
///
/// **At least once:** whatever has no report when a producer is given up, after a fatal error of
/// the broker's or a long silence ([`max_silence`](KafkaOptions::max_silence)), is sent again by
/// the next one. What has none at the server's last deadline counts as dropped, though it may have
/// arrived.
///
/// A record that no broker will ever take (it is larger than the topic allows, or invalid) is
/// counted as [`Refused`](crate::DropReason::Refused), and the log says why. Whatever else fails is
/// sent again: a topic that does not exist yet may be made, a right be granted. Brokers judge the
/// size of what comes in one batch, and refuse all of it: its records are sent again in smaller
/// ones, until one that is refused was alone.
///
/// A record's time is the one at which its message was received. The partition is chosen by the
/// key's CRC-32, or at random, for several records at once, where there is none.
///
/// # Drop
/// Closes the connections to the brokers, for which librdkafka takes a second or so.
pub struct Kafka {
    name: String,
    config: ClientConfig,
    topic: String,
    key: KafkaKey,
    resources: Resources,
    brokers: Brokers,
    /// The most bytes of records in one batch. The brokers may take less than was said.
    batch_bytes: usize,
    max_silence: Duration,
    /// When librdkafka last told something, or had nothing to tell of.
    heard_at: Instant,
    /// `None`: it was given up, and the next one is not made yet.
    producer: Option<ThreadedProducer<Context>>,
    reports: Arc<Reports>,
    /// The first batch of which not every message was handed to the producer, and the first such
    /// message.
    next: Place,
    /// Messages to be handed to the producer again.
    again: Vec<Place>,
}

impl Kafka {
    /// A sink that adds to a topic. Connects later, in the background: brokers that are away are no
    /// error here.
    ///
    /// # Errors
    /// librdkafka does not take the options, in its words.
    pub fn new(options: KafkaOptions) -> io::Result<Kafka> {
        // Threads that run when the server counts its own would count twice, so the producer is
        // made when the sink runs.
        options.check()?;
        Ok(Kafka {
            name: options.name(),
            producer: None,
            config: options.config(),
            topic: options.topic.clone(),
            key: options.key,
            resources: options.resources(),
            brokers: Brokers::new(options.counted_brokers()),
            batch_bytes: options.batch_bytes(),
            max_silence: options.max_silence,
            heard_at: Instant::now(),
            reports: Arc::default(),
            next: Place::default(),
            again: Vec::new(),
        })
    }

    /// The producer, which is made if there is none.
    fn producer(&mut self) -> Result<ThreadedProducer<Context>, SinkError> {
        if let Some(producer) = &self.producer {
            return Ok(producer.clone());
        }
        let made = make_producer(&self.config, &self.reports).map_err(SinkError::Retry)?;
        Ok(self.producer.insert(made).clone())
    }

    /// Hands over what is to be sent. Says whether the producer took all.
    fn send_all(&mut self, batches: &Batches<'_>) -> Result<bool, SinkError> {
        let producer = self.producer()?;
        if self.reports.take_heard() || producer.in_flight_count() == 0 {
            self.heard_at = Instant::now();
        }
        // The first is taken first: of one partition, they stay in order.
        self.again.sort_unstable_by(|one, other| other.cmp(one));
        while let Some(&place) = self.again.last() {
            if let Some(batch) = batches.get(place.batch)
                && let Some(message) = batch.iter().nth(place.nth as usize)
                && !self.send(&producer, &self.origin_of(batch), message, place)
            {
                return Ok(false);
            }
            self.again.pop();
        }
        let mut next = self.next;
        let mut is_full = false;
        'batches: while let Some(batch) = batches.get(next.batch) {
            let origin = self.origin_of(batch);
            for message in batch.iter().skip(next.nth as usize) {
                if !self.send(&producer, &origin, message, next) {
                    is_full = true;
                    break 'batches;
                }
                next.nth += 1;
            }
            next = Place {
                batch: next.batch + 1,
                nth: 0,
            };
        }
        self.next = next;
        Ok(!is_full)
    }

    /// Hands a message over; `false` if the producer has no room for it. Whatever else keeps it
    /// from being sent is reported as the brokers' answers are.
    fn send(
        &self,
        producer: &ThreadedProducer<Context>,
        origin: &Origin,
        message: &[u8],
        place: Place,
    ) -> bool {
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.topic, place.pack())
            .payload(message)
            .timestamp(origin.received_ms);
        if let Some(key) = &origin.key {
            record = record.key(key.as_bytes());
        }
        match producer.send(record) {
            Ok(()) => true,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => false,
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                let error = Some(code.unwrap_or(RDKafkaErrorCode::Fail));
                self.reports.add(Report { place, error });
                true
            }
        }
    }

    /// Nothing is worth waiting for once the server closes. librdkafka sends what lingers while it
    /// flushes, which is over before each of its threads has seen that: so it is asked again with
    /// each turn. Says how long the turn may wait.
    fn end_linger_if_closing(&self, batches: &Batches<'_>) -> Duration {
        match &self.producer {
            Some(producer) if batches.is_closing() => {
                let _ = producer.flush(Duration::ZERO);
                LAST_WAIT
            }
            _ => WAIT,
        }
    }

    fn origin_of(&self, batch: &Batch) -> Origin {
        let received_at = batch.received_at().duration_since(UNIX_EPOCH);
        Origin {
            key: self.key_of(batch),
            received_ms: received_at.map_or(0, |since| since.as_millis() as i64),
        }
    }

    fn key_of(&self, batch: &Batch) -> Option<String> {
        match self.key {
            KafkaKey::None => None,
            KafkaKey::Listener => Some(batch.listener().to_owned()),
            KafkaKey::Host => Some(batch.peer().host()),
        }
    }

    /// Whether a record was too large as the only one of its batch, or for librdkafka itself.
    /// Brokers say the same of each record of a batch that is too large.
    fn was_alone(&self, batches: &Batches<'_>, place: Place) -> bool {
        let Some(batch) = batches.get(place.batch) else {
            return true;
        };
        let message = batch.iter().nth(place.nth as usize).map_or(0, <[u8]>::len);
        let key = self.key_of(batch).map_or(0, |key| key.len());
        // librdkafka puts nothing beside a record that is as long as a batch may be.
        message + key >= self.batch_bytes
    }

    /// Tells the batches what the brokers said. Says whether they said anything.
    ///
    /// # Errors
    /// Some message has failed that is to be sent again.
    fn take_reports(&mut self, batches: &mut Batches<'_>) -> Result<bool, SinkError> {
        let mut failed = None;
        let mut is_batch_too_large = false;
        let mut refused = None;
        // Of one batch, one after the other: most come so.
        let mut run = (0, 0);
        let reports = self.reports.take();
        let is_told = !reports.is_empty();
        for Report { place, error } in reports {
            match error {
                None if run.0 == place.batch => run.1 += 1,
                None => {
                    batches.ack_at(run.0, run.1);
                    run = (place.batch, 1);
                }
                Some(code @ RDKafkaErrorCode::MessageSizeTooLarge)
                    if !self.was_alone(batches, place) =>
                {
                    self.again.push(place);
                    failed = Some(code);
                    is_batch_too_large = true;
                }
                Some(code) if is_refusal(code) => {
                    batches.refuse_at(place.batch, 1);
                    let (_, count) = refused.unwrap_or((code, 0));
                    refused = Some((code, count + 1));
                }
                Some(code) => {
                    self.again.push(place);
                    failed = Some(code);
                }
            }
        }
        batches.ack_at(run.0, run.1);
        if let Some((code, count)) = refused {
            let (name, messages) = (&self.name, counted(count, "message"));
            batches.logger().log_limited("refused", Level::Warn, || {
                format!("the sink {name} refused {messages}, which are dropped: {code}")
            });
        }
        if is_batch_too_large {
            self.send_smaller_batches(batches)?;
        }
        match failed {
            None => Ok(is_told),
            Some(code) => Err(SinkError::Retry(io::Error::other(code.to_string()))),
        }
    }

    /// Gives up the producer for one of smaller batches: what was told when it was made holds for
    /// its life.
    fn send_smaller_batches(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let refused = self.batch_bytes;
        let smaller = (refused / 4).max(1);
        // None: it is being given up, and this comes of that.
        if self.producer.is_some() {
            // What is under way may yet arrive, and would be there twice.
            self.give_up(batches, MAX_ARRIVING)?;
            self.batch_bytes = smaller;
            self.config.set("batch.size", smaller.to_string());
        }
        let text = format!(
            "the topic takes no batches of {refused} bytes (its max.message.bytes is less than \
             message_max_bytes): those of {smaller} are sent"
        );
        Err(SinkError::Retry(io::Error::other(text)))
    }

    /// Gives up a producer that has failed for good: its messages say only that it has.
    fn give_up_if_fatal(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let fatal = self
            .producer
            .as_ref()
            .and_then(|it| it.client().fatal_error());
        let Some((_, why)) = fatal else {
            return Ok(());
        };
        self.give_up(batches, Duration::ZERO)?;
        let text = format!("{why}; its messages are sent again");
        Err(SinkError::Retry(io::Error::other(text)))
    }

    /// Gives up a producer: the next one begins where it was. What is under way has a while to
    /// arrive.
    fn give_up(&mut self, batches: &mut Batches<'_>, arriving: Duration) -> Result<(), SinkError> {
        let Some(producer) = self.producer.take() else {
            return Ok(());
        };
        // Each message that is out gets its report now, so none is forgotten and none counted
        // twice.
        producer.purge(PurgeConfig::default().queue());
        let begun = Instant::now();
        let mut is_purged = false;
        while producer.in_flight_count() > 0 {
            if batches.is_timed_out() {
                return Ok(());
            }
            if begun.elapsed() >= arriving && !is_purged {
                producer.purge(PurgeConfig::default().queue().inflight());
                is_purged = true;
            }
            if begun.elapsed() >= arriving + MAX_GIVING_UP {
                let text = "librdkafka does not say what became of its messages";
                return Err(SinkError::Fatal(io::Error::other(text)));
            }
            let _ = producer.flush(Duration::from_millis(100));
        }
        drop(producer);
        // That they were purged is no failure of its own.
        let _ = self.take_reports(batches);
        Ok(())
    }
}

impl KafkaOptions {
    /// Whether librdkafka takes the options. Reads the files that they name, and connects to
    /// nobody.
    ///
    /// # Errors
    /// What it does not take, in its words.
    pub fn check(&self) -> io::Result<()> {
        let mut config = self.config();
        // A producer that knows of brokers connects to them at once.
        config.remove("bootstrap.servers");
        make_producer(&config, &Arc::default()).map(drop)
    }
}

/// What all records of a batch have in common.
struct Origin {
    key: Option<String>,
    /// In milliseconds since 1970.
    received_ms: i64,
}

/// Whether no try will ever succeed.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        InvalidMessage, InvalidMessageSize, InvalidRecord, InvalidTimestamp, MessageSizeTooLarge,
    };
    matches!(
        code,
        InvalidMessage
            | InvalidMessageSize
            | InvalidRecord
            | InvalidTimestamp
            | MessageSizeTooLarge
    )
}

fn make_producer(
    config: &ClientConfig,
    reports: &Arc<Reports>,
) -> io::Result<ThreadedProducer<Context>> {
    let context = Context::new(Arc::clone(reports));
    ThreadedProducer::from_config_and_context(config, context).map_err(|error| match error {
        // Without the value, which may be a password.
        KafkaError::ClientConfig(_, why, option, _) => {
            io::Error::other(format!("librdkafka does not take {option}: {why}"))
        }
        error => io::Error::other(error.to_string()),
    })
}

impl Sink for Kafka {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn delivered_means(&self) -> String {
        format!("all in-sync replicas of the topic have the message ({AT_LEAST_ONCE})")
    }

    fn resources(&self) -> Resources {
        self.resources
    }

    fn uses_output_framing(&self) -> bool {
        false
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.reports.set_notifier(batches.notifier());
        while batches.first().is_some() {
            self.give_up_if_fatal(batches)?;
            let is_told = self.take_reports(batches)?;
            let took_all = self.send_all(batches)?;
            if let Some(text) = self.reports.take_unreachable() {
                return Err(SinkError::Retry(io::Error::other(text)));
            }
            if self.heard_at.elapsed() >= self.max_silence {
                self.give_up(batches, Duration::ZERO)?;
                let text = format!(
                    "no answer for {:?}, and no word why: its messages are sent again",
                    self.max_silence
                );
                return Err(SinkError::Retry(io::Error::other(text)));
            }
            let window = if took_all { Batches::MAX_WINDOW } else { 0 };
            let wait = self.end_linger_if_closing(batches);
            let wait = if is_told && !took_all {
                ROOM_WAIT
            } else {
                wait
            };
            if batches.first().is_some() && !batches.more(window, wait) {
                break;
            }
        }
        Ok(())
    }

    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        if !batches.is_closing() {
            // It looks for the brokers before the first message comes.
            let producer = self.producer()?;
            if let Some(text) = self.brokers.look(&producer, &self.topic) {
                let name = &self.name;
                let line = format!("the sink {name}: {text}");
                batches.logger().log(Level::Error, line);
            }
        }
        if let Some(text) = self.reports.take_warning() {
            let name = &self.name;
            let line = || format!("the sink {name}: {text}");
            batches
                .logger()
                .log_limited("librdkafka", Level::Warn, line);
        }
        Ok(())
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
