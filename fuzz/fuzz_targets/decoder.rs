//! `tickcast_fuzz::decoder`, fuzzed.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tickcast_fuzz::decoder::run(data));
