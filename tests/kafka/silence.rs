//! librdkafka tries some things again for ever, and tells nobody.

use super::*;

#[test]
fn what_is_tried_again_in_silence_is_told_and_begun_anew() {
    let cluster = cluster();
    let lacking = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 10_000];
    cluster.request_errors(RDKafkaApiKey::Produce, &lacking);
    let server = start(options(&cluster).max_silence(Duration::from_secs(1)));
    send(&server, 1, 100);
    wait_until("the silence is told", DEADLINE, || {
        let report = server.report();
        let error = report.outputs[0].last_error.as_deref().unwrap_or_default();
        error.contains("no answer for 1s")
    });
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    wait_delivered(&server, 100);
    assert_each_once(&cluster, 1, 100);
    assert_both_close(&server.shutdown(DEADLINE));
}

/// A pause between messages is no silence.
#[test]
fn a_sink_with_nothing_to_send_is_not_begun_anew() {
    let cluster = cluster();
    let silence = Duration::from_secs(3);
    let server = start(options(&cluster).max_silence(silence));
    for round in 1..=2 {
        send(&server, 1, 10);
        wait_delivered(&server, round * 10);
        thread::sleep(silence + Duration::from_secs(1));
    }
    let report = server.shutdown(DEADLINE);
    assert_eq!(report.outputs[0].counts.failures, 0, "{report:?}");
}
