//! The charts of a run.

use crate::report::chart::{Axis, Chart, Line, Tone};
use crate::report::format::short;
use crate::report::model::{Latency, Run, Second, Step};

/// All of them, in a grid.
pub(super) fn all(run: &Run) -> String {
    let mut charts = Vec::new();
    charts.extend(run.latency.as_ref().map(by_quantile));
    if !run.timeline.is_empty() {
        charts.extend(over_time(&run.timeline));
    }
    if !run.outcome.steps.is_empty() {
        charts.extend(by_rate(&run.outcome.steps));
    }
    let charts: Vec<String> = charts.iter().map(Chart::render).collect();
    format!("<div class=\"charts\">\n{}</div>\n", charts.concat())
}

/// Latency by how many nines the quantile has.
fn by_quantile(latency: &Latency) -> Chart {
    // The whole is as many nines as there are messages to tell; it has no place on the scale of its own.
    let end = (latency.delivery_us.count.max(10) as f64).log10();
    let nines = |quantile: f64| if quantile < 1.0 { (-(1.0 - quantile).log10()).min(end) } else { end };
    let delivery: Vec<_> = latency.curve.iter().map(|(q, us, _)| (nines(*q), Some(*us))).collect();
    let uncorrected: Vec<_> = latency.curve.iter().map(|(q, _, us)| (nines(*q), *us)).collect();
    let values = delivery.iter().chain(&uncorrected).filter_map(|(_, us)| *us);
    Chart {
        title: "Latency by percentile",
        axes: "percentile of messages, log time",
        x: Axis::quantile(delivery.iter().map(|(nines, _)| *nines).fold(0.0, f64::max)),
        y: Axis::log_time(values),
        lines: vec![
            Line { name: "delivery", tone: Tone::First, points: delivery },
            Line { name: "uncorrected", tone: Tone::Quiet, points: uncorrected },
        ],
        filled: false,
        dotted: false,
        shaded: Vec::new(),
        limit: None,
    }
}

/// A figure of a second.
type Figure = fn(&Second) -> Option<f64>;

/// Charts over time share their x axis and what of it was not measured.
struct Clock<'a> {
    seconds: &'a [Second],
    until: f64,
    shaded: Vec<(f64, f64)>,
}

impl Clock<'_> {
    fn line(&self, name: &'static str, tone: Tone, of: Figure) -> Line {
        Line { name, tone, points: self.seconds.iter().map(|second| (second.t, of(second))).collect() }
    }

    fn chart(&self, title: &'static str, axes: &'static str, lines: Vec<Line>, y: fn(Vec<f64>) -> Axis) -> Chart {
        let values = lines.iter().flat_map(|line| &line.points).filter_map(|(_, y)| *y).collect();
        let filled = lines.len() == 1;
        let (x, y, shaded) = (Axis::elapsed(self.until), y(values), self.shaded.clone());
        Chart { title, axes, x, y, lines, filled, dotted: false, shaded, limit: None }
    }
}

fn over_time(seconds: &[Second]) -> Vec<Chart> {
    let until = seconds.last().map_or(0.0, |second| second.t);
    let clock = Clock { seconds, until, shaded: unmeasured(seconds) };
    let rate: Figure = |second| (second.seconds > 0.0).then(|| second.messages as f64 / second.seconds);
    let decimal = |values: Vec<f64>| Axis::from_zero(values.into_iter(), short);
    let log_time = |values: Vec<f64>| Axis::log_time(values.into_iter());
    let mut charts = vec![
        clock.chart("Throughput", "messages/s", vec![clock.line("messages", Tone::First, rate)], decimal),
        clock.chart(
            "Latency over time",
            "of each second, log time",
            vec![
                clock.line("max", Tone::Third, |second| second.max_us),
                clock.line("p99", Tone::Second, |second| second.p99_us),
                clock.line("p50", Tone::First, |second| second.p50_us),
            ],
            log_time,
        ),
        Chart {
            limit: Some((0.95, "saturated at 95 %")),
            ..clock.chart(
                "Busiest harness worker",
                "CPU, % of a core",
                vec![clock.line("worker", Tone::First, |second| Some(second.busiest_worker))],
                |values| Axis::load(values.into_iter()),
            )
        },
    ];
    if seconds.iter().any(|second| second.server_cores.is_some()) {
        let lines = vec![clock.line("server", Tone::First, |second| second.server_cores)];
        charts.push(clock.chart("Server CPU", "cores", lines, decimal));
    }
    if seconds.iter().any(|second| second.server_rss_bytes.is_some()) {
        let lines = vec![clock.line("server", Tone::First, |second| second.server_rss_bytes.map(|bytes| bytes as f64))];
        charts.push(clock.chart("Server memory", "RSS", lines, |values| Axis::bytes(values.into_iter())));
    }
    if comings_and_goings(seconds) {
        let lines = vec![clock.line("connections", Tone::First, |second| Some(second.connected as f64))];
        charts.push(clock.chart("Connections", "open at the end of each second", lines, decimal));
    }
    charts
}

