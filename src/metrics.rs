//! Everything that is counted, and nothing that computes. Counters are relaxed atomics: each is
//! exact, two read one after the other may be a moment apart. What a writer task counts stands in
//! cache lines of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::source::Health;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts `n` more where nobody else counts at the same time: a store, not an exchange.
    #[inline]
    pub(crate) fn add_alone(&self, n: u64) {
        self.0.store(self.get() + n, Ordering::Relaxed);
    }

    /// How many so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A count that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more; returns how many with it.
    pub fn up(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// One fewer.
    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Exponent of the first bucket: 2^10 ns is 1.024 µs.
const FIRST_BUCKET: u32 = 10;
/// Buckets with a bound, the last 2^34 ns or 17 s; slower ones only count in the total.
const BUCKETS: usize = 25;

/// Durations in buckets whose bounds are powers of two of a nanosecond.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    beyond: Counter,
    nanos: Counter,
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn observe(&self, duration: Duration) {
        let nanos = duration.as_nanos() as u64;
        self.bucket(nanos).add(1);
        self.nanos.add(nanos);
    }

    /// The same where nobody else counts at the same time.
    #[inline]
    pub(crate) fn observe_alone(&self, duration: Duration) {
        let nanos = duration.as_nanos() as u64;
        self.bucket(nanos).add_alone(1);
        self.nanos.add_alone(nanos);
    }

    #[inline]
    fn bucket(&self, nanos: u64) -> &Counter {
        let exponent = u64::BITS - nanos.saturating_sub(1).leading_zeros();
        let bucket = exponent.saturating_sub(FIRST_BUCKET) as usize;
        self.buckets.get(bucket).unwrap_or(&self.beyond)
    }

    /// Adds what `self` has counted to `sum`.
    pub fn add_to(&self, sum: &mut HistogramSum) {
        for (bucket, counter) in sum.buckets.iter_mut().zip(&self.buckets) {
            *bucket += counter.get();
        }
        sum.beyond += self.beyond.get();
        sum.nanos += self.nanos.get();
    }
}

/// Histograms added up.
#[derive(Clone, Debug, Default)]
pub struct HistogramSum {
    buckets: [u64; BUCKETS],
    beyond: u64,
    nanos: u64,
}

impl HistogramSum {
    /// Upper bound in seconds and cumulative count of every bucket.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        self.buckets.iter().enumerate().map(move |(n, count)| {
            total += count;
            (f64::from(FIRST_BUCKET + n as u32).exp2() / 1e9, total)
        })
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.beyond
    }

    /// Their sum in seconds.
    pub fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }
}

/// What one channel counts. Frames pushed are sent, dropped, discarded or still queued.
#[derive(Debug, Default)]
pub struct ChannelCounters {
    /// Messages published.
    pub published: Counter,
    /// Frames owed to subscribers: one a message and subscriber, and one for each join that found a
    /// last message.
    pub pushed: Counter,
    /// Frames that gave way to newer ones.
    pub dropped: Counter,
    /// Frames thrown away because their subscriber left.
    pub discarded: Counter,
}

/// What the owner of one shard counts; nobody else writes here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardCounters {
    /// Frames handed to the socket to their last byte.
    pub frames_sent: Counter,
    /// Bytes handed to connections, control frames included; with TLS, those before encryption.
    pub bytes_sent: Counter,
    /// From publish to the write that took the frame's last byte.
    pub delivery_seconds: Histogram,
}

/// Counters that differ in one label, whose values are few and fixed by the program.
#[derive(Debug, Default)]
pub struct Labelled(ArcSwap<BTreeMap<&'static str, Arc<Counter>>>);

impl Labelled {
    /// Counts one for `label`.
    pub fn add(&self, label: &'static str) {
        self.counter(label).add(1);
    }

    /// The counter of `label`, made with its first use.
    pub fn counter(&self, label: &'static str) -> Arc<Counter> {
        if let Some(counter) = self.0.load().get(label) {
            return Arc::clone(counter);
        }
        let created = Arc::new(Counter::default());
        self.0.rcu(|counters| {
            let mut counters = BTreeMap::clone(counters);
            counters.entry(label).or_insert_with(|| Arc::clone(&created));
            counters
        });
        Arc::clone(&self.0.load()[label])
    }

    /// All labels with their counts.
    pub fn get(&self) -> BTreeMap<&'static str, u64> {
        self.0.load().iter().map(|(label, counter)| (*label, counter.get())).collect()
    }
}

