//! The moves a scenario is made of: connect, begin, pass time, settle, end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::ledger::{Ledger, Times};
use super::watch::Watch;
use crate::crew::Crew;
use crate::options::{Plan, Scenario};
use crate::probe::Usage;
use crate::progress::Progress;
use crate::publisher::{Counts, Job, Publisher};
use crate::stats::Interval;
use crate::worker::{Command, Counting, wall};

/// How often a scenario may do something.
pub(super) const TICK: Duration = Duration::from_millis(100);
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Between the order to publish and the first message, so that everybody knows from when on to count.
pub(super) const LEAD: Duration = Duration::from_millis(200);
/// Where it cannot be counted what is under way, nothing is when nothing has come for this long.
const QUIET: u64 = 2_000_000_000;
/// A ramp of which this many attempts failed, and none succeeded, is given up.
const HOPELESS: u64 = 20;

/// What is being done, and what was measured.
pub(super) struct Bench<'a> {
    pub(super) plan: &'a Plan,
    pub(super) crew: Crew,
    pub(super) publisher: Option<Publisher>,
    progress: Progress,
    interrupted: Arc<AtomicBool>,
    hopeless: bool,
    pub(super) ledger: Ledger,
    pub(super) counts: Counts,
    pub(super) watch: Option<Watch>,
    pub(super) began: Instant,
    pub(super) began_wall: u64,
    /// When the measurement began and ended, nanoseconds since the epoch.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) open_at_start: usize,
    /// Messages due in the measurement.
    pub(super) scheduled: u64,
    pub(super) ramp_seconds: f64,
    pub(super) connected_by_ramp: u64,
    /// Resident memory of the harness with some connections and with all of the ramp.
    pub(super) own_few: (u64, u64),
    pub(super) own_all: (u64, u64),
    pub(super) own_start: Usage,
    /// Highest number of each client that was open at the end.
    pub(super) highest: Vec<Option<u64>>,
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
        let ledger = Ledger::new(crew.len(), plan.connections);
        let mut bench = Self {
            plan,
            crew,
            publisher,
            progress,
            interrupted,
            hopeless: false,
            ledger,
            counts: Counts::default(),
            watch,
            began: Instant::now(),
            began_wall: wall(),
            start: 0,
            end: 0,
            open_at_start: 0,
            scheduled: 0,
            ramp_seconds: 0.0,
            connected_by_ramp: 0,
            own_few: (0, 0),
            own_all: (0, 0),
            own_start: Usage::default(),
            highest: Vec::new(),
            warnings,
            invalid: Vec::new(),
        };
        // What has to be there for any number of connections is there after two questions.
        bench.poll()?;
        bench.poll()?;
        bench.own_few = (Usage::of_self().rss, 0);
        Ok(bench)
    }

    /// Whether somebody has pressed Ctrl-C, or nobody is connected any more.
    pub(super) fn over(&self) -> bool {
        self.was_interrupted() || self.hopeless || self.ledger.open + self.ledger.pending == 0
    }

    pub(super) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Publishes one message that does not count, for servers of which a channel begins with its first.
    pub(super) fn prime(&mut self) {
        let Some(publisher) = &self.publisher else { return };
        publisher.add(Job { start: wall(), rate: 1.0, messages: 1 }, 0);
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
        } else {
            self.start_counting(wall());
        }
        possible
    }

    /// Opens all connections.
    pub(super) fn connect(&mut self) -> anyhow::Result<()> {
        if self.plan.warmup.is_zero() && self.publisher.is_none() {
            // What comes while the others are still connecting counts.
            self.ledger.accept();
            self.crew.tell(|_| Command::Count(Counting::All));
            self.start_counting(wall());
        }
        let before = Instant::now();
        self.crew.tell(|_| Command::Connect(self.plan.ramp));
        let longest = self.plan.ramp + self.plan.connect_timeout + SECOND;
        while self.ledger.pending > 0 && before.elapsed() < longest && !self.over() {
            self.pass("connecting", TICK, |_| Ok(()))?;
            self.poll()?;
            // From then on only the connections grow: every kind of figure has been noted once.
            if self.own_few.1 == 0 && self.ledger.open * 10 >= self.plan.connections {
                self.own_few = (Usage::of_self().rss, self.ledger.open as u64);
            }
            let failed = self.ledger.whole.connect_errors.total();
            self.hopeless = self.ledger.whole.opened == 0 && failed >= HOPELESS.min(self.plan.connections as u64);
        }
        self.ramp_seconds = before.elapsed().as_secs_f64();
        self.connected_by_ramp = self.ledger.whole.opened;
        self.own_all = (Usage::of_self().rss, self.ledger.open as u64);
        if let Some(watch) = &mut self.watch {
            watch.connected();
        }
        Ok(())
    }

    /// Warms up and begins the measurement, with the publisher working for `duration` from then on.
    pub(super) fn begin(&mut self, duration: Duration) -> anyhow::Result<()> {
        let warm = self.plan.warmup;
        if self.publisher.is_none() {
            self.pass("warming up", warm, |_| Ok(()))?;
            if !warm.is_zero() {
                self.ledger.accept();
                self.crew.tell(|_| Command::Count(Counting::All));
                self.start_counting(wall());
            }
            self.open_at_start = self.ledger.open;
            return Ok(());
        }
        let rate = self.plan.publish_rate;
        let before = (rate * warm.as_secs_f64()).ceil() as u64;
        let scheduled = (rate * duration.as_secs_f64()).round().max(1.0) as u64;
        let job = Job { start: wall() + LEAD.as_nanos() as u64, rate, messages: before + scheduled };
        self.publish(job, before, scheduled)
    }

    /// Publishes, and begins the measurement with the message numbered `first` of the job, from 0.
    pub(super) fn publish(&mut self, job: Job, first: u64, scheduled: u64) -> anyhow::Result<()> {
        let floor = job.due(first);
        self.scheduled = scheduled;
        self.ledger.accept();
        // Everybody knows before the first message is due: nothing depends on when this thread wakes up.
        self.crew.tell(|_| Command::Count(Counting::From(floor)));
        if let Some(publisher) = &self.publisher {
            publisher.add(job, floor);
        }
        self.pass("warming up", Duration::from_nanos(floor.saturating_sub(wall())), |_| Ok(()))?;
        self.open_at_start = self.ledger.open;
        self.start_counting(floor);
        Ok(())
    }

    fn start_counting(&mut self, start: u64) {
        self.ledger.begin();
        (self.start, self.end) = (start, 0);
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
            let Some(left) = self.ledger.second_is_due(now) else {
                self.second(stage)?;
                continue;
            };
            if now >= until || self.over() {
                return Ok(());
            }
            if now >= next_tick {
                next_tick += TICK;
                each(self)?;
            } else {
                std::thread::sleep(next_tick.min(until).min(now + left) - now);
            }
        }
    }

    /// Waits for the messages that are under way, at most `longest`.
    pub(super) fn settle(&mut self, longest: Duration) -> anyhow::Result<()> {
        self.end = wall();
        // Nothing has to come any more.
        self.ledger.listening = self.publisher.as_ref().is_some_and(|publisher| !publisher.idle());
        let until = Instant::now() + longest;
        let come_and_go = matches!(self.plan.scenario, Scenario::Churn | Scenario::Storm);
        while Instant::now() < until && !self.over() {
            self.poll()?;
            let Some(publisher) = &self.publisher else { break };
            if publisher.idle() {
                self.ledger.listening = false;
                let expected = publisher.published() as i64 * self.ledger.open as i64;
                let countable = !come_and_go && self.ledger.measured.free.numbered > 0;
                let quiet = wall().saturating_sub(self.ledger.last_message().max(self.end)) > QUIET;
                if if countable { self.ledger.accounted >= expected } else { quiet } {
                    break;
                }
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
        let replies = self.crew.ask(|| Command::Review)?;
        self.ledger.add(&replies);
        self.highest = replies.into_iter().flat_map(|reply| reply.highest).collect();
        self.ledger.close_rest();
        if self.ledger.accepting {
            self.ledger.spread_us = self.ledger.take_spread();
            if let Some(publisher) = &self.publisher {
                self.counts.merge(&publisher.take());
            }
            let done = self.counts.published + self.counts.errors.total();
            if self.over() {
                // What was not due when the run ended early is not missing.
                self.scheduled = done;
            } else if self.publisher.is_some() && done < self.scheduled {
                self.counts.errors.add("not sent, or not answered, before the end", self.scheduled - done);
            }
        }
        self.progress.done();
        Ok(())
    }

    /// What was measured since this was last called.
    pub(super) fn take_part(&mut self) -> anyhow::Result<Interval> {
        self.poll()?;
        Ok(self.ledger.take_part())
    }

    /// Puts what the workers have into the sums.
    pub(super) fn poll(&mut self) -> anyhow::Result<()> {
        let replies = self.crew.ask(|| Command::Report)?;
        self.ledger.add(&replies);
        Ok(())
    }

    /// Closes a second of the timeline.
    fn second(&mut self, stage: &str) -> anyhow::Result<()> {
        self.poll()?;
        let mut publishing = Times::default();
        if let Some(publisher) = &self.publisher {
            let (ran, waited) = publisher.busiest();
            publishing.add(ran, waited);
        }
        let slow = if self.plan.scenario == Scenario::Slow { self.plan.slow_clients() } else { 0 };
        let clients = self.ledger.open.saturating_sub(slow);
        let second = self.ledger.close_second(self.watch.as_mut(), publishing, clients).clone();
        self.progress.second(stage, &second, self.ledger.so_far());
        Ok(())
    }
}
