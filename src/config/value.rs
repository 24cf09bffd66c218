//! The types of configuration values: how each is read from text and from TOML, and shown.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

/// A value as somebody wrote it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// From the environment: durations are bare seconds.
    Environment(&'a str),
    /// From the command line: durations may have a unit.
    Argument(&'a str),
    /// From the file, typed.
    File(&'a DeValue<'a>),
}

/// What would have been right instead, completing "expected …".
pub(super) type Expected = String;

impl Raw<'_> {
    /// As an error message shows it.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Environment(text) | Self::Argument(text) => format!("{text:?}"),
            Self::File(DeValue::String(text)) => format!("{text:?}"),
            Self::File(DeValue::Integer(number)) => number.to_string(),
            Self::File(DeValue::Float(number)) => number.to_string(),
            Self::File(DeValue::Boolean(value)) => value.to_string(),
            Self::File(other) => format!("a TOML {}", other.type_str()),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Environment(text) | Self::Argument(text) => Some(text.trim()),
            Self::File(DeValue::String(text)) => Some(text.trim()),
            Self::File(_) => None,
        }
    }

    /// The number's digits, if this is one; a string in a file is not.
    fn number(&self) -> Option<String> {
        match self {
            Self::Environment(text) | Self::Argument(text) => Some(text.trim().to_owned()),
            Self::File(DeValue::Integer(number)) if number.radix() == 10 => Some(number.to_string()),
            Self::File(DeValue::Float(number)) => Some(number.to_string()),
            Self::File(_) => None,
        }
    }
}

/// Seconds from `min` to `max`, with a unit on the command line.
pub(super) fn seconds(raw: Raw<'_>, min: f64, max: f64) -> Result<Duration, Expected> {
    let units = matches!(raw, Raw::Argument(_));
    let parse = |text: String| {
        let split = text.find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale = match unit {
            "" => 1.0,
            "us" if units => 1e-6,
            "ms" if units => 1e-3,
            "s" if units => 1.0,
            "m" | "min" if units => 60.0,
            "h" if units => 3600.0,
            _ => return None,
        };
        number.parse::<f64>().ok().map(|number| number * scale)
    };
    let value = raw.number().and_then(parse).filter(|value| (min..=max).contains(value));
    value.and_then(|value| Duration::try_from_secs_f64(value).ok()).ok_or_else(|| {
        let units = if units { ", or a duration such as 250ms, 10s, 2m" } else { "" };
        format!("seconds from {min} to {max}{units}")
    })
}

/// Zero, or seconds from `min` to `max`.
pub(super) fn seconds_or_zero(raw: Raw<'_>, min: f64, max: f64) -> Result<Duration, Expected> {
    match seconds(raw, 0.0, 0.0) {
        Ok(zero) => Ok(zero),
        Err(_) => seconds(raw, min, max).map_err(|expected| format!("0, or {expected}")),
    }
}

/// A whole number from `min` to `max`.
pub(super) fn integer(raw: Raw<'_>, min: u64, max: u64) -> Result<u64, Expected> {
    let value = raw.number().and_then(|text| text.parse().ok());
    value.filter(|value| (min..=max).contains(value)).ok_or_else(|| format!("a whole number from {min} to {max}"))
}

/// A number from `min` to `max`.
pub(super) fn float(raw: Raw<'_>, min: f64, max: f64) -> Result<f64, Expected> {
    let value = raw.number().and_then(|text| text.parse().ok());
    value.filter(|value| (min..=max).contains(value)).ok_or_else(|| format!("a number from {min} to {max}"))
}

/// Zero, or a number from `min` to `max`.
pub(super) fn float_or_zero(raw: Raw<'_>, min: f64, max: f64) -> Result<f64, Expected> {
    match float(raw, 0.0, 0.0) {
        Ok(zero) => Ok(zero),
        Err(_) => float(raw, min, max).map_err(|expected| format!("0, or {expected}")),
    }
}

/// Bytes, with an optional unit: `65536`, `64KiB`, `1MB`.
pub(super) fn size(raw: Raw<'_>, min: u64, max: u64) -> Result<usize, Expected> {
    let parse = |text: &str| {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(scale)
    };
    let text = match raw {
        Raw::File(DeValue::Integer(_)) => raw.number(),
        _ => raw.text().map(str::to_owned),
    };
    let value = text.as_deref().and_then(parse).filter(|value| (min..=max).contains(value));
    value.and_then(|value| usize::try_from(value).ok()).ok_or_else(|| {
        format!("a size from {} to {}, such as 65536 or \"64KiB\"", show_size(min as usize), show_size(max as usize))
    })
}

/// `true` or `false`.
pub(super) fn boolean(raw: Raw<'_>) -> Result<bool, Expected> {
    let value = match raw {
        Raw::File(DeValue::Boolean(value)) => Some(*value),
        Raw::File(_) => None,
        _ => raw.text().and_then(|text| text.parse().ok()),
    };
    value.ok_or_else(|| "true or false".to_owned())
}

/// One of a few words.
pub(super) fn word<T: Copy>(raw: Raw<'_>, words: &[(&str, T)]) -> Result<T, Expected> {
    let found = raw.text().and_then(|text| words.iter().find(|(word, _)| *word == text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("one of {}", words.join(", "))
    })
}

/// An address and port; a host name is looked up.
pub(super) fn address(raw: Raw<'_>) -> Result<SocketAddr, Expected> {
    let parse = |text: &str| text.parse().ok().or_else(|| text.to_socket_addrs().ok()?.next());
    raw.text().and_then(parse).ok_or_else(|| "an address and port such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// Any text, for a type that parses itself.
pub(super) fn parsed<T: std::str::FromStr<Err = String>>(raw: Raw<'_>) -> Result<T, Expected> {
    raw.text().ok_or_else(|| "text".to_owned())?.parse()
}

/// A path; none if it is empty.
pub(super) fn path(raw: Raw<'_>) -> Result<Option<PathBuf>, Expected> {
    let text = raw.text().ok_or_else(|| "the path of a file, or nothing".to_owned())?;
    Ok((!text.is_empty()).then(|| text.into()))
}

/// The largest unit in which `bytes` is whole.
pub(super) fn show_size(bytes: usize) -> String {
    for (unit, scale) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    bytes.to_string()
}

/// A number as TOML writes a float.
pub(super) fn show_float(value: f64) -> String {
    format!("{value:?}")
}

/// Several values: a TOML array of strings, or text with commas between them; none if it is empty.
pub(super) fn list<T>(raw: Raw<'_>, item: impl Fn(&str) -> Result<T, Expected>) -> Result<Vec<T>, Expected> {
    let expected = |expected| format!("a list, each item {expected}");
    match raw {
        Raw::File(DeValue::Array(values)) => values
            .iter()
            .map(|value| match value.get_ref() {
                DeValue::String(text) => item(text.trim()).map_err(expected),
                _ => Err(expected("text".to_owned())),
            })
            .collect(),
        _ => {
            let text = raw.text().ok_or_else(|| "a list of texts".to_owned())?;
            text.split(',')
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .map(|text| item(text).map_err(expected))
                .collect()
        }
    }
}

/// Texts as a TOML array.
pub(super) fn show_list<T: ToString>(items: &[T]) -> String {
    toml::Value::Array(items.iter().map(|item| toml::Value::String(item.to_string())).collect()).to_string()
}
