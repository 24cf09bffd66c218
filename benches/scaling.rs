//! What a second writer thread is worth: deliveries per second of one that serves all clients of a
//! channel, and of two that serve half of them each, or as many each.
//!
//! ```sh
//! cargo bench --bench scaling -- --clients 1000 --phases 200 --rounds 5
//! ```
//!
//! Every writer owns a shard and goes its rounds as the server's do, counts as they do, and has clients
//! without sockets: one kind copies a frame's bytes into a buffer of its own, as a socket would, the
//! other only looks at them. Copying is bound by memory, which the threads share; looking shows
//! what the engine itself costs and shares.
//!
//! Publishing is not measured, so it cannot be the bottleneck: the first thread publishes a burst, at
//! most a ring, while the other writer waits; then a delivery phase begins for both, and is over when
//! both have brought everybody everything. The two wait for each other by spinning, because a
//! phase is shorter than it takes to wake a thread. So two threads are all there is, and they need two
//! cores for themselves: whatever else runs shows as a ratio that no sharing explains.
//!
//! What a delivery writes: the client's number in its shard's rounds, the shard's counters, the
//! client's buffer; all are the writer's own, in cache lines that nobody else writes. What it reads
//! of others, the frame, was written when it was published. On two virtual cores two writers
//! were worth 1.9 to 2.0 of one. With one relaxed addition for each delivery to a counter of the channel,
//! which both share, they were worth 1.87 where clients only look at frames that come one at a time, and one
//! alone was a tenth slower.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use support::engine::go_rounds;
use tickcast::fanout::{Channel, Hub, Message, Rounds};
use tickcast::metrics::ShardCounters;

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Plan {
    clients: usize,
    phases: usize,
    size: usize,
    rounds: usize,
    buffer: usize,
}

impl Plan {
    /// Without `--bench` cargo only wants to see it run.
    fn from_arguments(arguments: &[String]) -> Result<Self, String> {
        let smoke = !arguments.iter().any(|argument| argument == "--bench");
        let mut plan = if smoke {
            Self { clients: 20, phases: 3, size: 1_024, rounds: 1, buffer: 4_096 }
        } else {
            Self { clients: 1_000, phases: 200, size: 1_024, rounds: 5, buffer: 4_096 }
        };
        let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(name) = rest.next() {
            let field = match name.as_str() {
                "--clients" => &mut plan.clients,
                "--phases" => &mut plan.phases,
                "--size" => &mut plan.size,
                "--rounds" => &mut plan.rounds,
                "--buffer" => &mut plan.buffer,
                // What a test runner passes on.
                _ if smoke => continue,
                _ => return Err(format!("{name}: --clients, --phases, --size, --rounds, --buffer are known")),
            };
            let value = rest.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
            *field = value.ok_or_else(|| format!("{name} takes a number from 1"))?;
        }
        Ok(plan)
    }
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = Plan::from_arguments(&arguments)?;
    let Plan { clients, phases, size, rounds, buffer } = plan;
    println!(
        "{clients} clients, messages of {size} bytes, buffers of {buffer}; median of {phases} phases, of {rounds} rounds"
    );
    println!("{:<28} {:>14} {:>22} {:>22}", "", "one writer", "two, half of them each", "two, as many each");
    println!(
        "{:<28} {:>14} {:>14} {:>7} {:>14} {:>7}",
        "", "deliveries/s", "deliveries/s", "ratio", "deliveries/s", "ratio"
    );
    compare::<Look>("look, one at a time", plan, 1);
    compare::<Look>("look, bursts of 50", plan, 50);
    compare::<Copy>("copy, one at a time", plan, 1);
    compare::<Copy>("copy, bursts of 50", plan, 50);
    Ok(())
}

