//! From what was measured to the report of a run.

use super::bench::Bench;
use crate::options::Scenario;
use crate::probe::Usage;
use crate::publisher::Counts;
use crate::report::format::{count, share, time_us};
use crate::report::model::{Connections, Harness, Latency, Outcome, Run, Sequence, Traffic, Verdict};
use crate::stats::Received;
use crate::worker::{CONNECTION_BYTES, wall};

/// A clock that was set by more than this in the run has spoilt every latency, nanoseconds.
const CLOCK_STEP: u64 = 5_000_000;
/// Share of seconds in which the harness may be saturated.
const SATURATED_SHARE: f64 = 0.05;
/// Lateness of the publisher that matters: this long, and this share of the p99.
const LATE_US: f64 = 5_000.0;
const LATE_SHARE: f64 = 0.25;
/// Messages that may well be under way when a stream is cut off.
const BEHIND: u64 = 10;
/// Points of the drawn distribution for each tenfold.
const CURVE_STEPS: usize = 20;

/// The report, judged.
pub(super) fn run(mut bench: Bench<'_>, outcome: Outcome) -> anyhow::Result<Run> {
    let plan = bench.plan;
    let last = bench.ledger.measured.last_message.max(bench.end);
    let seconds = if bench.start == 0 { 0.0 } else { last.saturating_sub(bench.start) as f64 / 1e9 };
    let messages = bench.ledger.measured.messages();
    let (opened, measured) = (bench.connected_by_ramp, &bench.ledger.measured);
    let mut run = Run {
        name: plan.name.clone(),
        scenario: plan.scenario.name().to_owned(),
        config: plan.texts.clone(),
        started_ms: bench.began_wall / 1_000_000,
        seconds,
        connections: connections(&bench),
        traffic: traffic(&bench, seconds),
        sequence: sequence(&bench),
        latency: latency(&measured.free),
        spread_us: bench.ledger.spread_us.quantiles(),
        publisher: bench.publisher.as_ref().map(|_| bench.counts.report(bench.scheduled, plan.publish_rate)),
        harness: harness(&bench, seconds),
        server: bench.watch.as_mut().map(|watch| watch.report(messages, opened)),
        outcome,
        timeline: std::mem::take(&mut bench.ledger.timeline),
        ..Run::default()
    };
    if let (Some(publisher), Some(knee)) = (&mut run.publisher, &run.outcome.knee) {
        publisher.rate = knee.rate;
    }
    run.invalid = std::mem::take(&mut bench.invalid);
    let own_fault = own_fault(&bench, &run);
    let harness_failed = !own_fault.is_empty();
    run.invalid.extend(own_fault);
    run.invalid.extend(not_as_asked(&bench, &run));
    run.thresholds = plan.fail_if.iter().map(|threshold| threshold.judge(&run)).collect();
    let unjudged = run.thresholds.iter().filter(|threshold| threshold.value.is_none() && !threshold.crossed);
    run.invalid.extend(unjudged.map(|threshold| format!("cannot judge {}: {}", threshold.expression, threshold.shown)));
    run.warnings = std::mem::take(&mut bench.warnings);
    run.warnings.extend(warnings(&bench, &run));
    let crossed = run.thresholds.iter().any(|threshold| threshold.crossed);
    // A harness that did not keep up cannot accuse anybody; a server that ended the run can be accused.
    run.verdict = match (run.invalid.is_empty(), crossed) {
        (true, false) => Verdict::Held,
        (true, true) => Verdict::Crossed,
        (false, true) if !harness_failed && !bench.was_interrupted() => Verdict::Crossed,
        _ => Verdict::Invalid,
    };
    Ok(run)
}

fn connections(bench: &Bench<'_>) -> Connections {
    let whole = &bench.ledger.whole;
    Connections {
        wanted: bench.plan.connections as u64,
        open_at_start: bench.open_at_start as u64,
        open_at_end: bench.ledger.open as u64,
        opened: whole.opened,
        connect_errors: whole.connect_errors.total(),
        connect_error_reasons: whole.connect_errors.sorted(),
        disconnects: whole.disconnects.total(),
        disconnect_reasons: whole.disconnects.sorted(),
        ramp_seconds: bench.ramp_seconds,
        connect_us: whole.connect.quantiles(),
    }
}

