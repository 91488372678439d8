//! The grid: each framing, output framing, buffer, size of message and number of connections, with
//! each other; and a third of that beside a second output, which is dead.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::cell::{Cell, FOLDER, Step};
use super::driver::{ENDLESS, Part, Script};

const FRAMINGS: [&str; 5] = ["lines", "nul", "octet-counted", "syslog", "length-prefixed"];
const OUTPUTS: [&str; 4] = ["lines", "nul", "octet-counted", "length-prefixed"];
const MESSAGES: [u64; 4] = [8, 1_000, 100_000, 16_000_000];
pub const BYTES: [u64; 4] = [4 << 10, 1 << 20, 64 << 20, 1 << 30];
const SIZES: [Size; 5] = [
    Size::Of(0),
    Size::Of(1),
    Size::Of(100),
    Size::Max(64 << 10),
    Size::Max(16 << 20),
];
const CONNECTIONS: [usize; 3] = [1, 64, 1_000];
const DIMENSIONS: [usize; 6] = [5, 4, 4, 4, 5, 3];
/// The default of an output that nobody waits for.
const LANE_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone, Copy)]
enum Size {
    Of(usize),
    /// As long as `--max-message`, which is this or what the buffer allows.
    Max(u64),
}

/// A place in the grid: an index for each dimension.
type Place = [usize; 6];

/// Every cell.
pub fn whole() -> Vec<Cell> {
    cells(&places())
}

/// So many cells that each value of each dimension meets each value of each other one; always the
/// same.
pub fn pairwise() -> Vec<Cell> {
    let places = places();
    let mut left: HashSet<_> = places.iter().flat_map(pairs).collect();
    let mut cover = Vec::new();
    while !left.is_empty() {
        let new = |place: &&Place| pairs(place).filter(|pair| left.contains(pair)).count();
        let best = *places.iter().max_by_key(new).unwrap();
        for pair in pairs(&best) {
            left.remove(&pair);
        }
        cover.push(best);
    }
    cells(&cover)
}

/// A cell of each place, and of every third one a second.
fn cells(places: &[Place]) -> Vec<Cell> {
    let alone = places.iter().map(|&place| cell(place, false));
    let beside_dead = places.iter().skip(1).step_by(3);
    alone
        .chain(beside_dead.map(|&place| cell(place, true)))
        .collect()
}

fn places() -> Vec<Place> {
    let count = DIMENSIONS.iter().product::<usize>();
    let place = |mut number: usize| {
        DIMENSIONS.map(|values| {
            let index = number % values;
            number /= values;
            index
        })
    };
    (0..count).map(place).collect()
}

fn pairs(place: &Place) -> impl Iterator<Item = (usize, usize, usize, usize)> + use<> {
    let place = *place;
    (0..place.len())
        .flat_map(move |one| (0..one).map(move |other| (one, place[one], other, place[other])))
}

fn cell([framing, output, messages, bytes, size, connections]: Place, has_dead: bool) -> Cell {
    let (framing, output) = (FRAMINGS[framing], OUTPUTS[output]);
    let (messages, buffer_bytes) = (MESSAGES[messages], BYTES[bytes]);
    let messages = match has_dead {
        // Each of several outputs has room for each of them from the beginning, and others run on
        // this machine.
        true => messages.min(1_000_000),
        false => messages,
    };
    let connections = CONNECTIONS[connections];
    let asked = match SIZES[size] {
        Size::Of(_) => 64 << 10,
        // A thousand of the largest would be more than machines have.
        Size::Max(max) if connections == 1_000 => max.min(1 << 20),
        Size::Max(max) => max,
    };
    // Where it is large a message lies in whole pages of its own.
    let beside = if buffer_bytes > 128 << 10 {
        256 + 4_096
    } else {
        256
    };
    let max_message = asked.min(buffer_bytes - beside);
    let size = match SIZES[size] {
        Size::Of(size) => size,
        Size::Max(_) => max_message as usize,
    };
    // Nobody listens there, and nobody waits for it.
    let lane = LANE_BYTES.max(max_message + beside);
    let dead = format!("unix:{FOLDER}/nobody?required=false&buffer_bytes={lane}B");
    let own = [
        messages.to_string(),
        format!("{buffer_bytes}B"),
        format!("{max_message}B"),
        connections.to_string(),
    ];
    let mut settings = vec![
        ("--framing", framing),
        ("--output-framing", output),
        ("--buffer-messages", &*own[0]),
        ("--buffer-bytes", &own[1]),
        ("--max-message", &own[2]),
        ("--max-connections", &own[3]),
    ];
    if has_dead {
        settings.extend([("--sink", "stdout"), ("--sink", &dead)]);
    }
    let of_dead = if has_dead { ", a dead output" } else { "" };
    Cell {
        name: format!(
            "{framing} to {output}, {messages} messages, {}, {size} B of {max_message}, {connections} connections{of_dead}",
            named(buffer_bytes)
        ),
        args: args(&settings),
        file: None,
        peer: None,
        prepare: None,
        buffer_bytes,
        steps: Arc::new(move || {
            vec![
                Step::Connect(connections, endless(framing, size)),
                Step::Push,
                Step::Open,
                Step::Flow(Duration::from_millis(300)),
                Step::Settle,
            ]
        }),
    }
}

fn named(bytes: u64) -> String {
    match bytes {
        0x1000 => "4KiB".to_owned(),
        0x10_0000.. if bytes < 1 << 30 => format!("{}MiB", bytes >> 20),
        _ => format!("{}GiB", bytes >> 30),
    }
}

/// Settings, and those that keep time out of it: nobody is disconnected while the sink stands
/// still.
pub fn args(settings: &[(&str, &str)]) -> Vec<String> {
    let constant = [
        ("--send-timeout", "1h"),
        ("--pause-after", "off"),
        ("--frame-timeout", "off"),
        ("--drain-timeout", "500ms"),
    ];
    let own = settings.iter();
    let is_own = |flag: &str| settings.iter().any(|(own, _)| *own == flag);
    let all = constant.iter().filter(|(flag, _)| !is_own(flag)).chain(own);
    all.flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()])
        .collect()
}

/// A message as it is sent.
pub fn message(framing: &str, size: usize) -> Vec<u8> {
    let mut text = vec![b'x'; size];
    match framing {
        "lines" => text.push(b'\n'),
        "nul" => text.push(0),
        // Only a text that begins so may be counted.
        "syslog" if size >= 3 => {
            text[..3].copy_from_slice(b"<1>");
            text.splice(..0, format!("{size} ").into_bytes());
        }
        "syslog" => text.push(b'\n'),
        "octet-counted" => drop(text.splice(..0, format!("{size} ").into_bytes())),
        _ => drop(text.splice(..0, (size as u32).to_be_bytes())),
    }
    text
}

/// A message over and over, some of them in one write.
pub fn many(framing: &str, size: usize) -> Part {
    let one = message(framing, size);
    Part(one.repeat((64 << 10) / one.len() + 1), ENDLESS)
}

/// A script of nothing but [`many`].
pub fn endless(framing: &str, size: usize) -> Arc<Script> {
    Script::new(vec![many(framing, size)])
}
