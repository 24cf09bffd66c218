//! `churn`: every second a share of the clients leaves, each to return at once.

use super::bench::{Bench, TICK};
use crate::report::model::{Churn, Outcome};
use crate::worker::Command;

pub(super) fn play(bench: &mut Bench<'_>, outcome: &mut Outcome) -> anyhow::Result<()> {
    bench.begin(bench.plan.duration)?;
    drop(bench.take_part()?);
    let workers = bench.crew.len();
    let a_tick = bench.plan.churn_share * bench.plan.connections as f64 * TICK.as_secs_f64();
    let (mut due, mut turn) = (0.0, 0);
    bench.pass("churn", bench.plan.duration, |bench| {
        due += a_tick;
        let now = due as usize;
        due -= now as f64;
        // In turn, so that one client at a time still comes from everywhere.
        bench.crew.tell(|worker| Command::Leave((now + (worker + workers - turn) % workers) / workers));
        turn = (turn + now) % workers;
        Ok(())
    })?;
    bench.settle(bench.plan.settle)?;
    let part = bench.take_part()?;
    outcome.churn = Some(Churn {
        left: part.left,
        returned: part.returned,
        connect_us: part.connect.quantiles(),
        first_message_us: part.first_message.quantiles(),
    });
    Ok(())
}
