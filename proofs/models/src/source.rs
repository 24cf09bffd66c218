//! What the counters hold of a source.

#[path = "../../../src/source/health.rs"]
mod health;

pub use health::Health;
