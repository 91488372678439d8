//! What the grid has not: loads that somebody chose to be as bad as can be.

use std::sync::Arc;
use std::time::Duration;

use super::cell::{Cell, SOCKET, Step};
use super::driver::{ENDLESS, Part, Script};
use super::grid::{args, endless, message};
use super::heads::encode;
use super::sessions::Left;

const MIB: u64 = 1 << 20;

fn cell(
    name: &str,
    buffer_bytes: u64,
    settings: &[(&str, &str)],
    steps: impl Fn() -> Vec<Step> + Send + Sync + 'static,
) -> Cell {
    let bytes = format!("{buffer_bytes}B");
    let mut settings = settings.to_vec();
    settings.push(("--buffer-bytes", &bytes));
    let told: Vec<String> = settings
        .iter()
        .map(|(flag, value)| format!("{} {value}", flag.trim_start_matches('-')))
        .collect();
    Cell {
        name: format!("{name}: {}", told.join(", ")),
        args: args(&settings),
        file: None,
        peer: None,
        prepare: None,
        buffer_bytes,
        steps: Arc::new(steps),
    }
}

/// The buffer is filled while the sink stands still, is emptied while more comes, and is filled
/// once more.
fn fill(connections: usize, script: Arc<Script>) -> Vec<Step> {
    vec![
        Step::Connect(connections, script),
        Step::Push,
        Step::Open,
        Step::Flow(Duration::from_millis(700)),
        Step::Shut,
        Step::Push,
        Step::Open,
        Step::Settle,
    ]
}

/// A line, and a read of nothing but ends.
fn newlines() -> Arc<Script> {
    let mut text = vec![b'x'; 600];
    text.extend(vec![b'\n'; 73_100]);
    Script::new(vec![Part(text, ENDLESS)])
}

/// Messages of these sizes in turn.
fn in_turn(framing: &str, sizes: &[usize]) -> Arc<Script> {
    let text = sizes.iter().flat_map(|size| message(framing, *size));
    Script::new(vec![Part(text.collect(), ENDLESS)])
}

pub fn all() -> Vec<Cell> {
    [
        newline_floods(),
        large(),
        changes(),
        waves(),
        unfinished(),
        parts(),
        small_pieces(),
        policies(),
        heads(),
        listeners(),
        sessions(),
        unix(),
    ]
    .concat()
}

/// Some of each, for a run of some minutes; none twice.
pub fn some() -> Vec<Cell> {
    let mut cells = short();
    cells.extend(heads());
    cells.extend(sessions());
    cells.extend(unix());
    let third = all().into_iter().skip(1).step_by(3);
    for cell in third {
        if cells.iter().all(|there| there.name != cell.name) {
            cells.push(cell);
        }
    }
    cells
}

/// Those that a short run has, too.
pub fn short() -> Vec<Cell> {
    let mut cells = newline_floods();
    cells.truncate(2);
    cells.extend(unfinished().into_iter().take(2));
    cells.extend(changes().into_iter().take(2));
    cells.extend(parts());
    cells.extend(small_pieces());
    cells.extend(listeners().into_iter().take(1));
    cells
}

/// Two listeners, of which one takes longer messages, in a framing that costs a copy: every
/// connection may be one of that, or some of each, or as many as its own limit lets in.
fn listeners() -> Vec<Cell> {
    const CONNECTIONS: usize = 100;
    const LONG: usize = 600_000;
    let file = "[[listener]]\naddress = \"127.0.0.1:0\"\nframing = \"lines\"\nmax_message = \"1KiB\"\n\
                [[listener]]\nname = \"long\"\naddress = \"127.0.0.1:0\"\nframing = \"octet-counted\"\n\
                max_message = \"600000B\"\n";
    let limited = format!("{file}max_connections = {}\n", CONNECTIONS / 2);
    let settings = [("--max-connections", "100"), ("--buffer-messages", "1000")];
    let of = |name: &str, file: &str, long: usize| {
        let cell = cell(name, 16 * MIB, &settings, move || {
            let lines = Step::ConnectAt(0, CONNECTIONS - long, endless("lines", 1_000));
            let mut steps = match long {
                CONNECTIONS => Vec::new(),
                _ => vec![lines, Step::Push],
            };
            // The beginning of a message, whole but for its last byte, on each connection.
            let begin = message("octet-counted", LONG);
            let begin = Script::new(vec![Part(begin[..begin.len() - 1].to_vec(), 1)]);
            steps.extend([
                Step::ConnectAt(1, long, begin),
                Step::Push,
                Step::Send(endless("octet-counted", LONG)),
                Step::Open,
                Step::Flow(Duration::from_millis(300)),
                Step::Settle,
            ]);
            steps
        });
        Cell {
            file: Some(file.to_owned()),
            ..cell
        }
    };
    vec![
        of("all at the listener of long messages", file, CONNECTIONS),
        of("half at each of two listeners", file, CONNECTIONS / 2),
        of("half at a listener with a limit", &limited, CONNECTIONS / 2),
    ]
}

