//! How the server goes: at once, or spread over time so that not everybody comes back at the same moment.

use std::time::Duration;

use tokio::time::Instant;

use super::disconnect::Disconnect;
use super::heartbeat::SessionId;

/// Part of the time to drain in which the clients of a server that restarts are told. The last of
/// them have the rest to read what waits for them.
const TELLING: f64 = 0.8;

/// What the end of a server means to its clients. What the future given to
/// [`Server::run`](super::Server::run) completes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It goes away: everybody is told so at once, with Close 1001.
    GoingAway,
    /// Another one takes over: Close 1012 reaches the clients one after the other, in a random order
    /// spread over the time to drain, since all of them will connect again. Handshakes under way are
    /// completed, so that nobody who comes in between is refused.
    Restart,
}

impl From<()> for Shutdown {
    fn from((): ()) -> Self {
        Self::GoingAway
    }
}

impl Shutdown {
    pub(super) fn end(self) -> Disconnect {
        match self {
            Self::GoingAway => Disconnect::Shutdown,
            Self::Restart => Disconnect::Restart,
        }
    }
}

/// The end of a server: how, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    pub(super) how: Shutdown,
    pub(super) until: Instant,
}

/// Who of a shard is still to be told.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) farewell: Farewell,
    /// The next is the last.
    untold: Vec<(Instant, SessionId)>,
}

impl Drain {
    /// Begins now, with those that are there.
    pub(super) fn new(farewell: Farewell, mut sessions: Vec<SessionId>) -> Self {
        let now = Instant::now();
        let window = match farewell.how {
            Shutdown::GoingAway => Duration::ZERO,
            Shutdown::Restart => farewell.until.saturating_duration_since(now).mul_f64(TELLING),
        };
        fastrand::shuffle(&mut sessions);
        let count = sessions.len().max(1) as f64;
        // One in each of as many equal parts: evenly, and no two shards or servers in step.
        let moment = |place: usize| now + window.mul_f64((place as f64 + fastrand::f64()) / count);
        let untold = sessions.into_iter().enumerate().rev().map(|(place, session)| (moment(place), session)).collect();
        Self { farewell, untold }
    }

    /// When somebody is to be told next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.untold.last().map(|(at, _)| *at)
    }

    /// Somebody who is to be told by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<SessionId> {
        self.untold.pop_if(|(at, _)| *at <= now).map(|(_, session)| session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(count: u32) -> Vec<SessionId> {
        (0..count).map(|number| SessionId { slot: number, number }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_is_spread_evenly_and_at_random() {
        let until = Instant::now() + Duration::from_secs(10);
        let mut drain = Drain::new(Farewell { how: Shutdown::Restart, until }, sessions(1_000));
        let mut order = Vec::new();
        for tenth in 1..=10 {
            tokio::time::advance(Duration::from_millis(800)).await;
            let told: Vec<_> = std::iter::from_fn(|| drain.pop(Instant::now())).collect();
            assert!((99..=101).contains(&told.len()), "{} in part {tenth}", told.len());
            order.extend(told.iter().map(|session| session.number));
        }
        assert_eq!(drain.next(), None);
        assert!(!order.is_sorted(), "nobody is always first");
        order.sort_unstable();
        assert_eq!(order, Vec::from_iter(0..1_000), "everybody, once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_says_so_at_once() {
        let until = Instant::now() + Duration::from_secs(10);
        let mut drain = Drain::new(Farewell { how: Shutdown::GoingAway, until }, sessions(10));
        assert_eq!(std::iter::from_fn(|| drain.pop(Instant::now())).count(), 10);
    }
}
