//! Later.

/// Later.
pub fn run(_: &[u8]) {}
