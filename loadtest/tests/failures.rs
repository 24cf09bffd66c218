//! What goes wrong is said clearly, with whatever was measured, and has its exit status.

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use support::{command, frame, message, now_us, only, report, run, scratch, serve, serve_raw, text, wait_for_end};

/// Runs it against `url`; returns what it printed and its exit status.
fn against(url: &str, more: &[&str]) -> (String, i32) {
    let fixed =
        ["--url", url, "--connections", "3", "--ramp", "0s", "--warmup", "0s", "--duration", "500ms", "--quiet"];
    let output = run(&[&fixed, more].concat());
    (text(&output.stdout) + &text(&output.stderr), output.status.code().expect("no signal"))
}

fn refused_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("ws://{}/", listener.local_addr().expect("an address"))
}

fn answering(answer: &'static str) -> String {
    let address = serve_raw(move |_, mut stream| {
        stream.write_all(answer.as_bytes()).expect("the client reads");
        wait_for_end(&stream);
    });
    format!("ws://{address}/ws/nowhere")
}

/// A server that sends ten sound messages a client.
fn sound() -> String {
    let address = serve(|_, mut stream| {
        for number in 1..=10 {
            stream.write_all(&message(number, now_us())).expect("the client reads");
        }
        wait_for_end(&stream);
    });
    format!("ws://{address}/ws/x")
}

#[test]
fn what_is_no_websocket_is_an_invalid_run_that_says_why() {
    for (url, reason) in [
        (refused_url(), "connection refused"),
        (answering("HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\n{\"error\":\"no\x1b[2J\"}"), "404 Not Found"),
        (answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "HTTP 200 OK instead of 101: ok"),
        (answering("220 mail.example ESMTP\r\n"), "not HTTP"),
        (answering("HTTP/1.1 101 Switching Protocols\r\n\r\n"), "without `Upgrade: websocket`"),
    ] {
        let (said, status) = against(&url, &[]);
        assert!(said.contains(reason) && said.contains("INVALID"), "{reason}: {said}");
        assert!(!said.contains('\x1b'), "nothing a server says reaches the terminal as it is: {said}");
        assert_eq!(status, 98, "{said}");
        let (said, status) = against(&url, &["--fail-if", "connect_errors>0"]);
        assert_eq!(status, 99, "{said}");
    }
}

#[test]
fn a_server_that_says_nothing_runs_into_the_timeout() {
    let address = serve_raw(|_, stream| wait_for_end(&stream));
    let (said, status) = against(&format!("ws://{address}/"), &["--connect-timeout", "200ms"]);
    assert!(said.contains("no WebSocket within 0.2 s"), "{said}");
    assert_eq!(status, 98);
}

#[test]
fn bad_arguments_name_what_and_what_would_be_right() {
    for (arguments, reason) in [
        (&["--url", "http://127.0.0.1:1/"][..], "ws://127.0.0.1:8080/PATH"),
        (&["--url", "wss://127.0.0.1:1/", "--ca", "/nowhere/ca.pem"], "--ca /nowhere/ca.pem: cannot be read"),
        (&["--url", "wss://127.0.0.1:1/", "--ca", "Cargo.toml"], "no certificate in it"),
        (&["--url", "wss://127.0.0.1:1/", "--ca", "x", "--insecure"], "--ca and --insecure"),
        (&["--url", "wss://127.0.0.1:1/", "--insecure=perhaps"], "one of true, false"),
        (&["--duration", "1s"], "--url is missing"),
        (&["--url", "ws://127.0.0.1:1/", "--connections", "many"], "--connections \"many\": expected a whole number"),
        (&["--url", "ws://127.0.0.1:1/", "--duration", "1parsec"], "such as 250ms, 10s, 2m"),
        (&["--url", "ws://127.0.0.1:1/", "--scenario", "calm"], "steady, ramp, churn"),
        (&["--url", "ws://127.0.0.1:1/", "--scenario", "ramp"], "needs --publish-url"),
        (&["--url", "ws://127.0.0.1:1/", "--fail-if", "p98>1ms"], "p99.9"),
        (&["--url", "ws://127.0.0.1:1/", "--fail-if", "knee<100"], "needs --scenario ramp"),
        (&["--url", "ws://127.0.0.1:1/", "--server-pid", "4194305"], "no such process"),
        (&["--url", "ws://127.0.0.1:1/", "--json", "/nowhere/report.json"], "cannot write /nowhere/report.json"),
        (&["--url", "ws://127.0.0.1:1/", "--publish-url", "http://127.0.0.1:1/", "--payload", "10"], "at least"),
        (&["--speed", "1"], "--speed"),
        (&["compare", "/nowhere/a.json"], "cannot read /nowhere/a.json"),
    ] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    }
}

