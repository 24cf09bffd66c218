//! A run from its first connection to its report.
//!
//! [`mod@bench`] has the moves every scenario is made of; each scenario makes them in its own order;
//! [`summary`] turns what was measured into the report.

mod bench;
mod churn;
mod ledger;
mod ramp;
mod slow;
mod soak;
mod storm;
mod summary;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use self::bench::Bench;
use crate::crew::Crew;
use crate::options::{Plan, Scenario};
use crate::preflight;
use crate::progress::Progress;
use crate::publisher::{self, Publisher};
use crate::report::model::{Outcome, Run};
use crate::tls;
use crate::wire::handshake::Request;
use crate::worker;

/// Makes the run of `plan`; ends early, with what was measured, once `interrupted` is set.
///
/// # Errors
/// What kept it from beginning, or a failure of the harness itself.
pub(crate) fn run(plan: &Plan, progress: Progress, interrupted: &Arc<AtomicBool>) -> anyhow::Result<Run> {
    let url = plan.url.as_ref().context("--url is missing")?;
    let address = url.resolve().with_context(|| format!("cannot resolve the host of {url}"))?;
    let preflight = preflight::check(plan, address);
    let crew = Crew::start(
        plan.worker_threads(),
        &worker::Setup {
            address,
            tls: tls::Client::new(url, &plan.trust).map_err(anyhow::Error::msg)?,
            request: Request::new(url, &plan.all_headers()),
            sources: preflight.sources,
            connections: plan.connections,
            before: 0,
            slow_share: if plan.scenario == Scenario::Slow { plan.slow_share } else { 0.0 },
            time_field: plan.ts_field.clone(),
            number_field: plan.seq_field.clone(),
            unit: plan.ts_unit,
            own_publisher: plan.publish_url.is_some(),
            connect_timeout: plan.connect_timeout,
        },
    )?;
    let publisher = start_publisher(plan)?;
    let mut bench = Bench::new(plan, crew, publisher, progress, Arc::clone(interrupted), preflight.warnings)?;
    let outcome = play(&mut bench)?;
    summary::run(bench, outcome)
}

fn start_publisher(plan: &Plan) -> anyhow::Result<Option<Publisher>> {
    let Some(url) = &plan.publish_url else { return Ok(None) };
    let address = url.resolve().with_context(|| format!("cannot resolve the host of {url}"))?;
    Ok(Some(Publisher::start(publisher::Setup {
        url: url.clone(),
        address,
        tls: tls::Client::new(url, &plan.trust).map_err(anyhow::Error::msg)?,
        headers: plan.all_publish_headers(),
        binary: plan.publish_binary,
        pipeline: plan.publish_pipeline,
        template: Arc::new(plan.template().map_err(anyhow::Error::msg)?),
    })))
}

fn play(bench: &mut Bench<'_>) -> anyhow::Result<Outcome> {
    bench.prime();
    bench.connect()?;
    let mut outcome = Outcome::default();
    if !bench.publishable() {
        bench.end()?;
        return Ok(outcome);
    }
    match bench.plan.scenario {
        Scenario::Steady => steady(bench)?,
        Scenario::Ramp => ramp::play(bench, &mut outcome)?,
        Scenario::Churn => churn::play(bench, &mut outcome)?,
        Scenario::Storm => storm::play(bench, &mut outcome)?,
        Scenario::Slow => slow::play(bench, &mut outcome)?,
        Scenario::Soak => soak::play(bench, &mut outcome)?,
    }
    bench.end()?;
    Ok(outcome)
}

fn steady(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    bench.begin(bench.plan.duration)?;
    bench.pass("measuring", bench.plan.duration, |_| Ok(()))?;
    bench.settle(bench.plan.settle)
}
