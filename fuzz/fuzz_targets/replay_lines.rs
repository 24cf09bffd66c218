//! `tickcast_fuzz::replay_lines`, fuzzed.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tickcast_fuzz::replay_lines::run(data));
