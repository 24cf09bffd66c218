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
}

/// Behind a mutex that is never contended: everything runs on one thread.
#[derive(Debug)]
pub(crate) struct Agenda {
    origin: Instant,
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
        self.origin.elapsed().as_millis() as Millis
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

    pub(crate) fn pop(&mut self, now: Millis) -> Option<Event> {
        let Reverse((at, _, _)) = self.events.peek()?;
        if *at > now {
            return None;
        }
        self.events.pop().map(|Reverse((_, _, event))| event)
    }

    pub(crate) fn next(&self) -> Option<Millis> {
        self.events.peek().map(|Reverse((at, _, _))| *at)
    }

    /// How many messages a channel has published.
    pub(crate) fn newest(&self, channel: usize) -> u64 {
        self.published[channel].len() as u64
    }

    /// The same before `now`.
    pub(crate) fn newest_before(&self, channel: usize, now: Millis) -> u64 {
        let published = &self.published[channel];
        let at_now = published.iter().rev().take_while(|message| message.at >= now).count();
        (published.len() - at_now) as u64
    }

    pub(crate) fn violate(&mut self, what: String) {
        let now = self.now();
        if self.violations.len() < 10 {
            self.violations.push(format!("at {now} ms: {what}"));
        }
    }
}
