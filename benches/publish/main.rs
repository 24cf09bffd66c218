//! Publishing one message of 1 KiB to N subscribers: serialised bytes in, framed once, one reference
//! to each. The engine and what is usually written instead go through the same three bodies.
//!
//! * `idle`: the publish call alone; everybody has taken the message before.
//! * `lagging`: the publish call alone; nobody takes anything, every queue is full. The engine and
//!   `broadcast` give the newest and lose the oldest, the `mpsc` ones lose the newest.
//! * `delivered`: until everybody has taken it. The first four take it on the same thread, in turn;
//!   the two `Wake…` have tasks on a runtime of two threads that sleep until they are woken.
//!
//! ```sh
//! cargo bench --bench publish
//! ```

mod alternatives;
#[path = "../support/mod.rs"]
mod support;
mod wake;

use std::cell::RefCell;

use alternatives::{Broadcast, MpscInDashMap, MpscInLockedMap};
use divan::Bencher;
use support::engine::Engine;
use support::{PAYLOAD, SUBSCRIBERS};
use wake::{WakePerClient, WakePerShard};

/// What every queue holds.
const CAPACITY: usize = 50;

fn main() {
    divan::main();
}

/// A way to get one message to many.
trait FanOut {
    fn new(subscribers: usize) -> Self;
    /// Gives one message to all subscribers.
    fn publish(&mut self);
    /// Returns when all subscribers have taken all there is.
    fn drain(&mut self);
}

#[divan::bench(
    types = [Tickcast, Broadcast, MpscInLockedMap, MpscInDashMap, WakePerShard, WakePerClient],
    args = SUBSCRIBERS, sample_size = 1, sample_count = 1_000, max_time = 1
)]
fn idle<F: FanOut>(bencher: Bencher<'_, '_>, subscribers: usize) {
    let fan_out = RefCell::new(F::new(subscribers));
    bencher.with_inputs(|| fan_out.borrow_mut().drain()).bench_local_values(|()| fan_out.borrow_mut().publish());
}

#[divan::bench(
    types = [Tickcast, Broadcast, MpscInLockedMap, MpscInDashMap],
    args = SUBSCRIBERS, sample_count = 500, max_time = 1
)]
fn lagging<F: FanOut>(bencher: Bencher<'_, '_>, subscribers: usize) {
    let mut fan_out = F::new(subscribers);
    (0..CAPACITY).for_each(|_| fan_out.publish());
    bencher.bench_local(|| fan_out.publish());
}

#[divan::bench(
    types = [Tickcast, Broadcast, MpscInLockedMap, MpscInDashMap, WakePerShard, WakePerClient],
    args = SUBSCRIBERS, sample_count = 500, max_time = 1
)]
fn delivered<F: FanOut>(bencher: Bencher<'_, '_>, subscribers: usize) {
    let mut fan_out = F::new(subscribers);
    bencher.bench_local(|| {
        fan_out.publish();
        fan_out.drain();
    });
}

/// The engine.
struct Tickcast(Engine);

impl FanOut for Tickcast {
    fn new(subscribers: usize) -> Self {
        Self(Engine::new(subscribers, PAYLOAD))
    }

    fn publish(&mut self) {
        self.0.publish();
    }

    fn drain(&mut self) {
        self.0.discard();
    }
}
