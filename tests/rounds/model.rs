//! Channels, shards and clients, and beside each what it must be. One thread does everything, so
//! every turn is over when the call returns and every count is exact after every operation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fastrand::Rng;
use tickcast::fanout::{Hub, HubConfig, Membership, Message, Rounds, Shard};

use super::stream::{Client, Stream, Waiting, take};
use super::{Woken, last};

/// Ring sizes: the smallest, and some that a burst overruns.
const QUEUES: [usize; 5] = [1, 2, 3, 8, 50];
const MAX_CLIENTS: usize = 150;

/// A client whose handshake is not done.
struct Guest {
    channel: usize,
    shard: usize,
    membership: Membership,
    /// The number of the last message before the join; 0 if there was none.
    last: u64,
}

struct Owner {
    shard: Arc<Shard>,
    rounds: Rounds,
    clients: BTreeMap<usize, Client>,
    /// By channel: the messages before this number have been collected.
    collected: Vec<u64>,
}

pub(crate) struct World {
    rng: Rng,
    queue_size: usize,
    hub: Hub,
    streams: Vec<Stream>,
    owners: Vec<Owner>,
    guests: Vec<Guest>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let queue_size = QUEUES[rng.usize(..QUEUES.len())];
        let hub = Hub::new(HubConfig { queue_size, max_channels: 4, max_clients_per_shard: MAX_CLIENTS });
        let stream = |n| Stream {
            channel: hub.channel(&format!("channel-{n}")).expect("a name"),
            published: Vec::new(),
            pushed: 0,
            sent: 0,
            dropped: 0,
            discarded: 0,
            waiting: None,
        };
        let streams: Vec<_> = (0..rng.usize(1..=3)).map(stream).collect();
        let owners = (0..rng.usize(1..=3)).map(|_| Owner::new(&hub, streams.len())).collect();
        Self { rng, queue_size, hub, streams, owners, guests: Vec::new() }
    }

    /// Does something, and checks every count.
    pub(crate) fn step(&mut self) {
        let channel = self.rng.usize(..self.streams.len());
        let owner = self.rng.usize(..self.owners.len());
        match self.rng.u32(..100) {
            0..20 => self.publish(channel, 1),
            20..24 => {
                let burst = self.rng.usize(1..=2 * self.queue_size + 2);
                self.publish(channel, burst);
            }
            24..40 => self.join(channel, owner),
            40..43 => self.turn_away(),
            43..57 => self.register(),
            57..62 => self.catch_up_somebody(owner),
            62..70 => self.deregister_somebody(owner),
            70..71 => self.deregister_most(owner),
            71..80 => self.collect(owner),
            80..92 => {
                let some = self.rng.usize(1..20);
                self.deliver(owner, some);
            }
            92..94 => self.owners[owner].rounds.others(),
            94..97 => self.rest(),
            97..99 => self.wait_for_offer(channel),
            _ if self.rng.u32(..10) == 0 => self.replace_owner(owner),
            _ => {}
        }
        self.poll_waiting();
        self.check_counts();
    }

    /// Everybody goes, and nothing is left.
    pub(crate) fn end(mut self) {
        self.rest();
        self.guests.drain(..).for_each(drop);
        for owner in 0..self.owners.len() {
            self.replace_owner(owner);
        }
        for stream in &mut self.streams {
            let counters = stream.channel.counters();
            let rest = [&counters.dropped, &counters.discarded].map(|counter| counter.get());
            assert_eq!(stream.channel.subscribers(), 0);
            assert_eq!(counters.pushed.get(), stream.sent + rest.iter().sum::<u64>(), "something is still queued");
            assert_eq!(stream.alive(), usize::from(stream.seq() > 0), "more is kept than the last message");
        }
        let Self { streams, owners, hub, .. } = self;
        drop((owners, hub));
        for Stream { channel, published, .. } in streams {
            drop(channel);
            assert!(published.iter().all(Bytes::is_unique), "the channel is gone and a frame is not");
        }
    }

    fn publish(&mut self, channel: usize, messages: usize) {
        let listeners = self.listeners(channel);
        let stream = &mut self.streams[channel];
        for _ in 0..messages {
            let text = format!("{channel}: {}", stream.seq() + 1);
            let published = stream.channel.publish(Message::text(text)).expect("alone");
            assert_eq!(published.subscribers, listeners);
            stream.published.push(last(&stream.channel));
            stream.pushed += listeners as u64;
        }
    }

    fn listeners(&self, channel: usize) -> usize {
        let guests = self.guests.iter().filter(|guest| guest.channel == channel).count();
        guests + self.clients(channel).count()
    }

    fn clients(&self, channel: usize) -> impl Iterator<Item = &Client> {
        self.owners.iter().flat_map(|owner| owner.clients.values()).filter(move |client| client.channel == channel)
    }

    fn join(&mut self, channel: usize, shard: usize) {
        let stream = &mut self.streams[channel];
        let membership = stream.channel.join(&self.owners[shard].shard);
        stream.pushed += u64::from(stream.seq() > 0);
        self.guests.push(Guest { channel, shard, membership, last: stream.seq() });
    }

    fn take_guest(&mut self) -> Option<Guest> {
        (!self.guests.is_empty()).then(|| self.guests.swap_remove(self.rng.usize(..self.guests.len())))
    }

    /// A handshake fails.
    fn turn_away(&mut self) {
        if let Some(Guest { channel, last, .. }) = self.take_guest() {
            let stream = &mut self.streams[channel];
            stream.discarded += stream.owed_since(last);
        }
    }

    fn register(&mut self) {
        let Some(Guest { channel, shard, membership, last }) = self.take_guest() else { return };
        let owner = &mut self.owners[shard];
        let Some(slot) = owner.shard.claim() else {
            drop(membership);
            let stream = &mut self.streams[channel];
            stream.discarded += stream.owed_since(last);
            return;
        };
        let (place, first) = owner.rounds.register(slot, membership).expect("alone");
        assert_eq!(first.is_some(), last > 0);
        if let Some(first) = first {
            self.streams[channel].check(&first, last);
            self.streams[channel].sent += 1;
        }
        owner.collected[channel] = self.streams[channel].seq() + 1;
        owner.clients.insert(slot, Client { channel, place, next: last + 1, since: self.streams[channel].seq() });
        if self.rng.bool() {
            self.catch_up(shard, slot);
        }
    }

    fn somebody(&mut self, owner: usize) -> Option<usize> {
        let clients = &self.owners[owner].clients;
        let nth = (!clients.is_empty()).then(|| self.rng.usize(..clients.len()))?;
        clients.keys().nth(nth).copied()
    }

    fn catch_up_somebody(&mut self, owner: usize) {
        if let Some(slot) = self.somebody(owner) {
            self.catch_up(owner, slot);
        }
    }

    fn catch_up(&mut self, owner: usize, slot: usize) {
        let Self { owners, streams, queue_size, .. } = self;
        let Owner { rounds, clients, collected, .. } = &mut owners[owner];
        let client = clients.get_mut(&slot).expect("it is there");
        let channel = client.channel;
        collected[channel] = streams[channel].seq() + 1;
        if let Some(delivery) = rounds.catch_up(client.place) {
            assert_eq!(delivery.slot, slot);
            take(&mut streams[channel], client, &delivery, collected[channel], *queue_size);
        }
        assert_eq!(client.next, collected[channel], "something was published that it did not get");
    }

    fn deregister_somebody(&mut self, owner: usize) {
        if let Some(slot) = self.somebody(owner) {
            self.deregister(owner, slot);
        }
    }

    fn deregister_most(&mut self, owner: usize) {
        let all: Vec<_> = self.owners[owner].clients.keys().copied().collect();
        for slot in all {
            if self.rng.u32(..10) > 0 {
                self.deregister(owner, slot);
            }
        }
    }

    fn deregister(&mut self, owner: usize, slot: usize) {
        let Owner { shard, rounds, clients, .. } = &mut self.owners[owner];
        let Client { channel, place, next, .. } = clients.remove(&slot).expect("it is there");
        rounds.deregister(place, |slot, place| {
            clients.get_mut(&slot).expect("only who is there has a place").place = place;
        });
        shard.release(slot);
        self.streams[channel].discarded += self.streams[channel].seq() + 1 - next;
    }

    fn collect(&mut self, owner: usize) {
        let Owner { rounds, clients, collected, .. } = &mut self.owners[owner];
        rounds.collect();
        for (channel, stream) in self.streams.iter().enumerate() {
            // What was published while nobody was registered waits for the first who is.
            if clients.values().any(|client| client.channel == channel) {
                collected[channel] = stream.seq() + 1;
            }
        }
    }

    /// Serves up to `most`; returns whether that was all.
    fn deliver(&mut self, owner: usize, most: usize) -> bool {
        let Self { owners, streams, queue_size, .. } = self;
        let Owner { rounds, clients, collected, .. } = &mut owners[owner];
        for _ in 0..most {
            let Some(delivery) = rounds.next_delivery() else {
                for client in clients.values() {
                    assert_eq!(client.next, collected[client.channel], "a round ended without it");
                }
                return true;
            };
            let client = clients.get_mut(&delivery.slot).expect("only who is there is served");
            take(&mut streams[client.channel], client, &delivery, collected[client.channel], *queue_size);
        }
        false
    }

    /// Everybody who is registered gets everything; what nobody needs is then let go.
    fn rest(&mut self) {
        for owner in 0..self.owners.len() {
            self.collect(owner);
            while !self.deliver(owner, 100) {}
            self.collect(owner);
            assert!(self.deliver(owner, 1), "nothing was published since");
        }
        self.poll_waiting();
        assert!(self.streams.iter().all(|stream| stream.waiting.is_none()), "everything is offered");
        for channel in 0..self.streams.len() {
            let stream = &self.streams[channel];
            assert!(self.clients(channel).all(|client| client.next == stream.seq() + 1));
            let guests = self.guests.iter().filter(|guest| guest.channel == channel).count();
            // Each guest's first message, and for all guests of a shard what its ring and its log hold.
            let kept = match guests {
                0 => 0,
                _ => guests + 2 * self.queue_size * self.owners.len(),
            };
            let alive = stream.alive();
            assert!(alive <= 1 + kept, "{alive} frames are alive, {guests} handshakes are not done");
        }
    }

    fn wait_for_offer(&mut self, channel: usize) {
        let stream = &mut self.streams[channel];
        if stream.waiting.is_none() {
            let other = stream.channel.clone();
            let woken = Arc::new(Woken::default());
            woken.set();
            let offered = Box::pin(async move { other.offered().await });
            stream.waiting = Some(Waiting { seq: stream.seq(), offered, woken });
        }
    }

    /// Whoever waits looks again only when it is woken.
    fn poll_waiting(&mut self) {
        for channel in 0..self.streams.len() {
            let is_owed = |seq| self.clients(channel).any(|client| client.next <= seq && client.since < seq);
            let Some(waiting) = &self.streams[channel].waiting else { continue };
            let is_owed = is_owed(waiting.seq);
            let stream = &mut self.streams[channel];
            let Some(Waiting { offered, woken, .. }) = &mut stream.waiting else { continue };
            if !woken.take() {
                continue;
            }
            let waker = Waker::from(Arc::clone(woken));
            if let Poll::Ready(()) = offered.as_mut().poll(&mut Context::from_waker(&waker)) {
                assert!(!is_owed, "somebody has not been offered it");
                stream.waiting = None;
            }
        }
    }

    /// An owner goes, with or without saying so, and another shard takes its place.
    fn replace_owner(&mut self, owner: usize) {
        let with = Owner::new(&self.hub, self.streams.len());
        let Owner { shard, rounds, clients, .. } = std::mem::replace(&mut self.owners[owner], with);
        if self.rng.bool() {
            shard.close();
        }
        drop(rounds);
        for Client { channel, next, .. } in clients.into_values() {
            self.streams[channel].discarded += self.streams[channel].seq() + 1 - next;
        }
        while let Some(index) = self.guests.iter().position(|guest| guest.shard == owner) {
            let Guest { channel, last, .. } = self.guests.swap_remove(index);
            let stream = &mut self.streams[channel];
            stream.discarded += stream.owed_since(last);
        }
    }

    fn check_counts(&self) {
        for (channel, stream) in self.streams.iter().enumerate() {
            let counters = stream.channel.counters();
            let counted = [&counters.published, &counters.pushed, &counters.dropped, &counters.discarded];
            let expected = [stream.seq(), stream.pushed, stream.dropped, stream.discarded];
            assert_eq!(counted.map(|counter| counter.get()), expected, "published, pushed, dropped, discarded");
            assert_eq!(stream.channel.subscribers(), self.listeners(channel));
            let owed = |client: &Client| stream.seq() + 1 - client.next;
            let guests = self.guests.iter().filter(|guest| guest.channel == channel);
            let queued = self.clients(channel).map(owed).sum::<u64>()
                + guests.map(|guest| stream.owed_since(guest.last)).sum::<u64>();
            assert_eq!(stream.pushed, stream.sent + stream.dropped + stream.discarded + queued);
        }
    }
}

impl Owner {
    fn new(hub: &Hub, channels: usize) -> Self {
        let shard = hub.add_shard();
        Self { rounds: hub.rounds(&shard), shard, clients: BTreeMap::new(), collected: vec![0; channels] }
    }
}
