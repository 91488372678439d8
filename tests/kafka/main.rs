//! The sink of Kafka, before librdkafka's own mock of a cluster: real TCP, three brokers, errors
//! and delays on demand. What is counted as delivered is there, once.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "cli")]
mod bound;
mod fatal;
mod full;
#[cfg(feature = "cli")]
#[cfg_attr(not(feature = "kafka-tls"), allow(dead_code, reason = "for logins"))]
mod gate;
mod keys;
#[cfg(feature = "cli")]
#[cfg_attr(not(feature = "kafka-tls"), allow(dead_code, reason = "for logins"))]
mod login;
mod other;
mod silence;
mod sizes;
#[cfg(feature = "cli")]
mod wire;

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use common::client;
use common::ledger::{assert_both_close, wait_delivered};
use common::wait::{DEADLINE, wait_until};
use drainline::ingest::Ingest;
use drainline::ingest::sink::{Kafka, KafkaCompression, KafkaKey, KafkaOptions};
use drainline::{DropReason, Server};

const TOPIC: &str = "messages";
const BROKERS: i32 = 3;
const PARTITIONS: i32 = 4;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(BROKERS).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, BROKERS).unwrap();
    cluster
}

/// One broker, as a stand-in before it can be.
#[cfg(feature = "cli")]
fn single() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    cluster
}

fn options(cluster: &Cluster) -> KafkaOptions {
    KafkaOptions::new(cluster.bootstrap_servers(), TOPIC)
}

fn start(options: KafkaOptions) -> Server {
    Ingest::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .start(Kafka::new(options).unwrap())
        .unwrap()
}

