//! The whole server against thousands of simulated clients: loss, stalls, partitions, resets, churn.
//!
//! The server is the real one; only its listener is replaced, and time. All runs on one thread whose clock
//! jumps from one event to the next, so that minutes pass in seconds. Every decision comes from a seed, and
//! each client has a generator of its own. Not seeded: which ready branch tokio's `select!` takes first. It
//! decides only what is done first within one moment: hundreds of clients get the same messages at the same
//! times again, until the server shuts down, when the order of Closes may differ. With thousands, now and then
//! a few times differ.
//!
//! Not `turmoil`: each client would be a host with a runtime that is ticked every millisecond, and its TCP
//! bounds segments of any size instead of bytes and does not retransmit, so a socket never fills as sockets do.
//!
//! A failure prints its seed; `SIMULATION_SEED=N cargo test --test simulation` runs that one alone, and
//! `SIMULATION_MINUTES=N` makes the servers run for so many simulated minutes.

mod agenda;
mod audit;
mod checks;
mod client;
mod door;
mod flow;
mod frames;
mod persona;
mod scenario;
mod wire;
mod world;

use scenario::Scale;

const SMALL: Scale = Scale { clients: 300, seconds: 120 };
const LARGE: Scale = Scale { clients: 3_000, seconds: 40 };

/// Says which seed it was, should the test fail.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it again: SIMULATION_SEED={} cargo test --test simulation", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}

/// A seed says of which size it is, so that it is enough to run it again.
fn run(seed: u64) -> checks::Summary {
    let seed = Seed(seed);
    let scale = if seed.0.is_multiple_of(8) { LARGE } else { SMALL };
    let seconds = number("SIMULATION_MINUTES").map_or(scale.seconds, |minutes| 60 * minutes);
    let started = std::time::Instant::now();
    let summary = scenario::run(seed.0, Scale { seconds, ..scale });
    eprintln!("seed {}, {} clients, {:.1} s: {summary:?}", seed.0, scale.clients, started.elapsed().as_secs_f64());
    summary
}

#[test]
fn fixed_seeds() {
    if number("SIMULATION_SEED").is_some() {
        return;
    }
    for seed in 1..4 {
        let summary = run(seed);
        assert!(summary.counts.dropped > 0 && summary.gaps > 0, "nobody lagged");
        assert!(summary.killed > 0 && summary.lost > 0 && summary.verified > 0, "nothing happened");
    }
}

#[test]
fn thousands_of_clients() {
    if number("SIMULATION_SEED").is_none() {
        run(8);
    }
}

#[test]
fn a_seed_of_the_day() {
    match number("SIMULATION_SEED") {
        Some(seed) => {
            run(seed);
        }
        None => (0..3).for_each(|_| {
            run(u64::from(fastrand::u32(..)) | 1);
        }),
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let scale = Scale { clients: 200, seconds: 30 };
    let seed = Seed(number("SIMULATION_SEED").unwrap_or(5));
    assert_eq!(scenario::run(seed.0, scale), scenario::run(seed.0, scale));
}
