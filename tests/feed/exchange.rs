//! A stand-in for the exchange: it accepts connections and does with each what a test says, right or wrong.

#![allow(dead_code, reason = "every test uses a part of this")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use base64::Engine;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use crate::support::PATIENCE;
use crate::support::client::{CLOSE, PING, PONG, TEXT};

/// What a client of the stand-in asks for.
pub(crate) const TARGET: &str = "/stream?streams=btcusdt@trade/btcusdt@bookTicker";

pub(crate) struct Exchange {
    pub(crate) address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    incoming: Receiver<TcpStream>,
}

impl Exchange {
    pub(crate) fn new(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (sender, incoming) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, tls, incoming }
    }

    /// Where it is, as `--source` wants it.
    pub(crate) fn source(&self) -> String {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        format!("binance:{scheme}://{}{TARGET}", self.address)
    }

    /// The next connection; it has said nothing yet.
    pub(crate) fn accept(&self) -> TcpStream {
        let stream = self.incoming.recv_timeout(PATIENCE).expect("the feed connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_nodelay(true).expect("an option");
        stream
    }

    /// Whether nobody connects for `time`.
    pub(crate) fn is_left_alone(&self, time: Duration) -> bool {
        matches!(self.incoming.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// The next connection, which has made its request.
    pub(crate) fn request(&self) -> Peer {
        self.listen_to(self.accept())
    }

    /// The same, if somebody has connected.
    pub(crate) fn try_request(&self) -> Option<Peer> {
        let tcp = self.incoming.try_recv().ok()?;
        tcp.set_read_timeout(Some(PATIENCE)).expect("an option");
        Some(self.listen_to(tcp))
    }

    fn listen_to(&self, tcp: TcpStream) -> Peer {
        let stream: Box<dyn Wire> = match &self.tls {
            None => Box::new(tcp.try_clone().expect("a descriptor")),
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).expect("a configuration");
                Box::new(StreamOwned::new(session, tcp.try_clone().expect("a descriptor")))
            }
        };
        let mut peer = Peer { stream, tcp, request: String::new() };
        peer.request = peer.head();
        assert!(peer.request.starts_with(&format!("GET {TARGET} HTTP/1.1\r\n")), "{}", peer.request);
        peer
    }

    /// The next connection, open.
    pub(crate) fn open(&self) -> Peer {
        let mut peer = self.request();
        peer.agree();
        peer
    }
}

pub(crate) trait Wire: Read + Write {}

impl<S: Read + Write> Wire for S {}

/// The exchange's side of one connection.
pub(crate) struct Peer {
    stream: Box<dyn Wire>,
    tcp: TcpStream,
    pub(crate) request: String,
}

/// A frame of a server, not masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
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

impl Peer {
    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("ASCII")
    }

    /// Answers the handshake as it should be.
    pub(crate) fn agree(&mut self) {
        let key = self.request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
        let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let accept = base64::engine::general_purpose::STANDARD.encode(digest);
        self.raw(
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .as_bytes(),
        );
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
        self.stream.flush().expect("sent");
    }

    /// Bytes that the other side may no longer want.
    pub(crate) fn try_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    pub(crate) fn send(&mut self, message: &str) {
        self.raw(&frame(TEXT, message.as_bytes()));
    }

    /// Many messages, written together.
    pub(crate) fn send_all<'a>(&mut self, messages: impl IntoIterator<Item = &'a str>) {
        let bytes: Vec<u8> = messages.into_iter().flat_map(|message| frame(TEXT, message.as_bytes())).collect();
        self.raw(&bytes);
    }

    /// The next frame of the other side, unmasked; `None` at the end.
    pub(crate) fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert!(head[1] & 0x80 != 0 && head[1] & 0x7f < 126, "a client masks, and has little to say: {head:?}");
        let mut mask = [0; 4];
        self.stream.read_exact(&mut mask).ok()?;
        let mut payload = vec![0; usize::from(head[1] & 0x7f)];
        self.stream.read_exact(&mut payload).ok()?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Some((head[0], payload))
    }

    /// Sends a Ping; returns the payload of the Pong.
    pub(crate) fn ping(&mut self, payload: &[u8]) -> Vec<u8> {
        self.raw(&frame(PING, payload));
        let (first, pong) = self.read().expect("a Pong");
        assert_eq!(first, PONG);
        pong
    }

    /// Waits until the other side closes; returns the code.
    pub(crate) fn read_close(&mut self) -> u16 {
        let (first, payload) = self.read().expect("a Close");
        assert_eq!(first, CLOSE);
        u16::from_be_bytes([payload[0], payload[1]])
    }

    /// Waits until the other side is gone.
    pub(crate) fn read_to_end(&mut self) {
        while self.read().is_some() {}
    }

    /// Ends the connection without a word.
    pub(crate) fn end(self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).expect("an option");
    }
}
