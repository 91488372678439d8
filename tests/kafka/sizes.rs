//! A topic that takes less than the sink was told. Brokers judge what comes in one batch, and say
//! of each of its messages that it is too large: once, all of a batch were dropped for that, though
//! each would have been taken alone.

use super::*;

const TOO_LARGE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;

#[test]
fn a_batch_that_is_too_large_is_sent_again_in_order_and_in_smaller_ones() {
    let cluster = cluster();
    cluster.request_errors(RDKafkaApiKey::Produce, &[TOO_LARGE]);
    // All in one partition, and in one batch.
    let options = options(&cluster)
        .key(KafkaKey::Listener)
        .linger(Duration::from_millis(200));
    let server = start(options);
    let mut stream = client::connect(server.local_addrs()[0]);
    let sent: Vec<String> = (0..100).map(|nth| format!("message {nth}")).collect();
    let lines: String = sent.iter().map(|line| format!("{line}\n")).collect();
    stream.write_all(lines.as_bytes()).unwrap();
    wait_until("an answer to each", DEADLINE, || {
        let stats = server.stats();
        stats.delivered + stats.dropped.total() == 100
    });
    let found = messages(&cluster.bootstrap_servers(), 100);
    assert!(
        found
            .iter()
            .map(Vec::as_slice)
            .eq(sent.iter().map(String::as_bytes)),
        "{} messages, or in another order",
        found.len()
    );
    let report = server.shutdown(DEADLINE);
    let error = report.outputs[0].last_error.as_deref().unwrap_or_default();
    assert!(error.contains("max.message.bytes"), "{error}");
    assert_both_close(&report);
}

#[test]
fn a_message_that_is_too_large_alone_is_refused() {
    let cluster = cluster();
    cluster.request_errors(RDKafkaApiKey::Produce, &[TOO_LARGE, TOO_LARGE]);
    // The first batch may have up to 2,000 bytes, the next one 500: it is alone in that.
    let server = start(options(&cluster).message_max_bytes(2_000));
    let mut stream = client::connect(server.local_addrs()[0]);
    let line = format!("{}\n", "x".repeat(1_500));
    stream.write_all(line.as_bytes()).unwrap();
    wait_until("an answer", DEADLINE, || {
        server.stats().dropped.get(DropReason::Refused) == 1
    });
    stream.write_all(b"next\n").unwrap();
    assert_eq!(messages(&cluster.bootstrap_servers(), 1), [b"next"]);
    assert_both_close(&server.shutdown(DEADLINE));
}
