//! An application with the engine inside: it publishes by itself, listens by itself, and serves
//! WebSocket clients around the same hub.
//!
//! ```sh
//! cargo run --example embedded
//! ```
//! Then open the address it prints with `?channel=clock`, or watch `ws://…/ws/clock`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tickcast::source::SourceKind;
use tickcast::{Config, Hub, Message, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config { source: SourceKind::None, listen: "127.0.0.1:0".parse()?, ..Config::default() };
    let hub = Hub::new(config.hub());
    let server = Server::bind(config, hub.clone())?;
    eprintln!("listening on http://{}/, channel clock; Ctrl-C ends it", server.local_addr()?);

    // A publisher: any thread or task with a clone of the channel.
    let clock = hub.channel("clock")?;
    let publisher = tokio::spawn({
        let clock = clock.clone();
        async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(500));
            loop {
                ticks.tick().await;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let message = Message::text(format!("{{\"ts\":{}}}", now.as_micros()));
                if let Ok(published) = clock.publish(message) {
                    eprintln!("published to {} subscribers", published.subscribers);
                }
            }
        }
    });

    // A sink of its own: the same frames, without a socket.
    let mut sink = hub.subscribe(&clock);
    let listener = tokio::spawn(async move {
        loop {
            let frame = sink.recv().await;
            eprintln!("number {}, {} bytes, {} lost before it", frame.seq(), frame.payload().len(), sink.lagged());
        }
    });

    server
        .run(async {
            // Without a signal to wait for, it ends at once.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    publisher.abort();
    listener.abort();
    Ok(())
}