/// Each connection's session at its worst, with little stack and with much: whole records, half of
/// one, and handshakes that stay unfinished.
fn sessions() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (connections, stack) in [(200, "256KiB"), (16, "2MiB"), (500, "1MiB")] {
        for left in [
            Left::Lines,
            Left::HalfRecord,
            Left::Hello,
            Left::HalfCertificate,
        ] {
            let count = connections.to_string();
            let settings = [
                ("--listen", "tls://127.0.0.1:0"),
                ("--tls-cert", "FOLDER/server.pem"),
                ("--tls-client-ca", "FOLDER/clients.pem"),
                ("--handshake-timeout", "1h"),
                ("--max-connections", &count),
                ("--stack-size", stack),
            ];
            cells.push(cell(&format!("TLS, {left:?}"), MIB, &settings, move || {
                vec![
                    Step::ConnectTls(connections, left),
                    Step::Push,
                    Step::Open,
                    Step::Settle,
                ]
            }));
        }
    }
    cells
}

/// Unix sockets, whose kernel holds less of what is sent, and hands it over in other pieces.
fn unix() -> Vec<Cell> {
    let settings = [
        ("--listen", SOCKET),
        ("--max-connections", "200"),
        ("--max-message", "100000B"),
    ];
    let of = |name: &str, script: fn() -> Arc<Script>| {
        cell(name, 16 * MIB, &settings, move || {
            vec![
                Step::ConnectUnix(200, script()),
                Step::Push,
                Step::Open,
                Step::Flow(Duration::from_millis(300)),
                Step::Shut,
                Step::Push,
                Step::Open,
                Step::Settle,
            ]
        })
    };
    let unfinished = || {
        let mut text = message("lines", 100_000);
        text.pop();
        Script::in_pieces(5_000, vec![Part(text, 1)])
    };
    vec![
        of("Unix, lines", || endless("lines", 60)),
        of("Unix, long lines", || endless("lines", 100_000)),
        of("Unix, unfinished", unfinished),
    ]
}

/// Behind a balancer: heads that are as long as may be and stay unfinished, and heads with lines
/// behind them, on connections that come after those.
fn heads() -> Vec<Cell> {
    let address = "127.0.0.1:1".parse().unwrap();
    let head = encode::v2(address, address, &encode::tlv(4, &[0; 4_065]));
    assert_eq!(head.len(), 4_096);
    let settings = [
        ("--proxy-from", "127.0.0.1"),
        ("--handshake-timeout", "1h"),
        ("--max-connections", "1000"),
        ("--max-message", "64B"),
        ("--buffer-messages", "8"),
    ];
    vec![cell("heads", 4 << 10, &settings, move || {
        let unfinished = Script::in_pieces(100, vec![Part(head[..4_095].to_vec(), 1)]);
        let mut lines = Vec::from([Part(head.clone(), 1)]);
        lines.push(Part(b"a line\n".repeat(5_000), ENDLESS));
        vec![
            Step::Connect(900, unfinished),
            Step::Trickle,
            Step::Connect(100, Script::new(lines)),
            Step::Push,
            Step::Open,
            Step::Settle,
        ]
    })]
}

fn newline_floods() -> Vec<Cell> {
    let name = "newlines";
    let small = [("--buffer-messages", "8"), ("--max-connections", "200")];
    let mut cells = vec![
        cell(name, MIB, &small, || fill(200, newlines())),
        cell(name, 64 * MIB, &[("--framing", "syslog")], || {
            fill(1_000, newlines())
        }),
    ];
    for output in ["octet-counted", "length-prefixed"] {
        let settings = [("--output-framing", output), ("--max-connections", "200")];
        cells.push(cell(name, 64 * MIB, &settings, || fill(200, newlines())));
        let settings = [small.as_slice(), &[("--output-framing", output)]].concat();
        cells.push(cell(name, MIB, &settings, || fill(200, newlines())));
    }
    cells
}

