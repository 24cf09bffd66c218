//! Every baseline over real sockets: the bytes it answers with, and that it survives what peers do.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For what must happen; never how long something takes.
const PATIENCE: Duration = Duration::from_secs(20);

const SERVERS: [&str; 3] =
    [env!("CARGO_BIN_EXE_floor"), env!("CARGO_BIN_EXE_tungstenite-broadcast"), env!("CARGO_BIN_EXE_mpsc-mutex")];

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &str) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut line = String::new();
        BufReader::new(child.stderr.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix('/'));
        let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{program}: {line}"));
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        stream
    }

    /// A client that has read the answer to its handshake.
    fn client(&self) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(&handshake()).expect("sent");
        let (head, _) = answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // RFC 6455 section 1.3 has the answer to this key.
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        stream
    }

    fn get(&self, path: &str) -> (String, String) {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        answer(&mut stream)
    }

    fn dropped(&self) -> u64 {
        let (_, body) = self.get("/stats");
        let number = body.trim().strip_prefix("{\"dropped\":").and_then(|rest| rest.strip_suffix('}'));
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{body}"))
    }

    /// Publishes until the answer counts `subscribers`: a server hears of a client's end in its own time.
    fn publish_until(&self, subscribers: usize) {
        let begin = Instant::now();
        let mut publisher = self.connect();
        while publish(&mut publisher, b"", "") != subscribers {
            assert!(begin.elapsed() < PATIENCE, "never {subscribers} subscribers");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn handshake() -> Vec<u8> {
    b"GET /ws/bench HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec()
}

fn request(body: &[u8], field: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /publish/bench HTTP/1.1\r\nHost: x\r\n{field}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Reads one answer and nothing behind it.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head)));
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap_or(0));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    (head, String::from_utf8(body).expect("a body is text"))
}

fn subscribers((head, body): &(String, String)) -> usize {
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}{body}");
    let number = body.trim().strip_prefix("{\"published\":1,\"subscribers\":").and_then(|rest| rest.strip_suffix('}'));
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{body}"))
}

fn publish(publisher: &mut TcpStream, body: &[u8], field: &str) -> usize {
    publisher.write_all(&request(body, field)).expect("sent");
    subscribers(&answer(publisher))
}

/// The frame a server must send for a message.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut bytes = match length {
        0..=125 => vec![first, length as u8],
        126..=65_535 => [&[first, 126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, 127][..], &(length as u64).to_be_bytes()].concat(),
    };
    bytes.extend_from_slice(payload);
    bytes
}

/// A client's frame, masked with zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).expect("as many bytes as expected");
    let shown = expected.len().min(32);
    assert!(bytes == expected, "got {:02x?}..., expected {:02x?}...", &bytes[..shown], &expected[..shown]);
}

fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert_eq!(rest, b""),
        // The server has closed with something of ours unread.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

#[test]
fn what_is_published_arrives_as_one_frame_at_every_client() {
    for program in SERVERS {
        let server = Server::start(program);
        let (mut one, mut two) = (server.client(), server.client());
        let mut publisher = server.connect();
        for length in [0, 1, 125, 126, 1024, 65_535, 65_536, 16 << 20] {
            let body = vec![b'x'; length];
            for (field, first) in [("", 0x81), ("Content-Type: application/octet-stream\r\n", 0x82)] {
                assert_eq!(publish(&mut publisher, &body, field), 2, "{program}");
                expect(&mut one, &frame(first, &body));
                expect(&mut two, &frame(first, &body));
            }
        }
        assert_eq!(server.dropped(), 0, "{program}");
    }
}

#[test]
fn requests_may_be_pipelined_and_arrive_in_pieces() {
    for program in SERVERS {
        let server = Server::start(program);
        let (mut one, mut two) = (server.client(), server.client());
        let mut publisher = server.connect();
        // No more than a queue holds, so that nothing may be lost.
        let bodies: Vec<String> = (0..50).map(|n| format!("{{\"seq\":{n}}}")).collect();
        let requests: Vec<u8> = bodies.iter().flat_map(|body| request(body.as_bytes(), "")).collect();
        for piece in requests.chunks(997) {
            publisher.write_all(piece).expect("sent");
        }
        for _ in &bodies {
            assert_eq!(subscribers(&answer(&mut publisher)), 2, "{program}");
        }
        let frames: Vec<u8> = bodies.iter().flat_map(|body| frame(0x81, body.as_bytes())).collect();
        expect(&mut one, &frames);
        expect(&mut two, &frames);
    }
}

