//! The writer: one task that serves all sessions of one shard.
//!
//! It sleeps until the shard is woken (something was published, a socket can go on, somebody
//! arrived) or a deadline comes, then visits the marked sessions and nobody else. A visit never
//! waits: a socket that takes nothing marks its session again when it does.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_queue::SegQueue;
use tokio::sync::watch;
use tokio::time::Instant;

use super::disconnect::Disconnect;
use super::heartbeat::{Due, Heartbeat, SessionId};
use super::outbox::Batch;
use super::session::{Arrival, Connection, Session, Visit};
use crate::config::WsConfig;
use crate::fanout::{Frame, Hub, Shard};

/// Visits before the thread is offered to others: at some microseconds each, well under a
/// millisecond.
const VISITS_PER_TURN: usize = 64;
/// Read of a client at a time. Shared by all clients of a shard, so it costs nothing idle.
const READ_BUFFER: usize = 16 << 10;

/// Whether the server serves or drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Until then, clients may read what their rings hold. Handshakes under way may still add some.
    Draining(Instant),
    /// The same, and nobody comes any more.
    Closing(Instant),
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
    draining: Option<Instant>,
    /// The time to drain is over, and everybody was told.
    ended: bool,
    /// Nobody comes any more.
    closing: bool,
    /// By slot, each with a number no other session ever has.
    sessions: Vec<Option<(u64, Session<S>)>>,
    open: usize,
    next_number: u64,
    heartbeat: Heartbeat,
    scratch: Box<[u8]>,
    frames: VecDeque<Frame>,
}

impl<S: Connection> Writer<S> {
    pub(super) fn new(hub: Hub, entrance: Arc<Entrance<S>>, config: WsConfig, phase: watch::Receiver<Phase>) -> Self {
        Self {
            hub,
            entrance,
            heartbeat: Heartbeat::new(config.heartbeat_interval, config.heartbeat_timeout),
            config,
            phase,
            draining: None,
            ended: false,
            closing: false,
            sessions: Vec::new(),
            open: 0,
            next_number: 0,
            scratch: vec![0; READ_BUFFER].into(),
            frames: VecDeque::new(),
        }
    }

    /// Serves until the server drains and every session is over. Visits are bounded in number
    /// before the thread is yielded, so tokio's own budget, which counts each of them, is off.
    pub(super) async fn run(self) {
        tokio::task::coop::unconstrained(self.serve()).await;
    }

    async fn serve(mut self) {
        let shard = Arc::clone(&self.entrance.shard);
        let mut ready = Vec::new();
        let timer = tokio::time::sleep_until(Instant::now());
        tokio::pin!(timer);
        loop {
            if self.phase.has_changed().unwrap_or(false) {
                self.enter_phase();
            }
            shard.begin_pass();
            shard.take_ready(&mut ready);
            let mut visits = self.welcome() + self.meet_deadlines();
            for slot in ready.drain(..) {
                self.visit(slot);
                visits += 1;
                if visits.is_multiple_of(VISITS_PER_TURN) {
                    tokio::task::yield_now().await;
                }
            }
            shard.end_pass();
            if self.is_finished() {
                return;
            }
            if visits > 0 {
                tokio::task::yield_now().await;
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

    fn next_deadline(&self) -> Option<Instant> {
        let drained = self.draining.filter(|_| !self.ended);
        self.heartbeat.next().into_iter().chain(drained).min()
    }

    fn is_finished(&self) -> bool {
        self.closing && self.open == 0 && self.entrance.arrivals.is_empty()
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
        let Arrival { io, received, seat, peer } = arrival;
        self.hub.metrics().connections_total.add(1);
        let (slot, number) = (seat.slot(), self.next_number);
        self.next_number += 1;
        let mut session = Session::new(io, peer, seat, self.config.max_message_size);
        if self.draining.is_some() {
            session.drain(Disconnect::Shutdown);
        } else {
            self.heartbeat.expect_ping(Instant::now(), SessionId { slot, number });
        }
        session.receive(&mut Vec::from(received));
        if self.sessions.len() <= slot {
            self.sessions.resize_with(slot + 1, || None);
        }
        self.sessions[slot] = Some((number, session));
        self.open += 1;
        // Marks from before it was here found nobody.
        self.visit(slot);
        if self.ended {
            self.finish(slot);
        }
    }

    fn session(&mut self, slot: usize) -> Option<&mut (u64, Session<S>)> {
        self.sessions.get_mut(slot)?.as_mut()
    }

    /// Meets a bounded number of deadlines that have come; returns how many.
    fn meet_deadlines(&mut self) -> usize {
        let now = Instant::now();
        if !self.ended && self.draining.is_some_and(|until| until <= now) {
            return self.end_all();
        }
        let mut met = 0;
        while met < VISITS_PER_TURN
            && let Some((id, due)) = self.heartbeat.pop(now)
        {
            self.meet(now, id, due);
            met += 1;
        }
        met
    }

    fn meet(&mut self, now: Instant, id: SessionId, due: Due) {
        let Some((_, session)) = self.session(id.slot).filter(|(number, _)| *number == id.number) else {
            return;
        };
        match due {
            Due::Ping => {
                if let Some(ping) = session.ping() {
                    self.heartbeat.expect_pong(now, id, ping);
                    self.heartbeat.expect_ping(now, id);
                    self.visit(id.slot);
                }
            }
            Due::Pong(ping) if session.end().is_none() && !session.has_answered(ping) => {
                // The peer may be gone: tell it if the socket takes that, and wait for nothing.
                session.close(Disconnect::Heartbeat);
                self.visit(id.slot);
                self.finish(id.slot);
            }
            Due::Pong(_) => {}
            Due::Linger => self.finish(id.slot),
        }
    }

    fn visit(&mut self, slot: usize) {
        let Some((number, session)) = self.sessions.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let counters = self.entrance.shard.counters();
        let mut batch = Batch { frames: &mut self.frames, counters, since: session.since() };
        match session.visit(&mut self.scratch, &mut batch) {
            Visit::Open | Visit::Closing => {}
            Visit::Closed => self.heartbeat.expect_end(Instant::now(), SessionId { slot, number: *number }),
            Visit::Over => self.finish(slot),
        }
    }

    fn finish(&mut self, slot: usize) {
        if let Some((_, session)) = self.sessions.get_mut(slot).and_then(Option::take) {
            self.open -= 1;
            // Counted before the peer can see the end.
            self.hub.metrics().disconnects.add(session.end().unwrap_or(Disconnect::Gone).reason());
            session.finish();
        }
    }

    /// The server drains: everybody gets what its ring holds, then a Close.
    fn enter_phase(&mut self) {
        let phase = *self.phase.borrow_and_update();
        self.closing = matches!(phase, Phase::Closing(_));
        if let (None, Phase::Draining(until) | Phase::Closing(until)) = (self.draining, phase) {
            self.draining = Some(until);
            for (_, session) in self.sessions.iter_mut().flatten() {
                session.drain(Disconnect::Shutdown);
                session.mark();
            }
        }
    }

    /// The time to drain is over: a Close to whoever still takes one, and the end.
    fn end_all(&mut self) -> usize {
        self.ended = true;
        let open = self.open;
        for slot in 0..self.sessions.len() {
            if let Some((_, session)) = self.session(slot) {
                session.close(Disconnect::Shutdown);
                self.visit(slot);
                self.finish(slot);
            }
        }
        open
    }
}
