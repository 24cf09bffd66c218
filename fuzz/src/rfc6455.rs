//! The client's side of RFC 6455 read in the most straightforward way, from all the bytes at once: what the
//! project's reader, which takes them in pieces, must agree with to the letter.

/// What a client said, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A text message.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// A Ping.
    Ping(Vec<u8>),
    /// A Pong.
    Pong,
    /// A Close and its code.
    Close(Option<u16>),
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// More may come; whether a message or frame is under way.
    Open {
        /// Nothing is under way.
        between_messages: bool,
    },
    /// With the client's Close.
    Closed,
    /// 1002.
    Protocol,
    /// 1007.
    Utf8,
    /// 1009.
    TooBig,
}

/// Everything about a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Transcript {
    /// What was said, in order.
    pub said: Vec<Said>,
    /// How it ends.
    pub end: End,
    /// Whether the frame at which it ends is all there.
    pub whole: bool,
    /// Whether it ends at a length that is not in its shortest form, or over 63 bits, or of a control frame and
    /// longer than that may be.
    pub odd_length: bool,
}

/// Reads `bytes`, with messages of up to `max` bytes. A frame that is not all there is judged by what is there.
pub fn read(mut bytes: &[u8], max: usize) -> Transcript {
    let mut transcript =
        Transcript { said: Vec::new(), end: End::Open { between_messages: true }, whole: true, odd_length: false };
    // Text or binary, and the bytes so far.
    let mut message: Option<(bool, Vec<u8>)> = None;
    loop {
        match frame(bytes, max, &mut message, &mut transcript) {
            Ok(Some(length)) => bytes = &bytes[length..],
            Ok(None) => {
                if let End::Open { between_messages } = &mut transcript.end {
                    *between_messages = bytes.is_empty() && message.is_none();
                }
                return transcript;
            }
            Err(end) => {
                transcript.end = end;
                return transcript;
            }
        }
    }
}

/// One frame at the start of `bytes`: its length if it is all there.
fn frame(
    bytes: &[u8],
    max: usize,
    message: &mut Option<(bool, Vec<u8>)>,
    transcript: &mut Transcript,
) -> Result<Option<usize>, End> {
    transcript.whole = false;
    let [first, second, ..] = bytes else { return Ok(None) };
    let (fin, reserved, opcode) = (first >> 7 == 1, first >> 4 & 7, first & 15);
    let (masked, short) = (second >> 7 == 1, second & 127);
    let control = opcode >= 8;
    let known = matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10);
    let in_order = control || (opcode == 0) == message.is_some();
    transcript.odd_length = control && short > 125;
    if reserved != 0 || !masked || !known || !in_order || control && (!fin || short > 125) {
        return Err(End::Protocol);
    }
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let head = 2 + extended + 4;
    if bytes.len() < head {
        return Ok(None);
    }
    let mut eight = [0; 8];
    eight[8 - extended..].copy_from_slice(&bytes[2..2 + extended]);
    let length = if extended == 0 { u64::from(short) } else { u64::from_be_bytes(eight) };
    if extended == 2 && length <= 125 || extended == 8 && !(0x1_0000..1 << 63).contains(&length) {
        transcript.odd_length = true;
        return Err(End::Protocol);
    }
    let length = usize::try_from(length).map_err(|_| End::TooBig)?;
    let so_far = message.as_ref().map_or(0, |(_, so_far)| so_far.len());
    if !control && so_far.saturating_add(length) > max {
        return Err(End::TooBig);
    }
    let mask = &bytes[head - 4..head];
    let there = &bytes[head..][..length.min(bytes.len() - head)];
    let payload: Vec<u8> = there.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]).collect();
    let whole = there.len() == length;
    transcript.whole = whole;
    if control {
        if !whole {
            return Ok(None);
        }
        let said = match opcode {
            9 => Said::Ping(payload),
            10 => Said::Pong,
            _ => Said::Close(close(&payload)?),
        };
        let closed = matches!(said, Said::Close(_));
        transcript.said.push(said);
        return if closed { Err(End::Closed) } else { Ok(Some(head + length)) };
    }
    let (text, so_far) = message.get_or_insert((opcode == 1, Vec::new()));
    so_far.extend(payload);
    let last = fin && whole;
    if *text && std::str::from_utf8(so_far).is_err_and(|error| last || error.error_len().is_some()) {
        return Err(End::Utf8);
    }
    if last && let Some((text, whole)) = message.take() {
        transcript.said.push(if text { Said::Text(whole) } else { Said::Binary(whole) });
    }
    Ok(whole.then_some(head + length))
}

/// The code of a Close, if it may be sent: those that RFC 6455 section 7.4 or IANA's registry define for use on
/// the wire, and those of libraries and applications.
fn close(payload: &[u8]) -> Result<Option<u16>, End> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(End::Protocol),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(End::Protocol);
    }
    std::str::from_utf8(reason).map_err(|_| End::Utf8)?;
    Ok(Some(code))
}
