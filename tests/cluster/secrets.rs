//! Who may connect to NATS, and that nobody reads how.

use super::beside_others;
use super::nats::Nats;
use super::nodes::{NONE, Node};
use super::support::tls::Authority;
use super::support::{Server, check, command, wait_until};

const PASSWORD: &str = "hushed-password";
const TOKEN: &str = "hushed-token";

/// An origin and an edge with these arguments: what one publishes the other has. Returns their logs.
fn serve(url: &str, arguments: &[&str]) -> String {
    let common = [&["--cluster-url", url, "--log", "debug"], arguments].concat();
    let mut origin = Node::start(&[&common[..], &["--cluster-role", "origin"], &NONE].concat());
    let mut edge = Node::start(&common);
    origin.wait_until_ready();
    edge.wait_until_ready();
    edge.say("desk", "hello");
    wait_until("a publication", || {
        origin.get("/snapshot/desk").status == 200 && edge.get("/snapshot/desk").status == 200
    });
    let shown = edge.get("/stats").text() + &edge.get("/metrics").text() + &edge.get("/readyz").text();
    [origin.end(), edge.end(), shown].concat()
}

fn assert_hushed(shown: &str) {
    assert!(!shown.contains("hushed"), "{shown}");
}

#[test]
fn user_and_password() {
    let _machine = beside_others();
    let nats = Nats::with(&format!("authorization {{ user: desk, password: {PASSWORD:?} }}"));
    assert_hushed(&serve(&nats.url(), &["--cluster-user", "desk", "--cluster-password", PASSWORD]));
    let url = nats.url().replace("nats://", &format!("nats://desk:{PASSWORD}@"));
    assert_hushed(&serve(&url, &[]));
}

#[test]
fn a_token() {
    let _machine = beside_others();
    let nats = Nats::with(&format!("authorization {{ token: {TOKEN:?} }}"));
    assert_hushed(&serve(&nats.url(), &["--cluster-token", TOKEN]));
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let _machine = beside_others();
    let authority = Authority::new();
    authority.issue();
    let (cert, key, ca) = (authority.path("cert.pem"), authority.path("key.pem"), authority.path("ca.pem"));
    let nats = Nats::with(&format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}"));
    let url = nats.url().replace("nats://", "tls://");
    serve(&url, &["--cluster-ca", &ca]);
    // Who does not know the authority does not trust it, and says so.
    let node = Node::start(&["--cluster-url", &url]);
    let why = node.wait_until_not_ready();
    assert!(why.contains("NATS"), "{why}");
    let nats = Nats::with(&format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}"));
    let url = nats.url().replace("nats://", "tls://");
    serve(&url, &["--cluster-ca", &ca, "--cluster-cert", &cert, "--cluster-key", &key]);
}

/// Whoever has the wrong password says so, tries again, and is let in when it has become the right one.
#[test]
fn a_wrong_password_is_told_and_tried_again() {
    let _machine = beside_others();
    let mut nats = Nats::with("authorization { user: desk, password: another }");
    let mut command = command(&[
        "--listen",
        "127.0.0.1:0",
        "--cluster-url",
        &nats.url(),
        "--cluster-role",
        "origin",
        "--source",
        "none",
    ]);
    command.env("TICKCAST_CLUSTER_USER", "desk").env("TICKCAST_CLUSTER_PASSWORD", PASSWORD);
    let mut server = Server::spawn(command);
    let line = server.wait_for_line("NATS");
    assert!(line.to_lowercase().contains("authorization"), "{line}");
    let answer = server.get("/readyz");
    assert!(answer.status == 503 && answer.text().contains("NATS"), "{}", answer.text());
    assert!(answer.text().to_lowercase().contains("authorization"), "why: {}", answer.text());
    nats.configure(&format!("authorization {{ user: desk, password: {PASSWORD:?} }}"));
    nats.restart();
    wait_until("a connection", || server.get("/readyz").status == 200);
    assert_hushed(&(answer.text() + &server.end()));
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let _machine = beside_others();
    let url = ["--cluster-url", "nats://127.0.0.1:4222"];
    for arguments in [vec!["--cluster-user", "desk", "--cluster-password", PASSWORD], vec!["--cluster-token", TOKEN]] {
        let (status, stdout, stderr) = check(&[&url[..], &arguments].concat(), &[]);
        assert_eq!(status, Some(0), "{stderr}");
        assert!(stdout.contains("***") && stdout.contains("nats://127.0.0.1:4222"), "{stdout}");
        assert_hushed(&(stdout + &stderr));
    }
    // Whether a password may be part of an address or not.
    for url in [
        "nats://desk:hushed-password@127.0.0.1:4222",
        "nats://hushed-token@127.0.0.1:4222",
        "http://hushed-a:hushed-b@c",
    ] {
        let (_, stdout, stderr) = check(&["--cluster-url", url], &[]);
        assert_hushed(&(stdout + &stderr));
    }
}
