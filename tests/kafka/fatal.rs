//! What makes a producer fail for good.

use super::*;

/// Waits until the output's last error has this in it, and returns it.
#[track_caller]
fn wait_told(server: &Server, part: &str) -> String {
    let mut told = String::new();
    wait_until("the reason is told", DEADLINE, || {
        let report = server.report();
        told = report.outputs[0]
            .last_error
            .as_deref()
            .unwrap_or_default()
            .to_owned();
        told.contains(part)
    });
    told
}

#[test]
fn brokers_that_know_no_idempotence_are_told_in_one_line_and_get_nothing() {
    let cluster = cluster();
    cluster
        .apiversion(RDKafkaApiKey::InitProducerId, None, None)
        .unwrap();
    let server = start(options(&cluster));
    send(&server, 1, 100);
    let told = wait_told(&server, "Idempotent producer not supported");
    assert_eq!(told.lines().count(), 1, "{told}");
    let report = server.shutdown(Duration::from_secs(1));
    assert_eq!(report.stats.delivered, 0);
    assert_both_close(&report);
}

#[test]
fn a_producer_that_is_refused_for_good_is_followed_by_another() {
    let cluster = cluster();
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 1_000];
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &refused);
    let server = start(options(&cluster));
    send(&server, 1, 100);
    wait_told(&server, "Cluster authorization failed");
    cluster.clear_request_errors(RDKafkaApiKey::InitProducerId);
    wait_delivered(&server, 100);
    assert_each_once(&cluster, 1, 100);
    assert_both_close(&server.shutdown(DEADLINE));
}
