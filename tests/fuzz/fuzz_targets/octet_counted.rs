#![no_main]

use drainline::ingest::Framing;
use drainline_fuzz::check_fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_fuzzed(Framing::OctetCounted, data));
