//! Outputs, alone and several, at their worst: with what they hold for each request, message and
//! old file, and with peers that answer well, badly, without an end, or never.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::cell::{Cell, Prepare, Step};
use super::driver::{ENDLESS, Part, Script};
use super::grid::args;
use super::peers::{self, Serve};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const FLOW: Duration = Duration::from_millis(1_200);
const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

/// What is sent, and what the server has for it.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub buffer_bytes: u64,
    pub messages: u64,
    pub max_message: u64,
    pub size: usize,
    pub byte: u8,
}

/// Little but what the output itself takes.
pub const TINY: Load = Load {
    connections: 2,
    buffer_bytes: 300 * KIB,
    messages: 1_000,
    max_message: 64 * KIB,
    size: 20,
    byte: b'x',
};
pub const LONGEST: Load = Load {
    size: (64 << 10) - 1,
    ..TINY
};
pub const MUCH: Load = Load {
    connections: 8,
    buffer_bytes: 64 * MIB,
    messages: 100_000,
    size: 50_000,
    ..TINY
};
pub const HUGE: Load = Load {
    buffer_bytes: 40 * MIB,
    max_message: 16 * MIB,
    size: (16 << 20) - 1,
    ..TINY
};

impl Load {
    pub fn script(self) -> Arc<Script> {
        let message = [vec![self.byte; self.size], b"\n".to_vec()].concat();
        let times = (64 << 10) / message.len() + 1;
        Script::new(vec![Part(message.repeat(times), ENDLESS)])
    }
}

/// A table of an output.
pub fn output(sink: &str, rows: &str) -> String {
    format!("[[output]]\nsink = '''{sink}'''\n{rows}\n")
}

/// `PEER` in `outputs` is the port of `serve`; `NOBODY` is one where nobody is.
pub fn cell(name: &str, outputs: &str, serve: Serve, load: Load) -> Cell {
    let bytes = |bytes: u64| format!("{bytes}B");
    Cell {
        name: format!("output {name}, {load:?}"),
        args: args(&[
            ("--max-connections", &load.connections.to_string()),
            ("--buffer-bytes", &bytes(load.buffer_bytes)),
            ("--buffer-messages", &load.messages.to_string()),
            ("--max-message", &bytes(load.max_message)),
        ]),
        file: Some(format!("{LISTENER}{outputs}")),
        peer: Some(serve),
        prepare: None,
        buffer_bytes: load.buffer_bytes,
        steps: Arc::new(move || {
            vec![
                Step::Connect(load.connections, load.script()),
                Step::Flow(FLOW),
                Step::Settle,
            ]
        }),
    }
}

pub fn all() -> Vec<Cell> {
    let dated = dated();
    [
        files(),
        dated,
        redis(),
        http(),
        streams(),
        envelopes(),
        several(),
    ]
    .concat()
}

/// For a run of some seconds.
pub fn short() -> Vec<Cell> {
    let mut cells = files();
    cells.truncate(1);
    cells.extend(dated().into_iter().take(1));
    cells.extend(http().into_iter().take(1));
    cells.extend(several().into_iter().take(1));
    cells
}

/// Beside a folder full of old files, whose names are as long as may be.
fn files() -> Vec<Cell> {
    const OLD: u32 = 40_000;
    let name = "m".repeat(220);
    let sink = format!("file://FOLDER/logs/{name}");
    let prepare: Prepare = Arc::new(move |folder: &Path| {
        let folder = folder.join("logs");
        fs::create_dir(&folder).unwrap();
        for nth in 0..OLD {
            let (second, ms) = (nth / 1000, nth % 1000);
            let old = format!("{name}-20200101T0000{second:02}.{ms:03}Z.gz");
            File::create(folder.join(old)).unwrap();
        }
    });
    let of = |name: &str, options: &str| {
        let sink = format!("{sink}?rotate_size=8MiB&fsync=batch{options}");
        Cell {
            prepare: Some(Arc::clone(&prepare)),
            ..cell(name, &output(&sink, ""), peers::reads, LONGEST)
        }
    };
    vec![
        of("many old files, gzip", "&gzip=true"),
        of("many old files", ""),
        of("many old files that stay, gzip", "&gzip=true&keep=39000"),
    ]
}

/// Several files at once, of which each is another one with every second, in folders of their own.
#[cfg(feature = "strftime")]
fn dated() -> Vec<Cell> {
    let of = |name: &str, count: usize, path: &str, load: Load| {
        let one = |nth: usize| {
            let sink = format!("file://FOLDER/{nth}/{path}");
            output(&sink, &format!("name = 'n{nth}'"))
        };
        let outputs: String = (0..count).map(one).collect();
        let prepare: Prepare = Arc::new(move |folder: &Path| {
            for nth in 0..count {
                fs::create_dir(folder.join(nth.to_string())).unwrap();
            }
        });
        Cell {
            prepare: Some(prepare),
            steps: Arc::new(move || {
                vec![
                    Step::Connect(load.connections, load.script()),
                    Step::Flow(3 * FLOW),
                    Step::Settle,
                ]
            }),
            ..cell(
                &format!("dated files, {name}"),
                &outputs,
                peers::reads,
                load,
            )
        }
    };
    // %N is the part of a second: whoever looks for the file once a second finds another one.
    let long = format!("%Y/%m/%d/%H/%M/%S/%N/{}%s?fsync=batch", "m".repeat(200));
    vec![
        of("eight, long names", 8, &long, LONGEST),
        of("one", 1, "%N", TINY),
        of("eight, much", 8, "%Y-%N?fsync=100ms", MUCH),
    ]
}