fn large() -> Vec<Cell> {
    let mut cells = Vec::new();
    for framing in ["lines", "octet-counted", "syslog", "length-prefixed"] {
        for buffer_bytes in [64 * MIB, 256 * MIB] {
            let settings = [
                ("--framing", framing),
                ("--max-message", "16MiB"),
                ("--max-connections", "8"),
            ];
            let mut add = |name, sizes: Vec<usize>| {
                cells.push(cell(name, buffer_bytes, &settings, move || {
                    fill(8, in_turn(framing, &sizes))
                }));
            };
            add("largest", vec![16 << 20]);
            add("1 B and the largest in turn", vec![1, 16 << 20]);
            add(
                "growing",
                vec![100, 1 << 20, 3 << 20, 7 << 20, 16 << 20, 64 << 10],
            );
            let (tiny, large) = (vec![1; 100_000], [16 << 20, 16 << 20, 16 << 20]);
            add("tiny, then large", [tiny.as_slice(), &large].concat());
        }
    }
    cells
}

/// The sink takes all of one sort, then stands still, and another sort comes.
fn changes() -> Vec<Cell> {
    let mut cells = Vec::new();
    let loads = [
        (60_000, 1),
        (1, 60_000),
        (1_000, 0),
        (120_000, 1),
        (60_000, 100),
    ];
    for (connections, buffer_bytes) in [(64, 64 * MIB), (1_000, 64 * MIB), (64, 1024 * MIB)] {
        let (most, count) = ("16000000", connections.to_string());
        let settings = [
            ("--max-connections", count.as_str()),
            ("--buffer-messages", most),
            ("--max-message", "128KiB"),
        ];
        for (first, then) in loads {
            let name = format!("{first} B that flow, then {then} B that stand");
            let steps = move || {
                vec![
                    Step::Open,
                    Step::Connect(connections, endless("lines", first)),
                    Step::Flow(Duration::from_secs(2)),
                    Step::Shut,
                    Step::Send(endless("lines", then)),
                    Step::Push,
                    Step::Open,
                    Step::Settle,
                ]
            };
            cells.push(cell(&name, buffer_bytes, &settings, steps));
        }
    }
    cells
}

/// One group after the other fills the buffer, which is emptied then, and stays connected: what one
/// freed must not add up with what the next one takes.
fn waves() -> Vec<Cell> {
    let sizes = [[1_000; 16], [60_000; 16], [1; 16]].into_iter();
    let sizes = sizes.chain([[
        1, 60_000, 100, 1_000, 10_000, 1, 200_000, 0, 1, 60_000, 100, 1_000, 10_000, 1, 200_000, 0,
    ]]);
    let mut cells = Vec::new();
    for sizes in sizes {
        for (framing, most) in [("lines", "100000"), ("octet-counted", "16000000")] {
            let settings = [
                ("--framing", framing),
                ("--buffer-messages", most),
                ("--max-message", "256KiB"),
                ("--max-connections", "960"),
            ];
            let wave = move |size| {
                [
                    Step::Shut,
                    Step::Connect(60, endless(framing, size)),
                    Step::Push,
                    Step::Open,
                    Step::Settle,
                ]
            };
            let name = format!("waves of {} B, {} B, ...", sizes[0], sizes[1]);
            cells.push(cell(&name, 64 * MIB, &settings, move || {
                sizes.into_iter().flat_map(wave).collect()
            }));
        }
    }
    cells
}

/// Each connection holds a message of which the last byte does not come.
fn unfinished() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (connections, max, piece) in [
        (64, 16 << 10, 1),
        (1_000, 64 << 10, 4096),
        (1_000, 1 << 20, 8192),
        (64, 16 << 20, 65_536),
    ] {
        for framing in ["octet-counted", "lines", "syslog", "length-prefixed", "nul"] {
            let (max_text, count) = (format!("{max}B"), connections.to_string());
            let settings = [
                ("--framing", framing),
                ("--max-message", &max_text),
                ("--max-connections", &count),
            ];
            let name = format!("unfinished, in pieces of {piece} B");
            let steps = move || {
                let mut text = message(framing, max);
                text.pop();
                fill(connections, Script::in_pieces(piece, vec![Part(text, 1)]))
            };
            cells.push(cell(&name, 64 * MIB, &settings, steps));
        }
    }
    cells
}

/// What fills most of a buffer, each message in a batch of its own in the allocator's memory, and
/// then a part of one that lies at the top of it: by so many connections together.
fn filling(buffer_bytes: u64, connections: usize, size: usize, part: usize) -> Arc<Script> {
    let batch_bytes = size as u64 + 200;
    let count = buffer_bytes / 16 * 15 / batch_bytes / connections as u64;
    let parts = vec![
        Part(message("lines", size), count),
        Part(vec![b'y'; part], 1),
    ];
    Script::in_pieces(size + 1, parts)
}