fn traffic(bench: &Bench<'_>, seconds: f64) -> Traffic {
    let measured = &bench.ledger.measured;
    let free = &measured.free;
    let once = if free.numbered > 0 { free.numbered.saturating_sub(free.repeats) } else { free.messages };
    let come_and_go = matches!(bench.plan.scenario, Scenario::Churn | Scenario::Storm);
    let slow = if bench.plan.scenario == Scenario::Slow { bench.plan.slow_clients() } else { 0 };
    let clients = bench.open_at_start.saturating_sub(slow) as u64;
    let expected = if bench.publisher.is_some() && !come_and_go {
        Some(bench.scheduled * clients)
    } else {
        (free.numbered > 0).then(|| once + free.holes())
    };
    let silence = bench.ledger.workers.iter().map(|worker| worker.silence).min().unwrap_or(0);
    let per_second = |value: u64| if seconds > 0.0 { value as f64 / seconds } else { 0.0 };
    Traffic {
        messages: measured.messages(),
        binary: free.binary + measured.slow.binary,
        payload_bytes: measured.payload_bytes(),
        wire_bytes: measured.wire_bytes,
        messages_per_second: per_second(measured.messages()),
        payload_bytes_per_second: per_second(measured.payload_bytes()),
        untimed: free.untimed,
        future: free.future,
        retained: free.retained,
        pings: measured.pings,
        expected,
        delivered: expected.filter(|expected| *expected > 0).map(|expected| once as f64 / expected as f64),
        longest_silence_us: silence as f64 / 1e3,
    }
}

/// Numbers, and the clients that lack some at the end, which no hole tells of.
fn sequence(bench: &Bench<'_>) -> Option<Sequence> {
    let mut sequence = bench.ledger.measured.free.sequence()?;
    let newest = bench.highest.iter().flatten().max().copied().unwrap_or(0);
    sequence.silent_clients = bench.highest.iter().filter(|highest| highest.is_none()).count() as u64;
    sequence.behind = bench.highest.iter().flatten().map(|highest| newest - highest).max().unwrap_or(0);
    Some(sequence)
}

fn sequence_warnings(sequence: &Sequence) -> Vec<String> {
    let mut warnings = Vec::new();
    if sequence.silent_clients > 0 {
        warnings.push(format!("{} open clients received no number at all", count(sequence.silent_clients)));
    }
    if sequence.behind > BEHIND {
        let behind = count(sequence.behind);
        warnings.push(format!("a client was {behind} messages behind at the end: what it lacks is in no hole"));
    }
    if sequence.restarts > 0 {
        warnings.push(format!(
            "{} times a numbering began anew: losses around that are not counted",
            count(sequence.restarts)
        ));
    }
    warnings
}

fn latency(free: &Received) -> Option<Latency> {
    let delivery_us = free.delivery.quantiles()?;
    let uncorrected_us = free.uncorrected.quantiles();
    let mut curve = Vec::new();
    let mut tail: f64 = 1.0;
    // As far as there are messages to tell.
    while tail * delivery_us.count as f64 >= 1.0 {
        let quantile = 1.0 - tail;
        curve.push((quantile, free.delivery.at(quantile), uncorrected_us.map(|_| free.uncorrected.at(quantile))));
        tail /= 10_f64.powf(1.0 / CURVE_STEPS as f64);
    }
    Some(Latency { delivery_us, uncorrected_us, curve })
}

fn harness(bench: &Bench<'_>, seconds: f64) -> Harness {
    let now = Usage::of_self();
    let share = |nanos: u64| if seconds > 0.0 { nanos as f64 / 1e9 / seconds } else { 0.0 };
    let ((few_rss, few), (all_rss, all)) = (bench.own_few, bench.own_all);
    let grown = all_rss.saturating_sub(few_rss) as f64;
    let workers = &bench.ledger.workers;
    let waited: u64 = workers.iter().map(|worker| worker.times.waited).sum();
    Harness {
        workers: workers.len(),
        cpu_seconds: now.cpu.saturating_sub(bench.own_start.cpu) as f64 / 1e9,
        busiest_worker: workers.iter().map(|worker| share(worker.times.ran)).fold(0.0, f64::max),
        saturated_seconds: bench.ledger.saturated,
        waiting_for_cpu: share(waited) / workers.len().max(1) as f64,
        own_delay_us: bench.ledger.measured.own_delay.quantiles(),
        rss_bytes: now.rss,
        bytes_per_connection: (all > few).then(|| CONNECTION_BYTES as f64 + grown / (all - few) as f64),
    }
}

/// Why the harness cannot vouch for its figures.
fn own_fault(bench: &Bench<'_>, run: &Run) -> Vec<String> {
    let mut reasons = Vec::new();
    let measured = run.timeline.iter().filter(|second| second.measured && second.seconds > 0.5).count();
    // In a ramp the step that saturates the harness is told there, and a storm is meant to.
    let excused = matches!(bench.plan.scenario, Scenario::Ramp | Scenario::Storm);
    if !excused && bench.ledger.saturated as f64 > measured as f64 * SATURATED_SHARE {
        reasons.push(format!(
            "the harness was saturated, or had no processor, in {} of {measured} seconds (workers: busiest {} of a core, \
             waiting {}): more --workers, another machine, or less load",
            bench.ledger.saturated,
            share(run.harness.busiest_worker),
            share(run.harness.waiting_for_cpu)
        ));
    }
    let p99 = run.latency.as_ref().map_or(0.0, |latency| latency.delivery_us.p99);
    if publisher_late(&bench.counts, p99) {
        let wakeup = bench.counts.wakeup.at(0.99);
        reasons.push(format!("the harness's publisher woke up late, p99 {}: it had no processor", time_us(wakeup)));
    }
    let clock = (wall().saturating_sub(bench.began_wall)).abs_diff(bench.began.elapsed().as_nanos() as u64);
    if clock > CLOCK_STEP {
        reasons.push(format!("the clock was set by {} during the run", time_us(clock as f64 / 1e3)));
    }
    reasons
}

