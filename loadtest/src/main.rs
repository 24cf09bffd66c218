//! A load-test harness for WebSocket fan-out servers.
//!
//! It measures *delivery*: the time from when a message was published, or should have been, to when
//! each client has received it. It shares no code with the server it is bundled with: an observer
//! should not have the faults of what it observes.
//!
//! ```text
//! options ─▶ scenario ─▶ crew ─▶ worker ─▶ connection ─▶ wire (handshake, frames, fields)
//!               │                   └─▶ meter ─▶ stats, spread, sequence
//!               ├─▶ publisher       what is sent, on a fixed schedule
//!               └─▶ report          table, JSON, page, comparison, thresholds
//! ```
//! One coordinator, this thread, asks the workers every second for what they measured and adds it
//! up; no counter is shared. README.md says how to use it, REPORT.md what the JSON means.

mod crew;
mod options;
mod preflight;
mod probe;
mod progress;
mod publisher;
mod report;
mod scenario;
mod sequence;
mod spread;
mod stats;
mod tls;
mod wire;
mod worker;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};

use crate::options::Invocation;
use crate::progress::Progress;
use crate::report::compare::{self, Group};
use crate::report::model::{Host, Report, SCHEMA, Verdict};
use crate::report::{html, table};

/// Exit status: the harness itself failed.
const FAILED: u8 = 1;
/// Bad arguments.
const BAD_ARGUMENTS: u8 = 2;
/// The run is not valid.
const INVALID: u8 = 98;
/// A threshold was crossed.
const CROSSED: u8 = 99;

fn main() -> ExitCode {
    // clap prints its own errors and exits with 2.
    let matches = options::command().get_matches();
    if let Some(("compare", arguments)) = matches.subcommand() {
        let groups = arguments.get_many::<String>("report").into_iter().flatten().map(|text| read_group(text));
        return match groups.collect::<anyhow::Result<Vec<_>>>() {
            Ok(groups) => print(&compare::render(&groups)),
            Err(error) => fail(BAD_ARGUMENTS, &error),
        };
    }
    let invocation = match options::invocation(&matches).and_then(writable) {
        Ok(invocation) => invocation,
        Err(error) => return fail(BAD_ARGUMENTS, &error),
    };
    match perform(&invocation) {
        Ok(status) => ExitCode::from(status),
        Err(error) => fail(FAILED, &error),
    }
}

fn fail(status: u8, error: &anyhow::Error) -> ExitCode {
    // There is nobody to tell if that fails.
    let _ = writeln!(std::io::stderr(), "loadtest: {error:#}");
    ExitCode::from(status)
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error.into()),
    }
}

/// Finds out now, and not when there is something to lose, whether the reports can be written.
fn writable(invocation: Invocation) -> anyhow::Result<Invocation> {
    for path in [&invocation.json, &invocation.html].into_iter().flatten() {
        std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(invocation)
}

/// Makes all runs; returns the exit status.
fn perform(invocation: &Invocation) -> anyhow::Result<u8> {
    let interrupted = catch_signals()?;
    let mut report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: options::shown(std::env::args()),
        host: Host {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: probe::cpu_model(),
            system: probe::system(),
        },
        runs: Vec::new(),
    };
    let several = invocation.plans.len() > 1;
    for plan in &invocation.plans {
        let mut progress = Progress::new(invocation.quiet);
        if several && !invocation.quiet {
            progress.say(&format!("run {} of {}: {}", report.runs.len() + 1, invocation.plans.len(), plan.name));
        }
        let run = scenario::run(plan, progress, &interrupted)?;
        print(&table::render(&run));
        report.runs.push(run);
        write_reports(invocation, &report)?;
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    if several {
        print(&table::summary(&report));
    }
    Ok(status(&report))
}

/// The first Ctrl-C or SIGTERM ends the run with a report, the second at once.
fn catch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal finds the flag down.
        let again = Arc::clone(&interrupted);
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, again)
            .context("cannot catch signals")?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("cannot catch signals")?;
    }
    Ok(interrupted)
}

/// What is known so far, after every run: a later one may fail.
fn write_reports(invocation: &Invocation, report: &Report) -> anyhow::Result<()> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &invocation.json {
        let json = serde_json::to_string_pretty(report).context("cannot write the report as JSON")?;
        write(path, json + "\n")?;
    }
    match &invocation.html {
        Some(path) => write(path, html::render(report)),
        None => Ok(()),
    }
}

fn status(report: &Report) -> u8 {
    let any = |verdict| report.runs.iter().any(|run| run.verdict == verdict);
    match (any(Verdict::Crossed), any(Verdict::Invalid)) {
        (true, _) => CROSSED,
        (false, true) => INVALID,
        (false, false) => 0,
    }
}

/// Reads `[NAME=]FILE[,FILE...]`.
fn read_group(text: &str) -> anyhow::Result<Group> {
    let (name, files) = match text.split_once('=') {
        Some((name, files)) if !name.is_empty() && !name.contains(['/', '.']) => (Some(name), files),
        _ => (None, text),
    };
    let reports = files.split(',').map(|file| read_report(Path::new(file))).collect::<anyhow::Result<Vec<_>>>()?;
    let stem = Path::new(files.split(',').next().unwrap_or_default()).file_stem();
    let name = name.map_or_else(|| stem.unwrap_or_default().to_string_lossy().into_owned(), str::to_owned);
    Ok(Group { name, reports })
}

fn read_report(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Report = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a report that --json has written", path.display()))?;
    if report.schema != SCHEMA {
        bail!("{}: schema {}, this version reads {SCHEMA}", path.display(), report.schema);
    }
    Ok(report)
}
