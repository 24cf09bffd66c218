//! The server as it is, in this process.

use std::io::PipeReader;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tickcast::fanout::{Channel, Hub};
use tickcast::market::Publisher;
use tickcast::metrics::HistogramSum;
use tickcast::server::MARKET;
use tickcast::source::{Feed, Stdin};
use tickcast::{Config, Server};

use crate::lines::{Stamped, Stamps, drive, wait_until};
use crate::plan::Plan;
use crate::table::print_row;
use crate::{Result, client};

/// One message's way.
struct Way {
    until_publish: Duration,
    publish: Duration,
    from_publish: Duration,
}

/// Measures, prints, and returns the total times and the last frame as it was sent.
pub(crate) fn measure(plan: &Plan, lines: &[Vec<u8>]) -> Result<(Vec<Duration>, Vec<u8>)> {
    let runtime = plan.runtime()?;
    let config = plan.config();
    let hub = Hub::new(config.hub());
    let (reader, mut writer) = std::io::pipe()?;
    let (address, reads) = runtime.block_on(start(config, &hub, &reader))?;
    let channel = hub.channel(MARKET)?;
    let _frames = client::connect(address)?;
    wait_until("the client", || channel.subscribers() == 1)?;
    let mut witness = Witness { hub, channel, reads, delivered: 0, published: 0 };
    let mut ways = Vec::with_capacity(lines.len());
    drive(plan, lines, &mut writer, |n| {
        ways.push(witness.way_of(&runtime, n)?);
        Ok(())
    })?;
    let last = runtime.block_on(witness.channel.last()).ok_or("nothing published")?;
    drop(writer);
    runtime.shutdown_background();
    let ways = plan.counted(&ways);
    let of = |time: fn(&Way) -> Duration| ways.iter().map(time).collect::<Vec<_>>();
    let total = of(|way| way.until_publish + way.from_publish);
    println!("the server");
    print_row("  read until publish", &of(|way| way.until_publish));
    print_row("  publish call", &of(|way| way.publish));
    print_row("  from there until written", &of(|way| way.from_publish.saturating_sub(way.publish)));
    print_row("  total", &total);
    Ok((total, last.wire().to_vec()))
}

async fn start(config: Config, hub: &Hub, pipe: &PipeReader) -> Result<(SocketAddr, Stamps)> {
    let interval = config.ws.broadcast_interval;
    let server = Server::bind(config, hub.clone())?;
    let address = server.local_addr()?;
    let (input, reads) = Stamped::open(pipe)?;
    let feed = Feed::Stdin(Stdin::from_reader(input));
    tokio::spawn(Publisher::new(hub, hub.channel(MARKET)?, interval).run(feed));
    tokio::spawn(server.run(std::future::pending::<()>()));
    Ok((address, reads))
}

/// Takes one message's times out of what the server counts.
struct Witness {
    hub: Hub,
    channel: Channel,
    reads: Stamps,
    /// Nanoseconds counted so far.
    delivered: u64,
    published: u64,
}

impl Witness {
    /// Line number `n` has become message number `n + 1`, and the only one since the last.
    fn way_of(&mut self, runtime: &tokio::runtime::Runtime, n: usize) -> Result<Way> {
        let seq = n as u64 + 1;
        let metrics = std::sync::Arc::clone(self.hub.metrics());
        let count = || {
            let mut published = HistogramSum::default();
            metrics.publish_seconds.add_to(&mut published);
            (metrics.delivery_seconds(), published)
        };
        wait_until("the message", || {
            let (delivered, published) = count();
            delivered.count() >= seq && published.count() >= seq
        })?;
        // Counted, and about to be added up.
        std::thread::sleep(Duration::from_micros(100));
        let (delivered, published) = count();
        let frame = runtime.block_on(self.channel.last()).filter(|frame| frame.seq() == seq);
        let frame = frame.ok_or("a message more or less than lines: the interval is too short")?;
        if (delivered.count(), published.count(), self.reads.len()) != (seq, seq, n + 1) {
            return Err("two lines in one: the interval is too short".into());
        }
        let read: Instant = self.reads.get(n).ok_or("nothing read")?;
        Ok(Way {
            until_publish: frame.published() - read,
            publish: growth(&published, &mut self.published),
            from_publish: growth(&delivered, &mut self.delivered),
        })
    }
}

fn growth(sum: &HistogramSum, before: &mut u64) -> Duration {
    let nanos = (sum.seconds() * 1e9).round() as u64;
    Duration::from_nanos(nanos - std::mem::replace(before, nanos))
}
