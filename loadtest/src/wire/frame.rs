//! A server's frames (RFC 6455 section 5.2), read in pieces of any size without a buffer.

/// Largest payload of a control frame (RFC 6455 section 5.5).
const MAX_CONTROL: usize = 125;

/// Something a server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A piece of a data message.
    Data {
        /// Whether the message begins with it.
        first: bool,
        /// Whether it ends with it.
        last: bool,
        /// Binary or text.
        binary: bool,
        /// The piece.
        payload: &'a [u8],
    },
    /// A Ping, to be answered with a Pong of the same payload.
    Ping(&'a [u8]),
    /// A Close, with its code and reason if it had them.
    Close(Option<u16>, &'a [u8]),
}

/// Reads one connection's frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Payload bytes of the frame under way that are still to come.
    remaining: u64,
    head: [u8; 10],
    head_len: u8,
    in_frame: bool,
    /// First byte of the frame under way.
    start: u8,
    in_message: bool,
    /// Whether the message under way has had a piece.
    begun: bool,
    binary: bool,
    /// Payload of a control frame, which is needed whole; empty but for that.
    control: Vec<u8>,
}

impl Decoder {
    /// Reads `bytes` and calls `on` for every event in them.
    ///
    /// # Errors
    /// How the server broke the protocol; nothing may be fed after that.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<(), &'static str> {
        loop {
            if !self.in_frame {
                bytes = &bytes[self.read_head(bytes)?..];
                if !self.in_frame {
                    return Ok(());
                }
            }
            let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(take);
            bytes = rest;
            self.remaining -= take as u64;
            self.in_frame = self.remaining > 0;
            if self.start & 0x08 == 0 {
                if take > 0 || !self.in_frame {
                    self.data(payload, on);
                }
            } else if !self.in_frame && self.control.is_empty() {
                control(self.start, payload, on)?;
            } else {
                self.control.extend_from_slice(payload);
                if !self.in_frame {
                    control(self.start, &std::mem::take(&mut self.control), on)?;
                }
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    fn data(&mut self, payload: &[u8], on: &mut impl FnMut(Event<'_>)) {
        let last = !self.in_frame && self.start & 0x80 != 0;
        on(Event::Data { first: !self.begun, last, binary: self.binary, payload });
        self.begun = !last;
        self.in_message = !last;
    }

    /// Takes from `bytes` what the head of the next frame still lacks; returns how many bytes.
    fn read_head(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut used = 0;
        loop {
            let have = usize::from(self.head_len);
            let want = match (have, self.head[1] & 0x7f) {
                (0 | 1, _) => 2,
                (_, 126) => 4,
                (_, 127) => 10,
                _ => 2,
            };
            let piece = &bytes[used..][..(want - have).min(bytes.len() - used)];
            self.head[have..][..piece.len()].copy_from_slice(piece);
            self.head_len += piece.len() as u8;
            used += piece.len();
            if usize::from(self.head_len) < want {
                return Ok(used);
            }
            let long = matches!(self.head[1] & 0x7f, 126 | 127);
            if want > 2 || !long {
                self.begin(want)?;
                return Ok(used);
            }
        }
    }

    /// Begins the frame whose head of `len` bytes is complete.
    fn begin(&mut self, len: usize) -> Result<(), &'static str> {
        let [start, second, ..] = self.head;
        self.head_len = 0;
        self.start = start;
        self.remaining = match len {
            2 => u64::from(second & 0x7f),
            _ => self.head[2..len].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if start & 0x70 != 0 {
            return Err("a frame with a reserved bit");
        }
        if second & 0x80 != 0 {
            return Err("a masked frame from a server");
        }
        if self.remaining >> 63 != 0 {
            return Err("a frame length over 63 bits");
        }
        match start & 0x0f {
            0 if !self.in_message => return Err("a continuation without a message"),
            1 | 2 if self.in_message => return Err("a new message inside a fragmented one"),
            1 | 2 => {
                self.in_message = true;
                self.binary = start & 0x0f == 2;
            }
            8..=10 if start & 0x80 == 0 => return Err("a fragmented control frame"),
            8..=10 if self.remaining > MAX_CONTROL as u64 => return Err("a control frame over 125 bytes"),
            0 | 8..=10 => {}
            _ => return Err("a reserved opcode"),
        }
        self.in_frame = true;
        Ok(())
    }
}

fn control(start: u8, payload: &[u8], on: &mut impl FnMut(Event<'_>)) -> Result<(), &'static str> {
    match (start & 0x0f, payload) {
        (8, []) => on(Event::Close(None, &[])),
        (8, [_]) => return Err("a Close with one byte"),
        (8, [high, low, reason @ ..]) => on(Event::Close(Some(u16::from_be_bytes([*high, *low])), reason)),
        (9, payload) => on(Event::Ping(payload)),
        _ => {}
    }
    Ok(())
}

/// A client's control frame, masked (RFC 6455 section 5.3).
pub(crate) fn client_control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    let mask = fastrand::u32(..).to_ne_bytes();
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..=125 => bytes.push(len as u8),
            len @ 126..=65_535 => {
                bytes.push(126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(payload);
        bytes
    }

    fn read(stream: &[u8], size: usize) -> Result<Vec<String>, &'static str> {
        let mut decoder = Decoder::default();
        let mut said = Vec::new();
        let mut message = Vec::new();
        for piece in stream.chunks(size) {
            decoder.feed(piece, &mut |event| match event {
                Event::Data { first, last, binary, payload } => {
                    if first {
                        assert!(message.is_empty(), "begins once");
                    }
                    message.extend_from_slice(payload);
                    if last {
                        let kind = if binary { "binary" } else { "text" };
                        said.push(format!("{kind} {}", String::from_utf8_lossy(&std::mem::take(&mut message))));
                    }
                }
                Event::Ping(payload) => said.push(format!("ping {}", String::from_utf8_lossy(payload))),
                Event::Close(code, reason) => said.push(format!("close {code:?} {}", String::from_utf8_lossy(reason))),
            })?;
        }
        Ok(said)
    }

    #[test]
    fn frames_in_pieces_of_any_size() {
        let stream = [
            frame(0x81, b"hello"),
            frame(0x01, b"in "),
            frame(0x89, b"between"),
            frame(0x00, b""),
            frame(0x80, b"pieces"),
            frame(0x82, b""),
            frame(0x8a, b"unasked"),
            frame(0x82, &[b'x'; 300]),
            frame(0x81, &[b'y'; 70_000]),
            frame(0x89, b""),
            frame(0x88, &[&1001_u16.to_be_bytes()[..], b"bye"].concat()),
        ]
        .concat();
        let (long, longer) = (format!("binary {}", "x".repeat(300)), format!("text {}", "y".repeat(70_000)));
        let expected = [
            "text hello",
            "ping between",
            "text in pieces",
            "binary ",
            &long,
            &longer,
            "ping ",
            "close Some(1001) bye",
        ];
        for size in [1, 2, 3, 7, 64, 1_000, stream.len()] {
            assert_eq!(read(&stream, size).as_deref(), Ok(expected.map(str::to_owned).as_slice()), "pieces of {size}");
        }
    }

    #[test]
    fn what_a_server_may_not_send() {
        for (bytes, reason) in [
            (vec![0x81, 0x81, 0, 0, 0, 0, b'x'], "masked"),
            (frame(0xc1, b"x"), "reserved bit"),
            (frame(0x83, b"x"), "reserved opcode"),
            (frame(0x80, b"x"), "continuation"),
            ([frame(0x01, b"x"), frame(0x81, b"y")].concat(), "inside"),
            (frame(0x09, b"x"), "fragmented control"),
            (frame(0x89, &[0; 126]), "over 125"),
            (frame(0x88, b"x"), "one byte"),
            (vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], "63 bits"),
        ] {
            let said = read(&bytes, 1).expect_err(reason);
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn control_frames_of_a_client_are_masked() {
        let bytes = client_control(0x0a, b"payload");
        assert_eq!(bytes[..2], [0x8a, 0x87]);
        let unmasked: Vec<_> = bytes[6..].iter().zip(bytes[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(unmasked, b"payload");
    }
}
