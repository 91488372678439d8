//! The handlers of Python's `logging`, against the real binary: what each sends arrives byte for
//! byte, and the ledger closes.

use std::process::Command;

use crate::common::child::Drainline;
use crate::common::programs::{address, finish, installed, run};

/// How many records each script logs.
const RECORDS: u64 = 300;

/// Has a script log its records to a server. Returns what it says that it sent, and the server,
/// unless Python is missing.
#[track_caller]
fn logs(script: &str, args: &[&str]) -> Option<(Vec<u8>, Drainline)> {
    let python = installed("python3")?;
    let child = Drainline::start(args);
    let (host, port) = address(&child);
    let mut command = Command::new(python);
    let sent = run(command.args(["-c", script, &host, &port, &RECORDS.to_string()]));
    assert!(!sent.is_empty());
    Some((sent, child))
}

/// Each record is a pickle behind its length. What goes over the wire goes to stdout, too.
const SOCKET_HANDLER: &str = r#"
import logging, logging.handlers, sys

class Shown(logging.handlers.SocketHandler):
    def send(self, pickle):
        sys.stdout.buffer.write(pickle)
        super().send(pickle)
    def handleError(self, record):
        raise

handler = Shown(sys.argv[1], int(sys.argv[2]))
log = logging.getLogger("app")
log.addHandler(handler)
for number in range(int(sys.argv[3])):
    log.error("record %d %s", number, "\n" * (number * 37 % 5000))
handler.close()
"#;

#[test]
fn socket_handler_with_length_prefixes() {
    let args = [
        "--framing",
        "length-prefixed",
        "--output-framing",
        "length-prefixed",
    ];
    let Some((sent, child)) = logs(SOCKET_HANDLER, &args) else {
        return;
    };
    let (exit, sink) = finish(child, |sink| sink.len() >= sent.len());
    assert!(sink == sent, "{} bytes of {}", sink.len(), sent.len());
    assert_eq!(exit.u64("received"), RECORDS);
    assert_eq!(exit.u64("framing_bytes"), 4 * RECORDS);
    assert_eq!(exit.u64("connections.ended.eof"), 1);
}

/// Over TCP, too, it ends each message with NUL and with nothing else. What it shows are the
/// messages as they are meant.
const SYSLOG_HANDLER: &str = r#"
import logging, logging.handlers, socket, sys

class Raising(logging.handlers.SysLogHandler):
    def handleError(self, record):
        raise

handler = Raising((sys.argv[1], int(sys.argv[2])), socktype=socket.SOCK_STREAM)
log = logging.getLogger("app")
log.addHandler(handler)
for number in range(int(sys.argv[3])):
    text = "record %d %s" % (number, "x" * (number * 37 % 5000))
    print("<11>" + text)
    log.error(text)
handler.close()
"#;

#[test]
fn syslog_handler_with_nul() {
    let Some((meant, child)) = logs(SYSLOG_HANDLER, &["--framing", "nul"]) else {
        return;
    };
    let (exit, sink) = finish(child, |sink| sink.len() >= meant.len());
    assert!(sink == meant, "{} bytes of {}", sink.len(), meant.len());
    assert_eq!(exit.u64("received"), RECORDS);
    assert_eq!(exit.u64("framing_bytes"), RECORDS);
    assert_eq!((exit.u64("unterminated"), exit.u64("truncated")), (0, 0));
}

#[test]
fn syslog_handler_asked_to_end_with_lf_in_lines() {
    let script = SYSLOG_HANDLER
        .replace("handler = ", "Raising.append_nul = False; handler = ")
        .replace("log.error(text)", "log.error(text + chr(10))");
    let Some((meant, child)) = logs(&script, &["--framing", "syslog"]) else {
        return;
    };
    let (exit, sink) = finish(child, |sink| sink.len() >= meant.len());
    assert!(sink == meant, "{} bytes of {}", sink.len(), meant.len());
    assert_eq!(exit.u64("received"), RECORDS);
    assert_eq!(exit.u64("unterminated"), 0);
}