/// Whether the number of connections changed while it was measured.
fn comings_and_goings(seconds: &[Second]) -> bool {
    let mut measured = seconds.iter().filter(|second| second.measured).map(|second| second.connected);
    measured.next().is_some_and(|first| measured.any(|connected| connected != first))
}

/// Stretches of time that do not count, neighbours joined.
fn unmeasured(seconds: &[Second]) -> Vec<(f64, f64)> {
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    let mut before = true;
    for second in seconds {
        match stretches.last_mut() {
            _ if second.measured => {}
            Some((_, to)) if !before => *to = second.t,
            _ => stretches.push((second.t - second.seconds, second.t)),
        }
        before = second.measured;
    }
    stretches
}

/// What a ramp tried; a search does not go upwards only.
fn by_rate(steps: &[Step]) -> Vec<Chart> {
    let mut steps: Vec<&Step> = steps.iter().collect();
    steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let line = |name, tone, of: fn(&Step) -> Option<f64>| Line {
        name,
        tone,
        points: steps.iter().map(|step| (step.rate, of(step))).collect(),
    };
    let latency =
        vec![line("p99", Tone::Second, |step| Some(step.p99_us)), line("p50", Tone::First, |step| Some(step.p50_us))];
    let load = vec![
        line("server", Tone::First, |step| step.server_cores),
        line("busiest worker", Tone::Second, |step| Some(step.busiest_worker)),
    ];
    let values = |lines: &[Line]| -> Vec<f64> {
        lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value).collect()
    };
    let x = Axis::log(steps.iter().map(|step| step.rate), short);
    let latency = Chart {
        title: "Latency by rate",
        axes: "published/s, log time",
        x: x.clone(),
        y: Axis::log_time(values(&latency).into_iter()),
        lines: latency,
        filled: false,
        dotted: true,
        shaded: Vec::new(),
        limit: None,
    };
    let load = Chart {
        title: "Load by rate",
        axes: "published/s, CPU in % of a core",
        y: Axis::load(values(&load).into_iter()),
        lines: load,
        x,
        ..latency.clone()
    };
    vec![latency, load]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Quantiles;

    #[test]
    fn neighbouring_seconds_are_shaded_as_one() {
        let second = |t: u32, measured| Second { t: t.into(), seconds: 1.0, measured, ..Second::default() };
        let seconds = [second(1, false), second(2, false), second(3, true), second(4, false)];
        assert_eq!(unmeasured(&seconds), [(0.0, 2.0), (3.0, 4.0)]);
        assert!(unmeasured(&seconds[2..3]).is_empty());
    }

    #[test]
    fn the_longest_latency_is_at_the_end_of_the_axis() {
        let delivery_us = Quantiles { count: 10_000, ..Quantiles::default() };
        let curve = vec![(0.5, 10.0, None), (0.999, 20.0, None), (1.0, 30.0, None)];
        let chart = by_quantile(&Latency { delivery_us, curve, ..Latency::default() });
        assert_eq!(chart.lines[0].points[2], (4.0, Some(30.0)));
        assert_eq!(chart.x.place(4.0), 1.0);
    }
}
