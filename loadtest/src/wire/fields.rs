//! Finds numbers by name in JSON, in pieces of any size, without a tree and without a buffer.
//!
//! A message of which the time and the number stand in front costs no more than these few bytes: the
//! scanner stops when it has what it looks for. What is not an object has no fields. Names with
//! escapes and members of arrays are not found. The grammar is not checked beyond what finding needs.

use memchr::memchr2;

/// How many names one scanner can look for.
pub(crate) const MAX_FIELDS: usize = 3;
/// Longest name or number that can be told.
const MAX_TOKEN: usize = 32;
/// Deepest nesting that is followed.
const MAX_DEPTH: u8 = 63;

/// A non-negative decimal number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Number {
    /// The part before the point.
    pub(crate) whole: u64,
    /// The part behind it, in billionths, cut.
    pub(crate) nanos: u32,
}

impl Number {
    fn parse(text: &[u8]) -> Option<Self> {
        let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit).then_some(());
        let point = text.iter().position(|byte| *byte == b'.');
        let (whole, fraction) = match point {
            Some(point) => (&text[..point], &text[point + 1..]),
            None => (text, &text[..0]),
        };
        if whole.is_empty() || point.is_some() && fraction.is_empty() {
            return None;
        }
        digits(whole)?;
        digits(fraction)?;
        let whole =
            whole.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')))?;
        let padded = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
        Some(Self { whole, nanos: padded.fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0')) })
    }
}

/// The names to look for, dotted names in their parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths(Vec<Vec<Vec<u8>>>);

impl Paths {
    /// Up to [`MAX_FIELDS`] names; an empty one is never found.
    pub(crate) fn new(names: &[&str]) -> Self {
        let parts = |name: &&str| name.split('.').map(|part| part.as_bytes().to_vec()).collect();
        Self(names.iter().take(MAX_FIELDS).map(parts).collect())
    }

    /// One bit for every name that is not empty.
    fn wanted(&self) -> u8 {
        let bit = |(at, path): (usize, &Vec<Vec<u8>>)| if path[0].is_empty() { 0 } else { 1 << at };
        self.0.iter().enumerate().map(bit).sum()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the object.
    #[default]
    Start,
    /// Before a name, or the end of the object.
    BeforeKey,
    InKey,
    /// Behind a name.
    Colon,
    BeforeValue,
    InString,
    /// A number, `true`, `false`, `null`.
    InScalar,
    AfterValue,
    Done,
}

/// Looks for fields in one message at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scanner {
    state: State,
    /// The character before was a backslash.
    escape: bool,
    depth: u8,
    /// Fields still looked for, a bit each.
    wanted: u8,
    /// Fields whose value comes next.
    target: u8,
    /// Fields of which the name just read is a part, and more parts follow.
    on_path: u8,
    /// How many parts of each path the open objects are.
    matched: [u8; MAX_FIELDS],
    token_len: u8,
    token: [u8; MAX_TOKEN],
    /// Which of the open containers are objects, a bit each.
    objects: u64,
    values: [Option<Number>; MAX_FIELDS],
}

impl Scanner {
    /// Begins a message.
    pub(crate) fn begin(&mut self, paths: &Paths) {
        self.state = State::Start;
        self.escape = false;
        self.depth = 0;
        self.objects = 0;
        self.matched = [0; MAX_FIELDS];
        self.values = [None; MAX_FIELDS];
        self.target = 0;
        self.on_path = 0;
        self.wanted = paths.wanted();
        if self.wanted == 0 {
            self.state = State::Done;
        }
    }

    /// What was found so far, in the order of the names.
    pub(crate) fn values(&self) -> [Option<Number>; MAX_FIELDS] {
        self.values
    }

    /// Reads the next piece of the message.
    pub(crate) fn feed(&mut self, paths: &Paths, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            at += match self.state {
                State::InKey => self.key(paths, &bytes[at..]),
                State::InString => self.string(&bytes[at..]),
                State::InScalar => self.scalar(&bytes[at..]),
                _ => {
                    self.structure(bytes[at]);
                    1
                }
            };
        }
    }

