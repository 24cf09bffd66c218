//! Tokens that are listed.

use super::support::Server;
use super::support::command;
use super::{get, handshake, join, publish, server};

const TOKEN: &str = "receives-0123456789";

#[test]
fn a_token_is_accepted_in_each_of_three_places() {
    // The second has what a URL has to encode.
    let server = server(&["--auth-tokens", "receives-0123456789,with/slash+plus=", "--log", "trace"]);
    server.say("market", "hello");
    for (path, headers) in [
        ("/ws/market", vec![("authorization", "Bearer receives-0123456789")]),
        ("/ws/market", vec![("authorization", "bearer with/slash+plus=")]),
        ("/ws/market?token=receives-0123456789", vec![]),
        ("/ws/market?a=b&token=with%2Fslash%2bplus%3D", vec![]),
        ("/ws/market?token=with/slash+plus=", vec![]),
        ("/ws/market?token=receives-0123456789", vec![("authorization", "Basic eDp5")]),
        ("/ws/market", vec![("sec-websocket-protocol", "tickcast, bearer.receives-0123456789")]),
    ] {
        let (mut client, answer) = join(&server, path, &headers);
        assert_eq!(answer.status, 101, "{path} {headers:?} {}", answer.text());
        assert_eq!(client.text(), "hello");
    }
    for (path, headers) in [
        ("/snapshot/market", vec![("authorization", "Bearer receives-0123456789")]),
        ("/snapshot/market?token=receives-0123456789", vec![]),
        ("/channels?token=receives-0123456789", vec![]),
        ("/stats?token=receives-0123456789", vec![]),
    ] {
        assert_eq!(get(&server, path, &headers).status, 200, "{path}");
    }
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(&server, path, &[]).status, 200, "{path}");
    }
}

#[test]
fn a_token_that_is_missing_or_wrong_is_refused() {
    let server = server(&["--auth-tokens", TOKEN]);
    for path in ["/ws/market", "/ws/nothing", "/snapshot/market", "/channels", "/stats"] {
        let refused = |path: &str, headers: &[(&str, &str)]| match path.starts_with("/ws") {
            true => handshake(&server, path, headers),
            false => get(&server, path, headers),
        };
        let answer = refused(path, &[]);
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("bearer realm=\"tickcast\"")),
            "{path}"
        );
        assert!(answer.error().contains("Authorization: Bearer TOKEN"), "{}", answer.error());
        for wrong in ["receives-012345678", "receives-01234567890", "Receives-0123456789", "x"] {
            let answer = refused(path, &[("authorization", &format!("Bearer {wrong}"))]);
            assert_eq!(answer.status, 401, "{path} {wrong}");
            assert!(answer.header("www-authenticate").expect("a challenge").contains("error=\"invalid_token\""));
            assert!(!answer.text().contains(wrong) || wrong == "x", "{}", answer.text());
        }
        assert_eq!(refused(&format!("{path}?token="), &[]).status, 401);
        assert_eq!(refused(&format!("{path}?token=wrong"), &[]).status, 401);
    }
    assert_eq!(handshake(&server, "/ws/market", &[("sec-websocket-protocol", "tickcast, bearer.x")]).status, 401);
    assert_eq!(server.metric("tickcast_refused_total{reason=\"token\"}"), 5 * 7 + 1);
    // A page from elsewhere is not let in with a token either: its browser might hold it.
    let foreign = [("origin", "https://evil.com"), ("authorization", "Bearer receives-0123456789")];
    assert_eq!(handshake(&server, "/ws/market", &foreign).status, 403);
}

#[test]
fn a_subprotocol_is_selected() {
    for server in [server(&[]), server(&["--auth-tokens", TOKEN])] {
        for (offered, selected) in [
            ("tickcast, bearer.receives-0123456789", "tickcast"),
            ("bearer.receives-0123456789, tickcast", "tickcast"),
            ("bearer.receives-0123456789, their.own", "their.own"),
            ("bearer.receives-0123456789", "bearer.receives-0123456789"),
        ] {
            let answer = handshake(&server, "/ws/market", &[("sec-websocket-protocol", offered)]);
            assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some(selected)));
        }
        let answer = handshake(&server, "/ws/market?token=receives-0123456789", &[]);
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, None));
    }
}

/// What each endpoint answers to a token.
fn opened(server: &Server, token: &str) -> [u16; 5] {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let status = |path| get(server, path, &headers).status;
    [
        handshake(server, "/ws/market", &headers).status,
        publish(server, "/publish/market", &headers).status,
        status("/stats"),
        status("/channels"),
        status("/metrics"),
    ]
}

#[test]
fn each_endpoint_has_its_own_tokens() {
    let mut command = command(&["--listen", "127.0.0.1:0", "--source", "none"]);
    command.env("TICKCAST_AUTH_TOKENS", "receive").env("TICKCAST_AUTH_PUBLISH_TOKENS", "publish");
    command.env("TICKCAST_AUTH_STATS_TOKENS", "stats,both").env("TICKCAST_AUTH_METRICS_TOKENS", "metrics,both");
    let server = Server::spawn(command);
    for (token, expected) in [
        ("receive", [101, 401, 401, 401, 401]),
        ("publish", [401, 200, 401, 401, 401]),
        ("stats", [401, 401, 200, 200, 401]),
        ("metrics", [401, 401, 401, 401, 200]),
        ("both", [401, 401, 200, 200, 200]),
        ("none", [401; 5]),
    ] {
        assert_eq!(opened(&server, token), expected, "{token}");
    }
    // Only for one thing: the others are as open as before.
    let server = super::server(&["--auth-publish-tokens", "publish"]);
    assert_eq!(opened(&server, "none"), [101, 401, 200, 200, 200]);
    assert_eq!(opened(&server, "publish"), [101, 200, 200, 200, 200]);
    let server = super::server(&["--auth-metrics-tokens", "metrics"]);
    assert_eq!(opened(&server, "none"), [101, 200, 200, 200, 401]);
}

#[test]
fn publishing_is_off_where_others_reach_it() {
    let spawn = |arguments: &[&str]| {
        let mut server = Server::spawn(command(&[&["--listen", "0.0.0.0:0", "--source", "none"], arguments].concat()));
        server.address.set_ip([127, 0, 0, 1].into());
        server
    };
    let mut server = spawn(&[]);
    let line = server.wait_for_line("publishing is off");
    assert!(line.contains("auth.publish_tokens") && line.contains("auth.open_publishing = true"), "{line}");
    let answer = publish(&server, "/publish/market", &[]);
    assert_eq!(answer.status, 403);
    assert!(answer.error().contains("auth.publish_tokens"), "{}", answer.error());
    assert_eq!(handshake(&server, "/ws/market", &[]).status, 101);
    let server = spawn(&["--auth-publish-tokens", "publish"]);
    assert_eq!(publish(&server, "/publish/market", &[]).status, 401);
    assert_eq!(publish(&server, "/publish/market?token=publish", &[]).status, 200);
    let mut server = spawn(&["--auth-open-publishing", "true"]);
    server.wait_for_line("everybody may publish");
    assert_eq!(publish(&server, "/publish/market", &[]).status, 200);
}
