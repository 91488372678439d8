//! Resident memory stays below the limit that the server prints at start, whatever is sent to the
//! server, while the sink stands still and while it writes; and the limit is not so far above what
//! is used that it says nothing. With outputs, so do threads and descriptors, whatever is answered.
//!
//! `DRAINLINE_LONG` runs a pairwise cover of the grid and some of the mixes; without it there are a
//! few cells. `DRAINLINE_CELLS` chooses: `all` is the whole grid (hours without `--release`) and
//! every mix, `all:3/8` the third of eight shares of that, each a fair sample, anything else those
//! of them whose name holds it. Two cells run at a time, of the largest buffer one.
#![cfg(all(
    feature = "cli",
    feature = "gzip",
    feature = "http",
    feature = "redis",
    feature = "tls"
))]
#![allow(clippy::unwrap_used, clippy::print_stderr)]
// `pub` in a module here means: for the other modules.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../heads/mod.rs"]
mod heads;

#[path = "../tls/authority.rs"]
// A part of it is used here.
#[allow(dead_code)]
mod authority;
mod cell;
mod driver;
mod grid;
#[cfg(feature = "kafka")]
mod kafka_outputs;
mod lists;
mod mixes;
mod outputs;
mod peers;
mod sessions;
mod tls_outputs;
mod tls_peers;

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use cell::{Cell, Figure};

/// What the worst load of a buffer has to come to, from [`LARGE`] on.
const SAYS_SOMETHING: f64 = 0.7;
const LARGE: u64 = 64 << 20;
/// Of this buffer one cell runs at a time.
const LARGEST: u64 = 1 << 30;

fn chosen() -> (Vec<Cell>, bool) {
    if let Ok(name) = env::var("DRAINLINE_CELLS") {
        let mut cells = [mixes::all(), all_outputs(), grid::whole()].concat();
        if let Some(text) = name.strip_prefix("all:") {
            return (share(cells, text), false);
        }
        if name != "all" {
            cells.retain(|cell| cell.name.contains(&name));
        }
        return (cells, name == "all");
    }
    if env::var_os("DRAINLINE_LONG").is_some() {
        return (
            [mixes::some(), all_outputs(), grid::pairwise()].concat(),
            true,
        );
    }
    let outputs = [outputs::short(), tls_outputs::short()].concat();
    ([mixes::short(), outputs].concat(), false)
}

fn all_outputs() -> Vec<Cell> {
    #[cfg(feature = "kafka")]
    let kafka = kafka_outputs::all();
    #[cfg(not(feature = "kafka"))]
    let kafka = Vec::new();
    [outputs::all(), tls_outputs::all(), kafka].concat()
}

/// Share `K/N` of the cells, from 1. They are shuffled, always in the same way: in their order
/// every Nth has the same settings.
fn share(mut cells: Vec<Cell>, text: &str) -> Vec<Cell> {
    let (number, count) = text.split_once('/').expect("all:K/N");
    let (number, count): (usize, usize) = (number.parse().unwrap(), count.parse().unwrap());
    assert!((1..=count).contains(&number), "there is no share {text}");
    cells.sort_by_cached_key(|cell| {
        let mut hasher = DefaultHasher::new();
        cell.name.hash(&mut hasher);
        hasher.finish()
    });
    cells.into_iter().skip(number - 1).step_by(count).collect()
}

/// Two at a time: a peak of memory does not depend on speed. Two of the largest buffer would be
/// more than machines have.
fn run(cells: Vec<Cell>) -> Vec<Figure> {
    let (largest, others): (Vec<_>, Vec<_>) = cells
        .into_iter()
        .partition(|cell| cell.buffer_bytes >= LARGEST);
    let others = Mutex::new(others.into_iter());
    let next = || others.lock().unwrap().next();
    let figures = Mutex::new(Vec::new());
    let run_one = |cell: Cell| {
        let begun = Instant::now();
        let figure = cell.run();
        eprintln!("{:5.1} s  {figure}", begun.elapsed().as_secs_f64());
        figures.lock().unwrap().push(figure);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            largest.into_iter().for_each(run_one);
            std::iter::from_fn(next).for_each(run_one);
        });
        scope.spawn(|| std::iter::from_fn(next).for_each(run_one));
    });
    figures.into_inner().unwrap()
}

#[test]
fn resident_memory_stays_below_the_printed_bound_and_comes_near_it() {
    common::crowd::raise_descriptor_limit(4_096);
    let (cells, is_cover) = chosen();
    let mut figures = run(cells);
    figures.sort_by(|one, other| other.ratio().total_cmp(&one.ratio()));
    let table = table(&figures);
    eprintln!("{table}");
    let above: Vec<String> = figures
        .iter()
        .filter(|figure| figure.is_above())
        .map(ToString::to_string)
        .collect();
    assert!(above.is_empty(), "above the limits:\n{}", above.join("\n"));
    if is_cover {
        for worst in worst(&figures) {
            let says = worst.buffer_bytes < LARGE || worst.ratio() >= SAYS_SOMETHING;
            assert!(says, "the bound is never come near: {worst}");
        }
    }
}

/// The worst of each buffer, of figures that are sorted.
fn worst(figures: &[Figure]) -> impl Iterator<Item = &Figure> {
    let of = |bytes| {
        figures
            .iter()
            .find(move |figure| figure.buffer_bytes == bytes)
    };
    grid::BYTES.into_iter().filter_map(of)
}

fn table(figures: &[Figure]) -> String {
    let lines = |figures: &mut dyn Iterator<Item = &Figure>| {
        figures
            .map(|figure| format!("{figure}\n"))
            .collect::<String>()
    };
    format!(
        "{} cells; the worst of each buffer:\n{}the worst of all:\n{}",
        figures.len(),
        lines(&mut worst(figures)),
        lines(&mut figures.iter().take(10))
    )
}
