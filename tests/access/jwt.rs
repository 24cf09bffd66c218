//! Tokens that are signed.

use std::time::Instant;

use serde_json::{Value, json};

use super::sign::{SECRET, Signer, at, key, sign, sign_with_header};
use super::support::Server;
use super::support::client::Client;
use super::support::http::request;
use super::{get, handshake, join, publish, server};

const HS256: Signer<'static> = Signer::Hs256(SECRET.as_bytes());

fn with_secret(more: &[&str]) -> Server {
    server(&[&["--auth-jwt-secret", SECRET], more].concat())
}

fn status(server: &Server, token: &str) -> u16 {
    handshake(server, "/ws/market", &[("authorization", &format!("Bearer {token}"))]).status
}

/// Why a token is refused.
fn refused(server: &Server, token: &str) -> String {
    let answer = handshake(server, "/ws/market", &[("authorization", &format!("Bearer {token}"))]);
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").expect("a challenge").contains("error=\"invalid_token\""));
    assert!(!answer.text().contains(token));
    answer.error()
}

#[test]
fn each_algorithm_has_its_key() {
    let claims = json!({ "sub": "desk 7", "exp": at(60) });
    let (rsa, ed25519) = (key("rsa.pub.pem"), key("ed25519.pub.pem"));
    for (arguments, good) in [
        (vec!["--auth-jwt-secret", SECRET], [true, false, false]),
        (vec!["--auth-jwt-public-key", &rsa], [false, true, false]),
        (vec!["--auth-jwt-public-key", &ed25519], [false, false, true]),
        (vec!["--auth-jwt-secret", SECRET, "--auth-jwt-public-key", &format!("{rsa},{ed25519}")], [true; 3]),
    ] {
        let server = server(&arguments);
        for (signer, good) in [HS256, Signer::Rs256, Signer::EdDsa].into_iter().zip(good) {
            assert_eq!(status(&server, &sign(&claims, signer)), if good { 101 } else { 401 }, "{arguments:?}");
        }
    }
}

#[test]
fn a_token_says_not_which_algorithm_it_is_checked_with() {
    let claims = json!({ "exp": at(60) });
    let (rsa, ed25519) = (key("rsa.pub.pem"), key("ed25519.pub.pem"));
    let pem = std::fs::read(&rsa).expect("a key");
    let server = server(&["--auth-jwt-public-key", &format!("{rsa},{ed25519}"), "--auth-jwt-secret", SECRET]);
    let good = sign(&claims, Signer::Rs256);
    assert_eq!(status(&server, &good), 101);
    let mut forged = vec![sign(&claims, Signer::None)];
    for name in ["none", "None", "NONE", "nOnE", "", "HS256", "RS256", "EdDSA"] {
        forged.push(sign_with_header(&json!({ "alg": name }), &claims, Signer::None));
    }
    // The public key is public: it must be no secret.
    forged.push(sign(&claims, Signer::Hs256(&pem)));
    forged.push(sign(&claims, Signer::Hs256(String::from_utf8_lossy(&pem).trim_end().as_bytes())));
    forged.push(sign(&claims, Signer::Hs256(b"")));
    for (header, signer) in
        [("HS256", Signer::Rs256), ("EdDSA", Signer::Rs256), ("RS256", Signer::EdDsa), ("RS256", HS256)]
    {
        forged.push(sign_with_header(&json!({ "alg": header }), &claims, signer));
    }
    for name in ["HS384", "HS512", "RS384", "RS512", "PS256", "ES256"] {
        forged.push(sign_with_header(&json!({ "alg": name }), &claims, Signer::Rs256));
        forged.push(sign_with_header(&json!({ "alg": name }), &claims, HS256));
    }
    // Keys that come with the token are not looked at.
    let own =
        json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "AAAA" }, "kid": "../../dev/null", "jku": "http://x/" });
    forged.push(sign_with_header(&own, &claims, Signer::Hs256(&[0, 0, 0])));
    // Not what was signed, and no JWT at all.
    let parts: Vec<_> = good.split('.').collect();
    let other = sign(&json!({ "exp": at(6_000) }), Signer::Rs256);
    let other: Vec<_> = other.split('.').collect();
    forged.push([parts[0], other[1], parts[2]].join("."));
    forged.push([parts[0], parts[1], ""].join("."));
    forged.push([parts[0], parts[1]].join("."));
    forged.push(format!("{good}."));
    forged.extend(["a.b.c", "..", "...."].map(str::to_owned));
    for token in forged {
        let reason = refused(&server, &token);
        assert!(reason.contains("a configured key has signed"), "{reason}");
    }
    let critical = sign_with_header(&json!({ "alg": "RS256", "crit": ["x"], "x": 1 }), &claims, Signer::Rs256);
    assert!(refused(&server, &critical).contains("crit"));
}

