//! Who decides when there is a connection: one that delivers, and for a while one that replaces it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Timing;
use super::backoff::Backoff;
use super::connection::{Connection, End, Event};
use super::dial::Dialer;
use crate::metrics::Metrics;
use crate::source::Lines;

/// Events of two connections that wait; a connection has four at the most.
const EVENTS: usize = 8;
/// Labels of reconnections that follow no failure.
const PLANNED: &str = "planned";
const SHUTDOWN: &str = "shutdown_notice";

pub(super) struct Supervisor {
    dialer: Arc<Dialer>,
    timing: Timing,
    batches: mpsc::Sender<Lines>,
    metrics: Arc<Metrics>,
    events: mpsc::Receiver<(u64, Event)>,
    tell: mpsc::Sender<(u64, Event)>,
    tasks: JoinSet<()>,
    /// Connections begun.
    begun: u64,
    current: Option<Live>,
    /// What will be current when it delivers.
    next: Option<Live>,
    backoff: Backoff,
    /// When a connection is to be opened: the next one if there is a current one.
    due: Option<(Instant, &'static str)>,
}

/// A connection that has not ended.
struct Live {
    number: u64,
    opened: bool,
    delivers_since: Option<Instant>,
    leave: oneshot::Sender<()>,
}

impl Supervisor {
    pub(super) fn new(
        dialer: Arc<Dialer>,
        timing: Timing,
        batches: mpsc::Sender<Lines>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (tell, events) = mpsc::channel(EVENTS);
        let backoff = Backoff::new(timing.retry, timing.retry_cap);
        let (tasks, begun, current, next, due) = (JoinSet::new(), 0, None, None, None);
        Self { dialer, timing, batches, metrics, events, tell, tasks, begun, current, next, backoff, due }
    }

    /// Sees to it, until dropped, that messages come.
    pub(super) async fn run(mut self) {
        self.metrics.source.watch(self.timing.stale_after);
        self.current = Some(self.begin());
        loop {
            let due = self.due;
            tokio::select! {
                event = self.events.recv() => {
                    // Never `None`: the sender is a field.
                    if let Some((number, event)) = event {
                        self.on(number, event);
                    }
                }
                reason = wait(due) => {
                    self.due = None;
                    self.metrics.source.reconnects.add(reason);
                    let begun = Some(self.begin());
                    if self.current.is_none() {
                        self.current = begun;
                    } else {
                        self.next = begun;
                    }
                }
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    fn begin(&mut self) -> Live {
        self.begun += 1;
        let number = self.begun;
        let (leave, left) = oneshot::channel();
        let (dialer, timing) = (Arc::clone(&self.dialer), self.timing.clone());
        let (events, batches) = (self.tell.clone(), self.batches.clone());
        self.tasks.spawn(Connection { number, dialer, timing, events, batches }.run(left));
        Live { number, opened: false, delivers_since: None, leave }
    }

    fn on(&mut self, number: u64, event: Event) {
        let is = |live: &Option<Live>| live.as_ref().is_some_and(|live| live.number == number);
        match event {
            // One that was left has nothing more to say.
            _ if !is(&self.current) && !is(&self.next) => {}
            Event::Opened => self.opened(number),
            Event::Delivers => self.delivers(number),
            Event::Notice if is(&self.current) && self.next.is_none() => {
                let wait = if self.is_steady() { std::time::Duration::ZERO } else { self.backoff.after_failure() };
                tracing::info!("the exchange is about to end the connection: opening another one");
                self.due = Some((Instant::now() + wait, SHUTDOWN));
            }
            Event::Notice => {}
            Event::Ended(end) if is(&self.next) => {
                self.next = None;
                let wait = self.plan_retry(&end);
                tracing::warn!("no connection to replace the old one: {end}; next attempt in {wait:.1} s");
            }
            Event::Ended(end) => self.lost(&end),
        }
    }

    fn opened(&mut self, number: u64) {
        let url = self.dialer.url();
        match (&mut self.current, &mut self.next) {
            (Some(live), _) if live.number == number => {
                tracing::info!("connected to {url}");
                live.opened = true;
                self.metrics.source.set_connected(true);
            }
            (_, Some(live)) => {
                tracing::info!("connected to {url} once more, to replace the connection there is");
                live.opened = true;
            }
            _ => {}
        }
    }

    /// The first message of a connection: it is the one that counts from now on.
    fn delivers(&mut self, number: u64) {
        if let Some(next) = self.next.take_if(|next| next.number == number)
            && let Some(old) = self.current.replace(next)
        {
            tracing::info!("the new connection delivers; the old one is closed");
            // If it has just ended, it has left already.
            let _ = old.leave.send(());
        }
        if let Some(current) = self.current.as_mut() {
            current.delivers_since = Some(Instant::now());
        }
        self.due = Some((Instant::now() + self.timing.max_age, PLANNED));
    }

    /// The current connection has ended.
    fn lost(&mut self, end: &End) {
        if self.is_steady() {
            self.backoff.reset();
        }
        self.current = self.next.take();
        match &self.current {
            Some(current) => {
                self.metrics.source.set_connected(current.opened);
                tracing::info!("the old connection has ended before the new one delivered: {end}");
            }
            None => {
                self.metrics.source.set_connected(false);
                let wait = self.plan_retry(end);
                tracing::warn!("the feed is down: {end}; next attempt in {wait:.1} s");
            }
        }
    }

    /// Returns after how many seconds.
    fn plan_retry(&mut self, end: &End) -> f64 {
        let asked = match end {
            End::Dial(error) => error.retry_after().unwrap_or_default(),
            _ => std::time::Duration::ZERO,
        };
        let wait = self.backoff.after_failure().max(asked);
        self.due = Some((Instant::now() + wait, end.reason()));
        wait.as_secs_f64()
    }

    /// Whether the current connection has delivered for long enough to be called a good one.
    fn is_steady(&self) -> bool {
        let since = self.current.as_ref().and_then(|current| current.delivers_since);
        since.is_some_and(|since| since.elapsed() >= self.timing.steady)
    }
}

async fn wait(due: Option<(Instant, &'static str)>) -> &'static str {
    match due {
        Some((at, reason)) => {
            sleep_until(at).await;
            reason
        }
        None => std::future::pending().await,
    }
}
