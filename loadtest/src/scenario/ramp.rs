//! `ramp`: rates that grow step by step until one does not hold; the one before is the knee.
//!
//! The figures of the whole run are those of the knee.

use std::time::Duration;

use super::bench::{Bench, LEAD};
use super::ledger::WorkerTimes;
use super::summary::publisher_late;
use super::watch::Watch;
use crate::probe::Usage;
use crate::publisher::{Counts, Job, Publisher};
use crate::report::model::{Knee, Outcome, Step};
use crate::stats::{Interval, Latencies};
use crate::worker::wall;

/// Everything about a step, in case it is the knee.
struct Measured {
    interval: Interval,
    spread: Latencies,
    counts: Counts,
    workers: Vec<WorkerTimes>,
    watch: Option<Watch>,
    own_start: Usage,
    saturated: u64,
    scheduled: u64,
    start: u64,
    end: u64,
}

pub(super) fn play(bench: &mut Bench<'_>, outcome: &mut Outcome) -> anyhow::Result<()> {
    let plan = bench.plan;
    bench.pass("warming up", plan.warmup, |_| Ok(()))?;
    let mut rate = plan.publish_rate;
    let mut best: Option<Measured> = None;
    let (limit, by_server) = loop {
        let measured = play_step(bench, rate)?;
        let step = judge(bench, rate, &measured);
        let why = step.why.clone();
        let by_server = !bench.was_interrupted() && !harness_lost(bench, &measured);
        outcome.steps.push(step);
        if why.is_none() || best.is_none() {
            best = Some(measured);
        }
        if let Some(why) = why {
            break (why, by_server);
        }
        if rate >= plan.max_rate {
            break (format!("--max-rate {}", plan.max_rate), false);
        }
        rate = (rate * plan.step_factor).min(plan.max_rate);
    };
    match outcome.steps.iter().rev().find(|step| step.held) {
        None => bench.invalid.push(format!("the first rate did not hold: {limit}")),
        Some(Step { rate, messages_per_second, p99_us, .. }) => {
            let (rate, messages_per_second, p99_us) = (*rate, *messages_per_second, *p99_us);
            outcome.knee = Some(Knee { rate, messages_per_second, p99_us, limit, by_server });
        }
    }
    // What came after the knee is not of it.
    bench.ledger.accepting = false;
    if let Some(best) = best {
        bench.ledger.measured = best.interval;
        bench.ledger.spread_us = best.spread;
        bench.ledger.workers = best.workers;
        bench.ledger.saturated = best.saturated;
        bench.counts = best.counts;
        bench.watch = best.watch;
        bench.own_start = best.own_start;
        bench.scheduled = best.scheduled;
        (bench.start, bench.end) = (best.start, best.end);
    }
    Ok(())
}

fn play_step(bench: &mut Bench<'_>, rate: f64) -> anyhow::Result<Measured> {
    let plan = bench.plan;
    let scheduled = (rate * plan.step_duration.as_secs_f64()).round().max(1.0) as u64;
    let start = wall() + LEAD.as_nanos() as u64;
    bench.publish(Job { start, rate, messages: scheduled }, 0, scheduled)?;
    bench.pass(&format!("{rate:.0}/s"), plan.step_duration, |_| Ok(()))?;
    let end = wall();
    // A little more than the limit: what comes later has crossed it.
    bench.settle(plan.p99_limit + Duration::from_secs(1))?;
    if let Some(watch) = &mut bench.watch {
        watch.stop();
    }
    Ok(Measured {
        interval: bench.take_part()?,
        spread: bench.ledger.take_spread(),
        counts: bench.publisher.as_ref().map(Publisher::take).unwrap_or_default(),
        workers: bench.ledger.workers.clone(),
        watch: bench.watch.clone(),
        own_start: bench.own_start.clone(),
        saturated: bench.ledger.saturated,
        scheduled,
        start,
        end,
    })
}

/// Whether the harness, and not the server, may be what limited a step.
fn harness_lost(bench: &Bench<'_>, measured: &Measured) -> bool {
    let seconds = measured.end.saturating_sub(measured.start) as f64 / 1e9;
    let p99 = measured.interval.free.delivery.quantiles().map_or(0.0, |delivery| delivery.p99);
    let workers = measured.workers.iter().any(|worker| worker.times.lost(seconds));
    // A step of many seconds may have a bad one.
    let saturated = measured.saturated as f64 > bench.plan.step_duration.as_secs_f64() / 10.0;
    workers || saturated || publisher_late(&measured.counts, p99)
}

/// Whether a step held, and why not.
fn judge(bench: &Bench<'_>, rate: f64, measured: &Measured) -> Step {
    let plan = bench.plan;
    let free = &measured.interval.free;
    let once = if free.numbered > 0 { free.numbered - free.repeats } else { free.messages };
    let delivered = once as f64 / (measured.scheduled * bench.open_at_start as u64).max(1) as f64;
    let end = measured.end.max(measured.interval.last_message);
    let seconds = (end.saturating_sub(measured.start) as f64 / 1e9).max(1e-3);
    let busiest = measured.workers.iter().map(|worker| worker.times.ran).max().unwrap_or(0) as f64 / 1e9 / seconds;
    let quantiles = free.delivery.quantiles().unwrap_or_default();
    let unfinished = bench.publisher.as_ref().is_some_and(|publisher| !publisher.idle());
    let why = if bench.was_interrupted() {
        Some("interrupted".to_owned())
    } else if bench.over() {
        Some("the server closed all connections".to_owned())
    } else if unfinished {
        Some("publications are not taken this fast".to_owned())
    } else if delivered < plan.delivered_limit {
        Some(format!("delivered {:.1} %", delivered * 1e2))
    } else {
        (quantiles.p99 > plan.p99_limit.as_secs_f64() * 1e6).then(|| "p99 over the limit".to_owned())
    };
    // What holds holds, whatever kept the harness: its latencies are then upper bounds. What does not may
    // be the harness's own failure.
    let excuse = if harness_lost(bench, measured) { ", but the harness did not keep up" } else { "" };
    let why = why.map(|why| why + excuse);
    Step {
        rate,
        messages_per_second: free.messages as f64 / seconds,
        delivered,
        p50_us: quantiles.p50,
        p99_us: quantiles.p99,
        server_cores: measured.watch.as_ref().map(|watch| watch.cpu() as f64 / 1e9 / seconds),
        busiest_worker: busiest,
        held: why.is_none(),
        why,
    }
}
