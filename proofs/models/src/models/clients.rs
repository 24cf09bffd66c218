//! Clients that come and go while messages are published.

use std::sync::Arc;

use loom::thread;

use super::super::sync::{AtomicBool, Ordering, SegQueue};
use super::super::{Channel, Membership, Shard};
use super::support::{Alone, Owner, block_on, hub, publish, settle};

/// Where a handshake leaves its membership for the owner.
type Desk = Arc<SegQueue<Membership>>;

/// Joins as a handshake does, and hands over to the owner.
fn come(channel: &Channel, shard: &Arc<Shard>, desk: &Desk) {
    let membership = channel.join(shard);
    assert!(block_on(membership.joined()), "there is room");
    desk.push(membership);
    shard.wake();
}

/// The same in a thread of its own.
fn shake_hands(channel: &Channel, shard: &Arc<Shard>, desk: &Desk) -> thread::JoinHandle<()> {
    let (channel, shard, desk) = (channel.clone(), Arc::clone(shard), Arc::clone(desk));
    thread::spawn(move || come(&channel, &shard, &desk))
}

/// Serves whoever comes to the desk, until it has had the messages up to `seq`.
fn serve_desk(mut owner: Owner, desk: &Desk, seq: u64) -> Owner {
    let mut came = false;
    loop {
        owner.rounds.collect();
        if let Some(membership) = desk.pop() {
            owner.register(membership);
            came = true;
        }
        owner.go_round();
        if came && owner.client.had >= seq {
            return owner;
        }
        block_on(owner.shard.wait());
    }
}

/// The ring is smaller than the burst: what comes is in order, and what does not is counted.
pub(super) fn overrun() {
    let (hub, channel) = hub(2);
    let mut owner = Owner::with_client(&hub, &channel);
    let owner = thread::spawn(move || {
        owner.serve(4);
        owner
    });
    (0..4).for_each(|_| publish(&channel));
    let owner = owner.join().expect("no panic");
    assert_eq!(owner.client.received + owner.client.lost, 4);
    settle(hub, vec![channel], vec![owner]);
}

/// The owner itself joins: the last message, then every later one.
pub(super) fn join() {
    let (hub, channel) = hub(4);
    publish(&channel);
    let mut owner = Owner::new(&hub);
    let owner = {
        let channel = channel.clone();
        thread::spawn(move || {
            let membership = channel.join(&owner.shard);
            assert!(block_on(membership.joined()), "there is room");
            owner.register(membership);
            assert!(owner.client.received >= 1, "there was a message before");
            owner.serve(3);
            owner
        })
    };
    publish(&channel);
    publish(&channel);
    let owner = owner.join().expect("no panic");
    assert_eq!((owner.client.had, owner.client.lost), (3, 0));
    settle(hub, vec![channel], vec![owner]);
}

/// The same through the handshake of another thread, with no message before.
pub(super) fn handshake() {
    let (hub, channel) = hub(2);
    let (owner, desk) = (Owner::new(&hub), Arc::new(SegQueue::new()));
    let handshake = shake_hands(&channel, &owner.shard, &desk);
    let owner = thread::spawn(move || serve_desk(owner, &desk, 1));
    publish(&channel);
    handshake.join().expect("no panic");
    let owner = owner.join().expect("no panic");
    assert_eq!((owner.client.received, owner.client.lost), (1, 0));
    settle(hub, vec![channel], vec![owner]);
}

/// The only client leaves, and its lane with it.
pub(super) fn leave() {
    let (hub, channel) = hub(1);
    let mut owner = Owner::with_client(&hub, &channel);
    let owner = thread::spawn(move || {
        owner.go_round();
        owner.deregister();
        owner.go_round();
        owner
    });
    publish(&channel);
    publish(&channel);
    let owner = owner.join().expect("no panic");
    settle(hub, vec![channel], vec![owner]);
}

