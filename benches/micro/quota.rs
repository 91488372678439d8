//! Who may put how much into the buffer: the decision alone, without its lock.

use criterion::Criterion;
use drainline::policy::{Acquire, Weight, WeightedSemaphore};

const LIMIT: Weight = Weight {
    messages: 100_000,
    bytes: 64 << 20,
};
const ITEM: Weight = Weight {
    messages: 100,
    bytes: 16 << 10,
};
/// Fills the quota: whoever comes next has to wait.
const ALL: Weight = LIMIT;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quota");
    group.bench_function("room", |bencher| {
        let mut semaphore = WeightedSemaphore::<()>::new(LIMIT);
        bencher.iter(|| {
            assert_eq!(semaphore.acquire(ITEM, || ()), Acquire::Granted);
            semaphore.finish(ITEM)
        });
    });
    for waiting in [1, 1000] {
        group.bench_function(format!("granted in line, {waiting} behind"), |bencher| {
            let mut semaphore = WeightedSemaphore::<()>::new(LIMIT);
            for _ in 0..=waiting {
                semaphore.acquire(ALL, || ());
            }
            // The head of the line is served, and another one joins its end.
            bencher.iter(|| {
                semaphore.acquire(ALL, || ());
                assert_eq!(semaphore.finish(ALL).len(), 1);
            });
        });
    }
    group.finish();
}
