//! What a client sends, read by the server's reader in random pieces, compared with two other readers: one
//! that takes all at once and must agree in everything, and tungstenite's.
//!
//! An input is: one byte of settings, one that seeds the pieces, and either the stream itself or a recipe of
//! frames, so that masks and lengths are right often enough to get deep.

use std::io;

use arbitrary::Unstructured;
use tickcast::server::{Disconnect, Event, Reader};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::pieces::Sizes;
use super::rfc6455::{self, End, Said, Transcript};
use super::wire::Wire;

/// Largest message, as configured.
const LIMITS: [usize; 8] = [1, 16, 125, 126, 300, 65_535, 65_536, 200_000];
/// Largest stream made of a recipe.
const LONGEST: usize = 300_000;

/// Reads one input.
pub fn run(data: &[u8]) {
    let [settings, seed, rest @ ..] = data else { return };
    let max = LIMITS[usize::from(settings >> 1 & 7)];
    let stream = if settings & 1 == 0 { rest.to_vec() } else { cook(rest) };
    let expected = rfc6455::read(&stream, max);
    let sizes = Sizes::new(*seed, stream.len());
    for renewed in [false, true] {
        let (said, end) = read(stream.clone(), max, sizes.clone(), renewed);
        assert_eq!((&said, end), (&expected.said, expected.end), "in pieces, renewed: {renewed}");
    }
    compare_with_tungstenite(&stream, max, &expected);
}

/// What the reader says. If `renewed`, a new reader goes on wherever the old one says that it may.
fn read(mut stream: Vec<u8>, max: usize, mut sizes: Sizes, renewed: bool) -> (Vec<Said>, End) {
    let mut reader = Reader::new(max);
    let (mut said, mut message) = (Vec::new(), Vec::new());
    let mut rest = &mut stream[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at_mut(sizes.next(rest.len()));
        rest = after;
        let fed = reader.feed(piece, &mut |event| match event {
            Event::Data { text, payload, last } => {
                message.extend_from_slice(payload);
                assert!(message.len() <= max, "a message over its limit");
                if last {
                    let message = std::mem::take(&mut message);
                    said.push(if text { Said::Text(message) } else { Said::Binary(message) });
                }
            }
            Event::Ping(payload) => said.push(Said::Ping(payload.to_vec())),
            Event::Pong => said.push(Said::Pong),
            Event::Close(code) => said.push(Said::Close(code)),
        });
        match fed {
            Ok(()) => {}
            Err(Disconnect::Protocol(_)) => return (said, End::Protocol),
            Err(Disconnect::Utf8) => return (said, End::Utf8),
            Err(Disconnect::TooBig) => return (said, End::TooBig),
            Err(other) => panic!("a reader cannot know of {other:?}"),
        }
        if renewed && reader.is_between_messages() {
            reader = Reader::new(max);
        }
    }
    let end = match said.last() {
        Some(Said::Close(_)) => End::Closed,
        _ => End::Open { between_messages: reader.is_between_messages() },
    };
    (said, end)
}

/// tungstenite agrees on everything, except that it
/// * judges a frame only when it is all there: of one that is not, it says nothing yet;
/// * takes lengths that are not in their shortest form, and calls one over 63 bits too big;
/// * looks at a Close's reason before its code, answers a code that may not be sent as if it had been 1002, and
///   hands that over as the peer's;
/// * does not know 1014, which IANA's registry has;
/// * looks at the reserved opcodes before and the size before the mask and the reserved bits, at the size of a
///   frame before everything but its opcode, and of a message with its UTF-8: what is wrong in more than one
///   way, it may refuse for another reason.
fn compare_with_tungstenite(stream: &[u8], max: usize, expected: &Transcript) {
    let (said, end, answers) = read_with_tungstenite(stream, max);
    if expected.odd_length {
        // It went on where the reader stopped.
        assert!(said.starts_with(&expected.said), "{said:?} do not begin with {:?}", expected.said);
        return;
    }
    if expected.said.contains(&Said::Close(Some(1014))) {
        assert!(expected.said.starts_with(&said), "{said:?} do not begin {:?}", expected.said);
        return;
    }
    assert_eq!(said, expected.said, "tungstenite ends with {end:?}, the reader with {:?}", expected.end);
    match (expected.end, end) {
        (End::Open { .. }, End::Open { .. }) | (End::Closed, End::Closed) => {}
        (End::Protocol | End::Utf8 | End::TooBig, End::Open { .. }) if !expected.whole => {}
        (End::Protocol | End::Utf8 | End::TooBig, End::Protocol | End::Utf8 | End::TooBig) => {}
        (expected, end) => panic!("{expected:?}, but tungstenite says {end:?}"),
    }
    // A Pong for each Ping, in order, and then perhaps a Close.
    let mut pongs = Vec::new();
    for said in &expected.said {
        if let Said::Ping(payload) = said {
            pongs.extend([0x8a, payload.len() as u8]);
            pongs.extend(payload);
        }
    }
    let rest = answers.strip_prefix(&pongs[..]);
    assert!(rest.is_some_and(|rest| rest.is_empty() || rest[0] == 0x88), "{answers:x?} are not the Pongs {pongs:x?}");
}

