//! Owners and clients for the scenarios.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use loom::cell::UnsafeCell;

use super::super::{Channel, Delivery, Hub, HubConfig, Membership, Message, Place, Rounds, Shard};

/// What must not be touched by two at once: loom checks that each touch happens before the next.
#[derive(Default)]
pub(super) struct Alone(UnsafeCell<()>);

impl Alone {
    pub(super) fn touch(&self) {
        self.0.with_mut(drop);
    }
}

/// Unparks a thread.
struct Unpark(loom::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` on this thread. Who is never woken is a deadlock, and loom says so.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(loom::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => loom::thread::park(),
        }
    }
}

/// Polls `future` once and drops it, as an aborted task does.
pub(super) fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

pub(super) fn hub(queue_size: usize) -> (Hub, Channel) {
    let hub = Hub::new(HubConfig { queue_size, max_channels: 2, max_clients_per_shard: 64 });
    let channel = hub.channel("x").expect("a name");
    (hub, channel)
}

pub(super) fn publish(channel: &Channel) {
    channel.publish(Message::text("tick")).expect("few publish at once");
}

/// What a client got. It must get each message, or lose it, once and in order.
#[derive(Default)]
pub(super) struct Client {
    /// The number of the last message it has had.
    pub(super) had: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    /// Shares its memory with the frames.
    payloads: Vec<Bytes>,
}

impl Client {
    /// Whether nobody else has the first frame it got.
    pub(super) fn is_first_let_go(&self) -> bool {
        self.payloads[0].is_unique()
    }

    fn take(&mut self, delivery: &Delivery<'_>) {
        self.had += delivery.lost;
        self.lost += delivery.lost;
        for frame in delivery.frames {
            self.had += 1;
            assert_eq!(frame.seq(), self.had, "a hole or a repeat");
            self.received += 1;
            self.payloads.push(frame.payload());
        }
    }
}

/// The owner of a shard with one client at a time.
pub(super) struct Owner {
    pub(super) shard: Arc<Shard>,
    pub(super) rounds: Rounds,
    pub(super) client: Client,
    place: Option<Place>,
    /// Of those that have left.
    left: Vec<Client>,
}

impl Owner {
    pub(super) fn new(hub: &Hub) -> Self {
        let shard = hub.add_shard();
        let rounds = hub.rounds(&shard);
        Self { shard, rounds, client: Client::default(), place: None, left: Vec::new() }
    }

    /// An owner whose client is there before anything is published.
    pub(super) fn with_client(hub: &Hub, channel: &Channel) -> Self {
        let mut owner = Self::new(hub);
        let membership = channel.join(&owner.shard);
        owner.register(membership);
        owner
    }

    pub(super) fn register(&mut self, membership: Membership) {
        let slot = self.shard.claim().expect("room");
        let (place, first) = self.rounds.register(slot, membership).expect("it has joined");
        if let Some(first) = first {
            self.client.received += 1;
            self.client.had = first.seq();
            self.client.payloads.push(first.payload());
        }
        self.place = Some(place);
        if let Some(delivery) = self.rounds.catch_up(place) {
            self.client.take(&delivery);
        }
    }

    /// As a writer goes its rounds.
    pub(super) fn go_round(&mut self) {
        self.rounds.collect();
        while let Some(delivery) = self.rounds.next_delivery() {
            self.client.take(&delivery);
        }
    }

    /// Whether the client has not had all that was collected.
    pub(super) fn has_delivery(&mut self) -> bool {
        let Some(delivery) = self.rounds.next_delivery() else { return false };
        self.client.take(&delivery);
        true
    }

    /// Looks at everything before it sleeps again, until the client has had the messages up to `seq`.
    pub(super) fn serve(&mut self, seq: u64) {
        loop {
            self.go_round();
            if self.client.had >= seq {
                return;
            }
            block_on(self.shard.wait());
        }
    }

    pub(super) fn deregister(&mut self) {
        let place = self.place.take().expect("registered");
        self.rounds.deregister(place, |_, _| ());
        self.left.push(std::mem::take(&mut self.client));
    }
}

/// Everybody goes. What was owed is counted, each frame once, and nothing is kept.
pub(super) fn settle(hub: Hub, channels: Vec<Channel>, owners: Vec<Owner>) {
    let (mut shards, mut clients) = (Vec::new(), Vec::new());
    for Owner { shard, rounds, client, left, .. } in owners {
        drop(rounds);
        clients.push(client);
        clients.extend(left);
        shards.push(shard);
    }
    let received: u64 = clients.iter().map(|client| client.received).sum();
    let lost: u64 = clients.iter().map(|client| client.lost).sum();
    let count = |of: fn(&Channel) -> u64| channels.iter().map(of).sum::<u64>();
    assert_eq!(count(|channel| channel.subscribers() as u64), 0);
    assert_eq!(count(|channel| channel.counters().dropped.get()), lost);
    let discarded = count(|channel| channel.counters().discarded.get());
    assert_eq!(count(|channel| channel.counters().pushed.get()), received + lost + discarded, "not accounted for");
    drop((hub, channels));
    assert!(shards.iter().all(|shard| Arc::strong_count(shard) == 1), "a lane is left");
    let payloads = clients.into_iter().flat_map(|client| client.payloads);
    let mut payloads: Vec<_> = payloads.collect();
    // The same message may have come to several.
    while let Some(payload) = payloads.pop() {
        payloads.retain(|other| other.as_ptr() != payload.as_ptr());
        assert!(payload.is_unique(), "a frame is left");
    }
}
