//! A shard: the subscribers one writer task serves, and how it learns which have something.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::metrics::ShardCounters;

/// Slots in one word of the ready set.
pub(super) const WORD: usize = 64;
/// Words allocated together: 1,024 slots, 128 bytes.
const SEGMENT_WORDS: usize = 16;
const SEGMENT_SLOTS: usize = SEGMENT_WORDS * WORD;

/// One writer task's share of the subscribers.
///
/// Publishers and sockets [`mark`](Self::mark) a subscriber's slot; the one task that owns the
/// shard sleeps in [`wait`](Self::wait) and collects the marked slots with
/// [`take_ready`](Self::take_ready). One wake-up serves any number of marks.
///
/// Marking is mutex-free but for the wake-up itself: `Notify::notify_one` takes a mutex when the
/// task sleeps, once for each time it sleeps.
#[derive(Debug)]
pub struct Shard {
    pub(super) id: usize,
    ready: ReadySet,
    wake: Notify,
    pub(super) counters: Arc<ShardCounters>,
    passes: Passes,
}

impl Shard {
    pub(super) fn new(id: usize, slots: usize, counters: Arc<ShardCounters>) -> Self {
        Self { id, ready: ReadySet::new(slots), wake: Notify::new(), counters, passes: Passes::default() }
    }

    /// How many slots the shard has; a subscriber's slot is below it.
    pub fn slots(&self) -> usize {
        self.ready.slots()
    }

    /// Prepares `slot` for a subscriber.
    pub(super) fn reserve(&self, slot: usize) {
        self.ready.reserve(slot);
    }

    /// The owner is gone: nobody waits for its visits any more.
    pub fn close(&self) {
        self.passes.closed.store(true, Ordering::Release);
        self.passes.ended_notify.notify_waiters();
    }

    /// Marks one slot, which has a subscriber, and wakes the owner.
    pub fn mark(&self, slot: usize) {
        self.ready.set(slot / WORD, 1 << (slot % WORD));
        self.wake.notify_one();
    }

    /// Marks several slots of one word without waking.
    #[inline]
    pub(super) fn mark_word(&self, word: usize, mask: u64) {
        self.ready.set(word, mask);
    }

    /// Wakes the owner: something it looks at by itself has changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until something was marked since the last wait.
    ///
    /// # Cancel safety
    /// Cancel safe: a wake-up that was not returned stays for the next call.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Appends the marked slots to `slots`, in ascending order, and clears their marks.
    pub fn take_ready(&self, slots: &mut Vec<usize>) {
        self.ready.take(slots);
    }

    /// The owner says that it visits all that [`take_ready`](Self::take_ready) will give it.
    pub fn begin_pass(&self) {
        self.passes.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// The owner says that it visited them.
    pub fn end_pass(&self) {
        self.passes.ended.fetch_add(1, Ordering::AcqRel);
        self.passes.ended_notify.notify_waiters();
    }

    /// What the owner sent.
    pub fn counters(&self) -> &Arc<ShardCounters> {
        &self.counters
    }

    /// Waits until the owner has visited every subscriber marked before this call. A socket that
    /// takes nothing is visited and left, so a slow subscriber does not prolong the wait.
    pub(super) async fn visited(&self) {
        let begun = self.passes.begun.load(Ordering::Acquire);
        loop {
            let ended = self.passes.ended_notify.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            // A pass under way may have begun before the marks: the one after it has them all.
            if self.is_quiet() || self.passes.ended.load(Ordering::Acquire) > begun {
                return;
            }
            ended.await;
        }
    }

    /// Nothing is marked and no pass is under way, or none ever will be.
    fn is_quiet(&self) -> bool {
        if self.passes.closed.load(Ordering::Acquire) {
            return true;
        }
        self.ready.is_empty() && self.passes.ended.load(Ordering::Acquire) >= self.passes.begun.load(Ordering::Acquire)
    }
}

/// Passes of the owner over its marked subscribers. Acquire and release pair the end of a pass
/// with whoever waits for it.
#[derive(Debug, Default)]
struct Passes {
    begun: AtomicUsize,
    ended: AtomicUsize,
    closed: AtomicBool,
    ended_notify: Notify,
}

/// A set of slots as bits, in segments made for the first subscriber in each. A mark costs one atomic
/// operation.
///
/// Setting is release and taking is acquire: who takes a mark sees what was pushed before it. Taking
/// is release as well: who finds the set empty sees that the pass that emptied it has begun.
#[derive(Debug)]
struct ReadySet {
    segments: Box<[OnceLock<Box<[AtomicU64; SEGMENT_WORDS]>>]>,
}

impl ReadySet {
    fn new(slots: usize) -> Self {
        Self { segments: (0..slots.div_ceil(SEGMENT_SLOTS)).map(|_| OnceLock::new()).collect() }
    }

    fn slots(&self) -> usize {
        self.segments.len() * SEGMENT_SLOTS
    }

    /// Makes the segment of `slot`.
    fn reserve(&self, slot: usize) {
        self.segments[slot / SEGMENT_SLOTS].get_or_init(Box::default);
    }

    #[inline]
    fn set(&self, word: usize, mask: u64) {
        if let Some(segment) = self.segments[word / SEGMENT_WORDS].get() {
            segment[word % SEGMENT_WORDS].fetch_or(mask, Ordering::Release);
        } else {
            debug_assert!(false, "reserved before anybody could mark it");
        }
    }

    fn take(&self, slots: &mut Vec<usize>) {
        for (word, bits) in self.words() {
            if bits.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut marked = bits.swap(0, Ordering::AcqRel);
            while marked != 0 {
                slots.push(word * WORD + marked.trailing_zeros() as usize);
                marked &= marked - 1;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.words().all(|(_, bits)| bits.load(Ordering::Acquire) == 0)
    }

    fn words(&self) -> impl Iterator<Item = (usize, &AtomicU64)> {
        let segments = self.segments.iter().enumerate();
        segments
            .filter_map(|(n, segment)| Some((n * SEGMENT_WORDS, segment.get()?)))
            .flat_map(|(first, words)| words.iter().enumerate().map(move |(n, bits)| (first + n, bits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    fn shard() -> Shard {
        let shard = Shard::new(0, 5_000, Arc::default());
        (0..5_000).for_each(|slot| shard.reserve(slot));
        shard
    }

    #[tokio::test]
    async fn marks_are_taken_once_and_in_order() {
        let shard = shard();
        for slot in [4_999, 0, 63, 64, 1_024, 0] {
            shard.mark(slot);
        }
        shard.wait().await;
        let mut slots = Vec::new();
        shard.take_ready(&mut slots);
        assert_eq!(slots, [0, 63, 64, 1_024, 4_999]);
        slots.clear();
        shard.take_ready(&mut slots);
        assert!(slots.is_empty());
    }

    #[tokio::test]
    async fn visited_waits_for_a_whole_pass() {
        let shard = shard();
        shard.visited().await;
        shard.mark(3);
        let mut visited = std::pin::pin!(shard.visited());
        let pending = std::future::poll_fn(|cx| Poll::Ready(visited.as_mut().poll(cx).is_pending()));
        assert!(pending.await, "nobody visited the mark yet");
        shard.begin_pass();
        shard.take_ready(&mut Vec::new());
        shard.end_pass();
        visited.await;
    }
}
