//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::kind::Kind;
use crate::url::Url;
use crate::value;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) url: Url,
    pub(crate) address: SocketAddr,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) duration: Duration,
    /// Connections a second, instead of each kind's own.
    pub(crate) rate: Option<f64>,
    pub(crate) seed: u64,
    pub(crate) handshake_timeout: Duration,
    pub(crate) flood_limit: u64,
    pub(crate) json: Option<PathBuf>,
    pub(crate) quiet: bool,
}

pub(crate) fn command() -> Command {
    let arg = |name: &'static str, unit: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(unit).help(help)
    };
    let mut kinds = "Kinds:\n".to_owned();
    for (name, _, does) in Kind::ALL {
        kinds.push_str(&format!("  {name:<15} {does}\n"));
    }
    kinds.push_str(
        "\nExit status: 0 nothing forbidden was seen, 1 the server did something forbidden or the tool failed, \
         2 bad arguments.",
    );
    Command::new("hostile")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Attacks a WebSocket server of your own with clients that break the rules. A test tool: it connects to \
             loopback addresses only, unless --anywhere is given",
        )
        .args_override_self(true)
        .arg(arg("url", "URL", "What to attack, ws://HOST:PORT/PATH").required(true))
        .arg(arg("kind", "KIND[,KIND...]", "Kinds that attack at the same time, or all [default: all]"))
        .arg(arg("duration", "TIME", "Until nobody begins anew [default: 10s]"))
        .arg(arg("rate", "N", "Connections a second of each kind [default: each kind's own]"))
        .arg(arg("seed", "N", "Of all that is random [default: 1]"))
        .arg(arg("handshake-timeout", "TIME", "The server's; who is cut off later than 5 s after it is a finding [default: 10s]"))
        .arg(arg(
            "flood-limit",
            "N",
            "Frames a client may send in a second: a flood that lasts 5 s is a finding; 0 = floods may last [default: 0]",
        ))
        .arg(arg("json", "FILE", "Write the table as JSON"))
        .arg(Arg::new("quiet").long("quiet").action(ArgAction::SetTrue).help("No progress, only the table"))
        .arg(
            Arg::new("anywhere")
                .long("anywhere")
                .action(ArgAction::SetTrue)
                .help("Attack an address that is not loopback: a server of your own, on a network of your own"),
        )
        .after_help(kinds)
}

impl Options {
    /// # Errors
    /// What is not understood, and what would be right.
    pub(crate) fn read(matches: &ArgMatches) -> anyhow::Result<Self> {
        let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
        let url = Url::parse(text("url").unwrap_or_default(), "ws");
        let url = url.map_err(|error| anyhow::anyhow!("--url: expected {error}"))?;
        let address = url.resolve().with_context(|| format!("cannot find the host of {url}"))?;
        if !address.ip().is_loopback() && !matches.get_flag("anywhere") {
            bail!("{url} is not on this machine: this is a test tool; --anywhere if the server is yours");
        }
        let json = text("json").map(PathBuf::from);
        if let Some(path) = &json {
            std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Self {
            address,
            url,
            kinds: read_kinds(text("kind").unwrap_or("all"))?,
            duration: read("duration", text("duration").unwrap_or("10s"), value::some_time)?,
            rate: text("rate").map(|text| read("rate", text, |text| value::float(text, 0.1, 1e5))).transpose()?,
            seed: read("seed", text("seed").unwrap_or("1"), |text| value::integer(text, 0, u64::MAX))?,
            handshake_timeout: read("handshake-timeout", text("handshake-timeout").unwrap_or("10s"), value::some_time)?,
            flood_limit: read("flood-limit", text("flood-limit").unwrap_or("0"), |text| {
                value::integer(text, 0, 1_000_000_000)
            })?,
            json,
            quiet: matches.get_flag("quiet"),
        })
    }
}

fn read<T>(name: &str, text: &str, value: impl Fn(&str) -> Result<T, String>) -> anyhow::Result<T> {
    value(text).map_err(|expected| anyhow::anyhow!("--{name} {text:?}: expected {expected}"))
}

fn read_kinds(text: &str) -> anyhow::Result<Vec<Kind>> {
    if text == "all" {
        return Ok(Kind::ALL.iter().map(|(_, kind, _)| *kind).collect());
    }
    let words = Kind::ALL.map(|(name, kind, _)| (name, kind));
    let mut kinds = text.split(',').map(|name| read("kind", name, |name| value::word(name, &words)));
    let mut kinds = kinds.by_ref().collect::<anyhow::Result<Vec<_>>>()?;
    kinds.sort();
    kinds.dedup();
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> anyhow::Result<Options> {
        Options::read(&command().get_matches_from([&["hostile"], arguments].concat()))
    }

    #[test]
    fn only_this_machine_unless_told_otherwise() {
        let said = options(&["--url", "ws://192.0.2.1:80/ws/x"]).expect_err("not loopback").to_string();
        assert!(said.contains("--anywhere"), "{said}");
        assert!(options(&["--url", "ws://192.0.2.1:80/ws/x", "--anywhere"]).is_ok());
        let options = options(&["--url", "ws://[::1]:80/", "--kind", "reset,churn,reset"]).expect("loopback");
        assert_eq!(options.kinds, [Kind::Churn, Kind::Reset]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |arguments: &[&str]| {
            let all = [&["--url", "ws://127.0.0.1:1/"], arguments].concat();
            options(&all).expect_err("wrong").to_string()
        };
        assert!(said(&["--kind", "rude"]).contains("one of half-open, churn"));
        assert!(said(&["--duration", "soon"]).contains("a duration above 0"));
        assert!(said(&["--rate", "0"]).contains("a number from"));
    }
}
