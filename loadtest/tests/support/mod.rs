//! Servers that do exactly what a test says, and the harness run against them.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha1::{Digest, Sha1};

/// Microseconds since the epoch.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64
}

/// A frame of a server, unmasked.
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

/// A text message with a number and a time.
pub(crate) fn message(seq: u64, ts_us: u64) -> Vec<u8> {
    frame(0x81, format!("{{\"type\":\"x\",\"seq\":{seq},\"ts\":{ts_us}}}").as_bytes())
}

/// Head of a request, or nothing at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name));
    head.lines().find_map(value).map(|(_, value)| value.trim())
}

fn accept(stream: &mut TcpStream, head: &str) {
    let mut hash = Sha1::new();
    hash.update(header(head, "sec-websocket-key").expect("a key"));
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(hash.finalize());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).expect("the client takes the answer");
}

/// Shakes hands with every client and hands it to `script`, with its number from 0.
pub(crate) fn serve(script: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    serve_raw(move |number, mut stream| {
        let Some(head) = read_head(&mut BufReader::new(stream.try_clone().expect("a clone"))) else { return };
        accept(&mut stream, &head);
        script(number, stream);
    })
}

/// Hands every connection to `script` as it comes.
pub(crate) fn serve_raw(script: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let script = Arc::clone(&script);
            std::thread::spawn(move || script(number, stream));
        }
    });
    address
}

/// Reads until the client closes.
pub(crate) fn wait_for_end(mut stream: &TcpStream) {
    let mut bytes = [0; 1_024];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

/// What a publication is answered with, and whether the connection is closed then.
pub(crate) type Answer = Option<(&'static str, bool)>;

/// An answer to a publication that was taken.
pub(crate) const TAKEN: Answer = Some(("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false));

/// Sends everything that is posted to every client; `answer` is asked before, with the number of the
/// publication from 1.
pub(crate) fn fan_out(answer: impl Fn(u64) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let clients = Arc::new(Mutex::new(Vec::<TcpStream>::new()));
    let published = AtomicU64::new(0);
    serve_raw(move |_, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        while let Some(head) = read_head(&mut reader) {
            if head.starts_with("GET") {
                accept(&mut stream, &head);
                clients.lock().expect("no panic").push(stream.try_clone().expect("a clone"));
                return wait_for_end(&stream);
            }
            let mut body = vec![0; header(&head, "content-length").expect("a length").parse().expect("a number")];
            reader.read_exact(&mut body).expect("a whole body");
            let Some((answer, close)) = answer(published.fetch_add(1, Ordering::Relaxed) + 1) else { continue };
            let bytes = frame(0x81, &body);
            clients.lock().expect("no panic").iter_mut().for_each(|client| drop(client.write_all(&bytes)));
            let _ = stream.write_all(answer.as_bytes());
            if close {
                return;
            }
        }
    })
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments);
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("loadtest runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A place for a file of this test.
pub(crate) fn scratch(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"))
}

/// Runs it with a JSON report and returns that, with the exit status.
pub(crate) fn report(name: &str, arguments: &[&str]) -> (Value, i32) {
    // Tests run side by side.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = scratch(&format!("{name}-{}-{}.json", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let output = run(&[arguments, &["--quiet", "--json", &path]].concat());
    let json = std::fs::read(&path).unwrap_or_default();
    let _ = std::fs::remove_file(&path);
    let json = serde_json::from_slice(&json);
    let json = json.unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
    (json, output.status.code().expect("no signal"))
}

/// The only run of a report.
pub(crate) fn only(report: &Value) -> &Value {
    assert_eq!(report["runs"].as_array().map(Vec::len), Some(1));
    &report["runs"][0]
}
