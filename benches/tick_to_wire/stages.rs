//! The same pieces in two tasks, with the time taken between them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tickcast::fanout::{Channel, Frame, Hub, Message, Rounds, Shard};
use tickcast::market::{MarketState, SnapshotWriter};
use tickcast::source::{Decoder, Feed, Lines, Next, Rejections, Stdin};

use crate::lines::{Stamped, Stamps, drive, wait_until};
use crate::plan::Plan;
use crate::table::print_row;
use crate::{Result, client};

/// When the publishing task had done what.
struct Published {
    handed_over: Instant,
    decoded: Instant,
    applied: Instant,
    serialised: Instant,
    published: Instant,
    message: Message,
}

/// When the writing task was awake, and when it had written.
struct Written {
    woken: Instant,
    written: Instant,
}

type Log<T> = Arc<Mutex<Vec<T>>>;

fn locked<T>(log: &Log<T>) -> MutexGuard<'_, Vec<T>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn len<T>(log: &Log<T>) -> usize {
    locked(log).len()
}

/// Takes the entry out if there is one and no other.
fn only<T>(log: &Log<T>) -> Option<T> {
    let mut log = locked(log);
    if log.len() == 1 { log.pop() } else { None }
}

const STAGES: [&str; 8] =
    ["hand-over", "decode", "state", "snapshot", "frame (estimate)", "ring (estimate)", "wake-up", "write"];

pub(crate) fn measure(plan: &Plan, lines: &[Vec<u8>]) -> Result<()> {
    let runtime = plan.runtime()?;
    let hub = Hub::default();
    let channel = hub.channel("market")?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let _frames = client::read(std::net::TcpStream::connect(listener.local_addr()?)?);
    let (socket, _) = listener.accept()?;
    let (reader, mut writer) = std::io::pipe()?;
    let (publishes, writes) = (Log::default(), Log::default());
    let reads = {
        let _inside = runtime.enter();
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpStream::from_std(socket)?;
        let shard = hub.add_shard();
        let mut rounds = hub.rounds(&shard);
        rounds.register(0, channel.join(&shard)).ok_or("nobody else is inside")?;
        tokio::spawn(write(shard, rounds, socket, Arc::clone(&writes)));
        let (input, reads) = Stamped::open(&reader)?;
        let feed = Feed::Stdin(Stdin::from_reader(input));
        tokio::spawn(publish(hub, channel, feed, Arc::clone(&publishes)));
        reads
    };
    let mut stages: Vec<[Duration; 8]> = Vec::with_capacity(lines.len());
    drive(plan, lines, &mut writer, |n| {
        stages.push(stages_of(n, &reads, &publishes, &writes)?);
        Ok(())
    })?;
    drop(writer);
    runtime.shutdown_background();
    print(plan.counted(&stages));
    Ok(())
}

fn print(stages: &[[Duration; 8]]) {
    println!("the same pieces, one by one");
    for (n, name) in STAGES.iter().enumerate() {
        let times: Vec<_> = stages.iter().map(|stages| stages[n]).collect();
        print_row(&format!("  {name}"), &times);
    }
    let sums: Vec<_> = stages.iter().map(|stages| stages.iter().sum()).collect();
    print_row("  sum", &sums);
}

fn stages_of(n: usize, reads: &Stamps, publishes: &Log<Published>, writes: &Log<Written>) -> Result<[Duration; 8]> {
    wait_until("the message", || len(writes) > 0 && len(publishes) > 0)?;
    let Written { woken, written } = only(writes).ok_or("two writes for one line")?;
    let at = only(publishes).ok_or("two lines at once")?;
    let read = reads.get(n).ok_or("nothing read")?;
    let start = Instant::now();
    let frame = Frame::new(at.message, n as u64 + 1, start, Arc::default());
    let framing = start.elapsed();
    drop(frame);
    // The writer may be awake before the call is over.
    let publish = at.published.min(woken) - at.serialised;
    let framing = framing.min(publish);
    Ok([
        at.handed_over - read,
        at.decoded - at.handed_over,
        at.applied - at.decoded,
        at.serialised - at.applied,
        framing,
        publish - framing,
        woken.saturating_duration_since(at.published),
        written - woken,
    ])
}

async fn publish(hub: Hub, channel: Channel, mut feed: Feed, log: Log<Published>) {
    let mut rejections = Rejections::new(Arc::clone(hub.metrics()));
    let (mut lines, mut decoder) = (Lines::default(), Decoder::default());
    let (mut state, mut writer) = (MarketState::default(), SnapshotWriter::default());
    while feed.next(&mut lines, &mut rejections).await == Next::Lines {
        let handed_over = Instant::now();
        for line in lines.iter_mut() {
            let update = decoder.decode(line).expect("of the synthetic market");
            let decoded = Instant::now();
            state.apply(&update).expect("few symbols");
            let applied = Instant::now();
            let ts = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let message = writer.write(&state, ts.as_micros() as u64);
            let serialised = Instant::now();
            channel.publish(message.clone()).expect("alone");
            let published = Instant::now();
            locked(&log).push(Published { handed_over, decoded, applied, serialised, published, message });
        }
    }
}

async fn write(shard: Arc<Shard>, mut rounds: Rounds, socket: tokio::net::TcpStream, log: Log<Written>) {
    // Else the first write would find that nobody has asked yet.
    socket.writable().await.expect("connected");
    loop {
        shard.wait().await;
        let woken = Instant::now();
        rounds.collect();
        while let Some(delivery) = rounds.next_delivery() {
            for frame in delivery.frames {
                let sent = socket.try_write(frame.wire()).expect("the client keeps up");
                assert_eq!(sent, frame.wire().len(), "the client keeps up");
            }
            locked(&log).push(Written { woken, written: Instant::now() });
        }
    }
}
