//! What a client sends, checked to the letter of RFC 6455. No I/O, no allocation for data messages:
//! bytes go in as they come, events come out, nothing is kept but the state between two of them.
//!
//! Sections are those of RFC 6455, beside the rule they hold. A rule is applied at the first byte that can
//! break it: a head before its payload, a text before its end.

use fastwebsockets::{OpCode, unmask};

use super::disconnect::Disconnect;
use super::utf8::Utf8;

/// Largest payload of a control frame (section 5.5).
const MAX_CONTROL: usize = 125;

/// Something a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of a data message, unmasked.
    Data {
        /// Text or binary.
        text: bool,
        /// The piece.
        payload: &'a [u8],
        /// Whether the message ends with it.
        last: bool,
    },
    /// A Ping, to be answered with a Pong of the same payload.
    Ping(&'a [u8]),
    /// A Pong.
    Pong,
    /// A Close, with its code if it had one. Nothing comes after it.
    Close(Option<u16>),
}

/// Reads one client's side of a connection, in pieces of any size.
#[derive(Debug)]
pub struct Reader {
    max_message: usize,
    /// The head of the frame under way, as far as it has come.
    head: [u8; 14],
    head_len: u8,
    frame: Option<FrameUnderWay>,
    message: Option<MessageUnderWay>,
    control: Vec<u8>,
    /// The client has sent its Close, or broken a rule.
    over: bool,
    /// Frames begun.
    frames: u32,
}

#[derive(Clone, Copy, Debug)]
struct FrameUnderWay {
    opcode: OpCode,
    last: bool,
    mask: [u8; 4],
    remaining: usize,
}

#[derive(Debug)]
struct MessageUnderWay {
    text: bool,
    len: usize,
    utf8: Utf8,
}

impl Reader {
    /// A reader for messages of up to `max_message` bytes, fragments together.
    pub fn new(max_message: usize) -> Self {
        Self {
            max_message,
            head: [0; 14],
            head_len: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            over: false,
            frames: 0,
        }
    }

    /// Whether nothing of a message or a control frame has come that is not complete; then this reader
    /// and a new one are the same, unless nothing more is read.
    pub fn is_between_messages(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none() && !self.over
    }

