//! The figures that have a name: what `--fail-if` judges and `compare` sets side by side.

use Needs::{Nothing, Number, Publisher, PublisherOrNumber, Ramp, ServerPid, Storm, Time, TimeOrNumber};

use super::format;
use super::model::{Quantiles, Run};

/// What a figure is, and so how it is written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Microseconds.
    Time,
    /// A whole number.
    Count,
    /// A fraction of 1, written in percent.
    Share,
    /// Bytes.
    Size,
    /// Bytes a second.
    Bandwidth,
    /// Something a second.
    Rate,
}

/// What it takes to measure a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Time,
    Number,
    TimeOrNumber,
    PublisherOrNumber,
    Publisher,
    ServerPid,
    Ramp,
    Storm,
}

impl Needs {
    /// Completes "needs …".
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Nothing => "a connection",
            Self::Time => "a time in the messages, see --ts-field",
            Self::Number => "a sequence number in the messages, see --seq-field",
            Self::TimeOrNumber => "a time or a sequence number in the messages",
            Self::PublisherOrNumber => "--publish-url, or a sequence number in the messages",
            Self::Publisher => "--publish-url",
            Self::ServerPid => "--server-pid",
            Self::Ramp => "--scenario ramp",
            Self::Storm => "--scenario storm",
        }
    }
}

/// A named figure of a run.
pub(crate) struct Metric {
    /// Its name in `--fail-if`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether less of it is better.
    pub(crate) lower_is_better: bool,
    /// What it is.
    pub(crate) help: &'static str,
    pub(crate) needs: Needs,
    /// The figure, if it was measured.
    pub(crate) value: fn(&Run) -> Option<f64>,
}

impl Metric {
    /// The metric of that name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// `value` as a reader likes it.
    pub(crate) fn show(&self, value: f64) -> String {
        match self.kind {
            Kind::Time => format::time_us(value),
            Kind::Count => format::count(value as u64),
            Kind::Share => format::share(value),
            Kind::Size => format::size(value),
            Kind::Bandwidth => format::bandwidth(value),
            Kind::Rate => format::rate(value),
        }
    }
}

