//! Axes: what range they show, where their ticks are, and where a value is on them.

use crate::report::format::{percent, short, short_time};

/// An axis from `low` to `high`.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    /// Round values and how they are written.
    pub(crate) ticks: Vec<(f64, String)>,
}

/// Ticks there should be at most, so that their labels have room on a telephone.
const MOST_TICKS: f64 = 6.0;
/// On a logarithmic axis; most of them are upright.
const MOST_LOG_TICKS: usize = 8;

impl Axis {
    /// From zero, with decimal ticks.
    pub(crate) fn from_zero(values: impl Iterator<Item = f64>, show: fn(f64) -> String) -> Self {
        Self::linear(values, 1.0, show)
    }

    /// From zero, with ticks that are round in binary units.
    pub(crate) fn bytes(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        let highest = highest(values.iter().copied());
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        // Up to two of a unit, the smaller unit has the rounder ticks.
        let power = units.iter().enumerate().rfind(|(power, _)| highest >= 2.0 * 1024_f64.powi(*power as i32));
        let power = power.map_or(0, |(power, _)| power);
        let unit = 1024_f64.powi(power as i32);
        let mut axis = Self::linear(values.into_iter(), unit, short);
        for (value, label) in &mut axis.ticks {
            *label = format!("{} {}", short(*value / unit), units[power]);
        }
        axis
    }

    /// A share of a core, up to 100 % at least.
    pub(crate) fn load(values: impl Iterator<Item = f64>) -> Self {
        Self::linear(values.chain([1.0]), 1.0, percent)
    }

    fn linear(values: impl Iterator<Item = f64>, unit: f64, show: fn(f64) -> String) -> Self {
        let highest = highest(values) / unit;
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = round_up(highest / MOST_TICKS);
        // A multiple of a step may be a hair less than what it is to reach.
        let steps = (highest / step - 1e-9).ceil();
        let ticks = (0..=steps as u32).map(|at| f64::from(at) * step * unit);
        let ticks = ticks.map(|value| (value, show(value))).collect();
        Self { low: 0.0, high: steps * step * unit, logarithmic: false, ticks }
    }

    /// A logarithmic axis of all that is above zero, with ticks at 1, 2, 5 or, if they are too many, at powers of ten.
    pub(crate) fn log(values: impl Iterator<Item = f64>, show: fn(f64) -> String) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        // All-equal values get a range around them.
        if high < low * 2.0 {
            (low, high) = (low / 2.0, high * 2.0);
        }
        let round: Vec<f64> =
            decades(low, high).flat_map(|decade| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(decade))).collect();
        let near = 1.0 + 1e-9;
        let low = round.iter().copied().rfind(|tick| *tick <= low * near).unwrap_or(low);
        let high = round.iter().copied().find(|tick| *tick * near >= high).unwrap_or(high);
        let inside = |tick: &f64| (low..=high).contains(tick);
        let mut ticks: Vec<f64> = round.iter().copied().filter(inside).collect();
        if ticks.len() > MOST_LOG_TICKS {
            // The first of each three is a power of ten.
            ticks = round.iter().copied().step_by(3).filter(inside).collect();
        }
        let every = ticks.len().div_ceil(MOST_LOG_TICKS);
        let ticks = ticks.into_iter().step_by(every.max(1)).map(|tick| (tick, show(tick))).collect();
        Self { low, high, logarithmic: true, ticks }
    }

    /// A logarithmic axis of microseconds.
    pub(crate) fn log_time(values: impl Iterator<Item = f64>) -> Self {
        Self::log(values, short_time)
    }

    /// Seconds that passed, from zero.
    pub(crate) fn elapsed(until: f64) -> Self {
        const STEPS: [f64; 16] = [
            0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0,
        ];
        let until = if until.is_finite() && until > 0.0 { until } else { 1.0 };
        let step = STEPS.into_iter().find(|step| until / step <= MOST_TICKS);
        let step = step.unwrap_or_else(|| round_up(until / 86_400.0 / MOST_TICKS).max(0.5) * 86_400.0);
        let (unit, scale) = match step {
            step if step >= 43_200.0 => ("d", 86_400.0),
            step if step >= 3_600.0 => ("h", 3_600.0),
            step if step >= 60.0 => ("min", 60.0),
            _ => ("s", 1.0),
        };
        let ticks = (0..=(until / step) as u32).map(|at| f64::from(at) * step);
        let ticks = ticks.map(|at| (at, format!("{} {unit}", short(at / scale)))).collect();
        Self { low: 0.0, high: until, logarithmic: false, ticks }
    }

    /// Quantiles by how many nines they have, up to `nines`.
    pub(crate) fn quantile(nines: f64) -> Self {
        const TICKS: [&str; 8] = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999"];
        let nines = if nines.is_finite() { nines.clamp(1.0, 8.0) } else { 1.0 };
        let ticks = TICKS.iter().enumerate().map(|(nines, label)| (nines as f64, (*label).to_owned()));
        let ticks = ticks.filter(|(at, _)| *at <= nines).collect();
        Self { low: 0.0, high: nines, logarithmic: false, ticks }
    }

    /// Where `value` is, as a share of the axis; what is beyond an end is at that end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Powers of ten around `low..=high`.
