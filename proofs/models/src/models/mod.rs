//! What must hold in every interleaving: nothing lost, nothing repeated, nobody left asleep.
//!
//! A scenario runs again and again, each time with another order of its threads' steps and other
//! values where memory orders allow several. Who is never woken is a deadlock to loom; what is read without
//! having been shown is a race; the scenarios assert the rest: each message once and in order, every
//! frame owed accounted for, no lane and no frame left over.
//!
//! # Bounds
//! Two to four threads and one to four messages. With `preemptions` loom follows only those orders in which
//! threads that could go on are interrupted that often; without, all there are. It remembers the last seven
//! values of an atomic.
//!
//! # Not modelled
//! * What is inside crossbeam's queues, `ArcSwap`, `OnceLock` and `Notify`: see `sync`.
//! * References counted by `Arc`, and counters and the hub's map of channels: they are those of the product, and no
//!   step of theirs is a place to interrupt.
//! * [`Busy`](super::Busy), which takes 64 operations at once, and the server's writers and sessions.
//!
//! # Does it notice?
//! `proofs/loom.sh --mutants` breaks the engine in one place after another and expects a certain model to fail
//! each time: memory orders of turn, marks, slots, offers and holders; both fences around an owner that goes, and
//! the second look; marking before pushing and the relay before the others; joins, departures and looks out of turn;
//! lanes that are taken out to be changed; wake-ups and counts left out. `proofs/mutants.sh` has them all, and all
//! are caught. What sleeping owners say of themselves is a hint: the models hold whatever it says.

#![expect(clippy::arc_with_non_send_sync, reason = "loom's threads are coroutines of one thread")]

mod clients;
mod parts;
mod streams;
mod support;
mod wake;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One scenario.
#[derive(Debug)]
pub struct Model {
    /// What must hold.
    pub name: &'static str,
    /// How often a thread that could go on is interrupted at most; as often as there is a place for it if
    /// `None`.
    pub preemptions: Option<usize>,
    scenario: fn(),
}

/// All of them.
pub const MODELS: &[Model] = &[
    Model { name: "turn: one at a time", preemptions: Some(5), scenario: parts::turn },
    Model { name: "slots: marks", preemptions: None, scenario: parts::marks },
    Model { name: "slots: one owner", preemptions: None, scenario: parts::claims },
    Model { name: "audience: asked when wanted", preemptions: None, scenario: parts::audience },
    Model { name: "wake: one owner", preemptions: Some(5), scenario: wake::one },
    Model { name: "wake: relay", preemptions: Some(3), scenario: wake::relay },
    Model { name: "wake: relay while others join", preemptions: Some(3), scenario: wake::relay_and_change },
    Model { name: "wake: relay goes", preemptions: Some(3), scenario: wake::relay_goes },
    Model { name: "ring: overrun", preemptions: Some(3), scenario: clients::overrun },
    Model { name: "join: last, then every later", preemptions: Some(4), scenario: clients::join },
    Model { name: "join: handshake elsewhere", preemptions: Some(3), scenario: clients::handshake },
    Model { name: "leave: the last of a lane", preemptions: Some(5), scenario: clients::leave },
    Model { name: "leave: failed handshake", preemptions: None, scenario: clients::abandon },
    Model { name: "leave: what a guest kept", preemptions: Some(3), scenario: clients::let_go },
    Model { name: "leave: another comes", preemptions: Some(3), scenario: clients::replace },
    Model { name: "leave: number used again", preemptions: Some(3), scenario: clients::reuse },
    Model { name: "offered: to all", preemptions: None, scenario: clients::offered },
    Model { name: "offered: to nobody", preemptions: Some(4), scenario: clients::offered_to_nobody },
    Model { name: "publish: two, one order", preemptions: Some(5), scenario: streams::publishers },
    Model { name: "last: never older", preemptions: None, scenario: streams::last },
    Model { name: "subscribe: last, then every later", preemptions: Some(5), scenario: streams::subscribe },
    Model { name: "subscribe: lag", preemptions: None, scenario: streams::lag },
    Model { name: "subscribe: goes", preemptions: Some(3), scenario: streams::unsubscribe },
];

impl Model {
    /// Tries all interleavings, counting them in `tried`.
    ///
    /// # Panics
    /// In one of them something does not hold.
    pub fn check(&self, tried: &Arc<AtomicUsize>) {
        let mut builder = loom::model::Builder::new();
        builder.max_branches = 10_000;
        builder.preemption_bound = self.preemptions;
        let (tried, scenario) = (Arc::clone(tried), self.scenario);
        builder.check(move || {
            tried.fetch_add(1, Ordering::Relaxed);
            scenario();
        });
    }
}
