//! The HTTP output before servers that others wrote: nginx, which limits bodies and rates, closes
//! connections that were kept open and speaks TLS, in front of VictoriaMetrics, which takes lines
//! of JSON and is away for a while.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::certificates::Certificates;
use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::port::free_port;
use crate::common::programs::installed;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::TlsClient;
use drainline::ingest::sink::Http;

/// A server of others, which ends with its test.
struct Other(Child);

impl Other {
    fn start(command: &mut Command) -> Other {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Other(quiet.spawn().unwrap())
    }

    /// In good order: it keeps what it has taken.
    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

/// In good order, so that nginx takes its worker with it. One that has ended already is waited for
/// once more, which changes nothing.
impl Drop for Other {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.end();
        }
    }
}

fn victoria(program: &Path, folder: &Path, port: u16) -> Other {
    let mut command = Command::new(program);
    command
        .arg(format!(
            "-storageDataPath={}",
            folder.join("data").display()
        ))
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .arg("-retentionPeriod=100y");
    let other = Other::start(&mut command);
    wait_until("VictoriaMetrics", DEADLINE, || {
        get(port, "/health").is_some()
    });
    other
}

/// A body of 20,000 bytes at most, two requests a second and two in advance, three on a connection.
fn nginx(program: &Path, folder: &Path, port: u16, to: u16, certificates: &Certificates) -> Other {
    let [cert, key] = certificates.server();
    let at = folder.display();
    let config = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log; worker_processes 1;
         events {{ worker_connections 64; }}
         http {{
           access_log {at}/access.log;
           client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/f;
           uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
           limit_req_zone $server_port zone=all:64k rate=2r/s; limit_req_status 429;
           server {{
             listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
             client_max_body_size 20000; keepalive_requests 3;
             location / {{ limit_req zone=all burst=2 nodelay; proxy_pass http://127.0.0.1:{to}; }}
           }}
         }}"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).unwrap();
    let other = Other::start(
        Command::new(program)
            .arg("-c")
            .arg(&path)
            .arg("-p")
            .arg(folder),
    );
    wait_until("nginx", DEADLINE, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    other
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.0 200").then_some(answer)
}

/// Series with a number each, so that what is missing is seen; what is there twice is not.
fn series(range: std::ops::Range<u64>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    range.fold(String::new(), |mut all, nth| {
        let time = now.as_millis();
        let metric = format!(r#"{{"__name__":"drainline","nth":"{nth}"}}"#);
        let line = format!(r#"{{"metric":{metric},"values":[{nth}],"timestamps":[{time}]}}"#);
        writeln!(all, "{line}").unwrap();
        all
    })
}

#[test]
fn nginx_before_victoria_metrics_gets_all_of_it_though_it_is_away_for_a_while() {
    let (Some(nginx_program), Some(victoria_program)) =
        (installed("nginx"), installed("victoria-metrics"))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new();
    let (port, to) = (free_port(), free_port());
    let mut stored = victoria(&victoria_program, folder.path(), to);
    let _nginx = nginx(&nginx_program, folder.path(), port, to, &certificates);
    let sink = Http::to(&format!("https://localhost:{port}/api/v1/import"))
        .tls(TlsClient::new().ca_file(certificates.authority()))
        .linger(Duration::from_millis(200))
        .open()
        .unwrap();
    let builder = small::ingest().listen("127.0.0.1:0".parse().unwrap());
    let server = builder.start(sink).unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    stream.write_all(series(0..1500).as_bytes()).unwrap();
    let delivered = |count| server.stats().delivered == count;
    wait_until("the first delivered", DEADLINE, || delivered(1500));
    stored.end();
    stream.write_all(series(1500..2000).as_bytes()).unwrap();
    let told = || server.report().outputs[0].last_error.clone();
    wait_until("a failure", DEADLINE, || {
        told().is_some_and(|error| error.contains("502 Bad Gateway"))
    });
    let _stored = victoria(&victoria_program, folder.path(), to);
    wait_until("all delivered", DEADLINE, || delivered(2000));
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    // What it has taken can be asked for some time later.
    wait_until("all stored", DEADLINE, || {
        get(to, "/internal/force_flush").unwrap();
        let stored = get(to, "/api/v1/export?match[]=drainline").unwrap();
        (0..2000).all(|nth| stored.contains(&format!("\"nth\":\"{nth}\"")))
    });
    let seen = fs::read_to_string(folder.path().join("access.log")).unwrap();
    for status in [" 204 ", " 413 ", " 429 ", " 502 "] {
        assert!(seen.contains(status), "{status}: {seen}");
    }
}
