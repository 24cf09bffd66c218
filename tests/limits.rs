//! Limits: who is over one is told so before the upgrade, and nobody inside notices.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::client::{Client, handshake_request};
use support::http::{Answer, connect, read_answer, request};
use support::{Server, command, wait_until};

fn refused(answer: &Answer, status: u16, key: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(answer.error().contains(key), "{}", answer.error());
    assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait > 0)));
}

/// Asks for a stream on a connection that begins with `before` and has `headers`.
fn ask(server: &Server, before: &str, headers: &str) -> (TcpStream, Answer) {
    let mut stream = connect(server.address);
    let text = handshake_request(server.address, "/ws/market").replace("\r\n\r\n", &format!("\r\n{headers}\r\n"));
    stream.write_all(format!("{before}{text}").as_bytes()).expect("sent");
    let answer = read_answer(&mut stream, false);
    (stream, answer)
}

#[test]
fn one_connection_too_many_is_told_and_others_stay() {
    let server = Server::start(&["--source", "none", "--max-connections", "3"]);
    let mut clients: Vec<_> = (0..2).map(|_| Client::connect(server.address, "market")).collect();
    server.say("market", "hello");
    // The publisher's connection may still be counted for a moment.
    let mut third = None;
    wait_until("a third", || {
        let (stream, answer) = ask(&server, "", "");
        third = Some(stream);
        answer.status == 101
    });
    for _ in 0..3 {
        refused(&ask(&server, "", "").1, 503, "limits.max_connections");
        refused(&server.get("/healthz"), 503, "limits.max_connections");
    }
    clients.iter_mut().for_each(|client| assert_eq!(client.text(), "hello"));
    drop(third);
    wait_until("room again", || server.get("/healthz").status == 200);
    let mut metrics = String::new();
    wait_until("two clients, and who asks", || {
        metrics = server.get("/metrics").text();
        metrics.contains("tickcast_open_connections 3\n")
    });
    // More may have been refused while the third left.
    let line = metrics.lines().find_map(|line| line.strip_prefix("tickcast_refused_total{reason=\"connections\"} "));
    assert!(line.and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count >= 6), "{line:?}");
}

#[test]
fn handshakes_that_do_not_end_are_limited_apart() {
    let arguments = ["--source", "none", "--max-handshakes", "5", "--handshake-timeout", "1s"];
    let server = Server::start(&arguments);
    let client = Client::connect(server.address, "market");
    let mut half: Vec<_> = (0..5).map(|_| connect(server.address)).collect();
    half.iter_mut().for_each(|stream| stream.write_all(b"GET /ws/market HTTP/1.1\r\n").expect("sent"));
    wait_until("a refusal", || {
        let (_, answer) = ask(&server, "", "");
        answer.status == 503 && answer.error().contains("limits.max_handshakes")
    });
    // They are cut off, and there is room again.
    for stream in &mut half {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    wait_until("room again", || ask(&server, "", "").1.status == 101);
    wait_until("nobody else", || server.metric("tickcast_handshakes") <= 1);
    drop(client);
}

#[test]
fn one_address_may_have_so_many() {
    let server = Server::start(&["--source", "none", "--max-connections-per-ip", "2"]);
    let first = Client::connect(server.address, "market");
    let _second = Client::connect(server.address, "market");
    refused(&ask(&server, "", "").1, 429, "limits.max_connections_per_ip");
    // Without a proxy that is trusted, what it says means nothing.
    refused(&ask(&server, "", "X-Forwarded-For: 203.0.113.1\r\n").1, 429, "limits.max_connections_per_ip");
    drop(first);
    wait_until("room again", || ask(&server, "", "").1.status == 101);
}

#[test]
fn behind_a_proxy_its_clients_are_counted() {
    let limits = ["--source", "none", "--max-connections-per-ip", "1", "--trusted-proxies", "127.0.0.0/8"];
    let server = Server::start(&limits);
    let (_first, answer) = ask(&server, "", "X-Forwarded-For: 10.9.9.9, 203.0.113.1\r\n");
    assert_eq!(answer.status, 101);
    refused(&ask(&server, "", "X-Forwarded-For: 203.0.113.1\r\n").1, 429, "limits.max_connections_per_ip");
    assert_eq!(ask(&server, "", "X-Forwarded-For: 203.0.113.2\r\n").1.status, 101);

    // A proxy uses a connection for one client after the other: the one that upgrades is counted.
    let mut pooled = connect(server.address);
    pooled.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.3\r\n\r\n").expect("sent");
    assert_eq!(read_answer(&mut pooled, false).status, 200);
    let upgrade = |client: &str| {
        let headers = format!("\r\nX-Forwarded-For: {client}\r\n\r\n");
        handshake_request(server.address, "/ws/market").replace("\r\n\r\n", &headers)
    };
    pooled.write_all(upgrade("203.0.113.1").as_bytes()).expect("sent");
    refused(&read_answer(&mut pooled, false), 429, "limits.max_connections_per_ip");
    pooled.write_all(upgrade("203.0.113.4").as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut pooled, false).status, 101);
    let (_again, answer) = ask(&server, "", "X-Forwarded-For: 203.0.113.3\r\n");
    assert_eq!(answer.status, 101, "it has left");
    refused(&ask(&server, "", "X-Forwarded-For: 203.0.113.4\r\n").1, 429, "limits.max_connections_per_ip");

    let server = Server::start(&[&limits[..], &["--proxy-protocol", "true"]].concat());
    let (_first, answer) = ask(&server, "PROXY TCP4 203.0.113.1 192.0.2.1 50000 443\r\n", "");
    assert_eq!(answer.status, 101);
    let (_, answer) = ask(&server, "PROXY TCP4 203.0.113.1 192.0.2.1 50001 443\r\n", "");
    refused(&answer, 429, "limits.max_connections_per_ip");
    let (_other, answer) = ask(&server, "PROXY TCP6 2001:db8::1 2001:db8::2 50000 443\r\n", "");
    assert_eq!(answer.status, 101);
    // Without the header that must be there: no answer, and nobody else is hurt.
    let mut stream = connect(server.address);
    stream.write_all(handshake_request(server.address, "/ws/market").as_bytes()).expect("sent");
    assert!(matches!(stream.read(&mut [0; 100]), Ok(0) | Err(_)));
    let (_, answer) = ask(&server, "PROXY UNKNOWN\r\n", "");
    assert_eq!(answer.status, 101);
}

