//! What a command writes to its stderr, line by line into the log.

use std::io::{ErrorKind, Read};
use std::process::ChildStderr;
use std::time::{Duration, Instant};

use log::Level;

use crate::server::Logger;

/// Of a line, more is left out.
const MAX_LINE: usize = 1024;
/// Lines in each second, more are counted.
const MAX_LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);
/// What is read at one look: a command that writes for ever must not keep us from writing to it.
const MAX_AT_ONCE: usize = 64 << 10;

/// Its lines so far. The pipe does not block.
#[derive(Debug)]
pub(super) struct Stderr {
    pub(super) pipe: ChildStderr,
    line: Vec<u8>,
    /// When the first line of this second came, and how many did.
    period: Option<(Instant, u32)>,
    left_out: u64,
}

impl Stderr {
    pub(super) fn new(pipe: ChildStderr) -> Stderr {
        Stderr {
            pipe,
            line: Vec::new(),
            period: None,
            left_out: 0,
        }
    }

    /// Logs what is there, and returns whether the pipe is still open.
    pub(super) fn take(&mut self, name: &str, logger: &Logger) -> bool {
        let mut taken = 0;
        let mut buf = [0; 4096];
        while taken < MAX_AT_ONCE {
            match self.pipe.read(&mut buf) {
                Ok(0) => return false,
                Ok(bytes) => {
                    taken += bytes;
                    self.log_lines(&buf[..bytes], name, logger);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Logs what is there for the last time: also a line without an end, and how many were left
    /// out.
    pub(super) fn finish(&mut self, name: &str, logger: &Logger) {
        self.take(name, logger);
        if !self.line.is_empty() {
            self.log_line(name, logger);
        }
        self.tell_left_out(name, logger);
    }

    fn log_lines(&mut self, bytes: &[u8], name: &str, logger: &Logger) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, is_whole) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let free = (MAX_LINE + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(free)]);
            if is_whole {
                self.log_line(name, logger);
            }
        }
    }

    fn log_line(&mut self, name: &str, logger: &Logger) {
        let line = std::mem::take(&mut self.line);
        let now = Instant::now();
        let count = match self.period {
            Some((begun, count)) if now.duration_since(begun) < PERIOD => count,
            _ => {
                self.tell_left_out(name, logger);
                self.period = Some((now, 0));
                0
            }
        };
        if count >= MAX_LINES {
            self.left_out += 1;
            return;
        }
        if let Some((_, count)) = &mut self.period {
            *count += 1;
        }
        logger.log(Level::Info, format!("{name}: {}", shown(&line)));
    }

    fn tell_left_out(&mut self, name: &str, logger: &Logger) {
        let lines = std::mem::take(&mut self.left_out);
        if lines > 0 {
            let text = format!(
                "{name}: {lines} more lines, beyond {MAX_LINES} in a second, were left out"
            );
            logger.log(Level::Info, text);
        }
    }
}

/// A line as the log may show it.
fn shown(line: &[u8]) -> String {
    let is_cut = line.len() > MAX_LINE;
    let line = &line[..line.len().min(MAX_LINE)];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut shown = String::with_capacity(line.len());
    for char in String::from_utf8_lossy(line).chars() {
        match char.is_control() && char != '\t' {
            true => shown.extend(char.escape_default()),
            false => shown.push(char),
        }
    }
    if is_cut {
        shown.push_str(" ...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_what_a_terminal_obeys_and_not_without_end() {
        assert_eq!(shown(b"a\tb\x1b[2Jc\xff\r"), "a\tb\\u{1b}[2Jc\u{fffd}");
        let long = shown(&[b'x'; MAX_LINE + 1]);
        assert_eq!(long, "x".repeat(MAX_LINE) + " ...");
    }
}
