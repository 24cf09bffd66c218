//! Every option of a run: the command line, the file and `--help` read this one table.

use super::plan::{Plan, Scenario};
use super::value;
use crate::report::threshold::Threshold;
use crate::wire::template::TimeUnit;
use crate::wire::url::Url;

/// One option.
pub(crate) struct Key {
    /// Long flag without the dashes; in a file `_` stands for `-`.
    pub(crate) flag: &'static str,
    /// What the help calls its value; empty = a switch, which needs none.
    pub(crate) unit: &'static str,
    /// Its default as it would be written; empty = none.
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
    /// Whether it may be given several times.
    pub(crate) many: bool,
    /// Sets it; an error completes "expected …".
    pub(crate) set: fn(&mut Plan, &str) -> Result<(), String>,
}

macro_rules! key {
    ($flag:literal, $unit:literal, $default:literal, $help:literal, $($field:ident).+, $read:expr) => {
        Key {
            flag: $flag,
            unit: $unit,
            default: $default,
            help: $help,
            many: false,
            set: |plan, text| {
                plan.$($field).+ = $read(text)?;
                Ok(())
            },
        }
    };
    ($flag:literal, $unit:literal, $help:literal, many $($field:ident).+, $read:expr) => {
        Key {
            flag: $flag,
            unit: $unit,
            default: "",
            help: $help,
            many: true,
            set: |plan, text| {
                plan.$($field).+.push($read(text)?);
                Ok(())
            },
        }
    };
}

