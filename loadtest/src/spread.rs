//! From the first to the last client that receives a message.
//!
//! A worker notes for every message when its first and its last client had it ([`Sightings`]); the
//! coordinator puts the workers' notes together and closes a message when nobody has received it for a
//! while ([`Spread`]).

use std::collections::HashMap;

use crate::stats::Latencies;

/// Messages a worker keeps in place; more under way at once overflow into a list.
const SLOTS: usize = 4_096;
/// When nobody has received a message for this long, everybody has who will. Nanoseconds.
const CLOSED_AFTER: u64 = 60_000_000_000;
/// Messages that may be waited for that long; with more, a twelfth of the time has to do.
const MAX_OPEN: usize = 100_000;

/// When a message was seen, in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sighting {
    /// Its number, or else its time.
    key: u64,
    first: u64,
    last: u64,
    clients: u32,
}

/// What one worker has seen since it was last asked.
#[derive(Debug)]
pub(crate) struct Sightings {
    slots: Vec<Sighting>,
    overflow: Vec<Sighting>,
}

impl Default for Sightings {
    fn default() -> Self {
        Self { slots: vec![Sighting::default(); SLOTS], overflow: Vec::new() }
    }
}

impl Sightings {
    /// A client has received message `key`.
    pub(crate) fn note(&mut self, key: u64, now: u64) {
        // Fibonacci hashing: times that differ by a round number spread as well as numbers do.
        let slot = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let slot = &mut self.slots[slot as usize % SLOTS];
        if slot.clients > 0 && slot.key == key {
            slot.last = slot.last.max(now);
            slot.clients += 1;
        } else {
            let displaced = std::mem::replace(slot, Sighting { key, first: now, last: now, clients: 1 });
            if displaced.clients > 0 {
                self.overflow.push(displaced);
            }
        }
    }

    /// Everything seen, forgotten here.
    pub(crate) fn take(&mut self) -> Vec<Sighting> {
        let mut all = std::mem::take(&mut self.overflow);
        for slot in self.slots.iter_mut().filter(|slot| slot.clients > 0) {
            all.push(std::mem::take(slot));
        }
        all
    }
}

/// Puts the sightings of all workers together.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    open: HashMap<u64, Sighting>,
    newest: u64,
}

impl Spread {
    /// Adds what a worker has seen.
    pub(crate) fn add(&mut self, seen: &[Sighting]) {
        for sighting in seen {
            self.newest = self.newest.max(sighting.last);
            let open = self.open.entry(sighting.key).or_insert(Sighting { clients: 0, ..*sighting });
            open.first = open.first.min(sighting.first);
            open.last = open.last.max(sighting.last);
            open.clients += sighting.clients;
        }
    }

    /// Records the messages that all `clients` have, or that nobody has received for long, or all.
    pub(crate) fn close(&mut self, all: bool, clients: usize, spread: &mut Latencies) {
        let patience = if self.open.len() > MAX_OPEN { CLOSED_AFTER / 12 } else { CLOSED_AFTER };
        let newest = self.newest;
        self.open.retain(|_, sighting| {
            let complete = sighting.clients as usize >= clients;
            let closed = all || complete || sighting.last.saturating_add(patience) < newest;
            // One client has no first and last.
            if closed && sighting.clients > 1 {
                spread.record(sighting.last.saturating_sub(sighting.first));
            }
            !closed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_put_together() {
        let (mut one, mut two, mut spread) = (Sightings::default(), Sightings::default(), Spread::default());
        let second = 1_000_000_000;
        for key in 1..=10_000 {
            one.note(key, key * second);
            one.note(key, key * second + 1_000_000);
            two.note(key, key * second + 5_000_000);
        }
        two.note(20_000, 10_001 * second);
        spread.add(&one.take());
        spread.add(&two.take());
        let mut latencies = Latencies::default();
        spread.close(false, 4, &mut latencies);
        let early = latencies.quantiles().expect("some");
        assert!(early.count < 10_000, "the newest are still open");
        spread.close(true, 4, &mut latencies);
        let quantiles = latencies.quantiles().expect("some");
        assert_eq!(quantiles.count, 10_000, "a message of one client has no spread");
        assert!((quantiles.min - 5_000.0).abs() < 10.0 && (quantiles.max - 5_000.0).abs() < 10.0, "{quantiles:?}");
        assert!(one.take().is_empty());
    }
}