/// Measures all three in turn, so that whatever else the machine does meets each.
fn compare<S: Sink>(name: &str, plan: Plan, burst: usize) {
    let half = plan.clients.div_ceil(2);
    let mut rates = [(); 3].map(|()| Vec::new());
    for _ in 0..plan.rounds {
        let layouts: [&[usize]; 3] = [&[plan.clients], &[half, plan.clients - half], &[plan.clients, plan.clients]];
        for (rates, shares) in rates.iter_mut().zip(layouts) {
            rates.push(measure::<S>(plan, shares, burst));
        }
    }
    let [one, halves, both] = rates.map(|mut rates| {
        rates.sort_unstable_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    let (half_ratio, ratio) = (halves / one, both / one);
    println!("{name:<28} {one:>14.0} {halves:>14.0} {half_ratio:>7.2} {both:>14.0} {ratio:>7.2}");
}

/// Where a client's frames go.
trait Sink: Send {
    fn new(plan: Plan) -> Self;
    fn take(&mut self, wire: &[u8]);
}

/// A buffer of its own, written again and again from the beginning.
struct Copy {
    buffer: Box<[u8]>,
    end: usize,
}

impl Sink for Copy {
    fn new(plan: Plan) -> Self {
        Self { buffer: vec![0; plan.buffer].into(), end: 0 }
    }

    fn take(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() {
            if self.end == self.buffer.len() {
                self.end = 0;
            }
            let room = &mut self.buffer[self.end..];
            let len = room.len().min(wire.len());
            let (now, later) = wire.split_at(len);
            room[..len].copy_from_slice(now);
            self.end += len;
            wire = later;
        }
        black_box(&self.buffer);
    }
}

/// Nowhere.
struct Look;

impl Sink for Look {
    fn new(_: Plan) -> Self {
        Self
    }

    fn take(&mut self, wire: &[u8]) {
        black_box((wire.first(), wire.last()));
    }
}

/// A writer thread's part: its shard's rounds, and its clients by slot.
struct Writer<S> {
    counters: Arc<ShardCounters>,
    rounds: Rounds,
    sinks: Vec<S>,
}

impl<S: Sink> Writer<S> {
    fn new(hub: &Hub, channel: &Channel, plan: Plan, clients: usize) -> Self {
        let shard = hub.add_shard();
        let rounds = go_rounds(hub, &shard, channel, clients);
        Self { counters: Arc::clone(shard.counters()), rounds, sinks: (0..clients).map(|_| S::new(plan)).collect() }
    }

    /// Brings everybody everything there is.
    fn deliver(&mut self) {
        self.rounds.collect();
        while let Some(delivery) = self.rounds.next_delivery() {
            let sink = &mut self.sinks[delivery.slot];
            let (mut bytes, now) = (0, Instant::now());
            for frame in delivery.frames {
                sink.take(frame.wire());
                bytes += frame.wire().len() as u64;
                self.counters.frames_sent.add(1);
                self.counters.delivery_seconds.observe(now.saturating_duration_since(frame.published()));
            }
            self.counters.bytes_sent.add(bytes);
        }
    }
}

/// How far the threads are. Each change is release and each look acquire: who sees that a phase has
/// begun sees what was published.
#[derive(Default)]
struct Progress {
    begun: AtomicUsize,
    done: AtomicUsize,
}

impl Progress {
    fn wait(count: &AtomicUsize, until: usize) {
        for spins in 1_u64.. {
            if count.load(Ordering::Acquire) >= until {
                return;
            }
            std::hint::spin_loop();
            // On a single core the other thread needs it.
            if spins.is_multiple_of(1 << 14) {
                std::thread::yield_now();
            }
        }
    }
}

/// Deliveries per second of a writer for each of `shares` of clients.
fn measure<S: Sink>(plan: Plan, shares: &[usize], burst: usize) -> f64 {
    let hub = Hub::default();
    let channel = hub.channel("bench").expect("a name");
    let mut writers = shares.iter().map(|clients| Writer::<S>::new(&hub, &channel, plan, *clients));
    let mut first = writers.next().expect("one at least");
    let others: Vec<_> = writers.collect();
    let message = Message::binary(vec![b'x'; plan.size]);
    // The first phases pay for caches and pages.
    let (warm_up, progress) = (plan.phases / 10 + 1, Progress::default());
    let phases = plan.phases + warm_up;
    let mut times = Vec::with_capacity(phases);
    std::thread::scope(|scope| {
        for mut writer in others {
            let progress = &progress;
            scope.spawn(move || {
                for phase in 1..=phases {
                    Progress::wait(&progress.begun, phase);
                    writer.deliver();
                    progress.done.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        for phase in 1..=phases {
            (0..burst).for_each(|_| _ = channel.publish(message.clone()).expect("alone"));
            let start = Instant::now();
            progress.begun.store(phase, Ordering::Release);
            first.deliver();
            Progress::wait(&progress.done, phase * (shares.len() - 1));
            times.push(start.elapsed());
        }
    });
    let clients: usize = shares.iter().sum();
    let sent = hub.metrics().sent().0;
    assert_eq!(sent, (clients * phases * burst) as u64, "a phase brings everybody everything");
    // The median, because a phase in which a thread lost its core measures the scheduler.
    let times = &mut times[warm_up..];
    times.sort_unstable();
    (clients * burst) as f64 / times[times.len() / 2].as_secs_f64()
}
