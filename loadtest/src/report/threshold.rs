//! What `--fail-if` says, and whether it came true.

use super::metric::{Kind, METRICS, Metric, Needs};
use super::model;
use super::model::Run;
use crate::options::{Plan, Scenario, value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Over,
    AtLeast,
    Under,
    AtMost,
}

/// A test that a run has to fail.
#[derive(Clone)]
pub(crate) struct Threshold {
    /// As it was written.
    pub(crate) expression: String,
    metric: &'static Metric,
    test: Test,
    /// In the unit of the metric.
    limit: f64,
}

impl std::fmt::Debug for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.expression)
    }
}

impl Threshold {
    /// Reads `NAME TEST VALUE`, such as `p99>50ms`.
    ///
    /// # Errors
    /// Completes "expected …".
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = || "a test such as 'p99>50ms', 'holes>0' or 'delivered<98%'".to_owned();
        let at = text.find(['<', '>']).ok_or_else(form)?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let (test, limit) = match (rest.as_bytes()[0], rest[1..].strip_prefix('=')) {
            (b'>', Some(limit)) => (Test::AtLeast, limit),
            (b'>', None) => (Test::Over, &rest[1..]),
            (_, Some(limit)) => (Test::AtMost, limit),
            (_, None) => (Test::Under, &rest[1..]),
        };
        let metric = Metric::find(name).ok_or_else(|| {
            let names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
            format!("the name of a figure, which {name:?} is not: {}", names.join(", "))
        })?;
        let limit = limit.trim();
        let limit = match metric.kind {
            // A bare number would be taken for seconds by some and for milliseconds by others.
            Kind::Time if limit != "0" && limit.ends_with(|c: char| c.is_ascii_digit()) => {
                Err("a time with a unit, such as 50ms".to_owned())
            }
            Kind::Time => value::duration(limit).map(|limit| limit.as_nanos() as f64 / 1e3),
            Kind::Count => value::integer(limit, 0, u64::MAX).map(|limit| limit as f64),
            Kind::Share => value::share(limit),
            Kind::Size | Kind::Bandwidth => value::size(limit).map(|limit| limit as f64),
            Kind::Rate => value::float(limit, 0.0, 1e12),
        };
        let limit = limit.map_err(|expected| format!("{name} against {expected}"))?;
        Ok(Self { expression: text.trim().to_owned(), metric, test, limit })
    }

    /// What has to be given so that it can be judged, if that is missing.
    pub(crate) fn unmeasured(&self, plan: &Plan) -> Option<&'static str> {
        let needs = self.metric.needs;
        let missing = match needs {
            Needs::Publisher => plan.publish_url.is_none(),
            Needs::ServerPid => plan.server_pid.is_none(),
            Needs::Ramp => plan.scenario != Scenario::Ramp,
            Needs::Storm => plan.scenario != Scenario::Storm,
            Needs::Time => plan.ts_field.is_empty(),
            Needs::Number => plan.seq_field.is_empty(),
            Needs::TimeOrNumber => plan.ts_field.is_empty() && plan.seq_field.is_empty(),
            Needs::PublisherOrNumber => plan.publish_url.is_none() && plan.seq_field.is_empty(),
            Needs::Nothing => false,
        };
        missing.then_some(needs.text())
    }

    /// Judges a run.
    pub(crate) fn judge(&self, run: &Run) -> model::Threshold {
        let value = (self.metric.value)(run);
        let crossed = value.is_some_and(|value| match self.test {
            Test::Over => value > self.limit,
            Test::AtLeast => value >= self.limit,
            Test::Under => value < self.limit,
            Test::AtMost => value <= self.limit,
        });
        let shown = match value {
            Some(value) => self.metric.show(value),
            None => format!("not measured, needs {}", self.metric.needs.text()),
        };
        // JSON has no infinity.
        let value = value.filter(|value| value.is_finite());
        model::Threshold { expression: self.expression.clone(), value, shown, crossed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let mut run = Run { sequence: Some(model::Sequence { holes: 3, ..Default::default() }), ..Run::default() };
        let delivery_us = model::Quantiles { count: 9, p99: 50_000.0, ..Default::default() };
        run.latency = Some(model::Latency { delivery_us, ..Default::default() });
        run.traffic.delivered = Some(0.98);
        run
    }

    #[test]
    fn tests_compare_in_the_unit_of_the_figure() {
        for (text, crossed) in [
            ("p99>50ms", false),
            ("p99 >= 50ms", true),
            ("p99>49999us", true),
            ("p99<0.051s", true),
            ("holes>0", true),
            ("holes > 3", false),
            ("holes<=3", true),
            ("delivered<98%", false),
            ("delivered<0.99", true),
            ("p99>0", true),
        ] {
            assert_eq!(Threshold::parse(text).expect(text).judge(&run()).crossed, crossed, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        let said = |text: &str| Threshold::parse(text).expect_err(text);
        assert!(said("p98>50ms").contains("p99"), "{}", said("p98>50ms"));
        assert!(said("p99=50ms").contains("'p99>50ms'"));
        assert!(said("p99>50").contains("unit"));
        assert!(said("holes>1ms").contains("whole number"));
        assert!(said("delivered<98ms").contains("share"));
    }

    #[test]
    fn what_was_not_measured_is_not_crossed_but_told() {
        let judged = Threshold::parse("server_cpu>5us").expect("valid").judge(&run());
        assert!(!judged.crossed && judged.value.is_none() && judged.shown.contains("--server-pid"), "{judged:?}");
    }
}
