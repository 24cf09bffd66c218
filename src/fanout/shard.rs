//! A shard: the clients one writer task serves, and how it learns what there is to do.

use std::sync::Arc;
use std::task::{Wake, Waker};

use super::slots::Slots;
use super::sync::{AtomicBool, Notify, Ordering};
use crate::metrics::ShardCounters;

/// One writer task's share of the clients.
///
/// Publishers mark lanes, sockets mark clients; the one task that owns the shard sleeps in
/// [`wait`](Self::wait), then looks at what is marked: channels by
/// [`Rounds::collect`](super::Rounds::collect), clients by [`take_marked`](Self::take_marked). One
/// wake-up serves any number of marks.
///
/// Marking is mutex-free but for the wake-up itself: `Notify::notify_one` takes a mutex when the
/// task sleeps, once for each time it sleeps.
#[derive(Debug)]
pub struct Shard {
    clients: Slots,
    pub(super) lanes: Slots,
    wake: Notify,
    asleep: Flag,
    /// The owner has gone a round to its end.
    pub(super) round_ended: Notify,
    closed: Flag,
    counters: Arc<ShardCounters>,
}

impl Shard {
    pub(super) fn new(max_clients: usize, max_channels: usize, counters: Arc<ShardCounters>) -> Self {
        Self {
            clients: Slots::new(max_clients),
            // A channel may have a new lane before the old one is thrown away.
            lanes: Slots::new(2 * max_channels.max(512)),
            wake: Notify::new(),
            asleep: Flag::default(),
            round_ended: Notify::new(),
            closed: Flag::default(),
            counters,
        }
    }

    /// A slot for one more client, until it is [released](Self::release); `None` if the shard is full.
    pub fn claim(&self) -> Option<usize> {
        self.clients.claim()
    }

    /// Gives a client's slot back.
    pub fn release(&self, slot: usize) {
        self.clients.release(slot);
    }

    /// Marks a client's slot and wakes the owner.
    pub fn mark(&self, slot: usize) {
        self.clients.mark(slot);
        self.wake.notify_one();
    }

    /// Wakes the owner: something it looks at by itself has changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until the owner was woken since the last wait.
    ///
    /// # Cancel safety
    /// Cancel safe: a wake-up that was not returned stays for the next call.
    pub async fn wait(&self) {
        self.asleep.set(true);
        let _awake = Awake(&self.asleep);
        self.wake.notified().await;
    }

    /// Whether the owner waits. If it does not, it will find what it is woken for before it waits again.
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.get()
    }

    /// Appends the marked clients' slots to `slots`, in ascending order, and clears their marks.
    pub fn take_marked(&self, slots: &mut Vec<usize>) {
        self.clients.take(slots);
    }

    /// A waker that marks a client's slot: for its socket.
    pub fn waker(self: &Arc<Self>, slot: usize) -> Waker {
        Waker::from(Arc::new(Mark { shard: Arc::clone(self), slot }))
    }

    /// What the owner sent.
    pub fn counters(&self) -> &Arc<ShardCounters> {
        &self.counters
    }

    /// The owner is gone: nobody waits for its rounds any more.
    pub fn close(&self) {
        self.closed.set(true);
        self.round_ended.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

/// Release and acquire: who sees it set sees what was done before.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Flag {
    fn set(&self, value: bool) {
        self.0.store(value, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The owner does not sleep any more, woken or not.
struct Awake<'a>(&'a Flag);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// A socket that can go on marks its client's slot.
struct Mark {
    shard: Arc<Shard>,
    slot: usize,
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.shard.mark(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shard.mark(self.slot);
    }
}
