//! The cadence: one task applies what the feed brings and publishes snapshots of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::outlet::Outlet;
use super::recency::Recency;
use super::snapshot::SnapshotWriter;
use super::state::MarketState;
use crate::fanout::{Channel, Hub};
use crate::source::{Decoder, Feed, Lines, Next, Rejections};

/// Applies updates and publishes snapshots.
///
/// * Every `interval` while somebody listens; with an interval of zero as soon as something changed
///   and the writers have sent what was published before.
/// * The first as soon as there is something to say, listener or not.
/// * Nothing is serialised while nobody listens; who joins then gets the last message and, if the
///   market has moved since, a fresh snapshot right behind it.
#[derive(Debug)]
pub struct Publisher<O = Channel> {
    hub: Hub,
    outlet: O,
    interval: Duration,
    state: MarketState,
    recency: Recency,
    writer: SnapshotWriter,
    decoder: Decoder,
    rejections: Rejections,
    /// Something changed since the last snapshot.
    changed: bool,
    has_published: bool,
    last_ts: u64,
}

impl<O: Outlet> Publisher<O> {
    /// A publisher of snapshots to `outlet` every `interval`; what it counts stands in `hub`.
    pub fn new(hub: &Hub, outlet: O, interval: Duration) -> Self {
        Self {
            hub: hub.clone(),
            outlet,
            interval,
            state: MarketState::default(),
            recency: Recency::default(),
            writer: SnapshotWriter::default(),
            decoder: Decoder::default(),
            rejections: Rejections::new(Arc::clone(hub.metrics())),
            changed: false,
            has_published: false,
            last_ts: 0,
        }
    }

    /// Runs until dropped. After the end of the feed the last state goes on being served.
    pub async fn run(mut self, mut feed: Feed) {
        let mut lines = Lines::default();
        let mut ticks = (!self.interval.is_zero()).then(|| {
            let mut ticks = tokio::time::interval_at(Instant::now() + self.interval, self.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        let mut ended = false;
        loop {
            tokio::select! {
                biased;
                () = tick(&mut ticks) => {
                    if self.has_published {
                        self.publish_or_rest().await;
                    }
                }
                () = self.outlet.wanted() => {
                    if self.changed {
                        self.publish().await;
                    }
                }
                next = feed.next(&mut lines, &mut self.rejections), if !ended => {
                    match next {
                        Next::Lines => self.apply(&mut lines).await,
                        Next::Restarted => self.state.begin_session(),
                        Next::Ended => {
                            ended = true;
                            tracing::info!("the source has ended; its last state goes on being served");
                        }
                    }
                    // A feed that never has to wait must not keep the thread.
                    tokio::task::consume_budget().await;
                }
            }
        }
    }

    async fn apply(&mut self, lines: &mut Lines) {
        self.hub.metrics().source.heard();
        // Only a live feed says things twice; what was recorded is played as it was.
        let (live, now) = (lines.connection(), std::time::Instant::now());
        for line in lines.iter_mut() {
            let rejected = match self.decoder.decode(line) {
                Ok(update) if live.is_some_and(|connection| !self.recency.is_news(&update, connection, now)) => {
                    self.hub.metrics().source_errors.add("old");
                    continue;
                }
                Ok(update) => match self.state.apply(&update) {
                    Ok(()) => {
                        self.hub.metrics().source_messages.add(update.change.kind());
                        self.changed = true;
                        continue;
                    }
                    Err(error) => ("symbols", error.to_string()),
                },
                Err(reject) => (reject.reason(), reject.to_string()),
            };
            self.rejections.count(rejected.0, &rejected.1);
        }
        if !self.changed {
            return;
        }
        if self.interval.is_zero() {
            self.outlet.offered().await;
        }
        if !self.has_published {
            self.publish().await;
        } else if self.interval.is_zero() || !self.outlet.has_listeners() {
            self.publish_or_rest().await;
        }
    }

    /// Publishes if somebody listens; else has whoever comes ask for it.
    async fn publish_or_rest(&mut self) {
        if !self.outlet.has_listeners() && self.changed {
            self.outlet.set_stale(true);
        }
        // Looked at again: who came before the mark has not seen it.
        if self.outlet.has_listeners() {
            self.publish().await;
        }
    }

    async fn publish(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The clock may be set back; a client that orders by `ts` should not notice.
        self.last_ts = self.last_ts.max(now.as_micros() as u64);
        let message = self.writer.write(&self.state, self.last_ts);
        self.changed = false;
        self.outlet.set_stale(false);
        while self.outlet.publish(message.clone()).is_err() {
            tokio::task::yield_now().await;
        }
        self.has_published = true;
        self.hub.metrics().snapshots.add(1);
    }
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}
