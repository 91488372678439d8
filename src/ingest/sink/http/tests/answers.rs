//! What an answer means: for each message, for the place, or for nothing.

use std::io::{self, Write};
use std::time::Duration;

use super::super::answer::{Failure, Fate, Head, Verdict, judge, judge_encoded};
use super::super::dialect::{Dialect, SplunkFields};
use super::*;

pub(super) fn judged(dialect: &Dialect, status: u16, body: &str, messages: u64) -> Verdict {
    let head = Head {
        status,
        reason: "Reason",
        retry_after: Some("7"),
        location: Some("https://else.example/"),
        secrets: &Secrets::default(),
    };
    judge(dialect, &head, body.as_bytes(), messages)
}

pub(super) fn is_again(verdict: &Verdict, lasting: bool) -> bool {
    matches!(verdict, Verdict::Again(failure) if failure.is_lasting == lasting
        && failure.after == Some(Duration::from_secs(7)))
}

#[test]
fn a_status_says_whether_the_messages_are_wrong_or_the_place_or_the_time() {
    let judged = |status| judged(&Dialect::NdJson, status, "because", 2);
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(judged(status), Verdict::Accepted, "{status}");
    }
    for status in [400, 422] {
        let why = format!("it answers {status} Reason: because");
        assert_eq!(judged(status), Verdict::Refused(why));
    }
    assert!(matches!(judged(413), Verdict::TooLarge(_)));
    for status in [301, 302, 307, 308, 401, 403, 404, 405, 407, 415] {
        assert!(is_again(&judged(status), true), "{status}");
    }
    for status in [408, 425, 429, 500, 502, 503, 504, 507, 599] {
        assert!(is_again(&judged(status), false), "{status}");
    }
    let told = format!("{:?}", judged(302));
    assert!(told.contains("https://else.example/"), "{told}");
}

