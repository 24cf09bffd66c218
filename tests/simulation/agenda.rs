//! Simulated time, what happens when, and what has been published: what everybody may look at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// Milliseconds since the beginning. Tokio's timers know no smaller ones.
pub(crate) type Millis = u64;

/// Direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// From the server to a client.
    Down,
    /// From a client to the server.
    Up,
}

/// Something that is to happen. Wires and clients by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A segment comes to the end of a wire.
    Arrive(usize, Way),
    /// A client connects.
    Join(usize),
    /// A client reads its allowance.
    Read(usize),
    /// A client says something unasked.
    Speak(usize),
    /// Something happens to a client.
    Fault(usize),
    /// The fault with this number is over for a client.
    Heal(usize, u64),
    /// After that fault, by now the client must have had this message, if nothing else happened.
    Verify(usize, u64, u64),
    /// A client leaves.
    Leave(usize),
    /// A channel publishes.
    Publish(usize),
    /// A part of the network is cut off for so long.
    Partition(usize, Millis),
    /// The server's process does not run for so long, and everything else does.
    Pause(Millis),
}

/// A message, and when it was published.
#[derive(Debug)]
pub(crate) struct Published {
    /// Shares its memory with the frame, so that it shows whether the frame is alive.
    pub(crate) payload: Bytes,
    pub(crate) at: Millis,
}

/// What the server is configured to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) ring: u64,
    pub(crate) interval: Millis,
    pub(crate) timeout: Millis,
    pub(crate) handshake: Millis,
    pub(crate) drain: Millis,
    /// How long a socket may take nothing, and a client may lag; zero is for ever.
    pub(crate) write: Millis,
    pub(crate) evict: Millis,
}

/// Behind a mutex that is never contended: everything runs on one thread.
#[derive(Debug)]
pub(crate) struct Agenda {
    origin: Instant,
    /// The time of what is happening, while something is: the server may be behind.
    happening: Option<Millis>,
    /// When the server did not run: from, to.
    pauses: Vec<(Millis, Millis)>,
    events: BinaryHeap<Reverse<(Millis, u64, Event)>>,
    number: u64,
    /// Until when the simulation sleeps.
    pub(crate) sleeps_until: Millis,
    pub(crate) wake: Arc<Notify>,
    /// By channel.
    pub(crate) published: Vec<Vec<Published>>,
    pub(crate) rules: Rules,
    /// When the server was told to shut down.
    pub(crate) draining: Option<Millis>,
    /// Sessions that only the heartbeat can have ended, and those that it or their client may have.
    pub(crate) killed: u64,
    pub(crate) maybe_killed: u64,
    pub(crate) violations: Vec<String>,
}

/// A handle on it.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Agenda>>);

impl Shared {
    pub(crate) fn new(rules: Rules, channels: usize) -> Self {
        Self(Arc::new(Mutex::new(Agenda {
            origin: Instant::now(),
            happening: None,
            pauses: Vec::new(),
            events: BinaryHeap::new(),
            number: 0,
            sleeps_until: 0,
            wake: Arc::default(),
            published: (0..channels).map(|_| Vec::new()).collect(),
            rules,
            draining: None,
            killed: 0,
            maybe_killed: 0,
            violations: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Agenda> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agenda {
    pub(crate) fn now(&self) -> Millis {
        self.happening.unwrap_or_else(|| self.clock())
    }

    /// What the server takes for the time.
    pub(crate) fn clock(&self) -> Millis {
        self.origin.elapsed().as_millis() as Millis
    }

    /// The server did not run from `from` to now.
    pub(crate) fn pause(&mut self, from: Millis) {
        let to = self.clock();
        match self.pauses.last_mut() {
            // It has not run since.
            Some(last) if from <= last.1 => last.1 = to,
            _ => self.pauses.push((from, to)),
        }
    }

    /// When the server began to run again, the last time.
    pub(crate) fn resumed_at(&self) -> Millis {
        self.pauses.last().map_or(0, |(_, to)| *to)
    }

    /// For how long it has not run since then.
    pub(crate) fn paused_since(&self, since: Millis) -> Millis {
        self.pauses.iter().map(|(from, to)| to.saturating_sub(since.max(*from))).sum()
    }

    pub(crate) fn instant(&self, at: Millis) -> Instant {
        self.origin + Duration::from_millis(at)
    }

    /// Wakes the simulation if it would sleep beyond that.
    pub(crate) fn schedule(&mut self, at: Millis, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, event)));
        if at < self.sleeps_until {
            self.sleeps_until = at;
            self.wake.notify_one();
        }
    }

    /// What happens next, if its time has come; until the next call it is that time.
    pub(crate) fn pop(&mut self) -> Option<(Millis, Event)> {
        self.happening = None;
        let now = self.clock();
        self.next().filter(|at| *at <= now)?;
        let Reverse((at, _, event)) = self.events.pop()?;
        self.happening = Some(at);
        Some((at, event))
    }

    pub(crate) fn next(&self) -> Option<Millis> {
        self.events.peek().map(|Reverse((at, _, _))| *at)
    }

    /// How many messages a channel has published.
    pub(crate) fn newest(&self, channel: usize) -> u64 {
        self.published[channel].len() as u64
    }

    /// How many of them the server certainly knew before it began what it does at `now`.
    pub(crate) fn known_before(&self, channel: usize, now: Millis) -> u64 {
        let since = self.pauses.last().filter(|(_, to)| *to == now).map_or(now, |(from, _)| *from);
        let published = &self.published[channel];
        let at_now = published.iter().rev().take_while(|message| message.at >= since).count();
        (published.len() - at_now) as u64
    }

    /// How many messages a channel had published by then.
    pub(crate) fn newest_at(&self, channel: usize, at: Millis) -> u64 {
        let published = &self.published[channel];
        (published.len() - published.iter().rev().take_while(|message| message.at > at).count()) as u64
    }

    pub(crate) fn violate(&mut self, what: &str) {
        let now = self.now();
        if self.violations.len() < 10 {
            self.violations.push(format!("at {now} ms: {what}"));
        }
    }
}