#[test]
fn thresholds_decide_the_exit_status() {
    for (tests, status) in [
        (&["--fail-if", "holes>0", "--fail-if", "connect_errors>0", "--fail-if", "p99>30s"][..], 0),
        (&["--fail-if", "holes>0", "--fail-if", "messages>0"], 99),
        (&["--fail-if", "p99>=0ms"], 99),
        // No publisher of its own, no number: nothing to judge by.
        (&["--seq-field", "number", "--fail-if", "holes>0"], 98),
    ] {
        let (said, found) = against(&sound(), tests);
        assert_eq!(found, status, "{tests:?}: {said}");
    }
}

#[test]
fn a_server_that_dies_leaves_what_was_measured() {
    let address = serve(|_, mut stream| {
        for number in 1..=20 {
            stream.write_all(&message(number, now_us())).expect("the client reads");
        }
        // Gone without a Close, as when a process is killed.
    });
    let url = format!("ws://{address}/ws/x");
    let (report, status) =
        report("dies", &["--url", &url, "--connections", "4", "--ramp", "0s", "--warmup", "0s", "--duration", "20s"]);
    let run = only(&report);
    assert_eq!(status, 98);
    assert_eq!(run["verdict"], "invalid");
    assert_eq!(run["traffic"]["messages"], 80);
    assert_eq!(run["connections"]["disconnects"], 4);
    assert_eq!(run["connections"]["open_at_end"], 0);
    assert!(run["invalid"].to_string().contains("all connections were lost"), "{run}");
    assert!(run["seconds"].as_f64().expect("a number") < 10.0, "it does not wait for nobody: {run}");
}

#[test]
fn a_close_of_the_server_is_told_with_its_code() {
    let address = serve(|_, mut stream| {
        let close = [&1008_u16.to_be_bytes()[..], b"slow consumer"].concat();
        stream.write_all(&frame(0x88, &close)).expect("the client reads");
        wait_for_end(&stream);
    });
    let (said, _) = against(&format!("ws://{address}/"), &[]);
    assert!(said.contains("closed by the server: 1008 slow consumer"), "{said}");
}

#[test]
fn a_protocol_error_is_a_disconnect() {
    let address = serve(|_, mut stream| {
        stream.write_all(&[0x81, 0x81, 1, 2, 3, 4, b'x']).expect("the client reads");
        wait_for_end(&stream);
    });
    let (said, _) = against(&format!("ws://{address}/"), &[]);
    assert!(said.contains("protocol error: a masked frame from a server"), "{said}");
}

#[test]
fn an_interrupt_ends_the_run_with_a_report() {
    let path = scratch("interrupt.json");
    let (tell, told) = std::sync::mpsc::sync_channel(10);
    let address = serve(move |_, mut stream| {
        for number in 1.. {
            if stream.write_all(&message(number, now_us())).is_err() {
                return;
            }
            if number == 50 {
                tell.send(()).expect("the test waits");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let url = format!("ws://{address}/ws/x");
    let child = command(&["--url", &url, "--connections", "2", "--ramp", "0s", "--warmup", "0s", "--json", &path])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("loadtest runs");
    told.recv().expect("a message");
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(98), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("a report")).expect("JSON");
    let run = only(&report);
    assert!(run["invalid"].to_string().contains("interrupted after"), "{run}");
    assert!(run["traffic"]["messages"].as_u64().expect("a number") >= 50, "{run}");
    assert!(text(&output.stdout).contains("interrupted after"));
}

#[test]
fn a_token_is_sent_and_not_shown() {
    let (sender, heads) = std::sync::mpsc::channel();
    let address = serve_raw(move |_, mut stream| {
        let mut bytes = [0; 4_096];
        let length = std::io::Read::read(&mut stream, &mut bytes).expect("a request");
        // The test may have seen enough.
        let _ = sender.send(text(&bytes[..length]));
        stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").expect("the client reads");
        wait_for_end(&stream);
    });
    let json = scratch("token.json");
    let url = format!("ws://{address}/ws/x?token=hushed-1&a=b");
    let (said, _) = against(&url, &["--token", "hushed-2", "--header", "Cookie: hushed-3", "--json", &json]);
    let head = heads.recv().expect("a request");
    for part in ["GET /ws/x?token=hushed-1&a=b ", "Authorization: Bearer hushed-2\r\n", "Cookie: hushed-3\r\n"] {
        assert!(head.contains(part), "{head}");
    }
    let report = std::fs::read_to_string(&json).expect("a report");
    assert!(report.contains("?token=***&a=b"), "{report}");
    assert!(!report.contains("hushed") && !said.contains("hushed"), "{said} {report}");
}