/// Connections fill the buffer and leave a part of a message where its memory ends. The sink takes
/// all, and what is free below such a part stays with the allocator.
fn parts() -> Vec<Cell> {
    let trickle = |connections, script| {
        [
            Step::Shut,
            Step::Connect(connections, script),
            Step::Trickle,
            Step::Open,
            Step::Settle,
        ]
    };
    let one_by_one = move || {
        let wave = |_| trickle(1, filling(64 * MIB, 1, 30_000, 900));
        (0..3).flat_map(wave).collect()
    };
    let then = move |last: Arc<Script>| {
        let filled = trickle(16, filling(192 * MIB, 16, 30_000, 900));
        let last = [Step::Shut, Step::Connect(16, last), Step::Push, Step::Open];
        filled
            .into_iter()
            .chain(last)
            .chain([Step::Settle])
            .collect()
    };
    // So many parts that nothing of the next size fits between them.
    let scattered = move || {
        let shares = trickle(900, filling(64 * MIB, 900, 3_000, 900));
        let between = trickle(60, filling(64 * MIB, 60, 65_000, 60_000));
        shares.into_iter().chain(between).collect()
    };
    let few = ("--max-connections", "32");
    vec![
        cell(
            "parts of one connection after the other",
            64 * MIB,
            &[few],
            one_by_one,
        ),
        cell(
            "parts, then mappings of the pool",
            192 * MIB,
            &[few, ("--buffer-messages", "2000000")],
            move || then(endless("lines", 200)),
        ),
        cell(
            "parts, then mappings of their own",
            192 * MIB,
            &[few, ("--max-message", "1MiB")],
            move || then(endless("lines", 1_000_000)),
        ),
        cell(
            "parts of many",
            64 * MIB,
            &[("--max-connections", "1000")],
            scattered,
        ),
    ]
}

/// What a message takes while it comes in small reads is freed by its connection's thread, in every
/// size that malloc may keep for that thread alone.
fn small_pieces() -> Vec<Cell> {
    // malloc keeps some pieces of a size.
    const EACH_SIZE: usize = 8;
    let settings = [
        ("--framing", "octet-counted"),
        ("--output-framing", "octet-counted"),
        ("--max-connections", "50"),
        ("--coalesce", "off"),
        ("--max-message", "16KiB"),
    ];
    let steps = || {
        let sizes = (48..=2064).step_by(32);
        let halves = |size| {
            let whole = message("octet-counted", size);
            let (begin, end) = whole.split_at(size / 2);
            [Part(begin.to_vec(), 1), Part(end.to_vec(), 1)]
        };
        let all = sizes.cycle().take(EACH_SIZE * 64);
        let parts = all.flat_map(halves).collect();
        vec![
            Step::Open,
            Step::Connect(50, Script::in_pieces(500, parts)),
            Step::Trickle,
            Step::Shut,
            Step::Send(endless("octet-counted", 60)),
            Step::Push,
            Step::Open,
            Step::Settle,
        ]
    };
    let name = "pieces of every small size";
    vec![cell(name, 64 << 10, &settings, steps)]
}

fn policies() -> Vec<Cell> {
    let mut cells = Vec::new();
    for framing in ["lines", "octet-counted", "length-prefixed"] {
        for oversize in ["truncate", "drop"] {
            let settings = [
                ("--framing", framing),
                ("--oversize", oversize),
                ("--max-message", "1MiB"),
                ("--max-connections", "64"),
            ];
            let steps = move || fill(64, endless(framing, 2 << 20));
            cells.push(cell("twice the maximum", 64 * MIB, &settings, steps));
        }
    }
    for (when_full, timeout) in [("drop", "100ms"), ("block", "100ms")] {
        for size in [1, 1_000, 60_000] {
            let settings = [
                ("--when-full", when_full),
                ("--send-timeout", timeout),
                ("--buffer-messages", "16000000"),
                ("--max-connections", "64"),
            ];
            let steps = move || {
                vec![
                    Step::Connect(64, endless("lines", size)),
                    Step::Flow(Duration::from_secs(4)),
                    Step::Open,
                    Step::Flow(Duration::from_secs(1)),
                    Step::Settle,
                ]
            };
            cells.push(cell(&format!("{size} B"), 64 * MIB, &settings, steps));
        }
    }
    cells
}
