//! `kafka://BROKERS/TOPIC`: a topic of Kafka.

use std::ffi::OsStr;
use std::io;
#[cfg(feature = "kafka-tls")]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::sink;
use drainline::ingest::sink::{KafkaCompression, KafkaKey, KafkaOptions};

#[cfg(feature = "kafka-tls")]
use super::option::Contradiction;
use super::option::GROUP;
#[cfg(feature = "kafka-tls")]
use super::option::Unfit;
use super::scheme::{Checked, Common, Form, Opened, Scheme};
#[cfg(feature = "kafka-tls")]
use super::secret::{PASSWORD, SecretSource, secret_rows};
#[cfg(feature = "kafka-tls")]
use super::tls::TlsFiles;
use super::url::{authority, host_and_port};
#[cfg(feature = "kafka-tls")]
use crate::cli::files;
#[cfg(feature = "kafka-tls")]
use crate::cli::flag::part_rows;
use crate::cli::flag::{Flag, field};
#[cfg(feature = "kafka-tls")]
use crate::cli::kinds::TrueOrFalse;
use crate::cli::kinds::{Choices, Count, NotAccepted, choice, size, time};
use crate::cli::stderr::Stderr;

const DEFAULT_PORT: u16 = 9092;
/// What Kafka takes for the name of a topic.
const MAX_TOPIC: usize = 249;

const KEY: Choices<KafkaKey> = &[
    ("none", KafkaKey::None),
    ("host", KafkaKey::Host),
    ("listener", KafkaKey::Listener),
];
const COMPRESSION: Choices<KafkaCompression> = &[
    ("none", KafkaCompression::None),
    ("lz4", KafkaCompression::Lz4),
    ("snappy", KafkaCompression::Snappy),
];

#[derive(Clone, Debug)]
pub(super) struct Kafka {
    hosts: String,
    topic: String,
    key: KafkaKey,
    compression: KafkaCompression,
    linger: Duration,
    queue_bytes: usize,
    queue_messages: usize,
    message_max_bytes: usize,
    max_brokers: usize,
    #[cfg(feature = "kafka-tls")]
    access: Access,
}

/// How the brokers know whom they speak with.
#[cfg(feature = "kafka-tls")]
#[derive(Clone, Debug)]
struct Access {
    speaks_tls: bool,
    files: TlsFiles,
    user: Option<String>,
    mechanism: &'static str,
    password: SecretSource,
}

#[cfg(feature = "kafka-tls")]
impl Default for Access {
    fn default() -> Self {
        Access {
            speaks_tls: false,
            files: TlsFiles::default(),
            user: None,
            mechanism: "SCRAM-SHA-512",
            password: SecretSource::default(),
        }
    }
}

#[cfg(feature = "kafka-tls")]
const MECHANISM: Choices<&'static str> = &[
    ("plain", "PLAIN"),
    ("scram-sha-256", "SCRAM-SHA-256"),
    ("scram-sha-512", "SCRAM-SHA-512"),
];

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            hosts: String::new(),
            topic: String::new(),
            key: KafkaKey::default(),
            compression: KafkaCompression::default(),
            linger: KafkaOptions::DEFAULT_LINGER,
            queue_bytes: KafkaOptions::DEFAULT_QUEUE_BYTES,
            queue_messages: KafkaOptions::DEFAULT_QUEUE_MESSAGES,
            message_max_bytes: KafkaOptions::DEFAULT_MESSAGE_MAX_BYTES,
            max_brokers: KafkaOptions::DEFAULT_MAX_BROKERS,
            #[cfg(feature = "kafka-tls")]
            access: Access::default(),
        }
    }
}

impl Kafka {
    fn options(&self) -> io::Result<KafkaOptions> {
        let options = KafkaOptions::new(&self.hosts, &self.topic)
            .named(self.url())
            .key(self.key)
            .compression(self.compression)
            .linger(self.linger)
            .queue_bytes(self.queue_bytes)
            .queue_messages(self.queue_messages)
            .message_max_bytes(self.message_max_bytes)
            .max_brokers(self.max_brokers);
        #[cfg(feature = "kafka-tls")]
        let options = self.access.given(options)?;
        Ok(options)
    }

