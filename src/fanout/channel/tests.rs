use super::*;
use crate::fanout::{Hub, Subscription};

fn subscribed(count: usize) -> (Channel, Vec<Subscription>) {
    let hub = Hub::default();
    let channel = hub.channel("test").expect("a name");
    let subscriptions = (0..count).map(|_| hub.subscribe(&channel)).collect();
    (channel, subscriptions)
}

#[test]
fn a_set_is_changed_in_place() {
    let (channel, mut subscriptions) = subscribed(5);
    let members = || Arc::as_ptr(&channel.0.inboxes.load_full());
    let before = members();
    subscriptions.remove(1);
    assert_eq!(members(), before, "not a copy");
    channel.publish(Message::text("to all that stayed")).expect("nobody else publishes");
    assert!(subscriptions.iter_mut().all(|subscription| subscription.try_recv().is_some()));
    assert_eq!(channel.subscribers(), 4);
}

#[test]
fn numbers_from_elsewhere_only_rise() {
    let (channel, mut subscriptions) = subscribed(1);
    let taken = [5, 5, 3, 0, 9].map(|seq| channel.relay(Message::text(seq.to_string()), seq).expect("alone"));
    assert_eq!(taken.map(|taken| taken.is_some()), [true, false, false, false, true]);
    channel.publish(Message::numbered("", String::new())).expect("nobody else publishes");
    let received = std::iter::from_fn(|| subscriptions[0].try_recv());
    let received: Vec<_> = received.map(|frame| (frame.seq(), frame.payload())).collect();
    assert_eq!(received, [(5, "5".into()), (9, "9".into()), (10, "10".into())]);
    assert_eq!((channel.seq(), channel.accepted(), channel.counters().published.get()), (10, 3, 3));
}

#[test]
fn a_set_that_somebody_holds_is_not_changed_under_them() {
    let (channel, mut subscriptions) = subscribed(2);
    let held = channel.0.inboxes.load_full();
    subscriptions.pop();
    assert_eq!((held.len(), channel.0.inboxes.load().len()), (2, 1));
}

#[test]
fn a_set_gives_back_what_a_crowd_needed() {
    let (channel, mut subscriptions) = subscribed(64);
    subscriptions.truncate(2);
    let capacity = channel.0.inboxes.load().capacity();
    assert!(capacity <= 8, "{capacity}");
}
