//! What the scenarios add to a report.

use serde::{Deserialize, Serialize};

use super::Quantiles;

/// What a scenario adds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// `ramp`: every rate that was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<Step>,
    /// `ramp`: the highest rate that held, messages published a second; `null` if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) knee: Option<Knee>,
    /// `churn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) churn: Option<Churn>,
    /// `storm`: each storm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) storms: Vec<Storm>,
    /// `slow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slow: Option<Slow>,
    /// `soak`: stretch by stretch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) soak: Vec<Stretch>,
}

/// One rate of a `ramp`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Messages published a second, asked for.
    pub(crate) rate: f64,
    /// Deliveries a second.
    pub(crate) messages_per_second: f64,
    /// Share of the expected deliveries.
    pub(crate) delivered: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// CPU of the server as a share of a core.
    pub(crate) server_cores: Option<f64>,
    /// CPU of the busiest worker of the harness.
    pub(crate) busiest_worker: f64,
    /// Whether it held; else `why`.
    pub(crate) held: bool,
    /// Why it did not.
    pub(crate) why: Option<String>,
}

/// Where a `ramp` ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Knee {
    /// The highest rate that held, published messages a second.
    pub(crate) rate: f64,
    /// Its deliveries a second.
    pub(crate) messages_per_second: f64,
    /// Its p99.
    pub(crate) p99_us: f64,
    /// What ended the search.
    pub(crate) limit: String,
    /// Whether the server was the limit; otherwise the knee is at least this.
    pub(crate) by_server: bool,
}

/// `churn`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Churn {
    /// Clients that left.
    pub(crate) left: u64,
    /// Clients that were back with data.
    pub(crate) returned: u64,
    /// From connect to the end of the handshake, of those that returned.
    pub(crate) connect_us: Option<Quantiles>,
    /// From connect to the first message.
    pub(crate) first_message_us: Option<Quantiles>,
}

/// One storm: everybody drops at once and comes back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// When, in seconds of the measurement.
    pub(crate) at: f64,
    /// Clients that dropped.
    pub(crate) dropped: u64,
    /// Clients that had data again.
    pub(crate) recovered: u64,
    /// Until half of them had, seconds.
    pub(crate) half_seconds: Option<f64>,
    /// Until all had; `null` if that did not happen.
    pub(crate) all_seconds: Option<f64>,
    /// From dropping to the first message of a client.
    pub(crate) first_message_us: Option<Quantiles>,
}

/// `slow`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slow {
    /// Clients that read slowly.
    pub(crate) clients: u64,
    /// Bytes a second each may read; 0 = none.
    pub(crate) bytes_per_second: u64,
    /// How many messages behind the newest, at each message they received, while slow.
    pub(crate) staleness_messages: Option<Quantiles>,
    /// Their delivery latency while slow.
    pub(crate) delivery_us: Option<Quantiles>,
    /// Messages they received while slow, and when they read freely again.
    pub(crate) messages: u64,
    /// Messages they lost.
    pub(crate) holes: Option<u64>,
    /// How many of them the server disconnected.
    pub(crate) disconnects: u64,
    /// The others, while everybody read freely.
    pub(crate) others_before_us: Option<Quantiles>,
    /// The others, while some were slow.
    pub(crate) others_during_us: Option<Quantiles>,
    /// Messages the others lost while some were slow.
    pub(crate) others_holes: Option<u64>,
}

/// A stretch of a `soak`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stretch {
    /// Its end, seconds of the measurement.
    pub(crate) until: f64,
    pub(crate) connected: u64,
    pub(crate) messages: u64,
    pub(crate) holes: u64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) max_us: Option<f64>,
    pub(crate) server_rss_bytes: Option<u64>,
    pub(crate) server_cores: Option<f64>,
}