#[test]
fn publications_are_limited_and_streams_slowed_down() {
    let server = Server::start(&["--source", "none", "--publish-rate", "20"]);
    let answers: Vec<_> = (0..40).map(|_| server.publish("x", "text/plain", b"x")).collect();
    let accepted = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((20..40).contains(&accepted), "{accepted}");
    answers.iter().filter(|answer| answer.status != 200).for_each(|answer| refused(answer, 429, "limits.publish_rate"));
    let answer = server.publish("x", "application/x-ndjson", &b"1\n".repeat(30));
    assert_eq!((answer.status, answer.json()["published"].as_u64()), (200, Some(30)));
    assert_eq!(server.metric("tickcast_refused_total{reason=\"publish_rate\"}"), 40 - accepted as u64);
}

/// Out of descriptors it waits, those inside keep receiving, and then it goes on.
#[test]
fn without_descriptors_it_waits() {
    let program = env!("CARGO_BIN_EXE_tickcast");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 40; exec \"$@\"", "sh", program, "--listen", "127.0.0.1:0", "--source", "none"]);
    shell.args(["--workers", "1"]).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut server = Server::spawn(shell);
    // Requests go over a connection that is there already.
    let mut publisher = connect(server.address);
    let mut client = Client::connect(server.address, "market");
    let mut publish = |text: &str| {
        let length = text.len();
        let head = "POST /publish/market HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length";
        publisher.write_all(format!("{head}: {length}\r\n\r\n{text}").as_bytes()).expect("sent");
        assert_eq!(read_answer(&mut publisher, false).status, 200);
    };
    publish("before");
    assert_eq!(client.text(), "before");
    let crowd: Vec<_> = (0..60).map(|_| connect(server.address)).collect();
    server.wait_for_line("cannot accept connections");
    let before = support::processor_time(server.id());
    for n in 0..20 {
        publish(&n.to_string());
        assert_eq!(client.text(), n.to_string());
    }
    std::thread::sleep(Duration::from_millis(500));
    let spent = support::processor_time(server.id()) - before;
    assert!(spent < Duration::from_millis(250), "it spins: {spent:?} in half a second");
    drop(crowd);
    wait_until("it accepts again", || {
        let mut stream = connect(server.address);
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        asked.is_ok() && stream.read(&mut [0; 100]).is_ok_and(|read| read > 0)
    });
    publish("after");
    assert_eq!(client.text(), "after");
}

#[test]
fn what_no_request_may_be() {
    let server = Server::start(&["--source", "none", "--handshake-timeout", "1s"]);
    let head =
        |lines: &str| handshake_request(server.address, "/ws/market").replace("\r\n\r\n", &format!("\r\n{lines}\r\n"));
    let many: String = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let some: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(17 << 10));
    let path = format!("/{}", "y".repeat(70_000));
    for (request, status, what) in [
        (head(&many), 431, "ten thousand lines"),
        (head(&some), 431, "more lines than a request needs"),
        (head(&long), 431, "17 KiB in one line"),
        (handshake_request(server.address, &path), 431, "a path that fills the head"),
        (head("Content-Length: 5\r\n"), 400, "a body"),
        (head("Transfer-Encoding: chunked\r\n"), 400, "a body in pieces"),
        (head("Host: other\r\n"), 400, "two hosts"),
        ("GET /stats HTTP/1.1\r\n\r\n".to_owned(), 400, "no host"),
        ("GET /stats HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400, "two hosts"),
        ("GET /healthz HTTP/1.0\r\n\r\n".to_owned(), 200, "nothing wrong: HTTP/1.0 has no host"),
        ("NONSENSE\r\n\r\n".to_owned(), 400, "not a request"),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(), 400, "a space before the colon"),
        ("GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n".to_owned(), 400, "a folded line"),
        (
            "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".to_owned(),
            400,
            "two lengths",
        ),
    ] {
        let mut stream = connect(server.address);
        // Refused before it has been read to its end, which may be a reset.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).or_else(|_| stream.read(&mut []));
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")) || text.starts_with(&format!("HTTP/1.0 {status} ")),
            "{what}: {text}"
        );
    }
    assert_eq!(request(server.address, "GET", "/healthz", &[], b"").status, 200);
}

/// The limits themselves: wrong ones are named.
#[test]
fn a_network_that_is_none_is_named() {
    let (status, _, stderr) = support::run(command(&["check-config", "--trusted-proxies", "10.0.0.0/8,somewhere"]));
    assert_eq!(status, Some(2));
    assert!(stderr.contains("limits.trusted_proxies") && stderr.contains("10.0.0.0/8"), "{stderr}");
}
