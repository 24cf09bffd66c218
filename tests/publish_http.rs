//! Publishing over HTTP: what is accepted, what is refused, and what has gone out by then.

mod support;

use std::io::Write;

use serde_json::json;
use support::Server;
use support::client::{Client, TEXT};
use support::http::{connect, read_answer, request};

const NDJSON: &str = "application/x-ndjson";

fn server() -> Server {
    Server::start(&["--source", "none", "--publish-max-body-size", "1000", "--publish-max-channels", "4"])
}

#[test]
fn a_message_must_be_what_its_type_says() {
    let server = server();
    for (content_type, body, status, word) in [
        ("application/json", b"{\"a\":1".as_slice(), 400, "not JSON"),
        ("application/json", b"", 400, "not JSON"),
        ("application/json", b"{} {}", 400, "column 4"),
        ("application/json", b"\"\xff\"", 400, "not UTF-8"),
        ("application/json", b"[01]", 400, "not JSON"),
        ("text/plain", b"\xc3\x28", 400, "not UTF-8"),
        ("application/xml", b"<a/>", 415, "application/xml"),
        ("", b"{}", 415, "application/json"),
        ("application/json; charset=utf-8", b" {\"n\": 123456789012345678901234567890.5e999 } ", 200, ""),
        ("Application/JSON", b"[\"\\ud800\"]", 200, ""),
        ("text/plain;charset=utf-8", "grüße".as_bytes(), 200, ""),
        ("text/plain", b"", 200, ""),
        ("application/octet-stream", b"\xff\x00", 200, ""),
    ] {
        let answer = server.publish("x", content_type, body);
        assert_eq!(answer.status, status, "{content_type} {body:?}: {}", answer.text());
        if status == 200 {
            assert_eq!(answer.json(), json!({"published": 1, "subscribers": 0}));
            assert_eq!(server.get("/snapshot/x").body, body);
        } else {
            assert!(answer.error().contains(word), "{}", answer.error());
        }
    }
    let deep = "[".repeat(400) + &"]".repeat(400);
    let answer = server.publish("x", "application/json", deep.as_bytes());
    assert!(matches!(answer.status, 200 | 400), "depth is no attack");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn channels_are_named_and_counted() {
    let server = server();
    for (name, status, word) in [
        ("a", 200, ""),
        ("A-Z_0.9:x", 200, ""),
        ("", 400, "not valid"),
        ("a/b", 400, "not valid"),
        ("a%20b", 400, "not valid"),
        (&"x".repeat(65), 400, "not valid"),
        ("third", 200, ""),
        ("one-too-many", 503, "publish.max_channels"),
        ("a", 200, ""),
    ] {
        let answer = server.publish(name, "text/plain", b"x");
        assert_eq!(answer.status, status, "{name:?}: {}", answer.text());
        assert!(status == 200 || answer.error().contains(word), "{}", answer.text());
    }
    assert_eq!(Client::ask(server.address, "/ws/one-too-many").status, 404);
}

#[test]
fn a_message_over_the_limit_is_refused_with_an_answer() {
    let server = server();
    assert_eq!(server.publish("x", "text/plain", &[b'x'; 1_000]).status, 200);
    let answer = server.publish("x", "text/plain", &[b'x'; 1_001]);
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("1000 bytes"));
    // Far more than any buffer: the answer still comes through.
    assert_eq!(server.publish("x", "text/plain", &vec![b'x'; 20_000_000]).status, 413);
    // And without an announced length.
    let mut stream = connect(server.address);
    let head = "POST /publish/x HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(format!("7d0\r\n{}\r\n", "x".repeat(2_000)).as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut stream, false).status, 413);
    assert_eq!(server.metric("tickcast_messages_published_total"), 1);
}

#[test]
fn lines_are_messages() {
    let server = server();
    let lines = b"{\"a\":1}\r\n\n  [2]  \n\"drei\"\n4";
    let answer = server.publish("x", NDJSON, lines);
    assert_eq!(answer.json(), json!({"published": 4, "subscribers": 0}));
    assert_eq!(server.get("/snapshot/x").text(), "4");
    let _client = Client::connect(server.address, "x");
    assert_eq!(server.publish("x", NDJSON, b"").json(), json!({"published": 0, "subscribers": 1}));
}