#[test]
fn times_audience_and_issuer_are_checked() {
    let server = with_secret(&["--auth-jwt-audience", "screens,desks", "--auth-jwt-issuer", "https://id.example.com"]);
    let claims = |change: Value| {
        let mut claims = json!({ "exp": at(60), "aud": "screens", "iss": "https://id.example.com" });
        for (name, value) in change.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        sign(&claims, HS256)
    };
    for good in [
        json!({}),
        json!({ "nbf": at(-60), "iat": at(-60) }),
        json!({ "aud": ["others", "desks"] }),
        json!({ "exp": at(60) as f64 + 0.5 }),
        json!({ "exp": 1e15 }),
        // Within the leeway.
        json!({ "exp": at(-2), "nbf": at(2) }),
    ] {
        assert_eq!(status(&server, &claims(good.clone())), 101, "{good}");
    }
    for (wrong, reason) in [
        (json!({ "exp": at(-10) }), "expired"),
        (json!({ "exp": 0 }), "expired"),
        (json!({ "exp": null }), "lacks `exp`"),
        (json!({ "exp": "9999999999" }), "lacks `exp`"),
        (json!({ "exp": -1 }), "lacks `exp`"),
        (json!({ "nbf": at(60) }), "not valid yet"),
        (json!({ "nbf": "soon" }), "nbf"),
        (json!({ "aud": "others" }), "another audience"),
        (json!({ "aud": [] }), "another audience"),
        (json!({ "aud": null }), "lacks `aud`"),
        (json!({ "iss": "https://evil.com" }), "another issuer"),
        (json!({ "iss": null }), "lacks `iss`"),
    ] {
        let said = refused(&server, &claims(wrong.clone()));
        assert!(said.contains(reason), "{wrong}: {said}");
    }
    // Of several that lack any one is named.
    let endless = json!({ "aud": "screens", "iss": "https://id.example.com" });
    assert!(refused(&server, &sign(&endless, HS256)).contains("lacks `exp`"));
    // Without the keys nobody looks.
    let claims = json!({ "exp": at(60), "aud": "others", "iss": "https://evil.com" });
    assert_eq!(status(&with_secret(&[]), &sign(&claims, HS256)), 101);
}

#[test]
fn a_claim_lists_channels() {
    let server = with_secret(&["--auth-publish-tokens", "publishes"]);
    for channel in ["fx.eurusd", "fx", "news"] {
        assert_eq!(publish(&server, &format!("/publish/{channel}?token=publishes"), &[]).status, 200);
    }
    let opened = |claim: Value| {
        let mut claims = json!({ "exp": at(60) });
        claims.as_object_mut().expect("an object").extend([("channels".to_owned(), claim)]);
        let token = sign(&claims, HS256);
        ["market", "fx.eurusd", "fx", "news"]
            .map(|channel| handshake(&server, &format!("/ws/{channel}?token={token}"), &[]).status)
    };
    assert_eq!(opened(json!(["market", "fx.*"])), [101, 101, 403, 403]);
    assert_eq!(opened(json!("news")), [403, 403, 403, 101]);
    assert_eq!(opened(json!("market news")), [101, 403, 403, 101]);
    assert_eq!(opened(json!("*")), [101; 4]);
    for nothing in [json!([]), json!(""), json!(null), json!(7), json!({ "market": true })] {
        assert_eq!(opened(nothing), [403; 4]);
    }
    let token = sign(&json!({ "exp": at(60), "channels": ["fx.*"] }), HS256);
    let answer = get(&server, &format!("/snapshot/news?token={token}"), &[]);
    assert_eq!(answer.status, 403);
    assert!(answer.error().contains("\"channels\"") && answer.error().contains("\"news\""), "{}", answer.error());
    assert!(answer.header("www-authenticate").expect("a challenge").contains("insufficient_scope"));
    // Whether there is such a channel is not said.
    assert_eq!(get(&server, &format!("/snapshot/nothing?token={token}"), &[]).status, 403);
    assert_eq!(get(&server, &format!("/snapshot/fx.none?token={token}"), &[]).status, 404);
    // Of the others nothing is told.
    for path in ["/channels", "/stats"] {
        let seen = get(&server, &format!("{path}?token={token}"), &[]).json();
        let names: Vec<_> =
            seen["channels"].as_array().expect("a list").iter().map(|channel| &channel["name"]).collect();
        assert_eq!(names, ["fx.eurusd"], "{path}");
    }
    let all = sign(&json!({ "exp": at(60) }), HS256);
    assert_eq!(
        get(&server, &format!("/channels?token={all}"), &[]).json()["channels"].as_array().map(Vec::len),
        Some(4)
    );
    assert!(server.metric("tickcast_refused_total{reason=\"channel\"}") > 20);
}

