//! Seats: a slot in a shard, and a membership in a channel for whoever sits there.
//!
//! A seat is taken before the handshake is answered. So when the client learns that it is connected,
//! it has joined its channel: whatever is published from then on waits for it, even if the writer has
//! not met it yet.

use std::sync::Arc;
use std::task::Waker;

use crate::fanout::{Channel, Membership, Shard};
use crate::metrics::Gauge;

/// The seats of one shard.
#[derive(Debug)]
pub(super) struct Seats {
    shard: Arc<Shard>,
    taken: Gauge,
}

impl Seats {
    pub(super) fn new(shard: Arc<Shard>) -> Self {
        Self { shard, taken: Gauge::default() }
    }

    pub(super) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// A seat in the emptiest of `shards`, joined to `channel`; `None` if that one is full.
    pub(super) async fn take(shards: &[Arc<Self>], channel: &Channel) -> Option<(Seat, Membership)> {
        let (index, seats) = shards.iter().enumerate().min_by_key(|(_, seats)| seats.taken.get())?;
        let slot = seats.shard.claim()?;
        seats.taken.up();
        let seat = Seat { seats: Arc::clone(seats), index, slot };
        let membership = channel.join(&seats.shard);
        membership.joined().await.then_some((seat, membership))
    }
}

/// One seat; dropping it leaves it to the next.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    index: usize,
    slot: usize,
}

impl Seat {
    /// Which of the shards it was taken from.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    /// Marks the slot, so that the shard's owner visits whoever sits there.
    pub(super) fn waker(&self) -> Waker {
        self.seats.shard.waker(self.slot)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.shard.release(self.slot);
        self.seats.taken.down();
    }
}
