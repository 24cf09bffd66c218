//! Publishers, clients that come and go, owners that sleep, and one that waits for offers, each in
//! threads of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use fastrand::Rng;
use tickcast::fanout::{Busy, Channel, Delivery, Hub, HubConfig, Membership, Message, Place, Rounds, Shard};

const PUBLISHERS: u64 = 2;
const JOINERS: u64 = 2;
const OWNERS: u64 = 2;
const MESSAGES: usize = 10_000;
const JOINS: usize = 3_000;
/// Whoever sleeps that long was not woken.
const PATIENCE: Duration = Duration::from_secs(20);

struct Client {
    place: Place,
    next: u64,
    /// How many deliveries it stays for.
    stays: u32,
}

/// A shard, and where its clients arrive.
struct Desk {
    shard: Arc<Shard>,
    arrivals: SegQueue<Membership>,
    over: AtomicBool,
}

struct Owner<'a> {
    desk: &'a Desk,
    channel: &'a Channel,
    rounds: Rounds,
    clients: BTreeMap<usize, Client>,
    rng: Rng,
    queue_size: u64,
    received: u64,
    lost: u64,
}

impl Owner<'_> {
    /// As a writer task does it.
    async fn serve(&mut self) {
        loop {
            let over = self.desk.over.load(Ordering::Acquire);
            self.rounds.collect();
            let mut served = 0;
            while let Some(membership) = self.desk.arrivals.pop() {
                self.register(membership);
                served += 1;
            }
            let some = self.rng.usize(1..20);
            while served < some && self.deliver() {
                served += 1;
            }
            self.rounds.others();
            if served > 0 {
                continue;
            }
            if over {
                return;
            }
            let woken = tokio::time::timeout(PATIENCE, self.desk.shard.wait()).await;
            woken.expect("something is published, or it is over");
        }
    }

    fn register(&mut self, membership: Membership) {
        let slot = self.desk.shard.claim().expect("room");
        let (place, first) = self.rounds.register(slot, membership).expect("it has joined");
        self.received += first.iter().len() as u64;
        // Without a message before it, the first is number 1, or lost.
        let next = first.map_or(1, |first| first.seq() + 1);
        self.clients.insert(slot, Client { place, next, stays: self.rng.u32(..200) });
        if let Some(delivery) = self.rounds.catch_up(place) {
            let client = self.clients.get_mut(&slot).expect("inserted");
            let (received, lost) = take(client, &delivery, self.queue_size);
            self.received += received;
            self.lost += lost;
        }
    }

    fn deliver(&mut self) -> bool {
        let Some(delivery) = self.rounds.next_delivery() else { return false };
        let slot = delivery.slot;
        let client = self.clients.get_mut(&slot).expect("only who is there is served");
        let (received, lost) = take(client, &delivery, self.queue_size);
        self.received += received;
        self.lost += lost;
        if client.stays == 0 {
            self.leave(slot);
        }
        true
    }

    fn leave(&mut self, slot: usize) {
        let Self { clients, rounds, desk, .. } = self;
        let Client { place, .. } = clients.remove(&slot).expect("it is there");
        rounds.deregister(place, |slot, place| clients.get_mut(&slot).expect("it is there").place = place);
        desk.shard.release(slot);
    }

    /// Everybody who stayed has had the newest; then they go.
    fn end(self) -> (u64, u64) {
        let newest = self.channel.seq();
        assert!(self.clients.values().all(|client| client.next == newest + 1), "somebody was forgotten");
        drop(self.rounds);
        (self.received, self.lost)
    }
}

/// Returns how many frames came and how many were lost.
fn take(client: &mut Client, delivery: &Delivery<'_>, queue_size: u64) -> (u64, u64) {
    let received = delivery.frames.len() as u64;
    assert!(received > 0 && received <= queue_size);
    client.next += delivery.lost;
    for frame in delivery.frames {
        assert_eq!(frame.seq(), client.next, "a hole or a repeat");
        client.next += 1;
    }
    client.stays = client.stays.saturating_sub(1);
    (received, delivery.lost)
}

