//! What a topic is written with, and what that takes.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rdkafka::config::ClientConfig;

use crate::ingest::sink::contract::Resources;

/// By what librdkafka chooses a record's partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KafkaKey {
    /// By nothing: records have no key, and are spread over the partitions.
    #[default]
    None,
    /// The peer's address without its port, or its user at a Unix socket: messages of one machine
    /// stay in order.
    Host,
    /// The listener's name.
    Listener,
}

/// How librdkafka compresses what it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KafkaCompression {
    /// Not at all.
    #[default]
    None,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

impl fmt::Display for KafkaCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KafkaCompression::None => "none",
            KafkaCompression::Lz4 => "lz4",
            KafkaCompression::Snappy => "snappy",
        })
    }
}

/// How messages are written to a topic of Kafka.
#[derive(Clone)]
pub struct KafkaOptions {
    brokers: String,
    name: Option<String>,
    pub(super) topic: String,
    pub(super) key: KafkaKey,
    compression: KafkaCompression,
    linger: Duration,
    queue_bytes: usize,
    queue_messages: usize,
    message_max_bytes: usize,
    max_brokers: usize,
    pub(super) max_silence: Duration,
    security: Vec<(&'static str, String)>,
}

impl KafkaOptions {
    /// What [`queue_bytes`](KafkaOptions::queue_bytes) may be.
    pub const QUEUE_BYTES: RangeInclusive<usize> = 1 << 20..=2 << 30;
    /// What [`queue_messages`](KafkaOptions::queue_messages) may be.
    pub const QUEUE_MESSAGES: RangeInclusive<usize> = 1..=10_000_000;
    /// What [`message_max_bytes`](KafkaOptions::message_max_bytes) may be: librdkafka's range.
    pub const MESSAGE_MAX_BYTES: RangeInclusive<usize> = 1_000..=1_000_000_000;
    /// What [`linger`](KafkaOptions::linger) may be.
    pub const LINGER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
    /// What [`linger`](KafkaOptions::linger) is where nothing is said.
    pub const DEFAULT_LINGER: Duration = Duration::from_millis(5);
    /// What [`queue_bytes`](KafkaOptions::queue_bytes) is where nothing is said.
    pub const DEFAULT_QUEUE_BYTES: usize = 32 << 20;
    /// What [`queue_messages`](KafkaOptions::queue_messages) is where nothing is said.
    pub const DEFAULT_QUEUE_MESSAGES: usize = 100_000;
    /// What [`message_max_bytes`](KafkaOptions::message_max_bytes) is where nothing is said.
    pub const DEFAULT_MESSAGE_MAX_BYTES: usize = 1_000_000;
    /// What [`max_silence`](KafkaOptions::max_silence) is where nothing is said: longer than a
    /// broker may take for one request (30 s), and than librdkafka takes to find that one is away.
    pub const DEFAULT_MAX_SILENCE: Duration = Duration::from_secs(60);
    /// What [`max_brokers`](KafkaOptions::max_brokers) may be.
    pub const MAX_BROKERS: RangeInclusive<usize> = 1..=1_000;
    /// What [`max_brokers`](KafkaOptions::max_brokers) is where nothing is said.
    pub const DEFAULT_MAX_BROKERS: usize = 16;

