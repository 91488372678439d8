//! A broker that is no part of librdkafka: Tansu, which keeps all in memory
//! (`benches/peers/tansu/get`).

use std::net::TcpStream;
use std::process::{Command, Stdio};

use super::*;
use crate::common::guard::Guarded;
use crate::common::port::free_port;
use crate::common::programs;
use crate::common::wait::wait_for;

/// A broker alone. Drop kills it, and all that it has is gone.
struct Broker {
    guarded: Guarded,
    port: u16,
}

impl Broker {
    /// `None`: there is none on this machine, and the test says that it leaves its part out.
    fn start(flags: &[&str]) -> Option<Broker> {
        programs::installed("tansu")?;
        let port = free_port();
        let broker = Broker {
            guarded: spawn(port, port, flags),
            port,
        };
        broker.wait_until_up();
        Some(broker)
    }

    fn wait_until_up(&self) {
        wait_for("tansu is up", DEADLINE, || {
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn make_topic(&self) {
        let tansu = programs::find("tansu").unwrap();
        programs::run(
            Command::new(tansu)
                .args(["topic", "create", TOPIC, "--partitions"])
                .arg(PARTITIONS.to_string())
                .args(["--broker", &format!("tcp://{}", self.address())]),
        );
    }

    /// As after a crash, with another memory.
    fn crash_and_come_back(&mut self) {
        self.guarded.0.kill().unwrap();
        self.guarded.0.wait().unwrap();
        self.guarded = spawn(self.port, self.port, &[]);
        self.wait_until_up();
        self.make_topic();
    }
}

/// `advertised`: the port at which it says it is.
fn spawn(port: u16, advertised: u16, flags: &[&str]) -> Guarded {
    let child = Command::new(programs::find("tansu").unwrap())
        .args(["--storage-engine", "memory://tansu/", "--listener-url"])
        .arg(format!("tcp://127.0.0.1:{port}"))
        .arg("--advertised-listener-url")
        .arg(format!("tcp://localhost:{advertised}"))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Guarded(child.unwrap())
}

#[test]
fn a_broker_of_another_make_has_each_message_once_and_in_order() {
    for compression in [
        KafkaCompression::None,
        KafkaCompression::Lz4,
        KafkaCompression::Snappy,
    ] {
        let Some(broker) = Broker::start(&[]) else {
            return;
        };
        broker.make_topic();
        let options = KafkaOptions::new(broker.address(), TOPIC)
            .compression(compression)
            .key(KafkaKey::Host);
        let server = start(options);
        send(&server, 4, 2_000);
        wait_delivered(&server, 8_000);
        let found = messages(&broker.address(), 8_000);
        assert_eq!(found.len(), 8_000);
        for connection in 0..4 {
            let begin = format!("{connection}-");
            let of_it = found
                .iter()
                .filter(|line| line.starts_with(begin.as_bytes()));
            let sent = (0..2_000).map(|nth| format!("{connection}-{nth}").into_bytes());
            assert!(of_it.cloned().eq(sent), "connection {connection}");
        }
        assert_both_close(&server.shutdown(DEADLINE));
    }
}

/// The room of a message is free a moment after its report, and what looked before that waited for
/// a tenth of a second: these would have taken longer than the deadline.
#[test]
fn what_has_no_room_goes_on_as_soon_as_there_is_some() {
    let Some(broker) = Broker::start(&[]) else {
        return;
    };
    broker.make_topic();
    let options = KafkaOptions::new(broker.address(), TOPIC);
    let server = start(options.queue_messages(1).linger(Duration::from_millis(5)));
    send(&server, 1, 900);
    wait_delivered(&server, 900);
    assert_both_close(&server.shutdown(DEADLINE));
}

/// Such a broker refuses what a producer that it does not know goes on with, and librdkafka went on
/// with it for ever.
#[test]
fn a_broker_that_has_forgotten_everything_gets_what_comes_then() {
    let Some(mut broker) = Broker::start(&[]) else {
        return;
    };
    broker.make_topic();
    let options = KafkaOptions::new(broker.address(), TOPIC);
    let server = start(options.max_silence(Duration::from_secs(2)));
    send(&server, 1, 500);
    wait_delivered(&server, 500);
    broker.crash_and_come_back();
    send(&server, 2, 500);
    wait_delivered(&server, 1_500);
    let found = messages(&broker.address(), 1_000);
    assert_eq!(found.len(), 1_000);
    assert!(found.contains(&b"0-0".to_vec()) && found.contains(&b"1-499".to_vec()));
    assert_both_close(&server.shutdown(DEADLINE));
}

#[cfg(feature = "kafka-tls")]
mod access {
    use super::*;
    use crate::common::certificates::Certificates;
    use crate::common::child::Drainline;

    /// socat speaks TLS for the broker, at the port at which the broker says it is.
    #[test]
    fn tls_is_spoken_with_brokers_whose_authority_is_known() {
        let Some(socat) = programs::installed("socat") else {
            return;
        };
        if !programs::is_installed("tansu") {
            return;
        }
        let certificates = Certificates::new();
        let [certificate, key] = certificates.server();
        let (port, plain) = (free_port(), free_port());
        let broker = Broker {
            guarded: spawn(plain, port, &[]),
            port: plain,
        };
        broker.wait_until_up();
        broker.make_topic();
        let listen = format!(
            "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={certificate},key={key}"
        );
        let ends = [listen, format!("TCP:127.0.0.1:{plain}")];
        let _socat = {
            let mut socat = Command::new(socat);
            Guarded(socat.args(ends).stderr(Stdio::null()).spawn().unwrap())
        };
        let options = KafkaOptions::new(format!("localhost:{port}"), TOPIC);

        let server = start(options.clone().tls(Some(&certificates.authority())));
        send(&server, 1, 500);
        wait_delivered(&server, 500);
        assert_both_close(&server.shutdown(DEADLINE));

        let others = Certificates::new();
        let server = start(options.tls(Some(&others.authority())));
        send(&server, 1, 500);
        wait_until("the refusal is told", DEADLINE, || {
            let report = server.report();
            let error = report.outputs[0].last_error.as_deref().unwrap_or_default();
            error.contains("certificate verify failed")
        });
        let report = server.shutdown(Duration::from_secs(1));
        assert_eq!(report.stats.delivered, 0);
        assert_both_close(&report);
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_login_that_is_refused_is_told_without_the_password() {
        let Some(broker) = Broker::start(&["--authentication"]) else {
            return;
        };
        for mechanism in ["plain", "scram-sha-512"] {
            let sink = format!(
                "kafka://somebody:hunter-two@{}/{TOPIC}?sasl_mechanism={mechanism}",
                broker.address()
            );
            let flags = ["--sink", &sink, "--drain-timeout", "1s"];
            let mut drainline = Drainline::start(&flags);
            let mut stream = drainline.connect();
            stream.write_all(b"message\n").unwrap();
            // Or the broker has closed before what it said was read.
            wait_until("the refusal is told", DEADLINE, || {
                let text = drainline.stderr_text();
                let is_told = ["SASL", "AUTH_HANDSHAKE"]
                    .iter()
                    .any(|it| text.contains(it));
                text.contains("failed: ") && is_told
            });
            let exit = drainline.terminate();
            assert_eq!(exit.code, Some(4), "{}", exit.stderr);
            assert!(!exit.stderr.contains("hunter-two"), "{}", exit.stderr);
        }
    }
}
