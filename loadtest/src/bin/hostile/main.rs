//! Hostile clients on demand: a test tool that shows what a WebSocket server makes of them.
//!
//! ```text
//! options ─▶ stage (pace) ─▶ attacks (one connection each) ─▶ peer ─▶ wire
//!                                   └─▶ book (what became of them, what was forbidden) ─▶ table, JSON
//! ```
//! One thread. It judges only what is certain: a violation answered with the wrong code, a violator
//! that is still connected after five seconds. loadtest/README.md has how to read the table.

mod attacks;
mod book;
mod kind;
mod options;
mod peer;
mod stage;
#[allow(dead_code, reason = "the load test asks more of a URL")]
#[path = "../../wire/url.rs"]
mod url;
#[allow(dead_code, reason = "the load test reads more kinds of values")]
#[path = "../../options/value.rs"]
mod value;
mod wire;

use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::options::Options;
use crate::stage::Stage;

/// The server did something forbidden, or this program failed.
const FAILED: u8 = 1;
/// Bad arguments.
const BAD_ARGUMENTS: u8 = 2;

fn main() -> ExitCode {
    // clap prints its own errors and exits with 2.
    let options = match Options::read(&options::command().get_matches()) {
        Ok(options) => options,
        Err(error) => return fail(BAD_ARGUMENTS, &error),
    };
    match perform(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => fail(FAILED, &error),
    }
}

fn fail(status: u8, error: &anyhow::Error) -> ExitCode {
    // There is nobody to tell if that fails.
    let _ = writeln!(std::io::stderr(), "hostile: {error:#}");
    ExitCode::from(status)
}

/// Attacks; returns whether nothing forbidden was done.
fn perform(options: &Options) -> anyhow::Result<bool> {
    // A descriptor for each connection.
    rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit on open files")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let stage = Rc::new(Stage::new(options));
    tokio::task::LocalSet::new().block_on(&runtime, attack(&stage, options));
    stage.book.borrow_mut().close();
    let book = stage.book.borrow();
    std::io::stdout().write_all(book.table().as_bytes()).context("cannot write the table")?;
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&book.json(&options.url.to_string(), options.seed))?;
        std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(book.is_clean())
}

/// All kinds at once, each to its end.
async fn attack(stage: &Rc<Stage>, options: &Options) {
    let start = Instant::now();
    let kinds: Vec<_> =
        options.kinds.iter().map(|kind| tokio::task::spawn_local(stage::run(Rc::clone(stage), *kind))).collect();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    while !kinds.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::select! {
            _ = second.tick() => {}
            () = tokio::time::sleep(Duration::from_millis(50)) => continue,
        }
        if !options.quiet {
            let line = stage.book.borrow().progress();
            // Nobody there to read it is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{:>5.0} s  {line}", start.elapsed().as_secs_f64());
        }
    }
    for kind in kinds {
        // A panic of one would otherwise pass for a quiet server.
        kind.await.expect("no attack panics");
    }
}
