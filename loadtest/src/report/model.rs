//! The report of a whole invocation: what `--json` writes and every other view is drawn from.
//!
//! Times are microseconds (`_us`) unless a name says otherwise, sizes bytes, shares fractions of 1. A figure
//! that was not measured is `null`, never zero. Fields are added, never renamed or given another
//! meaning, without raising [`SCHEMA`].

mod outcome;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::outcome::{Churn, Knee, Outcome, Slow, Step, Storm, Stretch};

/// Version of the schema.
pub(crate) const SCHEMA: u32 = 1;

/// What `--json` writes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// Version of `loadtest`.
    pub(crate) version: String,
    /// The arguments.
    pub(crate) command: Vec<String>,
    /// Where it ran.
    pub(crate) host: Host,
    /// The runs, in the order in which they were made.
    pub(crate) runs: Vec<Run>,
}

/// The machine of the harness.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Processors this process may use.
    pub(crate) cpus: usize,
    /// Model of the processor, as the system names it.
    pub(crate) cpu: String,
    /// System and release.
    pub(crate) system: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Valid, and every threshold held.
    #[default]
    Held,
    /// A threshold was crossed.
    Crossed,
    /// The figures do not say what they should; see [`Run::invalid`].
    Invalid,
}

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Name in the file of runs, else the scenario's.
    pub(crate) name: String,
    /// Scenario.
    pub(crate) scenario: String,
    /// Every setting by its flag, as text.
    pub(crate) config: BTreeMap<String, String>,
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// Why the figures cannot be trusted or are not what was asked for.
    pub(crate) invalid: Vec<String>,
    /// What a reader of the figures should know.
    pub(crate) warnings: Vec<String>,
    /// What was demanded, and whether it held.
    pub(crate) thresholds: Vec<Threshold>,
    /// Start, milliseconds since the epoch.
    pub(crate) started_ms: u64,
    /// Length of the measurement in seconds, without ramp and warm-up.
    pub(crate) seconds: f64,
    /// Opening, losing and refusing connections, over the whole run.
    pub(crate) connections: Connections,
    /// What was received in the measurement.
    pub(crate) traffic: Traffic,
    /// Holes, repeats and disorder; `null` if no message had a sequence number.
    pub(crate) sequence: Option<Sequence>,
    /// Delivery latency; `null` if no message had a time.
    pub(crate) latency: Option<Latency>,
    /// From the first to the last client that received a message; `null` if messages cannot be told apart.
    pub(crate) spread_us: Option<Quantiles>,
    /// The harness's own publisher.
    pub(crate) publisher: Option<Publisher>,
    /// What the harness cost and whether it kept up.
    pub(crate) harness: Harness,
    /// The process under test, with `--server-pid`.
    pub(crate) server: Option<Server>,
    /// What the scenario is about.
    pub(crate) outcome: Outcome,
    /// Second by second.
    pub(crate) timeline: Vec<Second>,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: f64,
    #[serde(rename = "p99.99")]
    pub(crate) p99_99: f64,
    pub(crate) max: f64,
}

/// Something and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) reason: String,
    pub(crate) count: u64,
}

/// Connections over the whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Connections {
    /// Asked for.
    pub(crate) wanted: u64,
    /// Open when the measurement began.
    pub(crate) open_at_start: u64,
    /// Open when it ended.
    pub(crate) open_at_end: u64,
    /// Handshakes completed, returning clients included.
    pub(crate) opened: u64,
    /// Attempts that did not become a WebSocket.
    pub(crate) connect_errors: u64,
    /// Why.
    pub(crate) connect_error_reasons: Vec<Counted>,
    /// Connections ended by the server or the network, not by the harness.
    pub(crate) disconnects: u64,
    /// Why.
    pub(crate) disconnect_reasons: Vec<Counted>,
    /// From the first attempt to the last handshake of the ramp, seconds.
    pub(crate) ramp_seconds: f64,
    /// From connect to the end of the handshake.
    pub(crate) connect_us: Option<Quantiles>,
}

/// What was received.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// Data messages.
    pub(crate) messages: u64,
    /// Of these, binary ones.
    pub(crate) binary: u64,
    /// Bytes of their payloads.
    pub(crate) payload_bytes: u64,
    /// Bytes read from the sockets, without HTTP.
    pub(crate) wire_bytes: u64,
    /// Messages a second.
    pub(crate) messages_per_second: f64,
    /// Payload bytes a second.
    pub(crate) payload_bytes_per_second: f64,
    /// Messages without a time, if one was looked for.
    pub(crate) untimed: u64,
    /// Messages with a time in the future.
    pub(crate) future: u64,
    /// Connections of which the first message was older than they: kept for newcomers, not late.
    pub(crate) retained: u64,
    /// Pings received.
    pub(crate) pings: u64,
    /// Deliveries there should have been, if that is known: messages published × connections, or messages
    /// received once and holes.
    pub(crate) expected: Option<u64>,
    /// Share of them that arrived, each counted once.
    pub(crate) delivered: Option<f64>,
    /// Longest time in which no client received anything.
    pub(crate) longest_silence_us: f64,
}

