//! `/stats` and `/channels`: the figures people and the page look at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Context;
use super::access::Grant;
use super::exposition::Totals;
use crate::cluster::Status;
use crate::config::Role;
use crate::fanout::Hub;
use crate::source::Health;

/// How often channels are sampled, and how many samples a rate spans.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
const SAMPLES: usize = 10;

/// One channel.
#[derive(Debug, Serialize)]
struct ChannelStats {
    name: String,
    subscribers: usize,
    seq: u64,
    messages_published: u64,
    frames_dropped: u64,
    /// Messages per second over the last ten seconds.
    rate: f64,
}

/// Everything.
#[derive(Debug, Serialize)]
struct Stats {
    version: &'static str,
    uptime_seconds: f64,
    source: String,
    ready: bool,
    /// Why it is not, but for draining.
    trouble: Option<String>,
    draining: bool,
    workers: usize,
    connections: u64,
    connections_total: u64,
    messages_published: u64,
    frames_pushed: u64,
    frames_sent: u64,
    frames_dropped: u64,
    frames_queued: u64,
    frames_discarded: u64,
    bytes_sent: u64,
    disconnects: BTreeMap<&'static str, u64>,
    source_messages: BTreeMap<&'static str, u64>,
    source_errors: BTreeMap<&'static str, u64>,
    cluster: Option<ClusterStats>,
    /// Seconds since the source's last message.
    source_age_seconds: Option<f64>,
    #[serde(flatten)]
    feed: Option<FeedStats>,
    channels: Vec<ChannelStats>,
}

/// The node, in a cluster.
#[derive(Debug, Serialize)]
struct ClusterStats {
    name: String,
    role: Role,
    connected: bool,
    /// Whether this is the active origin.
    active: bool,
    /// The active origin's name, as long as it is heard.
    origin: Option<String>,
    epoch: u64,
    received: u64,
    missed: u64,
    sent: u64,
}

impl ClusterStats {
    fn of(status: &Status) -> Self {
        Self {
            name: status.name().to_owned(),
            role: status.role(),
            connected: status.is_connected(),
            active: status.is_active(),
            origin: status.origin(),
            epoch: status.epoch(),
            received: status.received.get(),
            missed: status.missed.get(),
            sent: status.sent.get(),
        }
    }
}

/// A live feed.
#[derive(Debug, Serialize)]
struct FeedStats {
    source_connected: bool,
    source_reconnects: BTreeMap<&'static str, u64>,
}

impl FeedStats {
    fn of(source: &Health) -> Option<Self> {
        let source_connected = source.is_connected()?;
        Some(Self { source_connected, source_reconnects: source.reconnects.get() })
    }

    fn of_edge(status: &Status) -> Self {
        let source_connected = status.is_connected() && status.origin().is_some();
        Self { source_connected, source_reconnects: BTreeMap::from([("cluster", status.reconnects.get())]) }
    }
}

/// Everything; of channels, those that whoever asks may know of.
pub(super) fn stats(context: &Context, grant: &Grant) -> String {
    let hub = &context.hub;
    let metrics = hub.metrics();
    let totals = Totals::of(hub, &hub.channels());
    let disconnects = metrics.disconnects.get();
    let trouble = context.trouble();
    // What an origin publishes is an edge's source.
    let (age, feed) = match context.cluster.get().filter(|_| context.config.cluster.is_edge()) {
        Some(gateway) => (gateway.status().age(), Some(FeedStats::of_edge(gateway.status()))),
        None => (metrics.source.age(), FeedStats::of(&metrics.source)),
    };
    let connections_total = metrics.connections_total.get();
    to_json(&Stats {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: metrics.started.elapsed().as_secs_f64(),
        source: context.config.source_name(),
        ready: trouble.is_none(),
        trouble,
        draining: context.is_draining(),
        workers: context.config.workers,
        connections: connections_total.saturating_sub(disconnects.values().sum()),
        connections_total,
        messages_published: totals.published,
        frames_pushed: totals.pushed,
        frames_sent: totals.sent,
        frames_dropped: totals.dropped,
        frames_queued: totals.queued(),
        frames_discarded: totals.discarded,
        bytes_sent: totals.bytes_sent,
        disconnects,
        source_messages: metrics.source_messages.get(),
        source_errors: metrics.source_errors.get(),
        cluster: context.cluster.get().map(|gateway| ClusterStats::of(gateway.status())),
        source_age_seconds: age.map(|age| age.as_secs_f64()),
        feed,
        channels: channel_stats(context, grant),
    })
}

pub(super) fn channels(context: &Context, grant: &Grant) -> String {
    #[derive(Serialize)]
    struct Channels {
        channels: Vec<ChannelStats>,
    }
    to_json(&Channels { channels: channel_stats(context, grant) })
}

fn channel_stats(context: &Context, grant: &Grant) -> Vec<ChannelStats> {
    let rates = context.rates.latest.load();
    let channels = context.hub.channels().into_iter().filter(|channel| grant.covers(channel.name()));
    channels
        .map(|channel| ChannelStats {
            name: channel.name().to_owned(),
            subscribers: channel.subscribers(),
            seq: channel.seq(),
            messages_published: channel.counters().published.get(),
            frames_dropped: channel.counters().dropped.get(),
            rate: rates.get(channel.name()).copied().unwrap_or(0.0),
        })
        .collect()
}

fn to_json(value: &impl Serialize) -> String {
    // Plain structs with string keys: nothing in them can fail to serialise.
    let mut json = serde_json::to_string(value).unwrap_or_default();
    json.push('\n');
    json
}

/// Messages per second of every channel, sampled by one task.
#[derive(Debug, Default)]
pub(super) struct Rates {
    latest: ArcSwap<BTreeMap<String, f64>>,
}

impl Rates {
    /// Samples until dropped.
    pub(super) async fn sample(self: Arc<Self>, hub: Hub) {
        let mut samples: BTreeMap<String, VecDeque<(Instant, u64)>> = BTreeMap::new();
        let mut ticks = interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            let mut rates = BTreeMap::new();
            for channel in hub.channels() {
                let samples = samples.entry(channel.name().to_owned()).or_default();
                samples.push_back((now, channel.counters().published.get()));
                if samples.len() > SAMPLES + 1 {
                    samples.pop_front();
                }
                if let (Some((from, before)), Some((to, after))) = (samples.front(), samples.back()) {
                    let seconds = to.duration_since(*from).as_secs_f64();
                    let rate = if seconds > 0.0 { (after - before) as f64 / seconds } else { 0.0 };
                    rates.insert(channel.name().to_owned(), (rate * 100.0).round() / 100.0);
                }
            }
            self.latest.store(Arc::new(rates));
        }
    }
}
