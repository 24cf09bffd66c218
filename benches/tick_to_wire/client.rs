//! The client: a thread that blocks in `read` and says when a frame was there to its last byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::Result;
use crate::lines::Stamps;

const REQUEST: &str = "GET /ws/market HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Shakes hands and reads from then on.
pub(crate) fn connect(address: SocketAddr) -> Result<Stamps> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(REQUEST.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&head).into());
    }
    Ok(read(stream))
}

/// Reads frames until the connection ends.
pub(crate) fn read(mut stream: TcpStream) -> Stamps {
    let frames = Stamps::default();
    let stamps = frames.clone();
    std::thread::spawn(move || {
        let (mut bytes, mut filled) = (vec![0; 1 << 20], 0);
        while let Ok(read @ 1..) = stream.read(&mut bytes[filled..]) {
            let now = Instant::now();
            filled += read;
            let mut done = 0;
            while let Some(len) = frame_len(&bytes[done..filled]) {
                done += len;
                stamps.push(now);
            }
            bytes.copy_within(done..filled, 0);
            filled -= done;
        }
    });
    frames
}

/// Length of the unmasked frame that `bytes` begin with, if it is whole (RFC 6455 section 5.2).
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = match *bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        127 => 10 + u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        len => 2 + usize::from(len),
    };
    (len <= bytes.len()).then_some(len)
}
