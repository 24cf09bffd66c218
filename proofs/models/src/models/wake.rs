//! Nobody is left asleep.

use std::pin::Pin;
use std::sync::Arc;

use loom::thread;

use super::super::{Channel, Hub, Shard};
use super::support::{Owner, block_on, hub, poll_once, publish};

fn serve(hub: &Hub, channel: &Channel, seq: u64) -> thread::JoinHandle<Owner> {
    let mut owner = Owner::with_client(hub, channel);
    thread::spawn(move || {
        owner.serve(seq);
        owner
    })
}

fn wait(shard: &Arc<Shard>) -> Pin<Box<impl Future<Output = ()> + use<>>> {
    let shard = Arc::clone(shard);
    Box::pin(async move { shard.wait().await })
}

/// The same with an owner that sleeps already.
fn sleep_and_serve(hub: &Hub, channel: &Channel, seq: u64) -> thread::JoinHandle<Owner> {
    let mut owner = Owner::with_client(hub, channel);
    owner.go_round();
    let mut waits = wait(&owner.shard);
    // What woke it until here is over.
    while poll_once(waits.as_mut()).is_some() {
        waits = wait(&owner.shard);
    }
    thread::spawn(move || {
        block_on(waits);
        owner.serve(seq);
        owner
    })
}

/// An owner that goes wakes the others: so none goes before all have had their message.
fn has_had_one(owners: [thread::JoinHandle<Owner>; 2]) {
    let owners = owners.map(|owner| owner.join().expect("no panic"));
    owners.iter().for_each(|owner| assert_eq!((owner.client.received, owner.client.lost), (1, 0)));
}

/// The owner sleeps, or is about to, while two messages come.
pub(super) fn one() {
    let (hub, channel) = hub(4);
    let owner = serve(&hub, &channel, 2);
    publish(&channel);
    publish(&channel);
    let owner = owner.join().expect("no panic");
    assert_eq!((owner.client.received, owner.client.lost), (2, 0));
}

/// One message for two owners, who wake each other.
pub(super) fn relay() {
    let (hub, channel) = hub(2);
    let owners = [(); 2].map(|()| serve(&hub, &channel, 1));
    publish(&channel);
    has_had_one(owners);
}

/// As [`relay`], with owners that sleep already, while a subscription and a client in another shard come
/// and go.
pub(super) fn relay_and_change() {
    let (hub, channel) = hub(2);
    let owners = [(); 2].map(|()| sleep_and_serve(&hub, &channel, 1));
    publish(&channel);
    drop(hub.subscribe(&channel));
    drop(channel.join(&hub.add_shard()));
    has_had_one(owners);
}

/// As [`relay`], but the first owner is dropped as it sleeps.
pub(super) fn relay_goes() {
    let (hub, channel) = hub(2);
    let mut first = Owner::with_client(&hub, &channel);
    let second = serve(&hub, &channel, 1);
    let first = thread::spawn(move || {
        first.go_round();
        poll_once(first.shard.wait());
        drop(first.rounds);
    });
    publish(&channel);
    first.join().expect("no panic");
    assert_eq!(second.join().expect("no panic").client.received, 1);
}
