//! What bodies look like, and what is no address.

#![allow(clippy::unwrap_used)]

mod answers;
mod loki_answers;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::aside::Aside;
use super::body::{Body, Stop};
use super::dialect::{BulkAction, Dialect, SplunkFields};
use super::parts::Part;
use super::*;
use crate::ingest::batch::buffer::Buffer;
use crate::ingest::batch::{Batch, Origin};
use crate::ingest::framing::OutputFraming;
use crate::ingest::sink::secrets::Secrets;

/// As received at 2026-11-29T12:00:00.5Z.
fn batch(messages: &[&[u8]]) -> Batch {
    let mut bytes = Buffer::default();
    for message in messages {
        bytes.append_framed(message, OutputFraming::LengthPrefixed);
    }
    let count = messages.len() as u64;
    let mut batch = Batch::new(bytes, count, OutputFraming::LengthPrefixed, Vec::new());
    batch.set_origin(Origin {
        peer: "[::ffff:10.0.0.7]:4711"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
        listener_name: Some(Arc::from("front \"door\"")),
        received_at: UNIX_EPOCH + Duration::from_millis(1_795_953_600_500),
        ..Origin::default()
    });
    batch
}

fn part(first: u64, messages: u64) -> Part {
    Part {
        batch: 0,
        first,
        messages,
        sequence: 1_999_999,
    }
}

fn body_of(dialect: &Dialect, messages: &[&[u8]]) -> String {
    let batch = batch(messages);
    let mut body = Body::new(dialect, Vec::new(), 1 << 20);
    let all = messages.len() as u64;
    assert_eq!(body.add(&batch, part(0, all)), (all, Stop::End));
    String::from_utf8(body.finish()).unwrap()
}

fn bulk(index: Option<&str>) -> Dialect {
    Dialect::Bulk {
        index: index.map(str::to_owned),
        action: BulkAction::Create,
    }
}

fn loki(labels: &[(&str, &str)]) -> Dialect {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    Dialect::Loki {
        labels: labels.iter().map(owned).collect(),
    }
}

#[test]
fn each_message_is_a_line_whatever_is_in_it() {
    let body = body_of(&Dialect::NdJson, &[b"{\"a\":\n1}", b"", b"two"]);
    assert_eq!(body, "{\"a\": 1}\n\ntwo\n");
}