/// Whether the publisher woke up so late that it matters for a p99 of delivery.
pub(super) fn publisher_late(counts: &Counts, p99: f64) -> bool {
    let wakeup = counts.wakeup.at(0.99);
    wakeup > LATE_US && wakeup > p99 * LATE_SHARE
}

/// Why the run was not the one that was asked for.
fn not_as_asked(bench: &Bench<'_>, run: &Run) -> Vec<String> {
    let mut reasons = Vec::new();
    let connections = &run.connections;
    let first = |reasons: &[crate::report::model::Counted]| reasons.first().map(|first| first.reason.clone());
    if bench.was_interrupted() {
        reasons.push(format!("interrupted after {} of measurement", time_us(run.seconds * 1e6)));
    } else if connections.opened == 0 {
        let why = first(&connections.connect_error_reasons).unwrap_or_else(|| "nobody answered in time".to_owned());
        reasons.push(format!("no connection could be made: {why}"));
    } else if connections.open_at_end == 0 {
        let why = first(&connections.disconnect_reasons).or_else(|| first(&connections.connect_error_reasons));
        reasons.push(format!(
            "all connections were lost, the last after {} of measurement: {}",
            time_us(run.seconds * 1e6),
            why.unwrap_or_default()
        ));
    } else if run.traffic.messages == 0 {
        reasons.push("not one message was received".to_owned());
    }
    let nothing = run.publisher.as_ref().filter(|publisher| publisher.published == 0);
    if let Some(publisher) = nothing.filter(|_| !bench.was_interrupted()) {
        let why = first(&publisher.error_reasons).unwrap_or_else(|| "no answer".to_owned());
        reasons.push(format!("nothing could be published: {why}"));
    }
    reasons
}

/// What a reader of the figures should know.
fn warnings(bench: &Bench<'_>, run: &Run) -> Vec<String> {
    let mut warnings = Vec::new();
    let (connections, plan) = (&run.connections, bench.plan);
    if connections.open_at_start < connections.wanted && connections.opened > 0 {
        warnings.push(format!(
            "{} of {} clients were connected when the measurement began",
            count(connections.open_at_start),
            count(connections.wanted)
        ));
    }
    let untimed = run.traffic.untimed;
    match &run.latency {
        None if untimed > 0 && untimed == run.traffic.messages => {
            warnings.push(format!("no message had a time in the field {:?}: no latency", plan.ts_field));
        }
        _ if untimed > 0 => {
            warnings.push(format!("{} messages had no time in the field {:?}", count(untimed), plan.ts_field));
        }
        _ => {}
    }
    if run.traffic.future > 0 {
        warnings.push(format!(
            "{} messages had a time in the future: the clocks differ, or --ts-unit is wrong",
            count(run.traffic.future)
        ));
    }
    // Nothing takes that long: the unit is wrong, or the time is not that of publishing.
    if run.latency.as_ref().is_some_and(|latency| latency.delivery_us.p50 > 3.5e9) {
        warnings.push("latencies are an hour or more: is --ts-unit right, and the time that of publishing?".to_owned());
    }
    if let Some(sequence) = run.sequence {
        warnings.extend(sequence_warnings(&sequence));
    }
    if run.sequence.is_none() && run.traffic.messages > 0 && !plan.seq_field.is_empty() {
        warnings.push(format!("no message had a number in the field {:?}: losses cannot be seen", plan.seq_field));
    }
    let p99 = run.latency.as_ref().map_or(f64::INFINITY, |latency| latency.delivery_us.p99);
    if let Some(own) = run.harness.own_delay_us.filter(|own| own.p99 > p99 / 2.0) {
        warnings.push(format!("up to {} of the p99 may be the harness's own reading", time_us(own.p99)));
    }
    if plan.scenario == Scenario::Ramp && bench.ledger.saturated > 0 {
        let waiting = share(run.harness.waiting_for_cpu);
        warnings.push(format!(
            "the harness was saturated, or waited for a processor ({waiting}): latencies are at most these"
        ));
    }
    if plan.scenario == Scenario::Storm && bench.ledger.saturated > 0 {
        let seconds = bench.ledger.saturated;
        warnings.push(format!("the harness was saturated for {seconds} s: the recovery is partly its own"));
    }
    warnings
}
