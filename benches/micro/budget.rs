//! Who may put how much into the buffer: the decision alone, without its lock.

use criterion::Criterion;
use drainline::policy::{Queue, Take, Weight};

const LIMIT: Weight = Weight {
    messages: 100_000,
    bytes: 64 << 20,
};
const ITEM: Weight = Weight {
    messages: 100,
    bytes: 16 << 10,
};
/// Fills the budget: whoever comes next has to wait.
const ALL: Weight = LIMIT;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("budget");
    group.bench_function("room", |bencher| {
        let mut queue = Queue::<()>::new(LIMIT);
        bencher.iter(|| {
            assert_eq!(queue.take(ITEM, true, || ()), Take::Granted);
            queue.finish(ITEM)
        });
    });
    for waiting in [1, 1000] {
        group.bench_function(format!("granted in line, {waiting} behind"), |bencher| {
            let mut queue = Queue::<()>::new(LIMIT);
            for _ in 0..=waiting {
                queue.take(ALL, true, || ());
            }
            // The head of the line is served, and another one joins its end.
            bencher.iter(|| {
                queue.take(ALL, true, || ());
                assert_eq!(queue.finish(ALL).len(), 1);
            });
        });
    }
    group.finish();
}
