//! The engine against a model of it: thousands of random operations, and what everybody must have got.
//!
//! A failure prints its seed; `ROUNDS_SEED=N cargo test --test rounds` runs that one alone.

mod model;
mod race;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use model::World;
use tickcast::fanout::{Channel, Hub, HubConfig, Message};

const OPERATIONS: usize = 1_500;

/// Says which seed it was, should the test fail.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.0);
        }
    }
}

#[test]
fn whatever_happens_everybody_gets_what_is_owed() {
    let one = std::env::var("ROUNDS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    for seed in one.map_or(0..300, |seed| seed..seed + 1) {
        let seed = Seed(seed);
        let mut world = World::new(seed.0);
        for _ in 0..OPERATIONS {
            world.step();
        }
        world.end();
    }
}

/// The message just published. Looking takes a turn, which is at once.
fn last(channel: &Channel) -> Bytes {
    let mut last = std::pin::pin!(channel.last());
    match last.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(frame)) => frame.payload(),
        other => panic!("just published: {other:?}"),
    }
}

/// Whether a waiter was woken since it was last asked.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}

#[test]
fn who_waits_for_an_offer_is_woken_when_the_last_client_goes() {
    let hub = Hub::default();
    let (channel, shard) = (hub.channel("x").expect("a name"), hub.add_shard());
    let mut rounds = hub.rounds(&shard);
    let (place, _) = rounds.register(0, channel.join(&shard)).expect("joined");
    channel.publish(Message::text("to one that goes")).expect("alone");
    let mut offered = Box::pin(channel.offered());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut poll = || offered.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(poll(), Poll::Pending);
    rounds.deregister(place, |_, _| ());
    rounds.collect();
    assert!(woken.take(), "nobody is left to be offered anything");
    assert_eq!(poll(), Poll::Ready(()));
}

#[test]
fn what_a_handshake_might_have_wanted_is_let_go_with_it() {
    let hub = Hub::new(HubConfig { queue_size: 8, ..HubConfig::default() });
    let (channel, shard) = (hub.channel("x").expect("a name"), hub.add_shard());
    let mut rounds = hub.rounds(&shard);
    rounds.register(0, channel.join(&shard)).expect("joined");
    for registers in [true, false] {
        let handshake = channel.join(&shard);
        let publish = |text: &str| {
            channel.publish(Message::text(text)).expect("alone");
            last(&channel)
        };
        let frames = ["kept for it", "and this"].map(publish);
        rounds.collect();
        while rounds.next_delivery().is_some() {}
        assert!(!frames[0].is_unique(), "the handshake is not done");
        if registers {
            let (place, _) = rounds.register(1, handshake).expect("joined");
            assert_eq!(rounds.catch_up(place).expect("two messages").frames.len(), 2);
        } else {
            drop(handshake);
        }
        rounds.collect();
        assert!(rounds.next_delivery().is_none());
        assert!(frames[0].is_unique(), "nobody wants it any more");
    }
}

/// Half of the clients leave and others come, again and again, before a round is over; something is
/// published all the time.
#[test]
fn who_comes_and_goes_keeps_nobody_from_a_turn() {
    const STAY: usize = 30;
    const GO: usize = 40;
    let hub = Hub::default();
    let (channel, shard) = (hub.channel("x").expect("a name"), hub.add_shard());
    let mut rounds = hub.rounds(&shard);
    let mut places: Vec<_> = (0..STAY + GO).map(|slot| rounds.register(slot, channel.join(&shard))).collect();
    let mut served = [0; STAY + GO];
    for _ in 0..100 {
        channel.publish(Message::text("tick")).expect("alone");
        rounds.collect();
        for _ in 0..10 {
            let delivery = rounds.next_delivery().expect("more are behind");
            served[delivery.slot] += 1;
        }
        for slot in STAY..STAY + GO {
            let (place, _) = places[slot].take().expect("registered");
            rounds.deregister(place, |slot, place| places[slot].as_mut().expect("registered").0 = place);
        }
        for (slot, place) in places.iter_mut().enumerate().skip(STAY) {
            *place = rounds.register(slot, channel.join(&shard));
        }
    }
    let fewest = served[..STAY].iter().min();
    assert!(fewest >= Some(&5), "ten of {} were served a hundred times: {served:?}", STAY + GO);
}
