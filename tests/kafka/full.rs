//! librdkafka's queue is full: it takes nothing more until something in it is answered.

use super::*;

/// Room for one message.
fn one(cluster: &Cluster) -> KafkaOptions {
    options(cluster)
        .queue_messages(*KafkaOptions::QUEUE_MESSAGES.start())
        .linger(Duration::ZERO)
}

fn set_up(cluster: &Cluster, is_up: bool) {
    for broker in 1..=BROKERS {
        match is_up {
            true => cluster.broker_up(broker).unwrap(),
            false => cluster.broker_down(broker).unwrap(),
        }
    }
}

#[test]
fn what_has_no_room_is_sent_once_there_is_some_and_that_is_no_failure() {
    let cluster = cluster();
    for broker in 1..=BROKERS {
        let slow = Duration::from_millis(5);
        cluster.broker_round_trip_time(broker, slow).unwrap();
    }
    let server = start(one(&cluster));
    send(&server, 4, 5);
    wait_delivered(&server, 20);
    assert_each_once(&cluster, 4, 5);
    let report = server.shutdown(DEADLINE);
    assert_eq!(report.outputs[0].counts.failures, 0, "{report:?}");
    assert_both_close(&report);
}

/// Of 16 messages the bytes are as many as there is room for, far fewer than the messages.
#[test]
fn what_has_no_room_by_its_bytes_waits_for_brokers_that_are_away() {
    const SIZE: usize = 60_000;
    const COUNT: usize = 60;
    let cluster = cluster();
    let server = start(options(&cluster).queue_bytes(*KafkaOptions::QUEUE_BYTES.start()));
    set_up(&cluster, false);
    let lines: Vec<String> = (0..COUNT)
        .map(|nth| format!("{nth} {}", "x".repeat(SIZE)))
        .collect();
    let mut stream = client::connect(server.local_addrs()[0]);
    for line in &lines {
        writeln!(stream, "{line}").unwrap();
    }
    wait_until("messages received", DEADLINE, || {
        server.stats().received == COUNT as u64
    });
    assert_eq!(server.stats().delivered, 0);
    set_up(&cluster, true);
    let seen = read_back(&cluster, COUNT);
    for line in &lines {
        assert_eq!(seen.get(line.as_bytes()), Some(&1), "{}", &line[..4]);
    }
    wait_delivered(&server, COUNT as u64);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_producer_that_is_given_up_with_a_full_queue_loses_nothing() {
    let cluster = cluster();
    let lacking = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 10_000];
    cluster.request_errors(RDKafkaApiKey::Produce, &lacking);
    let server = start(one(&cluster).max_silence(Duration::from_secs(1)));
    send(&server, 1, 10);
    wait_until("the silence is told", DEADLINE, || {
        server.report().outputs[0].counts.failures > 0
    });
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    wait_delivered(&server, 10);
    assert_each_once(&cluster, 1, 10);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_full_queue_does_not_hold_up_the_end() {
    let cluster = cluster();
    set_up(&cluster, false);
    let server = start(one(&cluster));
    send(&server, 1, 100);
    wait_until("messages received", DEADLINE, || {
        server.stats().received == 100
    });
    let report = server.shutdown(Duration::from_secs(1));
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 100);
    assert_both_close(&report);
}

/// Neither for room in the queue nor for senders who wait for room in the buffer. Before a broker
/// that says nothing: one that is away is tried again after a while, and the sink sleeps meanwhile.
#[cfg(feature = "cli")]
#[test]
fn nothing_spins_while_the_queue_is_full_and_senders_wait() {
    use crate::common::child::Drainline;
    use crate::common::proc;

    const TIME: Duration = Duration::from_secs(2);
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = deaf.local_addr().unwrap();
    let sink = format!("kafka://{broker}/{TOPIC}?queue_messages=1&linger=0s");
    let mut flags = vec!["--sink", &sink, "--buffer-messages", "8"];
    flags.extend(["--send-timeout", "1h", "--pause-after", "off"]);
    flags.extend(["--drain-timeout", "500ms"]);
    let mut drainline = Drainline::start(&flags);
    // More than the buffer holds: each sender waits for room.
    let senders: Vec<_> = (0..4)
        .map(|connection| {
            let mut stream = drainline.connect();
            for nth in 0..25 {
                writeln!(stream, "{connection}-{nth}").unwrap();
            }
            stream
        })
        .collect();
    // What comes of the start is over.
    thread::sleep(Duration::from_secs(1));
    let before = proc::cpu_time(drainline.pid());
    thread::sleep(TIME);
    let used = proc::cpu_time(drainline.pid()) - before;
    assert!(used < TIME / 10, "{used:?} of {TIME:?}");
    drop(senders);
    drainline.terminate().assert_code(4);
}
