//! How values are read: durations, sizes, shares, numbers, words. An error completes "expected …".

use std::time::Duration;

/// The longest anything may take: a week.
const LONGEST: f64 = 7.0 * 86_400.0;

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// `250ms`, `10s`, `2m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * scale).filter(|s| (0.0..=LONGEST).contains(s));
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "a duration such as 250ms, 10s, 2m, at most a week".to_owned())
}

/// A duration above zero.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    let expected = || "a duration above 0 such as 250ms, 10s, 2m".to_owned();
    duration(text).ok().filter(|duration| !duration.is_zero()).ok_or_else(expected)
}

/// Bytes: `1024`, `1KiB`, `1MB`; `1KiB/s` as well.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let scale = match unit.trim_end_matches("/s").to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1048576.0,
        "g" | "gib" => 1073741824.0,
        _ => f64::NAN,
    };
    let bytes = number.parse::<f64>().ok().map(|number| number * scale);
    let bytes = bytes.filter(|bytes| *bytes <= 1e12 && bytes.fract() == 0.0);
    bytes.map(|bytes| bytes as u64).ok_or_else(|| "a size such as 1024, 1KiB, 16MiB".to_owned())
}

/// `10%` or `0.1`, from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text);
    let scale = if unit == "%" {
        0.01
    } else if unit.is_empty() {
        1.0
    } else {
        f64::NAN
    };
    let share = number.parse::<f64>().ok().map(|number| number * scale).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share such as 10% or 0.1".to_owned())
}

/// A whole number in a range; `_` and `,` may group its digits.
pub(crate) fn integer(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number = text.trim().replace(['_', ','], "").parse().ok();
    number.filter(|n| (min..=max).contains(n)).ok_or_else(|| format!("a whole number from {min} to {max}"))
}

/// A number in a range.
pub(crate) fn float(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let number = text.trim().replace('_', "").parse().ok();
    number.filter(|n| (min..=max).contains(n)).ok_or_else(|| format!("a number from {min} to {max}"))
}

/// One of a few words.
pub(crate) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text.trim());
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("one of {}", words.join(", "))
    })
}

/// A header, `Name: value`.
pub(crate) fn header(text: &str) -> Result<String, String> {
    let expected = || "a header such as 'Authorization: Bearer abc'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(expected)?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let printable = |byte: u8| byte == b'\t' || (b' '..0x7f).contains(&byte) || byte >= 0x80;
    let good = !name.is_empty() && name.bytes().all(token) && value.bytes().all(printable);
    good.then(|| format!("{name}: {}", value.trim())).ok_or_else(expected)
}

/// What `Authorization: Bearer` is followed by.
pub(crate) fn token(text: &str) -> Result<Option<String>, String> {
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| Some(text.to_owned())).ok_or_else(|| "printable ASCII without spaces".to_owned())
}

/// What a report may show of what an option was set to: no token.
pub(crate) fn shown(flag: &str, text: &str) -> String {
    const HIDDEN: &str = "***";
    match flag {
        "token" | "publish-token" => HIDDEN.to_owned(),
        "header" | "publish-header" => match text.split_once(':') {
            Some((name, _)) if ["authorization", "cookie"].contains(&name.trim().to_ascii_lowercase().as_str()) => {
                format!("{name}: {HIDDEN}")
            }
            _ => text.to_owned(),
        },
        "url" | "publish-url" => match text.split_once('?') {
            Some((path, query)) => {
                let pairs = query.split('&').map(|pair| match pair.starts_with("token=") {
                    true => format!("token={HIDDEN}"),
                    false => pair.to_owned(),
                });
                format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
            }
            None => text.to_owned(),
        },
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(size("1KiB"), Ok(1_024));
        assert_eq!(size("1.5k"), Ok(1_536));
        assert_eq!(size("16 KiB/s"), Ok(16_384));
        assert_eq!(share("2.5%"), Ok(0.025));
        assert_eq!(integer("10_000", 1, 100_000), Ok(10_000));
        assert_eq!(header("X-A:b"), Ok("X-A: b".to_owned()));
    }

    #[test]
    fn what_is_no_value_says_what_would_be() {
        for text in ["", "ms", "-1s", "1 fortnight", "1e9h", "nan", "9999999"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "KiB", "-1", "0.3", "1XB", "99999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["", "110%", "1.1", "-1%", "10 percent"] {
            assert!(share(text).is_err(), "{text}");
        }
        for text in ["no colon", ": x", "a b: c", "A: b\r\nC: d"] {
            assert!(header(text).is_err(), "{text}");
        }
        assert_eq!(integer("0", 1, 5), Err("a whole number from 1 to 5".to_owned()));
    }

    #[test]
    fn no_token_is_shown() {
        for (flag, text, expected) in [
            ("token", "abc", "***"),
            ("header", "authorization: Bearer abc", "authorization: ***"),
            ("publish-header", "X-Desk: 7", "X-Desk: 7"),
            ("url", "ws://h/ws/a?x=1&token=abc", "ws://h/ws/a?x=1&token=***"),
            ("url", "ws://h/ws/a", "ws://h/ws/a"),
            ("duration", "1s", "1s"),
        ] {
            assert_eq!(shown(flag, text), expected);
        }
        assert!(token("a b").is_err() && token("").is_err());
    }
}
