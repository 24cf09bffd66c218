//! The moves a scenario is made of: connect, begin, pass time, settle, end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::watch::Watch;
use crate::crew::Crew;
use crate::options::Plan;
use crate::probe::Usage;
use crate::progress::Progress;
use crate::publisher::{Counts, Job, Publisher};
use crate::report::model::Second;
use crate::spread::Spread;
use crate::stats::{Interval, Latencies, Received};
use crate::worker::{Command, wall};

/// How often a scenario may do something.
pub(super) const TICK: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// Between the order to publish and the first message, so that everybody knows from when on to count.
const LEAD: Duration = Duration::from_millis(100);
/// Nothing more comes when nothing has come for this long.
const QUIET: u64 = 2_000_000_000;
/// A ramp of which this many attempts failed, and none succeeded, is given up.
const HOPELESS: u64 = 20;
/// A worker that runs, or wants to run, this share of a second is saturated.
pub(super) const SATURATED: f64 = 0.95;
/// One that wants to run and may not for this share is starved, which is no better.
const STARVED: f64 = 0.5;

/// One worker's time in the measurement, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkerTimes {
    pub(super) ran: u64,
    /// Runnable, but another had the processor.
    pub(super) waited: u64,
    /// Longest without a message.
    pub(super) silence: u64,
    /// Ran and waited in the second under way.
    recent: (u64, u64),
}