    /// librdkafka names the option of a file that it cannot use, and not the file.
    fn named(&self, error: io::Error) -> io::Error {
        #[cfg(feature = "kafka-tls")]
        {
            let TlsFiles { ca, cert, key } = &self.access.files;
            let text = error.to_string();
            let options = ["ssl.ca", "ssl.certificate", "ssl.key"];
            for (option, path) in options.into_iter().zip([ca, cert, key]) {
                let failed = format!("{option}.location failed: ");
                if let (Some(path), Some((_, why))) = (path, text.split_once(&failed)) {
                    let text = format!("{}: {why}", path.display());
                    return Unfit::of(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
            }
        }
        error
    }
}

#[cfg(feature = "kafka-tls")]
impl Access {
    fn given(&self, mut options: KafkaOptions) -> io::Result<KafkaOptions> {
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| {
                let text = format!("{}: not UTF-8", path.display());
                Unfit::of(io::Error::new(io::ErrorKind::InvalidInput, text))
            })
        };
        // librdkafka would name neither the file nor what is wrong with it.
        let TlsFiles { ca, cert, key } = &self.files;
        for path in [ca, cert, key].into_iter().flatten() {
            let failed = |error| io::Error::other(format!("{}: {error}", path.display()));
            files::open_regular(path).map_err(failed)?;
        }
        if self.speaks_tls {
            let ca = ca.as_deref().map(text).transpose()?;
            options = options.tls(ca.as_deref());
        }
        if let (Some(cert), Some(key)) = (cert, key) {
            options = options.client_certificate(&text(cert)?, &text(key)?);
        }
        if let (Some(user), Some(password)) = (&self.user, self.password.read()?) {
            options = options.sasl(self.mechanism, user, password.reveal());
        }
        Ok(options)
    }

    fn contradiction(&self) -> Option<Contradiction> {
        let files = (self.files).contradiction(self.speaks_tls, "tls = true beside it");
        if files.is_some() {
            return files;
        }
        let needs = |expected: &str| Some(Contradiction::new("password", expected));
        let has_password = self.password != SecretSource::default();
        match (&self.user, has_password) {
            (None, true) => needs("a user in the URL: kafka://USER@BROKERS/TOPIC"),
            (Some(_), false) => needs("a password for the user of the URL"),
            _ => self.password.contradiction(PASSWORD),
        }
    }

    fn rows() -> Vec<Flag<Kafka>> {
        let mut rows = vec![
            Flag {
                name: "tls",
                group: GROUP,
                purpose: "speak TLS with the brokers",
                help: "Speaks TLS with the brokers, whose certificates have to be of a CA in tls_ca, \
                       or else of the system's.",
                takes: field!(TrueOrFalse, Kafka.access.speaks_tls),
            },
            Flag {
                name: "sasl-mechanism",
                group: GROUP,
                purpose: "how the user logs in",
                help: "How the user of the URL logs in. plain sends the password as it is: only with \
                       tls = true.",
                takes: field!(choice(MECHANISM), Kafka.access.mechanism),
            },
        ];
        rows.extend(part_rows!(Kafka.access.files, TlsFiles::rows()));
        rows.extend(secret_rows!(
            Kafka.access.password,
            "password",
            "the user's password"
        ));
        rows
    }
}

