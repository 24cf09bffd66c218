//! How a node and its cluster are doing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::Role;
use crate::metrics::{Counter, Histogram, Labelled};

/// An origin that has not been heard for so long is missed. Longer than a takeover takes.
const SILENCE: Duration = Duration::from_secs(3);

/// Between two log lines that say the same.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// What a node knows of the cluster, and what it has counted there.
#[derive(Debug)]
pub struct Status {
    pub(super) name: String,
    pub(super) role: Role,
    silence: Duration,
    /// The last messages of all channels have been read since the node started.
    pub(super) loaded: AtomicBool,
    pub(super) active: AtomicBool,
    epoch: AtomicU64,
    started: Instant,
    /// When a message was last taken, in microseconds since the start; 0 = none yet.
    taken: AtomicU64,
    state: Mutex<State>,
    /// Messages taken from the bus.
    pub received: Counter,
    /// Messages that an origin has numbered and that never came.
    pub missed: Counter,
    /// Messages of the bus that were not taken, by reason.
    pub ignored: Labelled,
    /// Messages this node put on the bus as the active origin.
    pub sent: Counter,
    /// Messages that it could not, by reason.
    pub lost: Labelled,
    /// Connections to a server of the bus after the first.
    pub reconnects: Counter,
    /// From an origin's clock to this node's.
    pub transit: Histogram,
}

/// What changes a few times a second at most.
#[derive(Debug)]
struct State {
    /// Since when it is connected, or not.
    since: Instant,
    connected: bool,
    was_connected: bool,
    /// Why it could not connect, when it last could not, and when that was last said.
    failure: Option<(String, Instant)>,
    heard: Option<Heard>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    node: String,
    trouble: Option<String>,
}

impl Status {
    pub(super) fn new(name: String, role: Role, lease: Duration) -> Self {
        let state = State { since: Instant::now(), connected: false, was_connected: false, failure: None, heard: None };
        Self {
            name,
            role,
            silence: SILENCE.max(2 * lease),
            loaded: AtomicBool::new(false),
            active: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            started: Instant::now(),
            taken: AtomicU64::new(0),
            state: Mutex::new(state),
            received: Counter::default(),
            missed: Counter::default(),
            ignored: Labelled::default(),
            sent: Counter::default(),
            lost: Labelled::default(),
            reconnects: Counter::default(),
            transit: Histogram::default(),
        }
    }

    /// What the node calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its part.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it is connected to a server of the bus.
    pub fn is_connected(&self) -> bool {
        self.state().connected
    }

    /// Whether it is the active origin.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// The highest epoch it knows of. Each reign of an origin has a higher one than those before.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How long ago a message was taken from the bus; `None` if none was yet.
    pub fn age(&self) -> Option<Duration> {
        let taken = self.taken.load(Ordering::Relaxed);
        (taken > 0).then(|| self.started.elapsed().saturating_sub(Duration::from_micros(taken)))
    }

    /// Counts a message that was taken.
    pub(super) fn take(&self) {
        self.received.add(1);
        self.taken.store((self.started.elapsed().as_micros() as u64).max(1), Ordering::Relaxed);
    }

    /// The active origin's name, as long as it is heard.
    pub fn origin(&self) -> Option<String> {
        let state = self.state();
        state.heard.as_ref().filter(|heard| heard.at.elapsed() < self.silence).map(|heard| heard.node.clone())
    }

    /// Why this node should get no new clients, if there is a reason.
    pub fn trouble(&self) -> Option<String> {
        let state = self.state();
        if !state.connected {
            let why = state.failure.as_ref().map_or_else(String::new, |(why, _)| format!(": {why}"));
            return Some(format!("no NATS server is reachable for {:.1} s{why}", state.since.elapsed().as_secs_f64()));
        }
        if !self.loaded.load(Ordering::Acquire) {
            return Some("the last messages have not been read from NATS yet".to_owned());
        }
        match &state.heard {
            Some(heard) if heard.at.elapsed() < self.silence => heard.trouble.clone(),
            Some(heard) => {
                let (node, seconds) = (&heard.node, heard.at.elapsed().as_secs_f64());
                Some(format!("no active origin: {node} was the last, heard {seconds:.1} s ago"))
            }
            None => Some("no active origin has been heard yet".to_owned()),
        }
    }

    pub(super) fn set_connected(&self, connected: bool) {
        let mut state = self.state();
        if state.connected != connected {
            if connected && state.was_connected {
                self.reconnects.add(1);
            }
            (state.connected, state.since) = (connected, Instant::now());
            state.was_connected |= connected;
            state.failure = None;
        }
    }

    /// An attempt to connect has failed. True if that is news: the reason is another one, or it is a while ago.
    pub(super) fn fail(&self, why: &str) -> bool {
        let mut state = self.state();
        match &state.failure {
            Some((before, said)) if *before == why && said.elapsed() < SAY_AGAIN => false,
            _ => {
                state.failure = Some((why.to_owned(), Instant::now()));
                true
            }
        }
    }

    /// The active origin has said this.
    pub(super) fn hear(&self, node: String, trouble: Option<String>) {
        self.state().heard = Some(Heard { at: Instant::now(), node, trouble });
    }

    /// Whether `epoch` is not that of a reign that is over; remembers the highest.
    pub(super) fn is_current(&self, epoch: u64) -> bool {
        self.epoch.fetch_max(epoch, Ordering::AcqRel) <= epoch
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here panics; if something did, what it left is as good as before.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(lease: Duration) -> Status {
        Status::new("a".to_owned(), Role::Edge, lease)
    }

    #[test]
    fn a_node_says_what_keeps_it_from_being_ready() {
        let status = status(Duration::from_secs(1));
        assert!(status.fail("no route") && !status.fail("no route"));
        assert!(status.trouble().expect("not connected").ends_with("s: no route"));
        status.set_connected(true);
        assert!(status.trouble().expect("not loaded").contains("have not been read"));
        status.loaded.store(true, Ordering::Release);
        assert!(status.trouble().expect("no origin").contains("no active origin"));
        status.hear("o1".to_owned(), Some("the feed is down".to_owned()));
        assert_eq!((status.trouble().as_deref(), status.origin().as_deref()), (Some("the feed is down"), Some("o1")));
        status.hear("o1".to_owned(), None);
        assert_eq!((status.trouble(), status.reconnects.get()), (None, 0));
        status.set_connected(false);
        assert!(status.trouble().expect("not connected").contains("no NATS server"));
        status.set_connected(true);
        assert_eq!((status.trouble(), status.reconnects.get()), (None, 1));
    }

    #[test]
    fn an_epoch_that_is_over_stays_over() {
        let status = status(Duration::from_secs(1));
        assert_eq!([3, 3, 2, 4, 3].map(|epoch| status.is_current(epoch)), [true, true, false, true, false]);
        assert_eq!(status.epoch(), 4);
    }
}
