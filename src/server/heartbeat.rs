//! Deadlines of many clients behind one timer. All clients wait equally long for the same thing,
//! so each kind of deadline is a queue in which the first is always the next; but tokens expire when they do.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How long a closed session may wait for its peer to close as well before the socket is dropped.
/// Long enough for a round trip around the world and a retransmission.
const LINGER: Duration = Duration::from_secs(2);

/// A verdict that comes later than that shows that this side is behind: what the client said may
/// still be on its way through here.
const LATE: Duration = Duration::from_millis(10);
/// The time a client gets then, once.
const REPRIEVE: Duration = Duration::from_millis(500);

/// From the end of the time for a Pong to the verdict. A process that did not run for a while finds
/// deadlines passed before it has read what came meanwhile; this is time to read it.
const GRACE: Duration = Duration::from_millis(20);

/// Sessions that are gone before their deadlines are thrown away, if no more than that are there.
const FEW: usize = 64;

/// A session in its shard: the slot, and a number that no other session had for a long time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionId {
    pub(super) slot: u32,
    pub(super) number: u32,
}

/// A deadline that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The session is to be sent a Ping.
    Ping,
    /// Ping number `.0` should have been answered, and all that came by then has been read.
    Pong(u32),
    /// The session may have lagged, or been stalled, for too long.
    Lag,
    /// The session has lingered long enough.
    Linger,
    /// The token that let the session in has expired.
    Expiry,
}

/// The deadlines of one shard's sessions: 16 bytes for one that is not being asked. A session that is
/// gone leaves its deadlines behind; they come up once and find nobody, or are thrown away when more
/// have gone than are there.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    /// Deadlines are counted from here.
    origin: Instant,
    pings: VecDeque<Deadline>,
    pongs: VecDeque<(Deadline, u32)>,
    verdicts: VecDeque<(Deadline, u32)>,
    /// Verdicts put off.
    reprieved: VecDeque<(Deadline, u32)>,
    /// One for each session that lags; they wait for different times.
    lags: BTreeSet<Deadline>,
    lingering: VecDeque<Deadline>,
    /// One for each session whose token expires.
    expiries: BTreeSet<Deadline>,
    gone: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    /// Microseconds.
    at: u64,
    session: SessionId,
}

impl Heartbeat {
    /// An `interval` of zero sends no Pings.
    pub(super) fn new(interval: Duration, timeout: Duration) -> Self {
        let (pings, pongs, verdicts, reprieved, lags, lingering, expiries) = Default::default();
        let origin = Instant::now();
        Self { interval, timeout, origin, pings, pongs, verdicts, reprieved, lags, lingering, expiries, gone: 0 }
    }

    fn deadline(&self, at: Instant, session: SessionId) -> Deadline {
        Deadline { at: self.micros(at), session }
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_micros() as u64
    }

    /// A session began, or was sent a Ping: the next Ping.
    pub(super) fn expect_ping(&mut self, now: Instant, session: SessionId) {
        if !self.interval.is_zero() {
            self.pings.push_back(self.deadline(now + self.interval, session));
        }
    }

    /// A session was sent Ping number `ping`.
    pub(super) fn expect_pong(&mut self, now: Instant, session: SessionId, ping: u32) {
        self.pongs.push_back((self.deadline(now + self.timeout, session), ping));
    }

    /// A session lags: it is looked at again at `at`.
    pub(super) fn expect_progress(&mut self, at: Instant, session: SessionId) {
        self.lags.insert(self.deadline(at, session));
    }

    /// A session was closed and waits for its peer.
    pub(super) fn expect_end(&mut self, now: Instant, session: SessionId) {
        self.lingering.push_back(self.deadline(now + LINGER, session));
    }

    /// A session may go on until `end`.
    pub(super) fn expect_expiry(&mut self, end: Instant, session: SessionId) {
        self.expiries.insert(self.deadline(end, session));
    }

