//! How a channel's messages are numbered.

use std::num::NonZeroU64;

use super::sync::{AtomicU64, Ordering};

/// Where a channel is: its position, which counts what was fanned out here, and how far the number that
/// clients are told is ahead of that. Only who carries another node's numbers ever moves the second.
///
/// Written in turn only. The position is set with release when the message is in all rings: who
/// acquires it finds the message there, and the lead that belongs to it.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    position: AtomicU64,
    lead: AtomicU64,
}

impl Numbers {
    /// How many messages were fanned out.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// The last message's number.
    pub(super) fn seq(&self) -> u64 {
        self.position() + self.lead.load(Ordering::Relaxed)
    }

    /// In turn: position and number of the next message, which is `given` if that is higher than the last one.
    pub(super) fn next(&self, given: Option<NonZeroU64>) -> (u64, u64) {
        let position = self.position() + 1;
        let lead = self.lead.load(Ordering::Relaxed);
        let Some(skipped) = given.and_then(|given| given.get().checked_sub(position + lead)) else {
            return (position, position + lead);
        };
        self.lead.store(lead + skipped, Ordering::Relaxed);
        (position, position + lead + skipped)
    }

    /// In turn: the message at `position` is in all rings.
    pub(super) fn set(&self, position: u64) {
        self.position.store(position, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_positions_have_no_holes() {
        let numbers = Numbers::default();
        let mut told = Vec::new();
        for given in [0, 0, 7, 8, 0, 3, 20, u64::MAX >> 1, 0] {
            let (position, seq) = numbers.next(NonZeroU64::new(given));
            numbers.set(position);
            assert_eq!((numbers.position(), numbers.seq()), (position, seq));
            told.push(seq);
        }
        assert_eq!(told, [1, 2, 7, 8, 9, 10, 20, u64::MAX >> 1, (u64::MAX >> 1) + 1]);
        assert_eq!(numbers.position(), 9);
    }
}
