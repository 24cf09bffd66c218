//! The harness's own publisher: messages on a fixed schedule, whatever the server does.
//!
//! A message carries the time at which it *should* have been sent. If the server keeps the publisher
//! waiting, the messages that were due meanwhile go out late and say so: their delivery latency counts from when they were
//! due (Gil Tene's "coordinated omission" is leaving that out). When they were really sent stands
//! in a field beside it.
//!
//! One connection, so that the order is kept; a sending and a reading thread, so that a bounded number of
//! requests can be unanswered (HTTP/1.1 pipelining, RFC 9112 section 9.3.2).

mod answer;
mod stream;

use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::stream::Stream;
use crate::probe::Schedule;
use crate::report::model;
use crate::stats::{Latencies, Reasons};
use crate::tls;
use crate::wire::template::Template;
use crate::wire::url::Url;
use crate::worker::wall;

/// How long a connection to the server may take, and an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before the next attempt to connect.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The longest sleep, so that a stop is noticed.
const NAP: Duration = Duration::from_millis(50);

/// What is published, and where.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) url: Url,
    pub(crate) address: SocketAddr,
    /// If the connection is encrypted.
    pub(crate) tls: Option<tls::Client>,
    pub(crate) headers: Vec<String>,
    pub(crate) binary: bool,
    /// Requests that may be unanswered.
    pub(crate) pipeline: usize,
    pub(crate) template: Arc<Template>,
}

/// A rate for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// When its first message is due, nanoseconds since the epoch.
    pub(crate) start: u64,
    /// Messages a second.
    pub(crate) rate: f64,
    pub(crate) messages: u64,
}

impl Job {
    /// When a message is due, counted from 0; nanoseconds since the epoch.
    pub(crate) fn due(&self, message: u64) -> u64 {
        self.start + (message as f64 * 1e9 / self.rate) as u64
    }
}

/// What was published since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) errors: Reasons,
    pub(crate) answer: Latencies,
    pub(crate) late: Latencies,
    pub(crate) wakeup: Latencies,
}

/// What the two threads share with the coordinator. The lock is held for a few additions.
#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<Counts>,
    /// Only messages due at this time or later are counted.
    floor: AtomicU64,
    /// Messages that have neither been answered nor failed.
    open: AtomicU64,
    stop: AtomicBool,
    /// The server ends connections: a request that is sent behind another may be lost.
    one_at_a_time: AtomicBool,
    /// CPU of its threads.
    schedules: Mutex<Vec<Schedule>>,
}

impl Shared {
    fn count(&self, due: u64, add: impl FnOnce(&mut Counts)) {
        if due >= self.floor.load(Ordering::Relaxed) {
            add(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn watch_this_thread(&self) {
        self.schedules.lock().unwrap_or_else(PoisonError::into_inner).push(Schedule::of_this_thread());
    }

    fn failed(&self, due: u64, reason: &str) {
        self.count(due, |counts| counts.errors.add(reason, 1));
        self.open.fetch_sub(1, Ordering::Release);
    }
}

/// A running publisher. It ends when this is dropped, after what it is doing.
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
}

impl Publisher {
    /// Starts it; it waits for a job.
    pub(crate) fn start(setup: Setup) -> Self {
        let shared = Arc::new(Shared::default());
        let (jobs, todo) = channel();
        let mut sender = Sending { setup, shared: Arc::clone(&shared), link: None, number: 0, request: Vec::new() };
        // Not joined: it may hang in a write to a server that has stopped.
        std::thread::spawn(move || {
            sender.shared.watch_this_thread();
            sender.run(&todo);
        });
        Self { shared, jobs }
    }

    /// Adds a job, to begin when the one before is done; only what is due from `floor` on is counted,
    /// and what was counted before is forgotten.
    pub(crate) fn add(&self, job: Job, floor: u64) {
        self.shared.floor.store(floor, Ordering::Relaxed);
        drop(self.take());
        self.shared.open.fetch_add(job.messages, Ordering::Release);
        // It only ends when this is dropped.
        let _ = self.jobs.send(job);
    }

    /// What was counted since the last call.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Messages the server took, of those that are counted and were not taken yet.
    pub(crate) fn published(&self) -> u64 {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).published
    }

    /// Nanoseconds its busiest thread ran, and waited for a processor, since it was last asked.
    pub(crate) fn busiest(&self) -> (u64, u64) {
        let mut schedules = self.shared.schedules.lock().unwrap_or_else(PoisonError::into_inner);
        let each = schedules.iter_mut().map(Schedule::since_last);
        each.max_by_key(|(ran, waited)| ran + waited).unwrap_or_default()
    }

    /// Whether everything was sent and answered.
    pub(crate) fn idle(&self) -> bool {
        self.shared.open.load(Ordering::Acquire) == 0
    }

    /// Leaves the rest of its jobs undone.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Counts {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.published += other.published;
        self.errors.merge(&other.errors);
        self.answer.merge(&other.answer);
        self.late.merge(&other.late);
        self.wakeup.merge(&other.wakeup);
    }

