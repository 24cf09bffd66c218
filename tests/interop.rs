//! Clients that are not ours: Python's `websockets`, Node's `ws`, headless Chromium, and an
//! independent computation of every price. `./test.sh` installs what they need.

#[path = "feed/exchange.rs"]
mod exchange;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use exchange::Exchange;
use support::tls::Authority;
use support::{Server, wait_until};

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(relative)
}

/// Runs a check to its end; what it says is shown if it fails.
fn check(program: impl AsRef<Path>, script: &str, arguments: &[&str]) {
    check_trusting(program, script, arguments, "");
}

/// The same, trusting the authority in a file.
fn check_trusting(program: impl AsRef<Path>, script: &str, arguments: &[&str], authority: &str) {
    let program = program.as_ref();
    let mut command = Command::new(program);
    if !authority.is_empty() {
        // What OpenSSL in Python, and what Node reads.
        command.env("SSL_CERT_FILE", authority).env("NODE_EXTRA_CA_CERTS", authority);
    }
    let output = command.arg(path(script)).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("cannot run {}: {error}; ./test.sh installs it", program.display()));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}\n{}{}", said(&output.stdout), said(&output.stderr));
}

fn python() -> PathBuf {
    path("interop/.venv/bin/python")
}

fn quick() -> (Server, String) {
    let server = Server::start(&["--broadcast-interval", "0.05"]);
    let url = format!("http://{}", server.address);
    (server, url)
}

fn encrypted() -> (Server, Authority, String) {
    let authority = Authority::new();
    authority.issue();
    let [cert, cert_path, key, key_path] = authority.flags();
    let server = Server::start(&["--broadcast-interval", "0.05", &cert, &cert_path, &key, &key_path]);
    let url = format!("https://{}", server.address);
    (server, authority, url)
}

#[test]
fn python_websockets_over_tls() {
    let (_server, authority, url) = encrypted();
    check_trusting(python(), "interop/client.py", &[&url], &authority.path("ca.pem"));
}

#[test]
fn node_ws_over_tls() {
    let (_server, authority, url) = encrypted();
    check_trusting("node", "interop/client.mjs", &[&url], &authority.path("ca.pem"));
}

#[test]
fn python_websockets() {
    let (_server, url) = quick();
    check(python(), "interop/client.py", &[&url]);
}

#[test]
fn node_ws() {
    let (_server, url) = quick();
    check("node", "interop/client.mjs", &[&url]);
}

#[test]
fn every_price_is_exact() {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/binance-20240808-1m.log.zst");
    let capture = capture.to_str().expect("UTF-8");
    check(python(), "interop/prices.py", &[env!("CARGO_BIN_EXE_tickcast"), capture]);
}

/// With a token, from the server's own page and from one elsewhere.
#[test]
fn tokens_and_origins_in_a_browser() {
    let server = Server::start(&["--source", "none", "--auth-tokens", "a-token-of-the-desks"]);
    check("node", "browser/access.mjs", &[&format!("http://{}", server.address), "a-token-of-the-desks"]);
}

#[test]
fn the_page_with_a_token_in_a_browser() {
    let server = Server::start(&["--auth-tokens", "with/slash+plus="]);
    let url = format!("http://{}/?token=with%2Fslash%2Bplus%3D", server.address);
    check("node", "browser/page.mjs", &[&url]);
}

/// As it comes out of the box: the bundled capture, a snapshot every second.
#[test]
fn the_page_in_a_browser() {
    let server = Server::start(&[]);
    check("node", "browser/page.mjs", &[&format!("http://{}", server.address)]);
}

/// A live feed that breaks under the page's eyes, and comes back. The stand-in's quotes have the time of this
/// machine, as a live feed has that of the exchange.
#[test]
fn the_page_says_how_old_prices_are() {
    let exchange = Exchange::new(None);
    let server = Server::start(&["--source", &exchange.source(), "--broadcast-interval", "0.1"]);
    let url = format!("http://{}", server.address);
    let mut id = 0;
    let mut quotes = |peer: &mut exchange::Peer| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_millis();
        for symbol in ["AAAUSD", "BBBUSD"] {
            id += 1;
            let prices = format!(r#""b":"{id}","B":"1","a":"{}","A":"1""#, id + 1);
            peer.send(&format!(r#"{{"e":"bookTicker","u":{id},"s":"{symbol}",{prices},"T":{now},"E":{now}}}"#));
        }
    };
    let has_seen = |what: &str| server.get("/channels").text().contains(what);
    let page = std::thread::spawn(move || check("node", "browser/feed.mjs", &[&url]));
    let mut peer = exchange.open();
    wait_until("the page to show a feed", || {
        quotes(&mut peer);
        has_seen("feed-up") || page.is_finished()
    });
    peer.end();
    // Whoever connects is kept waiting for an answer.
    let mut waiting = Vec::new();
    wait_until("the page to show a feed that is down", || {
        waiting.extend(exchange.try_request());
        has_seen("feed-down") || page.is_finished()
    });
    // Those that have waited for too long are gone by now.
    drop(waiting);
    let mut peer = exchange.open();
    wait_until("the page to end", || {
        quotes(&mut peer);
        page.is_finished()
    });
    page.join().expect("the page is as it should be");
}
