//! Every interleaving of the engine's threads, up to a bound, tried by [loom](https://docs.rs/loom).
//!
//! [`fanout`] is the engine's own source, file by file, compiled against stand-ins for what its threads
//! meet at; [`fanout::models`] are the scenarios.

pub mod fanout;
#[path = "../../../src/metrics.rs"]
#[expect(dead_code, reason = "what only the server counts")]
pub mod metrics;
pub mod source;
