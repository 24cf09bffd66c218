//! The messages the harness publishes: JSON of an exact size with a time, a number, and the time of sending.

use std::io::Write;

/// The field that carries when a message was really sent, in the unit of the time.
pub(crate) const SENT_FIELD: &str = "loadtest_sent";
/// Random text is what compression finds in real payloads, more than in a run of one letter.
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Unit of a time in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeUnit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl TimeUnit {
    /// By the name a user writes.
    pub(crate) const NAMES: [(&'static str, Self); 4] =
        [("s", Self::Seconds), ("ms", Self::Millis), ("us", Self::Micros), ("ns", Self::Nanos)];

    /// Its length.
    pub(crate) fn nanos(self) -> u64 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Millis => 1_000_000,
            Self::Micros => 1_000,
            Self::Nanos => 1,
        }
    }

    /// Writes a time at least to the microsecond.
    fn write(self, nanos: u64, out: &mut Vec<u8>) {
        let (whole, part) = (nanos / self.nanos(), nanos % self.nanos() / 1_000);
        // Writing to memory does not fail.
        let _ = match self {
            Self::Seconds => write!(out, "{whole}.{part:06}"),
            Self::Millis => write!(out, "{whole}.{part:03}"),
            Self::Micros | Self::Nanos => write!(out, "{whole}"),
        };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Time,
    Number,
    Sent,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Field(Field),
}

/// Writes the messages.
#[derive(Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    unit: TimeUnit,
    size: usize,
    filler: Vec<u8>,
}

impl Template {
    /// Messages of `size` bytes with the fields `time` and `number` (dotted names nest; empty = none).
    ///
    /// # Errors
    /// What is wrong with the names, or the smallest size there is.
    pub(crate) fn new(time: &str, number: &str, unit: TimeUnit, size: usize) -> Result<Self, String> {
        let fields = [(time, Field::Time), (number, Field::Number), (SENT_FIELD, Field::Sent)];
        let mut paths = Vec::new();
        for (name, field) in fields.into_iter().filter(|(name, _)| !name.is_empty()) {
            let parts: Vec<_> = name.split('.').collect();
            if parts.iter().any(|part| part.is_empty() || part.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\')) {
                return Err(format!("{name:?} is not a field name"));
            }
            if paths.iter().any(|(other, _): &(Vec<&str>, Field)| other.starts_with(&parts) || parts.starts_with(other))
            {
                return Err(format!("{name:?} stands for two fields at once"));
            }
            paths.push((parts, field));
        }
        let mut pieces = vec![Piece::Text(String::new())];
        object(&paths, 0, &mut pieces);
        text(&mut pieces, ",\"pad\":\"");
        let mut random = fastrand::Rng::with_seed(1);
        let filler = (0..size).map(|_| ALPHABET[random.usize(..ALPHABET.len())]).collect();
        let mut template = Self { pieces, unit, size: 0, filler };
        let mut smallest = Vec::new();
        template.write(u64::MAX, u64::MAX, u64::MAX, &mut smallest);
        if size < smallest.len() {
            return Err(format!("too small for these fields: at least {} bytes", smallest.len()));
        }
        template.size = size;
        Ok(template)
    }

    /// Length of every message in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Writes a message: times in nanoseconds since the epoch.
    pub(crate) fn write(&self, time: u64, number: u64, sent: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Field(Field::Time) => self.unit.write(time, out),
                Piece::Field(Field::Sent) => self.unit.write(sent, out),
                // Writing to memory does not fail.
                Piece::Field(Field::Number) => drop(write!(out, "{number}")),
            }
        }
        let room = self.size.saturating_sub(out.len() - begin + 2);
        out.extend_from_slice(&self.filler[..room]);
        out.extend_from_slice(b"\"}");
    }
}

fn text(pieces: &mut Vec<Piece>, more: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push_str(more),
        _ => pieces.push(Piece::Text(more.to_owned())),
    }
}

/// Writes the members of the object that `paths` have in common, all but its end.
fn object(paths: &[(Vec<&str>, Field)], level: usize, pieces: &mut Vec<Piece>) {
    let mut done: Vec<&str> = Vec::new();
    for (path, field) in paths {
        let name = path[level];
        if done.contains(&name) {
            continue;
        }
        text(pieces, if done.is_empty() { "{" } else { "," });
        text(pieces, &format!("\"{name}\":"));
        done.push(name);
        if path.len() == level + 1 {
            pieces.push(Piece::Field(*field));
        } else {
            let below: Vec<_> = paths.iter().filter(|(other, _)| other[level] == name).cloned().collect();
            object(&below, level + 1, pieces);
            text(pieces, "}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_json_of_the_exact_size() {
        for (time, number) in [("ts", "seq"), ("data.ts", "data.seq"), ("a.b.ts", "seq"), ("", "seq"), ("ts", "")] {
            for size in [200, 1_024] {
                let template = Template::new(time, number, TimeUnit::Micros, size).expect("fits");
                let mut out = Vec::new();
                template.write(1_763_870_000_123_456_789, 42, 1_763_870_000_123_999_000, &mut out);
                assert_eq!(out.len(), size, "{}", String::from_utf8_lossy(&out));
                let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
                let at = |name: &str| json.pointer(&format!("/{}", name.replace('.', "/"))).and_then(|v| v.as_u64());
                assert!(time.is_empty() || at(time) == Some(1_763_870_000_123_456));
                assert!(number.is_empty() || at(number) == Some(42));
                assert_eq!(at(SENT_FIELD), Some(1_763_870_000_123_999));
            }
        }
    }

    #[test]
    fn times_keep_microseconds_in_every_unit() {
        let written = |unit: TimeUnit| {
            let mut out = Vec::new();
            unit.write(1_763_870_000_123_456_789, &mut out);
            String::from_utf8(out).expect("ASCII")
        };
        let all = TimeUnit::NAMES.map(|(_, unit)| written(unit));
        assert_eq!(all, ["1763870000.123456", "1763870000123.456", "1763870000123456", "1763870000123456789"]);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let refused = |time, number, size| Template::new(time, number, TimeUnit::Micros, size).expect_err("refused");
        assert!(refused("ts", "ts", 500).contains("two fields"));
        assert!(refused("a", "a.b", 500).contains("two fields"));
        assert!(refused("a..b", "seq", 500).contains("not a field name"));
        assert!(refused("ts", "seq", 20).contains("at least"));
    }
}