/// Sends numbered lines over some connections at once.
fn send(server: &Server, connections: u32, each: u32) {
    let addr = server.local_addrs()[0];
    let clients: Vec<_> = (0..connections)
        .map(|connection| {
            thread::spawn(move || {
                let mut stream = client::connect(addr);
                for nth in 0..each {
                    let line = format!("{connection}-{nth}\n");
                    stream.write_all(line.as_bytes()).unwrap();
                }
                client::half_close(stream)
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

struct Record {
    key: Option<Vec<u8>>,
    partition: i32,
    message: Vec<u8>,
}

/// The topic's messages, those of one partition in their order, once `count` have come.
fn messages(brokers: &str, count: usize) -> Vec<Vec<u8>> {
    let records = records(brokers, count).into_iter();
    records.map(|record| record.message).collect()
}

/// As [`messages`], with what is beside them.
fn records(brokers: &str, count: usize) -> Vec<Record> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false");
    let consumer = BaseConsumer::from_config(&config).unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions
            .add_partition_offset(TOPIC, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let mut records = Vec::new();
    wait_until("the topic's messages", DEADLINE, || {
        while let Some(record) = consumer.poll(Duration::from_millis(100)) {
            if let Ok(record) = record {
                records.push(Record {
                    key: record.key().map(<[u8]>::to_vec),
                    partition: record.partition(),
                    message: record.payload().unwrap().to_vec(),
                });
            }
        }
        records.len() >= count
    });
    records
}

/// How often each message is in the topic, once `count` have come.
fn read_back(cluster: &Cluster, count: usize) -> HashMap<Vec<u8>, u32> {
    let mut seen = HashMap::new();
    for message in messages(&cluster.bootstrap_servers(), count) {
        *seen.entry(message).or_insert(0) += 1;
    }
    seen
}

fn assert_each_once(cluster: &Cluster, connections: u32, each: u32) {
    let seen = read_back(cluster, (connections * each) as usize);
    for connection in 0..connections {
        for nth in 0..each {
            let line = format!("{connection}-{nth}").into_bytes();
            assert_eq!(seen.get(&line), Some(&1), "{connection}-{nth}");
        }
    }
    assert_eq!(seen.len() as u32, connections * each);
}

#[test]
fn what_is_delivered_is_in_the_topic_once_whatever_the_round_trip() {
    for compression in [
        KafkaCompression::None,
        KafkaCompression::Lz4,
        KafkaCompression::Snappy,
    ] {
        let cluster = cluster();
        for broker in 1..=BROKERS {
            cluster
                .broker_round_trip_time(broker, Duration::from_millis(20))
                .unwrap();
        }
        let options = options(&cluster)
            .compression(compression)
            .key(KafkaKey::Host);
        let server = start(options);
        send(&server, 4, 2_000);
        wait_delivered(&server, 8_000);
        assert_each_once(&cluster, 4, 2_000);
        let report = server.shutdown(DEADLINE);
        assert_both_close(&report);
        assert_eq!(report.stats.dropped.total(), 0);
    }
}

#[test]
fn an_outage_of_all_brokers_loses_and_doubles_nothing() {
    let cluster = cluster();
    let server = start(options(&cluster));
    send(&server, 2, 500);
    for broker in 1..=BROKERS {
        cluster.broker_down(broker).unwrap();
    }
    send(&server, 2, 500);
    // The outage is told.
    wait_until("the outage is told", DEADLINE, || {
        let report = server.report();
        let error = report.outputs[0].last_error.as_deref().unwrap_or_default();
        // With the reason of one of them.
        error.contains("no broker can be reached: 127.0.0.1:") && report.outputs[0].unanswered > 0
    });
    for broker in 1..=BROKERS {
        cluster.broker_up(broker).unwrap();
    }
    wait_delivered(&server, 2_000);
    let seen = read_back(&cluster, 2_000);
    assert_eq!(seen.len(), 1_000);
    assert!(
        seen.values().all(|&times| times == 2),
        "each was sent twice"
    );
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn errors_of_requests_are_tried_again_without_doubling() {
    let cluster = cluster();
    let server = start(options(&cluster));
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    send(&server, 4, 500);
    wait_delivered(&server, 2_000);
    assert_each_once(&cluster, 4, 500);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_message_that_no_broker_takes_is_refused_and_the_others_arrive() {
    let cluster = cluster();
    let server = start(options(&cluster).message_max_bytes(1_000));
    let mut stream = client::connect(server.local_addrs()[0]);
    let lines = format!("first\n{}\nlast\n", "x".repeat(2_000));
    stream.write_all(lines.as_bytes()).unwrap();
    wait_until("an answer to each", DEADLINE, || {
        let stats = server.stats();
        (stats.delivered, stats.dropped.get(DropReason::Refused)) == (2, 1)
    });
    let seen = read_back(&cluster, 2);
    assert!(seen.contains_key(&b"first"[..]) && seen.contains_key(&b"last"[..]));
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_topic_that_may_not_be_written_to_is_waited_for() {
    let cluster = cluster();
    let denied = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3];
    cluster.request_errors(RDKafkaApiKey::Produce, &denied);
    let server = start(options(&cluster));
    send(&server, 1, 100);
    wait_delivered(&server, 100);
    assert!(server.report().outputs[0].counts.failures > 0);
    assert_each_once(&cluster, 1, 100);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_small_queue_slows_the_senders_down_and_loses_nothing() {
    let cluster = cluster();
    let server = start(options(&cluster).queue_messages(10));
    send(&server, 2, 500);
    wait_delivered(&server, 1_000);
    assert_each_once(&cluster, 2, 500);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_broker_that_never_answers_does_not_hold_up_the_end() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = start(KafkaOptions::new(
        deaf.local_addr().unwrap().to_string(),
        TOPIC,
    ));
    send(&server, 1, 100);
    wait_until("messages received", DEADLINE, || {
        server.stats().received == 100
    });
    let report = server.shutdown(Duration::from_secs(1));
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 100);
    assert_both_close(&report);
}

/// What lingers in librdkafka is sent once the server closes, and not when its time is over: that
/// is after the deadline.
#[test]
fn what_lingers_is_sent_when_the_server_closes() {
    let cluster = cluster();
    let server = start(options(&cluster).linger(*KafkaOptions::LINGER.end()));
    send(&server, 4, 125);
    wait_until("messages received", DEADLINE, || {
        server.stats().received == 500
    });
    let report = server.shutdown(Duration::from_secs(8));
    assert_eq!(report.stats.delivered, 500, "{report:?}");
    assert_both_close(&report);
    assert_each_once(&cluster, 4, 125);
}

/// As whoever runs the program would: a URL, and the exit code 0.
#[cfg(feature = "cli")]
#[test]
fn the_program_writes_to_the_topic_that_its_url_names() {
    let cluster = cluster();
    let brokers = cluster.bootstrap_servers();
    let sink = format!("kafka://{brokers}/{TOPIC}?compression=lz4&key=host&linger=1ms");
    let mut drainline = common::child::Drainline::start(&["--sink", &sink]);
    let mut stream = drainline.connect();
    for nth in 0..1_000 {
        writeln!(stream, "0-{nth}").unwrap();
    }
    client::half_close(stream);
    assert_each_once(&cluster, 1, 1_000);
    let exit = drainline.terminate();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let means = "delivered means that all in-sync replicas";
    assert!(exit.stderr.contains(means), "{}", exit.stderr);
}
