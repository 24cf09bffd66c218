//! What a writer does because time has passed: heartbeats, lag, tokens that expire, the end of the server.

use tokio::time::Instant;

use super::{Phase, VISITS_PER_TURN, Writer};
use crate::server::disconnect::Disconnect;
use crate::server::drain::Drain;
use crate::server::heartbeat::{Due, SessionId};
use crate::server::session::Connection;

impl<S: Connection> Writer<S> {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let drain = self.draining.as_ref().filter(|_| !self.ended);
        let farewells = drain.into_iter().flat_map(|drain| drain.next().into_iter().chain([drain.farewell.until]));
        self.heartbeat.next().into_iter().chain(farewells).min()
    }

    /// Meets a bounded number of deadlines that have come; returns how many.
    pub(super) fn meet_deadlines(&mut self) -> usize {
        let now = Instant::now();
        if let Some(drain) = self.draining.as_ref().filter(|_| !self.ended)
            && drain.farewell.until <= now
        {
            return self.end_all(drain.farewell.how.end());
        }
        let mut met = self.say_farewell(now);
        while met < VISITS_PER_TURN
            && let Some((id, due)) = self.heartbeat.pop(now)
        {
            self.meet(now, id, due);
            met += 1;
        }
        met
    }

    /// Tells a bounded number of clients that the server goes; returns how many.
    fn say_farewell(&mut self, now: Instant) -> usize {
        let mut told = 0;
        while told < VISITS_PER_TURN
            && let Some(drain) = &mut self.draining
            && let Some(id) = drain.pop(now)
        {
            let (slot, end) = (id.slot as usize, drain.farewell.how.end());
            if self.clients.get(slot).is_some_and(|session| session.id() == id) {
                self.drain(slot, end);
                self.visit(slot);
            }
            told += 1;
        }
        told
    }

    fn meet(&mut self, now: Instant, id: SessionId, due: Due) {
        let slot = id.slot as usize;
        let Some(session) = self.clients.get(slot).filter(|session| session.id() == id) else {
            return;
        };
        match due {
            Due::Ping => {
                if let Some(ping) = session.ping() {
                    self.heartbeat.expect_pong(now, id, ping);
                    self.heartbeat.expect_ping(now, id);
                    self.visit(slot);
                }
            }
            Due::Pong(ping) if session.end().is_none() && !session.has_answered(ping) => {
                // It may have come, and its turn not yet.
                self.visit(slot);
                if let Some(session) = self.clients.get(slot).filter(|session| session.id() == id)
                    && session.end().is_none()
                    && !session.has_answered(ping)
                {
                    self.cut(slot, Disconnect::Heartbeat);
                }
            }
            Due::Pong(_) => {}
            Due::Lag => self.check_lag(now, id),
            Due::Linger => self.finish(slot),
            Due::Expiry => {
                session.close(Disconnect::Expired);
                self.visit(slot);
            }
        }
    }

    fn check_lag(&mut self, now: Instant, id: SessionId) {
        let slot = id.slot as usize;
        self.visit(slot);
        let Some(session) = self.clients.get(slot).filter(|session| session.id() == id) else {
            return;
        };
        match session.check_lag(now, &self.config) {
            Ok(next) => next.into_iter().for_each(|at| self.heartbeat.expect_progress(at, id)),
            Err(Disconnect::Stalled) => self.cut(slot, Disconnect::Stalled),
            Err(end) => {
                session.close(end);
                self.visit(slot);
            }
        }
    }

    /// Ends a session whose peer may be gone: tells it if the socket takes that, and waits for nothing.
    fn cut(&mut self, slot: usize, end: Disconnect) {
        if let Some(session) = self.clients.get(slot) {
            session.close(end);
        }
        self.visit(slot);
        self.finish(slot);
    }

    /// A client lags: from now on somebody looks whether it still does.
    pub(super) fn watch(&mut self, slot: usize) {
        let Self { clients, heartbeat, config, .. } = self;
        let now = Instant::now();
        if let Some(session) = clients.get(slot)
            // If it lags too long already, that is found when its turn comes.
            && let Some(at) = session.check_lag(now, config).unwrap_or(Some(now))
        {
            heartbeat.expect_progress(at, session.id());
        }
    }

    /// The server drains.
    pub(super) fn enter_phase(&mut self) {
        let phase = *self.phase.borrow_and_update();
        self.closing = matches!(phase, Phase::Closing(_));
        if let (None, Phase::Draining(farewell) | Phase::Closing(farewell)) = (&self.draining, phase) {
            self.draining = Some(Drain::new(farewell, self.clients.ids()));
        }
    }

    /// The server drains: this client gets what its channel has for it, then a Close.
    pub(super) fn drain(&mut self, slot: usize, end: Disconnect) {
        self.catch_up(slot);
        let Some(session) = self.clients.get(slot).filter(|session| session.place.is_some()) else {
            return;
        };
        session.drain(end);
        self.leave(slot);
    }

    /// The time to drain is over: a Close to whoever still takes one, and the end.
    pub(super) fn end_all(&mut self, end: Disconnect) -> usize {
        self.ended = true;
        let slots: Vec<_> = self.clients.slots().collect();
        slots.iter().for_each(|slot| self.cut(*slot, end));
        slots.len()
    }
}
