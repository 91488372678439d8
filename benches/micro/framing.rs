//! Cutting what one read brought into messages.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use drainline::ingest::framing::{Decoder, Event};
use drainline::ingest::{Framing, Oversize};

/// What one large read brings.
const READ_BYTES: usize = 64 << 10;
const MAX_MESSAGE: usize = 64 << 10;
const SIZES: [usize; 3] = [32, 128, 1024];
const FRAMINGS: [Framing; 5] = [
    Framing::Lines,
    Framing::Nul,
    Framing::OctetCounted,
    Framing::Syslog,
    Framing::LengthPrefixed,
];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    for framing in FRAMINGS {
        for size in SIZES {
            let frame = frame(framing, size);
            let messages = READ_BYTES / frame.len();
            let input = frame.repeat(messages);
            assert_eq!(count(framing, &input), messages as u64);
            group.throughput(Throughput::Elements(messages as u64));
            let id = BenchmarkId::new(framing.name(), size);
            group.bench_with_input(id, &input, |bencher, input| {
                bencher.iter(|| count(framing, black_box(input)));
            });
        }
    }
    group.finish();
}

/// One message of `size` bytes.
fn frame(framing: Framing, size: usize) -> Vec<u8> {
    let message = [b"<13>", vec![b'x'; size - 4].as_slice()].concat();
    match framing {
        Framing::Nul => [message.as_slice(), b"\0"].concat(),
        Framing::OctetCounted | Framing::Syslog => {
            [format!("{size} ").as_bytes(), &message].concat()
        }
        Framing::LengthPrefixed => [&(size as u32).to_be_bytes(), message.as_slice()].concat(),
        _ => [message.as_slice(), b"\n"].concat(),
    }
}

/// How many messages a new connection's decoder finds.
fn count(framing: Framing, input: &[u8]) -> u64 {
    let mut decoder = Decoder::new(framing, MAX_MESSAGE, Oversize::Truncate);
    let mut found = 0;
    let consumed = decoder.decode(input, &mut |event| match event {
        Event::Run { messages, .. } => found += messages,
        Event::Message { .. } => found += 1,
        _ => {}
    });
    assert_eq!(consumed, input.len());
    found
}