    /// A character outside of names and values.
    fn structure(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return;
        }
        match (self.state, byte) {
            (State::Start | State::BeforeValue, b'{') => self.open(true),
            (State::BeforeValue, b'[') => self.open(false),
            (State::BeforeKey, b'"') => self.enter(State::InKey),
            (State::Colon, b':') => self.state = State::BeforeValue,
            (State::BeforeValue, b'"') => self.enter(State::InString),
            (State::BeforeKey | State::BeforeValue | State::AfterValue, b'}' | b']') => self.close(),
            (State::AfterValue, b',') if self.objects >> self.depth & 1 == 1 => self.state = State::BeforeKey,
            (State::AfterValue, b',') => self.state = State::BeforeValue,
            (State::BeforeValue, byte) => {
                self.enter(State::InScalar);
                self.keep(&[byte]);
            }
            _ => self.state = State::Done,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.token_len = 0;
        self.escape = false;
    }

    fn open(&mut self, object: bool) {
        if self.depth == MAX_DEPTH {
            self.state = State::Done;
            return;
        }
        if object {
            for field in (0..MAX_FIELDS).filter(|field| self.on_path >> field & 1 == 1) {
                self.matched[field] = self.depth;
            }
        }
        self.depth += 1;
        self.objects = self.objects & !(1 << self.depth) | u64::from(object) << self.depth;
        self.target = 0;
        self.on_path = 0;
        self.state = if object { State::BeforeKey } else { State::BeforeValue };
    }

    fn close(&mut self) {
        for matched in &mut self.matched {
            *matched = (*matched).min(self.depth.saturating_sub(2));
        }
        self.depth = self.depth.saturating_sub(1);
        self.target = 0;
        self.on_path = 0;
        self.state = if self.depth == 0 { State::Done } else { State::AfterValue };
    }

    /// Keeps a piece of a name or number; one too long has a length that no name has.
    fn keep(&mut self, piece: &[u8]) {
        let have = usize::from(self.token_len);
        match self.token.get_mut(have..have + piece.len()) {
            Some(room) if have <= MAX_TOKEN => {
                room.copy_from_slice(piece);
                self.token_len += piece.len() as u8;
            }
            _ => self.token_len = u8::MAX,
        }
    }

    fn token(&self) -> Option<&[u8]> {
        self.token.get(..usize::from(self.token_len))
    }

    /// Up to the end of a string; returns how many bytes and whether it is there.
    fn until_quote(&mut self, bytes: &[u8]) -> (usize, bool) {
        if self.escape {
            self.escape = false;
            // A name with an escape in it is none that is looked for.
            self.token_len = u8::MAX;
            return (1, false);
        }
        match memchr2(b'"', b'\\', bytes) {
            Some(at) if bytes[at] == b'"' => (at, true),
            Some(at) => {
                self.escape = true;
                (at + 1, false)
            }
            None => (bytes.len(), false),
        }
    }

    fn key(&mut self, paths: &Paths, bytes: &[u8]) -> usize {
        let (length, end) = self.until_quote(bytes);
        self.keep(&bytes[..length]);
        if !end {
            return length;
        }
        let level = usize::from(self.depth) - 1;
        for (field, path) in paths.0.iter().enumerate() {
            let candidate = self.wanted >> field & 1 == 1 && usize::from(self.matched[field]) == level;
            if candidate && path.get(level).map(Vec::as_slice) == self.token() {
                let bit = 1 << field;
                *(if path.len() == level + 1 { &mut self.target } else { &mut self.on_path }) |= bit;
            }
        }
        self.state = State::Colon;
        length + 1
    }

    fn string(&mut self, bytes: &[u8]) -> usize {
        let (length, end) = self.until_quote(bytes);
        if self.target != 0 {
            self.keep(&bytes[..length]);
        }
        if !end {
            return length;
        }
        self.found();
        length + 1
    }

