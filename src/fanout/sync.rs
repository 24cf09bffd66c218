//! Where the engine's threads meet, under one name. `proofs/models` compiles this same engine with
//! stand-ins under that name, and has every interleaving tried.

pub(super) use std::sync::OnceLock;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(super) use std::thread;

pub(super) use arc_swap::ArcSwap;
pub(super) use crossbeam_queue::{ArrayQueue, SegQueue};
pub(super) use tokio::sync::Notify;
pub(super) use tokio::task;
