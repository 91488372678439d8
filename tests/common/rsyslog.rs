//! A real rsyslogd whose `omfwd` sends numbered messages to the real binary.
//!
//! It runs by a configuration of its own in a folder of its own and reads a file of messages
//! (`imfile`). Its queue is on disk, so what goes missing went missing on the way. All of the queue
//! is: one in memory that is saved to disk as it ends, or that overflows there, has two workers
//! with a connection each, and no order.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::certificates::Certificates;
use super::child::Drainline;
use super::guard::Guarded;
use super::port::free_port;
use super::programs::{installed, is_missing};
use super::relay::Relay;
use super::tagged::{self, Tagged};
use super::wait::{DEADLINE, wait_until};

/// The length of a message, about.
pub const SIZE: usize = 100;
/// What rsyslog is told to begin each message with; a counted one must, to be known as syslog.
pub const PRIORITY: &[u8] = b"<13>";

/// How many messages rsyslog hands to omfwd at a time: what it repeats is repeated from the first
/// of these.
pub const BATCH: u64 = 1024;
/// A folder with everything that belongs to one rsyslog, and the file that a drainline appends to.
#[derive(Debug)]
pub struct Site {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    tls: Option<Tls>,
}

/// How rsyslog speaks TLS.
#[derive(Debug)]
struct Tls {
    /// `gtls` or `ossl`.
    driver: &'static str,
    certificates: Certificates,
}

impl Site {
    /// `None`: rsyslogd is not installed. `framing` is omfwd's.
    pub fn new(framing: &str) -> Option<Site> {
        let program = installed("rsyslogd")?;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        let port = free_port();
        let site = Site {
            program,
            folder,
            port,
            tls: None,
        };
        site.configure(framing, port);
        Some(site)
    }

    /// One that speaks TLS, by one of rsyslog's drivers, and trusts nobody but drainline.
    pub fn over_tls(framing: &str, driver: &'static str) -> Option<Site> {
        let mut site = Site::new(framing)?;
        has_driver(driver).then_some(())?;
        site.tls = Some(Tls {
            driver,
            certificates: Certificates::new(),
        });
        site.configure(framing, site.port);
        Some(site)
    }

    /// One with a relay between rsyslog and drainline.
    pub fn with_relay(framing: &str) -> Option<(Site, Relay)> {
        let site = Site::new(framing)?;
        let relay = Relay::to((Ipv4Addr::LOCALHOST, site.port).into());
        site.configure(framing, relay.address().port());
        Some((site, relay))
    }

    fn configure(&self, framing: &str, port: u16) {
        let (files, driver) = match &self.tls {
            None => (String::new(), String::new()),
            Some(Tls {
                driver,
                certificates,
            }) => (
                format!(
                    r#"global(defaultNetstreamDriverCAFile="{}")"#,
                    certificates.authority()
                ),
                format!(
                    r#"StreamDriver="{driver}" StreamDriverMode="1" StreamDriverAuthMode="x509/name"
                   StreamDriverPermittedPeers="{}""#,
                    Certificates::NAME
                ),
            ),
        };
        let configuration = format!(
            r#"
            global(workDirectory="{folder}/work")
            {files}
            module(load="imfile")
            main_queue(queue.type="Disk" queue.filename="main" queue.saveOnShutdown="on"
                       queue.dequeueBatchSize="{BATCH}" queue.timeoutShutdown="1")
            input(type="imfile" file="{folder}/input" tag="input")
            template(name="bare" type="string" string="{priority}%msg%")
            action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" TCP_Framing="{framing}"
                   {driver}
                   template="bare" action.resumeRetryCount="-1" action.resumeInterval="1")
            "#,
            folder = self.folder.path().display(),
            priority = str::from_utf8(PRIORITY).unwrap(),
        );
        fs::write(self.path("configuration"), configuration).unwrap();
    }

    /// Gives rsyslog more to send.
    pub fn write(&self, messages: Range<u64>) {
        let mut options = File::options();
        let mut input = options
            .append(true)
            .create(true)
            .open(self.path("input"))
            .unwrap();
        input
            .write_all(&Tagged::new(1).lines(messages, SIZE))
            .unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts an rsyslog that reads on where the last one ended.
    pub fn rsyslog(&self) -> Guarded {
        let mut command = Command::new(&self.program);
        command.arg("-n").arg("-f").arg(self.path("configuration"));
        command.arg("-i").arg(self.path("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Guarded(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts a drainline that appends to the same file as the last one.
    pub fn drainline(&self, framing: &str) -> Drainline {
        let listen = format!("127.0.0.1:{}", self.port);
        let sink = format!("file:{}", self.path("sink").display());
        let args = ["--framing", framing, "--sink", &sink];
        match &self.tls {
            None => Drainline::start(&[&args[..], &["--listen", &listen]].concat()),
            Some(Tls { certificates, .. }) => {
                let listening = certificates.listening(&listen);
                let listening = listening.iter().map(String::as_str);
                Drainline::start(&args.into_iter().chain(listening).collect::<Vec<_>>())
            }
        }
    }

    pub fn sink_bytes(&self) -> u64 {
        fs::metadata(self.path("sink")).map_or(0, |file| file.len())
    }

    /// Blocks until the sink has grown by so many messages.
    #[track_caller]
    pub fn wait_for_more(&self, messages: u64) {
        let from = self.sink_bytes();
        wait_until("messages", DEADLINE, || {
            self.sink_bytes() >= from + messages * (SIZE - 15) as u64
        });
    }

    /// Blocks until this message ends the sink.
    #[track_caller]
    pub fn wait_for(&self, message: u64) {
        let last = Tagged::new(1).lines(message..message + 1, SIZE);
        wait_until("the last message", DEADLINE, || {
            let mut sink = File::open(self.path("sink")).unwrap();
            let mut end = Vec::new();
            let is_long_enough = sink.seek(SeekFrom::End(-(last.len() as i64))).is_ok();
            is_long_enough && sink.read_to_end(&mut end).is_ok() && end == last
        });
    }

    /// What arrived.
    pub fn sink(&self) -> Vec<u8> {
        fs::read(self.path("sink")).unwrap()
    }

    /// What arrived, as the numbers of its messages. Each is whole.
    #[track_caller]
    pub fn arrived(&self) -> Vec<u64> {
        let sink = self.sink();
        let whole = sink.strip_suffix(b"\n").expect("a LF at the end");
        let number = |line: &[u8]| {
            let message = line.strip_prefix(PRIORITY).ok_or("no priority");
            match message.and_then(tagged::parse) {
                Ok((1, seq)) => seq,
                other => panic!("{other:?}: {}", line.escape_ascii()),
            }
        };
        whole.split(|byte| *byte == b'\n').map(number).collect()
    }
}

/// Whether rsyslogd can load this driver, which is in a package of its own.
fn has_driver(driver: &str) -> bool {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let mut places = folders.map(|folder| folder.path().join("rsyslog"));
    let name = format!("lmnsd_{driver}.so");
    let found = places.any(|place| place.join(&name).is_file());
    if !found {
        is_missing(&name);
    }
    found
}
