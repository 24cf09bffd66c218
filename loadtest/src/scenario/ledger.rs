//! Everything that was measured, in the sums a report is made of.

use std::time::Instant;

use super::watch::Watch;
use crate::report::model::Second;
use crate::spread::Spread;
use crate::stats::{Interval, Latencies, Received};
use crate::worker::Reply;

/// A thread that runs, or wants to run, this share of a second is saturated.
pub(super) const SATURATED: f64 = 0.95;
/// One that wants to run and may not for this share is starved, which is no better.
pub(super) const STARVED: f64 = 0.5;

/// A thread's time, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) ran: u64,
    /// Runnable, but another had the processor.
    pub(super) waited: u64,
}

impl Times {
    pub(super) fn add(&mut self, ran: u64, waited: u64) {
        self.ran += ran;
        self.waited += waited;
    }

    /// Whether it can have kept up for so long.
    pub(super) fn lost(self, seconds: f64) -> bool {
        let share = |nanos: u64| nanos as f64 / 1e9 / seconds.max(1e-3);
        share(self.ran + self.waited) >= SATURATED || share(self.waited) >= STARVED
    }
}

/// One worker in the measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkerTimes {
    pub(super) times: Times,
    /// Longest without a message.
    pub(super) silence: u64,
    /// In the second under way.
    recent: Times,
}

/// The sums.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Connections over the whole run.
    pub(super) whole: Interval,
    /// In the measurement.
    pub(super) measured: Interval,
    /// Of it, since it was last taken: a step, a half, a stretch.
    part: Interval,
    /// Of the timeline's second under way, measured or not.
    current: Interval,
    spread: Spread,
    pub(super) spread_us: Latencies,
    pub(super) timeline: Vec<Second>,
    pub(super) open: usize,
    pub(super) pending: usize,
    /// Messages received once, and holes, of clients that are still there.
    pub(super) accounted: i64,
    pub(super) workers: Vec<WorkerTimes>,
    /// Seconds in which a thread of the harness could not keep up.
    pub(super) saturated: u64,
    /// Whether what counts is added up.
    pub(super) accepting: bool,
    /// Whether time and processors count.
    measuring: bool,
    /// Whether silence is the server's.
    pub(super) listening: bool,
    began: Instant,
    last_second: Instant,
}

impl Ledger {
    pub(super) fn new(workers: usize, connections: usize) -> Self {
        let now = Instant::now();
        Self {
            whole: Interval::default(),
            measured: Interval::default(),
            part: Interval::default(),
            current: Interval::default(),
            spread: Spread::default(),
            spread_us: Latencies::default(),
            timeline: Vec::new(),
            open: 0,
            pending: connections,
            accounted: 0,
            workers: vec![WorkerTimes::default(); workers],
            saturated: 0,
            accepting: false,
            measuring: false,
            listening: false,
            began: now,
            last_second: now,
        }
    }

    /// From now on what counts is added up, and nothing of before.
    pub(super) fn accept(&mut self) {
        self.measured = Interval::default();
        self.part = Interval::default();
        self.accounted = 0;
        (self.accepting, self.listening) = (true, true);
    }

    /// The measurement begins.
    pub(super) fn begin(&mut self) {
        self.saturated = 0;
        self.measuring = true;
        for worker in &mut self.workers {
            *worker = WorkerTimes { recent: worker.recent, ..WorkerTimes::default() };
        }
    }

    /// Adds what the workers said.
    pub(super) fn add(&mut self, replies: &[Reply]) {
        (self.open, self.pending) = (0, 0);
        for reply in replies {
            self.open += reply.open;
            self.pending += reply.pending;
            let worker = &mut self.workers[reply.worker];
            worker.recent.add(reply.ran, reply.waited);
            if self.measuring {
                worker.times.add(reply.ran, reply.waited);
            }
            for (counts, interval) in &reply.pieces {
                self.whole.merge_connections(interval);
                self.current.merge(interval);
                if *counts && self.accepting {
                    if self.listening {
                        worker.silence = worker.silence.max(interval.silence);
                    }
                    self.accounted = self.accounted.saturating_add(interval.accounted);
                    self.spread.add(&interval.sightings);
                    self.part.merge(interval);
                    self.measured.merge(interval);
                }
            }
        }
    }

    /// When the last message came that counts, nanoseconds since the epoch.
    pub(super) fn last_message(&self) -> u64 {
        self.part.last_message
    }

    /// What was measured since this was last called.
    pub(super) fn take_part(&mut self) -> Interval {
        std::mem::take(&mut self.part)
    }

    /// Closes the spread of all messages so far and returns it.
    pub(super) fn take_spread(&mut self) -> Latencies {
        self.spread.close(true, 0, &mut self.spread_us);
        std::mem::take(&mut self.spread_us)
    }

    /// The next second of the timeline.
    pub(super) fn second_is_due(&self, now: Instant) -> Option<std::time::Duration> {
        (self.last_second + super::bench::SECOND).checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Closes a second of the timeline, in which a thread beside the workers may have been lost as well.
    pub(super) fn close_second(&mut self, watch: Option<&mut Watch>, publisher: Times, clients: usize) -> &Second {
        let now = Instant::now();
        let seconds = now.duration_since(self.last_second).as_secs_f64();
        self.last_second = now;
        let busiest = self.workers.iter().map(|worker| worker.recent.ran).max().unwrap_or(0);
        let lost = self.workers.iter().any(|worker| worker.recent.lost(seconds)) || publisher.lost(seconds);
        self.workers.iter_mut().for_each(|worker| worker.recent = Times::default());
        if self.measuring {
            self.saturated += u64::from(lost);
            self.spread.close(false, clients, &mut self.spread_us);
        }
        let looked = watch.and_then(|watch| watch.look(seconds));
        let current = std::mem::take(&mut self.current);
        let all = current.all();
        let quantiles = all.delivery.quantiles();
        self.timeline.push(Second {
            t: self.began.elapsed().as_secs_f64(),
            seconds,
            measured: self.measuring,
            connected: self.open as u64,
            messages: current.messages(),
            payload_bytes: current.payload_bytes(),
            p50_us: quantiles.map(|q| q.p50),
            p99_us: quantiles.map(|q| q.p99),
            max_us: quantiles.map(|q| q.max),
            holes: all.holes(),
            disconnects: current.disconnects.total(),
            busiest_worker: busiest as f64 / 1e9 / seconds.max(1e-3),
            server_cores: looked.map(|(cores, _)| cores),
            server_rss_bytes: looked.map(|(_, rss)| rss),
        });
        self.timeline.last().expect("one was pushed")
    }

    /// Adds what came since the last full second to it.
    pub(super) fn close_rest(&mut self) {
        let rest = std::mem::take(&mut self.current);
        let seconds = self.last_second.elapsed().as_secs_f64();
        if let Some(last) = self.timeline.last_mut() {
            last.t += seconds;
            last.seconds += seconds;
            last.connected = self.open as u64;
            last.messages += rest.messages();
            last.payload_bytes += rest.payload_bytes();
            last.holes += rest.all().holes();
            last.disconnects += rest.disconnects.total();
        }
    }

    /// p50 and p99 of the measurement so far, or of the second under way before it.
    pub(super) fn so_far(&self) -> Option<(f64, f64)> {
        let of = |received: &Received| received.delivery.quantiles().map(|q| (q.p50, q.p99));
        if self.measuring {
            return of(&self.measured.free);
        }
        self.timeline.last().and_then(|second| second.p50_us.zip(second.p99_us))
    }
}