#[test]
fn lines_before_a_bad_one_have_gone_out() {
    let server = server();
    server.say("x", "hello");
    let mut client = Client::connect(server.address, "x");
    assert_eq!(client.text(), "hello");
    let long = format!("1\n\n2\n\"{}\"\n3\n", "x".repeat(1_000));
    for (body, status, line, word) in [
        (b"1\n2\n{bad}\n3\n".as_slice(), 400, 3, "not JSON"),
        (b"1\n2\n\"\xff\"\n3\n", 400, 3, "not UTF-8"),
        (long.as_bytes(), 413, 4, "1000 bytes"),
        (&long.as_bytes()[..1_006], 413, 4, "1000 bytes"),
    ] {
        let answer = server.publish("x", NDJSON, body);
        let said = answer.json();
        assert_eq!(answer.status, status, "{said}");
        assert_eq!((&said["line"], &said["published"], &said["subscribers"]), (&json!(line), &json!(2), &json!(1)));
        assert!(answer.error().starts_with(&format!("line {line}: ")) && answer.error().contains(word), "{said}");
        assert_eq!((client.text(), client.text()), ("1".into(), "2".into()));
    }
    // A stream whose first line is bad makes no channel.
    assert_eq!(server.publish("new", NDJSON, b"{\n").status, 400);
    assert_eq!(server.get("/snapshot/new").status, 404);
    // A line under the limit, whatever the body's length.
    let many = format!("\"{}\"\n", "x".repeat(900)).repeat(100);
    assert_eq!(server.publish("x", NDJSON, many.as_bytes()).json()["published"], 100);
}

/// Each line goes out when it is there, in pieces of any size.
#[test]
fn a_stream_is_published_as_it_arrives() {
    let server = server();
    server.say("x", "hello");
    let mut client = Client::connect(server.address, "x");
    assert_eq!(client.text(), "hello");
    let mut stream = connect(server.address);
    let head = "POST /publish/x HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut piece = |text: &str| stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).expect("sent");
    piece("{\"a\":");
    piece("1}\n{\"b\"");
    assert_eq!(client.read(), (TEXT, b"{\"a\":1}".to_vec()));
    piece(":2}");
    piece("\r");
    piece("\n3\n4");
    assert_eq!((client.text(), client.text()), ("{\"b\":2}".into(), "3".into()));
    stream.write_all(b"0\r\n\r\n").expect("sent");
    assert_eq!(client.text(), "4");
    assert_eq!(read_answer(&mut stream, false).json(), json!({"published": 4, "subscribers": 1}));
}

/// A publisher that sends everything and then its end is not done until it is all published.
#[test]
fn a_stream_that_was_sent_whole_is_published_whole() {
    const LINES: usize = 5_000;
    let server = Server::start(&["--source", "none"]);
    server.say("x", "hello");
    let _clients: Vec<_> = (0..20).map(|_| Client::connect(server.address, "x")).collect();
    let body = "123\n".repeat(LINES);
    let mut stream = connect(server.address);
    let head = format!(
        "POST /publish/x HTTP/1.1\r\nhost: x\r\ncontent-type: {NDJSON}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body.as_bytes()).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    assert_eq!(read_answer(&mut stream, false).json()["published"], LINES);
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let server = Server::start(&["--source", "none", "--handshake-timeout", "200ms"]);
    let mut stream = connect(server.address);
    let head = "POST /publish/x HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).expect("sent");
    let answer = read_answer(&mut stream, false);
    assert_eq!(answer.status, 408);
    assert!(answer.error().contains("only 4 bytes of the body came in 0.2 s"), "{}", answer.error());
}

#[test]
fn a_body_announced_with_expect_is_asked_for() {
    let server = server();
    let mut stream = connect(server.address);
    let head = "POST /publish/x HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut stream, true).status, 100);
    stream.write_all(b"hi").expect("sent");
    assert_eq!(read_answer(&mut stream, false).status, 200);
    // Refused without having asked for it.
    let length = [("expect", "100-continue"), ("content-type", "text/plain")];
    assert_eq!(request(server.address, "POST", "/publish/x", &length, &[b'x'; 1_001]).status, 413);
}

/// Several publishers of one channel at once: everybody sees one order, and nothing is lost.
#[test]
fn publishers_share_a_channel() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 2_000;
    // Rings that hold everything: a reader that the machine does not let run loses nothing either.
    let server = Server::start(&["--source", "none", "--queue-size", "10000"]);
    server.say("x", "\"hello\"");
    let clients: Vec<_> = (0..3).map(|_| Client::connect(server.address, "x")).collect();
    let received: Vec<Vec<String>> = std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let server = &server;
            scope.spawn(move || {
                let body: String = (0..EACH).map(|n| format!("[{publisher},{n}]\n")).collect();
                assert_eq!(server.publish("x", NDJSON, body.as_bytes()).json()["published"], EACH);
            });
        }
        let read = |mut client: Client| scope.spawn(move || (0..=PUBLISHERS * EACH).map(|_| client.text()).collect());
        let readers: Vec<_> = clients.into_iter().map(read).collect();
        readers.into_iter().map(|reader| reader.join().expect("no panic")).collect()
    });
    assert!(received.windows(2).all(|pair| pair[0] == pair[1]), "clients see different orders");
    for publisher in 0..PUBLISHERS {
        let own = received[0].iter().filter(|text| text.starts_with(&format!("[{publisher},")));
        assert!(own.cloned().eq((0..EACH).map(|n| format!("[{publisher},{n}]"))), "of {publisher}");
    }
}
