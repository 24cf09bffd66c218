//! A channel: one stream of messages to all who joined it. The hot path is [`Channel::publish`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use super::subscriber::Inbox;
use super::turn::{MAX_PENDING, Turn};
use super::{Frame, Message, SETS, frame};
use crate::metrics::{ChannelCounters, Histogram};

/// One stream of messages. A clone is another handle on the same channel.
///
/// # Order
/// Publications, joins and departures take turns: one order for all, in which messages are
/// numbered, framed and pushed. A subscriber gets the last message before its join, then every
/// later one: no hole, no repeat.
///
/// # Lagging
/// A full ring loses its oldest frame to the newest, counted; nobody waits for it.
#[derive(Clone, Debug)]
pub struct Channel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    turn: Turn<Operation>,
    /// Who has joined, in `SETS` parts so that a join copies a small one. Written in turn only,
    /// read by a publisher without any lock.
    sets: Box<[ArcSwap<Vec<Arc<Inbox>>>]>,
    last: ArcSwapOption<frame::Inner>,
    /// How many messages were accepted, in the order of nothing: relaxed, a count.
    accepted: AtomicU64,
    /// The last message's number. Written in turn only, released when the message is in all rings.
    seq: AtomicU64,
    subscribers: AtomicUsize,
    /// The publisher on demand has something newer than `last`. A hint, relaxed: `wanted` keeps
    /// its permit, so a join that comes too early for it is not lost but at most served later.
    stale: AtomicBool,
    wanted: Notify,
    counters: Arc<ChannelCounters>,
    publish_seconds: Arc<Histogram>,
}

#[derive(Debug)]
enum Operation {
    Publish(Message, Instant),
    Join(Arc<Inbox>),
    Leave(Arc<Inbox>),
}

/// What became of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// How many subscribers the channel has.
    pub subscribers: usize,
}

/// More publishers at once than the channel takes; the message was not accepted. Try again after
/// yielding the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many publishers of one channel at once: more than {MAX_PENDING} operations wait")]
pub struct Busy;

impl Channel {
    pub(super) fn new(name: &str, counters: Arc<ChannelCounters>, publish_seconds: Arc<Histogram>) -> Self {
        let nobody = Arc::new(Vec::new());
        Self(Arc::new(Inner {
            name: name.into(),
            turn: Turn::new(),
            sets: (0..SETS).map(|_| ArcSwap::new(Arc::clone(&nobody))).collect(),
            last: ArcSwapOption::empty(),
            accepted: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            subscribers: AtomicUsize::new(0),
            stale: AtomicBool::new(false),
            wanted: Notify::new(),
            counters,
            publish_seconds,
        }))
    }

    /// The channel's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many have joined.
    pub fn subscribers(&self) -> usize {
        self.0.subscribers.load(Ordering::Relaxed)
    }

    /// The last message, as sent.
    pub fn last(&self) -> Option<Frame> {
        self.0.last.load_full().map(Frame::from_inner)
    }

    /// The last message's number; 0 before the first. What is accepted while another thread is
    /// inside the channel gets its number a moment later.
    pub fn seq(&self) -> u64 {
        self.0.seq.load(Ordering::Acquire)
    }

    /// How many messages were accepted, numbered yet or not.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// What the channel has counted.
    pub fn counters(&self) -> &ChannelCounters {
        &self.0.counters
    }

    /// Publishes `message` to everybody who has joined.
    ///
    /// Takes no lock and waits for nobody. While another thread is inside the same channel the
    /// message is left with that thread, in order, and this call returns before it is pushed.
    ///
    /// # Errors
    /// [`Busy`] when more than a thousand operations of others wait, which takes several threads
    /// publishing to one channel faster than it fans out.
    pub fn publish(&self, message: Message) -> Result<Published, Busy> {
        if self.0.turn.is_busy() {
            return Err(Busy);
        }
        let started = Instant::now();
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        self.take_turn(Operation::Publish(message, started));
        self.0.publish_seconds.observe(started.elapsed());
        Ok(Published { subscribers: self.subscribers() })
    }

    /// Says whether newer content exists than the last message, for a publisher that publishes on
    /// demand while nobody listens.
    pub fn set_stale(&self, stale: bool) {
        self.0.stale.store(stale, Ordering::Relaxed);
    }

    /// Whether the last message is known to be outdated.
    pub fn is_stale(&self) -> bool {
        self.0.stale.load(Ordering::Relaxed)
    }

    /// Waits until somebody joins while the channel is stale.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    pub(super) fn enter(&self, inbox: &Arc<Inbox>) {
        self.take_turn(Operation::Join(Arc::clone(inbox)));
    }

    pub(super) fn exit(&self, inbox: &Arc<Inbox>) {
        self.take_turn(Operation::Leave(Arc::clone(inbox)));
    }

    fn take_turn(&self, operation: Operation) {
        self.0.turn.enter(operation, |operation| match operation {
            Operation::Publish(message, at) => self.fan_out(&message, at),
            Operation::Join(inbox) => self.add(inbox),
            Operation::Leave(inbox) => self.remove(&inbox),
        });
    }

    /// In turn: numbers, frames, and pushes to everybody.
    fn fan_out(&self, message: &Message, published: Instant) {
        let seq = self.seq() + 1;
        let frame = Frame::new(message, seq, published, Arc::clone(&self.0.counters));
        self.0.last.store(Some(frame.clone().into_inner()));
        self.0.counters.published.add(1);
        for set in &self.0.sets {
            let inboxes = set.load();
            if !inboxes.is_empty() {
                self.0.counters.pushed.add(inboxes.len() as u64);
                push_to_all(&inboxes, &frame);
            }
        }
        self.0.seq.store(seq, Ordering::Release);
    }

    /// In turn: the last message, then membership; nothing can be published between the two.
    fn add(&self, inbox: Arc<Inbox>) {
        if let Some(last) = self.last() {
            self.0.counters.pushed.add(1);
            inbox.push(last);
            inbox.mark();
        }
        let set = &self.0.sets[inbox.set];
        let mut inboxes = Vec::with_capacity(set.load().len() + 1);
        inboxes.extend(set.load().iter().cloned());
        inboxes.push(inbox);
        set.store(Arc::new(inboxes));
        self.0.subscribers.fetch_add(1, Ordering::Relaxed);
        if self.is_stale() {
            self.0.wanted.notify_one();
        }
    }

    /// In turn: after this nobody pushes to `inbox` on behalf of this channel.
    fn remove(&self, inbox: &Arc<Inbox>) {
        let set = &self.0.sets[inbox.set];
        let stay = set.load().iter().filter(|other| !Arc::ptr_eq(other, inbox)).cloned().collect();
        set.store(Arc::new(stay));
        self.0.subscribers.fetch_sub(1, Ordering::Relaxed);
        inbox.release();
    }
}

/// Pushes one reference each and marks the slots: neighbours in one word of a shard's ready set
/// are marked together, and a shard is woken once.
fn push_to_all(inboxes: &[Arc<Inbox>], frame: &Frame) {
    let mut inboxes = inboxes.iter().peekable();
    let mut marks = 0;
    while let Some(inbox) = inboxes.next() {
        inbox.push(frame.clone());
        let (word, bit) = inbox.word();
        marks |= bit;
        let next = inboxes.peek().filter(|next| Arc::ptr_eq(&next.shard, &inbox.shard));
        if next.is_none_or(|next| next.word().0 != word) {
            inbox.shard.mark_word(word, marks);
            marks = 0;
        }
        if next.is_none() {
            inbox.shard.wake();
        }
    }
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Channel {}
