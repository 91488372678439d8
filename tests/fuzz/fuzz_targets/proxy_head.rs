#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drainline_fuzz::heads::check_fuzzed(data));
