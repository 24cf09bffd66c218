//! A channel: one stream of messages to all who joined it. The hot path is [`Channel::publish`].

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use super::audience::Audience;
use super::lane::{self, Lane};
use super::membership::{Joined, JoinedCell};
use super::numbers::Numbers;
use super::subscription::Inbox;
use super::sync::{ArcSwap, OnceLock, task};
use super::turn::{MAX_PENDING, Turn};
use super::{Frame, Membership, Message, Ring, Shard};
use crate::metrics::{ChannelCounters, Counter, Histogram};

/// One stream of messages. A clone is another handle on the same channel.
///
/// # Order
/// Publications, joins and departures take turns: one order for all, in which messages are
/// numbered, framed and pushed. Who joins gets the last message before that, then every later one: no
/// hole, no repeat.
///
/// # Lagging
/// A full ring loses its oldest frame to the newest, counted; nobody waits for it.
#[derive(Clone, Debug)]
pub struct Channel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    /// Frames a ring holds.
    queue_size: usize,
    turn: Turn<Operation>,
    /// The shards with clients in the channel. Changed in turn, and read by their owners at any time: one set
    /// follows another, with no moment between the two.
    lanes: ArcSwap<Vec<Arc<Lane>>>,
    /// The subscriptions inside the process. Touched in turn only, and `ArcSwap` because that needs no lock.
    inboxes: ArcSwap<Vec<Arc<Inbox>>>,
    /// The last message. Touched in turn only.
    last: Ring,
    accepted: Counter,
    numbers: Numbers,
    audience: Audience,
    counters: Arc<ChannelCounters>,
    publish_seconds: Arc<Histogram>,
}

#[derive(Debug)]
enum Operation {
    /// A message, and its number if another node has given it one.
    Publish(Message, Option<NonZeroU64>, Instant),
    Join(Arc<Shard>, Arc<JoinedCell>),
    /// A client leaves that had the messages before this position.
    Leave(Arc<Lane>, u64),
    /// A client leaves that no owner has taken over.
    Abandon(Arc<JoinedCell>),
    Subscribe(Arc<Inbox>),
    Unsubscribe(Arc<Inbox>),
    /// Somebody wants the last message.
    Look(Arc<OnceLock<Option<Frame>>>),
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
    pub(super) fn new(name: &str, queue_size: usize, publish_seconds: Arc<Histogram>) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            queue_size,
            turn: Turn::new(),
            lanes: ArcSwap::default(),
            inboxes: ArcSwap::default(),
            last: Ring::new(1),
            accepted: Counter::default(),
            numbers: Numbers::default(),
            audience: Audience::default(),
            counters: Arc::default(),
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

