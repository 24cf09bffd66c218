//! The receiving side: the half publishers see, and the handles that own it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::shard::WORD;
use super::{Channel, Frame, Ring, Shard};
use crate::metrics::Counter;

/// What publishers see of a subscriber: its ring, and where to mark that the ring has something.
/// Held by the subscriber's owner and by the sets of the channels it is in.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) ring: Ring,
    pub(super) shard: Arc<Shard>,
    slot: usize,
    /// Which of every channel's sets this one belongs in.
    pub(super) set: usize,
    pub(super) dropped: Counter,
    holders: Holders,
}

/// The owner of an inbox and each of its memberships. Who takes it to zero throws away what is left
/// in the ring, when nobody can push any more. Acquire and release: that one sees every push.
#[derive(Debug)]
struct Holders(AtomicUsize);

impl Holders {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this was the last.
    fn remove(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Inbox {
    pub(super) fn word(&self) -> (usize, u64) {
        (self.slot / WORD, 1 << (self.slot % WORD))
    }

    pub(super) fn mark(&self) {
        self.shard.mark(self.slot);
    }

    /// Pushes `frame` and counts what gave way.
    #[inline]
    pub(super) fn push(&self, frame: Frame) {
        if let Some(displaced) = self.ring.push(frame) {
            displaced.count_dropped();
            self.dropped.add(1);
        }
    }

    /// One holder fewer.
    pub(super) fn release(&self) {
        if self.holders.remove() {
            while let Some(frame) = self.ring.pop() {
                frame.count_discarded();
            }
        }
    }
}

/// A socket that can go on wakes its subscriber's slot, like a publisher.
impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        self.mark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mark();
    }
}

/// A subscriber in a shard: the owning handle, for writers that serve many.
///
/// Dropping it leaves every channel and counts what is still in the ring as discarded.
#[derive(Debug)]
pub struct Subscriber {
    inbox: Arc<Inbox>,
    channels: Vec<Channel>,
}

impl Subscriber {
    pub(super) fn new(shard: Arc<Shard>, slot: usize, set: usize, capacity: usize) -> Self {
        let inbox = Inbox {
            ring: Ring::new(capacity),
            shard,
            slot,
            set,
            dropped: Counter::default(),
            holders: Holders(AtomicUsize::new(1)),
        };
        Self { inbox: Arc::new(inbox), channels: Vec::new() }
    }

    /// Joins `channel`: its last message first, if there is one, then every later one. Joining a
    /// channel twice changes nothing.
    pub fn join(&mut self, channel: &Channel) {
        if !self.channels.contains(channel) {
            self.inbox.holders.add();
            self.channels.reserve_exact(1);
            self.channels.push(channel.clone());
            channel.enter(&self.inbox);
        }
    }

    /// Leaves `channel`; what is in the ring stays there.
    pub fn leave(&mut self, channel: &Channel) {
        if let Some(index) = self.channels.iter().position(|joined| joined == channel) {
            self.channels.swap_remove(index).exit(&self.inbox);
        }
    }

    /// The channels joined, in no order.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// The frames that wait.
    pub fn ring(&self) -> &Ring {
        &self.inbox.ring
    }

    /// Takes the oldest frame. What becomes of it is the caller's to count: sent
    /// ([`Shard::counters`]), dropped ([`Subscriber::drop_stale`]) or discarded
    /// ([`Frame::count_discarded`]).
    #[inline]
    pub fn pop(&self) -> Option<Frame> {
        self.inbox.ring.pop()
    }

    /// Frames dropped so far because the ring was full or the writer found newer ones.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped.get()
    }

    /// Counts `frame`, taken and not sent, as dropped for a newer one.
    pub fn drop_stale(&self, frame: &Frame) {
        frame.count_dropped();
        self.inbox.dropped.add(1);
    }

    /// Marks the slot, so that the shard's owner visits it again.
    pub fn mark(&self) {
        self.inbox.mark();
    }

    /// A waker that marks the slot.
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.inbox))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        for channel in self.channels.drain(..) {
            channel.exit(&self.inbox);
        }
        self.inbox.release();
    }
}

/// A subscriber on its own: an application's sink inside the process.
///
/// # Lagging
/// A subscription that is not read loses the oldest frames, never the newest, and delays nobody;
/// [`Subscription::lagged`] tells how many, [`Frame::seq`] shows where.
#[derive(Debug)]
pub struct Subscription {
    subscriber: Subscriber,
    shard: Arc<Shard>,
    told: u64,
}

impl Subscription {
    pub(super) fn new(subscriber: Subscriber) -> Self {
        let shard = Arc::clone(&subscriber.inbox.shard);
        Self { subscriber, shard, told: 0 }
    }

    /// Joins one more channel; see [`Subscriber::join`].
    pub fn join(&mut self, channel: &Channel) {
        self.subscriber.join(channel);
    }

    /// Leaves a channel; see [`Subscriber::leave`].
    pub fn leave(&mut self, channel: &Channel) {
        self.subscriber.leave(channel);
    }

    /// The next frame, oldest first. Waits for ever if no channel is joined.
    ///
    /// # Cancel safety
    /// Cancel safe: a frame is taken only when it is returned.
    pub async fn recv(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.try_recv() {
                return frame;
            }
            self.shard.wait().await;
        }
    }

    /// The next frame, if one waits.
    pub fn try_recv(&mut self) -> Option<Frame> {
        let frame = self.subscriber.pop()?;
        self.shard.counters.frames_sent.add(1);
        Some(frame)
    }

    /// How many frames were lost since this was last asked.
    pub fn lagged(&mut self) -> u64 {
        let dropped = self.subscriber.dropped();
        dropped - std::mem::replace(&mut self.told, dropped)
    }
}