fn decades(low: f64, high: f64) -> std::ops::RangeInclusive<i32> {
    low.log10().floor() as i32..=high.log10().ceil() as i32
}

fn highest(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}

/// The next of 1, 2, 5, 10, 20, 50 …
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= value * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_hold_the_highest() {
        assert_eq!(
            labels(&Axis::from_zero([930_000.0].into_iter(), short)),
            ["0", "200k", "400k", "600k", "800k", "1M"]
        );
        assert_eq!(labels(&Axis::from_zero([0.6].into_iter(), short)), ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]);
        assert_eq!(labels(&Axis::from_zero([0.0, f64::NAN].into_iter(), short)).first(), Some(&"0"));
        let mebibytes = Axis::bytes([93.0 * 1024.0 * 1024.0].into_iter());
        assert_eq!(labels(&mebibytes), ["0 MiB", "20 MiB", "40 MiB", "60 MiB", "80 MiB", "100 MiB"]);
        assert_eq!(labels(&Axis::load([0.4].into_iter())).last(), Some(&"100 %"));
    }

    #[test]
    fn log_ticks_hold_the_range_and_survive_zero() {
        let axis = Axis::log_time([0.0, 300.0, 4_000.0].into_iter());
        assert_eq!(labels(&axis), ["200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]);
        assert_eq!((axis.place(0.0), axis.place(5_000.0)), (0.0, 1.0));
        let wide = Axis::log_time([3.0, 4_000_000.0].into_iter());
        assert_eq!(labels(&wide), ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let equal = Axis::log_time([100.0, 100.0].into_iter());
        assert!((equal.place(100.0) - 0.5).abs() < 0.01, "{equal:?}");
        assert!(!Axis::log_time([0.0].into_iter()).ticks.is_empty());
        assert_eq!(Axis::log_time(std::iter::empty()).place(0.0), 0.0);
    }

    #[test]
    fn time_is_cut_as_clocks_are() {
        assert_eq!(labels(&Axis::elapsed(75.0)), ["0 s", "15 s", "30 s", "45 s", "60 s", "75 s"]);
        assert_eq!(labels(&Axis::elapsed(3_000.0)), ["0 min", "10 min", "20 min", "30 min", "40 min", "50 min"]);
        assert_eq!(labels(&Axis::elapsed(172_800.0)), ["0 d", "0.5 d", "1 d", "1.5 d", "2 d"]);
        assert_eq!(labels(&Axis::elapsed(0.0)).first(), Some(&"0 s"));
    }

    #[test]
    fn quantiles_are_spaced_by_nines() {
        let axis = Axis::quantile(4.3);
        assert_eq!(labels(&axis), ["0", "90", "99", "99.9", "99.99"]);
        assert!((axis.place(2.15) - 0.5).abs() < 1e-9);
        assert_eq!(axis.place(f64::INFINITY), 0.0);
    }
}
