//! The server with sessions that send back every message as one frame, for conformance suites.
//!
//! ```sh
//! cargo run --features echo --example echo -- --listen 127.0.0.1:9001 --max-message-size 64MiB
//! ```
//! Handshake, seats, writers, sessions, reader and outbox are the server's. Nothing is published, and nobody
//! is pinged: a suite waits for exactly what it has asked for.

use clap::{Arg, Command};
use tickcast::config::{Key, Layers};
use tickcast::{Config, Hub, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys = Key::all().filter(|key| matches!(key.flag, "listen" | "max-message-size"));
    let options = keys.clone().map(|key| Arg::new(key.flag).long(key.flag).value_name(key.unit).help(key.help));
    let matches = Command::new("echo").about("Sends back what WebSocket clients send").args(options).get_matches();
    let given = keys.filter_map(|key| Some((key.flag, matches.get_one::<String>(key.flag)?.clone())));
    let fixed = [("source", "none"), ("heartbeat-interval", "0"), ("messages-per-second", "0")];
    let fixed = fixed.map(|(flag, value)| (flag, value.to_owned()));
    let config = Config::load(&Layers { arguments: given.chain(fixed).collect(), ..Layers::default() })?;
    let server = Server::bind(config.clone(), Hub::new(config.hub()))?;
    eprintln!("echo on ws://{}/ws/market", server.local_addr()?);
    let interrupted = async {
        // Without a signal to wait for, it ends at once.
        let _ = tokio::signal::ctrl_c().await;
    };
    Ok(server.run(interrupted).await?)
}
