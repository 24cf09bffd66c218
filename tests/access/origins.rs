//! Pages from elsewhere.

use super::support::Server;
use super::support::http::request;
use super::{get, handshake, publish, server};

const EVERY: [&str; 4] = ["/snapshot/market", "/stats", "/channels", "/metrics"];

fn statuses(server: &Server, origin: &str, host: &str) -> (u16, u16) {
    let headers = [("origin", origin)];
    let mut stream = super::connect(server.address);
    let text = super::handshake_request(server.address, "/ws/market")
        .replace(&format!("Host: {}", server.address), &format!("Host: {host}\r\nOrigin: {origin}"));
    std::io::Write::write_all(&mut stream, text.as_bytes()).expect("sent");
    let socket = super::read_answer(&mut stream, false).status;
    (socket, publish(server, "/publish/market", &headers).status)
}

#[test]
fn a_page_from_elsewhere_is_refused_everything() {
    let server = server(&[]);
    let port = server.address.port();
    server.say("market", "hello");
    for origin in ["https://evil.com", "null", "", "http://localhost", &format!("http://127.0.0.1:{}", port ^ 1)] {
        let foreign = [("origin", origin)];
        let answer = handshake(&server, "/ws/market", &foreign);
        assert_eq!(answer.status, 403, "{origin:?}");
        assert!(answer.error().contains("auth.allowed_origins"), "{}", answer.error());
        // Before anything is said about what there is.
        assert_eq!(handshake(&server, "/ws/nothing", &foreign).status, 403);
        // A text/plain POST is one that a browser sends without asking first.
        assert_eq!(publish(&server, "/publish/market", &foreign).status, 403);
        for path in EVERY {
            let answer = get(&server, path, &foreign);
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None), "{path}");
        }
        for path in ["/", "/healthz", "/readyz"] {
            let answer = get(&server, path, &foreign);
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None), "{path}");
        }
    }
    assert_eq!(server.metric("tickcast_messages_published_total"), 1);
    assert_eq!(server.metric("tickcast_refused_total{reason=\"origin\"}"), 5 * (3 + EVERY.len() as u64));
}

#[test]
fn pages_of_the_server_itself_and_programs_are_not_foreign() {
    let server = server(&[]);
    let own = format!("http://{}", server.address);
    server.say("market", "hello");
    for headers in [vec![], vec![("origin", own.as_str())]] {
        assert_eq!(handshake(&server, "/ws/market", &headers).status, 101);
        assert_eq!(publish(&server, "/publish/market", &headers).status, 200);
        for path in EVERY {
            let answer = get(&server, path, &headers);
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None), "{path}");
        }
    }
    // Behind a proxy that ends TLS and passes on the name.
    assert_eq!(statuses(&server, "https://app.example.com", "app.example.com").0, 101);
    assert_eq!(statuses(&server, "https://app.example.com", "app.example.com:443").0, 101);
    assert_eq!(statuses(&server, "https://app.example.com", "app.example.com:8443").0, 403);
    assert_eq!(statuses(&server, "https://evil.com", "app.example.com").0, 403);
}

#[test]
fn listed_pages_may_come_from_elsewhere() {
    let server = server(&["--auth-allowed-origins", "https://App.example.com, http://localhost:3000"]);
    server.say("market", "hello");
    let host = server.address.to_string();
    for (origin, expected) in [
        ("https://app.example.com", (101, 200)),
        ("HTTPS://APP.EXAMPLE.COM:443", (101, 200)),
        ("http://localhost:3000", (101, 200)),
        ("http://app.example.com", (403, 403)),
        ("https://app.example.com.evil.com", (403, 403)),
        ("null", (403, 403)),
        (&format!("http://{host}"), (101, 200)),
    ] {
        assert_eq!(statuses(&server, origin, &host), expected, "{origin}");
    }
    for path in EVERY {
        let answer = get(&server, path, &[("origin", "https://app.example.com")]);
        let shared = answer.header("access-control-allow-origin");
        assert_eq!(
            (answer.status, shared, answer.header("vary")),
            (200, Some("https://app.example.com"), Some("origin"))
        );
        // A page is shown why, too.
        let answer = get(&server, "/snapshot/nothing", &[("origin", "http://localhost:3000")]);
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (404, Some("http://localhost:3000")));
        assert_eq!(get(&server, path, &[]).header("access-control-allow-origin"), None);
    }
    assert_eq!(
        request(server.address, "OPTIONS", "/publish/market", &[("origin", "http://localhost:3000")], b"").status,
        405
    );
}

#[test]
fn all_pages_may_if_it_says_so() {
    let server = server(&["--auth-allowed-origins", "*"]);
    for origin in ["https://evil.com", "null"] {
        assert_eq!(statuses(&server, origin, "x"), (101, 200));
        let answer = get(&server, "/channels", &[("origin", origin)]);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
}