/// All of them, in the order of the help.
pub(crate) static KEYS: &[Key] = &[
    key!("url", "URL", "", "What to connect to, ws://HOST:PORT/PATH or wss://…", url, |text: &str| {
        Url::parse(text, "ws").map(Some).map_err(|error| error.to_string())
    }),
    key!(
        "scenario",
        "NAME",
        "steady",
        "steady, ramp, churn, storm, slow or soak; see below",
        scenario,
        |text: &str| { value::word(text, &Scenario::NAMES) }
    ),
    key!("connections", "N", "100", "Clients", connections, |text: &str| {
        value::integer(text, 1, 10_000_000).map(|n| n as usize)
    }),
    key!("ramp", "TIME", "2s", "Over which the clients connect, evenly", ramp, value::duration),
    key!(
        "warmup",
        "TIME",
        "2s",
        "From the last connect to the measurement; 0s without a publisher measures from the first connect on",
        warmup,
        value::duration
    ),
    key!("duration", "TIME", "30s", "Of the measurement", duration, value::some_time),
    key!("settle", "TIME", "10s", "Longest wait at the end for messages still under way", settle, value::duration),
    key!(
        "workers",
        "N",
        "0",
        "Threads that read, each with an epoll of its own; 0 = half of the processors",
        workers,
        |text: &str| { value::integer(text, 0, 1_024).map(|n| n as usize) }
    ),
    key!(
        "connect-timeout",
        "TIME",
        "10s",
        "From connect to the end of the handshake",
        connect_timeout,
        value::some_time
    ),
    key!(
        "ca",
        "FILE",
        "",
        "Trust the authorities in this PEM file instead of those of the system",
        trust.ca,
        |text: &str| {
            let given = !text.trim().is_empty();
            given.then(|| Some(text.into())).ok_or_else(|| "the path of a PEM file".to_owned())
        }
    ),
    key!("insecure", "", "", "Trust any certificate", trust.insecure, |text: &str| {
        value::word(text, &[("true", true), ("false", false)])
    }),
    key!("header", "HEADER", "Added to the handshake, 'Name: value'; may be repeated", many headers, value::header),
    key!(
        "token",
        "TOKEN",
        "",
        "Sent in the handshake as 'Authorization: Bearer TOKEN'; no report shows it",
        token,
        value::token
    ),
    key!(
        "source-address", "IP",
        "Connect from this address; may be repeated. Without it, more connections than there are ports towards a \
         loopback address come from 127.0.0.2, 127.0.0.3, …",
        many source_addresses, |text: &str| text.trim().parse().map_err(|_| "an IP address such as 127.0.0.2".to_owned())
    ),
    key!(
        "ts-field",
        "NAME",
        "ts",
        "Where a message has its time, a.b for {\"a\":{\"b\":…}}; empty = it has none",
        ts_field,
        name
    ),
    key!(
        "ts-unit",
        "UNIT",
        "us",
        "Unit of the time since the epoch: s, ms, us or ns; fractions allowed",
        ts_unit,
        |text: &str| { value::word(text, &TimeUnit::NAMES) }
    ),
    key!("seq-field", "NAME", "seq", "Where a message has its sequence number; empty = it has none", seq_field, name),
    key!(
        "publish-url",
        "URL",
        "",
        "Publish to this http:// or https:// URL with POST, a request a message",
        publish_url,
        |text: &str| { Url::parse(text, "http").map(Some).map_err(|error| error.to_string()) }
    ),
    key!("publish-rate", "N", "10", "Messages a second", publish_rate, |text: &str| value::float(text, 0.001, 1e7)),
    key!("payload", "SIZE", "1KiB", "Of a published message", payload, |text: &str| {
        value::size(text)
            .ok()
            .filter(|size| *size <= 64 << 20)
            .map(|size| size as usize)
            .ok_or_else(|| "a size such as 128, 1KiB, at most 64MiB".to_owned())
    }),
    key!(
        "publish-format",
        "NAME",
        "text",
        "text publishes as application/json, binary as application/octet-stream",
        publish_binary,
        |text: &str| { value::word(text, &[("text", false), ("binary", true)]) }
    ),
    key!("publish-pipeline", "N", "32", "Publications that may be unanswered", publish_pipeline, |text: &str| {
        value::integer(text, 1, 10_000).map(|n| n as usize)
    }),
    key!("publish-header", "HEADER", "Added to publications; may be repeated", many publish_headers, value::header),
    key!("publish-token", "TOKEN", "", "The same for publications", publish_token, value::token),
    key!(
        "server-pid",
        "PID",
        "",
        "Measure this process and its descendants, on this machine",
        server_pid,
        |text: &str| { value::integer(text, 1, u64::from(u32::MAX)).map(|pid| Some(pid as u32)) }
    ),
    key!("step-factor", "N", "1.5", "ramp: each rate over the one before", step_factor, |text: &str| value::float(
        text, 1.01, 100.0
    )),
    key!("step-duration", "TIME", "5s", "ramp: of a rate", step_duration, value::some_time),
    key!("p99-limit", "TIME", "1s", "ramp: a rate holds while its p99 is not over this", p99_limit, value::some_time),
    key!(
        "delivered-limit",
        "SHARE",
        "98%",
        "ramp: a rate holds while at least this much is delivered",
        delivered_limit,
        value::share
    ),
    key!("max-rate", "N", "1000000", "ramp: the last rate that is tried", max_rate, |text: &str| value::float(
        text, 0.001, 1e7
    )),
    key!("churn-share", "SHARE", "10%", "churn: clients that leave and return every second", churn_share, value::share),
    key!("storms", "N", "1", "storm: how often, spread over the duration", storms, |text: &str| {
        value::integer(text, 1, 1_000).map(|n| n as u32)
    }),
    key!(
        "slow-share",
        "SHARE",
        "10%",
        "slow: clients that read slowly in the second half of the duration",
        slow_share,
        value::share
    ),
    key!(
        "slow-rate",
        "SIZE",
        "16KiB",
        "slow: bytes each of them reads a second; 0 = none, until the end",
        slow_rate,
        value::size
    ),
    key!("stretch", "TIME", "1m", "soak: of a row in the report", stretch, value::some_time),
    key!("fail-if", "TEST", "Exit with 99 if this is true, like 'p99>50ms'; may be repeated; see below", many fail_if, Threshold::parse),
];

fn name(text: &str) -> Result<String, String> {
    let good = text.is_empty() || text.split('.').all(|part| !part.is_empty() && part.len() <= 32);
    good.then(|| text.to_owned()).ok_or_else(|| "a name such as ts or data.ts, each part up to 32 bytes".to_owned())
}
