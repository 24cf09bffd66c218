//! Configuration: defaults, then a TOML file, then the environment, then the command line.
//! [`Key::all`] names every key; [`Config::load`] puts the layers together and rejects what it does not
//! understand, saying where it stood and what would have been right.

mod auth;
mod cluster;
mod keys;
mod limits;
mod load;
mod publish;
mod secret;
mod tls;
mod value;
mod ws;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

pub use auth::{AuthConfig, Publishing};
pub use cluster::{ClusterConfig, NatsUrl, Role};
pub use keys::Key;
pub use limits::LimitsConfig;
pub use load::{ConfigError, Layers, Origin};
pub use publish::PublishConfig;
pub use secret::Secret;
pub use tls::TlsConfig;
pub use ws::WsConfig;

use crate::fanout::HubConfig;
use crate::source::SourceKind;

/// Everything that can be set. [`Config::default`] is what an empty configuration means.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Whether other processes of this user may listen on the same address at the same time, so that
    /// one can take over from another.
    pub reuse_port: bool,
    /// Where updates come from.
    pub source: SourceKind,
    /// The `replay` source.
    pub replay: ReplayConfig,
    /// The `sim` source.
    pub sim: SimConfig,
    /// The `binance` source.
    pub binance: BinanceConfig,
    /// Everything about WebSocket clients.
    pub ws: WsConfig,
    /// Everything about publishing over HTTP.
    pub publish: PublishConfig,
    /// How much of the server anybody may have.
    pub limits: LimitsConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// Encryption.
    pub tls: TlsConfig,
    /// Other machines.
    pub cluster: ClusterConfig,
    /// From accept to a complete request head, and between two requests of one connection. Bounds
    /// how long a peer that says nothing holds a descriptor.
    pub handshake_timeout: Duration,
    /// At shutdown, how long clients get to read what their rings hold.
    pub drain_timeout: Duration,
    /// Worker threads of the runtime, and shards of the hub.
    pub workers: usize,
    /// What is logged.
    pub log: LevelFilter,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// How a capture is replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayConfig {
    /// Recorded time passes this many times faster; 0 does not wait at all.
    pub speed: f64,
    /// Whether the capture starts over at its end.
    pub looped: bool,
}

/// The synthetic market.
#[derive(Clone, Debug, PartialEq)]
pub struct SimConfig {
    /// How many symbols.
    pub symbols: u64,
    /// Updates per second, all symbols together.
    pub rate: f64,
    /// The same seed gives the same stream of messages.
    pub seed: u64,
}

/// A live feed.
#[derive(Clone, Debug, PartialEq)]
pub struct BinanceConfig {
    /// A feed without a message for this long is broken: it is connected to again, and the server is not ready.
    pub stale_after: Duration,
    /// PEM file with roots that are trusted besides the bundled ones.
    pub ca: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            reuse_port: false,
            source: SourceKind::Replay(None),
            replay: ReplayConfig { speed: 1.0, looped: true },
            sim: SimConfig { symbols: 30, rate: 1_000.0, seed: 1 },
            binance: BinanceConfig { stale_after: Duration::from_secs(10), ca: None },
            ws: WsConfig::default(),
            publish: PublishConfig::default(),
            limits: LimitsConfig::default(),
            auth: AuthConfig::default(),
            tls: TlsConfig::default(),
            cluster: ClusterConfig::default(),
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(5),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            log: LevelFilter::INFO,
            log_format: LogFormat::Text,
        }
    }
}

impl Config {
    /// How a hub for this configuration is laid out.
    pub fn hub(&self) -> HubConfig {
        HubConfig { queue_size: self.ws.queue_size, max_channels: self.publish.max_channels, ..HubConfig::default() }
    }

    /// Where what clients get comes from, in a word or two.
    pub fn source_name(&self) -> String {
        if self.cluster.is_edge() { "cluster".to_owned() } else { self.source.to_string() }
    }

    /// The whole configuration as TOML, every key spelled out.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        let places = Key::all().map(|key| (load::place(key.file), key));
        let (plain, nested): (Vec<_>, Vec<_>) = places.partition(|(place, _)| !place.contains('.'));
        for (place, key) in plain.into_iter().chain(nested) {
            let (prefix, name) = place.split_once('.').unwrap_or(("", place));
            if prefix != table {
                table = prefix;
                out.push_str(&format!("\n[{table}]\n"));
            }
            out.push_str(&format!("{name} = {}\n", key.show(self)));
        }
        out
    }
}
