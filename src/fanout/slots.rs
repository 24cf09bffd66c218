//! Numbered places that are given out and marked: a set of bits that many threads set and one takes.

use super::sync::{AtomicU64, AtomicUsize, Ordering};

/// Slots in one word.
const WORD: usize = 64;

/// Slots to claim, mark and release; each costs two bits. A mark is one atomic operation.
///
/// Marking is release and taking is acquire: who takes a mark sees what was done before it. So is giving
/// back and claiming again.
#[derive(Debug)]
pub(super) struct Slots {
    marked: Bits,
    /// Those that were given back.
    free: Bits,
    /// Slots below this have been claimed at some time.
    used: AtomicUsize,
}

#[derive(Debug)]
struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline]
    fn set(&self, bit: usize) {
        self.0[bit / WORD].fetch_or(1 << (bit % WORD), Ordering::Release);
    }

    /// Clears the lowest bit there is.
    fn take_one(&self, word: usize) -> Option<usize> {
        let lowest = |bits: u64| (bits != 0).then(|| bits & (bits - 1));
        let bits = self.0[word].fetch_update(Ordering::Acquire, Ordering::Relaxed, lowest).ok()?;
        Some(word * WORD + bits.trailing_zeros() as usize)
    }

    /// Clears all bits and appends them.
    fn take_all(&self, word: usize, taken: &mut Vec<usize>) {
        if self.0[word].load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut bits = self.0[word].swap(0, Ordering::Acquire);
        while bits != 0 {
            taken.push(word * WORD + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
}

impl Slots {
    /// Room for `capacity` slots, rounded up to whole words.
    pub(super) fn new(capacity: usize) -> Self {
        let words = capacity.div_ceil(WORD);
        Self { marked: Bits::new(words), free: Bits::new(words), used: AtomicUsize::new(0) }
    }

    fn used_words(&self) -> usize {
        self.used.load(Ordering::Acquire).div_ceil(WORD)
    }

    /// A slot nobody else has, until it is released; `None` if all are taken. The lowest that was given
    /// back: looking for it takes a load for every 64 slots.
    pub(super) fn claim(&self) -> Option<usize> {
        let capacity = self.marked.0.len() * WORD;
        let claim = |used| (used < capacity).then_some(used + 1);
        let fresh = || self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).ok();
        (0..self.used_words()).find_map(|word| self.free.take_one(word)).or_else(fresh)
    }

    /// Gives a slot back. A mark it has stays, and means nothing to whoever claims it next.
    pub(super) fn release(&self, slot: usize) {
        self.free.set(slot);
    }

    /// Marks a claimed slot.
    #[inline]
    pub(super) fn mark(&self, slot: usize) {
        self.marked.set(slot);
    }

    /// Whether a slot is marked. Acquire: after a mark that was set later, this one is seen.
    pub(super) fn is_marked(&self, slot: usize) -> bool {
        self.marked.0[slot / WORD].load(Ordering::Acquire) & 1 << (slot % WORD) != 0
    }

    /// Appends the marked slots to `slots`, in ascending order, and clears their marks.
    pub(super) fn take(&self, slots: &mut Vec<usize>) {
        (0..self.used_words()).for_each(|word| self.marked.take_all(word, slots));
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
