//! The program: its flags, what is wrong with them, and the certificates that SIGHUP reads again.
#![cfg(feature = "cli")]

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use rustls::ClientConnection;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use tempfile::TempDir;

use crate::authority::{Authority, Client, Pair, VERSIONS, config};
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::fifo;
use crate::common::programs::is_installed;
use crate::common::wait::{DEADLINE, wait_until};

struct Files {
    folder: TempDir,
    servers: Authority,
    clients: Authority,
}

impl Files {
    fn new() -> Files {
        let files = Files {
            folder: tempfile::tempdir().unwrap(),
            servers: Authority::new("servers"),
            clients: Authority::new("clients"),
        };
        files.put("server", &files.servers.server());
        fs::write(files.path("ca.pem"), &files.clients.certificate).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As it can be typed.
    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn put(&self, name: &str, pair: &Pair) {
        fs::write(self.path(&format!("{name}.pem")), &pair.certificate).unwrap();
        fs::write(self.path(&format!("{name}.key")), &pair.key).unwrap();
    }

    /// `SERVER` and the like stand for files.
    fn args(&self, args: &[&str]) -> Vec<String> {
        let named = |arg: &&str| match arg.strip_prefix("FILE:") {
            Some(name) => self.text(name),
            None => (*arg).to_owned(),
        };
        args.iter().map(named).collect()
    }

    #[track_caller]
    fn refused(&self, args: &[&str], code: i32, says: &str) {
        let exit = ended(&self.args(args));
        exit.assert_code(code);
        assert!(exit.stderr.contains(says), "{}", exit.stderr);
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
        let checked = ended(&[self.args(args), vec!["--check".to_owned()]].concat());
        assert_eq!(checked.stderr, exit.stderr);
        checked.assert_code(code);
    }
}

#[track_caller]
fn ended(args: &[String]) -> Exit {
    Drainline::with(args).bare().spawn().wait()
}

const LISTEN: [&str; 2] = ["--listen", "tls://127.0.0.1:0"];

#[test]
fn lines_come_over_tls_and_the_log_names_the_client() {
    let files = Files::new();
    let rest = [
        "--tls-cert",
        "FILE:server.pem",
        "--tls-key",
        "FILE:server.key",
        "--tls-client-ca",
        "FILE:ca.pem",
        "--log-level",
        "debug",
    ];
    let mut child = Drainline::start(&files.args(&[&LISTEN[..], &rest].concat()));
    let shown = files.clients.client("web1.example");
    let config = config(&files.servers, Some(&shown), &VERSIONS);
    let mut client = Client::connect(child.addr(), &config);
    client.send(b"hello\n");
    client.close();
    let mut plain = child.connect();
    plain.write_all(b"plain\n").unwrap();
    client::wait_for_close(&mut plain);
    child.wait_until_all_ended();
    let exit = child.terminate();
    for says in [
        "the client does not speak TLS: it sent \"plain\\n\"",
        " (web1.example) at ",
    ] {
        assert!(exit.stderr.contains(says), "{exit}");
    }
    assert_eq!(child.stdout_bytes(), b"hello\n");
    exit.assert_code(0);
    exit.assert_balanced();
    assert_eq!(exit.u64("connections.ended.handshake_failed"), 1);
}

#[test]
fn sighup_reads_certificates_again_and_a_bad_one_changes_nothing() {
    let files = Files::new();
    let rest = [
        "--tls-cert",
        "FILE:server.pem",
        "--tls-key",
        "FILE:server.key",
    ];
    let mut child = Drainline::start(&files.args(&[&LISTEN[..], &rest].concat()));
    let config = config(&files.servers, None, &VERSIONS);
    let shown = |child: &Drainline| {
        let client = Client::connect(child.addr(), &config);
        let shown = client.session.peer_certificates().unwrap()[0].to_vec();
        client.close();
        shown
    };
    let before = shown(&child);
    files.put("server", &files.servers.server());
    child.signal(Signal::HUP);
    wait_until("a new certificate", DEADLINE, || shown(&child) != before);
    let renewed = shown(&child);
    fs::write(files.path("server.key"), files.servers.server().key).unwrap();
    child.signal_served(Signal::HUP);
    wait_until("a line about it", DEADLINE, || {
        child
            .stderr_text()
            .contains("keeps the TLS that it has: TLS key")
    });
    assert_eq!(shown(&child), renewed);
    child.terminate().assert_code(0);
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_the_code_of_its_kind() {
    let files = Files::new();
    fs::write(files.path("empty.pem"), "").unwrap();
    files.put("other", &files.servers.server());
    let with = |rest: &[&'static str]| [&LISTEN[..], rest].concat();
    files.refused(&LISTEN, 78, "expected a certificate for it, by --tls-cert");
    files.refused(
        &["--listen", "127.0.0.1:0", "--tls-cert", "FILE:server.pem"],
        78,
        "expected a listener that speaks TLS",
    );
    files.refused(&with(&["--tls-cert", "FILE:none.pem"]), 1, "No such file");
    files.refused(
        &with(&["--tls-cert", "FILE:empty.pem"]),
        2,
        "empty.pem: it is empty",
    );
    files.refused(
        &with(&["--tls-cert", "FILE:server.pem"]),
        2,
        "--tls-cert: no private key in TLS key",
    );
    files.refused(
        &with(&[
            "--tls-cert",
            "FILE:server.pem",
            "--tls-key",
            "FILE:other.key",
        ]),
        78,
        "--tls-key: TLS key ",
    );
    let good = [
        "--tls-cert",
        "FILE:server.pem",
        "--tls-key",
        "FILE:server.key",
    ];
    files.refused(
        &with(&[&good[..], &["--tls-client-auth", "optional"]].concat()),
        78,
        "expected a client CA for tls://127.0.0.1:0, by --tls-client-ca",
    );
    files.refused(
        &with(&[&good[..], &["--tls-client-ca", "FILE:empty.pem"]].concat()),
        2,
        "--tls-client-ca: no certificate in client CA",
    );
    files.refused(
        &with(&[&good[..], &["--tls-client-names", "a.example,sha256:ab"]].concat()),
        2,
        "or sha256: and 64 hexadecimal digits",
    );
    files.refused(
        &with(&[&good[..], &["--tls-min-version", "1.1"]].concat()),
        2,
        "expected 1.2 or 1.3",
    );
}

#[test]
fn a_table_has_certificates_of_its_own_and_the_rest_is_the_servers() {
    let files = Files::new();
    files.put("other", &files.servers.server());
    let path = |name| files.text(name);
    let text = format!(
        "tls_cert = {:?}\ntls_key = {:?}\n\
         [[listener]]\naddress = \"tls://127.0.0.1:0\"\n\
         [[listener]]\naddress = \"tls://127.0.0.1:0\"\ntls_cert = {:?}\ntls_key = {:?}\n\
         tls_client_ca = {:?}\ntls_min_version = \"1.3\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n",
        path("server.pem"),
        path("server.key"),
        path("other.pem"),
        path("other.key"),
        path("ca.pem")
    );
    let file = files.path("drainline.toml");
    fs::write(&file, text).unwrap();
    let port_file = path("ports");
    let args = [
        "--config",
        &path("drainline.toml"),
        "--port-file",
        &port_file,
        "--report",
        "json",
    ];
    let mut child = Drainline::with(&args).bare().spawn();
    child.wait_until_listening();
    let [common, own, plain] = child.addrs() else {
        panic!("{:?}", child.addrs());
    };
    let shown = files.clients.client("web1.example");
    let old = config(&files.servers, None, &VERSIONS[..1]);
    let new = config(&files.servers, Some(&shown), &VERSIONS[1..]);
    for (addr, config) in [(common, &old), (own, &new)] {
        let mut client = Client::connect(*addr, config);
        client.send(b"over TLS\n");
        client.close();
    }
    // Its own minimum, and its own authority.
    for config in [&old, &config(&files.servers, None, &VERSIONS[1..])] {
        assert!(!Client::new(*own, config).rest().1.is_empty());
    }
    client::connect(*plain).write_all(b"plainly\n").unwrap();
    wait_until("three lines", DEADLINE, || child.stdout_len() == 9 + 9 + 8);
    child.terminate().assert_code(0);
}

/// A table without certificates of clients beside those with the common client CA, and a Unix
/// socket that speaks TLS.
#[test]
fn a_table_switches_the_common_client_ca_off_and_a_unix_socket_speaks_tls() {
    let files = Files::new();
    let path = |name| files.text(name);
    let text = format!(
        "tls_cert = {:?}\ntls_key = {:?}\ntls_client_ca = {:?}\ntls_client_names = [\"web1.example\"]\n\
         [[listener]]\naddress = \"tls://127.0.0.1:0\"\n\
         [[listener]]\naddress = \"tls://127.0.0.1:0\"\ntls_client_ca = \"off\"\n\
         [[listener]]\naddress = \"tls+unix:{}\"\ntls_client_ca = \"off\"\n",
        path("server.pem"),
        path("server.key"),
        path("ca.pem"),
        path("tls.sock"),
    );
    fs::write(files.path("drainline.toml"), text).unwrap();
    let port_file = path("ports");
    let config_file = path("drainline.toml");
    let args = [
        "--config",
        &config_file,
        "--port-file",
        &port_file,
        "--report",
        "json",
    ];
    let mut child = Drainline::with(&args).bare().spawn();
    wait_until("a port file", DEADLINE, || {
        fs::read_to_string(&port_file).is_ok()
    });
    let ports = fs::read_to_string(&port_file).unwrap();
    let addrs: Vec<SocketAddr> = ports.lines().filter_map(|it| it.parse().ok()).collect();
    let [asks, open] = addrs[..] else {
        panic!("{ports}");
    };
    let nobody = config(&files.servers, None, &VERSIONS);
    assert!(!Client::new(asks, &nobody).rest().1.is_empty());
    let mut client = Client::connect(open, &nobody);
    client.send(b"from anybody\n");
    client.close();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(nobody, name).unwrap();
    let mut socket = UnixStream::connect(files.path("tls.sock")).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    stream.write_all(b"over a Unix socket\n").unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let both = b"from anybody\nover a Unix socket\n".len() as u64;
    wait_until("both lines", DEADLINE, || child.stdout_len() == both);
    child.terminate().assert_code(0);
}

/// A client's clock, which is behind.
#[derive(Debug)]
struct In2025;

impl TimeProvider for In2025 {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(55 * YEAR)))
    }
}

