//! `slow`: all read freely in the first half; in the second a share reads slowly, or not at all.

use super::bench::Bench;
use crate::report::model::{Outcome, Slow};
use crate::stats::{Interval, Latencies};
use crate::worker::Command;

pub(super) fn play(bench: &mut Bench<'_>, outcome: &mut Outcome) -> anyhow::Result<()> {
    let half = bench.plan.duration / 2;
    bench.begin(bench.plan.duration)?;
    drop(bench.take_part()?);
    bench.pass("all read", half, |_| Ok(()))?;
    let before = bench.take_part()?;
    let rate = bench.plan.slow_rate;
    bench.crew.tell(|_| Command::Slow(Some(rate)));
    bench.pass("some slow", half, |_| Ok(()))?;
    let during = bench.take_part()?;
    // What waits for the slow ones is theirs, and they lose nothing that is still on its way.
    bench.crew.tell(|_| Command::Slow(None));
    bench.settle(bench.plan.settle)?;
    let after = bench.take_part()?;
    outcome.slow = Some(report(bench.plan.slow_clients() as u64, rate, &before, &during, &after));
    Ok(())
}

fn report(clients: u64, rate: u64, before: &Interval, during: &Interval, after: &Interval) -> Slow {
    let mut staleness = during.slow.staleness.clone();
    let mut delivery = during.slow.delivery.clone();
    let mut holes = during.slow.holes + after.slow.holes;
    let mut messages = during.slow.messages;
    // Whoever read nothing learns how stale everything was only when he reads again.
    if rate == 0 {
        staleness.merge(&after.slow.staleness);
        delivery.merge(&after.slow.delivery);
        messages += after.slow.messages;
    }
    holes = holes.max(0);
    let some = |latencies: &Latencies| latencies.quantiles();
    let numbered = before.free.numbered + during.free.numbered > 0;
    Slow {
        clients,
        bytes_per_second: rate,
        staleness_messages: some(&staleness),
        delivery_us: some(&delivery),
        messages,
        holes: numbered.then_some(holes as u64),
        disconnects: during.slow_disconnects + after.slow_disconnects,
        others_before_us: some(&before.free.delivery),
        others_during_us: some(&during.free.delivery),
        others_holes: numbered.then_some(during.free.holes()),
    }
}