#[test]
fn an_answer_of_bulk_is_each_documents_own() {
    let judged = |body: &str| judged(&bulk(None), 200, body, 3);
    let item = |status: u16| {
        format!(r#"{{"create":{{"status":{status},"error":{{"type":"t","reason":"r"}}}}}}"#)
    };
    let items = |statuses: [u16; 3]| {
        let items = statuses.map(item).join(",");
        format!(r#"{{"errors":true,"items":[{items}]}}"#)
    };
    assert_eq!(judged(r#"{"errors":false}"#), Verdict::Accepted);
    assert_eq!(judged(&items([201, 201, 409])), Verdict::Accepted);
    let Verdict::Each(fates, failure) = judged(&items([201, 429, 400])) else {
        panic!();
    };
    assert_eq!(fates, [Fate::Accepted, Fate::Again, Fate::Refused]);
    let why = "of 3 documents it has refused 1, and 1 are sent again: 429 t: r";
    assert_eq!(failure, Failure::passing(why));
    let Verdict::Each(fates, failure) = judged(&items([403, 503, 404])) else {
        panic!();
    };
    assert!(fates.iter().all(|fate| *fate == Fate::Again) && failure.is_lasting);
    // It says that all went well, and that some did not.
    let contradiction = items([201, 429, 201]).replace("true", "false");
    assert!(matches!(judged(&contradiction), Verdict::Each(..)));
    // Not all are told of, or the answer is none: nothing is counted, and the next copy is sent in
    // a minute.
    let two = r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":201}}]}"#;
    for wrong in [
        "",
        "{}",
        "ok",
        r#"{"errors":true}"#,
        r#"{"took":1,"items":[]}"#,
        two,
    ] {
        let verdict = judged(wrong);
        let Verdict::Again(failure) = &verdict else {
            panic!("{wrong}: {verdict:?}");
        };
        let minute = Some(Duration::from_secs(60));
        assert!(failure.is_lasting && failure.after == minute, "{wrong}");
    }
    // It may be whole the next time.
    assert!(is_again(&judged(r#"{"errors":fal"#), false));
    let index = Dialect::Bulk {
        index: None,
        action: BulkAction::Index,
    };
    let conflict = super::answer::judge(
        &index,
        &Head {
            status: 200,
            reason: "",
            retry_after: None,
            location: None,
            secrets: &Secrets::default(),
        },
        items([201, 201, 409]).as_bytes(),
        3,
    );
    assert!(matches!(conflict, Verdict::Each(fates, _) if fates[2] == Fate::Refused));
}

#[test]
fn splunk_tells_which_event_is_wrong_and_when_it_is_none() {
    let dialect = Dialect::Splunk(SplunkFields::default());
    let judged = |body: &str| judged(&dialect, 400, body, 3);
    let wrong = r#"{"text":"Invalid data format","code":6,"invalid-event-number":1}"#;
    assert!(matches!(judged(wrong), Verdict::RefusedAt(1, _)));
    let beyond = wrong.replace(":1}", ":3}");
    assert!(matches!(judged(&beyond), Verdict::Refused(_)));
    assert!(is_again(
        &judged(r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#),
        true
    ));
    assert!(matches!(judged("no JSON"), Verdict::Refused(_)));
    for code in [1, 7, 10, 11, 14, 16, 99] {
        let text = format!(r#"{{"text":"t","code":{code},"invalid-event-number":1}}"#);
        assert!(is_again(&judged(&text), true), "{code}");
    }
    for code in [5, 6, 12, 13, 15] {
        let text = format!(r#"{{"text":"t","code":{code}}}"#);
        assert!(matches!(judged(&text), Verdict::Refused(_)), "{code}");
    }
}

#[test]
fn splunks_code_says_what_was_taken_whatever_the_status() {
    let fields = SplunkFields::default();
    for dialect in [Dialect::Splunk(fields.clone()), Dialect::SplunkRaw(fields)] {
        for status in [200, 201, 400] {
            let judged = |body: &str| judged(&dialect, status, body, 3);
            let coded = |code| judged(&format!(r#"{{"text":"t", "code" : {code}}}"#));
            for code in [8, 9, 18, 20, 23, 26] {
                assert!(is_again(&coded(code), false), "{status}: {code}");
            }
            for code in [1, 4, 7, 10, 17, 99] {
                assert!(is_again(&coded(code), true), "{status}: {code}");
            }
            assert!(matches!(coded(5), Verdict::Refused(_)), "{status}");
            let wrong = r#"{"text":"t","code":6,"invalid-event-number":1}"#;
            assert!(matches!(judged(wrong), Verdict::RefusedAt(1, _)));
        }
        let taken = r#"{"text":"Success","code":0,"ackId":7}"#;
        assert_eq!(judged(&dialect, 200, taken, 3), Verdict::Accepted);
        for other in [
            "",
            "ok",
            "{}",
            "<html>login</html>",
            r#"{"text":"\"code\":0"}"#,
            r#"{"code":"0"}"#,
        ] {
            assert_is_no_answer(&judged(&dialect, 200, other, 3), other);
        }
    }
}

/// It may have been stored, and somebody has to look.
fn assert_is_no_answer(verdict: &Verdict, what: &str) {
    let Verdict::Again(failure) = verdict else {
        panic!("{what:.80}: {verdict:?}");
    };
    let minute = Some(Duration::from_secs(60));
    assert!(
        failure.is_lasting && failure.after == minute,
        "{what:.80}: {failure:?}"
    );
}

#[test]
fn the_page_of_a_login_is_no_answer_of_loki() {
    let loki = loki(&[("a", "b")]);
    for taken in ["", "\n", "ok", "{}"] {
        for status in [200, 204] {
            assert_eq!(judged(&loki, status, taken, 1), Verdict::Accepted);
        }
    }
    for page in ["<html>login</html>", "\u{feff}\r\n <!DOCTYPE html><title>"] {
        assert_is_no_answer(&judged(&loki, 200, page, 1), page);
        // To lines anything is an answer.
        assert_eq!(judged(&Dialect::NdJson, 200, page, 1), Verdict::Accepted);
        let head = Head {
            status: 200,
            reason: "",
            retry_after: None,
            location: None,
            secrets: &Secrets::default(),
        };
        let judged = |encoding, body: &[u8]| judge_encoded(&loki, &head, Some(encoding), body, 1);
        assert_is_no_answer(&judged("gzip", &gzipped(page)), page);
        assert_is_no_answer(&judged("br", b"\x8b"), "br");
        assert_eq!(judged("gzip", b""), Verdict::Accepted);
        assert_eq!(judged("br", b""), Verdict::Accepted);
    }
}

#[test]
fn an_answer_without_an_end_counts_for_nothing() {
    let splunk = Dialect::Splunk(SplunkFields::default());
    for dialect in [Dialect::NdJson, loki(&[("a", "b")]), splunk] {
        for status in [200, 400, 413, 503] {
            let head = Head {
                status,
                reason: "",
                retry_after: None,
                location: None,
                secrets: &Secrets::default(),
            };
            let verdict = judge(&dialect, &head, io::repeat(b' '), 1);
            assert_is_no_answer(&verdict, &format!("{dialect:?} {status}"));
        }
    }
    // As one that sends back what it got does.
    let echo = "x".repeat(8 << 20);
    assert_eq!(judged(&Dialect::NdJson, 200, &echo, 1), Verdict::Accepted);
}

/// A document is one of a hundred thousand, an index is there for all of them.
#[test]
fn a_document_is_not_refused_for_its_index() {
    let judged = |kind: &str, reason: &str| {
        let item = format!(
            r#"{{"create":{{"status":400,"error":{{"type":"{kind}","reason":"{reason}"}}}}}}"#
        );
        judged(
            &bulk(None),
            200,
            &format!(r#"{{"errors":true,"items":[{item},{item}]}}"#),
            2,
        )
    };
    let shards = "Validation Failed: 1: this action would add [2] shards, but this cluster \
                  currently has [1000]/[1000] maximum normal shards open;";
    for (kind, reason) in [
        ("validation_exception", shards),
        ("index_closed_exception", "closed"),
        (
            "illegal_argument_exception",
            "pipeline with id [a] does not exist",
        ),
        (
            "illegal_argument_exception",
            "only write ops with an op_type of create are allowed in data streams",
        ),
        (
            "illegal_argument_exception",
            "no write index is defined for alias [logs]. The write index may be",
        ),
    ] {
        let Verdict::Each(fates, failure) = judged(kind, reason) else {
            panic!("{kind}");
        };
        assert_eq!(fates, [Fate::Again; 2], "{kind}: {reason}");
        assert!(
            failure.is_lasting && failure.why.contains("400"),
            "{failure:?}"
        );
    }
    for (kind, reason) in [
        (
            "mapper_parsing_exception",
            "validation_exception: index_closed_exception: ",
        ),
        (
            "document_parsing_exception",
            "pipeline with id [a] does not exist",
        ),
        (
            "illegal_argument_exception",
            "Limit of total fields [1000] has been exceeded",
        ),
        (
            "illegal_argument_exception",
            "field [pipeline with id [a] does not exist]",
        ),
    ] {
        let Verdict::Each(fates, _) = judged(kind, reason) else {
            panic!("{kind}");
        };
        assert_eq!(fates, [Fate::Refused; 2], "{kind}: {reason}");
    }
}

/// What stands before the server, or the URL: no message is at fault.
#[test]
fn a_400_of_another_server_refuses_no_message() {
    let nginx = "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title>\
                 </head>\r\n<body>";
    let apache = format!(
        "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n{}<br />\nReason: You're speaking \
         plain HTTP to an SSL-enabled server port.<br />\n",
        "<p>Your browser sent a request that this server could not understand. ".repeat(5)
    );
    let go = "Client sent an HTTP request to an HTTPS server.\n";
    let tomcat = "Bad Request\r\nThis combination of host and port requires TLS.\r\n";
    let splunk = Dialect::Splunk(SplunkFields::default());
    for dialect in [
        Dialect::NdJson,
        bulk(None),
        loki(&[("a", "b")]),
        splunk.clone(),
    ] {
        for page in [nginx, &apache, go, tomcat] {
            assert!(
                is_again(&judged(&dialect, 400, page, 2), true),
                "{dialect:?}: {page}"
            );
        }
        // A server that quotes a message.
        for quoted in [
            go,
            "&lt;title>400 No required SSL certificate was sent&lt;/title>",
        ] {
            let text = format!("cannot read \"{quoted}");
            let verdict = judged(&dialect, 400, &text, 2);
            assert!(
                matches!(verdict, Verdict::Refused(_)),
                "{dialect:?}: {verdict:?}"
            );
        }
    }
    let page = "<html><title>Bad</title>cannot read";
    assert!(is_again(&judged(&splunk, 400, page, 2), true));
    assert!(matches!(
        judged(&Dialect::NdJson, 400, page, 2),
        Verdict::Refused(_)
    ));
    for reason in [
        "Validation Failed: 1: index is missing;2: index is missing;",
        "request [/_bulk] contains unrecognized parameter: [a]",
    ] {
        let text = format!(r#"{{"error":{{"root_cause":[{{"type":"a","reason":"{reason}""#);
        // With spaces, as some write JSON.
        for text in [&text, &text.replace("\":", "\" : ")] {
            assert!(is_again(&judged(&bulk(None), 400, text, 2), true), "{text}");
        }
        let quoted = text.replace('"', "\\\"");
        for quoted in [format!("{{\"error\":\"{quoted}"), format!("bad: {text}")] {
            let verdict = judged(&bulk(None), 400, &quoted, 2);
            assert!(matches!(verdict, Verdict::Refused(_)), "{quoted}");
        }
    }
}

/// Reads some, and then fails.
struct Broken<'a>(&'a [u8]);

impl io::Read for Broken<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.0.read(to)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

#[test]
fn an_answer_that_breaks_off_counts_for_nothing() {
    for dialect in [Dialect::NdJson, bulk(None)] {
        for status in [200, 400, 413, 503] {
            let head = Head {
                status,
                reason: "",
                retry_after: None,
                location: None,
                secrets: &Secrets::default(),
            };
            let verdict = judge(&dialect, &head, Broken(br#"{"errors":false"#), 1);
            assert!(
                matches!(verdict, Verdict::Again(_)),
                "{status}: {verdict:?}"
            );
        }
    }
}

#[test]
fn what_an_answer_says_is_told_in_one_short_line() {
    let text = format!("two\r\nlines \x1b[31m{}", "\u{e4}".repeat(500));
    let Verdict::Refused(why) = judged(&Dialect::NdJson, 400, &text, 1) else {
        panic!();
    };
    assert!(
        why.starts_with("it answers 400 Reason: two lines [31m"),
        "{why}"
    );
    assert!(why.len() < 250 && why.ends_with("..."), "{why}");
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_answer_that_is_compressed_is_read_or_counts_for_nothing() {
    let judged = |dialect: &Dialect, status, encoding, body: &[u8]| {
        let head = Head {
            status,
            reason: "Reason",
            retry_after: None,
            location: None,
            secrets: &Secrets::default(),
        };
        judge_encoded(dialect, &head, Some(encoding), body, 1)
    };
    let (taken, wrong) = (
        r#"{"errors":false,"items":[{"create":{"status":201}}]}"#,
        "no JSON",
    );
    for encoding in ["gzip", "x-gzip", "GZip "] {
        let verdict = judged(&bulk(None), 200, encoding, &gzipped(taken));
        assert_eq!(verdict, Verdict::Accepted);
        let verdict = judged(&bulk(None), 400, encoding, &gzipped(wrong));
        assert_eq!(
            verdict,
            Verdict::Refused("it answers 400 Reason: no JSON".to_owned())
        );
    }
    assert_eq!(
        judged(&bulk(None), 200, "identity", taken.as_bytes()),
        Verdict::Accepted
    );
    // Its text says nothing there.
    assert_eq!(
        judged(&Dialect::NdJson, 200, "br", b"\x8b"),
        Verdict::Accepted
    );
    let again = |status, is_lasting, after| {
        let why = format!(
            "its answer ({status} Reason) is compressed (br), which was not asked for, and cannot be \
             read"
        );
        Verdict::Again(Failure {
            why,
            is_lasting,
            after,
            ..Failure::default()
        })
    };
    let minute = Some(Duration::from_secs(60));
    assert_eq!(
        judged(&bulk(None), 200, "br", b"\x8b"),
        again(200, true, minute)
    );
    assert_eq!(
        judged(&bulk(None), 400, "br", b"\x8b"),
        again(400, true, None)
    );
    assert_eq!(
        judged(&bulk(None), 503, "br", b"\x8b"),
        again(503, false, None)
    );
    assert!(matches!(
        judged(&bulk(None), 413, "br", b"\x8b"),
        Verdict::TooLarge(_)
    ));
    let half = &gzipped(taken)[..20];
    assert!(matches!(
        judged(&bulk(None), 200, "gzip", half),
        Verdict::Again(_)
    ));
    // A bomb of 64 MiB is read as far as any answer.
    let bomb = gzipped(&format!("{{\"a\":\"{}\"}}", "x".repeat(64 << 20)));
    assert!(matches!(
        judged(&bulk(None), 200, "gzip", &bomb),
        Verdict::Again(_)
    ));
}