    /// The brokers to begin with, `HOST:PORT` each and separated by commas (port 9092 may be left
    /// out), and a topic. No key, no compression, 5 ms of linger, 32 MiB and 100,000 messages of
    /// queue, records of up to 1,000,000 bytes, 16 brokers.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        KafkaOptions {
            brokers: brokers.into(),
            name: None,
            topic: topic.into(),
            key: KafkaKey::default(),
            compression: KafkaCompression::default(),
            linger: Self::DEFAULT_LINGER,
            queue_bytes: Self::DEFAULT_QUEUE_BYTES,
            queue_messages: Self::DEFAULT_QUEUE_MESSAGES,
            message_max_bytes: Self::DEFAULT_MESSAGE_MAX_BYTES,
            max_brokers: Self::DEFAULT_MAX_BROKERS,
            max_silence: Self::DEFAULT_MAX_SILENCE,
            security: Vec::new(),
        }
    }

    /// What the log calls the sink. Default: its URL, `kafka://BROKERS/TOPIC`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The records' key. Default: none.
    #[must_use]
    pub fn key(mut self, key: KafkaKey) -> Self {
        self.key = key;
        self
    }

    /// How records are compressed. Default: not at all.
    #[must_use]
    pub fn compression(mut self, compression: KafkaCompression) -> Self {
        self.compression = compression;
        self
    }

    /// How long librdkafka waits for more records before it sends one
    /// ([`LINGER`](KafkaOptions::LINGER)), unless the server closes. Default: 5 ms.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// The most bytes of records that are out ([`QUEUE_BYTES`](KafkaOptions::QUEUE_BYTES)): as many
    /// as throughput times round trip at least. Default: 32 MiB.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// The most records that are out ([`QUEUE_MESSAGES`](KafkaOptions::QUEUE_MESSAGES)). Default:
    /// 100,000.
    #[must_use]
    pub fn queue_messages(mut self, messages: usize) -> Self {
        self.queue_messages = messages;
        self
    }

    /// The largest record, in bytes ([`MESSAGE_MAX_BYTES`](KafkaOptions::MESSAGE_MAX_BYTES)): at
    /// most what the topic takes (`max.message.bytes`). A longer message is refused. Default:
    /// 1,000,000.
    #[must_use]
    pub fn message_max_bytes(mut self, bytes: usize) -> Self {
        self.message_max_bytes = bytes;
        self
    }

    /// How many brokers the limits count ([`MAX_BROKERS`](KafkaOptions::MAX_BROKERS)): as many as
    /// the cluster has, at least. librdkafka has a thread and a connection for each broker that it
    /// hears of, and cannot be kept from that; the log says if the cluster has more. Default: 16.
    #[must_use]
    pub fn max_brokers(mut self, brokers: usize) -> Self {
        self.max_brokers = brokers;
        self
    }

    /// How long messages may be out while librdkafka says nothing, neither of them nor of the
    /// brokers; then it is begun anew, and sends them again. So that nothing hangs for good:
    /// librdkafka tries for ever, and in silence, where a broker has forgotten its producer, or has
    /// too few replicas in sync. Default: 60 s.
    #[must_use]
    pub fn max_silence(mut self, silence: Duration) -> Self {
        self.max_silence = silence;
        self
    }

    /// Speaks TLS with the brokers, whose certificates are to be of the CAs in the file of PEM, or
    /// of the system's. Needs the feature `kafka-tls`.
    #[must_use]
    pub fn tls(mut self, ca_file: Option<&str>) -> Self {
        self.set("security.protocol", "ssl");
        if let Some(file) = ca_file {
            self.set("ssl.ca.location", file);
        }
        self
    }

    /// Shows the brokers a client certificate. Paths to PEM; to be called after
    /// [`tls`](KafkaOptions::tls).
    #[must_use]
    pub fn client_certificate(mut self, certificate_file: &str, key_file: &str) -> Self {
        self.set("ssl.certificate.location", certificate_file);
        self.set("ssl.key.location", key_file);
        self
    }

    /// Logs in, by `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; over TLS if
    /// [`tls`](KafkaOptions::tls) was called before. Needs the feature `kafka-tls`.
    #[must_use]
    pub fn sasl(mut self, mechanism: &str, user: &str, password: &str) -> Self {
        let speaks_tls = self.security.iter().any(|(_, value)| value == "ssl");
        let protocol = if speaks_tls {
            "sasl_ssl"
        } else {
            "sasl_plaintext"
        };
        self.set("security.protocol", protocol);
        self.set("sasl.mechanism", mechanism);
        self.set("sasl.username", user);
        self.set("sasl.password", password);
        self
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.security.retain(|(set, _)| *set != name);
        self.security.push((name, value.to_owned()));
    }

    pub(super) fn name(&self) -> String {
        let url = || format!("kafka://{}/{}", self.brokers, self.topic);
        self.name.clone().unwrap_or_else(url)
    }

    /// The most bytes of records in one batch.
    pub(super) fn batch_bytes(&self) -> usize {
        self.message_max_bytes.min(BATCH_BYTES)
    }

    pub(super) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "drainline")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // No limit: an outage is waited for, and the server's drain ends the wait.
            .set("message.timeout.ms", "0")
            .set("compression.codec", self.compression.to_string())
            .set("linger.ms", self.linger.as_millis().to_string())
            .set(
                "queue.buffering.max.kbytes",
                (self.queue_bytes >> 10).to_string(),
            )
            .set(
                "queue.buffering.max.messages",
                self.queue_messages.to_string(),
            )
            .set("message.max.bytes", self.message_max_bytes.to_string())
            .set("batch.size", self.batch_bytes().to_string())
            .set("receive.message.max.bytes", ANSWER_BYTES.to_string())
            .set("reconnect.backoff.max.ms", "5000")
            .set("socket.keepalive.enable", "true");
        for (name, value) in &self.security {
            config.set(*name, value);
        }
        config
    }

    fn given(&self) -> usize {
        self.brokers.split(',').count()
    }

    /// How many brokers of the cluster the limits count.
    pub(super) fn counted_brokers(&self) -> usize {
        self.max_brokers.max(self.given())
    }

    /// What the sink will take of the system ([`Sink::resources`](crate::ingest::Sink::resources)).
    // librdkafka has a thread for itself, one for its internal broker, and one for each broker,
    // those to begin with and those that it was told of; ours polls. A broker has a socket and a
    // pipe. Beside the queue, whose records it holds until they are reported, each broker may have
    // five requests under way of a batch each, which is a copy, and is read an answer of.
    pub fn resources(&self) -> Resources {
        let brokers = (self.counted_brokers() + self.given()) as u64;
        let queue = self.queue_bytes as u64 + self.queue_messages as u64 * RECORD_BYTES;
        let batches = (self.queue_bytes as u64).max(self.message_max_bytes as u64);
        Resources {
            threads: 3 + brokers,
            descriptors: 8 + 4 * brokers,
            memory_bytes: queue + batches + brokers * BROKER_BYTES + LIBRARY_BYTES,
        }
    }
}

