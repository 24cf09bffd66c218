//! Joining and leaving: ten thousand of each, one by one, and all at once while another thread
//! publishes all the time. Beside it one set behind `ArcSwap`, which every join copies.
//!
//! After the benchmarks a table says how long publishing took while ten thousand joined and left: until
//! the message was accepted, which is when it is in the rings, or left with the thread that joins.
//!
//! ```sh
//! cargo bench --bench register
//! ```

#![allow(clippy::print_stdout, reason = "a table is a part of what it is for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use divan::Bencher;
use tickcast::fanout::{Channel, Hub, Message, Place, Rounds, Shard};

const JOINS: [usize; 2] = [1_000, 10_000];
const SHARDS: usize = 2;

fn main() {
    divan::main();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--bench"] {
        print_publish_times(10_000);
    }
}

#[divan::bench(args = JOINS, sample_count = 20, sample_size = 1)]
fn join(bencher: Bencher<'_, '_>, joins: usize) {
    bencher.with_inputs(|| Crowd::new(joins)).bench_local_refs(Crowd::join);
}

#[divan::bench(args = JOINS, sample_count = 20, sample_size = 1)]
fn leave(bencher: Bencher<'_, '_>, joins: usize) {
    bencher.with_inputs(|| Crowd::joined(joins)).bench_local_refs(Crowd::leave);
}

#[divan::bench(args = JOINS, sample_count = 20, sample_size = 1)]
fn join_while_publishing(bencher: Bencher<'_, '_>, joins: usize) {
    let prepared = || {
        let crowd = Crowd::new(joins);
        (Publishing::start(&crowd.channel), crowd)
    };
    bencher.with_inputs(prepared).bench_local_refs(|(_, crowd)| crowd.join());
}

#[divan::bench(args = JOINS, sample_count = 20, sample_size = 1)]
fn leave_while_publishing(bencher: Bencher<'_, '_>, joins: usize) {
    let prepared = || {
        let crowd = Crowd::joined(joins);
        (Publishing::start(&crowd.channel), crowd)
    };
    bencher.with_inputs(prepared).bench_local_refs(|(_, crowd)| crowd.leave());
}

#[divan::bench(args = JOINS, sample_count = 10, sample_size = 1)]
fn join_one_set(bencher: Bencher<'_, '_>, joins: usize) {
    let members: Vec<_> = (0..joins).map(Arc::new).collect();
    bencher.with_inputs(|| ArcSwap::from_pointee(Vec::new())).bench_local_refs(|set| {
        for member in &members {
            set.rcu(|members| {
                let mut members = Vec::clone(members);
                members.push(Arc::clone(member));
                members
            });
        }
    });
}

/// Clients of one channel.
struct Crowd {
    channel: Channel,
    shards: Vec<(Arc<Shard>, Rounds)>,
    clients: usize,
    /// By shard and slot.
    places: Vec<Vec<Option<Place>>>,
}

impl Crowd {
    /// Outside of the channel.
    fn new(clients: usize) -> Self {
        let hub = Hub::default();
        let channel = hub.channel("bench").expect("a name");
        let add = |_| {
            let shard = hub.add_shard();
            let rounds = hub.rounds(&shard);
            (shard, rounds)
        };
        let places = vec![vec![None; clients.div_ceil(SHARDS)]; SHARDS];
        Self { channel, shards: (0..SHARDS).map(add).collect(), clients, places }
    }

    /// Inside.
    fn joined(count: usize) -> Self {
        let mut crowd = Self::new(count);
        crowd.join();
        crowd
    }

    /// All join, one after the other, and are taken over by the owners of their shards.
    fn join(&mut self) {
        let memberships: Vec<_> = (0..self.clients).map(|n| self.channel.join(&self.shards[n % SHARDS].0)).collect();
        self.wait_for(self.clients);
        for (n, membership) in memberships.into_iter().enumerate() {
            let (shard, slot) = (n % SHARDS, n / SHARDS);
            let rounds = &mut self.shards[shard].1;
            let (place, _) = rounds.register(slot, membership).expect("joined");
            let _ = rounds.catch_up(place);
            self.places[shard][slot] = Some(place);
        }
    }

    /// All leave, one after the other; over when the last is out.
    fn leave(&mut self) {
        for ((_, rounds), places) in self.shards.iter_mut().zip(&mut self.places) {
            for slot in 0..places.len() {
                if let Some(place) = places[slot].take() {
                    rounds.deregister(place, |slot, place| places[slot] = Some(place));
                }
            }
        }
        self.wait_for(0);
    }

    /// A join may be left to the thread that publishes.
    fn wait_for(&self, count: usize) {
        while self.channel.subscribers() != count {
            std::thread::yield_now();
        }
    }
}

/// A thread that publishes without a pause until this is dropped.
struct Publishing {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Vec<Duration>>>,
}

impl Publishing {
    fn start(channel: &Channel) -> Self {
        let (channel, stop) = (channel.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let message = Message::binary(vec![b'x'; 1_024]);
        let (begun, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut times = Vec::new();
            loop {
                let start = Instant::now();
                while channel.publish(message.clone()).is_err() {
                    std::thread::yield_now();
                }
                times.push(start.elapsed());
                // Whoever started this goes on when it has begun.
                let _ = begun.send(());
                if stopped.load(Ordering::Relaxed) {
                    return times;
                }
            }
        });
        started.recv().expect("it publishes");
        Self { stop, thread: Some(thread) }
    }

    /// How long it took each time until the message was accepted, in ascending order.
    fn finish(mut self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("taken once");
        let mut times = thread.join().expect("no panic");
        times.sort_unstable();
        times
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn print_publish_times(joins: usize) {
    println!("\npublishing to up to {joins} clients that nobody serves, until accepted");
    println!("{:<30} {:>8} {:>12} {:>12} {:>12}", "meanwhile", "calls", "median", "99 %", "slowest");
    let mut crowd = Crowd::new(joins);
    let publishing = Publishing::start(&crowd.channel);
    crowd.join();
    print_times("all join", &publishing.finish());
    let publishing = Publishing::start(&crowd.channel);
    std::thread::sleep(Duration::from_millis(500));
    print_times("nothing", &publishing.finish());
    let publishing = Publishing::start(&crowd.channel);
    crowd.leave();
    print_times("all leave", &publishing.finish());
}

fn print_times(meanwhile: &str, times: &[Duration]) {
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let (median, slow, slowest) = (at(0.5), at(0.99), at(1.0));
    println!("{meanwhile:<30} {:>8} {median:>12.2?} {slow:>12.2?} {slowest:>12.2?}", times.len());
}
