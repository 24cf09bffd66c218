//! `tickcast_fuzz::handshake`, fuzzed.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tickcast_fuzz::handshake::run(data));
