//! The clients of one shard, by slot, and what they share.

use std::sync::Arc;

use super::allowance::Allowance;
use super::heartbeat::SessionId;
use super::session::{Connection, Desk, Session, Visit};
use crate::config::Config;
use crate::fanout::Delivery;
use crate::metrics::ShardCounters;

/// Read of a client at a time. Shared by all clients of a shard, so it costs nothing idle.
const READ_BUFFER: usize = 16 << 10;

/// Sessions by slot.
#[derive(Debug)]
pub(super) struct Clients<S> {
    sessions: Vec<Option<Box<Session<S>>>>,
    open: usize,
    counters: Arc<ShardCounters>,
    scratch: Box<[u8]>,
    bytes_read: u64,
    queue_size: usize,
    allowance: Allowance,
}

impl<S: Connection> Clients<S> {
    pub(super) fn new(counters: Arc<ShardCounters>, config: &Config) -> Self {
        Self {
            sessions: Vec::new(),
            open: 0,
            counters,
            scratch: vec![0; READ_BUFFER].into(),
            bytes_read: 0,
            queue_size: config.ws.queue_size,
            allowance: Allowance::new(config.ws.max_message_size, config.limits.messages_per_second),
        }
    }

    /// How much each may say.
    pub(super) fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Bytes sent to them and read of them, those before them included.
    pub(super) fn bytes_moved(&self) -> u64 {
        self.counters.bytes_sent.get() + self.bytes_read
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = usize> {
        self.sessions.iter().enumerate().filter_map(|(slot, session)| session.as_ref().map(|_| slot))
    }

    pub(super) fn ids(&self) -> Vec<SessionId> {
        self.sessions.iter().flatten().map(|session| session.id()).collect()
    }

    pub(super) fn get(&mut self, slot: usize) -> Option<&mut Session<S>> {
        self.sessions.get_mut(slot)?.as_deref_mut()
    }

    pub(super) fn insert(&mut self, slot: usize, session: Session<S>) {
        if self.sessions.len() <= slot {
            self.sessions.resize_with(slot + 1, || None);
        }
        self.sessions[slot] = Some(Box::new(session));
        self.open += 1;
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<Box<Session<S>>> {
        let session = self.sessions.get_mut(slot)?.take()?;
        self.open -= 1;
        Some(session)
    }

    /// Offers a client what its channel has for it.
    pub(super) fn offer(&mut self, delivery: &Delivery<'_>) -> Visit {
        let Delivery { slot, lost, frames } = *delivery;
        self.serve(slot, |session, desk| session.offer(frames.iter(), lost, desk))
    }

    /// Serves a client with what all of them share.
    pub(super) fn serve(&mut self, slot: usize, serve: impl FnOnce(&mut Session<S>, &mut Desk<'_>) -> Visit) -> Visit {
        let Some(Some(session)) = self.sessions.get_mut(slot) else {
            return Visit::Open;
        };
        let mut desk = Desk {
            counters: &self.counters,
            scratch: &mut self.scratch,
            bytes_read: &mut self.bytes_read,
            queue_size: self.queue_size,
            allowance: self.allowance,
        };
        serve(session, &mut desk)
    }
}