#[cfg(not(feature = "strftime"))]
fn dated() -> Vec<Cell> {
    Vec::new()
}

fn redis() -> Vec<Cell> {
    let of = |name: &str, serve, options: &str, load| {
        let sink = format!("redis://127.0.0.1:PEER/stream{options}");
        cell(&format!("redis {name}"), &output(&sink, ""), serve, load)
    };
    vec![
        of("accepts", peers::redis_accepts, "?window=256MiB", MUCH),
        of("accepts", peers::redis_accepts, "", TINY),
        of("refuses every second one", peers::redis_refuses, "", TINY),
        of("answers with lists", peers::redis_lists, "", TINY),
        of("answers with nested lists", peers::redis_nests, "", TINY),
        of("never answers", peers::reads, "?window=64KiB", LONGEST),
    ]
}

fn http() -> Vec<Cell> {
    let of = |name: &str, serve, options: &str, load| {
        let sink = format!("http://127.0.0.1:PEER/?{options}");
        let name = format!("http {name}, {options}");
        cell(&name, &output(&sink, ""), serve, load)
    };
    let many = "requests=64&body_bytes=1KiB&linger=0s";
    let loki = "requests=8&body_bytes=4MiB&gzip=true&dialect=loki";
    let bulk = "requests=16&dialect=elasticsearch";
    // A message is longer than any body.
    let aside = "body_bytes=1KiB&refused=FOLDER/refused";
    let large = "requests=16&body_bytes=4MiB&gzip=true";
    vec![
        of("never reads", peers::never_reads, large, MUCH),
        of("accepts", peers::http_accepts, many, TINY),
        of("accepts", peers::http_accepts, loki, MUCH),
        of("accepts", peers::http_accepts, aside, HUGE),
        of("refuses", peers::http_refuses, "requests=16", TINY),
        of("takes turns", peers::bulk_takes_turns, bulk, TINY),
        of(
            "headers without end",
            peers::http_headers_without_end,
            many,
            TINY,
        ),
        of(
            "a header without end",
            peers::http_one_header_without_end,
            many,
            TINY,
        ),
        of(
            "chunks without end",
            peers::http_chunks_without_end,
            many,
            TINY,
        ),
        of(
            "a body without end",
            peers::http_body_without_end,
            many,
            TINY,
        ),
    ]
}

fn streams() -> Vec<Cell> {
    let tcp = output("tcp://127.0.0.1:PEER", "");
    let noise = output(
        "exec:tr '\\0' x </dev/zero >&2 & cat >/dev/null",
        "shell = true\nstop_timeout = '100ms'",
    );
    vec![
        cell("tcp, talks", &tcp, peers::talks, TINY),
        cell("tcp, never reads", &tcp, peers::never_reads, MUCH),
        cell("tcp, leaves", &tcp, peers::leaves, TINY),
        cell("exec, a line without end", &noise, peers::reads, TINY),
    ]
}

/// What makes most of a message.
fn envelopes() -> Vec<Cell> {
    let of = |name: &str, envelope: &str, load| {
        let rows = format!("envelope = '{envelope}'");
        let outputs = output("tcp://127.0.0.1:PEER", &rows);
        let name = format!("with an envelope, {name}");
        cell(&name, &outputs, peers::never_reads, load)
    };
    let control = Load { byte: 1, ..HUGE };
    let binary = Load { byte: 0xff, ..HUGE };
    let eight = "{message}".repeat(8);
    vec![
        of("JSON, escaped", "json", control),
        of("JSON, base64", "json", binary),
        of("JSON of small ones", "json", Load { size: 1, ..TINY }),
        of("eight times", &eight, HUGE),
    ]
}

fn several() -> Vec<Cell> {
    let best_effort = "required = false\nbuffer_bytes = '1MiB'";
    let enveloped = format!("{best_effort}\nenvelope = 'json'");
    let rotated = "file://FOLDER/rotated?rotate_size=1MiB&gzip=true&keep=5&fsync=batch";
    let all = [
        output("null", ""),
        output("tcp://127.0.0.1:PEER", ""),
        output("tcp://127.0.0.1:NOBODY", best_effort),
        output("file:FOLDER/messages", "envelope = 'json'"),
        output("redis://127.0.0.1:PEER/stream", best_effort),
        output("http://127.0.0.1:PEER/?gzip=true", &enveloped),
        output(rotated, best_effort),
        output("exec:cat", best_effort),
    ];
    let small = Load { size: 1, ..TINY };
    let one = Load {
        connections: 1,
        messages: 1,
        ..small
    };
    let twice = [output("null", "name = 'a'"), all[0].clone()].concat();
    let dead = [&all[0][..], &all[2]].concat();
    let both = all[1..3].concat();
    vec![
        cell("eight", &all.concat(), peers::never_reads, LONGEST),
        cell("four", &all[..4].concat(), peers::never_reads, one),
        cell("two, one dead", &dead, peers::reads, MUCH),
        cell("two, both dead", &both, peers::never_reads, MUCH),
        cell("two that take all", &twice, peers::reads, small),
    ]
}
