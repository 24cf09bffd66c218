//! The line that tells how far a run is.

use std::io::{IsTerminal, Write};

use crate::report::format::{count, rate, time_us};
use crate::report::model::Second;

/// Where the line goes.
#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    terminal: bool,
    /// Characters on the line under way.
    width: usize,
}

impl Progress {
    /// On stderr, over itself where that is a terminal.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal(), width: 0 }
    }

    /// Tells of the last second; p50 and p99 are those of the measurement so far.
    pub(crate) fn second(&mut self, stage: &str, second: &Second, so_far: Option<(f64, f64)>) {
        if self.quiet {
            return;
        }
        let per_second = |value: u64| value as f64 / second.seconds.max(1e-3);
        let mut line = format!(
            "{:>5.0} s  {stage:<12} {:>8} connected {:>11} messages/s {:>8.1} MB/s",
            second.t,
            count(second.connected),
            rate(per_second(second.messages)),
            per_second(second.payload_bytes) / 1e6,
        );
        if let Some((p50, p99)) = so_far {
            line.push_str(&format!("   p50 {:>9}  p99 {:>9}", time_us(p50), time_us(p99)));
        }
        let length = line.chars().count();
        let mut out = std::io::stderr().lock();
        // Nobody there to read it is no reason to stop.
        let _ = if self.terminal {
            write!(out, "\r{line}{}", " ".repeat(self.width.saturating_sub(length)))
        } else {
            writeln!(out, "{line}")
        };
        self.width = length;
    }

    /// Leaves the line as it is; what comes next has one of its own.
    pub(crate) fn done(&mut self) {
        if self.terminal && self.width > 0 {
            let _ = writeln!(std::io::stderr());
        }
        self.width = 0;
    }

    /// Something that has to be said, on a line of its own.
    pub(crate) fn say(&mut self, text: &str) {
        self.done();
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}
