#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CertifiedKey, KeyPair};

use super::*;

fn own(name: &str) -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()
}

fn pem(own: &CertifiedKey<KeyPair>) -> (Vec<u8>, Vec<u8>) {
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    (certificate.into(), key.into())
}

#[track_caller]
fn refused(made: Result<Tls, TlsError>, says: &str) {
    let error = made.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(says), "{text}");
    assert!(
        !text.contains('\n') && !text.contains("PRIVATE KEY-"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let (certificate, key) = pem(&own("a.example"));
    let (_, other) = pem(&own("a.example"));
    let of = Tls::from_pem;
    assert!(of(&certificate, &key).is_ok());
    refused(
        of(b"", &key),
        "no certificate in TLS certificate: it is empty",
    );
    refused(
        of(b"hello", &key),
        "it is not PEM, which begins with -----BEGIN",
    );
    refused(of(&key, &key), "no certificate in TLS certificate");
    refused(of(&certificate, &certificate), "no private key in TLS key");
    refused(
        of(&certificate, &other),
        "TLS key does not match TLS certificate",
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    refused(
        of(&certificate, encrypted.as_bytes()),
        "decrypt it with openssl pkey",
    );
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    refused(
        of(&certificate, legacy.as_bytes()),
        "decrypt it with openssl pkey",
    );
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    refused(of(broken.as_bytes(), &key), "TLS certificate is broken PEM");
}

#[test]
fn who_may_connect_needs_a_client_ca_that_is_one() {
    let (certificate, key) = pem(&own("a.example"));
    let tls = || Tls::from_pem(&certificate, &key).unwrap();
    refused(tls().client_ca_pem(b""), "no certificate in client CA");
    refused(
        tls().client_auth(ClientAuth::Optional),
        "without a client CA",
    );
    refused(tls().allow_names(["a"]), "without a client CA");
    let with_ca = || tls().client_ca_pem(&certificate).unwrap();
    assert!(with_ca().client_auth(ClientAuth::Optional).is_ok());
    assert!(with_ca().allow_names(["a.example"]).is_ok());
    assert!(with_ca().min_version(TlsVersion::V1_3).is_ok());
}

#[test]
fn names_of_clients_are_counted_and_limited_and_so_are_those_that_stand_in_for_them() {
    let (certificate, key) = pem(&own("a.example"));
    let with = |names: usize| {
        let tls = Tls::from_pem(&certificate, &key).unwrap();
        let tls = tls.client_ca_pem(&certificate).unwrap();
        tls.allow_names((0..names).map(|n| format!("{n:0200}")))
    };
    let (few, many) = (with(1).unwrap(), with(1_000).unwrap());
    let more = many.loaded_bytes() - few.loaded_bytes();
    assert!(more >= 2 * 1_000 * 200, "{more}");
    few.replace(&with(60).unwrap()).unwrap();
    refused(few.replace(&many).map(|()| many), "a restart counts again");
    refused(with(65_537), "more than 65536 names of clients");
}

#[test]
fn a_missing_file_may_pass_and_is_named_and_a_wrong_one_may_not() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let error = Tls::from_files(&cert, &key).unwrap_err();
    assert_eq!(error.error_kind(), TlsErrorKind::Unreadable);
    let text = error.to_string();
    assert!(
        text.contains("cannot read TLS certificate /") && text.contains("No such file"),
        "{text}"
    );
    let (certificate, secret) = pem(&own("a.example"));
    fs::write(&cert, certificate).unwrap();
    fs::write(&key, "").unwrap();
    let error = Tls::from_files(&cert, &key).unwrap_err();
    assert_eq!(error.error_kind(), TlsErrorKind::Invalid);
    assert!(
        error.to_string().contains("key.pem: it is empty"),
        "{error}"
    );
    fs::write(&key, secret).unwrap();
    assert!(Tls::from_files(&cert, &key).is_ok());
}

#[test]
fn a_bad_reload_keeps_what_there_is_and_a_good_one_is_for_every_clone() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let put = |(certificate, secret): (Vec<u8>, Vec<u8>)| {
        fs::write(&cert, certificate).unwrap();
        fs::write(&key, secret).unwrap();
    };
    put(pem(&own("a.example")));
    let tls = Tls::from_files(&cert, &key).unwrap();
    let clone = tls.clone();
    let before = clone.loaded();
    // Renewed by half: the key is still the old one.
    fs::write(&cert, pem(&own("a.example")).0).unwrap();
    let error = tls.reload().unwrap_err();
    assert!(error.to_string().contains("does not match"), "{error}");
    assert!(Arc::ptr_eq(&before, &clone.loaded()));
    put(pem(&own("b.example")));
    tls.reload().unwrap();
    assert!(!Arc::ptr_eq(&before, &clone.loaded()));
    drop(before);
    let (certificate, secret) = pem(&own("c.example"));
    clone
        .replace(&Tls::from_pem(&certificate, &secret).unwrap())
        .unwrap();
    assert!(Arc::ptr_eq(&tls.loaded(), &clone.loaded()));
}

