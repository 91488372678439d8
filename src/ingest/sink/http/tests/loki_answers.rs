//! What Loki answers that is no fault of a message.

use super::super::answer::Verdict;
use super::super::dialect::Dialect;
use super::answers::{is_again, judged};
use super::loki;

/// Whoever blocks what comes in takes no message, whatever the status says.
#[test]
fn a_loki_that_is_blocked_has_taken_nothing() {
    let blocked =
        "ingestion blocked for user fake until '2030-01-01T00:00:00Z' with status code '260'";
    assert!(is_again(
        &judged(&loki(&[("job", "x")]), 260, blocked, 2),
        true
    ));
    assert_eq!(judged(&Dialect::NdJson, 260, blocked, 2), Verdict::Accepted);
}

/// The labels are the configuration's: no message is refused for their number.
#[test]
fn too_many_labels_of_loki_refuse_no_message() {
    let loki = loki(&[("job", "x")]);
    let stream = r#"{a="1", b="' has 9 label names; limit 8"}"#;
    for labels in [
        format!("entry for stream '{stream}' has 16 label names; limit 15"),
        format!("stream '{stream}' has 16 label names; limit 15\n"),
        format!("2 errors like: entry for stream '{stream}' has 16 label names; limit 15"),
        "error at least one label pair is required per stream".to_owned(),
    ] {
        assert!(is_again(&judged(&loki, 400, &labels, 2), true), "{labels}");
        let other = judged(&Dialect::NdJson, 400, &labels, 2);
        assert!(matches!(other, Verdict::Refused(_)), "{labels}");
    }
    for entry in [
        format!("entry for stream '{stream}' has timestamp too new: 2030-01-01T00:00:00Z"),
        format!("max entry size '9' bytes exceeded for stream '{stream}' while adding an entry"),
        format!("stream '{stream}' has 16 label names; limit 15 bytes"),
    ] {
        let verdict = judged(&loki, 400, &entry, 2);
        assert!(
            matches!(verdict, Verdict::Refused(_)),
            "{entry}: {verdict:?}"
        );
    }
}
