//! The binary with a live feed: configuration, log, end.

use crate::exchange::{Exchange, TARGET};
use crate::ground::{capture, expected};
use crate::support::client::Client;
use crate::support::tls::Authority;
use crate::support::{Server, Temporary, check, wait_until};

#[test]
fn a_live_feed_is_served_logged_and_left_in_order() {
    let exchange = Exchange::new(None);
    let source = exchange.source();
    let mut server = Server::start(&["--source", &source, "--broadcast-interval", "0", "--source-stale-after", "30s"]);
    let mut client = Client::connect(server.address, "market");
    let mut peer = exchange.open();
    assert!(peer.request.contains(&format!("\r\nHost: {}\r\n", exchange.address)), "{}", peer.request);
    server.wait_for_line(&format!("connected to ws://{}{TARGET}", exchange.address));
    peer.send(&capture(1)[0]);
    assert_eq!(client.json()["symbols"], expected(capture(1)));
    peer.end();
    let line = server.wait_for_line("the feed is down");
    assert!(line.contains("ended without a Close; next attempt in 0."), "{line}");
    let mut peer = exchange.open();
    peer.send(&capture(2)[1]);
    let last = client.json();
    assert_eq!((&last["seq"], &last["symbols"]), (&2.into(), &expected(capture(2))));
    assert_eq!(server.metric("tickcast_source_reconnects_total{reason=\"cut\"}"), 1);
    server.end();
    peer.read_to_end();
}

#[test]
fn sources_without_a_connection_have_no_such_figures() {
    let server = Server::start(&["--source", "sim"]);
    wait_until("ready", || server.get("/readyz").status == 200);
    let (stats, metrics) = (server.get("/stats").json(), server.get("/metrics").text());
    assert!(stats["source_age_seconds"].as_f64().is_some() && metrics.contains("\ntickcast_source_age_seconds "));
    assert!(stats.get("source_connected").is_none() && stats.get("source_reconnects").is_none(), "{stats}");
    assert!(!metrics.contains("tickcast_source_connected") && !metrics.contains("tickcast_source_reconnects_total"));
}

#[test]
fn a_source_can_be_a_table_and_reads_back() {
    let url = "binance:wss://stream.binance.com:9443/stream?streams=btcusdt@trade/btcusdt@bookTicker";
    let kind = format!("kind = \"{url}\"");
    for (text, stale_after) in [
        (format!("source = \"{url}\"\n"), "10.0"),
        (format!("[source]\n{kind}\nstale_after = 2.5\n"), "2.5"),
        (format!("source.{kind}\nsource.stale_after = 2.5\n"), "2.5"),
        (format!("source = {{ {kind}, stale_after = 2.5 }}\n"), "2.5"),
    ] {
        let file = Temporary::new("source.toml", &text);
        let (status, shown, errors) = check(&["--config", file.path()], &[]);
        assert_eq!((status, &*errors), (Some(0), ""), "{text}");
        let table = format!("\n[source]\n{kind}\nstale_after = {stale_after}\nca = \"\"\n");
        assert!(shown.contains(&table), "{shown}");
        let file = Temporary::new("source-again.toml", &shown);
        assert_eq!(check(&["--config", file.path()], &[]), (Some(0), shown, String::new()));
    }
    let environment = [("TICKCAST_SOURCE", url), ("TICKCAST_SOURCE_STALE_AFTER", "3")];
    let (_, shown, _) = check(&[], &environment);
    assert!(shown.contains(&format!("{kind}\nstale_after = 3.0\n")), "{shown}");
    let (_, shown, _) = check(&["--source-stale-after", "250ms", "--source", "sim"], &environment);
    assert!(shown.contains("kind = \"sim\"\nstale_after = 0.25\n"), "{shown}");
}

#[test]
fn a_mistake_in_the_source_is_named() {
    for source in ["binance", "binance:", "binance:https://stream.binance.com/", "binance:wss://", "binance:host:80"] {
        let (status, _, stderr) = check(&["--source", source], &[]);
        assert_eq!(status, Some(2), "{source}");
        for words in
            [&*format!("`source` = {source:?}"), "ws:// or wss:// URL that has a host", "binance:wss://stream."]
        {
            assert!(stderr.contains(words), "no {words:?} in {stderr}");
        }
    }
    for (text, words) in [
        ("[source]\nkind = \"kafka\"\n", ["line 2", "`source` = \"kafka\""]),
        ("[source]\nstale = 3\n", ["line 2", "unknown key `source.stale`"]),
        ("[source]\nstale_after = 0\n", ["`source.stale_after` = 0", "seconds from 0.1"]),
        ("source = \"sim\"\n[source]\nstale_after = 3\n", ["line 2", "not valid TOML"]),
    ] {
        let file = Temporary::new("source-mistake.toml", text);
        let (status, _, stderr) = check(&["--config", file.path()], &[]);
        assert_eq!(status, Some(2), "{text}");
        words.iter().for_each(|word| assert!(stderr.contains(word), "no {word:?} in {stderr}"));
    }
}

#[test]
fn a_file_of_roots_that_holds_none_is_a_mistake() {
    let authority = Authority::new();
    let (good, empty) = (authority.path("ca.pem"), Temporary::new("roots.pem", "nothing\n"));
    let with = |ca: &str| check(&["--source", "binance:wss://127.0.0.1:1/stream?streams=a@b", "--source-ca", ca], &[]);
    assert_eq!(with(&good).0, Some(0));
    for (ca, words) in [(empty.path(), "no certificate in it"), ("/nonexistent/ca.pem", "No such file")] {
        let (status, _, stderr) = with(ca);
        assert_eq!(status, Some(2));
        assert!(stderr.contains("`source.ca`") && stderr.contains(ca) && stderr.contains(words), "{stderr}");
    }
}
