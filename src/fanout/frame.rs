//! A message on its way in, and the frame every subscriber shares.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fastwebsockets::{OpCode, Payload};

use crate::metrics::ChannelCounters;

/// Longest head of an unmasked frame (RFC 6455 section 5.2): two bytes and a 64-bit length.
const MAX_HEAD: usize = 10;

/// Which WebSocket data frame carries a message (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text, opcode 1.
    Text,
    /// Any bytes, opcode 2.
    Binary,
}

/// What a publisher hands to [`Channel::publish`](super::Channel::publish). Framed when it is made, so
/// that publishing only numbers it; a clone shares the bytes.
#[derive(Clone, Debug)]
pub struct Message {
    kind: Kind,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Framed(Wire),
    Numbered { before: &'static str, after: String },
}

impl Message {
    /// A text message.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::framed(Kind::Text, text.as_ref().as_bytes())
    }

    /// A text message from bytes, unchanged.
    ///
    /// # Errors
    /// The bytes are not UTF-8 (RFC 6455 section 5.6 requires it of text frames).
    pub fn text_from_utf8(bytes: impl AsRef<[u8]>) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(bytes.as_ref()).map(Self::text)
    }

    /// A binary message.
    pub fn binary(bytes: impl AsRef<[u8]>) -> Self {
        Self::framed(Kind::Binary, bytes.as_ref())
    }

    /// A text message that carries its own sequence number: `before`, the channel's number for
    /// this message in decimal, `after`. The number is known only when the message takes its turn
    /// among the channel's publishers, so the channel puts it in and frames it then.
    pub fn numbered(before: &'static str, after: String) -> Self {
        Self { kind: Kind::Text, body: Body::Numbered { before, after } }
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What clients get when it is the channel's message number `seq`.
    pub fn payload(&self, seq: u64) -> Bytes {
        match &self.body {
            Body::Framed(wire) => wire.bytes.slice(MAX_HEAD..),
            Body::Numbered { before, after } => format!("{before}{seq}{after}").into(),
        }
    }

    fn framed(kind: Kind, payload: &[u8]) -> Self {
        Self { kind, body: Body::Framed(Wire::new(kind, &[payload])) }
    }
}

/// Head and payload of one frame.
#[derive(Clone, Debug)]
struct Wire {
    /// Room for the longest head, then the payload.
    bytes: Bytes,
    /// Where the head begins; it ends where the payload begins.
    start: u8,
}

impl Wire {
    fn new(kind: Kind, payload: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(MAX_HEAD + payload.iter().map(|part| part.len()).sum::<usize>());
        bytes.resize(MAX_HEAD, 0);
        payload.iter().for_each(|part| bytes.extend_from_slice(part));
        let opcode = match kind {
            Kind::Text => OpCode::Text,
            Kind::Binary => OpCode::Binary,
        };
        let mut buffer = [0; MAX_HEAD + 4];
        let payload = Payload::Borrowed(&bytes[MAX_HEAD..]);
        let head = fastwebsockets::Frame::new(true, opcode, None, payload).fmt_head(&mut buffer);
        bytes[MAX_HEAD - head..MAX_HEAD].copy_from_slice(&buffer[..head]);
        // Exactly as long as its memory, so that it becomes `Bytes` without a second piece of it.
        Self { bytes: Bytes::from(bytes), start: (MAX_HEAD - head) as u8 }
    }
}

/// One message, serialised and framed once: head and payload in one `Bytes` behind one `Arc`, the
/// same for every client. A clone is one reference count; a ring slot is one pointer.
#[derive(Clone, Debug)]
pub struct Frame(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wire: Wire,
    kind: Kind,
    seq: u64,
    /// How many messages the channel has fanned out, this one included. What is owed and what has
    /// been missed is told from positions, because numbers that another node gives have holes.
    position: u64,
    published: Instant,
    counters: Arc<ChannelCounters>,
}

impl Frame {
    /// `message` as the channel's message number `seq`, published at `published` and counted in
    /// `counters`. [`Channel::publish`](super::Channel::publish) does it for every message.
    pub fn new(message: Message, seq: u64, published: Instant, counters: Arc<ChannelCounters>) -> Self {
        Self::at(seq, message, seq, published, counters)
    }

    /// The same, for a channel whose numbers are not its positions.
    pub(super) fn at(
        position: u64,
        message: Message,
        seq: u64,
        published: Instant,
        counters: Arc<ChannelCounters>,
    ) -> Self {
        let wire = match message.body {
            Body::Framed(wire) => wire,
            Body::Numbered { before, after } => {
                let mut digits = itoa::Buffer::new();
                let parts = [before.as_bytes(), digits.format(seq).as_bytes(), after.as_bytes()];
                Wire::new(message.kind, &parts)
            }
        };
        Self(Arc::new(Inner { wire, kind: message.kind, seq, position, published, counters }))
    }

    /// Head and payload, as they go to the socket.
    pub fn wire(&self) -> &[u8] {
        &self.0.wire.bytes[usize::from(self.0.wire.start)..]
    }

    /// The message as it was published.
    pub fn payload(&self) -> Bytes {
        self.0.wire.bytes.slice(MAX_HEAD..)
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The channel's number for this message, from 1.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// Counts the channel's messages here, without holes.
    pub(super) fn position(&self) -> u64 {
        self.0.position
    }

    /// When `publish` was called.
    pub fn published(&self) -> Instant {
        self.0.published
    }

    /// Counts the frame as displaced from a full ring.
    pub fn count_dropped(&self) {
        self.0.counters.dropped.add(1);
    }

    /// Counts the frame as thrown away because its subscriber left.
    pub fn count_discarded(&self) {
        self.0.counters.discarded.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(message: Message, seq: u64) -> Frame {
        Frame::new(message, seq, Instant::now(), Arc::default())
    }

    #[test]
    fn heads_follow_the_three_length_forms() {
        for (len, head) in [
            (0_usize, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 0xff, 0xff]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![7; len];
            let frame = frame(Message::binary(&payload), 1);
            assert_eq!(frame.wire()[..head.len()], head, "length {len}");
            assert_eq!(frame.wire()[head.len()..], payload);
            assert_eq!(frame.payload(), payload);
        }
    }

    #[test]
    fn a_numbered_message_gets_the_number_of_its_turn() {
        let frame = frame(Message::numbered("{\"seq\":", ",\"x\":1}".into()), 1_234_567);
        assert_eq!(frame.payload(), "{\"seq\":1234567,\"x\":1}");
        assert_eq!(frame.wire()[..2], [0x81, 21]);
    }

    #[test]
    fn text_must_be_utf8() {
        assert!(Message::text_from_utf8(&b"\xff"[..]).is_err());
        assert_eq!(frame(Message::text_from_utf8("ä").expect("UTF-8"), 1).kind(), Kind::Text);
    }
}