const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY + DAY / 4;

/// It is told by the check, at start and after SIGHUP, and is no reason not to serve.
#[test]
fn the_end_of_a_certificate_is_told_and_no_reason_to_refuse_it() {
    let files = Files::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    // Half a day more: the test takes a while.
    let ends = |days: u64| now + Duration::from_secs(days * DAY + DAY / 2);
    let pair = |end| files.servers.server_until(end);
    let (near, past) = (pair(ends(5)), pair(now - Duration::from_secs(3 * DAY)));
    let good = [
        "--tls-cert",
        "FILE:server.pem",
        "--tls-key",
        "FILE:server.key",
    ];
    let args = files.args(&[&LISTEN[..], &good].concat());
    let check = || {
        let mut child = Drainline::with(&[&args[..], &["--check".to_owned()]].concat())
            .bare()
            .spawn();
        child.wait().assert_code(0);
        String::from_utf8(child.stdout_bytes()).unwrap()
    };
    let named = format!("TLS certificate {} ", files.text("server.pem"));
    let mut config = (*config(&files.servers, None, &VERSIONS)).clone();
    config.time_provider = Arc::new(In2025);
    let config = Arc::new(config);

    files.put("server", &pair(ends(15)));
    assert!(!check().contains(&named), "{}", check());
    let mut renewed = Drainline::start(&args);
    for (pair, says) in [
        (near, "expires in 5 days: renew it"),
        (
            past,
            "expired 3 days ago, and clients will refuse it: renew it",
        ),
    ] {
        let says = format!("{named}{says}");
        files.put("server", &pair);
        let note = format!("note: {says}");
        assert!(check().lines().any(|line| line == note), "{}", check());
        let is_told = |child: &Drainline, beside: &str| {
            let said = child.stderr_text();
            let mut lines = said.lines();
            lines.any(|it| it.contains(" WARN ") && it.contains(beside) && it.ends_with(&says))
        };

        let mut child = Drainline::start(&args);
        wait_until("a line at start", DEADLINE, || is_told(&child, ""));
        let mut client = Client::connect(child.addr(), &config);
        client.send(b"hello\n");
        client.close();
        wait_until("its line", DEADLINE, || child.stdout_bytes() == b"hello\n");
        child.terminate().assert_code(0);

        assert!(!is_told(&renewed, ""), "{}", renewed.stderr_text());
        renewed.signal(Signal::HUP);
        wait_until("a line after SIGHUP", DEADLINE, || {
            is_told(&renewed, " has new TLS: ")
        });
    }
    renewed.terminate().assert_code(0);
}

