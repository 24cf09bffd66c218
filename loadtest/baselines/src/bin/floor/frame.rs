//! WebSocket frames (RFC 6455 section 5.2): those the floor sends, and the few it looks at.

use bytes::Bytes;

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

const PROTOCOL_ERROR: u16 = 1002;
/// Largest payload of a control frame.
const MAX_CONTROL: usize = 125;

/// A message as one frame; `None` for Text that is not UTF-8.
pub(crate) fn message(payload: &[u8], binary: bool) -> Option<Bytes> {
    if !binary && std::str::from_utf8(payload).is_err() {
        return None;
    }
    Some(frame(if binary { BINARY } else { TEXT }, payload).into())
}

/// One unmasked frame.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + payload.len());
    bytes.push(FIN | opcode);
    let length = payload.len();
    if length <= MAX_CONTROL {
        bytes.push(length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        bytes.push(126);
        bytes.extend(length.to_be_bytes());
    } else {
        bytes.push(127);
        bytes.extend((length as u64).to_be_bytes());
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// A frame that has to be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Ping(Vec<u8>),
    /// The client leaves, or has broken the protocol: the payload of the Close to answer with.
    Close(Vec<u8>),
}

/// What a client sends, in whatever pieces it arrives.
///
/// Messages are skipped without a look at their order or text.
#[derive(Default)]
pub(crate) struct Incoming {
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// Bytes of a message still to come.
    skip: u64,
}

impl Incoming {
    /// Takes what has arrived and returns what has to be answered; nothing counts after a Close.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Control> {
        let mut buffer = std::mem::take(&mut self.partial);
        buffer.extend_from_slice(bytes);
        let mut answers = Vec::new();
        let mut rest = buffer.as_slice();
        loop {
            let skipped = rest.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            rest = &rest[skipped..];
            let Some(head) = Head::parse(rest) else { break };
            let length = match head.check() {
                Ok(Some(length)) => length,
                Ok(None) => {
                    rest = &rest[head.size..];
                    self.skip = head.length;
                    continue;
                }
                Err(()) => {
                    answers.push(Control::Close(PROTOCOL_ERROR.to_be_bytes().to_vec()));
                    break;
                }
            };
            let Some(masked) = rest.get(head.size..head.size + length) else { break };
            let payload: Vec<u8> =
                masked.iter().zip(head.mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            rest = &rest[head.size + length..];
            match head.opcode {
                PING => answers.push(Control::Ping(payload)),
                CLOSE => {
                    answers.push(Control::Close(echo(&payload)));
                    break;
                }
                _ => {}
            }
        }
        if !rest.is_empty() {
            self.partial = rest.to_vec();
        }
        answers
    }
}

/// The beginning of a client's frame.
struct Head {
    first: u8,
    opcode: u8,
    masked: bool,
    length: u64,
    mask: [u8; 4],
    /// Its own bytes.
    size: usize,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ..] = bytes else { return None };
        let (length, at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
            length => (u64::from(length), 2),
        };
        let masked = second & 0x80 != 0;
        // Without a mask it is an error, which need not wait for one.
        let mask = if masked { *bytes.get(at..)?.first_chunk()? } else { [0; 4] };
        Some(Self { first, opcode: first & 0x0f, masked, length, mask, size: at + 4 })
    }

    /// The length of a control frame's payload, `None` for a message.
    fn check(&self) -> Result<Option<usize>, ()> {
        let reserved = self.first & 0x70 != 0;
        if reserved || !self.masked {
            return Err(());
        }
        match self.opcode {
            0..=BINARY if self.length >> 63 == 0 => Ok(None),
            CLOSE..=PONG if self.first & FIN != 0 && self.length <= MAX_CONTROL as u64 => {
                Ok(Some(self.length as usize))
            }
            _ => Err(()),
        }
    }
}

/// The payload to answer a Close with (RFC 6455 section 5.5.1).
fn echo(payload: &[u8]) -> Vec<u8> {
    let Some(code) = payload.first_chunk() else {
        // One byte is not a code.
        return if payload.is_empty() { Vec::new() } else { PROTOCOL_ERROR.to_be_bytes().to_vec() };
    };
    let code = match u16::from_be_bytes(*code) {
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => code,
        _ => PROTOCOL_ERROR,
    };
    code.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{Control, Incoming, frame, message};

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(0, payload);
        let head = bytes.len() - payload.len();
        (bytes[0], bytes[1]) = (first, bytes[1] | 0x80);
        bytes.truncate(head);
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[test]
    fn heads_have_the_shortest_length() {
        for (length, head) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let bytes = message(&vec![b'x'; length], false).expect("text");
            assert_eq!(bytes[..head.len()], head);
            assert_eq!(bytes.len(), head.len() + length);
        }
        assert_eq!(message(b"\xff", false), None);
        assert_eq!(message(b"\xff", true).as_deref(), Some(&[0x82, 1, 0xff][..]));
    }

    #[test]
    fn any_pieces_say_the_same() {
        let mut bytes = masked(0x81, &[b'x'; 300]);
        bytes.extend(masked(0x89, b"one"));
        bytes.extend(masked(0x8a, b"not asked for"));
        bytes.extend(masked(0x02, b""));
        bytes.extend(masked(0x89, &[7; 125]));
        bytes.extend(masked(0x88, &[3, 0xe8, b'b', b'y', b'e']));
        let expected = vec![Control::Ping(b"one".to_vec()), Control::Ping(vec![7; 125]), Control::Close(vec![3, 0xe8])];
        for size in [1, 2, 3, 7, 64, bytes.len()] {
            let mut incoming = Incoming::default();
            let answers: Vec<_> = bytes.chunks(size).flat_map(|piece| incoming.push(piece)).collect();
            assert_eq!(answers, expected, "pieces of {size}");
            assert_eq!(incoming.partial.capacity(), 0, "nothing is kept");
        }
    }

    #[test]
    fn violations_are_answered_with_1002() {
        for bytes in [
            &[0x89, 0][..],
            &[0x81, 5, b'h', b'e', b'l', b'l', b'o'],
            &[0xc1, 0x80, 0, 0, 0, 0],
            &[0x83, 0x80, 0, 0, 0, 0],
            &[0x8b, 0x80, 0, 0, 0, 0],
            &[0x09, 0x80, 0, 0, 0, 0],
            &[0x89, 0xfe, 0, 126, 0, 0, 0, 0],
            &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &masked(0x88, &[3]),
            &masked(0x88, &[3, 0xed]),
        ] {
            assert_eq!(Incoming::default().push(bytes), [Control::Close(vec![3, 0xea])], "{bytes:?}");
        }
        assert_eq!(Incoming::default().push(&masked(0x88, b"")), [Control::Close(vec![])]);
    }
}
