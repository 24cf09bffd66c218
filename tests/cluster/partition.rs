//! An origin that is cut off from NATS, and not from its clients.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::nats::Nats;
use super::nodes::{Node, SIM};
use super::support::wait_until;
use super::takeover::SOON;
use super::witness::{Witness, assert_same_bytes};
use super::{beside_others, say};

/// What becomes of bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// They wait, and arrive when it is open again.
    Jammed,
    /// Connections are ended, and so is every new one.
    Cut,
}

#[derive(Default)]
struct State {
    way: Option<Way>,
    streams: Vec<TcpStream>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while it is jammed; false when it is cut.
    fn pass(&self) -> bool {
        let jammed = |state: &mut State| state.way == Some(Way::Jammed);
        let state = self.changed.wait_while(self.state(), jammed).unwrap_or_else(PoisonError::into_inner);
        state.way != Some(Way::Cut)
    }
}

/// A way to NATS that can be jammed or cut.
struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::<Shared>::default();
        let accepting = Arc::clone(&shared);
        // Ends with the process.
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Some(far) = accepting.pass().then(|| TcpStream::connect(target).ok()).flatten() else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let streams = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    let shared = Arc::clone(&accepting);
                    std::thread::spawn(move || carry(streams.0, streams.1, &shared));
                }
                accepting.state().streams.extend([near, far]);
            }
        });
        Self { address, shared }
    }

    fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    fn set(&self, way: Way) {
        let mut state = self.shared.state();
        state.way = Some(way);
        if way == Way::Cut {
            state.streams.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        self.shared.changed.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !shared.pass() || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// The active origin is cut off for a time, another one takes over, and then the way is open again.
fn cut_off(how: Way) {
    let nats = Nats::start();
    let proxy = Proxy::to(nats.address());
    let first = Node::start(&[&["--cluster-url", &proxy.url(), "--cluster-role", "origin"], &SIM[..]].concat());
    wait_until("an active origin", || first.is_active());
    let second = Node::origin(&nats, &SIM);
    let edge = Node::edge(&nats, &[]);
    let nodes = [&first, &second, &edge];
    nodes.into_iter().for_each(Node::wait_until_ready);
    let clients = nodes.map(|node| Witness::join(node, "market"));
    clients.iter().for_each(|client| drop(client.wait_for_count(10)));
    let since = Instant::now();
    proxy.set(how);
    let took = clients[2].wait_for_news(since);
    say(&format!("live again {:.2} s after the active origin was {how:?}", took.as_secs_f64()));
    assert!(took < SOON, "{took:?}");
    wait_until("the first steps down", || !first.is_active() && second.is_active());
    let why = first.wait_until_not_ready();
    assert!(why.contains("NATS") || why.contains("origin"), "{why}");
    // It has clients and nothing to tell them that would be true.
    let (count, others) = (clients[0].count(), clients[2].count());
    clients[2].wait_for_count(others + 60);
    assert_eq!(clients[0].count(), count, "a market of its own");
    assert!(clients[0].is_there());
    let newest = edge.seq("market");
    proxy.set(Way::Open);
    clients[0].wait_for_seq(newest);
    first.wait_until_ready();
    clients.iter().for_each(|client| drop(client.wait_for_count(client.count() + 40)));
    assert_same_bytes(&clients);
    assert!(second.is_active() && !first.is_active());
}

#[test]
fn an_origin_that_nats_does_not_answer_steps_down() {
    let _machine = beside_others();
    cut_off(Way::Jammed);
}

#[test]
fn an_origin_that_cannot_reach_nats_steps_down() {
    let _machine = beside_others();
    cut_off(Way::Cut);
}
