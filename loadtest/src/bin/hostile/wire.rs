//! Bytes: requests and frames, right and wrong, and the head of what comes back.

/// The key of the sample in RFC 6455 section 1.3: nothing here depends on its being random.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Its answer.
pub(crate) const ACCEPT: &str = "s3pplmbitxaq9kygzzhzrbk+xoo=";

pub(crate) const CONTINUATION: u8 = 0x00;
pub(crate) const LAST: u8 = 0x80;
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// A right opening handshake with `lines` added, each ended with CRLF.
pub(crate) fn handshake(host: &str, path: &str, lines: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// A frame of a client, masked; `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64);
    let mask: [u8; 4] = bytes[bytes.len() - 4..].try_into().expect("a head ends with its mask");
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The head of a frame of a client that announces `length` bytes.
pub(crate) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend([0x5a, 0xa5, 0x3c, 0xc3]);
    bytes
}

/// The head of a server's frame: its first byte, where its payload begins, how long that is.
/// `None`: more bytes are needed.
pub(crate) fn read_head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (at, length) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    Some((first, at, usize::try_from(length).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_any_length() {
        for (length, head_length) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let bytes = frame(TEXT, &vec![b'x'; length]);
            assert_eq!(bytes.len(), head_length + length);
            // The mask is in front of the payload, which a server's frame does not have.
            assert_eq!(read_head(&bytes), Some((TEXT, head_length - 4, length)));
            assert_eq!(read_head(&bytes[..head_length - 5]), None);
        }
    }
}
