//! How the source does: when it last said something, and whether a live feed is connected.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::metrics::Labelled;

/// The state of the source. One task writes, anybody reads; each value is exact, two of them may be a moment apart.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    heard: Moment,
    connected: Flag,
    /// From when on, and how long, a live feed may be silent; unset for all other sources.
    live: OnceLock<(Duration, Duration)>,
    /// Connections of a live feed after its first, by why they were opened.
    pub reconnects: Labelled,
}

/// A moment that is moved on, in nanoseconds; relaxed, for nothing else is read by its order.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn set(&self, at: Duration) {
        self.0.store((at.as_nanos() as u64).max(1), Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}

/// Yes or no; relaxed, for nothing else is read by its order.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            heard: Moment::default(),
            connected: Flag::default(),
            live: OnceLock::new(),
            reconnects: Labelled::default(),
        }
    }
}

impl Health {
    /// The source is a live feed, which is connected or not, and in trouble when it says nothing for `stale_after`.
    pub fn watch(&self, stale_after: Duration) {
        // A second feed for the same hub would find the first one's; there is none.
        let _ = self.live.set((self.started.elapsed(), stale_after));
    }

    /// The source has just said something.
    pub fn heard(&self) {
        self.heard.set(self.started.elapsed());
    }

    /// The live feed is connected, or not any more.
    pub fn set_connected(&self, connected: bool) {
        self.connected.0.store(connected, Ordering::Relaxed);
    }

    /// Whether a live feed is connected; `None` for all other sources.
    pub fn is_connected(&self) -> Option<bool> {
        self.live.get().map(|_| self.connected.0.load(Ordering::Relaxed))
    }

    /// Since when the source has said nothing; `None` before its first word.
    pub fn age(&self) -> Option<Duration> {
        Some(self.started.elapsed().saturating_sub(self.heard.get()?))
    }

    /// What is wrong with a live feed: it has been silent for too long, connected or not.
    pub fn trouble(&self) -> Option<String> {
        let (since, stale_after) = *self.live.get()?;
        let silent = self.age().unwrap_or_else(|| self.started.elapsed().saturating_sub(since));
        if silent < stale_after {
            return None;
        }
        let state = if self.is_connected() == Some(true) { "connected" } else { "disconnected" };
        Some(format!("the feed has been silent for {:.1} s ({state})", silent.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_feed_has_trouble_and_only_when_it_is_silent() {
        let health = Health::default();
        assert_eq!((health.is_connected(), health.age(), health.trouble()), (None, None, None));
        health.heard();
        assert!(health.age().is_some_and(|age| age < Duration::from_secs(60)));
        assert_eq!(health.trouble(), None);
        let health = Health::default();
        health.watch(Duration::ZERO);
        assert!(health.trouble().is_some_and(|trouble| trouble.contains("silent for 0.0 s (disconnected)")));
        let health = Health::default();
        health.watch(Duration::from_secs(60));
        health.set_connected(true);
        assert_eq!((health.is_connected(), health.trouble()), (Some(true), None));
    }
}
