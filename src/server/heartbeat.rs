//! Deadlines of many clients behind one timer. All clients wait equally long for the same thing,
//! so each kind of deadline is a queue in which the first is always the next.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long a closed session may wait for its peer to close as well before the socket is dropped.
/// Long enough for a round trip around the world and a retransmission.
const LINGER: Duration = Duration::from_secs(2);

/// From the end of the time for a Pong to the verdict. A process that did not run for a while finds
/// deadlines passed before it has read what came meanwhile; this is time to read it.
const GRACE: Duration = Duration::from_millis(20);

/// A session in its shard: the slot, and a number no other session ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionId {
    pub(super) slot: usize,
    pub(super) number: u64,
}

/// A deadline that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The session is to be sent a Ping.
    Ping,
    /// Ping number `.0` should have been answered, and all that came by then has been read.
    Pong(u32),
    /// The session has lingered long enough.
    Linger,
}

/// The deadlines of one shard's sessions. A session that is gone leaves its deadlines behind; they
/// come up once and find nobody.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    pings: VecDeque<(Instant, SessionId)>,
    pongs: VecDeque<(Instant, SessionId, u32)>,
    verdicts: VecDeque<(Instant, SessionId, u32)>,
    lingering: VecDeque<(Instant, SessionId)>,
}

impl Heartbeat {
    /// An `interval` of zero sends no Pings.
    pub(super) fn new(interval: Duration, timeout: Duration) -> Self {
        let (pings, pongs, verdicts, lingering) = Default::default();
        Self { interval, timeout, pings, pongs, verdicts, lingering }
    }

    /// A session began, or was sent a Ping: the next Ping.
    pub(super) fn expect_ping(&mut self, now: Instant, session: SessionId) {
        if !self.interval.is_zero() {
            self.pings.push_back((now + self.interval, session));
        }
    }

    /// A session was sent Ping number `ping`.
    pub(super) fn expect_pong(&mut self, now: Instant, session: SessionId, ping: u32) {
        self.pongs.push_back((now + self.timeout, session, ping));
    }

    /// A session was closed and waits for its peer.
    pub(super) fn expect_end(&mut self, now: Instant, session: SessionId) {
        self.lingering.push_back((now + LINGER, session));
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        let ping = self.pings.front().map(|(at, _)| *at);
        let pong = self.pongs.front().map(|(at, ..)| *at);
        let verdict = self.verdicts.front().map(|(at, ..)| *at);
        let linger = self.lingering.front().map(|(at, _)| *at);
        ping.into_iter().chain(pong).chain(verdict).chain(linger).min()
    }

    /// Something that is due by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(SessionId, Due)> {
        if let Some((_, session)) = self.pings.pop_front_if(|(at, _)| *at <= now) {
            return Some((session, Due::Ping));
        }
        while let Some((_, session, ping)) = self.pongs.pop_front_if(|(at, ..)| *at <= now) {
            self.verdicts.push_back((now + GRACE, session, ping));
        }
        if let Some((_, session, ping)) = self.verdicts.pop_front_if(|(at, ..)| *at <= now) {
            return Some((session, Due::Pong(ping)));
        }
        let (_, session) = self.lingering.pop_front_if(|(at, _)| *at <= now)?;
        Some((session, Due::Linger))
    }
}
