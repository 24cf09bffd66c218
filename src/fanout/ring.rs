//! What waits for one reader: a shard, a subscription, a client that lags.

use super::Frame;
use super::sync::ArrayQueue;

/// A bounded ring of frames that never refuses one: when full, the oldest gives way.
///
/// `crossbeam_queue::ArrayQueue` underneath. Mutex-free, not strictly lock-free: a thread stalled
/// in the middle of a push or pop makes another one spin on that slot.
#[derive(Debug)]
pub struct Ring {
    frames: ArrayQueue<Frame>,
}

impl Ring {
    /// A ring for `capacity` frames, at least one. Costs 16 bytes a frame and about 400 in all.
    pub fn new(capacity: usize) -> Self {
        Self { frames: ArrayQueue::new(capacity.max(1)) }
    }

    /// Adds `frame` as the newest and returns the oldest if it had to give way.
    #[inline]
    pub fn push(&self, frame: Frame) -> Option<Frame> {
        self.frames.force_push(frame)
    }

    /// Takes the oldest.
    #[inline]
    pub fn pop(&self) -> Option<Frame> {
        self.frames.pop()
    }

    /// How many frames wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many frames fit.
    pub fn capacity(&self) -> usize {
        self.frames.capacity()
    }
}
