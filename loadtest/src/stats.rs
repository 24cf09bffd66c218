//! What workers measure between two questions of the coordinator, and what it adds up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::report::model::{Counted, Quantiles, Sequence};
use crate::spread::Sighting;

/// The smallest difference a histogram shows, nanoseconds.
const RESOLUTION: u64 = 64;
/// The longest time a histogram holds, nanoseconds: an hour. What takes longer counts as an hour.
const LONGEST: u64 = 3_600_000_000_000;
/// Kinds of errors kept apart; the rest are counted together.
const MAX_REASONS: usize = 50;

/// A distribution of times, to three digits from 64 ns to an hour. Takes 220 KB from its first value on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Option<Box<Histogram<u64>>>);

impl Latencies {
    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.0.get_or_insert_with(|| {
            let histogram = Histogram::new_with_bounds(RESOLUTION, LONGEST, 3);
            Box::new(histogram.expect("the bounds are constants and in order"))
        })
    }

    /// Adds a time in nanoseconds.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.histogram().saturating_record(nanos);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            self.histogram().add(other.as_ref()).expect("all have the same bounds");
        }
    }

    /// In microseconds; 0 if nothing was recorded.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| histogram.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// In microseconds; nothing if nothing was recorded.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let histogram = self.0.as_ref()?;
        let at = |quantile| self.at(quantile);
        Some(Quantiles {
            count: histogram.len(),
            min: histogram.min() as f64 / 1e3,
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

/// Counts by reason, bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    pub(crate) fn add(&mut self, reason: &str, count: u64) {
        if self.0.len() >= MAX_REASONS && !self.0.contains_key(reason) {
            *self.0.entry("other".to_owned()).or_default() += count;
        } else if let Some(known) = self.0.get_mut(reason) {
            *known += count;
        } else {
            self.0.insert(reason.to_owned(), count);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(reason, count)| self.add(reason, *count));
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Most frequent first.
    pub(crate) fn sorted(&self) -> Vec<Counted> {
        let mut all: Vec<_> =
            self.0.iter().map(|(reason, count)| Counted { reason: reason.clone(), count: *count }).collect();
        all.sort_by_key(|counted| std::cmp::Reverse(counted.count));
        all
    }
}

/// Messages of one kind of clients: those that read freely, or the slow ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) messages: u64,
    pub(crate) binary: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) untimed: u64,
    pub(crate) future: u64,
    pub(crate) retained: u64,
    pub(crate) numbered: u64,
    /// A number that comes late takes back a hole of an earlier interval: this may be below zero.
    pub(crate) holes: i64,
    pub(crate) repeats: u64,
    pub(crate) disorder: u64,
    pub(crate) restarts: u64,
    /// From the time in the message.
    pub(crate) delivery: Latencies,
    /// From when the harness's own publisher sent it.
    pub(crate) uncorrected: Latencies,
    /// How many messages behind the newest.
    pub(crate) staleness: Latencies,
}

impl Received {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        self.binary += other.binary;
        self.payload_bytes += other.payload_bytes;
        self.untimed += other.untimed;
        self.future += other.future;
        self.retained += other.retained;
        self.numbered += other.numbered;
        self.holes = self.holes.saturating_add(other.holes);
        self.repeats += other.repeats;
        self.disorder += other.disorder;
        self.restarts += other.restarts;
        self.delivery.merge(&other.delivery);
        self.uncorrected.merge(&other.uncorrected);
        self.staleness.merge(&other.staleness);
    }

    /// Holes that stayed.
    pub(crate) fn holes(&self) -> u64 {
        u64::try_from(self.holes).unwrap_or(0)
    }

    pub(crate) fn sequence(&self) -> Option<Sequence> {
        (self.numbered > 0).then(|| Sequence {
            numbered: self.numbered,
            holes: self.holes(),
            repeats: self.repeats,
            disorder: self.disorder,
            restarts: self.restarts,
            ..Sequence::default()
        })
    }
}

/// What a worker measured since it was last asked, or a sum of that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interval {
    /// Of the clients that read freely.
    pub(crate) free: Received,
    /// Of the slow ones.
    pub(crate) slow: Received,
    pub(crate) wire_bytes: u64,
    pub(crate) pings: u64,
    pub(crate) opened: u64,
    /// Clients that left because they were told to, and that were back with data.
    pub(crate) left: u64,
    pub(crate) returned: u64,
    /// Messages received once, and holes, of the clients that are still there.
    pub(crate) accounted: i64,
    pub(crate) connect_errors: Reasons,
    pub(crate) disconnects: Reasons,
    pub(crate) slow_disconnects: u64,
    /// From connect to the end of the handshake.
    pub(crate) connect: Latencies,
    /// From leaving (a storm) or connecting (anything else) to the first message.
    pub(crate) first_message: Latencies,
    /// From the return of the poll to the end of a read.
    pub(crate) own_delay: Latencies,
    /// Longest time without a message, and when the last one came, nanoseconds since the epoch.
    pub(crate) silence: u64,
    pub(crate) last_message: u64,
    /// The messages seen; empty in a sum.
    pub(crate) sightings: Vec<Sighting>,
}

impl Interval {
    /// Adds another, but for its sightings.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.free.merge(&other.free);
        self.slow.merge(&other.slow);
        self.wire_bytes += other.wire_bytes;
        self.pings += other.pings;
        self.merge_connections(other);
        self.left += other.left;
        self.returned += other.returned;
        self.accounted = self.accounted.saturating_add(other.accounted);
        self.slow_disconnects += other.slow_disconnects;
        self.first_message.merge(&other.first_message);
        self.own_delay.merge(&other.own_delay);
        self.silence = self.silence.max(other.silence);
        self.last_message = self.last_message.max(other.last_message);
    }

    /// Adds what another says of connections, and nothing else.
    pub(crate) fn merge_connections(&mut self, other: &Self) {
        self.opened += other.opened;
        self.connect_errors.merge(&other.connect_errors);
        self.disconnects.merge(&other.disconnects);
        self.connect.merge(&other.connect);
    }

    pub(crate) fn messages(&self) -> u64 {
        self.free.messages + self.slow.messages
    }

    pub(crate) fn payload_bytes(&self) -> u64 {
        self.free.payload_bytes + self.slow.payload_bytes
    }

    /// All clients together.
    pub(crate) fn all(&self) -> Received {
        let mut all = self.free.clone();
        all.merge(&self.slow);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut latencies = Latencies::default();
        assert!(latencies.quantiles().is_none());
        (1..=100_000).for_each(|us| latencies.record(us * 1_000));
        let quantiles = latencies.quantiles().expect("some");
        for (found, exact) in [(quantiles.p50, 50e3), (quantiles.p99, 99e3), (quantiles.p99_99, 99_990.0)] {
            assert!((found - exact).abs() <= exact * 0.001, "{found} for {exact}");
        }
        latencies.record(u64::MAX);
        assert!(latencies.quantiles().expect("some").max >= 3.59e9, "an hour at most, none lost");
    }

    #[test]
    fn reasons_are_bounded_and_sorted() {
        let mut reasons = Reasons::default();
        (0..200).for_each(|n| reasons.add(&format!("reason {n}"), 1));
        reasons.add("reason 3", 9);
        assert_eq!(reasons.total(), 209);
        assert_eq!(reasons.sorted()[0], Counted { reason: "other".to_owned(), count: 150 });
        assert_eq!(reasons.sorted()[1], Counted { reason: "reason 3".to_owned(), count: 10 });
    }
}