/// All of them, in the order in which they are shown.
pub(crate) static METRICS: &[Metric] = &[
    time("p50", "delivery latency, median", Time, |run| delivery(run, |q| q.p50)),
    time("p90", "delivery latency", Time, |run| delivery(run, |q| q.p90)),
    time("p99", "delivery latency", Time, |run| delivery(run, |q| q.p99)),
    time("p99.9", "delivery latency", Time, |run| delivery(run, |q| q.p99_9)),
    time("p99.99", "delivery latency", Time, |run| delivery(run, |q| q.p99_99)),
    time("max", "delivery latency, longest", Time, |run| delivery(run, |q| q.max)),
    time("mean", "delivery latency, mean", Time, |run| delivery(run, |q| q.mean)),
    time("uncorrected_p50", "from the real time of publishing", Publisher, |run| uncorrected(run, |q| q.p50)),
    time("uncorrected_p99", "from the real time of publishing", Publisher, |run| uncorrected(run, |q| q.p99)),
    time("spread_p50", "first to last client of a message", TimeOrNumber, |run| run.spread_us.map(|q| q.p50)),
    time("spread_p99", "first to last client of a message", TimeOrNumber, |run| run.spread_us.map(|q| q.p99)),
    time("spread_max", "first to last client of a message", TimeOrNumber, |run| run.spread_us.map(|q| q.max)),
    time("connect_p50", "connect and handshake", Nothing, |run| run.connections.connect_us.map(|q| q.p50)),
    time("connect_p99", "connect and handshake", Nothing, |run| run.connections.connect_us.map(|q| q.p99)),
    time("connect_max", "connect and handshake", Nothing, |run| run.connections.connect_us.map(|q| q.max)),
    time("longest_silence", "no client received anything", Nothing, |run| Some(run.traffic.longest_silence_us)),
    count("holes", "numbers that never came", Number, |run| run.sequence.map(|s| s.holes as f64)),
    count("repeats", "numbers that came again", Number, |run| run.sequence.map(|s| s.repeats as f64)),
    count("disorder", "numbers that came late", Number, |run| run.sequence.map(|s| s.disorder as f64)),
    count("silent", "clients that received no number", Number, |run| run.sequence.map(|s| s.silent_clients as f64)),
    count("behind", "messages the last client is behind", Number, |run| run.sequence.map(|s| s.behind as f64)),
    count("untimed", "messages without a time", Nothing, |run| Some(run.traffic.untimed as f64)),
    count("connect_errors", "attempts that failed", Nothing, |run| Some(run.connections.connect_errors as f64)),
    count("disconnects", "connections lost", Nothing, |run| Some(run.connections.disconnects as f64)),
    count("publish_errors", "messages the server refused", Publisher, |run| {
        run.publisher.as_ref().map(|publisher| publisher.publish_errors as f64)
    }),
    metric("delivered", Kind::Share, false, "share of the deliveries expected", PublisherOrNumber, |run| {
        run.traffic.delivered
    }),
    metric("connected", Kind::Count, false, "open when the measurement began", Nothing, |run| {
        Some(run.connections.open_at_start as f64)
    }),
    metric("messages", Kind::Count, false, "messages received", Nothing, |run| Some(run.traffic.messages as f64)),
    metric("messages_per_second", Kind::Rate, false, "messages received a second", Nothing, |run| {
        Some(run.traffic.messages_per_second)
    }),
    metric("bytes_per_second", Kind::Bandwidth, false, "payload received a second", Nothing, |run| {
        Some(run.traffic.payload_bytes_per_second)
    }),
    time("publish_p99", "the server's answer to a publication", Publisher, |run| {
        run.publisher.as_ref()?.answer_us.map(|q| q.p99)
    }),
    metric("knee", Kind::Rate, false, "highest rate that held, published a second", Ramp, |run| {
        let tried = !run.outcome.steps.is_empty();
        run.outcome.knee.as_ref().map(|knee| knee.rate).or(tried.then_some(0.0))
    }),
    time("storm_recovery", "slowest storm, until all had data", Storm, |run| {
        let all = run.outcome.storms.iter().map(|storm| storm.all_seconds.unwrap_or(f64::INFINITY) * 1e6);
        all.reduce(f64::max)
    }),
    time("server_cpu", "server CPU for a message received", ServerPid, |run| {
        run.server.as_ref().and_then(|server| server.cpu_us_per_message)
    }),
    metric("server_rss", Kind::Size, true, "server memory, most of it", ServerPid, |run| {
        run.server.as_ref().map(|server| server.rss_max_bytes as f64)
    }),
    metric("server_connection", Kind::Size, true, "server memory for a connection", ServerPid, |run| {
        run.server.as_ref().and_then(|server| server.bytes_per_connection)
    }),
    metric("harness_worker", Kind::Share, true, "busiest worker of the harness", Nothing, |run| {
        Some(run.harness.busiest_worker)
    }),
];

const fn metric(
    name: &'static str,
    kind: Kind,
    lower_is_better: bool,
    help: &'static str,
    needs: Needs,
    value: fn(&Run) -> Option<f64>,
) -> Metric {
    Metric { name, kind, lower_is_better, help, needs, value }
}

const fn time(name: &'static str, help: &'static str, needs: Needs, value: fn(&Run) -> Option<f64>) -> Metric {
    metric(name, Kind::Time, true, help, needs, value)
}

const fn count(name: &'static str, help: &'static str, needs: Needs, value: fn(&Run) -> Option<f64>) -> Metric {
    metric(name, Kind::Count, true, help, needs, value)
}

fn delivery(run: &Run, of: fn(&Quantiles) -> f64) -> Option<f64> {
    run.latency.as_ref().map(|latency| of(&latency.delivery_us))
}

fn uncorrected(run: &Run, of: fn(&Quantiles) -> f64) -> Option<f64> {
    run.latency.as_ref()?.uncorrected_us.as_ref().map(of)
}
