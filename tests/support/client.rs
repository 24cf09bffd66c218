//! A WebSocket client by hand: it sends what it is told, right or wrong, and shows every byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::PATIENCE;
use super::http::{Answer, connect, read_answer};

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

pub struct Client<S = TcpStream> {
    pub stream: S,
}

/// The client's side of the opening handshake, for `path`.
pub fn handshake_request(address: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A frame of a client, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0xa1, 0xb2, 0xc3, 0xd4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The payload of a Close.
pub fn close(code: u16) -> Vec<u8> {
    code.to_be_bytes().to_vec()
}

impl Client {
    /// A client of a channel.
    pub fn connect(address: SocketAddr, channel: &str) -> Self {
        Self::over(connect(address), address, channel)
    }

    /// A client whose kernel takes little for it while it does not read.
    pub fn with_small_buffer(address: SocketAddr, channel: &str, bytes: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("an option");
        socket.connect(&address.into()).expect("the server accepts");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self::over(stream, address, channel)
    }

    /// Whether nothing comes for `time`.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
        let silent = self.stream.peek(&mut [0]).is_err();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        silent
    }

    /// Asks for a stream and returns whatever is answered.
    pub fn ask(address: SocketAddr, path: &str) -> Answer {
        let mut stream = connect(address);
        stream.write_all(handshake_request(address, path).as_bytes()).expect("sent");
        read_answer(&mut stream, false)
    }
}

impl<S: Read + Write> Client<S> {
    /// The same over any stream.
    pub fn over(mut stream: S, address: SocketAddr, channel: &str) -> Self {
        stream.write_all(handshake_request(address, &format!("/ws/{channel}")).as_bytes()).expect("sent");
        let answer = read_answer(&mut stream, false);
        assert_eq!(answer.status, 101, "{}\n{}", answer.head, answer.text());
        // RFC 6455 section 1.3 has the answer to this key.
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pplmbitxaq9kygzzhzrbk+xoo="));
        Self { stream }
    }

    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.stream.write_all(&frame(first, payload)).expect("sent");
    }

    /// The next frame: first byte and payload. None: the server ended the connection.
    pub fn try_read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        if let Err(error) = self.stream.read_exact(&mut head) {
            assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "no frame");
            return None;
        }
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let long = match head[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mut bytes = [0; 8];
        self.stream.read_exact(&mut bytes[8 - long..]).ok()?;
        let length = if long == 0 { u64::from(head[1]) } else { u64::from_be_bytes(bytes) };
        let mut payload = vec![0; usize::try_from(length).expect("a length")];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    pub fn read(&mut self) -> (u8, Vec<u8>) {
        self.try_read().expect("a frame, not the end of the connection")
    }

    /// The next frame, which must be text.
    pub fn text(&mut self) -> String {
        let (first, payload) = self.read();
        assert_eq!(first, TEXT, "{:?}", String::from_utf8_lossy(&payload));
        String::from_utf8(payload).expect("UTF-8")
    }

    pub fn json(&mut self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Reads on until a Close; returns its code and text, and how many other frames came before.
    pub fn read_to_close(&mut self) -> (u16, String, usize) {
        let mut others = 0;
        loop {
            let (first, payload) = self.read();
            if first != CLOSE {
                others += 1;
                continue;
            }
            let (code, text) = payload.split_first_chunk().unwrap_or((&[0; 2], b""));
            return (u16::from_be_bytes(*code), String::from_utf8(text.to_vec()).expect("UTF-8"), others);
        }
    }
}
