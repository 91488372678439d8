//! What is rendered is what readers of JSON and of the template's text expect, and never longer
//! than its length said, nor than the limits count.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::time::Rfc3339;
use super::*;
use crate::ingest::OutputFraming;
use crate::ingest::batch::Origin;

fn batch(origin: Origin) -> Batch {
    let mut batch = Batch::new(Buffer::default(), 0, OutputFraming::Lines, Vec::new());
    batch.set_origin(origin);
    batch
}

fn origin(listener: &str, name: Option<&str>, connection: u64) -> Origin {
    Origin {
        connection,
        peer: SocketAddr::from(([192, 0, 2, 1], 4711)).into(),
        listener_name: Some(listener.into()),
        tls_name: name.map(Into::into),
        received_at: UNIX_EPOCH + Duration::from_micros(1_000_000_123_456),
        ..Origin::default()
    }
}

fn rendered(envelope: &Envelope, batch: &Batch, message: &[u8]) -> Vec<u8> {
    let around = envelope.around(batch);
    let mut buffer = Buffer::default();
    around.append(message, &mut buffer);
    assert_eq!(around.len_of(message), buffer.len());
    let max = envelope.max_bytes(message.len(), batch.listener().len());
    assert!(buffer.len() <= max, "{} of {max}", buffer.len());
    buffer.to_vec()
}

fn decoded(base64: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => 0,
    };
    let padding = base64.bytes().filter(|&byte| byte == b'=').count();
    let groups = base64.as_bytes().chunks(4);
    let mut bytes: Vec<u8> = groups
        .flat_map(|group| {
            let bits = |bits: u32, &byte: &u8| bits << 6 | u32::from(digit(byte));
            group.iter().fold(0, bits).to_be_bytes()[1..].to_vec()
        })
        .collect();
    bytes.truncate(bytes.len() - padding);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_object_reads_back_as_what_went_into_it(
        message in prop_oneof![
            ".*".prop_map(String::into_bytes),
            vec(0u8..0x30, 0..40),
            vec(any::<u8>(), 0..40),
        ],
        listener in ".*",
        name in proptest::option::of(".*"),
        connection in any::<u64>(),
    ) {
        let batch = batch(origin(&listener, name.as_deref(), connection));
        let text = rendered(&Envelope::Json, &batch, &message);
        prop_assert!(!text.iter().any(|byte| *byte < 0x20));
        let object: Value = serde_json::from_slice(&text).unwrap();
        let mut expected = json!({
            "received": "1970-01-12T13:46:40.123456Z",
            "listener": listener,
            "peer": "192.0.2.1:4711",
            "connection": connection,
        });
        if let Some(name) = name {
            expected["name"] = name.into();
        }
        match String::from_utf8(message.clone()) {
            Ok(message) => {
                // As short as another writer of JSON has it.
                let escaped = serde_json::to_string(&message).unwrap();
                let end = format!("\"message\":{escaped}}}");
                prop_assert!(text.ends_with(end.as_bytes()));
                expected["message"] = message.into();
                prop_assert_eq!(&object, &expected);
            }
            Err(_) => {
                let base64 = object["message_base64"].as_str().unwrap();
                prop_assert_eq!(decoded(base64), message);
                expected["message_base64"] = base64.into();
                prop_assert_eq!(&object, &expected);
            }
        }
    }

    #[test]
    fn a_template_is_its_text_with_the_fields_filled_in(
        parts in vec(prop_oneof![
            "[^{}]{0,4}".prop_map(|text| (text.clone(), text)),
            Just(("{{".to_owned(), "{".to_owned())),
            Just(("}}".to_owned(), "}".to_owned())),
            Just(("{message}".to_owned(), "m{}".to_owned())),
            Just(("{peer}".to_owned(), "192.0.2.1:4711".to_owned())),
            Just(("{listener}".to_owned(), "syslog".to_owned())),
            Just(("{name}".to_owned(), "web1".to_owned())),
            Just(("{connection}".to_owned(), "17".to_owned())),
            Just(("{received}".to_owned(), "1970-01-12T13:46:40.123456Z".to_owned())),
        ], 0..12),
    ) {
        let (text, expected): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let (text, expected) = (text.concat(), expected.concat());
        let template: Template = text.parse().unwrap();
        prop_assert_eq!(template.to_string(), &*text);
        let envelope = Envelope::Template(template);
        prop_assert_eq!(envelope.has_time(), text.contains("{received}"));
        let batch = batch(origin("syslog", Some("web1"), 17));
        let shown = rendered(&envelope, &batch, b"m{}");
        prop_assert_eq!(String::from_utf8(shown).unwrap(), expected);
    }

    /// Against the days of the calendar, counted one by one.
    #[test]
    fn a_time_is_that_of_the_calendar(days in 0u64..200_000, second in 0u64..86_400) {
        let mut date = (1970, 1, 1);
        for _ in 0..days {
            date = next_day(date);
        }
        let (year, month, day) = date;
        let time = UNIX_EPOCH + Duration::from_secs(days * 86_400 + second);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let expected = format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000000Z"
        );
        prop_assert_eq!(Rfc3339(time).to_string(), expected);
    }
}

fn next_day((year, month, day): (u32, u32, u32)) -> (u32, u32, u32) {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    match (month, day) {
        (12, 31) => (year + 1, 1, 1),
        _ if day == last => (year, month + 1, 1),
        _ => (year, month, day + 1),
    }
}

#[test]
fn what_is_no_template_is_told_with_what_would_be_one() {
    let wrong = |text: &str| text.parse::<Template>().unwrap_err().to_string();
    assert_eq!(
        wrong("{msg}"),
        "there is no field {msg}: {message} is the nearest"
    );
    assert_eq!(
        wrong("a {Peer}"),
        "there is no field {Peer}: {peer} is the nearest"
    );
    assert_eq!(
        wrong(r#"{"host":"{peer}"}"#),
        r#"there is no field {"host":"{peer}: {{ and }} stand for braces that are text"#
    );
    assert_eq!(wrong("{}"), "there is no field {}: {name} is the nearest");
    let single = "a { without its counterpart: {{ stands for one";
    assert_eq!(
        (wrong("{message"), wrong("{")),
        (single.to_owned(), single.to_owned())
    );
    assert_eq!(wrong("}"), "a } without its counterpart: }} stands for one");
    assert_eq!(
        wrong("{message}}"),
        "a } without its counterpart: }} stands for one"
    );
}