    fn scalar(&mut self, bytes: &[u8]) -> usize {
        let delimiter = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let end = bytes.iter().position(delimiter);
        let length = end.unwrap_or(bytes.len());
        if self.target != 0 {
            self.keep(&bytes[..length]);
        }
        if end.is_some() {
            self.found();
        }
        length
    }

    /// A value is complete.
    fn found(&mut self) {
        self.state = State::AfterValue;
        if self.target != 0 {
            let number = self.token().and_then(Number::parse);
            for field in (0..MAX_FIELDS).filter(|field| self.target >> field & 1 == 1) {
                self.values[field] = number;
            }
            self.wanted &= !self.target;
            if self.wanted == 0 {
                self.state = State::Done;
            }
        }
        self.target = 0;
        self.on_path = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole parts of what is found, the same in pieces of every size.
    fn find(names: &[&str], text: &str) -> Vec<Option<u64>> {
        let paths = Paths::new(names);
        let mut scanner = Scanner::default();
        let mut found = |size: usize| {
            scanner.begin(&paths);
            text.as_bytes().chunks(size).for_each(|piece| scanner.feed(&paths, piece));
            scanner.values().map(|value| value.map(|number| number.whole))[..names.len()].to_vec()
        };
        let whole = found(text.len().max(1));
        (1..text.len()).for_each(|size| assert_eq!(found(size), whole, "{text} in pieces of {size}"));
        whole
    }

    #[test]
    fn fields_at_the_top_and_below() {
        let text =
            r#" {"type":"snapshot","nested":{"ts":1,"deep":{"seq":7}},"list":[{"ts":2},"}",[3]],"ts" : 42 , "seq":43}"#;
        assert_eq!(find(&["ts", "seq"], text), [Some(42), Some(43)]);
        assert_eq!(find(&["nested.ts", "nested.deep.seq", "seq"], text), [Some(1), Some(7), Some(43)]);
        assert_eq!(find(&["list.ts", "type", "deep.seq"], text), [None, None, None]);
        assert_eq!(find(&["", "ts"], text), [None, Some(42)]);
        assert_eq!(find(&["nested"], text), [None]);
    }

    #[test]
    fn paths_do_not_match_across_siblings() {
        let text = r#"{"a":{"x":{"b":1}},"a2":{"b":2},"a":{"b":3}}"#;
        assert_eq!(find(&["a.b"], text), [Some(3)]);
        assert_eq!(find(&["a.b"], r#"{"a":{},"b":4,"c":{"b":5}}"#), [None]);
        assert_eq!(find(&["a.b"], r#"{"a":[{"b":1}],"a":{"b":6}}"#), [Some(6)]);
    }

    #[test]
    fn strings_do_not_mislead() {
        assert_eq!(find(&["ts"], r#"{"x":"\"ts\":1,\\","ts":"2"}"#), [Some(2)]);
        assert_eq!(find(&["ts"], r#"{"\ts":1,"t\u0073":3,"ts":4}"#), [Some(4)]);
        assert_eq!(find(&["ts"], &format!(r#"{{"{}":1,"ts":5}}"#, "long".repeat(40))), [Some(5)]);
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for text in [
            "",
            "42",
            "[{\"ts\":1}]",
            "\"ts\"",
            "ts:1",
            "\u{1}\u{2}",
            "{",
            "{\"ts\"",
            "{\"ts\":",
            "{\"ts\":12",
            "}}}",
            "{]]",
        ] {
            assert_eq!(find(&["ts"], text), [None], "{text}");
        }
        assert_eq!(find(&["ts"], &"{\"a\":".repeat(200)), [None]);
    }

    #[test]
    fn numbers_are_exact_decimals() {
        let number = |text: &str| Number::parse(text.as_bytes());
        assert_eq!(number("1763870000123456"), Some(Number { whole: 1_763_870_000_123_456, nanos: 0 }));
        assert_eq!(number("1.25"), Some(Number { whole: 1, nanos: 250_000_000 }));
        assert_eq!(number("0.1234567899"), Some(Number { whole: 0, nanos: 123_456_789 }));
        for text in ["", "-1", "1e5", "null", "1.", ".5", "99999999999999999999"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