    /// The last message, as sent. Looking takes a turn, which is at once unless another thread is inside
    /// the channel.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn last(&self) -> Option<Frame> {
        let last = Arc::new(OnceLock::new());
        self.take_turn(Operation::Look(Arc::clone(&last)));
        loop {
            match last.get() {
                Some(last) => return last.clone(),
                None => task::yield_now().await,
            }
        }
    }

    /// The last message's number; 0 before the first. What is accepted while another thread is
    /// inside the channel gets its number a moment later.
    pub fn seq(&self) -> u64 {
        self.0.numbers.seq()
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
        self.accept(message, None)
    }

    /// Publishes a message that got its number `seq` elsewhere, for a task that carries a channel from
    /// one node to another and is the only one to publish in it here. Numbers between the last one and
    /// this are never used. `Ok(None)`: the channel is at `seq` already, or beyond it; the message was not
    /// accepted.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn relay(&self, message: Message, seq: u64) -> Result<Option<Published>, Busy> {
        match NonZeroU64::new(seq).filter(|seq| seq.get() > self.seq()) {
            Some(seq) => self.accept(message, Some(seq)).map(Some),
            None => Ok(None),
        }
    }

    fn accept(&self, message: Message, seq: Option<NonZeroU64>) -> Result<Published, Busy> {
        if self.0.turn.is_busy() {
            return Err(Busy);
        }
        let started = Instant::now();
        self.0.accepted.add(1);
        self.take_turn(Operation::Publish(message, seq, started));
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

    /// Joins on behalf of a client in `shard`, whose owner takes the membership over
    /// ([`Rounds::register`](super::Rounds::register)).
    pub fn join(&self, shard: &Arc<Shard>) -> Membership {
        Membership::new(self, shard)
    }

    /// Waits until what has been accepted is in the rings, and the owners of shards have offered it
    /// to everybody. A publisher of bursts that waits here now and then does not outrun them: a
    /// client whose socket takes what it is given loses nothing to the burst. A slow client does not
    /// prolong the wait.
    pub async fn offered(&self) {
        let accepted = self.accepted();
        while self.0.numbers.position() < accepted {
            task::yield_now().await;
        }
        for lane in self.0.lanes.load_full().iter() {
            lane.offered(accepted).await;
        }
    }

    /// The owner of one shard has taken its mark, and wakes the others.
    pub(super) fn pass_on(&self, woken: &Lane) {
        lane::wake_others(&self.0.lanes.load(), woken);
    }

    pub(super) fn enter(&self, shard: &Arc<Shard>, joined: &Arc<JoinedCell>) {
        self.take_turn(Operation::Join(Arc::clone(shard), Arc::clone(joined)));
    }

    pub(super) fn exit(&self, lane: Arc<Lane>, next: u64) {
        self.take_turn(Operation::Leave(lane, next));
    }

    pub(super) fn abandon(&self, joined: Arc<JoinedCell>) {
        self.take_turn(Operation::Abandon(joined));
    }

    pub(super) fn subscribe(&self, inbox: &Arc<Inbox>) {
        self.take_turn(Operation::Subscribe(Arc::clone(inbox)));
    }

    pub(super) fn unsubscribe(&self, inbox: &Arc<Inbox>) {
        self.take_turn(Operation::Unsubscribe(Arc::clone(inbox)));
    }

    fn take_turn(&self, operation: Operation) {
        self.0.turn.enter(operation, |operation| match operation {
            Operation::Publish(message, seq, at) => self.fan_out(message, seq, at),
            Operation::Join(shard, joined) => self.add_client(shard, &joined),
            Operation::Leave(lane, next) => self.remove_client(&lane, next),
            Operation::Abandon(joined) => {
                if let Some(Some(Joined { lane, first, next })) = joined.get() {
                    first.iter().for_each(Frame::count_discarded);
                    self.remove_client(lane, *next);
                }
            }
            Operation::Subscribe(inbox) => self.add_subscription(inbox),
            Operation::Unsubscribe(inbox) => self.remove_subscription(&inbox),
            // Set here and nowhere else.
            Operation::Look(last) => drop(last.set(self.newest())),
        });
    }

    /// In turn: numbers, frames, and pushes once for each shard and each subscription.
    fn fan_out(&self, message: Message, seq: Option<NonZeroU64>, published: Instant) {
        let (position, seq) = self.0.numbers.next(seq);
        let frame = Frame::at(position, message, seq, published, Arc::clone(&self.0.counters));
        drop(self.0.last.push(frame.clone()));
        self.0.counters.published.add(1);
        // The audience changes in turn too, so these are exactly those who are owed the frame.
        self.0.counters.pushed.add(self.subscribers() as u64);
        lane::push_to_all(&self.0.lanes.load(), &frame);
        self.0.inboxes.load().iter().for_each(|inbox| inbox.push(frame.clone()));
        self.0.numbers.set(position);
    }

    /// In turn: the last message.
    fn newest(&self) -> Option<Frame> {
        let newest = self.0.last.pop();
        newest.iter().for_each(|newest| drop(self.0.last.push(newest.clone())));
        newest
    }

    /// In turn: the last message, then membership; nothing can be published between the two.
    fn add_client(&self, shard: Arc<Shard>, joined: &JoinedCell) {
        let known = self.0.lanes.load().iter().find(|lane| lane.is_in(&shard)).cloned();
        let lane = known.or_else(|| {
            let lane = Arc::new(Lane::new(shard, self.0.queue_size)?);
            self.change_lanes(|lanes| lanes.push(Arc::clone(&lane)));
            Some(lane)
        });
        let membership = lane.map(|lane| {
            lane.join();
            self.0.audience.join();
            let first = self.newest();
            self.0.counters.pushed.add(first.iter().len() as u64);
            Joined { lane, first, next: self.0.numbers.position() + 1 }
        });
        // Set here and nowhere else.
        let _ = joined.set(membership);
    }

    /// In turn: what is not pushed by now is not owed.
    fn remove_client(&self, lane: &Arc<Lane>, next: u64) {
        self.0.counters.discarded.add(self.0.numbers.position() + 1 - next);
        self.0.audience.leave();
        if lane.leave() {
            self.change_lanes(|lanes| lanes.retain(|other| !Arc::ptr_eq(other, lane)));
        }
    }

    /// In turn, as [`Self::add_client`].
    fn add_subscription(&self, inbox: Arc<Inbox>) {
        if let Some(last) = self.newest() {
            self.0.counters.pushed.add(1);
            inbox.push(last);
        }
        self.0.audience.join();
        self.change_inboxes(|inboxes| inboxes.push(inbox));
    }

    /// In turn: after this nobody pushes to `inbox` on behalf of this channel.
    fn remove_subscription(&self, inbox: &Arc<Inbox>) {
        self.change_inboxes(|inboxes| {
            if let Some(index) = inboxes.iter().position(|other| Arc::ptr_eq(other, inbox)) {
                inboxes.swap_remove(index);
            }
            // What a crowd needed is given back when it has gone.
            if inboxes.len() < inboxes.capacity() / 4 {
                inboxes.shrink_to(2 * inboxes.len());
            }
        });
        self.0.audience.leave();
        inbox.release();
    }

    /// In turn. There are as many lanes as shards at most, so a copy costs little.
    fn change_lanes(&self, change: impl FnOnce(&mut Vec<Arc<Lane>>)) {
        let mut lanes = Vec::clone(&self.0.lanes.load());
        change(&mut lanes);
        self.0.lanes.store(Arc::new(lanes));
    }

    /// In turn: changes them in place. A copy would count a reference up and another down for each of them.
    fn change_inboxes(&self, change: impl FnOnce(&mut Vec<Arc<Inbox>>)) {
        // Taken out they have no other holder.
        let mut inboxes = self.0.inboxes.swap(Arc::default());
        change(Arc::make_mut(&mut inboxes));
        self.0.inboxes.store(inboxes);
    }
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Channel {}

#[cfg(test)]
#[path = "channel/tests.rs"]
mod tests;
