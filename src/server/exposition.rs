//! `/metrics`: the counters in Prometheus' text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;

use crate::cluster::Status;
use crate::fanout::{Channel, Hub};
use crate::metrics::{HistogramSum, Metrics};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Totals over all channels and shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) published: u64,
    pub(super) pushed: u64,
    pub(super) sent: u64,
    pub(super) dropped: u64,
    pub(super) discarded: u64,
    pub(super) bytes_sent: u64,
}

impl Totals {
    /// What became of frames is read before how many there were, so nothing counts twice.
    pub(super) fn of(hub: &Hub, channels: &[Channel]) -> Self {
        let (sent, bytes_sent) = hub.metrics().sent();
        let sum = |count: fn(&Channel) -> u64| channels.iter().map(count).sum();
        Self {
            sent,
            bytes_sent,
            dropped: sum(|channel| channel.counters().dropped.get()),
            discarded: sum(|channel| channel.counters().discarded.get()),
            pushed: sum(|channel| channel.counters().pushed.get()),
            published: sum(|channel| channel.counters().published.get()),
        }
    }

    /// Frames that wait in a ring or are being written.
    pub(super) fn queued(self) -> u64 {
        self.pushed.saturating_sub(self.sent + self.dropped + self.discarded)
    }
}

/// All metrics; those of a cluster where there is one.
pub(super) fn render(hub: &Hub, cluster: Option<&Arc<Status>>) -> String {
    let metrics = hub.metrics();
    let channels = hub.channels();
    let mut out = String::new();
    render_connections(&mut out, metrics);
    render_channels(&mut out, &channels, Totals::of(hub, &channels));
    render_source(&mut out, metrics);
    let uptime = one(metrics.started.elapsed().as_secs());
    family(&mut out, "tickcast_uptime_seconds", "gauge", "Seconds since the start.", uptime);
    let mut publish = HistogramSum::default();
    metrics.publish_seconds.add_to(&mut publish);
    histogram(&mut out, "tickcast_publish_seconds", "Time a publish call takes.", &publish);
    let delivery = metrics.delivery_seconds();
    histogram(&mut out, "tickcast_delivery_seconds", "From publish to the socket write.", &delivery);
    if let Some(status) = cluster {
        render_cluster(&mut out, status);
    }
    out
}

fn render_connections(out: &mut String, metrics: &Metrics) {
    let accepted = one(metrics.connections_total.get());
    family(out, "tickcast_connections_total", "counter", "WebSocket connections accepted.", accepted);
    let ends = by("reason", metrics.disconnects.get());
    family(out, "tickcast_disconnects_total", "counter", "WebSocket connections ended, by reason.", ends);
    let open = one(metrics.open_connections.get());
    family(out, "tickcast_open_connections", "gauge", "Connections of any kind, WebSocket or not.", open);
    let handshakes = one(metrics.handshakes.get());
    family(out, "tickcast_handshakes", "gauge", "Connections that have not made their first request yet.", handshakes);
    let refused = by("reason", metrics.refused.get());
    family(out, "tickcast_refused_total", "counter", "Connections and requests refused, by reason.", refused);
    let tls = by("result", metrics.tls_handshakes.get());
    family(out, "tickcast_tls_handshakes_total", "counter", "TLS handshakes ended, by result.", tls);
}

fn render_channels(out: &mut String, channels: &[Channel], totals: Totals) {
    let by_channel = |value: fn(&Channel) -> u64| -> Vec<_> {
        channels.iter().map(|channel| (label("channel", channel.name()), value(channel))).collect()
    };
    let subscribers = by_channel(|channel| channel.subscribers() as u64);
    family(out, "tickcast_connections", "gauge", "Subscribers of a channel.", subscribers);
    let published = by_channel(|channel| channel.counters().published.get());
    family(out, "tickcast_messages_published_total", "counter", "Messages published.", published);
    let pushed = by_channel(|channel| channel.counters().pushed.get());
    family(
        out,
        "tickcast_frames_pushed_total",
        "counter",
        "Frames owed to clients; each is sent, dropped, discarded or queued.",
        pushed,
    );
    family(out, "tickcast_frames_sent_total", "counter", "Frames written to sockets whole.", one(totals.sent));
    let dropped = by_channel(|channel| channel.counters().dropped.get());
    family(out, "tickcast_frames_dropped_total", "counter", "Frames that gave way to newer ones.", dropped);
    let discarded = by_channel(|channel| channel.counters().discarded.get());
    family(out, "tickcast_frames_discarded_total", "counter", "Frames left when their client went.", discarded);
    family(out, "tickcast_frames_queued", "gauge", "Frames in rings or being written.", one(totals.queued()));
    family(
        out,
        "tickcast_bytes_sent_total",
        "counter",
        "Bytes written to WebSocket connections, before encryption.",
        one(totals.bytes_sent),
    );
}

