//! What a publish costs in allocations: always the same few, whatever the number of subscribers,
//! and whether or not they keep up. And one serialisation, one frame, for everybody.

#[path = "../benches/support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use support::SUBSCRIBERS;
use support::engine::Engine;
use tickcast::Config;
use tickcast::fanout::{Frame, Hub, Subscription};
use tickcast::market::Publisher;
use tickcast::source::{Feed, SourceKind};

/// The frame; its bytes come with the message.
const PER_PUBLISH: u64 = 1;

/// What the second of two identical runs allocates; the first pays for thread locals.
fn warm(mut run: impl FnMut()) -> AllocationInfo {
    run();
    measure(run)
}

#[test]
fn a_publish_allocates_the_same_for_one_and_for_ten_thousand() {
    for subscribers in [0].into_iter().chain(SUBSCRIBERS) {
        for payload in [1, 128, 64 << 10] {
            let engine = Engine::new(subscribers, payload);
            let idle = warm(|| engine.publish());
            assert_eq!(idle.count_total, PER_PUBLISH, "to {subscribers}, {payload} bytes");
            assert!(idle.bytes_total < 256, "to {subscribers}, {payload} bytes: {idle:?}");
        }
    }
}

#[test]
fn a_publish_to_full_rings_allocates_nothing_more() {
    for subscribers in SUBSCRIBERS {
        let mut engine = Engine::lagging(subscribers, 128);
        let lagging = warm(|| engine.publish());
        assert_eq!(lagging.count_total, PER_PUBLISH, "to {subscribers}");
        assert_eq!(lagging.count_current, 0, "what gave way is freed: {lagging:?}");
        engine.discard();
        assert_eq!(engine.channel.counters().dropped.get(), 2 * subscribers as u64, "the rings were full");
    }
}

#[test]
fn rounds_allocate_nothing() {
    let mut engine = Engine::new(1_000, 128);
    engine.publish();
    engine.discard();
    engine.publish();
    let taken = measure(|| engine.discard());
    assert_eq!(taken.count_total, 0, "{taken:?}");
}

#[test]
fn everybody_shares_one_frame() {
    for subscribers in SUBSCRIBERS {
        let mut engine = Engine::new(subscribers, 128);
        engine.publish();
        let (mut frames, mut taken) = (HashSet::new(), 0);
        engine.deliver(|frame| {
            frames.insert(frame.wire().as_ptr());
            taken += 1;
        });
        assert_eq!((frames.len(), taken), (1, subscribers));
    }
}

/// Serialising a snapshot allocates. So a market that allocates for a thousand listeners exactly what
/// it does for one serialises as often for them.
#[test]
fn a_market_serialises_once_whoever_listens() {
    // Pays for what is made once for all threads.
    play_capture(1);
    let (for_one, snapshots_for_one) = play_capture(1);
    let (for_many, snapshots_for_many) = play_capture(1_000);
    assert!(snapshots_for_one > 50, "{snapshots_for_one} snapshots");
    assert_eq!(snapshots_for_many, snapshots_for_one);
    assert_eq!(for_many.count_total, for_one.count_total, "allocations of {snapshots_for_one} snapshots");
    assert_eq!(for_many.bytes_total, for_one.bytes_total, "bytes of {snapshots_for_one} snapshots");
}

/// Publishes a snapshot for every batch of the bundled capture; returns what that allocated and how
/// many snapshots there were.
fn play_capture(listeners: usize) -> (AllocationInfo, u64) {
    let mut config = Config { source: SourceKind::Replay(None), ..Config::default() };
    (config.replay.speed, config.replay.looped) = (0.0, false);
    let feed = Feed::open(&config).expect("bundled").expect("not none");
    let hub = Hub::default();
    let channel = hub.channel("market").expect("a name");
    let mut subscriptions: Vec<_> = (0..listeners).map(|_| hub.subscribe(&channel)).collect();
    let publisher = Publisher::new(&hub, channel.clone(), Duration::ZERO);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let messages = support::capture::messages().len() as u64;
    let allocated = measure(|| {
        runtime.block_on(async {
            tokio::select! {
                () = publisher.run(feed) => {}
                () = applied(&hub, messages) => {}
            }
        });
    });
    let written = hub.metrics().snapshots.get();
    assert_eq!(channel.counters().published.get(), written, "one snapshot a message");
    let last = runtime.block_on(channel.last()).expect("published");
    assert_shared(&last, &mut subscriptions);
    (allocated, written)
}

async fn applied(hub: &Hub, messages: u64) {
    let kinds =
        ["bookTicker", "trade", "aggTrade", "depthUpdate"].map(|kind| hub.metrics().source_messages.counter(kind));
    while kinds.iter().map(|kind| kind.get()).sum::<u64>() < messages {
        tokio::task::yield_now().await;
    }
}

/// What is left in the rings is the same frames for all, the last one among them.
fn assert_shared(last: &Frame, subscriptions: &mut [Subscription]) {
    let wires = |subscription: &mut Subscription| -> Vec<_> {
        let frames: Vec<Frame> = std::iter::from_fn(|| subscription.try_recv()).collect();
        frames.iter().map(|frame| frame.wire().as_ptr()).collect()
    };
    let [first, others @ ..] = subscriptions else { panic!("a listener at least") };
    let first = wires(first);
    assert_eq!(first.last(), Some(&last.wire().as_ptr()));
    for other in others {
        assert_eq!(wires(other), first);
    }
}
