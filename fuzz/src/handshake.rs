//! One connection to the server, in memory and with time that stands still unless everybody waits: whatever a
//! client sends, nothing panics, every answer is well-formed HTTP, a connection becomes a WebSocket exactly when
//! an independent look at the request says that it may, and what follows are frames that a client takes.
//!
//! An input is: one byte of settings, one that seeds the pieces, and what the client sends.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tickcast::config::{Config, LimitsConfig, PublishConfig};
use tickcast::server::Accept;
use tickcast::source::SourceKind;
use tickcast::{Hub, Message, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tungstenite::protocol::Role;

use super::pieces::Sizes;
use super::wire::Wire;

/// The channels there are; the second has a message.
const CHANNELS: [&str; 2] = ["market", "news"];
const MESSAGE: &str = "{\"hello\":1}";
/// What the pipe between client and server holds.
const PIPE: usize = 4 << 10;
/// Longer than anything takes by the server's clocks, but for a publisher of NDJSON, who may be silent.
const PATIENCE: Duration = Duration::from_secs(120);
/// The largest head of a request of which this says what must happen.
const HEAD: usize = 8 << 10;

/// Says one input to a server.
pub fn run(data: &[u8]) {
    let [settings, seed, sent @ ..] = data else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let answered = runtime.expect("a runtime").block_on(serve(sent, *settings, *seed));
    // The client waits for all of the answers, and time passes only when nothing else happens.
    check(sent, &answered);
}

/// Everything a server answers to `sent`.
async fn serve(sent: &[u8], settings: u8, seed: u8) -> Vec<u8> {
    let config = Config {
        source: SourceKind::None,
        workers: 1,
        publish: PublishConfig { max_body_size: 256, max_channels: 4 },
        limits: LimitsConfig {
            trusted_proxies: vec!["192.0.2.0/24".parse().expect("a network")],
            ..LimitsConfig::default()
        },
        ..Config::default()
    };
    let hub = Hub::new(config.hub());
    let news = hub.channel(CHANNELS[1]).expect("room for a channel");
    assert!(news.publish(Message::text(MESSAGE)).is_ok(), "nobody else publishes");
    let (client, server) = tokio::io::duplex(PIPE);
    let server = Server::with_listener(Door(Mutex::new(Some(server))), config, hub).expect("room for a channel");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    let answered = converse(client, sent, settings & 1 == 1, Sizes::new(seed, sent.len())).await;
    drop(stop);
    let ended = running.await.expect("the server does not panic");
    assert!(ended.is_ok(), "a writer has died");
    answered
}

/// Sends everything and reads until the end, or as long as patience lasts.
async fn converse(client: DuplexStream, mut sent: &[u8], stays: bool, mut sizes: Sizes) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(client);
    let mut answered = Vec::new();
    let send = async {
        while !sent.is_empty() {
            let (piece, rest) = sent.split_at(sizes.next(sent.len()));
            sent = rest;
            // The server may have heard enough.
            if to.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if !stays {
            let _ = to.shutdown().await;
        }
    };
    let converse = async { tokio::join!(send, from.read_to_end(&mut answered)) };
    let _ = tokio::time::timeout(PATIENCE, converse).await;
    answered
}

/// A listener that one client comes to.
struct Door(Mutex<Option<DuplexStream>>);

impl Accept for Door {
    type Incoming = DuplexStream;
    type Stream = DuplexStream;

    async fn accept(&self) -> (DuplexStream, SocketAddr) {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match stream {
            Some(stream) => (stream, SocketAddr::from(([192, 0, 2, 1], 1))),
            None => std::future::pending().await,
        }
    }

    async fn open(stream: DuplexStream) -> io::Result<(DuplexStream, Option<SocketAddr>)> {
        Ok((stream, None))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What must come of a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// 101, with this key's answer, for this channel.
    Upgrade(String, &'static str),
    /// Something else.
    Refuse,
    /// It has a body, or is written in a way that this does not look into.
    Unknown,
}

/// Looks at the requests in `sent` and the answers to them.
fn check(mut sent: &[u8], mut answered: &[u8]) {
    let shown = String::from_utf8_lossy(answered);
    let mut certain = true;
    for number in 0.. {
        let (verdict, head, goes_on) = if certain { judge(sent) } else { (Verdict::Unknown, None, false) };
        certain &= verdict != Verdict::Unknown && head.is_some();
        let method_is_head = sent.trim_ascii_start().starts_with(b"HEAD ");
        sent = &sent[head.unwrap_or(0)..];
        let Some((status, body)) = answer(&mut answered, certain.then_some(method_is_head)) else {
            assert!(!(certain && matches!(verdict, Verdict::Upgrade(..))), "no answer {number} in {shown}");
            assert!(answered.is_empty(), "not an answer: {:?}", String::from_utf8_lossy(answered));
            return;
        };
        match (status, &verdict) {
            (101, Verdict::Upgrade(key, channel)) => {
                let accepted = tungstenite::handshake::derive_accept_key(key.as_bytes());
                assert!(body.contains(&accepted), "{accepted} is not in {body}");
                return check_frames(answered, channel);
            }
            (101, Verdict::Unknown) => return check_frames(answered, CHANNELS[0]),
            (101, Verdict::Refuse) => panic!("request {number} may not be upgraded and was: {shown}"),
            (status, Verdict::Upgrade(..)) => panic!("request {number} may be upgraded and got {status}: {shown}"),
            _ => {}
        }
        certain &= goes_on;
    }
}

/// Takes one answer, and interim ones before it. Returns the status, and the head as text. `to_head` says
/// whether it is one to HEAD, if that is known.
fn answer(answered: &mut &[u8], to_head: Option<bool>) -> Option<(u16, String)> {
    loop {
        if answered.is_empty() {
            return None;
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let shown = || String::from_utf8_lossy(answered);
        let length = match response.parse(answered) {
            Ok(httparse::Status::Complete(length)) => length,
            other => panic!("not an answer: {other:?} of {:?}", shown()),
        };
        let status = response.code.expect("complete");
        assert!(matches!(status, 100 | 101 | 200..=599), "status {status}");
        assert!(response.version == Some(1) || status >= 200, "{status} to HTTP/1.0");
        let mut lengths = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length"));
        let body = lengths.next().map(|header| {
            let digits = std::str::from_utf8(header.value).expect("a length is digits");
            digits.parse::<usize>().expect("a length is a number")
        });
        assert!(lengths.next().is_none(), "two lengths: {:?}", shown());
        let chunked = response.headers.iter().any(|header| header.name.eq_ignore_ascii_case("transfer-encoding"));
        assert!(!chunked, "every answer is whole");
        assert_eq!(body.is_some(), status >= 200, "an answer has a length: {:?}", shown());
        let head = String::from_utf8_lossy(&answered[..length]).into_owned();
        let rest = &answered[length..];
        let bodiless = to_head.unwrap_or(rest.is_empty() || rest.starts_with(b"HTTP/1."));
        let body = if bodiless { 0 } else { body.unwrap_or(0) };
        assert!(rest.len() >= body, "a body cut off: {:?}", shown());
        *answered = &rest[body..];
        if status != 100 {
            return Some((status, head));
        }
    }
}

/// What must come of the first request in `sent`, how long its head is, and whether another may follow.
fn judge(sent: &[u8]) -> (Verdict, Option<usize>, bool) {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(sent) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) | Err(_) => return (Verdict::Refuse, None, false),
    };
    let header = |name: &'static str| {
        let headers = request.headers.iter();
        headers.filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    let target = request.path.unwrap_or_default();
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%?=&".contains(&byte);
    let plain = target.starts_with('/') && target.bytes().all(known);
    if head > HEAD || !plain || header("content-length").chain(header("transfer-encoding")).next().is_some() {
        return (Verdict::Unknown, Some(head), false);
    }
    let goes_on = request.version == Some(1) && header("connection").next().is_none();
    let has = |name, token: &str| {
        let values = header(name).filter_map(|value| std::str::from_utf8(value).ok().filter(|value| value.is_ascii()));
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    let path = target.split('?').next().unwrap_or_default();
    let name = path.strip_prefix("/ws/").map(decode);
    let channel = CHANNELS.into_iter().find(|channel| name.as_deref() == Some(channel.as_bytes()));
    let keys: Vec<&[u8]> = header("sec-websocket-key").collect();
    let verdict = match (channel, &keys[..]) {
        (Some(channel), [key])
            if request.method == Some("GET")
                && request.version == Some(1)
                && header("host").count() == 1
                && has("upgrade", "websocket")
                && has("connection", "upgrade")
                && header("sec-websocket-version").next() == Some(b"13")
                && is_key(key) =>
        {
            Verdict::Upgrade(String::from_utf8_lossy(key).into_owned(), channel)
        }
        _ => Verdict::Refuse,
    };
    (verdict, Some(head), goes_on)
}

/// Whether this is base64 of 16 bytes: 128 bits in digits of 6, and the padding.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key[..22].iter().all(digit) && key.ends_with(b"==")
}

/// Without percent-encoding.
fn decode(name: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = name.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let hex = |digit: u8| char::from(digit).to_digit(16);
        match (byte, after) {
            (b'%', [high, low, behind @ ..]) if hex(*high).and(hex(*low)).is_some() => {
                decoded.extend(hex(*high).zip(hex(*low)).map(|(high, low)| (high * 16 + low) as u8));
                rest = behind;
            }
            _ => decoded.push(*byte),
        }
    }
    decoded
}

/// What a server sends to a WebSocket: whole frames that a client takes, the channel's last message first.
fn check_frames(frames: &[u8], channel: &str) {
    let mut socket = tungstenite::WebSocket::from_raw_socket(Wire::new(frames), Role::Client, None);
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(text)) => messages.push(text.to_string()),
            Ok(tungstenite::Message::Binary(_)) => panic!("nobody published that"),
            Ok(tungstenite::Message::Close(_)) => break,
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error} in {frames:x?}"),
        }
    }
    if channel == CHANNELS[1] {
        assert!(messages.iter().all(|message| message == MESSAGE) && messages.len() <= 1, "{messages:?}");
    }
}
