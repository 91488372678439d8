//! What the parts cost, each alone: `cargo bench --bench micro`.

mod budget;
mod framing;
mod ledger;
mod send;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    framing::bench,
    send::bench,
    budget::bench,
    ledger::bench
);
criterion_main!(benches);
