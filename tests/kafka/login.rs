//! Logins that a broker grants, by each mechanism. The gate before the mock holds what it is given
//! against what it knows of the account, as a broker does; OpenSSL calculates for it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::common::programs;

/// RFC 5802 and RFC 7677: no fewer.
const ITERATIONS: u32 = 4096;
const SALT: &[u8] = b"salt of a broker";
/// What the broker adds to the client's nonce.
const NONCE: &str = "TheBrokersPart";

/// Whom a broker lets in, and how.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// As Kafka calls it.
    pub(crate) mechanism: &'static str,
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
}

/// A login on one connection, as the broker sees it.
pub(crate) struct Exchange {
    account: Account,
    /// What was said so far, by SCRAM: the client's part, and the broker's.
    said: Option<[String; 2]>,
    is_done: bool,
}

impl Exchange {
    pub(crate) fn with(account: Account) -> Exchange {
        Exchange {
            account,
            said: None,
            is_done: false,
        }
    }

    /// Whether the client is let in.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// What the broker says to that; `None`: the login is refused.
    pub(crate) fn answer(&mut self, given: &[u8]) -> Option<Vec<u8>> {
        let Account { user, password, .. } = self.account;
        if self.account.mechanism == "PLAIN" {
            self.is_done = given == format!("\0{user}\0{password}").as_bytes();
            return self.is_done.then(Vec::new);
        }
        let given = std::str::from_utf8(given).ok()?;
        let Some([client_first, server_first]) = &self.said else {
            let first = given.strip_prefix("n,,")?;
            let nonce = first.strip_prefix(&format!("n={user},r="))?;
            let salt = base64(SALT);
            let answer = format!("r={nonce}{NONCE},s={salt},i={ITERATIONS}");
            self.said = Some([first.to_owned(), answer.clone()]);
            return Some(answer.into_bytes());
        };
        let (without_proof, proof) = given.split_once(",p=")?;
        let nonce = server_first.split(',').next()?;
        if without_proof != format!("c=biws,{nonce}") {
            return None;
        }
        let all = format!("{client_first},{server_first},{without_proof}");
        let digest = match self.account.mechanism {
            "SCRAM-SHA-256" => Digest("sha256", 32),
            "SCRAM-SHA-512" => Digest("sha512", 64),
            other => panic!("no such mechanism: {other}"),
        };
        let salted = digest.salted(password);
        let client_key = digest.hmac(&salted, b"Client Key");
        let signature = digest.hmac(&digest.hash(&client_key), all.as_bytes());
        let right: Vec<u8> = client_key
            .iter()
            .zip(signature)
            .map(|(a, b)| a ^ b)
            .collect();
        self.is_done = proof == base64(&right);
        let server_key = digest.hmac(&salted, b"Server Key");
        let signature = base64(&digest.hmac(&server_key, all.as_bytes()));
        self.is_done.then(|| format!("v={signature}").into_bytes())
    }
}

