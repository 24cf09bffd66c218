//! A client: prints what a channel says, with the gaps in its numbers.
//!
//! ```sh
//! cargo run --example client -- 127.0.0.1:8080 market
//! ```

use std::io::Write;

use fastwebsockets::{FragmentCollector, OpCode, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header;
use serde_json::Value;
use tokio::net::TcpStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let channel = arguments.next().unwrap_or_else(|| "market".into());
    let request = Request::get(format!("/ws/{channel}"))
        .header(header::HOST, &address)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_KEY, handshake::generate_key())
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(Empty::<Bytes>::new())?;
    let stream = TcpStream::connect(&address).await?;
    let (socket, _) = handshake::client(&Spawn, request, stream).await?;
    let mut socket = FragmentCollector::new(socket);
    let mut out = std::io::stdout().lock();
    let mut seq = None;
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text => {
                let next = serde_json::from_slice::<Value>(&frame.payload).ok().and_then(|v| v["seq"].as_u64());
                if let (Some(seq), Some(next)) = (seq, next)
                    && next > seq + 1
                {
                    eprintln!("{} messages lost: this client was too slow", next - seq - 1);
                }
                seq = next.or(seq);
                out.write_all(&frame.payload)?;
                out.write_all(b"\n")?;
            }
            OpCode::Binary => writeln!(out, "{} bytes", frame.payload.len())?,
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}

/// Runs the connection hyper needs for the handshake.
struct Spawn;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}