/// As much as librdkafka sends in one batch where nothing is said.
const BATCH_BYTES: usize = 1_000_000;
/// What librdkafka adds to each record, and what is kept of its report here.
const RECORD_BYTES: u64 = 512;
/// The longest answer of a broker that is read. That to a batch is short, and that to the question
/// for the topic has some 42 bytes for each partition of three replicas, and as many for a broker.
const ANSWER_BYTES: u64 = 512 << 10;
/// An answer, and librdkafka's thread with its buffers.
const BROKER_BYTES: u64 = ANSWER_BYTES + (64 << 10);
/// librdkafka itself, and what it keeps of each partition that an answer tells of: 1.9 KB, as
/// measured, of some 12,000; beside that the answer as it is read, five times as long.
const LIBRARY_BYTES: u64 = (4 << 20) + (28 << 20);

/// Without what is secret.
impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As librdkafka has it, which gives up after 5 minutes and asks for no idempotence where
    /// nothing is said.
    #[test]
    fn messages_have_no_time_limit_and_are_reported_by_all_replicas() {
        let config = KafkaOptions::new("localhost", "topic").config();
        let config = config.create_native_config().expect("a configuration");
        for (name, value) in [
            ("message.timeout.ms", "0"),
            ("acks", "-1"),
            ("enable.idempotence", "true"),
        ] {
            assert_eq!(config.get(name), Ok(value.to_owned()), "{name}");
        }
    }
}
