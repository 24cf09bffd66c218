//! Several servers that serve the same messages, with the real binary and the real `nats-server`, which must be
//! installed (`apt-get install nats-server`).

#[path = "../support/mod.rs"]
mod support;

mod bus;
mod crowd;
mod nats;
mod nodes;
mod witness;

mod delivery;
mod faults;
mod fencing;
mod keys;
mod origins;
mod outage;
mod partition;
mod secrets;
mod slow;
mod takeover;

use std::io::Write;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tests with a few clients run beside each other; what a crowd does to the machine must not be mistaken for
/// what a fault does to a cluster.
static MACHINE: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Figures for whoever reads the log of a run, whether the test passes or not.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
