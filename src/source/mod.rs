//! Sources: where the market's messages come from, as batches of lines of JSON, and their decoding.
//!
//! A [`Feed`] hands over whatever is due and never blocks the runtime: files are read by a thread of
//! their own, and so is standard input, unless it is a pipe; a live feed has tasks of its own. What is not understood is counted
//! by reason, logged at most once a second, and skipped ([`Rejections`]). How the source does is in [`Health`].

mod binance;
mod decode;
mod health;
mod lines;
mod replay;
mod sim;
mod stdin;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use binance::{Binance, StreamUrl, Timing};
pub use decode::{Decoder, Reject};
pub use health::Health;
pub use lines::Lines;
pub use replay::Replay;
pub use sim::Sim;
pub use stdin::{Pipe, Stdin};

use crate::config::Config;
use crate::metrics::Metrics;

/// Which source, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A capture: the bundled one, or a file.
    Replay(Option<PathBuf>),
    /// The synthetic market.
    Sim,
    /// One JSON message a line on standard input.
    Stdin,
    /// A live stream of the exchange.
    Binance(StreamUrl),
    /// Nothing; only what is published over HTTP.
    None,
}

impl FromStr for SourceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, argument) = text.split_once(':').map_or((text, None), |(kind, argument)| (kind, Some(argument)));
        match (kind, argument) {
            ("replay", None) => Ok(Self::Replay(None)),
            ("replay", Some(path)) if !path.is_empty() => Ok(Self::Replay(Some(path.into()))),
            ("sim", None) => Ok(Self::Sim),
            ("stdin", None) => Ok(Self::Stdin),
            ("none", None) => Ok(Self::None),
            ("binance", url) => url.unwrap_or_default().parse().map(Self::Binance),
            _ => Err("one of replay, replay:FILE, sim, stdin, none, binance:URL".to_owned()),
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replay(None) => f.write_str("replay"),
            Self::Replay(Some(path)) => write!(f, "replay:{}", path.display()),
            Self::Sim => f.write_str("sim"),
            Self::Stdin => f.write_str("stdin"),
            Self::Binance(url) => write!(f, "binance:{url}"),
            Self::None => f.write_str("none"),
        }
    }
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open source {source_kind}: {error}")]
pub struct OpenError {
    source_kind: SourceKind,
    error: io::Error,
}

/// What [`Feed::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Lines, at least one.
    Lines,
    /// The feed starts over: a new session.
    Restarted,
    /// Nothing more will come.
    Ended,
}

/// An open source.
#[derive(Debug)]
pub enum Feed {
    /// See [`Replay`].
    Replay(Box<Replay>),
    /// See [`Sim`].
    Sim(Box<Sim>),
    /// See [`Stdin`].
    Stdin(Stdin),
    /// See [`Binance`].
    Binance(Box<Binance>),
}

impl Feed {
    /// Opens the configured source; `None` if that is none. Inside a tokio runtime, standard input is
    /// read by that runtime where it can be.
    ///
    /// # Errors
    /// The capture, or the file of roots, cannot be opened, or no thread can be started.
    pub fn open(config: &Config) -> Result<Option<Self>, OpenError> {
        let feed = match &config.source {
            SourceKind::Replay(path) => {
                Replay::open(path.as_deref(), &config.replay).map(|replay| Some(Self::Replay(Box::new(replay))))
            }
            SourceKind::Sim => Ok(Some(Self::Sim(Box::new(Sim::new(&config.sim))))),
            SourceKind::Stdin => Stdin::open().map(|stdin| Some(Self::Stdin(stdin))),
            SourceKind::Binance(url) => {
                Binance::new(url, &config.binance).map(|binance| Some(Self::Binance(Box::new(binance))))
            }
            SourceKind::None => Ok(None),
        };
        feed.map_err(|error| OpenError { source_kind: config.source.clone(), error })
    }

    /// Whether what the configured source needs is right, as far as that can be told without opening it.
    ///
    /// # Errors
    /// The roots of a live feed cannot be used.
    pub fn check(config: &Config) -> Result<(), OpenError> {
        match config.source {
            SourceKind::Binance(_) => Self::open(config).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Waits for lines and replaces `lines` with them.
    ///
    /// # Cancel safety
    /// Cancel safe: no line is lost.
    pub async fn next(&mut self, lines: &mut Lines, rejections: &mut Rejections) -> Next {
        match self {
            Self::Replay(replay) => replay.next(lines, rejections).await,
            Self::Sim(sim) => sim.next(lines).await,
            Self::Stdin(stdin) => stdin.next(lines, rejections).await,
            Self::Binance(binance) => binance.next(lines, rejections).await,
        }
    }
}

/// Counts what was not understood, and says so now and then.
#[derive(Debug)]
pub struct Rejections {
    metrics: Arc<Metrics>,
    logged: Option<Instant>,
    unsaid: u64,
}

impl Rejections {
    /// At most one log line in this time.
    const LOG_INTERVAL: Duration = Duration::from_secs(1);

    /// Counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, logged: None, unsaid: 0 }
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Counts one message skipped for `reason`.
    pub fn count(&mut self, reason: &'static str, what: &str) {
        self.metrics.source_errors.add(reason);
        self.unsaid += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= Self::LOG_INTERVAL) {
            tracing::warn!(reason, skipped = self.unsaid, "skipped a message of the source: {what}");
            (self.logged, self.unsaid) = (Some(Instant::now()), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_reads_as_it_prints() {
        for text in
            ["replay", "replay:/tmp/a:b.zst", "sim", "stdin", "none", "binance:wss://host:1/stream?streams=a@b/c@d"]
        {
            assert_eq!(text.parse::<SourceKind>().expect("valid").to_string(), text);
        }
        for text in ["", "replay:", "sim:3", "kafka", "none:", "binance", "binance:", "binance:http://host/"] {
            assert!(text.parse::<SourceKind>().is_err(), "{text}");
        }
    }
}
