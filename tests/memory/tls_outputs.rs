//! Outputs over TLS, one and several, with the least and the most that they may be told: the
//! smallest and the largest files of certificates, windows, bodies and messages, before peers that
//! accept, stop anywhere, or talk without an end.

use std::sync::Arc;

use super::cell::Cell;
use super::outputs::{HUGE, LONGEST, Load, MUCH, TINY, cell, output};
use super::peers::{self, Serve};
use super::tls_peers;

#[derive(Debug, Clone, Copy)]
enum Files {
    /// An authority of another's: each handshake fails.
    Others,
    Small,
    /// As long as any are read. No server takes such a chain of a client.
    Largest,
    /// The same without a client's certificate.
    LargestCa,
}

impl Files {
    fn rows(self) -> String {
        let files: &[(&str, &str)] = match self {
            Files::Others => &[("ca", "others.pem")],
            Files::Small => &[
                ("ca", "ca.pem"),
                ("cert", "client.pem"),
                ("key", "client.key"),
            ],
            Files::Largest => &[
                ("ca", "large-ca.pem"),
                ("cert", "large-client.pem"),
                ("key", "client.key"),
            ],
            Files::LargestCa => &[("ca", "large-ca.pem")],
        };
        let row = |(key, file): &(&str, &str)| format!("tls_{key} = 'FOLDER/{file}'\n");
        let rows: String = files.iter().map(row).collect();
        format!("{rows}tls_server_name = '{}'\n", tls_peers::NAME)
    }
}

/// What is at the other end.
type Peer = (&'static str, Serve);

const READS: Peer = ("reads", tls_peers::reads);
const NEVER_READS: Peer = ("never reads", tls_peers::never_reads);
const TALKS: Peer = ("talks", tls_peers::talks);
const HALF_A_FLIGHT: Peer = ("half a flight", tls_peers::half_a_flight);
const NO_HANDSHAKE: Peer = ("no handshake", peers::never_reads);
const REDIS: Peer = ("accepts", tls_peers::redis_accepts);
const LISTS: Peer = ("lists", tls_peers::redis_lists);
const HTTP: Peer = ("accepts", tls_peers::http_accepts);
const ENDLESS_HEADER: Peer = (
    "a header without end",
    tls_peers::http_one_header_without_end,
);

/// Outputs of one kind, each of which takes all.
struct Outputs {
    sink: &'static str,
    rows: &'static str,
}

impl Outputs {
    fn cell(&self, count: usize, files: Files, (peer, serve): Peer, load: Load) -> Cell {
        let Outputs { sink, rows } = self;
        let output = |nth: usize| {
            let rows = format!("name = 'n{nth}'\n{}{rows}", files.rows());
            output(sink, &rows)
        };
        let outputs: String = (0..count).map(output).collect();
        let name = format!("over TLS, {count} x {sink}, {files:?} files, {rows:?}, {peer}");
        Cell {
            prepare: Some(Arc::new(tls_peers::write_files)),
            ..cell(&name, &outputs, serve, load)
        }
    }
}

pub fn all() -> Vec<Cell> {
    [forward(), redis(), http()].concat()
}

/// For a run of some seconds.
pub fn short() -> Vec<Cell> {
    [&forward()[..1], &redis()[..1], &http()[..1]].concat()
}

fn forward() -> Vec<Cell> {
    let to = Outputs {
        sink: "tls://127.0.0.1:PEER",
        rows: "",
    };
    vec![
        to.cell(4, Files::Largest, NEVER_READS, LONGEST),
        to.cell(1, Files::Small, READS, TINY),
        to.cell(8, Files::Small, NEVER_READS, MUCH),
        to.cell(4, Files::LargestCa, READS, HUGE),
        to.cell(8, Files::LargestCa, TALKS, TINY),
        to.cell(8, Files::LargestCa, HALF_A_FLIGHT, TINY),
        to.cell(1, Files::Others, READS, TINY),
        to.cell(8, Files::Others, NO_HANDSHAKE, TINY),
    ]
}

fn redis() -> Vec<Cell> {
    let with = |rows| Outputs {
        sink: "rediss://127.0.0.1:PEER/stream",
        rows,
    };
    let (least, most) = (with("window = '64KiB'\n"), with("window = '256MiB'\n"));
    vec![
        least.cell(4, Files::Largest, REDIS, LONGEST),
        least.cell(1, Files::Small, REDIS, TINY),
        most.cell(1, Files::Small, REDIS, MUCH),
        least.cell(8, Files::LargestCa, NEVER_READS, LONGEST),
        most.cell(4, Files::LargestCa, NEVER_READS, HUGE),
        least.cell(8, Files::LargestCa, LISTS, TINY),
        least.cell(8, Files::Small, HALF_A_FLIGHT, TINY),
        least.cell(8, Files::Others, NO_HANDSHAKE, TINY),
    ]
}

fn http() -> Vec<Cell> {
    let with = |rows| Outputs {
        sink: "https://127.0.0.1:PEER/",
        rows,
    };
    let least = with("requests = 1\nbody_bytes = '1KiB'\nlinger = '0s'\n");
    let many = with("requests = 64\nbody_bytes = '1KiB'\nlinger = '0s'\n");
    let large = with("requests = 16\nbody_bytes = '4MiB'\ngzip = true\n");
    vec![
        many.cell(2, Files::Largest, HTTP, TINY),
        least.cell(1, Files::Small, HTTP, TINY),
        large.cell(1, Files::Small, HTTP, MUCH),
        large.cell(4, Files::LargestCa, NEVER_READS, MUCH),
        least.cell(4, Files::LargestCa, HTTP, HUGE),
        many.cell(2, Files::Small, NEVER_READS, TINY),
        many.cell(2, Files::LargestCa, ENDLESS_HEADER, TINY),
        many.cell(2, Files::LargestCa, HALF_A_FLIGHT, TINY),
        many.cell(2, Files::Others, NO_HANDSHAKE, TINY),
    ]
}
