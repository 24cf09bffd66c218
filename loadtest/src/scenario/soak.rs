//! `soak`: steady for long, told in stretches, so that what creeps is seen.

use super::bench::Bench;
use super::watch::Watch;
use crate::report::model::{Outcome, Stretch};

pub(super) fn play(bench: &mut Bench<'_>, outcome: &mut Outcome) -> anyhow::Result<()> {
    let total = bench.plan.duration;
    bench.begin(total)?;
    drop(bench.take_part()?);
    let (mut done, mut cpu) = (std::time::Duration::ZERO, 0);
    while done < total && !bench.over() {
        let stretch = bench.plan.stretch.min(total - done);
        bench.pass("soak", stretch, |_| Ok(()))?;
        done += stretch;
        let part = bench.take_part()?;
        let quantiles = part.free.delivery.quantiles();
        let last = bench.ledger.timeline.last();
        let used = bench.watch.as_ref().map(Watch::cpu_so_far);
        outcome.soak.push(Stretch {
            until: done.as_secs_f64(),
            connected: bench.ledger.open as u64,
            messages: part.messages(),
            holes: part.free.holes(),
            p50_us: quantiles.map(|q| q.p50),
            p99_us: quantiles.map(|q| q.p99),
            max_us: quantiles.map(|q| q.max),
            server_rss_bytes: last.and_then(|second| second.server_rss_bytes),
            server_cores: used.map(|used| used.saturating_sub(cpu) as f64 / 1e9 / stretch.as_secs_f64()),
        });
        cpu = used.unwrap_or(0);
    }
    bench.settle(bench.plan.settle)
}