    /// For the report of a run in which `scheduled` messages were due at `rate`.
    pub(crate) fn report(&self, scheduled: u64, rate: f64) -> model::Publisher {
        model::Publisher {
            scheduled,
            published: self.published,
            publish_errors: self.errors.total(),
            error_reasons: self.errors.sorted(),
            rate,
            answer_us: self.answer.quantiles(),
            late_us: self.late.quantiles(),
            wakeup_us: self.wakeup.quantiles(),
        }
    }
}

/// A request that was sent: when it was due, and when it went.
type Sent = (u64, u64);

/// A connection, seen from the sending thread.
struct Link {
    stream: Stream,
    /// Has room for as many requests as may be unanswered.
    slots: SyncSender<()>,
    /// Tells the reading thread what to wait for.
    sent: Sender<Sent>,
    /// Set by the reading thread: the server takes nothing more here.
    closed: Arc<AtomicBool>,
    /// Requests that are not answered.
    unanswered: Arc<AtomicU64>,
}

impl Link {
    /// Whether the server has closed, as it may after an answer or when it is bored.
    fn is_closed(&self) -> bool {
        if self.closed.load(Ordering::Acquire) {
            return true;
        }
        if self.unanswered.load(Ordering::Acquire) > 0 {
            return false;
        }
        // Nothing is expected: whatever is there is the end, or no answer of ours.
        self.stream.has_something()
    }
}

/// The sending thread.
struct Sending {
    setup: Setup,
    shared: Arc<Shared>,
    link: Option<Link>,
    number: u64,
    request: Vec<u8>,
}

