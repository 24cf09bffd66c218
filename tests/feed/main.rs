//! The live feed against a stand-in for the exchange that plays real messages and misbehaves.

#[path = "../support/mod.rs"]
mod support;

mod binary;
mod encryption;
mod exchange;
mod ground;
mod numbers;
mod replacement;
mod silence;
mod troubles;