    /// One session is gone, and `open` are there, as `is_open` tells.
    pub(super) fn forget(&mut self, open: usize, mut is_open: impl FnMut(SessionId) -> bool) {
        self.gone += 1;
        if self.gone <= open.max(FEW) {
            return;
        }
        self.gone = 0;
        for deadlines in [&mut self.pings, &mut self.lingering] {
            deadlines.retain(|deadline| is_open(deadline.session));
            deadlines.shrink_to(2 * deadlines.len());
        }
        for deadlines in [&mut self.lags, &mut self.expiries] {
            deadlines.retain(|deadline| is_open(deadline.session));
        }
        for deadlines in [&mut self.pongs, &mut self.verdicts, &mut self.reprieved] {
            deadlines.retain(|(deadline, _)| is_open(deadline.session));
            deadlines.shrink_to(2 * deadlines.len());
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        let plain = [self.pings.front(), self.lags.first(), self.lingering.front(), self.expiries.first()];
        let asked =
            [&self.pongs, &self.verdicts, &self.reprieved].map(|next| next.front().map(|(deadline, _)| deadline));
        let next = plain.into_iter().chain(asked).flatten().map(|deadline| deadline.at).min()?;
        Some(self.origin + Duration::from_micros(next))
    }

    /// Something that is due by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(SessionId, Due)> {
        let time = self.micros(now);
        if let Some(Deadline { session, .. }) = self.pings.pop_front_if(|ping| ping.at <= time) {
            return Some((session, Due::Ping));
        }
        while let Some((Deadline { session, .. }, ping)) = self.pongs.pop_front_if(|(pong, _)| pong.at <= time) {
            self.verdicts.push_back((self.deadline(now + GRACE, session), ping));
        }
        let late = LATE.as_micros() as u64;
        while let Some((Deadline { session, at }, ping)) = self.verdicts.pop_front_if(|(end, _)| end.at <= time) {
            if time - at < late {
                return Some((session, Due::Pong(ping)));
            }
            self.reprieved.push_back((self.deadline(now + REPRIEVE, session), ping));
        }
        if let Some((Deadline { session, .. }, ping)) = self.reprieved.pop_front_if(|(end, _)| end.at <= time) {
            return Some((session, Due::Pong(ping)));
        }
        if self.lags.first().is_some_and(|lag| lag.at <= time) {
            let Deadline { session, .. } = self.lags.pop_first()?;
            return Some((session, Due::Lag));
        }
        if self.expiries.first().is_some_and(|end| end.at <= time) {
            let Deadline { session, .. } = self.expiries.pop_first()?;
            return Some((session, Due::Expiry));
        }
        let Deadline { session, .. } = self.lingering.pop_front_if(|end| end.at <= time)?;
        Some((session, Due::Linger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_expire_in_their_own_order() {
        let mut heartbeat = Heartbeat::new(Duration::ZERO, Duration::from_secs(10));
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let session = |number| SessionId { slot: 0, number };
        for number in [3, 1, 2] {
            heartbeat.expect_expiry(now + second * number, session(number));
        }
        let soon = |heartbeat: &Heartbeat| heartbeat.next().map(|next| next.duration_since(now).as_secs_f64().round());
        assert_eq!((heartbeat.pop(now), soon(&heartbeat)), (None, Some(1.0)));
        assert_eq!(heartbeat.pop(now + second * 2), Some((session(1), Due::Expiry)));
        assert_eq!(heartbeat.pop(now + second * 2), Some((session(2), Due::Expiry)));
        assert_eq!((heartbeat.pop(now + second * 2), soon(&heartbeat)), (None, Some(3.0)));
        for _ in 0..=FEW {
            heartbeat.forget(0, |_| false);
        }
        assert_eq!(heartbeat.next(), None);
    }

    #[test]
    fn deadlines_of_the_gone_are_thrown_away() {
        let mut heartbeat = Heartbeat::new(Duration::from_secs(30), Duration::from_secs(10));
        let now = Instant::now();
        let session = |number| SessionId { slot: 0, number };
        for number in 0..100 {
            heartbeat.expect_ping(now, session(number));
            heartbeat.expect_pong(now, session(number), 1);
        }
        for number in 0..90 {
            heartbeat.forget(99 - number as usize, |session| session.number > number);
        }
        assert!(heartbeat.pings.len() <= 10 + FEW && heartbeat.pongs.len() <= 10 + FEW);
        let due = |heartbeat: &mut Heartbeat| heartbeat.pop(now + Duration::from_secs(30));
        let last: Vec<_> = std::iter::from_fn(|| due(&mut heartbeat)).map(|(session, _)| session.number).collect();
        assert!(last.ends_with(&Vec::from_iter(90..100)), "{last:?}");
    }
}
