//! Runs the models, or those whose names contain one of the arguments, and prints what was tried.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use models::fanout::models::{MODELS, Model};

/// Tells this program to run one model and print how many interleavings it tried.
const ALONE: &str = "--alone";

fn alone(name: &str) -> ExitCode {
    let Some(model) = MODELS.iter().find(|model| model.name == name) else { return ExitCode::FAILURE };
    let tried = Arc::default();
    model.check(&tried);
    print(&tried.load(Ordering::Relaxed).to_string());
    ExitCode::SUCCESS
}

/// In a process of its own, because loom cannot always unwind from what it finds. Returns whether it holds.
fn run(model: &Model) -> bool {
    let start = Instant::now();
    let program = std::env::current_exe().expect("it runs");
    let output = Command::new(program).args([ALONE, model.name]).stderr(Stdio::inherit()).output();
    let output = output.expect("it runs again");
    let holds = output.status.success();
    let tried = if holds { String::from_utf8_lossy(&output.stdout).trim().into() } else { "FAILED".to_owned() };
    let bound = model.preemptions.map_or("any".into(), |bound| bound.to_string());
    let seconds = start.elapsed().as_secs_f64();
    print(&format!("{:<34} {bound:>11} {tried:>13} {seconds:>7.1}", model.name));
    holds
}

fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("somebody reads");
}

fn main() -> ExitCode {
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    if let [ALONE, name] = wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return alone(name);
    }
    let is_wanted = |model: &&Model| wanted.is_empty() || wanted.iter().any(|name| model.name.contains(name.as_str()));
    let models: Vec<_> = MODELS.iter().filter(is_wanted).collect();
    print(&format!("{:<34} {:>11} {:>13} {:>7}", "model", "preemptions", "interleavings", "seconds"));
    let (next, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(model) = models.get(next.fetch_add(1, Ordering::Relaxed)) {
            held.fetch_add(usize::from(run(model)), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)));
    });
    let held = held.into_inner();
    print(&format!("{held} of {} models hold", models.len()));
    if held == models.len() && held > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
