//! Nobody is left asleep: one publication reaches the owners of all shards, whoever wakes whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tickcast::fanout::{Busy, Channel, Hub, Message, Rounds, Shard};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the owner of a shard has brought to its only client.
type Brought = Arc<AtomicU64>;

fn shard(hub: &Hub, channel: &Channel) -> (Arc<Shard>, Rounds) {
    let shard = hub.add_shard();
    let mut rounds = hub.rounds(&shard);
    let slot = shard.claim().expect("room");
    let (place, last) = rounds.register(slot, channel.join(&shard)).expect("nobody else is inside");
    assert!(last.is_none() && rounds.catch_up(place).is_none(), "nothing is published yet");
    (shard, rounds)
}

/// As a writer does: looks at everything before it sleeps again.
async fn own(shard: Arc<Shard>, mut rounds: Rounds, brought: Brought) {
    loop {
        rounds.collect();
        while let Some(delivery) = rounds.next_delivery() {
            assert_eq!(delivery.lost, 0);
            brought.fetch_add(delivery.frames.len() as u64, Ordering::Release);
        }
        shard.wait().await;
    }
}

fn wait_for(brought: &[Brought], count: u64) {
    let start = Instant::now();
    while brought.iter().any(|brought| brought.load(Ordering::Acquire) < count) {
        let brought: Vec<_> = brought.iter().map(|brought| brought.load(Ordering::Acquire)).collect();
        assert!(start.elapsed() < PATIENCE, "somebody sleeps: {brought:?} of {count}");
        std::thread::yield_now();
    }
}

#[test]
fn every_owner_wakes_for_every_message() {
    const SHARDS: usize = 5;
    const MESSAGES: u64 = 20_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().expect("threads");
    let hub = Hub::default();
    let channels = ["a", "b"].map(|name| hub.channel(name).expect("a name"));
    let mut brought = [Vec::new(), Vec::new()];
    for (channel, brought) in channels.iter().zip(&mut brought) {
        for _ in 0..SHARDS {
            let (shard, rounds) = shard(&hub, channel);
            let count = Brought::default();
            runtime.spawn(own(shard, rounds, Arc::clone(&count)));
            brought.push(count);
        }
    }
    std::thread::scope(|scope| {
        for (channel, brought) in channels.iter().zip(&brought) {
            scope.spawn(move || {
                for message in 1..=MESSAGES {
                    channel.publish(Message::text("tick")).expect("alone");
                    // Bursts of one to seven, and each time all of it before the next.
                    if message % 7 == 0 || message % 3 == 0 {
                        wait_for(brought, message);
                    }
                }
                wait_for(brought, MESSAGES);
            });
        }
    });
}

/// Whoever else comes and goes, an owner finds those whom it is to wake.
#[test]
fn who_comes_and_goes_leaves_nobody_asleep() {
    const SHARDS: usize = 3;
    const MESSAGES: u64 = 20_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads");
    let hub = Hub::default();
    let channel = hub.channel("x").expect("a name");
    let brought: Vec<_> = (0..SHARDS).map(|_| Brought::default()).collect();
    for count in &brought {
        let (shard, rounds) = shard(&hub, &channel);
        runtime.spawn(own(shard, rounds, Arc::clone(count)));
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wait_for = |subscribers| {
                while channel.subscribers() != subscribers {
                    std::thread::yield_now();
                }
            };
            while !over.load(Ordering::Relaxed) {
                let subscription = hub.subscribe(&channel);
                wait_for(SHARDS + 1);
                drop(subscription);
                wait_for(SHARDS);
            }
        });
        let _over = Over(&over);
        for message in 1..=MESSAGES {
            while channel.publish(Message::text("tick")) == Err(Busy) {
                std::thread::yield_now();
            }
            wait_for(&brought, message);
        }
    });
}

/// Ends the other thread, also if this one panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An owner that is dropped while it sleeps takes nobody's wake-up with it.
#[test]
fn an_owner_that_goes_leaves_nobody_asleep() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads");
    for _ in 0..200 {
        let hub = Hub::default();
        let channel = hub.channel("x").expect("a name");
        let counts = [Brought::default(), Brought::default()];
        let tasks = counts.each_ref().map(|count| {
            let (shard, rounds) = shard(&hub, &channel);
            runtime.spawn(own(shard, rounds, Arc::clone(count)))
        });
        channel.publish(Message::text("to both")).expect("alone");
        wait_for(&counts, 1);
        let [first, second] = tasks;
        std::thread::scope(|scope| {
            scope.spawn(|| channel.publish(Message::text("to whoever is there")).expect("alone"));
            first.abort();
        });
        wait_for(&counts[1..], 2);
        second.abort();
    }
}
