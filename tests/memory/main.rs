//! Resident memory stays below the bound that the server prints at start, whatever is sent to it, while the sink stands
//! still and while it takes; and the bound is not so far above that it says nothing.
//!
//! `DRAINLINE_LONG` runs a pairwise cover of the grid and some of the mixes; without it there are a few cells. `DRAINLINE_CELLS`
//! chooses: `all` is the whole grid (hours without `--release`) and every mix, anything else those of them whose name holds it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::print_stderr)]
// `pub` in a module here means: for the other modules.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod cell;
mod driver;
mod grid;
mod mixes;

use std::env;
use std::time::Instant;

use cell::{Cell, Figure};

/// What the worst load of a buffer has to come to, from [`LARGE`] on.
const SAYS_SOMETHING: f64 = 0.7;
const LARGE: u64 = 64 << 20;

fn chosen() -> (Vec<Cell>, bool) {
    if let Ok(name) = env::var("DRAINLINE_CELLS") {
        let mut cells = [mixes::all(), grid::whole()].concat();
        if name != "all" {
            cells.retain(|cell| cell.name.contains(&name));
        }
        return (cells, name == "all");
    }
    if env::var_os("DRAINLINE_LONG").is_some() {
        return ([mixes::some(), grid::pairwise()].concat(), true);
    }
    (mixes::short(), false)
}

#[test]
fn resident_memory_stays_below_the_printed_bound_and_comes_near_it() {
    common::crowd::raise_descriptor_limit(4_096);
    let (cells, is_cover) = chosen();
    let mut figures: Vec<Figure> = Vec::new();
    for cell in &cells {
        let begun = Instant::now();
        let figure = cell.run();
        eprintln!("{:5.1} s  {figure}", begun.elapsed().as_secs_f64());
        figures.push(figure);
    }
    figures.sort_by(|one, other| other.ratio().total_cmp(&one.ratio()));
    let table = table(&figures);
    eprintln!("{table}");
    let above: Vec<String> = figures
        .iter()
        .filter(|figure| figure.peak_bytes > figure.bound_bytes)
        .map(ToString::to_string)
        .collect();
    assert!(above.is_empty(), "above the bound:\n{}", above.join("\n"));
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
