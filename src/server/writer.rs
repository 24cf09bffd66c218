//! The writer: one task that serves all sessions of one shard.
//!
//! It sleeps until the shard is woken (something was published, a socket can go on, somebody
//! arrived) or a deadline comes. Then it goes its rounds with what was published, and visits the
//! sessions whose sockets were marked. Neither ever waits: a socket that takes nothing marks its
//! session again when it does.

use std::sync::Arc;

use crossbeam_queue::SegQueue;
use tokio::sync::watch;
use tokio::time::Instant;

use super::clients::Clients;
use super::disconnect::Disconnect;
use super::drain::{Drain, Farewell};
use super::heartbeat::Heartbeat;
use super::session::{Arrival, Connection, Session, Visit};
use crate::config::{Config, WsConfig};
use crate::fanout::{Hub, Rounds, Shard};

/// Clients served before it is others' turn: at some microseconds each, well under a millisecond.
const VISITS_PER_TURN: usize = 64;
/// Bytes sent and read before it is others' turn: some ten microseconds, or half a millisecond of the smallest
/// frames clients may send. Clients of large messages would keep those of small ones waiting otherwise, and
/// clients that flood would keep everybody.
const BYTES_PER_TURN: u64 = 256 << 10;

/// Whether the server serves or drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Until then, clients may read what their rings hold. Handshakes under way may still add some.
    Draining(Farewell),
    /// The same, and nobody comes any more.
    Closing(Farewell),
}

/// Where the handshake hands connections over to a writer.
#[derive(Debug)]
pub(super) struct Entrance<S> {
    shard: Arc<Shard>,
    arrivals: SegQueue<Arrival<S>>,
}

impl<S> Entrance<S> {
    pub(super) fn new(shard: Arc<Shard>) -> Self {
        Self { shard, arrivals: SegQueue::new() }
    }

    pub(super) fn admit(&self, arrival: Arrival<S>) {
        self.arrivals.push(arrival);
        self.shard.wake();
    }
}

/// The sessions of one shard.
#[derive(Debug)]
pub(super) struct Writer<S> {
    hub: Hub,
    entrance: Arc<Entrance<S>>,
    config: WsConfig,
    phase: watch::Receiver<Phase>,
    draining: Option<Drain>,
    /// The time to drain is over, and everybody was told.
    ended: bool,
    /// Nobody comes any more.
    closing: bool,
    rounds: Rounds,
    clients: Clients<S>,
    /// Slots of those to be visited.
    marked: Vec<usize>,
    next_number: u32,
    heartbeat: Heartbeat,
}

impl<S: Connection> Writer<S> {
    pub(super) fn new(hub: Hub, entrance: Arc<Entrance<S>>, config: &Config, phase: watch::Receiver<Phase>) -> Self {
        Self {
            rounds: hub.rounds(&entrance.shard),
            clients: Clients::new(Arc::clone(entrance.shard.counters()), config),
            hub,
            entrance,
            heartbeat: Heartbeat::new(config.ws.heartbeat_interval, config.ws.heartbeat_timeout),
            config: config.ws.clone(),
            phase,
            draining: None,
            ended: false,
            closing: false,
            marked: Vec::new(),
            next_number: 0,
        }
    }

    /// Serves until the server drains and every session is over. Turns are bounded before the thread
    /// is yielded, so tokio's own budget, which counts each client served, is off.
    pub(super) async fn run(self) {
        tokio::task::coop::unconstrained(self.serve()).await;
    }

