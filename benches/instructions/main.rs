//! Instructions of one publish and of one delivery, counted by valgrind's callgrind and held
//! against the figures of the last release, in `figures.toml`.
//!
//! A count does not depend on how busy the machine is, so it can be held: with `--check` it is a failure
//! to be more than 5 % above a figure. It does depend on the compiler, on the C library's `malloc`, and a
//! little on the processor. It says nothing about cache misses, contention or system calls; the
//! benchmarks that are timed do.
//!
//! ```sh
//! cargo bench --bench instructions                # counts and compares, if the tools are there
//! cargo bench --bench instructions -- --check     # fails if they are not, or if a count has grown
//! cargo bench --bench instructions -- --accept    # counts and writes the figures
//! ```
//!
//! Needs valgrind, and gungraun-runner in the version of `gungraun` in `Cargo.lock`: `./test.sh`
//! installs both, the latter in `target/tools`.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

mod counted;
mod figures;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use figures::Figures;

/// Has this program count when it calls itself.
const COUNT: &str = "TICKCAST_COUNT_INSTRUCTIONS";

/// Instructions by what they were spent on.
type Counts = BTreeMap<String, u64>;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let under_valgrind = arguments.first().is_some_and(|first| first == "--gungraun-run");
    if under_valgrind || std::env::var_os(COUNT).is_some() {
        counted::run();
        return Ok(ExitCode::SUCCESS);
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if !has("--bench") {
        println!("not counted: without optimisation instructions mean nothing");
        return Ok(ExitCode::SUCCESS);
    }
    let (check, accept) = (has("--check"), has("--accept"));
    if let Some(missing) = missing_tool() {
        println!("not counted: {missing} is missing; ./test.sh installs it");
        return Ok(code(!check && !accept));
    }
    let counts = count()?;
    if accept {
        Figures::of_this_machine(counts).write()?;
        return Ok(ExitCode::SUCCESS);
    }
    let figures = Figures::read()?;
    figures.print_beside(&counts);
    let complaints = figures.complaints(&counts);
    complaints.iter().for_each(|complaint| println!("{complaint}"));
    Ok(code(complaints.is_empty() || !check))
}

fn code(success: bool) -> ExitCode {
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where `./test.sh` installs, and then where everything is.
fn search_path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // target/release/deps/instructions-…
    let tools = std::env::current_exe().ok().and_then(|program| Some(program.ancestors().nth(3)?.join("tools/bin")));
    std::env::join_paths(tools.into_iter().chain(std::env::split_paths(&path))).unwrap_or(path)
}

fn missing_tool() -> Option<&'static str> {
    let path = search_path();
    let is_there = |tool: &&str| std::env::split_paths(&path).any(|folder: PathBuf| folder.join(tool).is_file());
    ["valgrind", "gungraun-runner"].into_iter().find(|tool| !is_there(tool))
}

/// Runs everything in `counted` under callgrind.
fn count() -> Result<Counts, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--bench", "--output-format=json"])
        .env(COUNT, "1")
        .env("PATH", search_path())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Err(format!("counting failed: {}\n{text}", output.status).into());
    }
    let summaries = text.lines().filter(|line| line.starts_with('{'));
    summaries.map(read_summary).collect()
}

/// Name and instructions out of what gungraun says about one benchmark.
fn read_summary(json: &str) -> Result<(String, u64), Box<dyn std::error::Error>> {
    let summary: serde_json::Value = serde_json::from_str(json)?;
    let instructions = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"];
    match (summary["function_name"].as_str(), summary["id"].as_str(), instructions.as_u64()) {
        (Some(function), Some(id), Some(instructions)) => Ok((format!("{function} {id}"), instructions)),
        _ => Err(format!("no count in {json}").into()),
    }
}
