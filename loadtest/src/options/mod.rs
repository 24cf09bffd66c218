//! From the command line and a file to what is to be done.

mod file;
mod keys;
mod plan;
pub(crate) mod value;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};

use self::keys::{KEYS, Key};
pub(crate) use self::plan::{Invocation, Plan, Scenario};
use crate::report::metric::METRICS;

/// The command line.
pub(crate) fn command() -> Command {
    let keys = KEYS.iter().map(|key| {
        let default = if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
        let action = if key.many { ArgAction::Append } else { ArgAction::Set };
        let arg = Arg::new(key.flag).long(key.flag).help(format!("{}{default}", key.help));
        let arg = match key.unit {
            "" => arg.num_args(0..=1).require_equals(true).default_missing_value("true").hide_possible_values(true),
            unit => arg.value_name(unit),
        };
        arg.action(action).allow_hyphen_values(true)
    });
    let path = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name("FILE").help(help);
    let compare = Command::new("compare").about("Print the ratios of several reports to the first").arg(
        Arg::new("report")
            .value_name("[NAME=]FILE[,FILE...]")
            .help("A JSON report, or several of the same thing, of which the median counts")
            .num_args(1..)
            .required(true),
    );
    Command::new("loadtest")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Loads a WebSocket fan-out server and measures delivery: from publish to receive, for every message")
        .args_conflicts_with_subcommands(true)
        // Of an option given twice the last counts, so that a script's can be changed behind it.
        .args_override_self(true)
        .args(keys)
        .arg(path("file", "A TOML file that describes one run or several; flags go before it"))
        .arg(path("json", "Write the report as JSON"))
        .arg(path("html", "Write the report as a page"))
        .arg(Arg::new("quiet").long("quiet").action(ArgAction::SetTrue).help("No progress, only the report"))
        .subcommand(compare)
        .after_help(after_help())
}

fn after_help() -> String {
    let mut text = "Scenarios:\n  \
        steady  the same load for the whole duration\n  \
        ramp    rates that grow step by step, until too little arrives or too late: finds the knee\n  \
        churn   a share of the clients leaves and returns every second\n  \
        storm   everybody drops and reconnects at once; how long until all have data again\n  \
        slow    a share reads slowly in the second half: how stale they are, and what it does to the others\n  \
        soak    steady for long, in stretches, to see what creeps\n\n\
        Figures for --fail-if, with > >= < <= and a value such as 50ms, 0, 98%, 2KiB:\n"
        .to_owned();
    for metric in METRICS {
        text.push_str(&format!("  {:<20} {}\n", metric.name, metric.help));
    }
    text.push_str(
        "\nExit status: 0 all held, 99 a --fail-if was true, 98 the run is not valid, 2 bad arguments.\n\
         Example: loadtest --url ws://127.0.0.1:8080/ws/bench --publish-url http://127.0.0.1:8080/publish/bench \
         --connections 1000 --publish-rate 100 --fail-if 'p99>50ms'",
    );
    text
}

/// The command line as a report may show it, without tokens.
pub(crate) fn shown(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut flag = String::new();
    arguments
        .map(|argument| {
            let named = argument.strip_prefix("--").unwrap_or_default().to_owned();
            match named.split_once('=') {
                Some((name, text)) => format!("--{name}={}", value::shown(name, text)),
                None => value::shown(&std::mem::replace(&mut flag, named), &argument),
            }
        })
        .collect()
}

/// What the command line and the file ask for.
///
/// # Errors
/// What is not understood, where it stands, and what would be right.
pub(crate) fn invocation(matches: &ArgMatches) -> anyhow::Result<Invocation> {
    let path = |name: &str| matches.get_one::<String>(name).map(PathBuf::from);
    let mut plans = match path("file") {
        Some(file) => file::read(&file)?,
        None => vec![Plan::default()],
    };
    for plan in &mut plans {
        for key in KEYS {
            let texts: Vec<_> =
                matches.get_many::<String>(key.flag).into_iter().flatten().map(String::as_str).collect();
            if let Err((text, expected)) = apply(plan, key, &texts) {
                bail!("--{} {:?}: expected {expected}", key.flag, value::shown(key.flag, text));
            }
        }
        if plan.name.is_empty() {
            plan.name = plan.scenario.name().to_owned();
        }
    }
    let several = plans.len() > 1;
    for plan in &plans {
        let checked = plan.check().map_err(anyhow::Error::msg);
        checked.with_context(|| if several { format!("run {:?}", plan.name) } else { "cannot run this".to_owned() })?;
    }
    Ok(Invocation { plans, json: path("json"), html: path("html"), quiet: matches.get_flag("quiet") })
}

/// Sets an option to what was given, if anything was; what may be repeated replaces what a file said.
fn apply<'a>(plan: &mut Plan, key: &Key, texts: &[&'a str]) -> Result<(), (&'a str, String)> {
    if texts.is_empty() {
        return Ok(());
    }
    if key.many {
        plan.clear(key.flag);
    }
    for text in texts {
        (key.set)(plan, text).map_err(|expected| (*text, expected))?;
    }
    let shown: Vec<_> = texts.iter().map(|text| value::shown(key.flag, text)).collect();
    plan.texts.insert(key.flag.to_owned(), shown.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_shown_without_tokens() {
        let line = "loadtest --token a1 --url ws://h/?token=a2 --publish-token=a3 --url=ws://h/?token=a4 --quiet";
        let line = shown(line.split(' ').map(str::to_owned)).join(" ");
        let expected =
            "loadtest --token *** --url ws://h/?token=*** --publish-token=*** --url=ws://h/?token=*** --quiet";
        assert_eq!(line, expected);
    }
}
