//! One order of messages, for all who publish, subscribe and ask for the last.

use loom::thread;

use super::super::{Channel, Frame, Message, Subscription};
use super::support::{block_on, hub, publish};

fn publish_text(channel: &Channel, text: &str) {
    channel.publish(Message::text(text)).expect("few publish at once");
}

/// Takes messages up to number `seq`, and returns how many they were and how many are missing.
fn receive(subscription: &mut Subscription, seq: u64) -> (Vec<Frame>, u64) {
    let mut frames: Vec<Frame> = Vec::new();
    let mut missing = 0;
    while frames.last().is_none_or(|last| last.seq() < seq) {
        let frame = block_on(subscription.recv());
        if let Some(last) = frames.last() {
            assert!(frame.seq() > last.seq(), "a repeat");
            missing += frame.seq() - last.seq() - 1;
        }
        frames.push(frame);
    }
    (frames, missing)
}

/// What was owed to subscriptions is counted once, when they have gone.
fn settle(channel: &Channel, received: usize) {
    let counters = channel.counters();
    assert_eq!(channel.subscribers(), 0);
    let rest = counters.dropped.get() + counters.discarded.get();
    assert_eq!(counters.pushed.get(), received as u64 + rest, "not accounted for");
}

/// Two publishers: numbers without a hole, each one's messages in its order, the last is the highest.
pub(super) fn publishers() {
    let (hub, channel) = hub(4);
    let mut subscription = hub.subscribe(&channel);
    let other = {
        let channel = channel.clone();
        thread::spawn(move || {
            publish_text(&channel, "a1");
            publish_text(&channel, "a2");
        })
    };
    publish_text(&channel, "b1");
    let (frames, missing) = receive(&mut subscription, 3);
    assert!(missing == 0 && frames.iter().map(Frame::seq).eq(1..=3), "a hole");
    let position = |text: &str| frames.iter().position(|frame| frame.payload() == text).expect("it came");
    assert!(position("a1") < position("a2") && position("b1") < 3);
    other.join().expect("no panic");
    assert_eq!(channel.seq(), 3);
    let last = block_on(channel.last()).expect("published");
    assert_eq!((last.seq(), last.payload()), (3, frames[2].payload()));
    drop(subscription);
    settle(&channel, 3);
}

/// Who asks for the last message gets one no older than the number it has seen, and never an older one after.
pub(super) fn last() {
    let (_hub, channel) = hub(1);
    let publisher = {
        let channel = channel.clone();
        thread::spawn(move || {
            publish(&channel);
            publish(&channel);
        })
    };
    let mut seen = 0;
    for _ in 0..2 {
        let seq = channel.seq();
        let last = block_on(channel.last()).map_or(0, |last| last.seq());
        assert!(last >= seq.max(seen), "{last} after {seq} and {seen}");
        seen = last;
    }
    publisher.join().expect("no panic");
    assert_eq!(block_on(channel.last()).map(|last| last.seq()), Some(2));
}

/// The last message, then every later one, woken for each.
pub(super) fn subscribe() {
    let (hub, channel) = hub(4);
    publish(&channel);
    let publisher = {
        let channel = channel.clone();
        thread::spawn(move || {
            publish(&channel);
            publish(&channel);
        })
    };
    let mut subscription = hub.subscribe(&channel);
    let (frames, missing) = receive(&mut subscription, 3);
    assert_eq!(missing, 0, "a hole");
    publisher.join().expect("no panic");
    drop(subscription);
    settle(&channel, frames.len());
}

/// A ring of one: the oldest gives way, counted, and the newest comes.
pub(super) fn lag() {
    let (hub, channel) = hub(1);
    let mut subscription = hub.subscribe(&channel);
    let publisher = {
        let channel = channel.clone();
        thread::spawn(move || (0..3).for_each(|_| publish(&channel)))
    };
    let (frames, missing) = receive(&mut subscription, 3);
    publisher.join().expect("no panic");
    let before = frames[0].seq() - 1;
    assert_eq!(subscription.lagged(), before + missing);
    drop(subscription);
    settle(&channel, frames.len());
}

/// A subscription goes while two publish: what it had not read is thrown away by whoever comes last.
pub(super) fn unsubscribe() {
    let (hub, channel) = hub(2);
    let mut subscription = hub.subscribe(&channel);
    let publisher = {
        let channel = channel.clone();
        thread::spawn(move || publish(&channel))
    };
    let other = {
        let channel = channel.clone();
        thread::spawn(move || publish(&channel))
    };
    let received = usize::from(subscription.try_recv().is_some());
    drop(subscription);
    publisher.join().expect("no panic");
    other.join().expect("no panic");
    settle(&channel, received);
}