/// What is measured, and what is being done.
pub(super) struct Bench<'a> {
    pub(super) plan: &'a Plan,
    pub(super) crew: Crew,
    pub(super) publisher: Option<Publisher>,
    pub(super) progress: Progress,
    interrupted: Arc<AtomicBool>,
    pub(super) began: Instant,
    pub(super) began_wall: u64,
    /// Connections over the whole run.
    pub(super) whole: Interval,
    /// In the measurement.
    pub(super) measured: Interval,
    /// Since it was last taken: a step, a half, a stretch.
    part: Interval,
    spread: Spread,
    pub(super) spread_us: Latencies,
    pub(super) counts: Counts,
    pub(super) timeline: Vec<Second>,
    pub(super) watch: Option<Watch>,
    /// Of the timeline's second under way.
    current: Interval,
    pub(super) open: usize,
    pub(super) pending: usize,
    /// Messages received once, and holes, since the publisher's messages count.
    accounted: i64,
    pub(super) workers: Vec<WorkerTimes>,
    pub(super) saturated: u64,
    last_second: Instant,
    pub(super) measuring: bool,
    /// When the measurement began and ended, nanoseconds since the epoch.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) open_at_start: usize,
    pub(super) scheduled: u64,
    pub(super) ramp_seconds: f64,
    pub(super) connected_by_ramp: u64,
    pub(super) own_before: u64,
    pub(super) own_connected: u64,
    pub(super) own_start: Usage,
    pub(super) warnings: Vec<String>,
    pub(super) invalid: Vec<String>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        crew: Crew,
        publisher: Option<Publisher>,
        mut progress: Progress,
        interrupted: Arc<AtomicBool>,
        warnings: Vec<String>,
    ) -> anyhow::Result<Self> {
        let watch = match plan.server_pid {
            Some(pid) => match Watch::begin(pid) {
                None => bail!("--server-pid {pid}: there is no such process"),
                watch => watch,
            },
            None => None,
        };
        warnings.iter().for_each(|warning| progress.say(&format!("warning: {warning}")));
        let workers = crew.len();
        let now = Instant::now();
        let mut bench = Self {
            plan,
            crew,
            publisher,
            progress,
            interrupted,
            began: now,
            began_wall: wall(),
            whole: Interval::default(),
            measured: Interval::default(),
            part: Interval::default(),
            spread: Spread::default(),
            spread_us: Latencies::default(),
            counts: Counts::default(),
            timeline: Vec::new(),
            watch,
            current: Interval::default(),
            open: 0,
            pending: plan.connections,
            accounted: 0,
            workers: vec![WorkerTimes::default(); workers],
            saturated: 0,
            last_second: now,
            measuring: false,
            start: 0,
            end: 0,
            open_at_start: 0,
            scheduled: 0,
            ramp_seconds: 0.0,
            connected_by_ramp: 0,
            own_before: 0,
            own_connected: 0,
            own_start: Usage::default(),
            warnings,
            invalid: Vec::new(),
        };
        // What has to be there for any number of connections is there after two questions.
        bench.poll()?;
        bench.poll()?;
        bench.own_before = Usage::of_self().rss;
        Ok(bench)
    }

    /// Whether somebody has pressed Ctrl-C, or nobody is connected any more.
    pub(super) fn over(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.open + self.pending == 0
    }

    pub(super) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Publishes one message that does not count, for servers of which a channel begins with its first.
    pub(super) fn prime(&mut self) {
        let Some(publisher) = &self.publisher else { return };
        publisher.add(Job { start: wall(), rate: 1.0, messages: 1 });
        let until = Instant::now() + self.plan.connect_timeout;
        while !publisher.idle() && Instant::now() < until && !self.was_interrupted() {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.counts = publisher.take();
    }

    /// Whether there will be anything to measure, if it is the harness's publisher that sends it.
    pub(super) fn publishable(&mut self) -> bool {
        let possible = self.publisher.is_none() || self.counts.published > 0;
        if possible {
            self.counts = Counts::default();
        }
        possible
    }

    /// Opens all connections.
    pub(super) fn connect(&mut self) -> anyhow::Result<()> {
        if self.plan.warmup.is_zero() && self.publisher.is_none() {
            // What comes while the others are still connecting counts.
            self.start_counting(wall());
        }
        let before = Instant::now();
        self.crew.tell(|_| Command::Connect(self.plan.ramp));
        let longest = self.plan.ramp + self.plan.connect_timeout + SECOND;
        while self.pending > 0 && before.elapsed() < longest && !self.over() {
            self.pass("connecting", TICK, |_| Ok(()))?;
            self.poll()?;
            let failed = self.whole.connect_errors.total();
            if self.whole.opened == 0 && failed >= HOPELESS.min(self.plan.connections as u64) {
                break;
            }
        }
        self.ramp_seconds = before.elapsed().as_secs_f64();
        self.connected_by_ramp = self.whole.opened;
        self.own_connected = Usage::of_self().rss;
        if let Some(watch) = &mut self.watch {
            watch.connected();
        }
        Ok(())
    }

    /// Warms up and begins the measurement, with the publisher working for `duration` from then on.
    pub(super) fn begin(&mut self, duration: Duration) -> anyhow::Result<()> {
        let warm = self.plan.warmup;
        if let Some(publisher) = &self.publisher {
            let rate = self.plan.publish_rate;
            let before = (rate * warm.as_secs_f64()).ceil() as u64;
            self.scheduled = (rate * duration.as_secs_f64()).round().max(1.0) as u64;
            let job = Job { start: wall() + LEAD.as_nanos() as u64, rate, messages: before + self.scheduled };
            publisher.add(job);
            let floor = job.due(before);
            let wait = Duration::from_nanos(floor.saturating_sub(wall())).saturating_sub(LEAD / 2);
            self.pass("warming up", wait, |_| Ok(()))?;
            self.start_at(floor)
        } else {
            self.pass("warming up", warm, |_| Ok(()))?;
            if !warm.is_zero() {
                self.poll()?;
                self.start_counting(wall());
            }
            self.open_at_start = self.open;
            Ok(())
        }
    }

    /// Begins the measurement with the messages of `floor`, a moment from now.
    pub(super) fn start_at(&mut self, floor: u64) -> anyhow::Result<()> {
        self.crew.tell(|_| Command::Floor(floor));
        if let Some(publisher) = &self.publisher {
            publisher.count_from(floor);
        }
        drop(self.take_part()?);
        self.accounted = 0;
        self.open_at_start = self.open;
        if !self.over() {
            std::thread::sleep(Duration::from_nanos(floor.saturating_sub(wall())));
        }
        self.start_counting(floor);
        Ok(())
    }

    fn start_counting(&mut self, start: u64) {
        self.measuring = true;
        (self.start, self.end) = (start, 0);
        self.measured = Interval::default();
        self.saturated = 0;
        self.workers
            .iter_mut()
            .for_each(|worker| *worker = WorkerTimes { recent: worker.recent, ..WorkerTimes::default() });
        self.own_start = Usage::of_self();
        if let Some(watch) = &mut self.watch {
            watch.start();
        }
    }

    /// Lets time pass, and calls `each` every [`TICK`]; less if the run is over.
    pub(super) fn pass(
        &mut self,
        stage: &str,
        time: Duration,
        mut each: impl FnMut(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        let mut next_tick = Instant::now() + TICK;
        loop {
            let now = Instant::now();
            let next_second = self.last_second + SECOND;
            if now >= next_second {
                self.second(stage)?;
            } else if now >= until || self.over() {
                return Ok(());
            } else if now >= next_tick {
                next_tick += TICK;
                each(self)?;
            } else {
                std::thread::sleep(next_tick.min(until).min(next_second) - now);
            }
        }
    }

    /// Waits for the messages that are under way, at most `longest`.
    pub(super) fn settle(&mut self, longest: Duration) -> anyhow::Result<()> {
        self.end = wall();
        let until = Instant::now() + longest;
        while Instant::now() < until && !self.over() {
            self.poll()?;
            let idle = self.publisher.as_ref().is_none_or(Publisher::idle);
            let all = self.accounted >= (self.scheduled * self.open as u64) as i64;
            let quiet = wall().saturating_sub(self.part.last_message.max(self.end)) > QUIET;
            if self.publisher.is_none() || idle && (all || quiet) {
                break;
            }
            self.pass("settling", TICK, |_| Ok(()))?;
        }
        Ok(())
    }

    /// The measurement is over.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        if self.end == 0 {
            self.end = wall();
        }
        if let Some(publisher) = &self.publisher {
            publisher.stop();
        }
        if let Some(watch) = self.watch.as_mut().filter(|watch| !watch.stopped()) {
            watch.stop();
        }
        self.last_seconds()?;
        self.spread.close(true, &mut self.spread_us);
        if let Some(publisher) = self.publisher.as_ref().filter(|_| self.measuring) {
            self.counts.merge(&publisher.take());
            // What was not due when the run ended early is not missing.
            if self.over() {
                self.scheduled = self.counts.published + self.counts.errors.total();
            }
        }
        self.measuring = false;
        self.progress.done();
        Ok(())
    }

    /// What was measured since this was last called.
    pub(super) fn take_part(&mut self) -> anyhow::Result<Interval> {
        self.poll()?;
        Ok(std::mem::take(&mut self.part))
    }

    /// Closes the spread of all messages so far and returns it.
    pub(super) fn take_spread(&mut self) -> Latencies {
        self.spread.close(true, &mut self.spread_us);
        std::mem::take(&mut self.spread_us)
    }

    /// Puts what the workers have into the sums.
    pub(super) fn poll(&mut self) -> anyhow::Result<()> {
        let mut all = Interval::default();
        (self.open, self.pending) = (0, 0);
        for reply in self.crew.report()? {
            self.open += reply.open;
            self.pending += reply.pending;
            all.merge(&reply.interval);
            let worker = &mut self.workers[reply.worker];
            worker.recent.0 += reply.interval.ran;
            worker.recent.1 += reply.interval.waited;
            if self.measuring {
                worker.ran += reply.interval.ran;
                worker.waited += reply.interval.waited;
                // Nothing has to come while everything settles.
                if self.end == 0 {
                    worker.silence = worker.silence.max(reply.interval.silence);
                }
                self.spread.add(&reply.interval.sightings);
            }
        }
        let received = |of: &Received| of.numbered as i64 - of.repeats as i64 + of.holes;
        self.accounted += received(&all.free) + received(&all.slow);
        self.whole.merge_connections(&all);
        self.part.merge(&all);
        self.current.merge(&all);
        if self.measuring {
            self.measured.merge(&all);
        }
        Ok(())
    }

    /// Adds what came since the last full second to it.
    fn last_seconds(&mut self) -> anyhow::Result<()> {
        self.poll()?;
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
        Ok(())
    }

    /// Closes a second of the timeline.
    fn second(&mut self, stage: &str) -> anyhow::Result<()> {
        self.poll()?;
        let now = Instant::now();
        let seconds = now.duration_since(self.last_second).as_secs_f64();
        self.last_second = now;
        let current = std::mem::take(&mut self.current);
        let share = |nanos: u64| nanos as f64 / 1e9 / seconds.max(1e-3);
        let busiest = self.workers.iter().map(|worker| share(worker.recent.0)).fold(0.0, f64::max);
        let lost = |&WorkerTimes { recent: (ran, waited), .. }: &WorkerTimes| {
            share(ran + waited) >= SATURATED || share(waited) >= STARVED
        };
        let saturated = self.workers.iter().any(lost);
        self.workers.iter_mut().for_each(|worker| worker.recent = (0, 0));
        // Less than half a second says little.
        if self.measuring && seconds > 0.5 {
            self.saturated += u64::from(saturated);
        }
        let looked = self.watch.as_mut().and_then(|watch| watch.look(seconds));
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
            busiest_worker: busiest,
            server_cores: looked.map(|(cores, _)| cores),
            server_rss_bytes: looked.map(|(_, rss)| rss),
        });
        if self.measuring {
            self.spread.close(false, &mut self.spread_us);
        }
        let so_far = if self.measuring { &self.measured } else { &self.part };
        let so_far = so_far.free.delivery.quantiles().map(|q| (q.p50, q.p99));
        if let Some(second) = self.timeline.last() {
            self.progress.second(stage, second, so_far);
        }
        Ok(())
    }
}
