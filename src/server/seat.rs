//! Seats: a slot in a shard and the subscriber that sits there.
//!
//! A seat is taken before the handshake is answered. So when the client learns that it is connected,
//! it has joined its channel: whatever is published from then on waits in its ring, even if the
//! writer has not met it yet.

use std::sync::Arc;

use crossbeam_queue::SegQueue;

use crate::fanout::{Channel, Hub, Shard, Subscriber};
use crate::metrics::{Counter, Gauge};

/// The seats of one shard.
#[derive(Debug)]
pub(super) struct Seats {
    hub: Hub,
    shard: Arc<Shard>,
    /// Slots that were left; those from `fresh` on were never taken.
    left: SegQueue<usize>,
    fresh: Counter,
    taken: Gauge,
}

impl Seats {
    pub(super) fn new(hub: Hub, shard: Arc<Shard>) -> Self {
        Self { hub, shard, left: SegQueue::new(), fresh: Counter::default(), taken: Gauge::default() }
    }

    pub(super) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// A seat in the emptiest of `shards`, joined to `channel`; `None` if that one is full.
    pub(super) fn take(shards: &[Arc<Self>], channel: &Channel) -> Option<Seat> {
        let (index, seats) = shards.iter().enumerate().min_by_key(|(_, seats)| seats.taken.get())?;
        let slot = seats.left.pop().unwrap_or_else(|| seats.fresh.next() as usize);
        if slot >= seats.shard.slots() {
            return None;
        }
        seats.taken.up();
        let mut subscriber = seats.hub.subscriber(&seats.shard, slot);
        subscriber.join(channel);
        Some(Seat { seats: Arc::clone(seats), index, slot, subscriber: Some(subscriber) })
    }
}

/// One seat; dropping it leaves it to the next.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    index: usize,
    slot: usize,
    subscriber: Option<Subscriber>,
}

impl Seat {
    /// Which of the shards it was taken from.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    /// Who sits there, until it leaves its channels.
    pub(super) fn subscriber(&self) -> Option<&Subscriber> {
        self.subscriber.as_ref()
    }

    /// Leaves the channels and keeps the seat; what is in the ring is discarded. Returns how many
    /// frames were dropped for newer ones, once.
    pub(super) fn leave_channels(&mut self) -> Option<u64> {
        self.subscriber.take().map(|subscriber| subscriber.dropped())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.subscriber = None;
        self.seats.left.push(self.slot);
        self.seats.taken.down();
    }
}
