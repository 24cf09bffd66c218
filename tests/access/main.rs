//! Who may do what, with the real binary over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod jwt;
mod origins;
mod secrets;
mod sign;
mod tokens;

use std::io::Write;

use support::Server;
use support::client::{Client, handshake_request};
use support::http::{Answer, connect, read_answer, request};

/// A server with nothing to say by itself.
fn server(arguments: &[&str]) -> Server {
    Server::start(&[&["--source", "none"], arguments].concat())
}

/// A handshake with additional headers, or rather the answer to it.
fn handshake(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    join(server, path, headers).1
}

/// The same with what can be received after it.
fn join(server: &Server, path: &str, headers: &[(&str, &str)]) -> (Client, Answer) {
    let mut stream = connect(server.address);
    let more: String = headers.iter().map(|(name, value)| format!("\r\n{name}: {value}")).collect();
    let text = handshake_request(server.address, path).replacen("\r\n\r\n", &format!("{more}\r\n\r\n"), 1);
    stream.write_all(text.as_bytes()).expect("sent");
    let answer = read_answer(&mut stream, false);
    (Client { stream }, answer)
}

fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(server.address, "GET", path, headers, b"")
}

fn publish(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("content-type", "text/plain")], headers].concat();
    request(server.address, "POST", path, &headers, b"hello")
}
