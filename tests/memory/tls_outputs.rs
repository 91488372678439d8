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

/// So many outputs of one kind, each of which takes all.
fn of(
    sink: &str,
    rows: &str,
    count: usize,
    files: Files,
    name: &str,
    serve: Serve,
    load: Load,
) -> Cell {
    let output = |nth: usize| {
        let rows = format!("name = 'n{nth}'\n{}{rows}", files.rows());
        output(sink, &rows)
    };
    let outputs: String = (0..count).map(output).collect();
    let name = format!("over TLS, {count} x {sink}, {files:?} files, {rows:?}, {name}");
    Cell {
        prepare: Some(Arc::new(tls_peers::write_files)),
        ..cell(&name, &outputs, serve, load)
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
    let cell = |count, files, name, serve, load| {
        of("tls://127.0.0.1:PEER", "", count, files, name, serve, load)
    };
    vec![
        cell(
            4,
            Files::Largest,
            "never reads",
            tls_peers::never_reads,
            LONGEST,
        ),
        cell(1, Files::Small, "reads", tls_peers::reads, TINY),
        cell(8, Files::Small, "never reads", tls_peers::never_reads, MUCH),
        cell(4, Files::LargestCa, "reads", tls_peers::reads, HUGE),
        cell(8, Files::LargestCa, "talks", tls_peers::talks, TINY),
        cell(
            8,
            Files::LargestCa,
            "half a flight",
            tls_peers::half_a_flight,
            TINY,
        ),
        cell(1, Files::Others, "reads", tls_peers::reads, TINY),
        cell(8, Files::Others, "no handshake", peers::never_reads, TINY),
    ]
}

fn redis() -> Vec<Cell> {
    let cell = |count, rows, files, name, serve, load| {
        of(
            "rediss://127.0.0.1:PEER/stream",
            rows,
            count,
            files,
            name,
            serve,
            load,
        )
    };
    let (least, most) = ("window = '64KiB'\n", "window = '256MiB'\n");
    vec![
        cell(
            4,
            least,
            Files::Largest,
            "accepts",
            tls_peers::redis_accepts,
            LONGEST,
        ),
        cell(
            1,
            least,
            Files::Small,
            "accepts",
            tls_peers::redis_accepts,
            TINY,
        ),
        cell(
            1,
            most,
            Files::Small,
            "accepts",
            tls_peers::redis_accepts,
            MUCH,
        ),
        cell(
            8,
            least,
            Files::LargestCa,
            "never reads",
            tls_peers::never_reads,
            LONGEST,
        ),
        cell(
            4,
            most,
            Files::LargestCa,
            "never reads",
            tls_peers::never_reads,
            HUGE,
        ),
        cell(
            8,
            least,
            Files::LargestCa,
            "lists",
            tls_peers::redis_lists,
            TINY,
        ),
        cell(
            8,
            least,
            Files::Small,
            "half a flight",
            tls_peers::half_a_flight,
            TINY,
        ),
        cell(
            8,
            least,
            Files::Others,
            "no handshake",
            peers::never_reads,
            TINY,
        ),
    ]
}

fn http() -> Vec<Cell> {
    let cell = |count, rows, files, name, serve, load| {
        of(
            "https://127.0.0.1:PEER/",
            rows,
            count,
            files,
            name,
            serve,
            load,
        )
    };
    let least = "requests = 1\nbody_bytes = '1KiB'\nlinger = '0s'\n";
    let many = "requests = 64\nbody_bytes = '1KiB'\nlinger = '0s'\n";
    let large = "requests = 16\nbody_bytes = '4MiB'\ngzip = true\n";
    vec![
        cell(
            2,
            many,
            Files::Largest,
            "accepts",
            tls_peers::http_accepts,
            TINY,
        ),
        cell(
            1,
            least,
            Files::Small,
            "accepts",
            tls_peers::http_accepts,
            TINY,
        ),
        cell(
            1,
            large,
            Files::Small,
            "accepts",
            tls_peers::http_accepts,
            MUCH,
        ),
        cell(
            4,
            large,
            Files::LargestCa,
            "never reads",
            tls_peers::never_reads,
            MUCH,
        ),
        cell(
            4,
            least,
            Files::LargestCa,
            "accepts",
            tls_peers::http_accepts,
            HUGE,
        ),
        cell(
            2,
            many,
            Files::Small,
            "never reads",
            tls_peers::never_reads,
            TINY,
        ),
        cell(
            2,
            many,
            Files::LargestCa,
            "a header without end",
            tls_peers::http_one_header_without_end,
            TINY,
        ),
        cell(
            2,
            many,
            Files::LargestCa,
            "half a flight",
            tls_peers::half_a_flight,
            TINY,
        ),
        cell(
            2,
            many,
            Files::Others,
            "no handshake",
            peers::never_reads,
            TINY,
        ),
    ]
}
