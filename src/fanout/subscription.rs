//! A subscription: an application's sink inside the process.

use std::sync::Arc;

use super::sync::{AtomicUsize, Notify, Ordering};
use super::{Channel, Frame, Ring};
use crate::metrics::{Counter, ShardCounters};

/// What publishers see of a subscription: its ring, and how to wake it. Held by the subscription and
/// by the channels it is in.
#[derive(Debug)]
pub(super) struct Inbox {
    ring: Ring,
    wake: Notify,
    dropped: Counter,
    holders: Holders,
}

/// The owner of an inbox and each of its channels. Who takes it to zero throws away what is left
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
    /// Pushes `frame`, counts what gave way, wakes whoever waits.
    #[inline]
    pub(super) fn push(&self, frame: Frame) {
        if let Some(displaced) = self.ring.push(frame) {
            displaced.count_dropped();
            self.dropped.add(1);
        }
        self.wake.notify_one();
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

/// A sink inside the process, with one ring for all of its channels. Dropping it leaves them.
///
/// # Lagging
/// A subscription that is not read loses the oldest frames, never the newest, and delays nobody;
/// [`Subscription::lagged`] tells how many, [`Frame::seq`] shows where.
#[derive(Debug)]
pub struct Subscription {
    inbox: Arc<Inbox>,
    channels: Vec<Channel>,
    counters: Arc<ShardCounters>,
    told: u64,
}

impl Subscription {
    pub(super) fn new(queue_size: usize, counters: Arc<ShardCounters>) -> Self {
        let inbox = Inbox {
            ring: Ring::new(queue_size),
            wake: Notify::new(),
            dropped: Counter::default(),
            holders: Holders(AtomicUsize::new(1)),
        };
        Self { inbox: Arc::new(inbox), channels: Vec::new(), counters, told: 0 }
    }

    /// Joins one more channel: its last message first, if there is one, then every later one.
    /// Joining a channel twice changes nothing.
    pub fn join(&mut self, channel: &Channel) {
        if !self.channels.contains(channel) {
            self.inbox.holders.add();
            self.channels.push(channel.clone());
            channel.subscribe(&self.inbox);
        }
    }

    /// Leaves a channel; what is in the ring stays there.
    pub fn leave(&mut self, channel: &Channel) {
        if let Some(index) = self.channels.iter().position(|joined| joined == channel) {
            self.channels.swap_remove(index).unsubscribe(&self.inbox);
        }
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
            self.inbox.wake.notified().await;
        }
    }

    /// The next frame, if one waits.
    pub fn try_recv(&mut self) -> Option<Frame> {
        let frame = self.inbox.ring.pop()?;
        self.counters.frames_sent.add(1);
        Some(frame)
    }

    /// How many frames were lost since this was last asked.
    pub fn lagged(&mut self) -> u64 {
        let dropped = self.inbox.dropped.get();
        dropped - std::mem::replace(&mut self.told, dropped)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for channel in self.channels.drain(..) {
            channel.unsubscribe(&self.inbox);
        }
        self.inbox.release();
    }
}
