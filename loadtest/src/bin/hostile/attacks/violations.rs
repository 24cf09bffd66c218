//! What RFC 6455 forbids, one after the other, and what is no protocol at all.

use std::time::Duration;

use tokio::time::Instant;

use crate::kind::Kind;
use crate::peer::{End, PATIENCE};
use crate::stage::Stage;
use crate::wire::{self, BINARY, CLOSE, CONTINUATION, LAST, PING, PONG, TEXT, frame};

/// Random bytes in one write.
const PIECE: usize = 1 << 10;

/// Every violation behind a handshake: the bytes, the code of the Close, what it is.
fn violations() -> Vec<(Vec<u8>, u16, &'static str)> {
    let begun = TEXT & !LAST;
    let mut all = vec![
        (vec![TEXT, 1, b'x'], 1002, "a frame that is not masked"),
        (frame(TEXT | 0x40, b"x"), 1002, "RSV1 without an extension"),
        (frame(TEXT | 0x20, b"x"), 1002, "RSV2"),
        (frame(PING | 0x10, b"x"), 1002, "RSV3 in a Ping"),
        (frame(0x83, b"x"), 1002, "a reserved data opcode"),
        (frame(0x8f, b"x"), 1002, "a reserved control opcode"),
        (frame(PING & !LAST, b"x"), 1002, "a Ping in fragments"),
        (frame(CLOSE & !LAST, b""), 1002, "a Close in fragments"),
        (frame(PING, &[0; 126]), 1002, "a Ping of 126 bytes"),
        (frame(PONG, &[0; 300]), 1002, "a Pong of 300 bytes"),
        (frame(LAST | CONTINUATION, b"x"), 1002, "a continuation of nothing"),
        ([frame(begun, b"x"), frame(TEXT, b"y")].concat(), 1002, "a message inside a message"),
        ([frame(begun, b"x"), frame(BINARY, b"y")].concat(), 1002, "a binary message inside a text"),
        (vec![BINARY, 0xfe, 0, 125, 0, 0, 0, 0], 1002, "a length that is not the shortest"),
        (vec![BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002, "a length of 64 bits"),
        (frame(CLOSE, b"x"), 1002, "a Close of one byte"),
        (frame(TEXT, b"\xff"), 1007, "text that is not UTF-8"),
        (frame(TEXT, b"\xed\xa0\x80"), 1007, "a surrogate"),
        (frame(TEXT, b"\xe2\x82"), 1007, "half a character at the end"),
        ([frame(begun, b"\xe2\x82"), frame(LAST, b"x")].concat(), 1007, "a character broken by a fragment"),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007, "a Close with a reason that is not UTF-8"),
        (wire::head(BINARY, 1 << 62), 1009, "a frame said to have 4 EiB"),
    ];
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        all.push((frame(CLOSE, &code.to_be_bytes()), 1002, "a Close with a code that may not be sent"));
    }
    all
}

/// Handshakes that are none: what to replace with what, the status.
const HANDSHAKES: [(&str, &str, u16); 9] = [
    ("GET ", "PUT ", 405),
    ("GET /", "GET /no-such-path/", 404),
    ("Upgrade: websocket\r\n", "", 426),
    ("Connection: Upgrade\r\n", "", 400),
    ("Version: 13", "Version: 12", 426),
    ("Sec-WebSocket-Key: ", "X-Not-The-Key: ", 400),
    ("Key: dGhl", "Key: d", 400),
    ("HTTP/1.1", "HTTP/3.1", 400),
    ("Upgrade: websocket\r\n", "Upgrade: websocket\r\nContent-Length: 5\r\n", 400),
];

/// One violation after the other.
pub(super) async fn protocol(stage: &Stage, n: u64) -> Result<End, End> {
    let all = violations();
    let n = n as usize % (all.len() + HANDSHAKES.len());
    let Some((bytes, code, what)) = all.get(n) else {
        return handshake(stage, HANDSHAKES[n - all.len()]).await;
    };
    let mut peer = stage.client(Kind::Protocol).await?;
    peer.send(bytes).await?;
    let end = peer.end(Instant::now() + PATIENCE).await;
    if matches!(end, End::Ended | End::Reset) {
        // All it said has been read: nothing can have destroyed the Close.
        stage.forbid(Kind::Protocol, &format!("{what}: no Close, expected {code}"));
    }
    Ok(stage.judge(Kind::Protocol, what, end, &[*code]))
}

async fn handshake(stage: &Stage, (from, to, expected): (&str, &str, u16)) -> Result<End, End> {
    let request = String::from_utf8_lossy(&stage.handshake()).replacen(from, to, 1);
    let mut peer = stage.connect().await?;
    peer.send(request.as_bytes()).await?;
    let status = peer.status(Instant::now() + PATIENCE).await;
    let what = format!("a handshake with {to:?} for {from:?}");
    match status {
        Ok(status) => {
            if status != expected && !matches!(status, 429 | 503) {
                stage.forbid(Kind::Protocol, &format!("{what}: answered with {status}, expected {expected}"));
            }
            Ok(End::Status(status))
        }
        Err(End::Timeout) => Ok(stage.judge(Kind::Protocol, &what, End::Timeout, &[])),
        Err(end) => Err(end),
    }
}

/// Random bytes instead of a handshake, or behind one.
pub(super) async fn garbage(stage: &Stage, n: u64) -> Result<End, End> {
    const KIND: Kind = Kind::Garbage;
    let mut bytes = vec![0; PIECE];
    stage.random.borrow_mut().fill(&mut bytes);
    if n.is_multiple_of(2) {
        let mut peer = stage.connect().await?;
        peer.send(&bytes).await?;
        // By chance it may look like the beginning of a request.
        return match peer.status(Instant::now() + stage.handshake_timeout + PATIENCE).await {
            Ok(status) if status < 400 => {
                stage.forbid(KIND, &format!("random bytes were answered with {status}"));
                Ok(End::Status(status))
            }
            Ok(status) => Ok(End::Status(status)),
            Err(end) => Ok(stage.judge(KIND, "random bytes", end, &[])),
        };
    }
    // By chance it would be a right Close.
    bytes[0] &= 0x7f;
    let mut peer = stage.client(KIND).await?;
    let end = peer.pour(&bytes, usize::MAX, Duration::from_millis(5), Instant::now() + PATIENCE).await;
    Ok(stage.judge(KIND, "random bytes behind the handshake", end, &[1002, 1007, 1008, 1009]))
}