impl Sending {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            for message in 0..job.messages {
                let due = job.due(message);
                let napped = self.sleep_until(due);
                if self.shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                if napped {
                    self.shared.count(due, |counts| counts.wakeup.record(wall().saturating_sub(due)));
                }
                self.number += 1;
                if let Err(reason) = self.publish(due) {
                    self.link = None;
                    self.shared.failed(due, &reason);
                }
            }
        }
    }

    /// Returns whether there was anything to wait for.
    fn sleep_until(&self, due: u64) -> bool {
        let mut napped = false;
        loop {
            let left = due.saturating_sub(wall());
            if left == 0 || self.shared.stop.load(Ordering::Relaxed) {
                return napped;
            }
            napped = true;
            std::thread::sleep(Duration::from_nanos(left).min(NAP));
        }
    }

    fn publish(&mut self, due: u64) -> Result<(), String> {
        let gone = || "the server closed the publisher's connection".to_owned();
        let link = loop {
            if self.link.as_ref().is_some_and(Link::is_closed) {
                self.link = None;
            }
            self.connect()?;
            let Some(link) = &mut self.link else { return Ok(()) };
            // Blocks while too many are unanswered; the answer waited for may have been the last.
            link.slots.send(()).map_err(|_| gone())?;
            if !link.closed.load(Ordering::Acquire) {
                break link;
            }
        };
        let sent = wall();
        write_request(&self.setup, self.number, due, sent, &mut self.request);
        link.unanswered.fetch_add(1, Ordering::AcqRel);
        link.sent.send((due, sent)).map_err(|_| gone())?;
        self.shared.count(due, |counts| counts.late.record(sent.saturating_sub(due)));
        if link.stream.write_all(&self.request).is_err() {
            // What was sent is the reading thread's to count.
            self.link = None;
        }
        Ok(())
    }

    /// Sees to it that there is a connection.
    fn connect(&mut self) -> Result<(), String> {
        if self.link.is_some() {
            return Ok(());
        }
        let connected = Stream::connect(&self.setup.address, self.setup.tls.as_ref(), TIMEOUT);
        let stream = connected.map_err(|error| {
            std::thread::sleep(RETRY_AFTER);
            format!("cannot connect to {}: {error}", self.setup.address)
        })?;
        let one = self.shared.one_at_a_time.load(Ordering::Relaxed);
        let (slots, taken) = sync_channel(if one { 1 } else { self.setup.pipeline });
        let (sent, waiting) = channel();
        let reading = stream.clone();
        let (closed, unanswered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        self.link =
            Some(Link { stream, slots, sent, closed: Arc::clone(&closed), unanswered: Arc::clone(&unanswered) });
        let answers = Answers { taken, waiting, closed, unanswered, shared: Arc::clone(&self.shared) };
        std::thread::spawn(move || answers.read(reading));
        Ok(())
    }
}

fn write_request(setup: &Setup, number: u64, due: u64, sent: u64, out: &mut Vec<u8>) {
    let kind = if setup.binary { "application/octet-stream" } else { "application/json" };
    let (path, host, length) = (&setup.url.path, setup.url.authority(), setup.template.size());
    out.clear();
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: loadtest/{}\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n",
        env!("CARGO_PKG_VERSION")
    );
    for header in &setup.headers {
        let _ = write!(out, "{}\r\n", header.trim());
    }
    out.extend_from_slice(b"\r\n");
    setup.template.write(due, number, sent, out);
}

/// The reading thread of a connection.
struct Answers {
    taken: Receiver<()>,
    waiting: Receiver<Sent>,
    closed: Arc<AtomicBool>,
    unanswered: Arc<AtomicU64>,
    shared: Arc<Shared>,
}

impl Answers {
    /// Reads until the sending thread lets go of the connection.
    fn read(self, stream: Stream) {
        self.shared.watch_this_thread();
        let mut reader = BufReader::new(stream);
        let mut failure: Option<String> = None;
        while let Ok((due, sent)) = self.waiting.recv() {
            match &failure {
                Some(reason) => self.shared.failed(due, reason),
                None => failure = self.answer(&mut reader, due, sent),
            }
            if failure.is_some() {
                self.shared.one_at_a_time.store(true, Ordering::Relaxed);
                self.closed.store(true, Ordering::Release);
                // A write under way fails, and does not wait for a server that reads no more.
                reader.get_ref().shutdown();
            }
            self.unanswered.fetch_sub(1, Ordering::AcqRel);
            let _ = self.taken.try_recv();
        }
    }

    /// Reads one answer; returns why it is the last.
    fn answer(&self, reader: &mut BufReader<Stream>, due: u64, sent: u64) -> Option<String> {
        match answer::read(reader) {
            Ok(answer) => {
                let took = wall().saturating_sub(sent);
                self.shared.count(due, |counts| {
                    counts.answer.record(took);
                    match &answer.refused {
                        None => counts.published += 1,
                        Some(reason) => counts.errors.add(reason, 1),
                    }
                });
                self.shared.open.fetch_sub(1, Ordering::Release);
                answer.last.then(|| "the server closed the publisher's connection".to_owned())
            }
            Err(error) => {
                let reason = format!("no answer to a publication: {error}");
                self.shared.failed(due, &reason);
                Some(reason)
            }
        }
    }
}