/// A message that could end its document and begin an action of its own would delete what it likes.
#[test]
fn a_document_is_one_line_and_what_is_no_object_becomes_one() {
    let body = body_of(
        &bulk(Some("logs-app")),
        &[
            b"{\"a\":1}",
            b"{}\n{\"delete\":{\"_index\":\"x\",\"_id\":\"1\"}}",
            b" {\"a\":\r\n[]} ",
            b"plain \"text\" \\ \x01\t\xff!",
            b"",
        ],
    );
    let wrapped =
        |text: &str| format!("{{\"@timestamp\":\"2026-11-29T12:00:00.500Z\",\"message\":{text}}}");
    let documents = [
        "{\"@timestamp\":\"2026-11-29T12:00:00.500Z\",\"a\":1}".to_owned(),
        wrapped(r#""{}\n{\"delete\":{\"_index\":\"x\",\"_id\":\"1\"}}""#),
        "{\"@timestamp\":\"2026-11-29T12:00:00.500Z\",\"a\":\r []} ".to_owned(),
        wrapped("\"plain \\\"text\\\" \\\\ \\u0001\\t\u{fffd}!\""),
        wrapped("\"\""),
    ];
    let expected: String = documents
        .iter()
        .map(|document| format!("{{\"create\":{{\"_index\":\"logs-app\"}}}}\n{document}\n"))
        .collect();
    assert_eq!(body, expected);
}

/// A data stream refuses what has no time; elsewhere objects are their sender's.
#[test]
fn an_object_that_is_created_has_a_time_its_own_or_the_one_of_its_receipt() {
    let index = Dialect::Bulk {
        index: None,
        action: BulkAction::Index,
    };
    let time = "\"@timestamp\":\"2026-11-29T12:00:00.500Z\"";
    for (object, created) in [
        ("{}", format!("{{{time}}}")),
        ("{ \n}", format!("{{{time}  }}")),
        ("\t{ \"a\":1}", format!("{{{time}, \"a\":1}}")),
        (
            r#"{"a":{"@timestamp":1},"b":"@timestamp"}"#,
            format!(r#"{{{time},"a":{{"@timestamp":1}},"b":"@timestamp"}}"#),
        ),
        (
            r#"{"@timestamp ":1}"#,
            format!(r#"{{{time},"@timestamp ":1}}"#),
        ),
        (r#"{"@timestamp":"x"}"#, r#"{"@timestamp":"x"}"#.to_owned()),
        (
            r#"{"a":[{}],"\u0040timestamp":null}"#,
            r#"{"a":[{}],"\u0040timestamp":null}"#.to_owned(),
        ),
    ] {
        let body = body_of(&bulk(None), &[object.as_bytes()]);
        assert_eq!(body, format!("{{\"create\":{{}}}}\n{created}\n"));
        let document = body.lines().nth(1).unwrap();
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        assert!(document.get("@timestamp").is_some(), "{body}");
        let body = body_of(&index, &[object.as_bytes()]);
        let line = object.replace('\n', " ");
        assert_eq!(body, format!("{{\"index\":{{}}}}\n{line}\n"));
    }
}

#[test]
fn a_document_has_the_time_of_its_own_batch() {
    let dialect = bulk(None);
    let mut later = batch(&[b"3"]);
    later.set_origin(Origin {
        received_at: UNIX_EPOCH + Duration::from_millis(1_795_953_601_000),
        ..Origin::default()
    });
    let mut body = Body::new(&dialect, Vec::new(), 1 << 20);
    for batch in [&batch(&[b"1"]), &batch(&[b"2"]), &later, &batch(&[b"4"])] {
        body.add(batch, part(0, 1));
    }
    let body = String::from_utf8(body.finish()).unwrap();
    let documents = body.lines().filter(|line| line.contains("message"));
    let times: Vec<_> = documents.map(|document| &document[26..36]).collect();
    assert_eq!(
        times,
        ["12:00:00.5", "12:00:00.5", "12:00:01.0", "12:00:00.5"]
    );
}

#[test]
fn loki_gets_streams_and_no_two_entries_of_one_time() {
    let labels = [
        ("job", "drainline"),
        ("from", "{host}"),
        ("at", "{listener}"),
    ];
    let body = body_of(&loki(&labels), &[b"a", b"a"]);
    let stream = r#"{"job":"drainline","from":"10.0.0.7","at":"front \"door\""}"#;
    // Below a millisecond: the number of the message, modulo a million.
    let values = r#"["1795953600500999999","a"],["1795953600500000000","a"]"#;
    assert_eq!(
        body,
        format!("{{\"streams\":[{{\"stream\":{stream},\"values\":[{values}]}}]}}")
    );
    serde_json::from_str::<serde_json::Value>(&body).unwrap();
}

#[test]
fn batches_of_other_labels_are_streams_of_their_own() {
    let dialect = loki(&[("at", "{listener}")]);
    let mut other = batch(&[b"3"]);
    other.set_origin(Origin {
        listener_name: Some(Arc::from("back")),
        ..Origin::default()
    });
    let mut body = Body::new(&dialect, Vec::new(), 1 << 20);
    for batch in [&batch(&[b"1"]), &batch(&[b"2"]), &other, &batch(&[b"4"])] {
        body.add(batch, part(0, 1));
    }
    let body: serde_json::Value = serde_json::from_slice(&body.finish()).unwrap();
    let streams = body["streams"].as_array().unwrap().iter();
    let told: Vec<_> = streams
        .map(|stream| {
            let values = stream["values"].as_array().unwrap().iter();
            let lines = values.map(|value| value[1].as_str().unwrap().to_owned());
            (
                stream["stream"]["at"].as_str().unwrap().to_owned(),
                lines.collect::<Vec<_>>(),
            )
        })
        .collect();
    let front = "front \"door\"".to_owned();
    let texts = |all: &[&str]| {
        all.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let expected = [
        (front.clone(), texts(&["1", "2"])),
        ("back".to_owned(), texts(&["3"])),
        (front, texts(&["4"])),
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_event_of_splunk_has_its_time_and_origin() {
    let fields = SplunkFields {
        index: Some("main".to_owned()),
        ..SplunkFields::default()
    };
    let messages: [&[u8]; 4] = [b"{\"a\":1}", b"{a}", b"", b" \t"];
    let body = body_of(&Dialect::Splunk(fields), &messages);
    let head = r#"{"time":1795953600.500,"index":"main","source":"front \"door\"","host":"10.0.0.7","event":"#;
    let events = [
        r#"{"a":1}"#,
        r#""{a}""#,
        r#"{"message":""}"#,
        r#"{"message":" \t"}"#,
    ];
    let events = events.map(|event| format!("{head}{event}}}\n"));
    assert_eq!(body, events.concat());
}

#[test]
fn no_body_is_longer_than_its_limit_or_takes_more_memory() {
    let messages: Vec<Vec<u8>> = (0..400usize)
        .map(|n| vec![(n % 256) as u8; n % 70])
        .collect();
    let messages: Vec<&[u8]> = messages.iter().map(|message| &message[..]).collect();
    let batch = batch(&messages);
    let fields = SplunkFields::default();
    let dialects = [
        Dialect::NdJson,
        bulk(Some("logs")),
        loki(&[("at", "{listener}")]),
        Dialect::Splunk(fields.clone()),
        Dialect::SplunkRaw(fields),
    ];
    for dialect in dialects {
        let (mut at, mut memory) = (0, Vec::with_capacity(1024));
        while at < 400 {
            let mut body = Body::new(&dialect, memory, 1024);
            let (added, stop) = body.add(&batch, part(at, 400 - at));
            assert!(
                added > 0 && !matches!(stop, Stop::Unfit(_)),
                "{dialect:?} at {at}: {stop:?}"
            );
            at += added;
            memory = body.finish();
            assert!(
                memory.len() <= 1024 && memory.capacity() == 1024,
                "{dialect:?}"
            );
        }
    }
}

#[test]
fn a_message_that_fits_into_no_body_is_told() {
    let long = vec![b'a'; 1024];
    let batch = batch(&[b"short", &long, b"short"]);
    let mut body = Body::new(&Dialect::NdJson, Vec::new(), 1024);
    assert_eq!(body.add(&batch, part(0, 3)), (1, Stop::Full));
    let mut body = Body::new(&Dialect::NdJson, Vec::new(), 1024);
    let outcome = body.add(&batch, part(1, 2));
    let why = "its 1024 bytes make a body longer than 1024 (body_bytes)".to_owned();
    assert_eq!(outcome, (0, Stop::Unfit(why)));
    assert!(body.is_empty());
}

#[test]
fn a_file_of_what_is_refused_that_has_no_room_says_for_what() {
    let folder = tempfile::tempdir().unwrap();
    let mut aside = Aside::open(&folder.path().join("refused"), 10).unwrap();
    for (message, told) in [
        (
            &b"0123456789"[..],
            "has 0 bytes, a message 10 and a line feed, and refused_max is 10",
        ),
        (b"01234", ""),
        (b"0123", "has 6 bytes, a message 4 and a"),
    ] {
        let (written, outcome) = aside.write_all([message].into_iter());
        outcome.unwrap();
        assert_eq!(written, u64::from(told.is_empty()));
        assert!(aside.full().contains(told), "{}", aside.full());
    }
}

#[test]
fn what_cannot_be_is_told_before_anything_is_sent() {
    let to = Http::to;
    let host = || to("http://127.0.0.1:1");
    let wrong: Vec<(HttpOptions, &str)> = vec![
        (to("127.0.0.1:9200"), "http://HOST"),
        (to("ftp://host"), "http://HOST"),
        (to("http://"), "URL"),
        (to("http://user:secret@host/"), "basic_auth"),
        (to("http://host/a b"), "URL"),
        (host().query("a b"), "URL"),
        (host().requests(0), "requests"),
        (host().requests(65), "requests"),
        (host().body_bytes(1), "body_bytes"),
        (host().body_bytes(1 << 30), "body_bytes"),
        (host().linger(Duration::from_secs(2)), "linger"),
        (host().timeout(Duration::ZERO), "timeout"),
        (host().connect_timeout(Duration::MAX), "timeout"),
        (host().dialect(bulk(Some("Logs"))), "lower case"),
        (host().dialect(bulk(Some("a/b"))), "index"),
        (host().dialect(bulk(Some(""))), "index"),
        (host().dialect(loki(&[])), "label"),
        (host().dialect(loki(&[("a-b", "c")])), "label"),
        (host().dialect(loki(&[("a", "{message}")])), "{listener}"),
        // That is the address with its port: a stream for each connection.
        (host().dialect(loki(&[("a", "{peer}")])), "{host}"),
        (host().header("a b", "c"), "header"),
        (host().header("x", "a\r\nb: c"), "header"),
        (host().header("Authorization", "secret"), "token"),
        (host().header("content-length", "1"), "made here"),
        (host().token("a\nb"), "token"),
        (host().token("a").basic_auth("b", "c"), "one too many"),
        (host().basic_auth("a:b", "c"), "colon"),
        (host().refused_to("/dev/null", 1), "regular"),
        (host().refused_to("/nowhere/refused", 1), "/nowhere/refused"),
        (
            to("https://host").tls(crate::TlsClient::new().ca_file("/nowhere/ca")),
            "/nowhere/ca",
        ),
    ];
    for (options, part) in wrong {
        let shown = format!("{options:?}");
        let error = options.open().unwrap_err().to_string();
        assert!(
            error.contains(part) && !error.contains('\n'),
            "{shown}: {error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_url_is_completed_by_its_dialect() {
    let uri = |url: &str, dialect: Dialect| {
        let sink = Http::to(url)
            .dialect(dialect)
            .query("a=b%20c")
            .open()
            .unwrap();
        (sink.target.uri.to_string(), sink.name())
    };
    let (whole, name) = uri("http://host:9200", bulk(None));
    let path = "http://host:9200/_bulk";
    let filter =
        "filter_path=errors,items.create.status,items.create.error.type,items.create.error.reason";
    assert_eq!(
        (whole, name),
        (format!("{path}?a=b%20c&{filter}"), path.to_owned())
    );
    let (whole, name) = uri("http://[::1]/x/y?z", Dialect::NdJson);
    assert_eq!(
        (&whole[..], &name[..]),
        ("http://[::1]/x/y?z&a=b%20c", "http://[::1]/x/y")
    );
    let fields = SplunkFields {
        sourcetype: Some("a b".to_owned()),
        ..SplunkFields::default()
    };
    let (whole, _) = uri("http://host/", Dialect::SplunkRaw(fields));
    let raw = "http://host/services/collector/raw?a=b%20c&sourcetype=a%20b";
    assert_eq!(whole, raw);
}

#[test]
fn parts_of_headers_and_of_a_token_are_secrets() {
    let options = Http::to("http://host/")
        .token("my-id:the-key")
        .header("Cookie", "session=chocolate; other=vanilla")
        .header("X-Login", "Bearer strawberry");
    let secrets = options.target().unwrap().secrets;
    for part in [
        "my-id:the-key",
        "the-key",
        "chocolate",
        "vanilla",
        "strawberry",
    ] {
        assert_eq!(secrets.hide(&format!("no {part}!")), "no ***!");
    }
}