fn publish(channel: &Channel, rng: &mut Rng) {
    for n in 0..MESSAGES {
        let message = Message::text(n.to_string());
        while channel.publish(message.clone()) == Err(Busy) {
            std::thread::yield_now();
        }
        if rng.u32(..50) == 0 {
            // The owners fall asleep.
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

fn join(channel: &Channel, desks: &[Desk], rng: &mut Rng) {
    for _ in 0..JOINS {
        let desk = &desks[rng.usize(..desks.len())];
        let membership = channel.join(&desk.shard);
        if rng.u32(..10) == 0 {
            drop(membership);
            continue;
        }
        block_on(async { assert!(membership.joined().await) });
        desk.arrivals.push(membership);
        desk.shard.wake();
        if rng.u32(..20) == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

fn wait_for_offers(channel: &Channel, over: &AtomicBool) -> u64 {
    let mut offers = 0;
    while !over.load(Ordering::Acquire) {
        block_on(async {
            let offered = tokio::time::timeout(PATIENCE, channel.offered()).await;
            offered.expect("the owners go their rounds");
        });
        offers += 1;
    }
    offers
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(future)
}

fn run(seed: u64, queue_size: usize) {
    let hub = Hub::new(HubConfig { queue_size, ..HubConfig::default() });
    let channel = hub.channel("race").expect("a name");
    let desk = |_| Desk { shard: hub.add_shard(), arrivals: SegQueue::new(), over: AtomicBool::new(false) };
    let desks: Vec<_> = (0..OWNERS).map(desk).collect();
    let (over, offers) = (AtomicBool::new(false), AtomicU64::new(0));
    let counted: Vec<_> = std::thread::scope(|scope| {
        let owners: Vec<_> = desks
            .iter()
            .map(|desk| {
                let (rounds, queue_size, channel) = (hub.rounds(&desk.shard), queue_size as u64, &channel);
                let (clients, rng) = (BTreeMap::new(), Rng::with_seed(seed + 1_000));
                let mut owner = Owner { desk, channel, rounds, clients, rng, queue_size, received: 0, lost: 0 };
                scope.spawn(move || {
                    block_on(owner.serve());
                    owner.end()
                })
            })
            .collect();
        scope.spawn(|| offers.store(wait_for_offers(&channel, &over), Ordering::Release));
        let mut others: Vec<_> = (0..PUBLISHERS)
            .map(|n| {
                let channel = &channel;
                scope.spawn(move || publish(channel, &mut Rng::with_seed(seed + n)))
            })
            .collect();
        others.extend((0..JOINERS).map(|n| {
            let (channel, desks) = (&channel, &desks);
            scope.spawn(move || join(channel, desks, &mut Rng::with_seed(seed + 100 + n)))
        }));
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        over.store(true, Ordering::Release);
        for desk in &desks {
            desk.over.store(true, Ordering::Release);
            desk.shard.wake();
        }
        owners.into_iter().map(|owner| owner.join().expect("no panic")).collect()
    });
    let (received, lost) = counted.iter().fold((0, 0), |sum, (received, lost)| (sum.0 + received, sum.1 + lost));
    let counters = channel.counters();
    assert_eq!(counters.published.get(), PUBLISHERS * MESSAGES as u64);
    assert_eq!(counters.dropped.get(), lost);
    assert_eq!(counters.pushed.get(), received + lost + counters.discarded.get());
    assert_eq!(channel.subscribers(), 0);
    assert!(offers.into_inner() > 0);
}

#[test]
fn threads_race_and_nobody_is_forgotten() {
    for (seed, queue_size) in [1, 4, 50].into_iter().enumerate() {
        run(seed as u64, queue_size);
    }
}