#[test]
fn ping_and_close_are_answered_and_ends_are_noticed() {
    for program in SERVERS {
        let server = Server::start(program);
        let (mut leaves, mut vanishes, mut errs, mut stays) =
            (server.client(), server.client(), server.client(), server.client());
        for client in [&mut leaves, &mut vanishes, &mut errs, &mut stays] {
            client.write_all(&masked(0x89, b"are you there")).expect("sent");
            expect(client, &frame(0x8a, b"are you there"));
        }
        leaves.write_all(&masked(0x88, &[3, 0xe8])).expect("sent");
        expect(&mut leaves, &frame(0x88, &[3, 0xe8]));
        expect_end(&mut leaves);
        drop(vanishes);
        // A frame without a mask; what is answered is up to the server.
        errs.write_all(&[0x81, 1, b'x']).expect("sent");
        let _ = errs.read_to_end(&mut Vec::new());
        server.publish_until(1);
        // A handshake and a Ping in one piece.
        let mut eager = server.connect();
        eager.write_all(&[handshake(), masked(0x89, b"!")].concat()).expect("sent");
        assert!(answer(&mut eager).0.starts_with("HTTP/1.1 101 "), "{program}");
        expect(&mut eager, &frame(0x8a, b"!"));
        server.publish_until(2);
    }
}

#[test]
fn a_client_that_does_not_read_loses_messages_and_delays_nobody() {
    let body = vec![b'x'; 1 << 20];
    for program in SERVERS {
        let server = Server::start(program);
        let (mut slow, mut reads) = (server.client(), server.client());
        let mut publisher = server.connect();
        // More than any queue, and what the kernel holds at either end.
        for _ in 0..128 {
            assert_eq!(publish(&mut publisher, &body, ""), 2, "{program}");
            expect(&mut reads, &frame(0x81, &body));
        }
        // It still gets whole frames, and in the end what is published after it has read everything.
        let reader = std::thread::spawn(move || {
            let mut head = [0; 10];
            loop {
                slow.read_exact(&mut head).expect("a head");
                let length = if head[1] == 127 { 1 << 20 } else { 0 };
                assert!(head[0] == 0x81 && (length > 0 || head == *b"\x81\x08the end!"), "{head:02x?}");
                if length == 0 {
                    return;
                }
                slow.read_exact(&mut vec![0; length]).expect("a payload");
            }
        });
        let begin = Instant::now();
        while !reader.is_finished() {
            assert!(begin.elapsed() < PATIENCE, "{program}: the slow client gets nothing any more");
            publish(&mut publisher, b"the end!", "");
            std::thread::yield_now();
        }
        reader.join().expect("whole frames");
        assert!(server.dropped() > 0, "{program}");
    }
}

#[test]
fn what_is_not_served_is_refused_and_hurts_nobody() {
    for program in SERVERS {
        let mut server = Server::start(program);
        let mut client = server.client();
        assert!(server.get("/healthz").0.starts_with("HTTP/1.1 200 "), "{program}");
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /ws/bench HTTP/1.1\r\n\r\n", "426"),
            ("POST /publish/bench HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "411"),
            ("POST /publish/bench HTTP/1.1\r\nContent-Length: 16777217\r\n\r\n", "413"),
            ("\u{16}\u{3}\u{1}\r\n\r\n", "400"),
        ] {
            let mut stream = server.connect();
            stream.write_all(request.as_bytes()).expect("sent");
            let (head, body) = answer(&mut stream);
            assert_eq!(head.split(' ').nth(1), Some(status), "{program}: {request}{body}");
            expect_end(&mut stream);
        }
        let mut publisher = server.connect();
        publisher.write_all(&request(b"\xff\xfe", "")).expect("sent");
        assert!(answer(&mut publisher).0.starts_with("HTTP/1.1 400 "), "{program}");
        // Half a request, and a body that is waited for.
        server.connect().write_all(b"POST /publish/bench HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc").expect("sent");
        let mut publisher = server.connect();
        write!(publisher, "POST /publish/bench HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            .expect("sent");
        assert!(answer(&mut publisher).0.starts_with("HTTP/1.1 100 "), "{program}");
        publisher.write_all(b"ok").expect("sent");
        assert_eq!(subscribers(&answer(&mut publisher)), 1, "{program}");
        expect(&mut client, &frame(0x81, b"ok"));

        let pid = server.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        assert!(server.child.wait().expect("the server ends").success(), "{program}");
    }
}
