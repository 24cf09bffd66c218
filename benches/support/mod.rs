//! What the benchmarks and the counting tests share.

#![allow(dead_code, unreachable_pub, reason = "each of them uses a part of this")]

pub mod capture;
pub mod engine;

/// To how many it is published.
pub const SUBSCRIBERS: [usize; 4] = [1, 100, 1_000, 10_000];

/// Bytes of a message, where it is not the size that matters.
pub const PAYLOAD: usize = 1_024;
