//! Against a real server with TLS.

mod support;

use std::net::SocketAddr;

use support::{only, report, run, scratch, text};
use tickcast::fanout::Hub;
use tickcast::source::SourceKind;
use tickcast::{Config, Server};

/// A server in this process, for as long as the test runs.
struct Running {
    address: SocketAddr,
    /// The file that says whom to trust.
    ca: String,
    _runtime: tokio::runtime::Runtime,
}

fn server(name: &str) -> Running {
    let path = |part: &str| scratch(&format!("{name}-{part}-{}.pem", std::process::id()));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(path("cert"), made.cert.pem()).expect("written");
    std::fs::write(path("key"), made.signing_key.serialize_pem()).expect("written");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut config = Config { source: SourceKind::None, workers: 2, ..Config::default() };
    config.listen.set_port(0);
    config.tls.cert = Some(path("cert").into());
    config.tls.key = Some(path("key").into());
    let hub = Hub::new(config.hub());
    let server = runtime.block_on(async { Server::bind(config, hub.clone()) }).expect("a port");
    let address = server.local_addr().expect("an address");
    runtime.spawn(server.run(std::future::pending::<()>()));
    Running { address, ca: path("cert"), _runtime: runtime }
}

/// All of it has to come, whatever the size.
fn play(name: &str, more: &[&str]) -> serde_json::Value {
    let server = server(name);
    let url = format!("wss://{}/ws/x", server.address);
    let publish_url = format!("https://{}/publish/x", server.address);
    let fixed = [
        "--url",
        &url,
        "--publish-url",
        &publish_url,
        "--ca",
        &server.ca,
        "--connections",
        "20",
        "--ramp",
        "200ms",
        "--warmup",
        "200ms",
        "--duration",
        "1s",
    ];
    let (json, _) = report(name, &[&fixed, more].concat());
    let run = only(&json).clone();
    assert_eq!(run["connections"]["connect_errors"], 0, "{run}");
    assert_eq!(run["connections"]["disconnects"], 0, "{run}");
    assert_eq!(run["sequence"]["holes"], 0, "{run}");
    run
}

#[test]
fn small_messages_come_one_by_one() {
    let run = play("small", &["--publish-rate", "50"]);
    assert_eq!(run["traffic"]["messages"], 20 * 50, "{run}");
}

#[test]
fn large_messages_fill_more_than_one_read() {
    let run = play("large", &["--publish-rate", "10", "--payload", "300KiB", "--publish-format", "binary"]);
    assert_eq!(run["traffic"]["messages"], 20 * 10, "{run}");
}

#[test]
fn those_who_come_back_shake_hands_again() {
    let run = play("churn", &["--publish-rate", "20", "--scenario", "churn", "--churn-share", "50%"]);
    assert!(run["traffic"]["messages"].as_u64().expect("a number") > 200, "{run}");
}

#[test]
fn a_slow_client_reads_a_little_at_a_time() {
    let run = play(
        "slow",
        &[
            "--publish-rate",
            "20",
            "--scenario",
            "slow",
            "--slow-share",
            "20%",
            "--slow-rate",
            "8KiB",
            "--payload",
            "2KiB",
        ],
    );
    assert!(run["traffic"]["messages"].as_u64().expect("a number") > 200, "{run}");
}

#[test]
fn certificates_are_checked_unless_told_otherwise() {
    let server = server("trust");
    let url = format!("wss://{}/ws/market", server.address);
    let fixed =
        ["--url", &url, "--connections", "3", "--ramp", "0s", "--warmup", "0s", "--duration", "300ms", "--quiet"];
    let said = |more: &[&str]| {
        let output = run(&[&fixed, more].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        // Long lines are folded.
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let other = scratch(&format!("other-{}.pem", std::process::id()));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(&other, made.cert.pem()).expect("written");
    let refused = said(&["--ca", &other]);
    assert!(refused.contains("invalid peer certificate") && refused.contains("(see --ca and --insecure)"), "{refused}");
    assert!(said(&["--insecure"]).contains("open 3 of 3"));
    assert!(said(&["--insecure=true", "--ca", ""]).contains("the path of a PEM file"));
    let plain = url.replace("wss://", "ws://");
    let output = run(&["--url", &plain, "--connections", "1", "--warmup", "0s", "--duration", "300ms", "--quiet"]);
    assert!(text(&output.stdout).contains("this is a TLS port"), "{}", text(&output.stdout));
}