/// One hub's counters outside its channels.
#[derive(Debug)]
pub struct Metrics {
    /// Since when.
    pub started: Instant,
    /// WebSocket connections accepted.
    pub connections_total: Counter,
    /// Their ends, by reason.
    pub disconnects: Labelled,
    /// Connections of any kind that are open.
    pub open_connections: Gauge,
    /// Those of them that have not made their first request yet.
    pub handshakes: Gauge,
    /// Connections and requests refused, by reason.
    pub refused: Labelled,
    /// TLS handshakes ended, by result.
    pub tls_handshakes: Labelled,
    /// Snapshots of the market published.
    pub snapshots: Counter,
    /// Source messages applied, by kind.
    pub source_messages: Labelled,
    /// Source messages skipped, by reason.
    pub source_errors: Labelled,
    /// How the source does.
    pub source: Health,
    /// How long `publish` took.
    pub publish_seconds: Arc<Histogram>,
    /// What subscriptions inside the process received; they count at the same time.
    pub(crate) embedded: Arc<ShardCounters>,
    shards: ArcSwap<Vec<Arc<ShardCounters>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let embedded = Arc::<ShardCounters>::default();
        Self {
            started: Instant::now(),
            connections_total: Counter::default(),
            disconnects: Labelled::default(),
            open_connections: Gauge::default(),
            handshakes: Gauge::default(),
            refused: Labelled::default(),
            tls_handshakes: Labelled::default(),
            snapshots: Counter::default(),
            source_messages: Labelled::default(),
            source_errors: Labelled::default(),
            source: Health::default(),
            publish_seconds: Arc::default(),
            shards: ArcSwap::from_pointee(vec![Arc::clone(&embedded)]),
            embedded,
        }
    }
}

impl Metrics {
    /// Counters for one more shard. They stay when it goes, so that no total ever shrinks.
    pub(crate) fn add_shard(&self) -> Arc<ShardCounters> {
        let added = Arc::<ShardCounters>::default();
        self.shards.rcu(|shards| {
            let mut shards = Vec::clone(shards);
            shards.push(Arc::clone(&added));
            shards
        });
        added
    }

    /// Frames and bytes sent by all shards.
    pub fn sent(&self) -> (u64, u64) {
        let shards = self.shards.load();
        shards
            .iter()
            .fold((0, 0), |(frames, bytes), shard| (frames + shard.frames_sent.get(), bytes + shard.bytes_sent.get()))
    }

    /// Delivery times of all shards.
    pub fn delivery_seconds(&self) -> HistogramSum {
        let mut sum = HistogramSum::default();
        self.shards.load().iter().for_each(|shard| shard.delivery_seconds.add_to(&mut sum));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_durations_up_to_its_bound() {
        let histogram = Histogram::default();
        for nanos in [0, 1, 1_024, 1_025, 2_048, 2_049, u64::from(u32::MAX) * 8] {
            histogram.observe(Duration::from_nanos(nanos));
        }
        let mut sum = HistogramSum::default();
        histogram.add_to(&mut sum);
        let buckets: Vec<_> = sum.buckets().collect();
        assert_eq!(buckets[0], (1_024e-9, 3));
        assert_eq!(buckets[1], (2_048e-9, 5));
        assert_eq!(buckets[2], (4_096e-9, 6));
        assert_eq!(buckets[BUCKETS - 1].1, 6);
        assert_eq!(sum.count(), 7);
    }

    #[test]
    fn labels_count_apart() {
        let labelled = Labelled::default();
        labelled.add("b");
        labelled.add("a");
        labelled.add("b");
        assert_eq!(labelled.get(), BTreeMap::from([("a", 1), ("b", 2)]));
    }
}
