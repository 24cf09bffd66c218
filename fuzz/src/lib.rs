//! What is fuzzed: one module a target, each with a `run` that panics where a promise is broken.
//!
//! `fuzz_targets/` gives each of them to libFuzzer, and the project's `tests/corpus.rs` includes this file to
//! run all of them over the committed corpus with a stable toolchain.

pub mod configuration;
pub mod decoder;
pub mod handshake;
pub mod pieces;
pub mod reader;
pub mod replay_lines;
pub mod rfc6455;
pub mod scratch;
pub mod wire;

/// One target: its name, which is that of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("reader", reader::run),
    ("handshake", handshake::run),
    ("decoder", decoder::run),
    ("configuration", configuration::run),
    ("replay_lines", replay_lines::run),
];