impl Scheme for Kafka {
    const FORMS: &'static [Form] = &[Form {
        prefix: "kafka://",
        place: "BROKERS/TOPIC",
        has_options: true,
    }];
    const HELP: &'static str = "Adds each message to a topic of Kafka, by librdkafka. BROKERS are HOST or HOST:PORT \
         (9092), several with commas; those of the cluster are found by them. Delivered means that \
         all in-sync replicas have the message, at least once. An outage of the brokers is waited \
         for: senders are slowed down as with any slow sink.";
    const IS_FRAMED: bool = false;

    fn rows() -> Vec<Flag<Self>> {
        #[allow(unused_mut, reason = "for the rows of a feature")]
        let mut rows = vec![
            Flag {
                name: "key",
                group: GROUP,
                purpose: "what chooses the partition",
                help: "By what a message's partition is chosen. With host, the address of its sender, \
                       messages of one machine stay in order; with none they are spread over the \
                       partitions.",
                takes: field!(choice(KEY), Kafka.key),
            },
            Flag {
                name: "compression",
                group: GROUP,
                purpose: "how records are compressed",
                help: "How librdkafka compresses what it sends, each batch by itself.",
                takes: field!(choice(COMPRESSION), Kafka.compression),
            },
            Flag {
                name: "linger",
                group: GROUP,
                purpose: "wait for more records",
                help: "How long a record waits for others that are sent with it. Longer means larger \
                       requests and less work for the brokers.",
                takes: field!(time(KafkaOptions::LINGER, "5ms"), Kafka.linger),
            },
            Flag {
                name: "queue-bytes",
                group: GROUP,
                purpose: "most bytes on their way",
                help: "Most bytes of messages that were handed to librdkafka and are not reported as \
                       delivered yet. The limits count them twice.",
                takes: field!(size(KafkaOptions::QUEUE_BYTES, "32MiB"), Kafka.queue_bytes),
            },
            Flag {
                name: "queue-messages",
                group: GROUP,
                purpose: "most messages on their way",
                help: "Most messages that were handed to librdkafka and are not reported as delivered \
                       yet. The limits count 512 bytes for each.",
                takes: field!(Count(KafkaOptions::QUEUE_MESSAGES), Kafka.queue_messages),
            },
            Flag {
                name: "message-max-bytes",
                group: GROUP,
                purpose: "largest record",
                help: "The largest record; at most the topic's max.message.bytes. A longer message is \
                       dropped as refused, and told.",
                takes: field!(
                    size(KafkaOptions::MESSAGE_MAX_BYTES, "1MB"),
                    Kafka.message_max_bytes
                ),
            },
            Flag {
                name: "max-brokers",
                group: GROUP,
                purpose: "brokers that the limits count",
                help: "How many brokers the cluster has at most. The limits count a thread, 4 \
                       descriptors and 0.6 MiB for each, and those of the URL once more. librdkafka \
                       takes as much for each broker of a larger cluster, too; then the log says so.",
                takes: field!(Count(KafkaOptions::MAX_BROKERS), Kafka.max_brokers),
            },
        ];
        #[cfg(feature = "kafka-tls")]
        rows.extend(Access::rows());
        rows
    }

    fn read(_: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        let authority = authority(place)?;
        for host in authority.hosts.split(',') {
            host_and_port(host, DEFAULT_PORT)?;
        }
        let is_of_topic = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match authority.path.as_str() {
            "" => return Err(NotAccepted::because("no topic")),
            "." | ".." => return Err(NotAccepted::because("no topic has that name")),
            topic if topic.len() > MAX_TOPIC || !topic.chars().all(is_of_topic) => {
                let why = "a topic's name has at most 249 letters, digits, dots, _ and -";
                return Err(NotAccepted::because(why));
            }
            _ => {}
        }
        #[cfg(not(feature = "kafka-tls"))]
        if authority.user.is_some() || authority.password.is_some() {
            let why = "to log in takes a drainline with the feature kafka-tls";
            return Err(NotAccepted::because(why));
        }
        Ok(Kafka {
            hosts: authority.hosts,
            topic: authority.path,
            #[cfg(feature = "kafka-tls")]
            access: Access {
                user: authority.user,
                password: SecretSource {
                    text: authority.password,
                    ..SecretSource::default()
                },
                ..Access::default()
            },
            ..Kafka::default()
        })
    }

    fn url(&self) -> String {
        #[cfg(feature = "kafka-tls")]
        if let Some(user) = &self.access.user {
            return format!("kafka://{user}@{}/{}", self.hosts, self.topic);
        }
        format!("kafka://{}/{}", self.hosts, self.topic)
    }

    #[cfg(feature = "kafka-tls")]
    fn contradiction(&self) -> Option<Contradiction> {
        self.access.contradiction()
    }

    #[cfg(feature = "kafka-tls")]
    fn is_idle(&self, row: &str) -> bool {
        self.access.user.is_none() && row == "sasl-mechanism"
    }

    #[cfg(feature = "kafka-tls")]
    fn without_secrets(&self) -> Self {
        let mut bare = self.clone();
        if bare.access.password.text.take().is_some() {
            bare.access.user = None;
        }
        bare
    }

    fn notes(&self, common: Common<'_>) -> Vec<String> {
        let most = self.message_max_bytes;
        let note =
            common.note_of_longest(&self.url(), "drops, as refused,", "message_max_bytes", most);
        note.into_iter().collect()
    }

    fn check(&self, _: Common<'_>) -> io::Result<Checked> {
        let options = self.options()?;
        options.check().map_err(|error| self.named(error))?;
        Ok(Checked {
            resources: options.resources(),
            ..Checked::default()
        })
    }

    fn open(&self, _: Common<'_>, _: &Arc<Stderr>) -> io::Result<Opened> {
        let kafka = sink::Kafka::new(self.options()?);
        Ok(Opened::new(kafka.map_err(|error| self.named(error))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Option<Kafka> {
        let read = super::super::read(typed.as_ref()).ok()?;
        read.destination.get::<Kafka>().cloned()
    }

    #[test]
    fn a_url_has_brokers_and_a_topic_of_a_name_that_kafka_takes() {
        for typed in [
            "kafka://localhost/logs",
            "kafka://a:1,b,[::1]:9093/logs.of_all-1",
            "kafka://a/..a",
        ] {
            let kafka = read(typed).unwrap_or_else(|| panic!("{typed} is refused"));
            assert_eq!(kafka.url(), typed);
        }
        let long = format!("kafka://a/{}", "x".repeat(MAX_TOPIC + 1));
        for typed in [
            "kafka://",
            "kafka://a",
            "kafka://a/",
            "kafka:///t",
            "kafka://a,/t",
            "kafka://a:x/t",
            "kafka://a/b c",
            "kafka://a/b/c",
            "kafka://a/.",
            "kafka://a/..",
            &long,
        ] {
            assert!(read(typed).is_none(), "{typed}");
        }
    }
}
