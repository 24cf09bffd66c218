//! What is read, refused and ignored, in pieces of any size.

use super::*;

/// A client frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// What a reader says to `bytes` in pieces of `size`: whole messages, pings, closes.
fn read(bytes: &[u8], size: usize, max: usize) -> (Vec<String>, Result<(), Disconnect>) {
    let mut reader = Reader::new(max);
    let mut said = Vec::new();
    let mut message = Vec::new();
    let mut result = Ok(());
    for piece in bytes.to_vec().chunks_mut(size) {
        result = reader.feed(piece, &mut |event| match event {
            Event::Data { text, payload, last } => {
                message.extend_from_slice(payload);
                if last {
                    let kind = if text { "text" } else { "binary" };
                    said.push(format!("{kind} {}", String::from_utf8_lossy(&std::mem::take(&mut message))));
                }
            }
            Event::Ping(payload) => said.push(format!("ping {}", String::from_utf8_lossy(payload))),
            Event::Pong => said.push("pong".into()),
            Event::Close(code) => said.push(format!("close {code:?}")),
        });
        if result.is_err() {
            break;
        }
    }
    (said, result)
}

#[test]
fn valid_streams_in_pieces_of_any_size() {
    let stream = [
        frame(0x81, "héllo".as_bytes()),
        frame(0x01, &"ä€😀".as_bytes()[..4]),
        frame(0x89, b"in between"),
        frame(0x00, &"ä€😀".as_bytes()[4..7]),
        frame(0x80, &"ä€😀".as_bytes()[7..]),
        frame(0x82, b""),
        frame(0x8a, b"unasked"),
        frame(0x82, &[b'x'; 300]),
        frame(0x88, &[&1000_u16.to_be_bytes()[..], b"bye"].concat()),
        frame(0x81, b"ignored after close"),
    ]
    .concat();
    let long = format!("binary {}", "x".repeat(300));
    let expected = ["text héllo", "ping in between", "text ä€😀", "binary ", "pong", &long, "close Some(1000)"];
    for size in [1, 2, 3, 5, 64, stream.len()] {
        let (said, result) = read(&stream, size, 1_000);
        assert_eq!(said, expected, "pieces of {size}");
        assert_eq!(result, Ok(()));
    }
}

#[test]
fn what_rfc_6455_forbids_ends_the_session() {
    let protocol = |bytes: &[u8]| matches!(read(bytes, 1, 1_000).1, Err(Disconnect::Protocol(_)));
    assert!(protocol(&[0x81, 0x01, b'x']), "unmasked");
    for first in [0xc1, 0xa1, 0x91] {
        assert!(protocol(&frame(first, b"x")), "reserved bit {first:x}");
    }
    for first in [0x83, 0x87, 0x8b, 0x8f] {
        assert!(protocol(&frame(first, b"x")), "reserved opcode {first:x}");
    }
    assert!(protocol(&frame(0x80, b"x")), "continuation of nothing");
    assert!(protocol(&[frame(0x01, b"x"), frame(0x01, b"y")].concat()), "text inside text");
    assert!(protocol(&frame(0x09, b"x")), "fragmented ping");
    assert!(protocol(&frame(0x89, &[0; 126])), "long ping");
    assert!(protocol(&frame(0x88, b"x")), "close of one byte");
    for code in 0..=u16::MAX {
        let allowed = match code {
            1004..=1006 | 1015 => false,
            1000..=1014 | 3000..=4999 => true,
            _ => false,
        };
        assert_eq!(protocol(&frame(0x88, &code.to_be_bytes())), !allowed, "close code {code}");
    }
    assert!(protocol(&[0x82, 0xfe, 0, 125, 0, 0, 0, 0]), "16-bit length that fits in 7");
    assert!(protocol(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]), "64-bit length that fits in 16");
    assert!(protocol(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "64th bit of the length");
}

/// The session of a server that shuts down goes on reading until the client's Close.
#[test]
fn nothing_is_read_behind_a_violation() {
    let mut reader = Reader::new(1_000);
    let mut long_ping = vec![0x89, 0xfe, 0xff, 0xff, 0, 0, 0, 0];
    let mut unexpected = |event: Event<'_>| panic!("{event:?}");
    assert!(reader.feed(&mut long_ping, &mut unexpected).is_err());
    for _ in 0..100 {
        assert_eq!(reader.feed(&mut [0; 1_000], &mut unexpected), Ok(()));
        assert_eq!(reader.feed(&mut frame(0x88, b""), &mut unexpected), Ok(()));
    }
    assert_eq!(reader.control.capacity(), 0);
    assert!(!reader.is_between_messages(), "it is to be kept");
}

#[test]
fn text_must_be_utf8_to_its_end() {
    for bytes in [
        frame(0x81, b"\xff"),
        frame(0x81, b"\xed\xa0\x80"),
        frame(0x81, &"ä".as_bytes()[..1]),
        [frame(0x01, &"ä".as_bytes()[..1]), frame(0x80, b"x")].concat(),
        [frame(0x01, b"ok"), frame(0x80, b"\xf0\x9f")].concat(),
        frame(0x88, &[&1000_u16.to_be_bytes()[..], b"\xff"].concat()),
    ] {
        assert_eq!(read(&bytes, 1, 1_000).1, Err(Disconnect::Utf8), "{bytes:x?}");
    }
    // Known before the frame is complete.
    let bytes = frame(0x01, &[b"\xce\xba\xf4\x90".as_slice(), &[b'x'; 200]].concat());
    assert_eq!(read(&bytes[..12], 12, 1_000).1, Err(Disconnect::Utf8));
}

#[test]
fn size_counts_the_message_not_the_frame() {
    assert_eq!(read(&frame(0x82, &[0; 100]), 7, 100).1, Ok(()));
    assert_eq!(read(&frame(0x82, &[0; 101])[..8], 8, 100).1, Err(Disconnect::TooBig), "by its head alone");
    let fragments = [frame(0x02, &[0; 60]), frame(0x89, &[0; 125]), frame(0x80, &[0; 41])].concat();
    assert_eq!(read(&fragments, 50, 100).1, Err(Disconnect::TooBig));
    let huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(read(&huge, 1, 100).1, Err(Disconnect::TooBig));
}
