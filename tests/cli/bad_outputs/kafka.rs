//! Rows of Kafka: with TLS and logins, without, and without Kafka.

use super::Wrong::{self, Value};
#[cfg(feature = "kafka")]
use super::Wrong::{Now, Together};

#[cfg(feature = "kafka")]
pub(super) const URLS: &[(&str, Wrong, &str)] = &[
    ("kafka://", Value, "expected kafka://BROKERS/TOPIC"),
    ("kafka://h", Value, "no topic"),
    ("kafka://h/", Value, "no topic"),
    ("kafka:///t", Value, "no host"),
    ("kafka://h:0/t", Value, "no port"),
    ("kafka://h:x/t", Value, "no port"),
    ("kafka://[::1/t", Value, "no ]"),
    ("kafka://a,:1/t", Value, "no host"),
    ("kafka://h/..", Value, "no topic has that name"),
    ("kafka://h/a b", Value, "at most 249 letters"),
    ("kafka://h/a/b", Value, "at most 249 letters"),
    ("kafka://me:hunter2/x@h/t", Value, "%2F and %40"),
    ("kafka://h/t?key=peer", Value, "none, host or listener"),
    ("kafka://h/t?compression=zip", Value, "none, lz4 or snappy"),
    ("kafka://h/t?linger=11s", Value, "to 10s"),
    ("kafka://h/t?queue_bytes=1", Value, "from 1MiB"),
    ("kafka://h/t?queue_messages=0", Value, "from 1 to 10000000"),
    ("kafka://h/t?message_max_bytes=1", Value, "from 1000B"),
    ("kafka://h/t?max_brokers=0", Value, "from 1 to 1000"),
    ("kafka://h/t?window=1MiB", Value, "'window'"),
    ("kafka://h/t?framing=nul", Together, "a sink of one stream"),
];
#[cfg(not(feature = "kafka"))]
pub(super) const URLS: &[(&str, Wrong, &str)] =
    &[("kafka://me:hunter2@h/t", Value, "feature kafka")];

#[cfg(feature = "kafka-tls")]
pub(super) const OF_TLS: &[(&str, Wrong, &str)] = &[
    (
        "kafka://me@h/t",
        Together,
        "a password for the user of the URL",
    ),
    ("kafka://:hunter2@h/t", Together, "a user in the URL"),
    (
        "kafka://h/t?password=hunter2",
        Together,
        "a user in the URL",
    ),
    (
        "kafka://me:hunter2@h/t?password_env=A",
        Together,
        "one of password",
    ),
    (
        "kafka://me@h/t?password_env=NO_SUCH_VARIABLE",
        Value,
        "NO_SUCH_VARIABLE",
    ),
    (
        "kafka://me@h/t?password_file={}/empty",
        Value,
        "expected a secret in it",
    ),
    (
        "kafka://me@h/t?password_file={}/latin",
        Value,
        "expected UTF-8",
    ),
    ("kafka://me@h/t?password_file={}/nosuch", Now, "nosuch"),
    (
        "kafka://me@h/t?password_file={}/fifo",
        Now,
        "fifo: not a regular file",
    ),
    (
        "kafka://me:hunter2@h/t?sasl_mechanism=gssapi",
        Value,
        "plain, scram-sha-256 or scram-sha-512",
    ),
    ("kafka://h/t?tls=maybe", Value, "true or false"),
    ("kafka://h/t?tls_ca=x", Together, "tls = true beside it"),
    ("kafka://h/t?tls=true&tls_ca={}/nosuch", Now, "nosuch"),
    ("kafka://h/t?tls=true&tls_ca={}/dir", Now, "is a directory"),
    (
        "kafka://h/t?tls=true&tls_ca={}/fifo",
        Now,
        "fifo: not a regular file",
    ),
    ("kafka://h/t?tls=true&tls_ca={}/empty", Value, "/empty: "),
    (
        "kafka://h/t?tls=true&tls_cert={}/empty",
        Together,
        "a tls_key beside it",
    ),
    (
        "kafka://h/t?tls=true&tls_key={}/empty",
        Together,
        "a tls_cert beside it",
    ),
    (
        "kafka://h/t?tls=true&tls_cert={}/many&tls_key={}/empty",
        Value,
        "/many: ",
    ),
    (
        "kafka://h/t?tls=true&tls_server_name=a",
        Value,
        "'tls_server_name'",
    ),
];
#[cfg(all(feature = "kafka", not(feature = "kafka-tls")))]
pub(super) const OF_TLS: &[(&str, Wrong, &str)] = &[
    ("kafka://me:hunter2@h/t", Value, "the feature kafka-tls"),
    ("kafka://h/t?tls=true", Value, "'tls'"),
];
#[cfg(not(feature = "kafka"))]
pub(super) const OF_TLS: &[(&str, Wrong, &str)] = &[];
