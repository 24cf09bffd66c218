//! A channel and a client of it, as they must be.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tickcast::fanout::{Channel, Delivery, Frame, Place};

use super::Woken;

/// A client that its shard's owner serves.
pub(crate) struct Client {
    pub(crate) channel: usize,
    pub(crate) place: Place,
    /// The number of the message it must get next, or lose.
    pub(crate) next: u64,
    /// The channel's last message when it was registered: an offer of that is not waited for.
    pub(crate) since: u64,
}

/// A channel.
pub(crate) struct Stream {
    pub(crate) channel: Channel,
    /// By number; shares its memory with the frame, so that it shows whether the frame is alive.
    pub(crate) published: Vec<Bytes>,
    pub(crate) pushed: u64,
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) discarded: u64,
    pub(crate) waiting: Option<Waiting>,
}

/// Somebody waits until what was published up to `seq` is offered.
pub(crate) struct Waiting {
    pub(crate) seq: u64,
    pub(crate) offered: Pin<Box<dyn Future<Output = ()>>>,
    pub(crate) woken: Arc<Woken>,
}

impl Stream {
    pub(crate) fn seq(&self) -> u64 {
        self.published.len() as u64
    }

    /// What a guest is owed: the last message before it joined, if there was one, and those since.
    pub(crate) fn owed_since(&self, last: u64) -> u64 {
        u64::from(last > 0) + self.seq() - last
    }

    pub(crate) fn check(&self, frame: &Frame, seq: u64) {
        assert_eq!(frame.seq(), seq, "not the next message");
        assert_eq!(frame.payload(), self.published[seq as usize - 1]);
    }

    pub(crate) fn alive(&self) -> usize {
        self.published.iter().filter(|payload| !payload.is_unique()).count()
    }
}

/// A client takes what it is lent: all up to what was collected, less what a full ring gave up.
pub(crate) fn take(
    stream: &mut Stream,
    client: &mut Client,
    delivery: &Delivery<'_>,
    collected: u64,
    queue_size: usize,
) {
    let Delivery { lost, frames, .. } = *delivery;
    let len = frames.len();
    assert!(len > 0 && len <= queue_size, "{len} frames from a ring of {queue_size}");
    assert!(lost == 0 || len == queue_size, "{lost} lost, {len} there");
    client.next += lost;
    for frame in frames {
        stream.check(frame, client.next);
        client.next += 1;
    }
    assert_eq!(client.next, collected, "not all that was collected");
    stream.dropped += lost;
    stream.sent += len as u64;
}
