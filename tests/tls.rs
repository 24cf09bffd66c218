//! TLS: both versions, the certificate and when it changes, and peers that do not keep to it.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ProtocolVersion, version};
use socket2::{Domain, Socket, Type};
use support::client::{CLOSE, Client, PING, PONG, close};
use support::http::connect;
use support::tls::{Authority, Secure, join, request, secure};
use support::{PATIENCE, Server, command, run};

const NEWEST: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13];
/// A handshake record of a ClientHello of 512 bytes, without them.
const BEGUN: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

struct Bench {
    authority: Authority,
    config: Arc<ClientConfig>,
    server: Server,
}

fn start(arguments: &[&str]) -> Bench {
    let authority = Authority::new();
    authority.issue();
    let flags = authority.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    let server = Server::start(&[&["--source", "none"], &flags[..]].concat());
    Bench { config: authority.config(NEWEST), authority, server }
}

impl Bench {
    fn publish(&self, lines: &str) {
        let answer = request(&self.config, self.server.address, "POST /publish/x", lines.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn join(&self) -> Client<Secure> {
        join(&self.config, self.server.address, "x")
    }

    fn metric(&self, line: &str) -> u64 {
        let text = request(&self.config, self.server.address, "GET /metrics", b"").text();
        let value = text.lines().find_map(|other| other.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    fn handshakes(&self, result: &str) -> u64 {
        self.metric(&format!("tickcast_tls_handshakes_total{{result=\"{result}\"}}"))
    }

    /// The certificate that a newcomer sees.
    fn shown(&self) -> Vec<u8> {
        let mut client = self.join();
        certificate(&mut client)
    }
}

fn certificate(client: &mut Client<Secure>) -> Vec<u8> {
    client.stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
}

/// Reads until the server ends the connection, however it does; how long that took, and what came.
fn wait_for_end(mut stream: &TcpStream) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it does not end");
    }
    (start.elapsed(), bytes)
}

#[test]
fn either_version_from_the_handshake_to_the_close() {
    let bench = start(&["--heartbeat-interval", "0.1"]);
    bench.publish("1\n");
    for (version, expected) in
        [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let config = bench.authority.config(&[version]);
        let mut client = join(&config, bench.server.address, "x");
        assert_eq!(client.stream.conn.protocol_version(), Some(expected));
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(client.text(), "1");
        let (first, payload) = client.read();
        assert_eq!(first, PING, "a heartbeat");
        client.send(PONG, &payload);
        client.send(PING, &[7; 125]);
        while let (first, payload) = client.read()
            && first != PONG
        {
            assert_eq!(first, PING, "{payload:?}");
        }
        client.send(CLOSE, &close(1000));
        assert_eq!(client.read_to_close().0, 1000);
        assert_eq!(client.stream.read(&mut [0]).expect("a farewell"), 0);
    }
    assert!(bench.handshakes("ok") >= 4);
    assert_eq!(bench.handshakes("failed"), 0);
}

#[test]
fn everybody_gets_all_of_large_messages_and_bursts() {
    let bench = start(&["--queue-size", "1000"]);
    bench.publish("0\n");
    let mut clients = [bench.join(), bench.join()];
    clients.iter_mut().for_each(|client| assert_eq!(client.text(), "0"));
    let lines: Vec<String> = [10, 40_000, 1_000_000, 3].map(|len| format!("\"{}\"", "x".repeat(len))).into();
    let lines = [lines, (0..500).map(|n| n.to_string()).collect()].concat();
    let readers = clients.map(|mut client| {
        let lines = lines.clone();
        std::thread::spawn(move || lines.iter().for_each(|line| assert_eq!(&client.text(), line)))
    });
    bench.publish(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    readers.into_iter().for_each(|reader| reader.join().expect("all came, in order"));
}

#[test]
fn one_message_too_many_for_the_socket_comes_without_another() {
    // All of the last message is taken, some of it is encrypted and waits: nobody else reminds the server of it.
    let bench = start(&["--write-buffer", "4KiB"]);
    bench.publish("0\n");
    for size in (100_000..260_000).step_by(20_000) {
        let mut client = bench.join();
        client.text();
        let line = format!("\"{}\"", "x".repeat(size));
        bench.publish(&format!("{line}\n"));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(client.text(), line);
    }
}

#[test]
fn a_slow_client_loses_the_oldest_and_gets_the_newest() {
    const LINES: usize = 5_000;
    const QUEUE: usize = 50;
    const MESSAGE: usize = 400;
    let bench = start(&["--queue-size", "50", "--write-buffer", "64KiB"]);
    bench.publish("0\n");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 << 10).expect("an option");
    socket.connect(&bench.server.address.into()).expect("the server accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut slow = Client::over(secure(&bench.config, stream), bench.server.address, "x");
    assert_eq!(slow.text(), "0");
    let line = |n: usize| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(MESSAGE));
    bench.publish(&(1..=LINES).map(line).collect::<String>());
    // It reads on: what kernels and encryption held, then the newest of its ring.
    let mut numbers = vec![0];
    while *numbers.last().expect("one") < LINES {
        numbers.push(slow.json()["n"].as_u64().expect("a number") as usize);
    }
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order: {numbers:?}");
    let newest = &numbers[numbers.len() - QUEUE..];
    assert!(newest.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the newest have holes: {newest:?}");
    let most_old = ((64 << 10) + (16 << 10) + (16 << 10)) / MESSAGE + 1;
    let old = numbers.len() - QUEUE;
    assert!(old <= most_old, "{old} old messages: more than kernels and one record hold, {most_old}");
    assert!(bench.metric("tickcast_frames_dropped_total{channel=\"x\"}") > LINES as u64 / 2);
    assert_eq!(bench.metric("tickcast_frames_queued "), 0);
}

#[test]
fn a_reload_is_for_those_who_come_and_keeps_those_who_are_there() {
    let mut bench = start(&[]);
    bench.publish("1\n");
    let mut early = bench.join();
    assert_eq!(early.text(), "1");
    let old = certificate(&mut early);
    assert_eq!(bench.shown(), old);

    bench.authority.issue();
    assert_eq!(bench.shown(), old, "not before it is told");
    bench.server.signal("-HUP");
    bench.server.wait_for_line("is in use for new connections");
    let renewed = bench.shown();
    assert_ne!(renewed, old);

    for (file, text, expected) in [
        ("key.pem", "nonsense", "expected PEM with -----BEGIN PRIVATE KEY-----"),
        ("cert.pem", "", "expected PEM with -----BEGIN CERTIFICATE-----"),
    ] {
        bench.authority.issue();
        std::fs::write(bench.authority.path(file), text).expect("written");
        bench.server.signal("-HUP");
        let line = bench.server.wait_for_line("the certificate stays what it was");
        assert!(line.contains("ERROR") && line.contains(&bench.authority.path(file)), "{line}");
        assert!(line.contains(expected), "{line}");
        assert_eq!(bench.shown(), renewed);
    }
    bench.publish("2\n");
    assert_eq!(early.text(), "2", "who was there stays");
    bench.server.signal("-INT");
    assert_eq!(early.read_to_close().0, 1001);
    assert_eq!(early.stream.read(&mut [0]).expect("a farewell"), 0);
}

#[test]
fn without_tls_there_is_nothing_to_reload() {
    let mut server = Server::start(&["--source", "none"]);
    server.signal("-HUP");
    server.wait_for_line("nothing to reload");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn who_does_not_get_through_the_handshake_is_let_go() {
    let bench = start(&["--tls-handshake-timeout", "0.2", "--handshake-timeout", "1"]);
    // Nothing at all: that is the wait for a request.
    let silent = connect(bench.server.address);
    let (took, _) = wait_for_end(&silent);
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert_eq!(bench.handshakes("timeout"), 0);
    // A beginning, and no more.
    let mut begun = connect(bench.server.address);
    begun.write_all(BEGUN).expect("sent");
    wait_for_end(&begun);
    assert_eq!(bench.handshakes("timeout"), 1);
    // Byte by byte, which does not buy time.
    let mut dribbling = connect(bench.server.address);
    let start = Instant::now();
    dribbling.write_all(BEGUN).expect("sent");
    while dribbling.write_all(&[0]).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() < PATIENCE, "it does not end");
    }
    support::wait_until("a second timeout", || bench.handshakes("timeout") == 2);
    // Half closed in the middle, and gone.
    let mut half = connect(bench.server.address);
    half.write_all(BEGUN).expect("sent");
    half.shutdown(std::net::Shutdown::Write).expect("half closed");
    wait_for_end(&half);
    // Something that looks like TLS and is not.
    let mut garbage = connect(bench.server.address);
    garbage.write_all(&[&[22, 3, 1, 0, 200][..], &[0xff; 200]].concat()).expect("sent");
    wait_for_end(&garbage);
    support::wait_until("two failures", || bench.handshakes("failed") == 2);
    // Who only looks whether the port is open has not failed.
    drop(connect(bench.server.address));
    assert_eq!((bench.handshakes("failed"), bench.handshakes("plain")), (2, 0));
    bench.publish("1\n");
    assert_eq!(bench.join().text(), "1");
}

#[test]
fn who_does_not_encrypt_is_told() {
    let bench = start(&[]);
    let address = bench.server.address;
    let answer = support::http::request(address, "GET", "/healthz", &[], b"");
    assert_eq!((answer.status, &*answer.error()), (400, "this is a TLS port: use https:// or wss://"));
    let answer = Client::ask(address, "/ws/x");
    assert_eq!(answer.status, 400);
    let mut noise = connect(address);
    noise.write_all(&[0x80; 1_000]).expect("sent");
    assert!(wait_for_end(&noise).1.starts_with(b"HTTP/1.1 400 "));
    support::wait_until("three counted", || bench.handshakes("plain") == 3);
}

#[test]
fn encryption_on_a_plain_port_fails() {
    let server = Server::start(&["--source", "none"]);
    let config = Authority::new().config(NEWEST);
    let mut stream = secure(&config, connect(server.address));
    assert!(stream.write_all(b"GET / HTTP/1.1\r\n\r\n").and_then(|()| stream.read(&mut [0])).is_err());
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_proxy_speaks_before_the_handshake() {
    let bench = start(&["--trusted-proxies", "127.0.0.1", "--proxy-protocol", "true", "--log", "debug"]);
    let mut stream = connect(bench.server.address);
    stream.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n").expect("sent");
    let mut stream = secure(&bench.config, stream);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    assert_eq!(support::http::read_answer(&mut stream, false).status, 200);
}

#[test]
fn mistakes_are_told_before_anything_starts() {
    let authority = Authority::new();
    authority.issue();
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let (other, missing, empty) = (Authority::new(), authority.path("missing.pem"), authority.path("empty.pem"));
    other.issue();
    std::fs::write(&empty, "").expect("written");
    let other_key = other.path("key.pem");
    for (arguments, words) in [
        (vec!["--tls-cert", &*cert], vec!["`tls.cert` is set and `tls.key` is not"]),
        (vec!["--tls-key", &*key], vec!["`tls.key` is set and `tls.cert` is not"]),
        (vec!["--tls-cert", &*missing, "--tls-key", &*key], vec!["`tls.cert`", &*missing, "No such file"]),
        (vec!["--tls-cert", &*cert, "--tls-key", &*missing], vec!["`tls.key`", &*missing, "No such file"]),
        (vec!["--tls-cert", &*empty, "--tls-key", &*key], vec!["`tls.cert`", &*empty, "BEGIN CERTIFICATE"]),
        (vec!["--tls-cert", &*cert, "--tls-key", &*cert], vec!["`tls.key`", &*cert, "BEGIN PRIVATE KEY"]),
        (vec!["--tls-cert", &*cert, "--tls-key", &*other_key], vec![&*cert, &*other_key, "is not that of the first"]),
    ] {
        for name in ["serve", "check-config"] {
            let (status, _, stderr) = run(command(&[&[name], &arguments[..]].concat()));
            assert_eq!(status, Some(2), "{arguments:?}: {stderr}");
            for word in &words {
                assert!(stderr.contains(word), "no {word:?} in {stderr}");
            }
        }
    }
    let (status, stdout, stderr) = run(command(&["check-config", "--tls-cert", &cert, "--tls-key", &key]));
    assert_eq!((status, &*stderr), (Some(0), ""));
    assert!(stdout.contains(&format!("cert = \"{cert}\"")), "{stdout}");
}