/// A handshake fails while its join may wait for its turn; another client stays.
pub(super) fn abandon() {
    let (hub, channel) = hub(2);
    let mut owner = Owner::with_client(&hub, &channel);
    let guest = {
        let (channel, shard) = (channel.clone(), Arc::clone(&owner.shard));
        thread::spawn(move || drop(channel.join(&shard)))
    };
    publish(&channel);
    publish(&channel);
    guest.join().expect("no panic");
    owner.serve(2);
    settle(hub, vec![channel], vec![owner]);
}

/// Frames that are kept for a handshake are let go when it has failed, without anything else happening.
pub(super) fn let_go() {
    let (hub, channel) = hub(2);
    let mut owner = Owner::with_client(&hub, &channel);
    let guest = channel.join(&owner.shard);
    let owner = thread::spawn(move || {
        owner.serve(2);
        while !owner.client.is_first_let_go() {
            block_on(owner.shard.wait());
            owner.go_round();
        }
        owner
    });
    publish(&channel);
    publish(&channel);
    drop(guest);
    let owner = owner.join().expect("no panic");
    settle(hub, vec![channel], vec![owner]);
}

/// The last client of a lane leaves as another comes, whose lane may be the old one, or a new one with the
/// old one's number.
pub(super) fn replace() {
    let (hub, channel) = hub(2);
    let mut owner = Owner::with_client(&hub, &channel);
    let (desk, shard) = (Arc::new(SegQueue::new()), Arc::clone(&owner.shard));
    let owner = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || {
            owner.deregister();
            serve_desk(owner, &desk, 2)
        })
    };
    publish(&channel);
    come(&channel, &shard, &desk);
    publish(&channel);
    drop(shard);
    let owner = owner.join().expect("no panic");
    settle(hub, vec![channel], vec![owner]);
}

/// The same, and the other comes to another channel.
pub(super) fn reuse() {
    let (hub, old) = hub(2);
    let new = hub.channel("y").expect("a name");
    let mut owner = Owner::with_client(&hub, &old);
    let (desk, shard) = (Arc::new(SegQueue::new()), Arc::clone(&owner.shard));
    let owner = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || {
            owner.deregister();
            serve_desk(owner, &desk, 1)
        })
    };
    publish(&old);
    come(&new, &shard, &desk);
    publish(&new);
    drop(shard);
    let owner = owner.join().expect("no panic");
    settle(hub, vec![old, new], vec![owner]);
}

/// Who waits for an offer sees what the owner did with it, and does not wait for ever.
pub(super) fn offered() {
    let (hub, channel) = hub(2);
    let mut owner = Owner::with_client(&hub, &channel);
    let brought = Arc::new(Alone::default());
    let owner = {
        let brought = Arc::clone(&brought);
        thread::spawn(move || {
            while owner.client.had < 1 {
                owner.rounds.collect();
                if owner.has_delivery() {
                    brought.touch();
                }
                owner.go_round();
                if owner.client.had < 1 {
                    block_on(owner.shard.wait());
                }
            }
            owner
        })
    };
    publish(&channel);
    block_on(channel.offered());
    brought.touch();
    let owner = owner.join().expect("no panic");
    settle(hub, vec![channel], vec![owner]);
}

/// The only client leaves instead of taking what somebody waits to have offered.
pub(super) fn offered_to_nobody() {
    let (hub, channel) = hub(2);
    let mut owner = Owner::with_client(&hub, &channel);
    let over = Arc::new(AtomicBool::new(false));
    let shard = Arc::clone(&owner.shard);
    let owner = {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            owner.deregister();
            while !over.load(Ordering::Acquire) {
                owner.go_round();
                block_on(owner.shard.wait());
            }
            owner
        })
    };
    publish(&channel);
    block_on(channel.offered());
    over.store(true, Ordering::Release);
    shard.wake();
    drop(shard);
    let owner = owner.join().expect("no panic");
    settle(hub, vec![channel], vec![owner]);
}
