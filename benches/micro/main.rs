//! What the parts cost, each alone: `cargo bench` in this folder.

mod framing;
mod ledger;
mod quota;
mod send;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    framing::bench,
    send::bench,
    quota::bench,
    ledger::bench
);
criterion_main!(benches);
