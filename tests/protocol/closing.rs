//! The end: who says Close, who does not, and who goes on talking.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use socket2::SockRef;

use crate::support::Server;
use crate::support::client::{BINARY, CLOSE, Client, PING, PONG, TEXT, close, frame};
use crate::{ended, wait_for_ended};

/// More than a server reads behind an end, and than kernels hold.
const MUCH: usize = 200 << 20;
/// What a server that has heard enough may have taken of it, kernels included.
const BOUND: usize = 64 << 20;

/// Whether the server has ended its side, with everything delivered: not a reset.
fn ends(client: &mut Client) {
    assert_eq!(client.stream.read(&mut [0]).expect("the end, not a reset"), 0);
}

/// Sends a message in fragments until the server takes no more or it is at its end; returns how much
/// that was.
fn talk(client: &mut Client) -> usize {
    let fragment = frame(0x00, &[b'x'; 60_000]);
    let mut sent = 0;
    while sent < MUCH {
        match client.stream.write(&fragment) {
            Ok(written) => sent += written,
            Err(error) => {
                let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(gone.contains(&error.kind()), "{error}");
                break;
            }
        }
    }
    sent
}

#[test]
fn a_close_is_echoed() {
    let server = Server::start(&["--source", "none"]);
    let codes = (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]).map(close);
    let payloads: Vec<_> = codes.chain([vec![]]).collect();
    for payload in &payloads {
        let mut client = Client::connect(server.address, "market");
        client.send(CLOSE, payload);
        assert_eq!(client.read(), (CLOSE, payload.clone()));
        ends(&mut client);
    }
    let mut client = Client::connect(server.address, "market");
    client.send(CLOSE, &[&close(1001)[..], "ä".repeat(61).as_bytes(), b"."].concat());
    assert_eq!(client.read(), (CLOSE, close(1001)));
    wait_for_ended(&server, "closed", payloads.len() as u64 + 1);
    drop(Client::connect(server.address, "market"));
    wait_for_ended(&server, "gone", 1);
}

/// RFC 6455 section 5.5.1: nothing may be sent behind a Close; section 1.4: it is ignored.
#[test]
fn what_comes_behind_a_close_is_ignored() {
    let server = Server::start(&["--source", "none"]);
    let much = frame(BINARY, &vec![0; 600 << 10]);
    for behind in [frame(PING, b"x"), frame(0x83, b""), frame(TEXT, b"\xff"), vec![0; 7], much] {
        let mut client = Client::connect(server.address, "market");
        client.stream.write_all(&[frame(CLOSE, &close(1000)), behind].concat()).expect("sent");
        assert_eq!(client.read(), (CLOSE, close(1000)));
        assert_eq!(client.try_read(), None);
    }
    wait_for_ended(&server, "closed", 5);
}

/// A client that has been told is not waited for: it reads the end at once, and is gone before long.
#[test]
fn a_client_that_does_not_answer_a_close_is_dropped() {
    let server = Server::start(&["--source", "none"]);
    let mut client = Client::connect(server.address, "market");
    client.send(0x83, b"");
    assert_eq!(client.read_to_close().0, 1002);
    ends(&mut client);
    assert_eq!(ended(&server, "protocol"), 0, "the end of its side comes before that of the session");
    assert_eq!(server.metric("tickcast_connections"), 0, "it has left its channel");
    wait_for_ended(&server, "protocol", 1);
}

/// The Close reaches a client that is in the middle of a long message, which ends for it soon.
#[test]
fn a_client_that_goes_on_talking_is_told_and_dropped() {
    let server = Server::start(&["--source", "none"]);
    for (first, code) in [(0x02, 1009), (0x83, 1002)] {
        let mut client = Client::connect(server.address, "market");
        let mut talker = Client { stream: client.stream.try_clone().expect("a descriptor") };
        client.send(first, b"");
        let talk = std::thread::spawn(move || talk(&mut talker));
        assert_eq!(client.read_to_close().0, code);
        ends(&mut client);
        let taken = talk.join().expect("no panic");
        assert!(taken < BOUND, "the server took {taken} bytes");
    }
    wait_for_ended(&server, "too_big", 1);
    wait_for_ended(&server, "protocol", 1);
}

/// A client that says Close and goes on talking is dropped as soon.
#[test]
fn a_client_that_talks_behind_its_close_is_dropped() {
    let server = Server::start(&["--source", "none"]);
    let mut client = Client::connect(server.address, "market");
    client.send(CLOSE, &close(1000));
    let taken = talk(&mut client);
    assert!(taken < BOUND, "the server took {taken} bytes");
    wait_for_ended(&server, "closed", 1);
}

/// A client that ends its side without a Close is answered what it had asked, and gone.
#[test]
fn half_a_connection_is_none() {
    let server = Server::start(&["--source", "none"]);
    for (bytes, answer) in [
        (frame(PING, b"x"), Some((PONG, b"x".to_vec()))),
        (frame(TEXT, b"in the middle of a frame")[..9].to_vec(), None),
        (frame(0x01, b"in the middle of a message"), None),
        (frame(PING, b"in the middle of a head")[..1].to_vec(), None),
        (vec![], None),
    ] {
        let mut client = Client::connect(server.address, "market");
        client.stream.write_all(&bytes).expect("sent");
        client.stream.shutdown(Shutdown::Write).expect("a connection");
        assert!(answer.is_none_or(|answer| client.read() == answer));
        ends(&mut client);
    }
    wait_for_ended(&server, "gone", 5);
    // Who has said Close, or is to be told why, is.
    for (bytes, code, reason) in [(frame(CLOSE, &close(4000)), 4000, "closed"), (frame(0x83, b""), 1002, "protocol")] {
        let mut client = Client::connect(server.address, "market");
        client.stream.write_all(&bytes).expect("sent");
        client.stream.shutdown(Shutdown::Write).expect("a connection");
        assert_eq!(client.read_to_close().0, code);
        ends(&mut client);
        wait_for_ended(&server, reason, 1);
    }
}

#[test]
fn a_reset_ends_a_session_wherever_it_is() {
    let server = Server::start(&["--source", "none"]);
    let bytes = [frame(0x01, b"a fragment"), frame(PING, b"x"), frame(0x80, b"and another")].concat();
    for sent in 1..bytes.len() {
        let mut client = Client::connect(server.address, "market");
        client.stream.write_all(&bytes[..sent]).expect("sent");
        SockRef::from(&client.stream).set_linger(Some(std::time::Duration::ZERO)).expect("an option");
    }
    server.wait_for_metric("tickcast_disconnects_total", |count| count == bytes.len() as u64 - 1);
    assert_eq!(server.metric("tickcast_connections"), 0);
    assert_eq!(ended(&server, "io") + ended(&server, "gone"), bytes.len() as u64 - 1);
}
