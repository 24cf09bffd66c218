//! From publish to the socket, over real loopback connections: what one delivered message costs in
//! CPU and one idle connection in memory.
//!
//! ```sh
//! cargo bench --bench delivery -- --clients 1000 --messages 300
//! ```
//!
//! Compared are the server as it is (one writer task a shard), the same rings with one writer task
//! a client, and the floor: one thread that calls `send` for each socket in turn. The clients
//! are another process, so that only the sender's CPU is counted (`/proc/self/task/*/schedstat`).
//! `one at a time` publishes the next message when everybody has the last one; `bursts` publishes 25
//! at once, so that they can be written together.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

mod receiver;
mod sender;

use sender::{Floor, PerClient, PerShard, Sender};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: usize,
    pub(crate) messages: usize,
    pub(crate) size: usize,
    pub(crate) rounds: usize,
    pub(crate) workers: usize,
}

impl Plan {
    /// Without `--bench` cargo only wants to see it run.
    fn from_arguments(arguments: &[String]) -> Result<Self, String> {
        let smoke = !arguments.iter().any(|argument| argument == "--bench");
        let mut plan = if smoke {
            Self { clients: 20, messages: 25, size: 1_024, rounds: 1, workers: 2 }
        } else {
            Self { clients: 1_000, messages: 300, size: 1_024, rounds: 3, workers: 2 }
        };
        let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(name) = rest.next() {
            let field = match name.as_str() {
                "--clients" => &mut plan.clients,
                "--messages" => &mut plan.messages,
                "--size" => &mut plan.size,
                "--rounds" => &mut plan.rounds,
                "--workers" => &mut plan.workers,
                // What a test runner passes on.
                _ if smoke => continue,
                _ => return Err(format!("{name}: --clients, --messages, --size, --rounds, --workers are known")),
            };
            let value = rest.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
            *field = value.ok_or_else(|| format!("{name} takes a number from 1"))?;
        }
        Ok(plan)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, address, clients] = &arguments[..]
        && role == "receive"
    {
        return receiver::run(address, clients.parse()?);
    }
    let plan = Plan::from_arguments(&arguments)?;
    let Plan { clients, messages, size, rounds, .. } = plan;
    println!("{clients} clients, {messages} messages of {size} bytes, {rounds} rounds; CPU of the sending process");
    println!("{:<28} {:>16} {:>12} {:>14}", "", "one at a time", "bursts", "idle memory");
    println!("{:<28} {:>16} {:>12} {:>14}", "", "µs/delivery", "µs/delivery", "KiB/connection");
    for _ in 0..rounds {
        measure::<Floor>("one thread, send in turn", plan)?;
        measure::<PerClient>("a writer task a client", plan)?;
        measure::<PerShard>("a writer task a shard", plan)?;
    }
    Ok(())
}

fn measure<S: Sender>(name: &str, plan: Plan) -> Result<(), Box<dyn std::error::Error>> {
    let before = resident();
    let mut sender = S::start(plan)?;
    let mut receiver = receiver::Receiver::start(sender.address(), plan.clients)?;
    sender.wait_for_clients(plan.clients)?;
    let memory = resident().saturating_sub(before) as f64 / 1024.0 / plan.clients as f64;
    // The first deliveries pay for caches and buffers.
    deliver(&mut sender, &mut receiver, plan, 10, 1)?;
    let single = deliver(&mut sender, &mut receiver, plan, plan.messages, 1)?;
    let bursts = deliver(&mut sender, &mut receiver, plan, plan.messages, 25)?;
    println!("{name:<28} {single:>16.2} {bursts:>12.2} {memory:>14.2}");
    Ok(())
}

/// Delivers `messages` in bursts; returns microseconds of CPU for each delivery.
fn deliver(
    sender: &mut impl Sender,
    receiver: &mut receiver::Receiver,
    plan: Plan,
    messages: usize,
    burst: usize,
) -> Result<f64, Box<dyn std::error::Error>> {
    let frame = plan.size + if plan.size < 126 { 2 } else { 4 };
    let before = cpu_nanos();
    let mut left = messages;
    while left > 0 {
        let now = burst.min(left);
        sender.publish(now, plan.size)?;
        receiver.wait_for((now * frame * plan.clients) as u64)?;
        left -= now;
    }
    Ok((cpu_nanos() - before) as f64 / 1e3 / (messages * plan.clients) as f64)
}

/// Time all threads of this process have run, in nanoseconds.
fn cpu_nanos() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_task = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.filter_map(of_task).sum()
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
