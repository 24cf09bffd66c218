//! A crowd of readers, for looking at a server under load: opens connections, reads and throws away,
//! and says every second what came.
//!
//! ```sh
//! cargo run --release --example crowd -- 127.0.0.1:8080 market 1000
//! ```
//! One thread. It counts frames by their heads and measures nothing else.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Default)]
struct Counts {
    connected: Cell<usize>,
    bytes: Cell<u64>,
    frames: Cell<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let channel = arguments.next().unwrap_or_else(|| "market".into());
    let clients: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let counts = Rc::new(Counts::default());
    let local = tokio::task::LocalSet::new();
    for _ in 0..clients {
        let (address, channel, counts) = (address.clone(), channel.clone(), Rc::clone(&counts));
        local.spawn_local(async move {
            if let Err(error) = Box::pin(read(&address, &channel, &counts)).await {
                eprintln!("a client ended: {error}");
            }
            counts.connected.set(counts.connected.get() - 1);
        });
    }
    local
        .run_until(async {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            loop {
                ticks.tick().await;
                let (bytes, frames) = (counts.bytes.take(), counts.frames.take());
                eprintln!("{} connected, {frames} messages/s, {:.1} MB/s", counts.connected.get(), bytes as f64 / 1e6);
            }
        })
        .await
}

async fn read(address: &str, channel: &str, counts: &Counts) -> std::io::Result<()> {
    counts.connected.set(counts.connected.get() + 1);
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /ws/{channel} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(std::io::Error::other(String::from_utf8_lossy(&head).into_owned()));
    }
    let mut buffer = [0; 16 << 10];
    let mut frames = Frames::default();
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        counts.bytes.set(counts.bytes.get() + read as u64);
        let (seen, pings) = frames.count(&buffer[..read]);
        counts.frames.set(counts.frames.get() + seen);
        for _ in 0..pings {
            // An empty Pong, masked with zeros.
            stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await?;
        }
    }
}

/// Finds the heads of a server's frames in a stream of bytes.
#[derive(Default)]
struct Frames {
    head: Vec<u8>,
    payload: u64,
}

impl Frames {
    /// How many frames, and how many of them Pings, begin in `bytes`.
    fn count(&mut self, mut bytes: &[u8]) -> (u64, u64) {
        let (mut frames, mut pings) = (0, 0);
        while !bytes.is_empty() {
            let skip = self.payload.min(bytes.len() as u64);
            self.payload -= skip;
            bytes = &bytes[skip as usize..];
            let Some((first, rest)) = bytes.split_first() else {
                break;
            };
            self.head.push(*first);
            bytes = rest;
            let want = match self.head.get(1) {
                Some(126) => 4,
                Some(127) => 10,
                _ => 2,
            };
            if self.head.len() == want {
                let length = if want == 2 { &self.head[1..] } else { &self.head[2..] };
                self.payload = length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
                frames += 1;
                pings += u64::from(self.head[0] == 0x89);
                self.head.clear();
            }
        }
        (frames, pings)
    }
}
