//! The engine through its public face, without sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tickcast::fanout::{Hub, Message};

/// Whether a waiter was woken since it was last asked.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
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
