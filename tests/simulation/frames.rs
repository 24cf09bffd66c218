//! WebSocket frames as a strict client reads them (RFC 6455), and as it writes them.

use super::agenda::Millis;

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// What a server says.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// The answer to the handshake.
    Answer(&'a str),
    Frame {
        opcode: u8,
        payload: &'a [u8],
        /// When its first byte came.
        began: Millis,
    },
}

/// Reads a server's side of a connection, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    is_answered: bool,
    is_refused: bool,
    is_closed: bool,
    partial: Vec<u8>,
    began: Millis,
}

impl Frames {
    /// Whether the beginning of a message has come and not its end.
    pub(crate) fn is_in_message(&self) -> bool {
        self.is_answered && !self.is_refused && self.partial.first().is_some_and(|first| first & 0x0f == TEXT)
    }

    /// # Errors
    /// What is wrong with `bytes`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        now: Millis,
        on: &mut impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.partial.is_empty() {
            self.began = now;
            let used = self.take(bytes, now, on)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            let used = self.take(&all, now, on)?;
            all.drain(..used);
            self.partial = all;
        }
        Ok(())
    }

    /// Takes whole items off the front; returns how many bytes that was.
    fn take(
        &mut self,
        bytes: &[u8],
        now: Millis,
        on: &mut impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<usize, String> {
        let mut used = 0;
        while !self.is_refused && used < bytes.len() {
            let rest = &bytes[used..];
            let len = if self.is_answered {
                let Some((first, payload)) = frame(rest)? else { break };
                if self.is_closed {
                    return Err("a frame after a Close".to_owned());
                }
                let (opcode, len) = (first & 0x0f, payload.end);
                self.is_closed = opcode == CLOSE;
                on(Item::Frame { opcode, payload: &rest[payload], began: self.began })?;
                len
            } else {
                let Some(end) = rest.windows(4).position(|end| end == b"\r\n\r\n") else { break };
                let answer = std::str::from_utf8(&rest[..end]).map_err(|_| "an answer that is not text".to_owned())?;
                self.is_answered = true;
                self.is_refused = !answer.starts_with("HTTP/1.1 101 ");
                on(Item::Answer(answer))?;
                end + 4
            };
            used += len;
            self.began = now;
        }
        Ok(if self.is_refused { bytes.len() } else { used })
    }
}

/// First byte of a frame, and where its payload is. `None` if it is not whole.
fn frame(bytes: &[u8]) -> Result<Option<(u8, std::ops::Range<usize>)>, String> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0xf0 != 0x80 || !matches!(first & 0x0f, TEXT | CLOSE | PING | PONG) {
        return Err(format!("{first:#x} begins no frame that anybody sent"));
    }
    let (head, len) = match (second, rest) {
        (0..=125, _) => (2, usize::from(second)),
        (126, &[high, low, ..]) => (4, usize::from(u16::from_be_bytes([high, low]))),
        (126, _) => return Ok(None),
        _ => return Err(format!("{second:#x} is no length that anybody sent")),
    };
    if head == 4 && (len < 126 || first & 0x0f != TEXT) {
        return Err(format!("a length of {len} in the wrong form"));
    }
    Ok((bytes.len() >= head + len).then_some((first, head..head + len)))
}

/// A small frame of a client.
pub(crate) fn masked(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut bytes = vec![0x80 | opcode, 0x80 | payload.len() as u8];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The number that a message begins with.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