fn read_with_tungstenite(stream: &[u8], max: usize) -> (Vec<Said>, End, Vec<u8>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .max_message_size(Some(max))
        // A limit of frames holds for control frames too.
        .max_frame_size(Some(max.max(125)));
    let mut socket = WebSocket::from_raw_socket(Wire::new(stream), Role::Server, Some(config));
    let mut said = Vec::new();
    let end = loop {
        match socket.read() {
            Ok(Message::Text(text)) => said.push(Said::Text(text.as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => said.push(Said::Binary(bytes.to_vec())),
            Ok(Message::Ping(payload)) => said.push(Said::Ping(payload.to_vec())),
            Ok(Message::Pong(_)) => said.push(Said::Pong),
            Ok(Message::Close(None)) => {
                said.push(Said::Close(None));
                break End::Closed;
            }
            Ok(Message::Close(Some(frame))) if &*frame.reason == "Protocol violation" => break End::Protocol,
            Ok(Message::Close(Some(frame))) => {
                said.push(Said::Close(Some(frame.code.into())));
                break End::Closed;
            }
            Ok(Message::Frame(_)) => panic!("tungstenite never reads those"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                break End::Open { between_messages: false };
            }
            Err(Error::Protocol(_)) => break End::Protocol,
            Err(Error::Utf8(_)) => break End::Utf8,
            Err(Error::Capacity(_)) => break End::TooBig,
            Err(other) => panic!("tungstenite says {other:?}"),
        }
    };
    let answers = socket.get_mut().take_written();
    (said, end, answers)
}

/// A stream of frames made as `recipe` says. Of each: the first byte as it goes over the wire, how the rest is
/// made, and a length; then the mask and the payload, or what it repeats.
fn cook(recipe: &[u8]) -> Vec<u8> {
    let mut recipe = Unstructured::new(recipe);
    let mut stream = Vec::new();
    while !recipe.is_empty() && stream.len() < LONGEST {
        // Nothing but ends of input fails here, and those end the stream.
        if cook_frame(&mut recipe, &mut stream).is_err() {
            break;
        }
    }
    stream
}

fn cook_frame(recipe: &mut Unstructured<'_>, stream: &mut Vec<u8>) -> arbitrary::Result<()> {
    let first: u8 = recipe.arbitrary()?;
    let make: u8 = recipe.arbitrary()?;
    let length = match recipe.arbitrary::<u8>()? {
        short @ 0..=127 => usize::from(short),
        128..=159 => 120 + usize::from(recipe.arbitrary::<u8>()?),
        160..=191 => usize::from(recipe.arbitrary::<u16>()?),
        long => 65_536 - 8 + usize::from(long % 16),
    };
    let claimed = match make & 7 {
        // Says that more, or that less will come.
        1 => length as u64 + u64::from(recipe.arbitrary::<u8>()?),
        2 => length as u64 / 2,
        3 => recipe.arbitrary()?,
        _ => length as u64,
    };
    let (masked, form) = (u8::from(make >> 3 & 7 != 1) << 7, make >> 6);
    stream.push(first);
    match (form, claimed) {
        (0 | 1, 0..=125) => stream.push(masked | claimed as u8),
        (0 | 1, 126..=0xffff) | (2, 0..=0xffff) => {
            stream.push(masked | 126);
            stream.extend((claimed as u16).to_be_bytes());
        }
        _ => {
            stream.push(masked | 127);
            stream.extend(claimed.to_be_bytes());
        }
    }
    let mask: [u8; 4] = recipe.arbitrary()?;
    stream.extend(mask);
    let payload = match length {
        0..=125 => recipe.bytes(length.min(recipe.len()))?,
        _ => {
            let repeated = usize::from(recipe.arbitrary::<u8>()? % 16);
            recipe.bytes(repeated.min(recipe.len()))?
        }
    };
    let filled = payload.iter().chain(if payload.is_empty() { &b"x"[..] } else { payload }.iter().cycle());
    stream.extend(filled.take(length).zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(())
}