    /// How many frames have begun, of any kind; wraps around.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Reads `bytes`, unmasking them in place, and calls `on` for every event in them.
    ///
    /// # Errors
    /// How the client broke the protocol. Everything after that is ignored (section 7.1.7), as is everything
    /// after a Close (sections 1.4 and 5.5.1).
    pub fn feed(&mut self, bytes: &mut [u8], on: &mut impl FnMut(Event<'_>)) -> Result<(), Disconnect> {
        let read = self.read(bytes, on);
        self.over |= read.is_err();
        read
    }

    fn read(&mut self, mut bytes: &mut [u8], on: &mut impl FnMut(Event<'_>)) -> Result<(), Disconnect> {
        while !self.over {
            let frame = match self.frame {
                Some(frame) => frame,
                None => {
                    let used = self.read_head(bytes)?;
                    bytes = &mut bytes[used..];
                    match self.frame {
                        Some(frame) => frame,
                        None => return Ok(()),
                    }
                }
            };
            let (payload, rest) = bytes.split_at_mut(frame.remaining.min(bytes.len()));
            bytes = rest;
            // Section 5.3.
            unmask(payload, frame.mask);
            let mut mask = frame.mask;
            mask.rotate_left(payload.len() % 4);
            let remaining = frame.remaining - payload.len();
            self.frame = Some(FrameUnderWay { mask, remaining, ..frame });
            if matches!(frame.opcode, OpCode::Ping | OpCode::Pong | OpCode::Close) {
                self.control.extend_from_slice(payload);
                if remaining > 0 {
                    return Ok(());
                }
                self.frame = None;
                self.end_control(frame.opcode, on)?;
            } else {
                if remaining == 0 {
                    self.frame = None;
                }
                self.data(payload, remaining == 0 && frame.last, on)?;
                if remaining > 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes from `bytes` what the head of the next frame still lacks; returns how many bytes.
    fn read_head(&mut self, bytes: &[u8]) -> Result<usize, Disconnect> {
        let mut used = 0;
        loop {
            let have = usize::from(self.head_len);
            let want = match have {
                0 | 1 => 2,
                _ => 2 + [0, 2, 8][length_form(self.head[1])] + 4,
            };
            let piece = &bytes[used..][..(want - have).min(bytes.len() - used)];
            self.head[have..have + piece.len()].copy_from_slice(piece);
            self.head_len += piece.len() as u8;
            used += piece.len();
            let have = have + piece.len();
            if have < want {
                return Ok(used);
            }
            if want == 2 {
                self.check_start()?;
            } else {
                self.head_len = 0;
                self.frames = self.frames.wrapping_add(1);
                self.frame = Some(self.check_length(want)?);
                return Ok(used);
            }
        }
    }

    /// Checks the first two bytes of a head (section 5.2).
    fn check_start(&self) -> Result<(), Disconnect> {
        let [first, second, ..] = self.head;
        let last = first & 0x80 != 0;
        // Section 5.2, RSV1 to RSV3: no extension is negotiated.
        if first & 0x70 != 0 {
            return Err(Disconnect::Protocol("reserved bit without an extension"));
        }
        // Section 5.1.
        if second & 0x80 == 0 {
            return Err(Disconnect::Protocol("frame of a client is not masked"));
        }
        match (first & 0x0f, &self.message) {
            // Section 5.4: fragments of a message are continuations, and nothing else is; messages do not interleave.
            (0, None) => Err(Disconnect::Protocol("continuation without a message")),
            (1 | 2, Some(_)) => Err(Disconnect::Protocol("new message inside a fragmented one")),
            (0..=2, _) => Ok(()),
            // Section 5.5; between the fragments of a message they may come (section 5.4).
            (8..=10, _) if !last => Err(Disconnect::Protocol("fragmented control frame")),
            (8..=10, _) if usize::from(second & 0x7f) > MAX_CONTROL => {
                Err(Disconnect::Protocol("control frame over 125 bytes"))
            }
            (8..=10, _) => Ok(()),
            // Section 5.2, opcode: 3 to 7 and 11 to 15.
            _ => Err(Disconnect::Protocol("reserved opcode")),
        }
    }

    /// Reads length and mask of a complete head of `len` bytes.
    fn check_length(&mut self, len: usize) -> Result<FrameUnderWay, Disconnect> {
        let head = &self.head[..len];
        let (bytes, mask) = (&head[2..len - 4], [head[len - 4], head[len - 3], head[len - 2], head[len - 1]]);
        let long = bytes.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
        let length = match bytes.len() {
            0 => u64::from(head[1] & 0x7f),
            // Section 5.2, payload length: the shortest form, and no more than 63 bits.
            2 if long < 126 => return Err(Disconnect::Protocol("length not in its shortest form")),
            8 if long < 1 << 16 => return Err(Disconnect::Protocol("length not in its shortest form")),
            8 if long >> 63 != 0 => return Err(Disconnect::Protocol("length over 63 bits")),
            _ => long,
        };
        let opcode = match head[0] & 0x0f {
            0 => OpCode::Continuation,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            _ => OpCode::Pong,
        };
        let remaining = usize::try_from(length).map_err(|_| Disconnect::TooBig)?;
        // Section 10.4: a message is too big by what its heads say, fragments together, before any of it comes.
        if matches!(opcode, OpCode::Continuation | OpCode::Text | OpCode::Binary) {
            let message = self.message.get_or_insert(MessageUnderWay {
                text: opcode == OpCode::Text,
                len: 0,
                utf8: Utf8::default(),
            });
            message.len = message.len.saturating_add(remaining);
            if message.len > self.max_message {
                return Err(Disconnect::TooBig);
            }
        }
        Ok(FrameUnderWay { opcode, last: head[0] & 0x80 != 0, mask, remaining })
    }

    fn data(&mut self, payload: &[u8], last: bool, on: &mut impl FnMut(Event<'_>)) -> Result<(), Disconnect> {
        let Some(message) = &mut self.message else {
            return Ok(());
        };
        let text = message.text;
        // Sections 5.6 and 8.1: the message as a whole is UTF-8; a fragment may end inside a code point.
        if text && !(message.utf8.feed(payload) && (!last || message.utf8.is_complete())) {
            return Err(Disconnect::Utf8);
        }
        if last {
            self.message = None;
        }
        on(Event::Data { text, payload, last });
        Ok(())
    }

    fn end_control(&mut self, opcode: OpCode, on: &mut impl FnMut(Event<'_>)) -> Result<(), Disconnect> {
        let payload = std::mem::take(&mut self.control);
        debug_assert!(payload.len() <= MAX_CONTROL, "checked with the head");
        match opcode {
            OpCode::Ping => on(Event::Ping(&payload)),
            OpCode::Pong => on(Event::Pong),
            _ => {
                let code = close_code(&payload)?;
                self.over = true;
                on(Event::Close(code));
            }
        }
        Ok(())
    }
}

/// Which of the three length forms the second byte of a head announces.
fn length_form(second: u8) -> usize {
    match second & 0x7f {
        126 => 1,
        127 => 2,
        _ => 0,
    }
}

/// The code of a Close payload, if it has one (section 5.5.1): nothing, or a code with a reason in UTF-8.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Disconnect> {
    match payload {
        [] => Ok(None),
        [_] => Err(Disconnect::Protocol("close payload of one byte")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Disconnect::Protocol("close code that may not be sent"));
            }
            // Section 8.1.
            std::str::from_utf8(reason).map_err(|_| Disconnect::Utf8)?;
            Ok(Some(code))
        }
    }
}

/// Whether a Close may carry `code` (section 7.4): those of section 7.4.1 but for 1004, 1005, 1006 and 1015,
/// which are never sent; 1012 to 1014, which IANA's registry has added; what libraries and
/// applications may use (section 7.4.2).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests;
