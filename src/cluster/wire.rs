//! What crosses the bus: subjects, and the stamp that goes with each message.

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fanout::Kind;

/// The header that carries the stamp.
const HEADER: &str = "Tickcast";
/// What a message has on the bus beside its own bytes, and NATS counts as payload: more than the longest stamp.
pub(super) const STAMP: usize = 128;
/// Highest number of a message: those up to here are exact in JavaScript.
pub(super) const MAX_SEQ: u64 = 1 << 53;

/// Epochs are below this: far more than there will ever be, and far from where they could not rise any more.
pub(super) const MAX_EPOCH: u64 = MAX_SEQ / 2;
/// A node that says it is further than this is not believed: numbers could not go on from there for long.
pub(super) const MAX_SEEN: u64 = MAX_SEQ / 2;

/// The subjects of a cluster, and what JetStream calls its parts.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    root: String,
}

impl Subjects {
    pub(super) fn new(root: &str) -> Self {
        Self { root: root.to_owned() }
    }

    /// The messages of one channel.
    pub(super) fn channel(&self, name: &str) -> String {
        format!("{}.{name}", self.root)
    }

    /// The messages of all channels.
    pub(super) fn channels(&self) -> String {
        format!("{}.>", self.root)
    }

    /// Whose messages come on `subject`.
    pub(super) fn channel_of<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&self.root)?.strip_prefix('.')
    }

    /// What is to be published in one channel: requests to the active origin.
    pub(super) fn publish(&self, name: &str) -> String {
        format!("{}-publish.{name}", self.root)
    }

    /// What is to be published in any channel.
    pub(super) fn publications(&self) -> String {
        format!("{}-publish.>", self.root)
    }

    /// Which channel a request is for.
    pub(super) fn published_in<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&self.root)?.strip_prefix("-publish.")
    }

    /// The active origin's beats.
    pub(super) fn beats(&self) -> String {
        format!("{}-origin", self.root)
    }

    /// Numbers that a node is at and the active origin is not.
    pub(super) fn numbers(&self) -> String {
        format!("{}-numbers", self.root)
    }

    /// The stream that keeps each channel's last message.
    pub(super) fn stream(&self) -> String {
        self.root.replace('.', "-")
    }

    /// The bucket with the lease.
    pub(super) fn bucket(&self) -> String {
        format!("{}-lease", self.stream())
    }
}

/// Whether a channel's name can be part of a subject: no part between dots is empty.
pub(super) fn is_subject(channel: &str) -> bool {
    channel.split('.').all(|token| !token.is_empty())
}

/// What goes with a message: `EPOCH SEQ KIND MICROS`, and `again` if it is not new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Whose reign it was published in.
    pub(super) epoch: u64,
    /// The channel's number for it.
    pub(super) seq: u64,
    pub(super) kind: Kind,
    /// When, by the origin's clock, in microseconds since the epoch.
    pub(super) micros: u64,
    /// The channel's last message, repeated for those who may lack it.
    pub(super) again: bool,
}

impl Stamp {
    pub(super) fn headers(&self) -> HeaderMap {
        let Self { epoch, seq, micros, .. } = self;
        let again = if self.again { " again" } else { "" };
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, format!("{epoch} {seq} {} {micros}{again}", kind_word(self.kind)));
        headers
    }

    /// The stamp among `headers`, if there is one that can be read.
    pub(super) fn read(headers: Option<&HeaderMap>) -> Option<Self> {
        let mut words = headers?.get(HEADER)?.as_str().split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (epoch, seq) = (number()?, number()?);
        let kind = word_kind(words.next()?)?;
        let micros = words.next()?.parse().ok()?;
        let again = match words.next() {
            None => false,
            Some("again") => true,
            Some(_) => return None,
        };
        let good = (1..=MAX_SEQ).contains(&seq) && epoch < MAX_EPOCH && words.next().is_none();
        good.then_some(Self { epoch, seq, kind, micros, again })
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Binary => "binary",
    }
}

fn word_kind(word: &str) -> Option<Kind> {
    match word {
        "text" => Some(Kind::Text),
        "binary" => Some(Kind::Binary),
        _ => None,
    }
}

/// The headers of a request to publish.
pub(super) fn kind_headers(kind: Kind) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, kind_word(kind));
    headers
}

/// What kind of message a request to publish has.
pub(super) fn kind_of(headers: Option<&HeaderMap>) -> Option<Kind> {
    word_kind(headers?.get(HEADER)?.as_str())
}

/// What the active origin says several times in the time of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    pub(super) epoch: u64,
    /// The node's name.
    pub(super) node: String,
    /// What is wrong with its source, if anything.
    pub(super) trouble: Option<String>,
}

/// The answer to a request to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It is published, as the channel's message of this number.
    Seq(u64),
    /// There are as many channels as there may be.
    TooMany(String),
    /// It has more bytes than the bus carries, which is so many.
    TooBig(usize),
    /// It cannot be published.
    Refused(String),
}

/// Where a node is that an origin is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) epoch: u64,
    pub(super) channel: String,
    pub(super) seq: u64,
}

/// As JSON; plain structs with string keys always can be.
pub(super) fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Stamp> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, text);
        Stamp::read(Some(&headers))
    }

    #[test]
    fn a_stamp_reads_as_it_is_written() {
        for (kind, again) in [(Kind::Text, false), (Kind::Binary, true)] {
            let stamp = Stamp { epoch: 3, seq: MAX_SEQ, kind, micros: 1_763_870_000_123_456, again };
            assert_eq!(Stamp::read(Some(&stamp.headers())), Some(stamp));
        }
        assert_eq!(Stamp::read(None), None);
        assert_eq!(Stamp::read(Some(&HeaderMap::new())), None);
        for bad in [
            "",
            "1",
            "1 2 text",
            "1 0 text 3",
            "1 9007199254740993 text 3",
            "1 2 json 3",
            "-1 2 text 3",
            "1 2 text 3 more",
            "1 2 text 3 again x",
            "1  2 text 3",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn subjects_lead_back_to_channels() {
        let subjects = Subjects::new("prod.tickcast");
        for name in ["market", "a.b", "x-publish.y"] {
            assert_eq!(subjects.channel_of(&subjects.channel(name)), Some(name));
            assert_eq!(subjects.published_in(&subjects.publish(name)), Some(name));
            assert_eq!(subjects.channel_of(&subjects.publish(name)), None);
        }
        assert_eq!((subjects.stream(), subjects.bucket()), ("prod-tickcast".into(), "prod-tickcast-lease".into()));
        assert!(is_subject("a.b") && !is_subject("a..b") && !is_subject(".a") && !is_subject("a."));
    }
}
