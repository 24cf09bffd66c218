//! `wss://`: whom the feed trusts.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::exchange::Exchange;
use crate::ground::{Served, capture, expected, timing};
use crate::support::tls::Authority;
use crate::support::{Server, wait_until};

/// A stand-in with a certificate of an authority that nobody knows.
fn encrypted() -> (Exchange, Authority) {
    let authority = Authority::new();
    authority.issue();
    (vouched_for(&authority), authority)
}

/// Another one with the same certificate.
fn vouched_for(authority: &Authority) -> Exchange {
    let chain = CertificateDer::pem_file_iter(authority.path("cert.pem")).expect("a file");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(authority.path("key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    Exchange::new(Some(Arc::new(config)))
}

#[test]
fn an_encrypted_feed_with_an_authority_of_its_own() {
    let (exchange, authority) = encrypted();
    let served = Served::with_ca(&exchange, timing(), Some(&authority.path("ca.pem")));
    let messages = capture(500);
    let mut peer = exchange.open();
    assert_eq!(peer.ping(b"over TLS"), b"over TLS");
    peer.send_all(messages[..300].iter().map(String::as_str));
    served.wait_for_applied(300);
    // It ends in the middle, without a farewell of TLS.
    peer.end();
    let mut peer = exchange.open();
    peer.send_all(messages[280..].iter().map(String::as_str));
    served.wait_for_applied(messages.len());
    served.wait_for_symbols(&expected(messages));
    assert_eq!(served.stats()["source_reconnects"], serde_json::json!({ "cut": 1 }));
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_and_tried_again() {
    let (exchange, authority) = encrypted();
    let source = exchange.source();
    let mut server = Server::start(&["--source", &source]);
    // The stand-in's side of the handshake runs in the test; it fails there too.
    let serve = |exchange: &Exchange| {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| exchange.request()));
        assert!(refused.is_err(), "a request over a connection that cannot be trusted");
    };
    for _ in 0..2 {
        serve(&exchange);
        let line = server.wait_for_line("the feed is down");
        assert!(line.contains("UnknownIssuer") && line.contains("source.ca"), "{line}");
    }
    wait_until("both counted", || server.get("/stats").json()["source_reconnects"]["tls"].as_u64() >= Some(1));
    drop(server);
    let (exchange, ca) = (vouched_for(&authority), authority.path("ca.pem"));
    let mut server = Server::start(&["--source", &exchange.source(), "--source-ca", &ca]);
    let mut peer = exchange.open();
    server.wait_for_line("connected to wss://127.0.0.1:");
    peer.send(&capture(1)[0]);
    wait_until("ready", || server.get("/readyz").status == 200);
}
