//! Percentiles, and what they should be.

use std::time::Duration;

const NAME: usize = 34;
/// What half, and 99 of 100, of the messages should stay below.
const P50: Duration = Duration::from_micros(30);
const P99: Duration = Duration::from_micros(100);

pub(crate) fn print_head() {
    println!("{:<NAME$} {:>9} {:>9} {:>9} {:>9}   µs", "", "p50", "p90", "p99", "max");
}

pub(crate) fn print_row(name: &str, times: &[Duration]) {
    let sorted = sorted(times);
    let micros = |share| at(&sorted, share).as_nanos() as f64 / 1e3;
    let (p50, p90, p99, max) = (micros(0.5), micros(0.9), micros(0.99), micros(1.0));
    println!("{name:<NAME$} {p50:>9.2} {p90:>9.2} {p99:>9.2} {max:>9.2}");
}

pub(crate) fn print_verdict(total: &[Duration]) {
    let sorted = sorted(total);
    for (name, share, bound) in [("p50", 0.5, P50), ("p99", 0.99, P99)] {
        let time = at(&sorted, share);
        let verdict = if time < bound { "under" } else { "not under" };
        println!("the server's total, {name}: {time:.1?}, {verdict} {bound:?}");
    }
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Nearest rank.
fn at(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
