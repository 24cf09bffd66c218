//! A channel: one stream of messages to all who joined it. The hot path is [`Channel::publish`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::audience::Audience;
use super::shard::Shard;
use super::subscriber::Inbox;
use super::turn::{MAX_PENDING, Turn};
use super::{Frame, Message, SETS, frame};
use crate::metrics::{ChannelCounters, Counter, Histogram};

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
    /// Who has joined, in `SETS` parts. Touched in turn only, and `ArcSwap` because that needs no lock.
    sets: Box<[ArcSwap<Vec<Arc<Inbox>>>]>,
    /// What stands in for a set while it is changed.
    nobody: Arc<Vec<Arc<Inbox>>>,
    last: ArcSwapOption<frame::Inner>,
    accepted: Counter,
    seq: Sequence,
    audience: Audience,
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
            nobody,
            last: ArcSwapOption::empty(),
            accepted: Counter::default(),
            seq: Sequence::default(),
            audience: Audience::default(),
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
        self.0.audience.count()
    }

    /// The last message, as sent.
    pub fn last(&self) -> Option<Frame> {
        self.0.last.load_full().map(Frame::from_inner)
    }

    /// The last message's number; 0 before the first. What is accepted while another thread is
    /// inside the channel gets its number a moment later.
    pub fn seq(&self) -> u64 {
        self.0.seq.get()
    }

    /// How many messages were accepted, numbered yet or not.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.get()
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
    /// [`Busy`] when dozens of operations of others wait, which takes several threads
    /// publishing to one channel faster than it fans out.
    pub fn publish(&self, message: Message) -> Result<Published, Busy> {
        if self.0.turn.is_busy() {
            return Err(Busy);
        }
        let started = Instant::now();
        self.0.accepted.add(1);
        self.take_turn(Operation::Publish(message, started));
        self.0.publish_seconds.observe(started.elapsed());
        Ok(Published { subscribers: self.subscribers() })
    }

    /// Says whether newer content exists than the last message, for a publisher that publishes on
    /// demand while nobody listens.
    pub fn set_stale(&self, stale: bool) {
        self.0.audience.set_stale(stale);
    }

    /// Whether the last message is known to be outdated.
    pub fn is_stale(&self) -> bool {
        self.0.audience.is_stale()
    }

    /// Asks the publisher on demand for what is newer than the last message, if anything is.
    pub fn ask(&self) {
        self.0.audience.ask();
    }

    /// Waits until somebody joins or asks while the channel is stale.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wanted(&self) {
        self.0.audience.wanted().await;
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
        let mut wake = WakeOnce::default();
        for set in &self.0.sets {
            let inboxes = set.load();
            if !inboxes.is_empty() {
                self.0.counters.pushed.add(inboxes.len() as u64);
                push_to_all(&inboxes, &frame, &mut wake);
            }
        }
        drop(wake);
        self.0.seq.set(seq);
    }

    /// In turn: the last message, then membership; nothing can be published between the two.
    fn add(&self, inbox: Arc<Inbox>) {
        if let Some(last) = self.last() {
            self.0.counters.pushed.add(1);
            inbox.push(last);
            inbox.mark();
        }
        self.change(inbox.set, |inboxes| inboxes.push(inbox));
        self.0.audience.join();
    }

    /// In turn: after this nobody pushes to `inbox` on behalf of this channel.
    fn remove(&self, inbox: &Arc<Inbox>) {
        self.change(inbox.set, |inboxes| {
            if let Some(index) = inboxes.iter().position(|other| Arc::ptr_eq(other, inbox)) {
                // In order: neighbours in a shard stay neighbours here, so that they are marked together.
                inboxes.remove(index);
            }
            // What a crowd needed is given back when it has gone.
            if inboxes.len() < inboxes.capacity() / 4 {
                inboxes.shrink_to(2 * inboxes.len());
            }
        });
        self.0.audience.leave();
        inbox.release();
    }

    /// In turn: changes a set in place. A copy would count a reference up and another down for each of its
    /// subscribers, which lie all over memory.
    fn change(&self, set: usize, change: impl FnOnce(&mut Vec<Arc<Inbox>>)) {
        let set = &self.0.sets[set];
        // Taken out it has no other holder, unless it is `nobody` itself.
        let mut inboxes = set.swap(Arc::clone(&self.0.nobody));
        change(Arc::make_mut(&mut inboxes));
        set.store(inboxes);
    }
}

