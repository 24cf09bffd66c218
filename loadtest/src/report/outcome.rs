//! What a scenario adds to a run: facts and tables for the terminal and the page alike.

use super::facts::{Distribution, Fact, fact, some};
use super::format::{count, percent, rate, ratio, share, size, three_digits, time_us};
use super::grid::Grid;
use super::grid::Side::{Left, Right};
use super::model::{Churn, Knee, Quantiles, Run, Slow, Step, Storm, Stretch};

/// What one scenario adds.
pub(crate) struct Part {
    pub(crate) title: &'static str,
    pub(crate) facts: Vec<Fact>,
    pub(crate) grid: Grid,
}

/// All there is.
pub(crate) fn parts(run: &Run) -> Vec<Part> {
    let outcome = &run.outcome;
    let mut parts = Vec::new();
    if !outcome.steps.is_empty() {
        parts.push(ramp(&outcome.steps, outcome.knee.as_ref()));
    }
    parts.extend(outcome.churn.as_ref().map(churn));
    if !outcome.storms.is_empty() {
        parts.push(storm(&outcome.storms));
    }
    parts.extend(outcome.slow.as_ref().map(slow));
    if !outcome.soak.is_empty() {
        parts.push(soak(&outcome.soak));
    }
    parts
}

/// Quantiles of times, a row each, under `head`.
pub(crate) fn quantile_grid(head: &str, rows: &[Distribution]) -> Grid {
    let mut grid = Grid::new(&[
        (head, Left),
        ("p50", Right),
        ("p90", Right),
        ("p99", Right),
        ("p99.9", Right),
        ("p99.99", Right),
        ("max", Right),
    ]);
    for (name, quantiles) in rows {
        match quantiles {
            Ok(quantiles) => grid.cells(quantile_cells(name, quantiles, time_us)),
            Err(why) => grid.words(name, why),
        }
    }
    grid
}

fn quantile_cells(name: &str, q: &Quantiles, show: fn(f64) -> String) -> Vec<String> {
    let figures = [q.p50, q.p90, q.p99, q.p99_9, q.p99_99, q.max];
    std::iter::once(name.to_owned()).chain(figures.into_iter().map(show)).collect()
}

fn measured(quantiles: Option<Quantiles>) -> Result<Quantiles, String> {
    some(quantiles).ok_or_else(|| "not measured".to_owned())
}

