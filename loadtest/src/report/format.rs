//! How figures are written for people.

/// Microseconds with a unit: `850 ns`, `12.3 µs`, `4.56 ms`, `2.00 s`.
pub(crate) fn time_us(us: f64) -> String {
    match us {
        us if !us.is_finite() => "never".to_owned(),
        us if us < 1.0 => format!("{:.0} ns", us * 1e3),
        us if us < 1e3 => format!("{} µs", three_digits(us)),
        us if us < 1e6 => format!("{} ms", three_digits(us / 1e3)),
        us if us < 600e6 => format!("{} s", three_digits(us / 1e6)),
        us => format!("{} min", three_digits(us / 60e6)),
    }
}

/// A whole number in groups of three: `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Something a second: `1,234,567`, `98.7`.
pub(crate) fn rate(value: f64) -> String {
    if value >= 999.5 { count(value.round() as u64) } else { three_digits(value) }
}

/// A fraction of 1 in percent: `99.98 %`.
pub(crate) fn share(value: f64) -> String {
    // Almost all is not all.
    let percent = if value < 1.0 { (value * 1e4 + 1e-9).floor() / 1e2 } else { value * 1e2 };
    if percent.fract() == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
}

/// Bytes in binary units: `512 B`, `2.81 KiB`, `54.0 MiB`.
pub(crate) fn size(bytes: f64) -> String {
    for (unit, scale) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes.abs() >= scale as f64 {
            return format!("{} {unit}", three_digits(bytes / scale as f64));
        }
    }
    format!("{bytes:.0} B")
}

/// Bytes a second in decimal units, as networks count: `97.5 MB/s`.
pub(crate) fn bandwidth(bytes: f64) -> String {
    for (unit, scale) in [("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)] {
        if bytes.abs() >= scale {
            return format!("{} {unit}", three_digits(bytes / scale));
        }
    }
    format!("{bytes:.0} B/s")
}

/// Three significant digits, none of an integer lost: `0.12`, `1.23`, `12.3`, `123`, `1234`.
pub(crate) fn three_digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 99.95 => format!("{value:.0}"),
        middle if middle >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A load in percent, which unlike [`share`] may be rounded up: `45 %`, `7.3 %`.
pub(crate) fn percent(value: f64) -> String {
    let percent = value * 1e2;
    if percent == 0.0 || percent.abs() >= 9.95 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// How often `to` goes into `value`: `0.84x`, `12.3x`.
pub(crate) fn ratio(value: f64, to: f64) -> String {
    match value / to {
        _ if value == to => if value == 0.0 || !value.is_finite() { "=" } else { "1.00x" }.to_owned(),
        ratio if to == 0.0 || !ratio.is_finite() => "–".to_owned(),
        ratio if ratio < 0.005 => "<0.01x".to_owned(),
        ratio => format!("{}x", three_digits(ratio)),
    }
}

/// A figure of which the first digits matter: `12.3M`, `205k`, `98.7`.
pub(crate) fn rough(value: f64) -> String {
    match value.abs() {
        large if large >= 999.5e6 => format!("{}G", three_digits(value / 1e9)),
        large if large >= 999.5e3 => format!("{}M", three_digits(value / 1e6)),
        large if large >= 1e5 => format!("{}k", three_digits(value / 1e3)),
        _ => rate(value),
    }
}

/// A figure on an axis, as short as it can be: `200k`, `1.5M`, `0.25`.
pub(crate) fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        large if large >= 1e9 => (value / 1e9, "G"),
        large if large >= 1e6 => (value / 1e6, "M"),
        large if large >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Multiples of a step are not exact: 3 × 0.1 is not 0.3.
    format!("{}{unit}", (scaled * 1e6).round() / 1e6)
}

/// Microseconds on an axis, as short as they can be: `1 ms`, `200 µs`.
pub(crate) fn short_time(us: f64) -> String {
    match us {
        us if us < 1.0 => format!("{} ns", short(us * 1e3)),
        us if us < 1e3 => format!("{} µs", short(us)),
        us if us < 1e6 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

/// Milliseconds since the epoch as a date and time: `2026-03-21 09:05:07 UTC`.
pub(crate) fn utc(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March end with the day that comes and goes; eras of 400 of them are all alike.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// `text` without what could steer a terminal, break a line or turn the direction of reading: it may come from
/// a hostile server.
pub(crate) fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(time_us(0.85), "850 ns");
        assert_eq!(time_us(12.34), "12.3 µs");
        assert_eq!(time_us(4_567.0), "4.57 ms");
        assert_eq!(time_us(2_000_000.0), "2.00 s");
        assert_eq!(time_us(f64::INFINITY), "never");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(0), "0");
        assert_eq!(rate(98.74), "98.7");
        assert_eq!(rate(999.97), "1,000");
        assert_eq!(rate(131_072.4), "131,072");
        assert_eq!(share(1.0), "100 %");
        assert_eq!(share(0.99999), "99.99 %");
        assert_eq!(size(512.0), "512 B");
        assert_eq!(size(2_877.0), "2.81 KiB");
        assert_eq!(bandwidth(97_480_000.0), "97.5 MB/s");
    }

    #[test]
    fn axes_are_labelled_briefly() {
        assert_eq!(short(0.0), "0");
        assert_eq!(short(3.0 * 0.1), "0.3");
        assert_eq!(short(1_500_000.0), "1.5M");
        assert_eq!(short_time(200.0), "200 µs");
        assert_eq!(short_time(1_000.0), "1 ms");
        assert_eq!(short_time(0.5), "500 ns");
        assert_eq!(rough(12_345_678.0), "12.3M");
        assert_eq!(rough(204_600.0), "205k");
        assert_eq!(rough(12_345.0), "12,345");
    }

    #[test]
    fn ratios_to_zero_are_no_figures() {
        assert_eq!(ratio(84.0, 100.0), "0.84x");
        assert_eq!(ratio(0.0, 0.0), "=");
        assert_eq!(ratio(5.0, 0.0), "–");
        assert_eq!(ratio(0.0, 5.0), "<0.01x");
        assert_eq!(ratio(f64::INFINITY, f64::INFINITY), "=");
        assert_eq!(ratio(f64::INFINITY, 5.0), "–");
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_709_210_096_000), "2024-02-29 12:34:56 UTC");
        assert_eq!(utc(1_772_323_200_000), "2026-03-01 00:00:00 UTC");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{202e}µ"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}µ");
    }
}
