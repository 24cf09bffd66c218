//! Numbered places that are given out and marked: a set of bits that many threads set and one takes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;

/// Slots in one word.
const WORD: usize = 64;

/// Slots to claim, mark and release; each costs a bit. A mark is one atomic operation.
///
/// Marking is release and taking is acquire: who takes a mark sees what was done before it.
#[derive(Debug)]
pub(super) struct Slots {
    words: Box<[AtomicU64]>,
    /// Slots below this have been claimed at some time. A mark of one that was claimed later than it was
    /// read is found the next time.
    used: AtomicUsize,
    released: SegQueue<usize>,
}

impl Slots {
    /// Room for `capacity` slots, rounded up to whole words.
    pub(super) fn new(capacity: usize) -> Self {
        let words = (0..capacity.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        Self { words, used: AtomicUsize::new(0), released: SegQueue::new() }
    }

    /// A slot nobody else has, until it is released; `None` if all are taken.
    pub(super) fn claim(&self) -> Option<usize> {
        let capacity = self.words.len() * WORD;
        let claim = |used| (used < capacity).then_some(used + 1);
        let fresh = || self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).ok();
        self.released.pop().or_else(fresh)
    }

    /// Gives a slot back. A mark it has stays, and means nothing to whoever claims it next.
    pub(super) fn release(&self, slot: usize) {
        self.released.push(slot);
    }

    /// Marks a claimed slot.
    #[inline]
    pub(super) fn mark(&self, slot: usize) {
        self.words[slot / WORD].fetch_or(1 << (slot % WORD), Ordering::Release);
    }

    /// Appends the marked slots to `slots`, in ascending order, and clears their marks.
    pub(super) fn take(&self, slots: &mut Vec<usize>) {
        let used = self.used.load(Ordering::Acquire);
        for (n, word) in self.words[..used.div_ceil(WORD)].iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut marked = word.swap(0, Ordering::Acquire);
            while marked != 0 {
                slots.push(n * WORD + marked.trailing_zeros() as usize);
                marked &= marked - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(slots: &Slots) -> Vec<usize> {
        let mut taken = Vec::new();
        slots.take(&mut taken);
        taken
    }

    #[test]
    fn marks_are_taken_once_and_in_order() {
        let slots = Slots::new(5_000);
        (0..5_000).for_each(|slot| assert_eq!(slots.claim(), Some(slot)));
        for slot in [4_999, 0, 63, 64, 1_024, 0] {
            slots.mark(slot);
        }
        assert_eq!(taken(&slots), [0, 63, 64, 1_024, 4_999]);
        assert!(taken(&slots).is_empty());
    }

    #[test]
    fn a_slot_has_one_owner_at_a_time() {
        let slots = Slots::new(64);
        let all: Vec<_> = std::iter::from_fn(|| slots.claim()).collect();
        assert_eq!(all, Vec::from_iter(0..64));
        slots.release(7);
        assert_eq!((slots.claim(), slots.claim()), (Some(7), None));
    }
}
