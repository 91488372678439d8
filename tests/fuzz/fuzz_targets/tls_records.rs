#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drainline_fuzz::records::check_fuzzed(data));
