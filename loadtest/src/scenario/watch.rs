//! The server under test, second by second.

use crate::probe::Usage;
use crate::report::model;

/// What was seen of the process and its descendants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    pid: u32,
    before: Usage,
    connected: Usage,
    /// When the measurement began, and ended.
    start: Usage,
    end: Option<Usage>,
    last: Usage,
    /// It ended before the measurement.
    gone: bool,
    rss_max: u64,
    threads_max: u64,
    descriptors_max: u64,
}

impl Watch {
    /// Begins to watch; nothing if there is no such process.
    pub(crate) fn begin(pid: u32) -> Option<Self> {
        let before = Usage::of_tree(pid, true)?;
        let descriptors_max = before.descriptors;
        Some(Self { pid, start: before.clone(), last: before.clone(), before, descriptors_max, ..Self::default() })
    }

    /// Looks; returns cores used since the last look and resident memory.
    pub(crate) fn look(&mut self, seconds: f64) -> Option<(f64, u64)> {
        let usage = Usage::of_tree(self.pid, false)?;
        let cores = usage.cpu.saturating_sub(self.last.cpu) as f64 / 1e9 / seconds.max(1e-3);
        self.rss_max = self.rss_max.max(usage.rss);
        self.threads_max = self.threads_max.max(usage.threads);
        let rss = usage.rss;
        self.last = usage;
        Some((cores, rss))
    }

    /// Everybody is connected.
    pub(crate) fn connected(&mut self) {
        if let Some(usage) = Usage::of_tree(self.pid, true) {
            self.descriptors_max = self.descriptors_max.max(usage.descriptors);
            self.connected = usage;
        }
    }

    /// The measurement begins.
    pub(crate) fn start(&mut self) {
        if let Some(usage) = Usage::of_tree(self.pid, false) {
            self.rss_max = usage.rss;
            self.start = usage;
            self.end = None;
        }
    }

    /// CPU nanoseconds of the measurement, so far.
    pub(crate) fn cpu(&self) -> u64 {
        self.end.as_ref().unwrap_or(&self.last).cpu.saturating_sub(self.start.cpu)
    }

    /// CPU nanoseconds of the measurement up to this moment.
    pub(crate) fn cpu_so_far(&self) -> u64 {
        Usage::of_tree(self.pid, false).map_or(self.last.cpu, |usage| usage.cpu).saturating_sub(self.start.cpu)
    }

    /// The measurement is what has been since it began.
    pub(crate) fn stop(&mut self) {
        self.end = Usage::of_tree(self.pid, false);
        self.gone = self.end.is_none();
    }

    pub(crate) fn stopped(&self) -> bool {
        self.end.is_some()
    }

    /// For the report of a run with `messages` received and `connections` opened by the ramp.
    pub(crate) fn report(&mut self, messages: u64, connections: u64) -> model::Server {
        if let Some(usage) = Usage::of_tree(self.pid, true) {
            self.descriptors_max = self.descriptors_max.max(usage.descriptors);
        }
        // A server that freed memory of earlier connections meanwhile tells nothing.
        let end = self.end.as_ref().unwrap_or(&self.last);
        let kernel = end.kernel.saturating_sub(self.start.kernel);
        let grown = self.connected.rss.checked_sub(self.before.rss).map(|grown| grown as f64);
        model::Server {
            pids: self.last.pids.clone(),
            cpu_seconds: self.cpu() as f64 / 1e9,
            kernel_seconds: kernel as f64 / 1e9,
            cpu_us_per_message: (messages > 0 && !self.gone).then(|| self.cpu() as f64 / 1e3 / messages as f64),
            rss_before_bytes: self.before.rss,
            rss_connected_bytes: self.connected.rss,
            rss_max_bytes: self.rss_max,
            rss_end_bytes: self.last.rss,
            bytes_per_connection: grown.filter(|_| connections > 0).map(|grown| grown / connections as f64),
            descriptors: self.descriptors_max,
            threads: self.threads_max,
        }
    }
}