    async fn serve(mut self) {
        let shard = Arc::clone(&self.entrance.shard);
        let timer = tokio::time::sleep_until(Instant::now());
        tokio::pin!(timer);
        let (mut visits, mut enough) = (0, BYTES_PER_TURN);
        loop {
            // Nobody may be left to change it any more; the last change would be waited for, and come, again and again.
            if self.phase.has_changed().unwrap_or(true) {
                self.enter_phase();
            }
            self.rounds.collect();
            let served = self.welcome() + self.meet_deadlines() + self.visit_marked() + self.go_round();
            if self.is_finished() {
                return;
            }
            if served > 0 {
                visits += served;
                // Not each time: a worker that only yields wakes another one, which finds nothing.
                if visits >= VISITS_PER_TURN || self.clients.bytes_moved() >= enough {
                    tokio::task::yield_now().await;
                    (visits, enough) = (0, self.clients.bytes_moved() + BYTES_PER_TURN);
                }
                continue;
            }
            let next = self.next_deadline();
            if let Some(next) = next {
                timer.as_mut().reset(next);
            }
            tokio::select! {
                () = shard.wait() => {}
                // A deadline that has passed must not keep the thread.
                () = &mut timer, if next.is_some() => tokio::task::yield_now().await,
                Ok(()) = self.phase.changed() => self.phase.mark_changed(),
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.closing && self.clients.open() == 0 && self.entrance.arrivals.is_empty()
    }

    /// Takes in who arrived; returns how many.
    fn welcome(&mut self) -> usize {
        let mut welcomed = 0;
        while welcomed < VISITS_PER_TURN
            && let Some(arrival) = self.entrance.arrivals.pop()
        {
            self.register(arrival);
            welcomed += 1;
        }
        welcomed
    }

    fn register(&mut self, arrival: Arrival<S>) {
        let Arrival { io, received, seat, membership, ticket, expires } = arrival;
        self.hub.metrics().connections_total.add(1);
        let slot = seat.slot();
        self.next_number = self.next_number.wrapping_add(1);
        let mut session = Session::new(io, ticket, seat, self.next_number);
        session.receive(&mut Vec::from(received), self.clients.allowance());
        let registered = self.rounds.register(slot, membership);
        session.place = registered.as_ref().map(|(place, _)| *place);
        if self.draining.is_none() {
            self.heartbeat.expect_ping(Instant::now(), session.id());
            if let Some(end) = expires {
                self.heartbeat.expect_expiry(end, session.id());
            }
        }
        self.clients.insert(slot, session);
        let last = registered.and_then(|(_, last)| last);
        let visit = self.clients.serve(slot, |session, desk| session.offer(last.iter(), 0, desk));
        self.conclude(slot, visit);
        self.catch_up(slot);
        if let Some(end) = self.draining.as_ref().map(|drain| drain.farewell.how.end()) {
            self.drain(slot, end);
        }
        // Marks from before it was here found nobody.
        self.visit(slot);
        if self.ended {
            self.finish(slot);
        }
    }

    /// Offers a client what its channel has published and its round has not brought it.
    fn catch_up(&mut self, slot: usize) {
        let place = self.clients.get(slot).and_then(|session| session.place);
        if let Some(delivery) = place.and_then(|place| self.rounds.catch_up(place)) {
            let visit = self.clients.offer(&delivery);
            self.conclude(slot, visit);
        }
    }

    /// Visits a bounded number of sessions whose sockets can go on; returns how many.
    fn visit_marked(&mut self) -> usize {
        if self.marked.is_empty() {
            self.entrance.shard.take_marked(&mut self.marked);
        }
        let (mut visited, enough) = (0, self.clients.bytes_moved() + BYTES_PER_TURN);
        while visited < VISITS_PER_TURN
            && self.clients.bytes_moved() < enough
            && let Some(slot) = self.marked.pop()
        {
            self.visit(slot);
            visited += 1;
        }
        visited
    }

    /// Serves a bounded number of clients with what was published; returns how many.
    fn go_round(&mut self) -> usize {
        let (mut served, enough) = (0, self.clients.bytes_moved() + BYTES_PER_TURN);
        while served < VISITS_PER_TURN
            && self.clients.bytes_moved() < enough
            && let Some(delivery) = self.rounds.next_delivery()
        {
            let slot = delivery.slot;
            let visit = self.clients.offer(&delivery);
            self.conclude(slot, visit);
            served += 1;
        }
        self.rounds.others();
        served
    }

    /// Reads and sends for one session.
    fn visit(&mut self, slot: usize) {
        let visit = self.clients.serve(slot, |session, desk| session.visit(desk));
        self.conclude(slot, visit);
    }

    fn conclude(&mut self, slot: usize, visit: Visit) {
        match visit {
            Visit::Open | Visit::Closing => {}
            Visit::Lags => self.watch(slot),
            Visit::Closed => {
                self.leave(slot);
                if let Some(session) = self.clients.get(slot) {
                    self.heartbeat.expect_end(Instant::now(), session.id());
                }
            }
            Visit::Over => self.finish(slot),
        }
    }

    /// Takes a session out of the rounds.
    fn leave(&mut self, slot: usize) {
        if let Some(place) = self.clients.get(slot).and_then(|session| session.place.take()) {
            self.rounds.deregister(place, |slot, place| {
                if let Some(session) = self.clients.get(slot) {
                    session.place = Some(place);
                }
            });
        }
    }

    fn finish(&mut self, slot: usize) {
        self.leave(slot);
        if let Some(session) = self.clients.remove(slot) {
            // Counted before the peer can see the end.
            self.hub.metrics().disconnects.add(session.end().unwrap_or(Disconnect::Gone).reason());
            session.finish();
            let Self { clients, heartbeat, .. } = self;
            heartbeat.forget(clients.open(), |id| clients.get(id.slot as usize).is_some_and(|other| other.id() == id));
        }
    }
}

mod deadlines;
#[cfg(test)]
mod tests;