fn render_source(out: &mut String, metrics: &Metrics) {
    let messages = by("kind", metrics.source_messages.get());
    family(out, "tickcast_source_messages_total", "counter", "Source messages applied, by kind.", messages);
    let errors = by("reason", metrics.source_errors.get());
    family(out, "tickcast_source_errors_total", "counter", "Source messages skipped, by reason.", errors);
    if let Some(connected) = metrics.source.is_connected() {
        let up = one(u64::from(connected));
        family(out, "tickcast_source_connected", "gauge", "Whether the live feed is connected.", up);
        let again = by("reason", metrics.source.reconnects.get());
        family(
            out,
            "tickcast_source_reconnects_total",
            "counter",
            "Connections to the live feed after the first.",
            again,
        );
    }
    if let Some(age) = metrics.source.age() {
        head(out, "tickcast_source_age_seconds", "gauge", "Seconds since the source's last message.");
        line(out, "tickcast_source_age_seconds", "", age.as_secs_f64());
    }
}

fn render_cluster(out: &mut String, status: &Status) {
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        head(out, name, kind, help);
        line(out, name, "", value);
    };
    let connected = status.is_connected().into();
    one("tickcast_cluster_connected", "gauge", "Whether a NATS server is connected.", connected);
    one("tickcast_cluster_active", "gauge", "Whether this is the active origin.", status.is_active().into());
    one(
        "tickcast_cluster_epoch",
        "gauge",
        "The highest epoch known; each reign of an origin has its own.",
        status.epoch(),
    );
    one("tickcast_cluster_received_total", "counter", "Messages taken from NATS.", status.received.get());
    one("tickcast_cluster_missed_total", "counter", "Messages numbered that never came.", status.missed.get());
    one("tickcast_cluster_sent_total", "counter", "Messages published as the active origin.", status.sent.get());
    let reconnects = status.reconnects.get();
    one("tickcast_cluster_reconnects_total", "counter", "Connections to NATS after the first.", reconnects);
    for (name, help, counts) in [
        ("tickcast_cluster_ignored_total", "Messages of NATS not taken, by reason.", status.ignored.get()),
        ("tickcast_cluster_lost_total", "Messages the active origin could not publish, by reason.", status.lost.get()),
    ] {
        head(out, name, "counter", help);
        for (reason, count) in counts {
            line(out, name, &label("reason", reason), count);
        }
    }
    let mut transit = HistogramSum::default();
    status.transit.add_to(&mut transit);
    histogram(out, "tickcast_cluster_transit_seconds", "From an origin's clock to this node's.", &transit);
}

/// Samples without labels: one.
fn one(value: u64) -> Vec<(String, u64)> {
    vec![(String::new(), value)]
}

/// Samples by one label.
fn by(name: &'static str, counts: BTreeMap<&'static str, u64>) -> Vec<(String, u64)> {
    counts.into_iter().map(|(value, count)| (label(name, value), count)).collect()
}

fn family(out: &mut String, name: &str, kind: &str, help: &str, samples: Vec<(String, u64)>) {
    head(out, name, kind, help);
    for (labels, value) in samples {
        line(out, name, &labels, value);
    }
}

/// One label. Values are channel names and the program's own words: nothing to escape.
fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{value}\"}}")
}

// Writing to a String cannot fail.

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = writeln!(out, "{name}{labels} {value}");
}

fn histogram(out: &mut String, name: &str, help: &str, sum: &HistogramSum) {
    head(out, name, "histogram", help);
    for (bound, count) in sum.buckets() {
        line(out, &format!("{name}_bucket"), &label("le", &bound.to_string()), count);
    }
    line(out, &format!("{name}_bucket"), &label("le", "+Inf"), sum.count());
    line(out, &format!("{name}_sum"), "", sum.seconds());
    line(out, &format!("{name}_count"), "", sum.count());
}
