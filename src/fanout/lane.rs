//! A lane: one channel's way into one shard.

use std::pin::pin;
use std::sync::Arc;

use super::sync::{AtomicU64, AtomicUsize, Ordering, fence};
use super::{Frame, Ring, Shard};

/// The frames of one channel that a shard's owner has not yet seen, for all the shard's clients in
/// that channel together.
///
/// It begins with the first client that joins and is dead when the last has left: then nothing is
/// pushed any more, and who comes next gets a new one.
#[derive(Debug)]
pub(super) struct Lane {
    ring: Ring,
    shard: Arc<Shard>,
    id: usize,
    members: Members,
    progress: Progress,
}

impl Lane {
    /// `None` if the shard takes no more channels.
    pub(super) fn new(shard: Arc<Shard>, capacity: usize) -> Option<Self> {
        let id = shard.lanes.claim()?;
        Some(Self { ring: Ring::new(capacity), shard, id, members: Members::default(), progress: Progress::default() })
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    pub(super) fn is_in(&self, shard: &Arc<Shard>) -> bool {
        Arc::ptr_eq(&self.shard, shard)
    }

    /// How many have joined and not left, registered with the owner or not.
    pub(super) fn members(&self) -> usize {
        self.members.get()
    }

    /// In turn.
    pub(super) fn join(&self) {
        self.members.0.fetch_add(1, Ordering::AcqRel);
    }

    /// In turn; returns whether that was the last. The owner comes to let go of what only this one still
    /// wanted: frames, or the lane.
    pub(super) fn leave(&self) -> bool {
        let was_last = self.members.0.fetch_sub(1, Ordering::AcqRel) == 1;
        self.mark_and_wake();
        was_last
    }

    fn mark(&self) {
        self.shard.lanes.mark(self.id);
    }

    fn mark_and_wake(&self) {
        self.mark();
        self.shard.wake();
    }

    /// For the owner.
    pub(super) fn pop(&self) -> Option<Frame> {
        self.ring.pop()
    }

    /// The owner says that everybody registered has been offered the messages up to `seq`.
    pub(super) fn set_offered(&self, seq: u64) {
        self.progress.0.store(seq, Ordering::Release);
        self.shard.round_ended.notify_waiters();
    }

    /// The owner goes. Who waits for an offer waits for nothing any more; and if others were to be woken
    /// by this owner, they have not been.
    pub(super) fn set_unserved(&self) {
        self.set_offered(u64::MAX);
        fence(Ordering::SeqCst);
    }

    /// Whether somebody is registered with the owner, or has been.
    fn is_served(&self) -> bool {
        self.progress.get() != u64::MAX
    }

    /// Waits until everybody has been offered the messages up to `seq`, whether or not their sockets
    /// took them. A handshake that is not done is not waited for.
    pub(super) async fn offered(&self, seq: u64) {
        loop {
            let mut ended = pin!(self.shard.round_ended.notified());
            ended.as_mut().enable();
            if self.progress.get() >= seq || self.members() == 0 || self.shard.is_closed() {
                return;
            }
            ended.await;
        }
    }
}

/// In turn: pushes `frame` to all lanes and sees to it that all owners look. A frame that gives way leaves
/// a hole in the sequence, which the owner counts for everybody who was owed it.
///
/// Of the owners that sleep one is woken, and wakes the others when it takes its mark ([`wake_others`]):
/// to wake a task for which another thread must get up is a system call. Its lane is marked last, so
/// who takes that mark finds all others marked. An owner that does not sleep looks again when told so.
pub(super) fn push_to_all(lanes: &[Arc<Lane>], frame: &Frame) {
    lanes.iter().for_each(|lane| drop(lane.ring.push(frame.clone())));
    let mut relay: Option<&Lane> = None;
    for lane in lanes {
        let sleeps = lane.shard.is_asleep();
        if sleeps && relay.is_none() && lane.is_served() {
            relay = Some(lane);
        } else if sleeps && relay.is_some() {
            lane.mark();
        } else {
            lane.mark_and_wake();
        }
    }
    if let Some(relay) = relay {
        relay.mark_and_wake();
        // Its owner may be gone since it was looked at. Either it saw the marks when it went, or this sees
        // that it did: a fence between the store and the load on both sides.
        fence(Ordering::SeqCst);
        if !relay.is_served() {
            wake_others(lanes, relay);
        }
    }
}

/// Wakes the owners of the other lanes that are marked. Whether they sleep does not matter: one may be about
/// to, and have looked before its mark was set.
pub(super) fn wake_others(lanes: &[Arc<Lane>], woken: &Lane) {
    let others = lanes.iter().filter(|lane| !std::ptr::eq(&***lane, woken) && lane.shard.lanes.is_marked(lane.id));
    others.for_each(|lane| lane.shard.wake());
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shard.lanes.release(self.id);
    }
}

/// How many have joined. Changed in turn; acquire and release: the owner that reads zero sees that
/// nothing is pushed any more.
#[derive(Debug, Default)]
struct Members(AtomicUsize);

impl Members {
    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// Up to which message everybody has been offered all. Written by the owner; nobody registered yet is
/// the same as everything offered. Release and acquire: who reads it sees what the writes did.
#[derive(Debug)]
struct Progress(AtomicU64);

impl Progress {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}
