//! The figures of the last release: read, written, and held against what is counted.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Counts;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/figures.toml");

const HEAD: &str = "\
# Instructions of the last release, and where they were counted. How to accept others after a change that is
# meant, or with another compiler: cargo bench --bench instructions -- --accept
";

/// By how many percent a count may be above its figure.
const TOLERANCE: u64 = 5;

/// Counts, and what they depend on.
#[derive(Deserialize, Serialize)]
pub(crate) struct Figures {
    version: String,
    date: String,
    rustc: String,
    valgrind: String,
    arch: String,
    cpu: String,
    counts: Counts,
}

impl Figures {
    pub(crate) fn of_this_machine(counts: Counts) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            date: first_line("date", &["-u", "+%F"]),
            rustc: first_line("rustc", &["--version"]),
            valgrind: first_line("valgrind", &["--version"]),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: cpu(),
            counts,
        }
    }

    pub(crate) fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        Ok(toml::from_str(&text)?)
    }

    pub(crate) fn write(&self) -> Result<(), Box<dyn std::error::Error>> {
        std::fs::write(FILE, format!("{HEAD}{}", toml::to_string(self)?))?;
        println!("accepted: {} counts in {FILE}", self.counts.len());
        Ok(())
    }

    pub(crate) fn print_beside(&self, counts: &Counts) {
        println!("{:<28} {:>14} {:>14}", "instructions", "counted", "last release");
        for (name, &counted) in counts {
            match self.counts.get(name) {
                Some(&figure) => {
                    let change = (counted as f64 / figure as f64 - 1.0) * 100.0;
                    println!("{name:<28} {counted:>14} {figure:>14} {change:>+8.1}%");
                }
                None => println!("{name:<28} {counted:>14} {:>14}", "none"),
            }
        }
        for (name, few, many, steps) in [
            ("publish, a subscriber more", "publish to_1", "publish to_1000", 999.0),
            ("deliver, a subscriber more", "deliver to_1", "deliver to_1000", 999.0),
            ("deliver, a frame of a burst", "deliver to_1", "deliver to_20_bursts_of_50", 999.0),
        ] {
            let slope = |counts: &Counts| Some((*counts.get(many)? as f64 - *counts.get(few)? as f64) / steps);
            if let (Some(counted), Some(figure)) = (slope(counts), slope(&self.counts)) {
                println!("{name:<28} {counted:>14.1} {figure:>14.1}");
            }
        }
    }

    /// What is wrong with `counts`, ready to be read; nothing if all is well, or if there is nothing to
    /// hold them against because the figures are of another architecture.
    pub(crate) fn complaints(&self, counts: &Counts) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.arch != std::env::consts::ARCH {
            println!("not compared: the figures are of {}", self.arch);
            return complaints;
        }
        for (name, &counted) in counts {
            match self.counts.get(name) {
                Some(&figure) if counted * 100 > figure * (100 + TOLERANCE) => {
                    complaints
                        .push(format!("{name}: {counted} instructions are over {TOLERANCE} % more than {figure}"));
                }
                Some(_) => {}
                None => complaints.push(format!("{name}: there is no figure to hold it against")),
            }
        }
        let gone = self.counts.keys().filter(|name| !counts.contains_key(*name));
        complaints.extend(gone.map(|name| format!("{name}: has a figure and was not counted")));
        if !complaints.is_empty() {
            complaints.push(self.advice());
        }
        complaints
    }

    fn advice(&self) -> String {
        let here = Self::of_this_machine(Counts::new());
        let mut advice = format!(
            "The figures are of {} ({}; {}; {}; {}).\nThis is ({}; {}; {}).\n",
            self.version, self.date, self.rustc, self.valgrind, self.cpu, here.rustc, here.valgrind, here.cpu
        );
        if here.rustc != self.rustc {
            advice
                .push_str("Another compiler gives other counts: compare with the last release built with this one.\n");
        }
        advice.push_str("If the growth is meant: cargo bench --bench instructions -- --accept");
        advice
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    line.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}