fn optional(value: Option<f64>, show: fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

fn ramp(steps: &[Step], knee: Option<&Knee>) -> Part {
    let mut grid = Grid::new(&[
        ("published/s", Right),
        ("messages/s", Right),
        ("delivered", Right),
        ("p50", Right),
        ("p99", Right),
        ("server cores", Right),
        ("worker", Right),
        ("", Left),
    ]);
    for step in steps {
        let verdict = match (&step.why, step.held) {
            (_, true) => "held".to_owned(),
            (Some(why), false) => why.clone(),
            (None, false) => "did not hold".to_owned(),
        };
        grid.cells(vec![
            rate(step.rate),
            rate(step.messages_per_second),
            share(step.delivered),
            time_us(step.p50_us),
            time_us(step.p99_us),
            optional(step.server_cores, three_digits),
            percent(step.busiest_worker),
            verdict,
        ]);
    }
    let facts = match knee {
        None => vec![fact("knee", "none: no rate held")],
        Some(knee) => {
            let least = if knee.by_server { "" } else { "at least " };
            vec![
                fact("knee", format!("{least}{} published/s", rate(knee.rate))),
                fact("messages/s", rate(knee.messages_per_second)),
                fact("p99", time_us(knee.p99_us)),
                fact(if knee.by_server { "ended by" } else { "ended, not by the server, by" }, knee.limit.clone()),
            ]
        }
    };
    Part { title: "ramp", facts, grid }
}

fn churn(churn: &Churn) -> Part {
    let rows = [("connect", measured(churn.connect_us)), ("first message", measured(churn.first_message_us))];
    Part {
        title: "churn",
        facts: vec![fact("left", count(churn.left)), fact("back with data", count(churn.returned))],
        grid: quantile_grid("returning", &rows),
    }
}

fn storm(storms: &[Storm]) -> Part {
    let mut grid = Grid::new(&[
        ("at", Right),
        ("dropped", Right),
        ("recovered", Right),
        ("half after", Right),
        ("all after", Right),
        ("first message p50", Right),
        ("p99", Right),
        ("max", Right),
    ]);
    let never = |seconds: Option<f64>| time_us(seconds.map_or(f64::INFINITY, |seconds| seconds * 1e6));
    for storm in storms {
        let first = some(storm.first_message_us);
        grid.cells(vec![
            format!("{:.0} s", storm.at),
            count(storm.dropped),
            count(storm.recovered),
            never(storm.half_seconds),
            never(storm.all_seconds),
            optional(first.map(|q| q.p50), time_us),
            optional(first.map(|q| q.p99), time_us),
            optional(first.map(|q| q.max), time_us),
        ]);
    }
    let slowest = storms.iter().map(|storm| storm.all_seconds.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
    let slowest = match slowest {
        seconds if seconds.is_finite() => time_us(seconds * 1e6),
        _ => "never, some did not recover".to_owned(),
    };
    Part {
        title: "storm",
        facts: vec![fact("storms", storms.len().to_string()), fact("slowest recovery", slowest)],
        grid,
    }
}

fn slow(slow: &Slow) -> Part {
    let lost = |holes: Option<u64>| holes.map_or_else(|| "not measured".to_owned(), count);
    let budget = match slow.bytes_per_second {
        0 => "nothing".to_owned(),
        bytes => format!("{}/s", size(bytes as f64)),
    };
    let rows = [
        ("others before", measured(slow.others_before_us)),
        ("others during", measured(slow.others_during_us)),
        ("slow clients", measured(slow.delivery_us)),
    ];
    let mut grid = quantile_grid("delivery", &rows);
    if let (Some(before), Some(during)) = (some(slow.others_before_us), some(slow.others_during_us)) {
        let pairs = [
            (during.p50, before.p50),
            (during.p90, before.p90),
            (during.p99, before.p99),
            (during.p99_9, before.p99_9),
            (during.p99_99, before.p99_99),
            (during.max, before.max),
        ];
        let ratios = pairs.into_iter().map(|(during, before)| ratio(during, before));
        let row = std::iter::once("during to before".to_owned()).chain(ratios).collect();
        grid.rows.insert(2, super::grid::Row::Cells(row));
    }
    match some(slow.staleness_messages) {
        Some(stale) => grid.cells(quantile_cells("messages behind", &stale, |behind| count(behind.round() as u64))),
        None => grid.words("messages behind", "not measured"),
    }
    Part {
        title: "slow",
        facts: vec![
            fact("slow clients", count(slow.clients)),
            fact("each reads", budget),
            fact("they received", count(slow.messages)),
            fact("they lost", lost(slow.holes)),
            fact("disconnected", count(slow.disconnects)),
            fact("others lost", lost(slow.others_holes)),
        ],
        grid,
    }
}

fn soak(stretches: &[Stretch]) -> Part {
    let mut grid = Grid::new(&[
        ("until", Right),
        ("connected", Right),
        ("messages", Right),
        ("holes", Right),
        ("p50", Right),
        ("p99", Right),
        ("max", Right),
        ("server RSS", Right),
        ("cores", Right),
    ]);
    for stretch in stretches {
        grid.cells(vec![
            time_us(stretch.until * 1e6),
            count(stretch.connected),
            count(stretch.messages),
            count(stretch.holes),
            optional(stretch.p50_us, time_us),
            optional(stretch.p99_us, time_us),
            optional(stretch.max_us, time_us),
            optional(stretch.server_rss_bytes.map(|bytes| bytes as f64), size),
            optional(stretch.server_cores, three_digits),
        ]);
    }
    let mut facts = Vec::new();
    if let [first, .., last] = stretches {
        if let (Some(was), Some(is)) = (first.p99_us, last.p99_us) {
            facts.push(fact("p99, last to first", ratio(is, was)));
        }
        if let (Some(was), Some(is)) = (first.server_rss_bytes, last.server_rss_bytes) {
            facts.push(fact("server RSS, last to first", ratio(is as f64, was as f64)));
        }
    }
    Part { title: "soak", facts, grid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knee_of_the_harness_is_a_lower_bound() {
        let knee = Knee { rate: 500.0, limit: "a worker was saturated".to_owned(), ..Knee::default() };
        let part = ramp(&[Step::default()], Some(&knee));
        assert_eq!(part.facts[0].value, "at least 500 published/s");
        assert_eq!(ramp(&[Step::default()], None).facts[0].value, "none: no rate held");
    }

    #[test]
    fn a_storm_nobody_survived_recovers_never() {
        let part = storm(&[Storm { all_seconds: Some(2.0), ..Storm::default() }, Storm::default()]);
        assert_eq!(part.facts[1].value, "never, some did not recover");
    }

    #[test]
    fn a_soak_of_one_stretch_has_no_drift() {
        assert!(soak(&[Stretch::default()]).facts.is_empty());
    }
}