/// Pushes one reference each and marks the slots: neighbours in one word of a shard's ready set
/// are marked together.
fn push_to_all(inboxes: &[Arc<Inbox>], frame: &Frame, wake: &mut WakeOnce) {
    let mut inboxes = inboxes.iter().peekable();
    let mut marks = 0;
    while let Some(inbox) = inboxes.next() {
        inbox.push(frame.clone());
        let (word, bit) = inbox.word();
        marks |= bit;
        let next = inboxes.peek();
        if next.is_none_or(|next| next.word().0 != word || !Arc::ptr_eq(&next.shard, &inbox.shard)) {
            inbox.shard.mark_word(word, marks);
            wake.after(&inbox.shard);
            marks = 0;
        }
    }
}

/// Wakes a shard when all of its rings have the frame: a shard's sets are neighbours, so that is
/// when the next shard begins.
#[derive(Default)]
struct WakeOnce(Option<Arc<Shard>>);

impl WakeOnce {
    fn after(&mut self, shard: &Arc<Shard>) {
        if !self.0.as_ref().is_some_and(|marked| Arc::ptr_eq(marked, shard))
            && let Some(complete) = self.0.replace(Arc::clone(shard))
        {
            complete.wake();
        }
    }
}

impl Drop for WakeOnce {
    fn drop(&mut self) {
        if let Some(complete) = self.0.take() {
            complete.wake();
        }
    }
}

/// The last message's number, written in turn only. Set with release when the message is in all
/// rings: who acquires it finds the message there.
#[derive(Debug, Default)]
struct Sequence(AtomicU64);

impl Sequence {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, seq: u64) {
        self.0.store(seq, Ordering::Release);
    }
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Channel {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::{Hub, HubConfig, Subscriber};

    /// Subscribers of one set, joined in order.
    fn joined(count: usize) -> (Channel, Vec<Subscriber>) {
        let hub = Hub::new(HubConfig::default());
        let (channel, shard) = (hub.channel("test").expect("a name"), hub.add_shard());
        let mut subscribers: Vec<_> = (0..count).map(|slot| hub.subscriber(&shard, slot)).collect();
        subscribers.iter_mut().for_each(|subscriber| subscriber.join(&channel));
        (channel, subscribers)
    }

    fn members(channel: &Channel) -> Arc<Vec<Arc<Inbox>>> {
        channel.0.sets.iter().map(ArcSwap::load_full).find(|set| !set.is_empty()).unwrap_or_default()
    }

    #[test]
    fn a_set_is_changed_in_place_and_keeps_its_order() {
        let (channel, mut subscribers) = joined(5);
        let before = Arc::as_ptr(&members(&channel));
        subscribers.remove(1);
        assert_eq!(Arc::as_ptr(&members(&channel)), before, "not a copy");
        let words: Vec<_> = members(&channel).iter().map(|inbox| inbox.word()).collect();
        assert_eq!(words, [(0, 1), (0, 4), (0, 8), (0, 16)]);
        channel.publish(Message::text("to all that stayed")).expect("nobody else publishes");
        assert!(subscribers.iter().all(|subscriber| subscriber.pop().is_some()));
        assert_eq!(channel.subscribers(), 4);
    }

    #[test]
    fn a_set_that_somebody_holds_is_not_changed_under_them() {
        let (channel, mut subscribers) = joined(2);
        let held = members(&channel);
        subscribers.pop();
        assert_eq!((held.len(), members(&channel).len()), (2, 1));
    }

    #[test]
    fn a_set_gives_back_what_a_crowd_needed() {
        let (channel, mut subscribers) = joined(64);
        subscribers.truncate(2);
        assert!(members(&channel).capacity() <= 8, "{}", members(&channel).capacity());
    }
}