/// Nobody writes into the FIFO, and whoever opened it would wait for ever.
#[test]
fn a_fifo_in_place_of_a_file_is_refused_and_keeps_nobody_from_stopping() {
    let files = Files::new();
    fifo::make(files.path("fifo"));
    let with = |rest: &[&'static str]| [&LISTEN[..], rest].concat();
    let good = [
        "--tls-cert",
        "FILE:server.pem",
        "--tls-key",
        "FILE:server.key",
    ];
    for row in ["--tls-cert", "--tls-key"] {
        let named: Vec<&str> = good
            .chunks(2)
            .flat_map(|pair| match pair[0] == row {
                true => [row, "FILE:fifo"],
                false => [pair[0], pair[1]],
            })
            .collect();
        files.refused(&with(&named), 1, "fifo: not a regular file");
    }
    for row in [["--tls-client-ca", "FILE:fifo"], ["--tls-cert", "FILE:."]] {
        let given = match row[0] {
            "--tls-cert" => row.to_vec(),
            _ => [&good[..], &row].concat(),
        };
        files.refused(&with(&given), 1, "cannot read");
    }

    let mut child = Drainline::start(&files.args(&with(&good)));
    fs::remove_file(files.path("server.key")).unwrap();
    fifo::make(files.path("server.key"));
    child.signal(Signal::HUP);
    wait_until("a line about it", DEADLINE, || {
        let said = child.stderr_text();
        said.contains("keeps the TLS that it has: ") && said.contains("not a regular file")
    });
    child.terminate().assert_code(0);
}

/// The first lines at start, once they are all there.
fn said_at_start(child: &Drainline) -> (String, String) {
    wait_until("the line to try", DEADLINE, || {
        let said = child.stderr_text();
        said.split("\ntry: ")
            .nth(1)
            .is_some_and(|it| it.contains('\n'))
    });
    let said = child.stderr_text();
    let first = said.lines().find(|line| line.contains(" to stdout"));
    let line = said.lines().find_map(|line| line.strip_prefix("try: "));
    (first.unwrap().to_owned(), line.unwrap().to_owned())
}

#[test]
fn the_first_lines_say_who_speaks_tls_and_the_line_to_try_works() {
    let files = Files::new();
    files.put("client", &files.clients.client("web1.example"));
    let good = [
        "--tls-cert",
        "FILE:server.pem",
        "--tls-key",
        "FILE:server.key",
    ];
    let ca = ["--tls-client-ca", "FILE:ca.pem"];
    let unix = format!("tls+unix:{}", files.text("tls.sock"));
    for (listen, rest, program, by) in [
        (
            &LISTEN[..],
            &[][..],
            "ncat",
            "ncat --ssl --send-only 127.0.0.1 ",
        ),
        (&LISTEN, &ca, "openssl", "openssl s_client -quiet "),
        (
            &["--listen", &unix],
            &[],
            "openssl",
            "openssl s_client -quiet ",
        ),
    ] {
        let args = files.args(&[listen, &good, rest].concat());
        let mut child = Drainline::with(&args).spawn();
        let (first, line) = said_at_start(&child);
        assert!(first.contains(": lines over TLS from "), "{first}");
        assert!(line.contains(by), "{line}");
        let shown = line.contains("-cert client.pem -key client.key");
        assert_eq!(shown, !rest.is_empty(), "{line}");
        if is_installed(program) {
            let mut shell = Command::new("sh");
            let tried = shell.args(["-c", &line]).current_dir(files.folder.path());
            let tried = tried.stderr(Stdio::null()).stdout(Stdio::null()).status();
            assert!(tried.unwrap().success(), "{line}");
            wait_until("its line", DEADLINE, || child.stdout_bytes() == b"hello\n");
        }
        child.terminate().assert_code(0);
    }
}

/// Whom an allow list or a balancer keeps out could not try it.
#[test]
fn the_line_to_try_is_of_a_listener_that_takes_it() {
    let files = Files::new();
    let path = |name| files.text(name);
    let text = format!(
        "tls_cert = {:?}\ntls_key = {:?}\n\
         [[listener]]\nname = \"behind\"\naddress = \"tls://127.0.0.1:0\"\nproxy_from = [\"192.0.2.1\"]\n\
         [[listener]]\nname = \"closed\"\naddress = \"127.0.0.1:0\"\nallow = [\"192.0.2.1\"]\n\
         [[listener]]\naddress = \"127.0.0.2:0\"\n",
        path("server.pem"),
        path("server.key"),
    );
    fs::write(files.path("drainline.toml"), text).unwrap();
    let mut child = Drainline::with(&["--config", &path("drainline.toml")])
        .bare()
        .spawn();
    let (first, line) = said_at_start(&child);
    let begins = "lines over TLS from behind at 127.0.0.1:";
    assert!(first.contains(begins), "{first}");
    assert!(
        first.contains(", lines from closed at 127.0.0.1:"),
        "{first}"
    );
    assert!(line.contains("ncat --send-only 127.0.0.2 "), "{line}");
    child.terminate().assert_code(0);
}

/// By a flag, and in the file where the value stands.
#[test]
fn an_error_names_the_setting_that_it_is_about_with_the_code_of_its_origin() {
    let files = Files::new();
    let write = |name: &str, text: &str| fs::write(files.path(name), text).unwrap();
    write("empty.pem", "");
    write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
    let both = fs::read_to_string(files.path("server.pem")).unwrap() + LEGACY_KEY;
    write("both.pem", &both);
    write("version-1.pem", VERSION_1);
    let crl = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    write("bad-crl.pem", crl);
    files.put("other", &files.servers.server());
    let good = [
        ("tls-cert", "server.pem"),
        ("tls-key", "server.key"),
        ("tls-client-ca", "ca.pem"),
    ];
    for (row, file, codes, says) in [
        (
            "tls-cert",
            "none.pem",
            (1, 1),
            "cannot read TLS certificate ",
        ),
        ("tls-key", "none.key", (1, 1), "cannot read TLS key "),
        (
            "tls-client-ca",
            "none.pem",
            (1, 1),
            "cannot read client CA ",
        ),
        (
            "tls-client-crl",
            "none.pem",
            (1, 1),
            "cannot read revocation list ",
        ),
        (
            "tls-cert",
            "empty.pem",
            (2, 78),
            "no certificate in TLS certificate ",
        ),
        (
            "tls-cert",
            "version-1.pem",
            (2, 78),
            "is of X.509 version 1, ",
        ),
        (
            "tls-cert",
            "both.pem",
            (2, 78),
            "both.pem has an encrypted private key: decrypt it with openssl pkey",
        ),
        (
            "tls-key",
            "empty.pem",
            (2, 78),
            "no private key in TLS key ",
        ),
        (
            "tls-key",
            "encrypted.key",
            (2, 78),
            "is encrypted: decrypt it",
        ),
        (
            "tls-key",
            "other.key",
            (78, 78),
            "does not match TLS certificate ",
        ),
        (
            "tls-client-ca",
            "server.key",
            (2, 78),
            "no certificate in client CA ",
        ),
        (
            "tls-client-crl",
            "empty.pem",
            (2, 78),
            "no revocation list in ",
        ),
        (
            "tls-client-crl",
            "bad-crl.pem",
            (2, 78),
            "has no valid list: ",
        ),
        // Mixed up.
        (
            "tls-cert",
            "server.key",
            (2, 78),
            "server.key: it has a PRIVATE KEY",
        ),
        (
            "tls-key",
            "server.pem",
            (2, 78),
            "server.pem: it has a CERTIFICATE",
        ),
    ] {
        let mut rows = good.to_vec();
        rows.retain(|(known, _)| *known != row);
        rows.push((row, file));
        let mut flags: Vec<String> = LISTEN.map(str::to_owned).to_vec();
        let mut text = "[[listener]]\naddress = \"tls://127.0.0.1:0\"\n".to_owned();
        for (row, file) in &rows {
            let path = files.text(file);
            text += &format!("{} = {path:?}\n", row.replace('-', "_"));
            flags.extend([format!("--{row}"), path]);
        }
        write("drainline.toml", &text);
        let config = files.text("drainline.toml");
        let (line, key) = (rows.len() + 2, row.replace('-', "_"));
        let place = format!("{config}:{line}:{}: {key}: ", key.len() + 4);
        for (args, code, named) in [
            (flags, codes.0, format!("--{row}: ")),
            (vec!["--config".to_owned(), config], codes.1, place),
        ] {
            let exit = ended(&args);
            exit.assert_code(code);
            let said = &exit.stderr;
            assert!(said.starts_with(&format!("drainline: {named}")), "{said}");
            assert!(said.contains(says) && said.lines().count() == 1, "{said}");
        }
    }
}

/// As `openssl ec -aes256` makes it.
const LEGACY_KEY: &str = "\
-----BEGIN EC PRIVATE KEY-----\n\
Proc-Type: 4,ENCRYPTED\n\
DEK-Info: AES-256-CBC,29A1432249C3E4DA0A5BFA94D62CD9F6\n\
\n\
qrU1IwvA+97E8mxNHigQ/TPO1hJZwkeLxsZoAELCkqEW4Rj8wHwmGiR8TpEG6NFK\n\
85j8nd8f2N7l44WKOdGhgXGKN49CaoyHULVflTa8dPNtHRYoNLD4E/xCcS4wvYDp\n\
S9KjsuNy+M5w2YsPHrx9H2wwkggrse8Yh7Q+T/c8TWQ=\n\
-----END EC PRIVATE KEY-----\n";

/// As `openssl x509 -req` makes it without `-extfile`.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBJTCBywIUOfIf9Hp+62xxgBMiQNeAz04tapowCgYIKoZIzj0EAwIwFDESMBAG\n\
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyOTA5MzQ0MVoYDzIxMjYxMTA1MDkzNDQx\n\
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
AASZiypFwSfNHSTeBwi6/qnP/11rKoUOjIwAq47Qu+BCLAPz2Y/kOANmQViaMRy3\n\
FbHav/66B1N5W9kmHL2lTfHTMAoGCCqGSM49BAMCA0kAMEYCIQDCV40epHLspX95\n\
HSDeAAxwiOmT6pY+HjU+dSQWTstbbgIhAP64rdwZqsOvyWR1tTXc2+QjY/Yu4QrI\n\
gO2ztSGglYSP\n\
-----END CERTIFICATE-----\n";

/// How port 6514 is served without root: the service manager has the socket.
#[test]
fn a_socket_that_is_passed_speaks_tls_by_a_flag_alone() {
    let files = Files::new();
    let good = [
        "--listen",
        "tls+systemd:syslog",
        "--tls-cert",
        "FILE:server.pem",
        "--tls-key",
        "FILE:server.key",
    ];
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let manager = UnixDatagram::bind(files.path("notify")).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let launch = Drainline::with(&files.args(&good)).bare();
    let launch = launch.env("NOTIFY_SOCKET", files.text("notify"));
    let mut child = launch.passing("syslog", socket).spawn();
    let mut told = [0; 1000];
    let len = manager.recv(&mut told).unwrap();
    let status = format!("READY=1\nSTATUS=listening on {addr} (TLS)\n");
    assert_eq!(String::from_utf8_lossy(&told[..len]), status);
    let mut client = Client::connect(addr, &config(&files.servers, None, &VERSIONS));
    client.send(b"to a socket that was passed\n");
    client.close();
    wait_until("a line", DEADLINE, || {
        child.stdout_bytes() == b"to a socket that was passed\n"
    });
    let (first, _) = said_at_start(&child);
    assert!(first.contains(": lines over TLS from "), "{first}");
    child.terminate().assert_code(0);
}