/// What sequence numbers tell, connection by connection, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// Messages with a number.
    pub(crate) numbered: u64,
    /// Numbers that were skipped and never came.
    pub(crate) holes: u64,
    /// Numbers that came again.
    pub(crate) repeats: u64,
    /// Numbers that came after a higher one, for the first time.
    pub(crate) disorder: u64,
    /// Numberings that began anew.
    pub(crate) restarts: u64,
    /// Clients open at the end that had received no number.
    pub(crate) silent_clients: u64,
    /// How far the client that is furthest behind was from the highest number at the end; no hole tells of that.
    pub(crate) behind: u64,
}

/// Delivery latency, from the time in the message to its receipt.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// From the time at which the message should have been published, with the harness's own publisher;
    /// otherwise from the time in the message.
    pub(crate) delivery_us: Quantiles,
    /// From the time at which it was really published: hides how long a stalled server kept the publisher
    /// waiting. Only with the harness's own publisher.
    pub(crate) uncorrected_us: Option<Quantiles>,
    /// `[quantile, delivery_us, uncorrected_us or null]`, for the drawing.
    pub(crate) curve: Vec<(f64, f64, Option<f64>)>,
}

/// The harness's own publisher, in the measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Publisher {
    /// Messages that were due.
    pub(crate) scheduled: u64,
    /// Messages the server took.
    pub(crate) published: u64,
    /// Messages it did not take, or had not answered when the run ended.
    pub(crate) publish_errors: u64,
    /// Why.
    pub(crate) error_reasons: Vec<Counted>,
    /// Messages a second asked for.
    pub(crate) rate: f64,
    /// From sending a message to the server's answer.
    pub(crate) answer_us: Option<Quantiles>,
    /// How late a message was sent, because the server had not answered the one before or the harness was late.
    pub(crate) late_us: Option<Quantiles>,
    /// How late the publisher itself woke up when nothing kept it.
    pub(crate) wakeup_us: Option<Quantiles>,
}

/// What the harness cost, in the measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Harness {
    /// Worker threads.
    pub(crate) workers: usize,
    /// CPU seconds of all threads.
    pub(crate) cpu_seconds: f64,
    /// CPU of the busiest worker, as a share of a core.
    pub(crate) busiest_worker: f64,
    /// Seconds in which a worker ran or wanted to run at least 95 % of the time, or waited half of it for
    /// a processor.
    pub(crate) saturated_seconds: u64,
    /// Share of the time in which workers could have run and did not: another process had the core.
    pub(crate) waiting_for_cpu: f64,
    /// From the return of the poll to the end of a read: how long a message waited for its turn.
    pub(crate) own_delay_us: Option<Quantiles>,
    /// Resident memory at the end.
    pub(crate) rss_bytes: u64,
    /// What is held for a connection from the start, and growth while connecting.
    pub(crate) bytes_per_connection: Option<f64>,
}

/// The process under test and its descendants.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Server {
    /// Processes looked at.
    pub(crate) pids: Vec<u32>,
    /// CPU seconds in the measurement.
    pub(crate) cpu_seconds: f64,
    /// Of these in the kernel, if the system tells.
    pub(crate) kernel_seconds: f64,
    /// For each message received.
    pub(crate) cpu_us_per_message: Option<f64>,
    /// Resident memory before the first connection.
    pub(crate) rss_before_bytes: u64,
    /// With everybody connected and before the measurement.
    pub(crate) rss_connected_bytes: u64,
    /// Most of it in the measurement.
    pub(crate) rss_max_bytes: u64,
    /// At its end.
    pub(crate) rss_end_bytes: u64,
    /// Growth while connecting, for each connection.
    pub(crate) bytes_per_connection: Option<f64>,
    /// Open descriptors, most of them.
    pub(crate) descriptors: u64,
    /// Threads, most of them.
    pub(crate) threads: u64,
}

/// A second of the run, ramp and warm-up included.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Its end, seconds since the start of the run.
    pub(crate) t: f64,
    /// How long it really was.
    pub(crate) seconds: f64,
    /// Whether it counts.
    pub(crate) measured: bool,
    pub(crate) connected: u64,
    pub(crate) messages: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) max_us: Option<f64>,
    pub(crate) holes: u64,
    pub(crate) disconnects: u64,
    /// CPU of the busiest worker as a share of a core.
    pub(crate) busiest_worker: f64,
    /// CPU of the server in cores.
    pub(crate) server_cores: Option<f64>,
    pub(crate) server_rss_bytes: Option<u64>,
}

impl Threshold {
    /// What became of it, in a word.
    pub(crate) fn word(&self) -> &'static str {
        match (self.crossed, self.value) {
            (true, _) => "CROSSED",
            (false, Some(_)) => "held",
            (false, None) => "not judged",
        }
    }
}

/// A threshold and what became of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Threshold {
    /// As it was written, `p99>50ms`.
    pub(crate) expression: String,
    /// The figure, in the metric's unit; `null` if it was not measured.
    pub(crate) value: Option<f64>,
    /// As a reader likes it, `12.3 ms`.
    pub(crate) shown: String,
    /// Whether it was crossed.
    pub(crate) crossed: bool,
}
