//! Every configuration key: its names, default, meaning, and the field it sets. The file, the
//! environment, the command line, `--help` and `check-config` all read this one table.

use super::value::{self, Expected, Raw, show_float, show_size};
use super::{Config, LogFormat};

/// The longest duration anything may be set to: a day.
pub(super) const DAY: f64 = 86_400.0;
/// The longest time a client may stay silent; what is kept of each until then is bounded by it.
pub(super) const HOUR: f64 = 3_600.0;
/// The largest size anything may be set to.
pub(super) const GIB: u64 = 1 << 30;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Dotted name in the TOML file.
    pub file: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Long flag, without the dashes.
    pub flag: &'static str,
    /// What the flag's help calls its value.
    pub unit: &'static str,
    /// What it means, with what zero means where that is allowed.
    pub help: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
    pub(super) set: fn(&mut Config, Raw<'_>) -> Result<(), Expected>,
    pub(super) to_toml: fn(&Config) -> String,
}

impl Key {
    /// All keys, in the order in which they are shown.
    pub fn all() -> impl Iterator<Item = &'static Self> + Clone {
        GROUPS.iter().copied().flatten()
    }

    /// The key's value in `config`, as TOML.
    pub fn show(&self, config: &Config) -> String {
        (self.to_toml)(config)
    }
}

macro_rules! key {
    ($file:literal, $env:literal, $flag:literal, $unit:literal, $help:literal,
     $($field:ident).+, $read:expr, $show:expr) => {
        $crate::config::Key {
            file: $file,
            env: $env,
            flag: $flag,
            unit: $unit,
            help: $help,
            secret: false,
            set: |config, raw| {
                config.$($field).+ = $read(raw)?;
                Ok(())
            },
            to_toml: |config| $show(&config.$($field).+),
        }
    };
}
pub(super) use key;

pub(super) fn quoted(value: &impl ToString) -> String {
    toml::Value::String(value.to_string()).to_string()
}

pub(super) fn seconds(value: &std::time::Duration) -> String {
    show_float(value.as_secs_f64())
}

pub(super) fn path(path: &Option<std::path::PathBuf>) -> String {
    quoted(&path.as_deref().unwrap_or("".as_ref()).display())
}

pub(super) fn bytes(value: &usize) -> String {
    quoted(&show_size(*value))
}

/// Groups of keys, in the order in which they are shown.
static GROUPS: &[&[Key]] = &[
    GENERAL,
    super::ws::KEYS,
    super::publish::KEYS,
    super::limits::KEYS,
    super::tls::KEYS,
    super::auth::KEYS,
    super::cluster::KEYS,
];

const GENERAL: &[Key] = &[
    key!(
        "listen",
        "TICKCAST_LISTEN",
        "listen",
        "ADDR:PORT",
        "Address and port to listen on; port 0 picks a free one and prints it",
        listen,
        value::address,
        quoted
    ),
    key!(
        "reuse_port",
        "TICKCAST_REUSE_PORT",
        "reuse-port",
        "BOOL",
        "Let several processes listen on the address at once (SO_REUSEPORT), so that one takes over from another",
        reuse_port,
        value::boolean,
        bool::to_string
    ),
    key!(
        "source",
        "TICKCAST_SOURCE",
        "source",
        "KIND[:ARG]",
        "Where updates come from: replay[:FILE], sim, stdin, binance:URL, none",
        source,
        value::parsed,
        quoted
    ),
    key!(
        "source.stale_after",
        "TICKCAST_SOURCE_STALE_AFTER",
        "source-stale-after",
        "DURATION",
        "How long a live feed may bring no message before it is connected to again",
        binance.stale_after,
        |raw| value::seconds(raw, 0.1, DAY),
        seconds
    ),
    key!(
        "source.ca",
        "TICKCAST_SOURCE_CA",
        "source-ca",
        "FILE",
        "PEM file with roots trusted besides the bundled ones when a live feed is wss://; empty = none",
        binance.ca,
        value::path,
        path
    ),
    key!(
        "replay.speed",
        "TICKCAST_REPLAY_SPEED",
        "replay-speed",
        "FACTOR",
        "How much faster than recorded a replay runs; 0 = as fast as possible",
        replay.speed,
        |raw| value::float(raw, 0.0, 1e6),
        |v: &f64| show_float(*v)
    ),
    key!(
        "replay.loop",
        "TICKCAST_REPLAY_LOOP",
        "replay-loop",
        "BOOL",
        "Start a replay over at its end",
        replay.looped,
        value::boolean,
        bool::to_string
    ),
    key!(
        "sim.symbols",
        "TICKCAST_SIM_SYMBOLS",
        "sim-symbols",
        "N",
        "Symbols of the synthetic market",
        sim.symbols,
        |raw| value::integer(raw, 1, 10_000),
        u64::to_string
    ),
    key!(
        "sim.rate",
        "TICKCAST_SIM_RATE",
        "sim-rate",
        "N",
        "Updates per second of the synthetic market",
        sim.rate,
        |raw| value::float(raw, 0.01, 1e6),
        |v: &f64| show_float(*v)
    ),
    key!(
        "sim.seed",
        "TICKCAST_SIM_SEED",
        "sim-seed",
        "N",
        "Seed of the synthetic market; the same seed gives the same stream",
        sim.seed,
        |raw| value::integer(raw, 0, i64::MAX as u64),
        u64::to_string
    ),
    key!(
        "handshake_timeout",
        "TICKCAST_HANDSHAKE_TIMEOUT",
        "handshake-timeout",
        "DURATION",
        "From accept to a complete request, and between two requests of one connection",
        handshake_timeout,
        |raw| value::seconds(raw, 0.001, DAY),
        seconds
    ),
    key!(
        "drain_timeout",
        "TICKCAST_DRAIN_TIMEOUT",
        "drain-timeout",
        "DURATION",
        "At shutdown, how long rings may drain",
        drain_timeout,
        |raw| value::seconds(raw, 0.0, DAY),
        seconds
    ),
    key!(
        "workers",
        "TICKCAST_WORKERS",
        "workers",
        "N",
        "Worker threads, and shards",
        workers,
        |raw| value::integer(raw, 1, 1_024).map(|n| n as usize),
        usize::to_string
    ),
    key!(
        "log",
        "TICKCAST_LOG",
        "log",
        "LEVEL",
        "Log level: off, error, warn, info, debug, trace",
        log,
        |raw| value::word(raw, LEVELS),
        |v: &tracing::level_filters::LevelFilter| quoted(v)
    ),
    key!(
        "log_format",
        "TICKCAST_LOG_FORMAT",
        "log-format",
        "FORMAT",
        "Log format: text or json, on stderr",
        log_format,
        |raw| value::word(raw, FORMATS),
        |v: &LogFormat| quoted(&format!("{v:?}").to_lowercase())
    ),
];

const LEVELS: &[(&str, tracing::level_filters::LevelFilter)] = {
    use tracing::level_filters::LevelFilter as Level;
    &[
        ("off", Level::OFF),
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ]
};

const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
