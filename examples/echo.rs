//! The server's reader on its own: an echo server, for conformance suites.
//!
//! ```sh
//! cargo run --release --example echo -- 127.0.0.1:9001
//! ```
//! Sends back every message as one frame. Not a server to use: it has no limits but the reader's.

use fastwebsockets::{Frame, OpCode, Payload};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tickcast::server::{Event, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Larger than anything a suite sends.
const MAX_MESSAGE: usize = 64 << 20;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".into());
    let listener = TcpListener::bind(&address).await?;
    eprintln!("echo on ws://{}/", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn serve(stream: TcpStream) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let parts = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(upgrade)).without_shutdown();
    let parts = parts.await?;
    let mut stream = parts.io.into_inner();
    let mut bytes = Vec::from(parts.read_buf);
    let mut echo = Echo { reader: Reader::new(MAX_MESSAGE), message: Vec::new(), out: Vec::new(), over: false };
    loop {
        echo.receive(&mut bytes);
        stream.write_all(&echo.out).await?;
        echo.out.clear();
        if echo.over {
            return Ok(stream.shutdown().await?);
        }
        bytes.resize(64 << 10, 0);
        let read = stream.read(&mut bytes).await?;
        bytes.truncate(read);
        if read == 0 {
            return Ok(());
        }
    }
}

async fn upgrade(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, hyper::http::Error> {
    match fastwebsockets::upgrade::upgrade(&mut request) {
        Ok((response, _)) => Ok(response),
        Err(_) => Response::builder().status(StatusCode::BAD_REQUEST).body(Empty::new()),
    }
}

struct Echo {
    reader: Reader,
    message: Vec<u8>,
    out: Vec<u8>,
    over: bool,
}

impl Echo {
    fn receive(&mut self, bytes: &mut [u8]) {
        let Self { reader, message, out, over } = self;
        let read = reader.feed(bytes, &mut |event| match event {
            Event::Data { text, payload, last } => {
                message.extend_from_slice(payload);
                if last {
                    push(out, if text { OpCode::Text } else { OpCode::Binary }, message);
                    message.clear();
                }
            }
            Event::Ping(payload) => push(out, OpCode::Pong, payload),
            Event::Pong => {}
            Event::Close(code) => {
                push(out, OpCode::Close, &code.map(u16::to_be_bytes).unwrap_or_default()[..code.map_or(0, |_| 2)]);
                *over = true;
            }
        });
        if let Err((code, _)) = read.map_err(|end| end.close().unwrap_or((1011, ""))) {
            push(out, OpCode::Close, &code.to_be_bytes());
            *over = true;
        }
    }
}

fn push(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let mut head = [0; 14];
    let len = Frame::new(true, opcode, None, Payload::Borrowed(payload)).fmt_head(&mut head);
    out.extend_from_slice(&head[..len]);
    out.extend_from_slice(payload);
}
