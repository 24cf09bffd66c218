//! A live feed: the exchange's combined stream over WebSocket, connected to again for ever.
//!
//! ```text
//! Supervisor ── opens, replaces ──▶ Connection (one task each, two while one replaces the other)
//!      ▲            events                 │ dial: DNS, TCP, TLS, handshake; then reads, answers Pings
//!      └───────────────────────────────────┤
//!                                          ▼ batches of messages, bounded
//!                                  Binance::next ─▶ the publisher
//! ```
//!
//! * A connection that fails, ends, breaks the protocol or brings no message for `stale_after` is given up;
//!   the next is tried after a random part of a delay that doubles up to a bound ([`Timing`]).
//! * A connection that is about to end, by its age or by the exchange's own word, is replaced first: the old one is left
//!   a moment after the new one has brought its first message. What both bring counts once, see
//!   [`Recency`](crate::market::Recency).
//! * What the publisher does not take is not read from the socket: nothing is dropped, nothing grows.
//!
//! Nothing is asked of the exchange but the URL itself, and nothing is sent but Pong and Close.

mod backoff;
mod connection;
mod dial;
mod supervisor;
mod url;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use dial::Dialer;
use supervisor::Supervisor;
pub use url::StreamUrl;

use super::{Lines, Next, Rejections};
use crate::config::BinanceConfig;

/// Batches that wait for the publisher.
const READ_AHEAD: usize = 4;

/// How long a live feed waits for what. Users set the first; the rest is a parameter for tests.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Timing {
    /// Longest silence.
    pub stale_after: Duration,
    /// Longest time for each step of connecting: DNS, TCP, TLS, the handshake. Also to get a Pong or Close out.
    pub step: Duration,
    /// Ceiling of the first delay before another attempt, and of all.
    pub retry: Duration,
    /// See `retry`.
    pub retry_cap: Duration,
    /// A connection that has delivered for this long was a good one; after it delays begin anew.
    pub steady: Duration,
    /// When a connection is replaced. The exchange ends it after 24 hours.
    pub max_age: Duration,
    /// How long the old connection stays when the new one delivers, for what the new one has just missed.
    pub overlap: Duration,
}

impl Timing {
    /// What is right for the exchange.
    pub fn new(stale_after: Duration) -> Self {
        Self {
            stale_after,
            step: Duration::from_secs(5),
            retry: Duration::from_millis(250),
            // Every 4 s on average: a quarter of the 300 attempts that the exchange allows an address in five minutes.
            retry_cap: Duration::from_secs(8),
            steady: Duration::from_secs(10),
            max_age: Duration::from_secs(23 * 3_600 + 50 * 60),
            overlap: Duration::from_secs(1),
        }
    }
}

/// A live feed. Connects when the first message is asked for.
pub struct Binance {
    dialer: Arc<Dialer>,
    timing: Timing,
    running: Option<Running>,
}

struct Running {
    batches: mpsc::Receiver<Lines>,
    /// Ends with this.
    _supervisor: JoinSet<()>,
}

impl Binance {
    /// A feed from `url`.
    ///
    /// # Errors
    /// The roots that `config` names cannot be used, or no certificate could be for the URL's host.
    pub fn new(url: &StreamUrl, config: &BinanceConfig) -> io::Result<Self> {
        Self::with_timing(url, config, Timing::new(config.stale_after))
    }

    /// The same with other times.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    #[doc(hidden)]
    pub fn with_timing(url: &StreamUrl, config: &BinanceConfig, timing: Timing) -> io::Result<Self> {
        let dialer = Dialer::new(url.clone(), config.ca.as_deref(), timing.step)?;
        Ok(Self { dialer: Arc::new(dialer), timing, running: None })
    }

    /// Waits for messages, for as long as it takes to get a connection that brings any.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    pub(super) async fn next(&mut self, lines: &mut Lines, rejections: &Rejections) -> Next {
        let running = self.running.get_or_insert_with(|| {
            let (sender, batches) = mpsc::channel(READ_AHEAD);
            let metrics = Arc::clone(rejections.metrics());
            let supervisor = Supervisor::new(Arc::clone(&self.dialer), self.timing.clone(), sender, metrics);
            let mut tasks = JoinSet::new();
            tasks.spawn(supervisor.run());
            Running { batches, _supervisor: tasks }
        });
        match running.batches.recv().await {
            Some(batch) => {
                *lines = batch;
                Next::Lines
            }
            None => Next::Ended,
        }
    }
}

impl fmt::Debug for Binance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binance").field("url", self.dialer.url()).field("timing", &self.timing).finish_non_exhaustive()
    }
}
