//! `storm`: everybody drops at once and reconnects at once, and how long it takes until all have data again.

use super::bench::Bench;
use crate::report::model::{Outcome, Storm};
use crate::worker::Command;

pub(super) fn play(bench: &mut Bench<'_>, outcome: &mut Outcome) -> anyhow::Result<()> {
    let storms = bench.plan.storms;
    // Calm before the first, and as much behind each.
    let calm = bench.plan.duration / (storms + 1);
    bench.begin(bench.plan.duration)?;
    bench.pass("calm", calm, |_| Ok(()))?;
    for number in 1..=storms {
        if bench.over() {
            break;
        }
        drop(bench.take_part()?);
        let dropped = bench.ledger.open as u64;
        bench.crew.tell(|_| Command::Storm);
        bench.pass("storm", calm, |_| Ok(()))?;
        let part = bench.take_part()?;
        let first = part.first_message.quantiles();
        outcome.storms.push(Storm {
            at: (calm * number).as_secs_f64(),
            dropped,
            recovered: part.returned.min(dropped),
            half_seconds: (part.returned * 2 >= dropped)
                .then(|| part.first_message.at(half(dropped, part.returned)) / 1e6),
            all_seconds: first.filter(|_| part.returned >= dropped).map(|first| first.max / 1e6),
            first_message_us: first,
        });
    }
    bench.settle(bench.plan.settle)
}

/// Half of those that dropped, as a quantile of those that are back.
fn half(dropped: u64, back: u64) -> f64 {
    dropped as f64 / 2.0 / back.max(1) as f64
}