/// Its name, and its length in bytes.
struct Digest(&'static str, usize);

impl Digest {
    fn hash(&self, bytes: &[u8]) -> Vec<u8> {
        openssl(&["dgst", &format!("-{}", self.0), "-binary"], bytes)
    }

    fn hmac(&self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        let (name, key) = (format!("-{}", self.0), format!("hexkey:{}", hex(key)));
        openssl(
            &["dgst", &name, "-mac", "HMAC", "-macopt", &key, "-binary"],
            bytes,
        )
    }

    fn salted(&self, password: &str) -> Vec<u8> {
        let options = [
            format!("digest:{}", self.0),
            format!("pass:{password}"),
            format!("hexsalt:{}", hex(SALT)),
            format!("iter:{ITERATIONS}"),
        ];
        let length = self.1.to_string();
        let mut args = vec!["kdf", "-binary", "-keylen", &length];
        for option in &options {
            args.extend(["-kdfopt", option]);
        }
        args.push("PBKDF2");
        openssl(&args, b"")
    }
}

fn base64(bytes: &[u8]) -> String {
    String::from_utf8(openssl(&["base64", "-A"], bytes)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(programs::find("openssl").unwrap())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Where it reads no input it may have ended.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args:?}: {output:?}");
    output.stdout
}

#[cfg(all(feature = "kafka-tls", feature = "cli"))]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::{Account, Command, Stdio, programs};
    use crate::common::certificates::Certificates;
    use crate::common::child::Drainline;
    use crate::common::guard::Guarded;
    use crate::common::port::free_port;
    use crate::gate::Gate;
    use crate::*;

    const USER: &str = "somebody";
    const PASSWORD: &str = "hunter two,=2@";
    const MECHANISMS: [(&str, &str); 4] = [
        // The one where nothing is said.
        ("", "SCRAM-SHA-512"),
        ("&sasl_mechanism=scram-sha-512", "SCRAM-SHA-512"),
        ("&sasl_mechanism=scram-sha-256", "SCRAM-SHA-256"),
        ("&sasl_mechanism=plain", "PLAIN"),
    ];

    fn account(mechanism: &'static str, password: &'static str) -> Option<Account> {
        Some(Account {
            mechanism,
            user: USER,
            password,
        })
    }

    /// A file that has the password, and where it is.
    fn password_file() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, format!("{PASSWORD}\n")).unwrap();
        (folder, path)
    }

    /// Ten lines, by way of a program that is to log in, and out of the topic.
    fn assert_writes(cluster: &Cluster, gate: &Gate, port: u16, options: &str, mechanism: &str) {
        let (_folder, path) = password_file();
        let sink = format!(
            "kafka://{USER}@127.0.0.1:{port}/{TOPIC}?password_file={}{options}",
            path.display()
        );
        let mut drainline = Drainline::start(&["--sink", &sink]);
        let mut stream = drainline.connect();
        for nth in 0..10 {
            writeln!(stream, "0-{nth}").unwrap();
        }
        client::half_close(stream);
        assert_each_once(cluster, 1, 10);
        drainline.terminate().assert_code(0);
        let logins = gate.logins();
        assert!(!logins.is_empty());
        assert!(logins.iter().all(|it| it == mechanism), "{logins:?}");
    }

    #[test]
    fn a_login_is_granted_by_each_mechanism() {
        if !programs::is_installed("openssl") {
            return;
        }
        for (options, mechanism) in MECHANISMS {
            let cluster = single();
            let gate = Gate::new(&cluster, account(mechanism, PASSWORD), None);
            assert_writes(&cluster, &gate, gate.port(), options, mechanism);
        }
    }

    /// socat speaks TLS for the gate.
    #[test]
    fn a_login_over_tls_is_granted() {
        let Some(socat) = programs::installed("socat") else {
            return;
        };
        let certificates = Certificates::new();
        let [certificate, key] = certificates.server();
        let (cluster, port) = (single(), free_port());
        let gate = Gate::new(&cluster, account("PLAIN", PASSWORD), Some(port));
        let listen = format!(
            "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={certificate},key={key}"
        );
        let ends = [listen, format!("TCP:{}", gate.address())];
        let _socat = {
            let mut socat = Command::new(socat);
            Guarded(socat.args(ends).stderr(Stdio::null()).spawn().unwrap())
        };
        let authority = certificates.authority();
        let options = format!("&sasl_mechanism=plain&tls=true&tls_ca={authority}");
        assert_writes(&cluster, &gate, port, &options, "PLAIN");
    }

    #[test]
    fn a_login_with_another_password_writes_nothing() {
        if !programs::is_installed("openssl") {
            return;
        }
        for (options, mechanism) in MECHANISMS {
            let cluster = single();
            let gate = Gate::new(&cluster, account(mechanism, "another"), None);
            let (_folder, path) = password_file();
            let sink = format!(
                "kafka://{USER}@{}/{TOPIC}?password_file={}{options}",
                gate.address(),
                path.display()
            );
            let flags = ["--sink", &sink, "--drain-timeout", "1s"];
            let mut drainline = Drainline::start(&flags);
            let mut stream = drainline.connect();
            stream.write_all(b"message\n").unwrap();
            wait_until("the refusal is told", DEADLINE, || {
                let text = drainline.stderr_text();
                text.contains("failed: ") && text.contains("SASL authentication error")
            });
            let exit = drainline.terminate();
            exit.assert_code(4);
            assert!(!exit.stderr.contains(PASSWORD), "{exit}");
            assert!(gate.logins().is_empty() && gate.written().is_empty());
        }
    }
}
