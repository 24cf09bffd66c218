//! Joining and leaving: ten thousand of each, into the channel's sets and into a single one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use divan::Bencher;
use tickcast::fanout::{Hub, HubConfig, Subscriber};

const JOINS: [usize; 2] = [1_000, 10_000];

fn main() {
    divan::main();
}

#[divan::bench(args = JOINS, sample_count = 10)]
fn join(bencher: Bencher<'_, '_>, joins: usize) {
    bencher.with_inputs(|| prepared(joins)).bench_local_values(|(hub, mut subscribers)| {
        let channel = hub.channel("bench").expect("a name");
        subscribers.iter_mut().for_each(|subscriber| subscriber.join(&channel));
        (hub, subscribers)
    });
}

#[divan::bench(args = JOINS, sample_count = 10)]
fn leave(bencher: Bencher<'_, '_>, joins: usize) {
    let joined = || {
        let (hub, mut subscribers) = prepared(joins);
        let channel = hub.channel("bench").expect("a name");
        subscribers.iter_mut().for_each(|subscriber| subscriber.join(&channel));
        subscribers
    };
    bencher.with_inputs(joined).bench_local_values(drop);
}

#[divan::bench(args = JOINS, sample_count = 10)]
fn join_one_set(bencher: Bencher<'_, '_>, joins: usize) {
    let members: Vec<_> = (0..joins).map(Arc::new).collect();
    bencher.with_inputs(|| ArcSwap::from_pointee(Vec::new())).bench_local_values(|set| {
        for member in &members {
            set.rcu(|members| {
                let mut members = Vec::clone(members);
                members.push(Arc::clone(member));
                members
            });
        }
        set
    });
}

fn prepared(count: usize) -> (Hub, Vec<Subscriber>) {
    let hub = Hub::new(HubConfig { shards: 2, ..HubConfig::default() });
    hub.channel("bench").expect("a name");
    let shards = [hub.add_shard(), hub.add_shard()];
    let subscribers = (0..count).map(|n| hub.subscriber(&shards[n % 2], n / 2)).collect();
    (hub, subscribers)
}
