//! What happens in which order: a storm of arrivals, faults, calm, and the end.

use std::time::Duration;

use fastrand::Rng;
use tickcast::config::WsConfig;
use tickcast::fanout::Hub;
use tickcast::server::Shutdown;
use tickcast::source::SourceKind;
use tickcast::{Config, Server};
use tokio::sync::oneshot;

use super::agenda::{Event, Millis, Rules, Shared};
use super::checks::Summary;
use super::client::{Client, channel_name};
use super::door::Door;
use super::persona::Persona;
use super::world::{Publisher, Retired, World};

/// Everybody arrives within that.
const ARRIVALS: Millis = 5_000;
/// What the slowest needs for all that waits for it.
const CALM: Millis = 40_000;

/// How large a simulation is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) clients: usize,
    /// Until nothing happens any more; the end takes another minute.
    pub(crate) seconds: u64,
}

/// Runs one simulation to its end.
pub(crate) fn run(seed: u64, scale: Scale) -> Summary {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(simulate(seed, scale))
}

fn rules(rng: &mut Rng) -> Rules {
    Rules {
        ring: rng.u64(4..=50),
        interval: rng.u64(3_000..8_000),
        timeout: rng.u64(1_000..4_000),
        handshake: rng.u64(2_000..6_000),
        drain: rng.u64(2_000..6_000),
        write: [0, rng.u64(500..4_000)][rng.usize(0..2)],
        evict: [0, rng.u64(2_000..15_000)][rng.usize(0..2)],
    }
}

fn config(rules: &Rules, workers: usize) -> Config {
    let ws = WsConfig {
        queue_size: rules.ring as usize,
        heartbeat_interval: Duration::from_millis(rules.interval),
        heartbeat_timeout: Duration::from_millis(rules.timeout),
        write_timeout: Duration::from_millis(rules.write),
        evict_after: Duration::from_millis(rules.evict),
        ..WsConfig::default()
    };
    Config {
        source: SourceKind::None,
        ws,
        handshake_timeout: Duration::from_millis(rules.handshake),
        drain_timeout: Duration::from_millis(rules.drain),
        workers,
        ..Config::default()
    }
}

/// Everybody, and what will happen.
fn populate(hub: Hub, shared: Shared, door: Door, mut rng: Rng, scale: Scale) -> World {
    let channels = shared.lock().published.len();
    let publishers: Vec<_> = (0..channels)
        .map(|channel| {
            let channel = hub.channel(&channel_name(channel)).expect("a name");
            let smallest = rng.usize(1..100);
            let largest = smallest + rng.usize(0..500);
            Publisher { channel, rng: rng.fork(), every: rng.u64(50..=200), smallest, largest, alive: Vec::new() }
        })
        .collect();
    let clients = (0..scale.clients).map(|id| {
        let (channel, mut rng) = (rng.usize(0..channels), rng.fork());
        let Publisher { every, smallest, largest, .. } = &publishers[channel];
        let bytes_per_second = (smallest + largest) / 2 * 1_000 / *every as usize;
        let persona = Persona::new(&mut rng, bytes_per_second, *largest);
        let ears = rng.fork();
        Client { id, channel, persona, rng, ears, call: None, stalls_until: 0, fault: 0 }
    });
    let clients: Vec<_> = clients.collect();
    let calm_from = 1_000 * scale.seconds;
    let mut agenda = shared.lock();
    for channel in 0..channels {
        agenda.schedule(rng.u64(1..2 * ARRIVALS / 3), Event::Publish(channel));
    }
    for client in &clients {
        agenda.schedule(rng.u64(1..ARRIVALS), Event::Join(client.id));
        if let Some(every) = client.persona.fault_every {
            agenda.schedule(ARRIVALS + rng.u64(0..every), Event::Fault(client.id));
        }
        if client.persona.speaks {
            agenda.schedule(rng.u64(1..2 * ARRIVALS), Event::Speak(client.id));
        }
    }
    for _ in 0..scale.seconds / 20 {
        agenda.schedule(rng.u64(ARRIVALS..calm_from), Event::Partition(rng.usize(0..8), rng.u64(100..12_000)));
        // Heartbeats come due while it does not run.
        agenda.schedule(rng.u64(ARRIVALS..calm_from), Event::Pause(rng.u64(10..5_000)));
    }
    drop(agenda);
    World {
        hub,
        shared,
        door,
        rng,
        clients,
        publishers,
        lines: Vec::new(),
        past: Vec::new(),
        live: Vec::new(),
        retired: Retired::default(),
        next_check: 0,
        calm_from,
        publish_until: calm_from + 2_000,
        verified: 0,
    }
}

async fn simulate(seed: u64, scale: Scale) -> Summary {
    // The server's own, for the order in which it says Close.
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let rules = rules(&mut rng);
    let config = config(&rules, rng.usize(1..5));
    let shared = Shared::new(rules, rng.usize(3..7));
    let (hub, door) = (Hub::new(config.hub()), Door::default());
    let server = Server::with_listener(door.clone(), config, hub.clone()).expect("a channel");
    let (shutdown, shuts_down) = oneshot::channel();
    let server = tokio::spawn(server.run(async { shuts_down.await.unwrap_or(Shutdown::GoingAway) }));
    let mut world = populate(hub, shared, door, rng, scale);
    world.run(world.calm_from).await;
    world.run(world.calm_from + CALM).await;
    world.check_calm();
    // Some cannot take what comes next, and the server does not wait for them for ever.
    let now = world.calm_from + CALM;
    for id in 0..world.clients.len() {
        match world.rng.u32(0..20) {
            0 => world.stall(now, id, Millis::MAX / 2),
            1 => world.partition(now, id, Millis::MAX / 2),
            _ => {}
        }
    }
    for at in (now..now + 2_000).step_by(100) {
        world.run(at).await;
        (0..world.publishers.len()).for_each(|channel| world.publish(at, channel));
    }
    let now = now + 2_000;
    world.run(now).await;
    let (healthy, digest, killed) = (world.healthy(now), world.digest(), world.shared.lock().killed);
    world.shared.lock().draining = Some(now);
    let (how, code) = [(Shutdown::GoingAway, 1001), (Shutdown::Restart, 1012)][world.rng.usize(0..2)];
    shutdown.send(how).expect("it runs");
    world.run(now + rules.drain + 50).await;
    assert!(server.is_finished(), "the server drains for longer than it may");
    server.await.expect("no panic").expect("no writer died");
    world.run(now + rules.drain + 20_000).await;
    Summary { digest, killed, ..world.check_end(&healthy, code) }
}