#[test]
fn an_end_is_told_from_two_weeks_ahead_and_an_expired_certificate_still_loads() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    let tls = Tls::from_pem(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let end = tls.expires_at().unwrap();
    let day = Duration::from_secs(86_400);
    let note = |now: SystemTime| tls.note(now);
    assert_eq!(note(end - 15 * day), None);
    let ahead = note(end - 14 * day).unwrap();
    assert!(
        ahead.contains("TLS certificate expires in 14 days"),
        "{ahead}"
    );
    let past = note(end + 3 * day).unwrap();
    assert!(past.contains("expired 3 days ago"), "{past}");
}

#[test]
fn a_revocation_list_past_its_time_is_used_and_told() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let list = |year: i32| {
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2019, 1, 1),
            next_update: rcgen::date_time_ymd(year, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&issuer).unwrap().pem().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crl.pem");
    fs::write(&file, list(2052) + &list(2021)).unwrap();
    let (certificate, secret) = pem(&own("a.example"));
    let tls = Tls::from_pem(&certificate, &secret).unwrap();
    let tls = tls.client_ca_pem(ca.as_bytes()).unwrap();
    let tls = tls.client_crl_file(&file).unwrap();
    let day = Duration::from_secs(86_400);
    // 2021-01-01
    let end = SystemTime::UNIX_EPOCH + 18_628 * day;
    assert_eq!(tls.note(end - day), None);
    let note = tls.note(end + 3 * day).unwrap();
    assert!(
        note.contains("crl.pem should have been followed by the next 3 days ago"),
        "{note}"
    );
    fs::write(&file, list(2052)).unwrap();
    tls.reload().unwrap();
    assert_eq!(tls.note(end + 3 * day), None);
}

#[test]
fn a_third_is_not_loaded_while_handshakes_use_the_one_before_the_current() {
    let (certificate, key) = pem(&own("a.example"));
    let tls = Tls::from_pem(&certificate, &key).unwrap();
    let handshake = tls.loaded();
    tls.reload().unwrap();
    let busy = |error: TlsError| assert_eq!(error.error_kind(), TlsErrorKind::Busy);
    let current = tls.loaded();
    busy(tls.reload().unwrap_err());
    busy(tls.replace(&tls.clone()).unwrap_err());
    assert!(Arc::ptr_eq(&current, &tls.loaded()));
    drop((handshake, current));
    tls.reload().unwrap();
    tls.replace(&tls.clone()).unwrap();
    tls.reload().unwrap();
}

#[test]
fn what_takes_more_than_was_counted_is_not_loaded_and_a_little_more_is() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let own = own("a.example");
    let (certificate, secret) = pem(&own);
    fs::write(&key, secret).unwrap();
    fs::write(&cert, &certificate).unwrap();
    let tls = Tls::from_files(&cert, &key).unwrap();
    let before = tls.loaded();
    let says = |bytes: Vec<u8>, says: &str| {
        fs::write(&cert, bytes).unwrap();
        refused(tls.reload().map(|()| tls.clone()), says);
        assert!(Arc::ptr_eq(&before, &tls.loaded()));
    };
    // What is beside PEM is no part of the certificate, and is read.
    let with_text = [&certificate[..], &vec![b'#'; 20 << 10]].concat();
    says(with_text, "bytes that the memory limit has for it");
    // Bytes of certificates, which every connection may hold.
    let bytes = own.cert.der().len();
    let chain = |more: usize| certificate.repeat(1 + more.div_ceil(bytes));
    says(chain(4 << 10), "has 4");
    fs::write(&cert, chain((4 << 10) - bytes)).unwrap();
    drop(before);
    tls.reload().unwrap();
    let larger = Tls::from_pem(&chain(30 << 10), own.signing_key.serialize_pem().as_bytes());
    assert!(tls.replace(&larger.unwrap()).is_err());
}

#[test]
fn no_more_is_read_of_a_file_than_is_said() {
    let (certificate, key) = pem(&own("a.example"));
    let filled = |size: usize| [&certificate[..], &vec![b'#'; size - certificate.len()]].concat();
    assert!(Tls::from_pem(&filled(256 << 10), &key).is_ok());
    refused(
        Tls::from_pem(&filled((256 << 10) + 1), &key),
        "TLS certificate is larger than 256 KiB",
    );
    refused(
        Tls::from_pem(&certificate.repeat(200), &key),
        "clients take 65536 at most",
    );
    let tls = || Tls::from_pem(&certificate, &key).unwrap();
    assert!(tls().client_ca_pem(&filled(1 << 20)).is_ok());
    refused(
        tls().client_ca_pem(&filled((1 << 20) + 1)),
        "client CA is larger than 1024 KiB",
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.pem");
    std::fs::write(&file, filled((256 << 10) + 1)).unwrap();
    refused(
        Tls::from_files(&file, &file),
        "large.pem is larger than 256 KiB",
    );
    refused(
        Tls::from_files("/dev/zero", "/dev/zero"),
        "/dev/zero: not a regular file",
    );
}