#[test]
fn a_claim_may_have_another_name_and_lets_publish() {
    let server = with_secret(&["--auth-jwt-channels-claim", "rooms", "--auth-jwt-publish-claim", "desks"]);
    let try_both = |claims: Value, channel: &str| {
        let token = sign(&claims, HS256);
        let publish = publish(&server, &format!("/publish/{channel}?token={token}"), &[]).status;
        (publish, handshake(&server, &format!("/ws/{channel}?token={token}"), &[]).status)
    };
    assert_eq!(try_both(json!({ "exp": at(60) }), "market"), (403, 101));
    assert_eq!(try_both(json!({ "exp": at(60), "desks": ["orders", "fx.*"], "rooms": [] }), "orders"), (200, 403));
    assert_eq!(try_both(json!({ "exp": at(60), "desks": "fx.*", "rooms": "fx.eurusd" }), "fx.eurusd"), (200, 101));
    assert_eq!(try_both(json!({ "exp": at(60), "desks": "fx.*", "channels": [] }), "market"), (403, 101));
    // A JWT opens no metrics that have their own token, and none is needed where there is none.
    assert_eq!(publish(&server, "/publish/market", &[]).status, 401);
    assert_eq!(get(&server, "/metrics", &[]).status, 200);
}

#[test]
fn a_session_ends_with_its_token() {
    let server = with_secret(&["--auth-jwt-leeway", "0"]);
    let started = Instant::now();
    let short = sign(&json!({ "exp": at(2) }), HS256);
    let long = sign(&json!({ "exp": at(3_600) }), HS256);
    let join = |token: &str| join(&server, &format!("/ws/market?token={token}"), &[]).0;
    let (mut kept, mut ended) = (join(&long), join(&short));
    assert_eq!(ended.read_to_close(), (1008, "token expired".to_owned(), 0));
    assert!(started.elapsed().as_secs_f64() > 0.5, "not at once");
    server.wait_for_metric("tickcast_disconnects_total{reason=\"expired\"}", |count| count == 1);
    let token = sign(&json!({ "exp": at(60), "publish": "*" }), HS256);
    assert_eq!(publish(&server, &format!("/publish/market?token={token}"), &[]).status, 200);
    assert_eq!(kept.text(), "hello");
}

#[test]
fn a_client_that_reads_nothing_is_ended_as_well() {
    let server = with_secret(&["--auth-publish-tokens", "publishes", "--heartbeat-interval", "0"]);
    let token = sign(&json!({ "exp": at(-2) }), HS256);
    let stalled = Client::with_small_buffer(server.address, &format!("market?token={token}"), 4_096);
    let body = vec![b'x'; 1 << 20];
    for _ in 0..8 {
        let headers = [("content-type", "text/plain"), ("authorization", "Bearer publishes")];
        assert_eq!(request(server.address, "POST", "/publish/market", &headers, &body).status, 200);
    }
    server.wait_for_metric("tickcast_disconnects_total{reason=\"expired\"}", |count| count == 1);
    assert_eq!(server.metric("tickcast_connections"), 0);
    assert_eq!(server.metric("tickcast_frames_queued"), 0);
    drop(stalled);
}
