//! How many may be inside: connections in all, those of one address, those that have not made their
//! request yet. Decided when a connection arrives, undone when its [`Ticket`] is dropped.
//!
//! The counts are atomics; the table of addresses is behind a mutex that only arrivals and departures
//! take, and nobody if there is no limit per address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;

use crate::config::LimitsConfig;
use crate::metrics::{Gauge, Metrics};

/// Connections that are told why they are refused, at a time; the rest is dropped without a word.
const MAX_TOLD: u64 = 256;

/// Why somebody is not let in, or may not do something at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many connections as there may be.
    Connections,
    /// As many of one address as there may be.
    Address,
    /// As many that have not made their request yet as there may be.
    Handshakes,
    /// More publications than there may be in a second.
    PublishRate,
    /// As many channels as there may be.
    Channels,
}

impl Refusal {
    /// The label under which it is counted.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Handshakes => "handshakes",
            Self::PublishRate => "publish_rate",
            Self::Channels => "channels",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Address | Self::PublishRate => StatusCode::TOO_MANY_REQUESTS,
            Self::Connections | Self::Handshakes | Self::Channels => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the client reads, with the key that sets the limit.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Connections => "too many connections (limits.max_connections)",
            Self::Address => "too many connections from your address (limits.max_connections_per_ip)",
            Self::Handshakes => "too many handshakes at once (limits.max_handshakes)",
            Self::PublishRate => "too many publications a second (limits.publish_rate)",
            Self::Channels => "too many channels (publish.max_channels)",
        }
    }

    /// When it is worth trying again (RFC 9110 section 10.2.3): what empties within a second, what
    /// does when others leave.
    pub(super) fn retry_after(self) -> Duration {
        match self {
            Self::Handshakes | Self::PublishRate => Duration::from_secs(1),
            Self::Connections | Self::Address | Self::Channels => Duration::from_secs(10),
        }
    }
}

/// The counts behind the limits.
#[derive(Debug)]
pub(super) struct Admission {
    limits: LimitsConfig,
    metrics: Arc<Metrics>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    told: Gauge,
}

impl Admission {
    pub(super) fn new(limits: LimitsConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limits, metrics, by_address: Mutex::default(), told: Gauge::default() })
    }

    /// Lets a connection in, or counts its refusal.
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Result<Ticket, Refusal> {
        // Dropped on every way out, which undoes what was counted.
        let ticket = Ticket {
            admission: Arc::clone(self),
            peer: peer.ip(),
            peer_port: peer.port(),
            counted: Mutex::default(),
            has_arrived: AtomicBool::new(false),
        };
        let inside = self.metrics.open_connections.up();
        let arriving = self.metrics.handshakes.up();
        if exceeds(inside, self.limits.max_connections) {
            return Err(self.refuse(Refusal::Connections));
        }
        if exceeds(arriving, self.limits.max_handshakes) {
            return Err(self.refuse(Refusal::Handshakes));
        }
        // The addresses of a proxy's clients come later.
        if !self.is_trusted(peer.ip()) {
            ticket.set_client(peer.ip())?;
        }
        Ok(ticket)
    }

    /// Whether a peer's word about whom it speaks for is taken.
    pub(super) fn is_trusted(&self, peer: IpAddr) -> bool {
        self.limits.is_trusted(peer)
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, refusal: Refusal) -> Refusal {
        self.metrics.refused.add(refusal.reason());
        refusal
    }

    /// A place among those that are told why they are refused.
    pub(super) fn tell(self: &Arc<Self>) -> Option<Telling> {
        let telling = Telling(Arc::clone(self));
        (self.told.up() <= MAX_TOLD).then_some(telling)
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing under the lock can be left half done.
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, client: IpAddr) -> bool {
        let limit = self.limits.max_connections_per_ip;
        if limit == 0 {
            return true;
        }
        let mut addresses = self.addresses();
        let count = addresses.entry(network(client)).or_default();
        let enters = *count < limit;
        *count += usize::from(enters);
        enters
    }

    fn leave(&self, client: IpAddr) {
        if self.limits.max_connections_per_ip == 0 {
            return;
        }
        let mut addresses = self.addresses();
        if let Entry::Occupied(mut count) = addresses.entry(network(client)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if addresses.capacity() > 4 * addresses.len() + 64 {
            addresses.shrink_to_fit();
        }
    }
}

/// Zero is no limit.
fn exceeds(count: u64, limit: usize) -> bool {
    limit > 0 && count > limit as u64
}

/// What counts as one address: a household gets a whole /64 of IPv6 (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Who is counted for a connection.
#[derive(Debug, Default)]
struct Counted {
    /// Once it is known.
    client: Option<IpAddr>,
    for_good: bool,
}

impl Counted {
    fn replace(&mut self, admission: &Admission, client: IpAddr) -> Result<(), Refusal> {
        if self.client == Some(client) {
            return Ok(());
        }
        if !admission.enter(client) {
            return Err(admission.refuse(Refusal::Address));
        }
        if let Some(before) = self.client.replace(client) {
            admission.leave(before);
        }
        Ok(())
    }
}

/// Proof that a connection was let in, for as long as it is there.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    peer: IpAddr,
    peer_port: u16,
    counted: Mutex<Counted>,
    has_arrived: AtomicBool,
}

impl Ticket {
    /// The client: the peer, or whom a trusted proxy speaks for.
    pub(super) fn client(&self) -> SocketAddr {
        match self.counted().client {
            // A proxy says no port, or one that means nothing here.
            Some(client) if client != self.peer => (client, 0).into(),
            _ => (self.peer, self.peer_port).into(),
        }
    }

    /// Whom this connection speaks for, for good.
    pub(super) fn set_client(&self, client: IpAddr) -> Result<(), Refusal> {
        let mut counted = self.counted();
        counted.replace(&self.admission, client)?;
        counted.for_good = true;
        Ok(())
    }

    /// Whom one request speaks for: a proxy may use a connection for one client after the other. Nothing
    /// changes if the connection itself has told.
    pub(super) fn speak_for(&self, client: IpAddr) -> Result<(), Refusal> {
        let mut counted = self.counted();
        if counted.for_good { Ok(()) } else { counted.replace(&self.admission, client) }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        // Nothing under the lock can be left half done.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peer itself is a proxy that is trusted.
    pub(super) fn is_of_proxy(&self) -> bool {
        self.admission.is_trusted(self.peer)
    }

    /// Its first request is there.
    pub(super) fn arrive(&self) {
        // Only counts; nothing is read because of it.
        if !self.has_arrived.swap(true, Ordering::Relaxed) {
            self.admission.metrics.handshakes.down();
        }
    }

    /// Whether there was a request.
    pub(super) fn has_arrived(&self) -> bool {
        self.has_arrived.load(Ordering::Relaxed)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.arrive();
        self.admission.metrics.open_connections.down();
        if let Some(client) = self.counted().client.take() {
            self.admission.leave(client);
        }
    }
}

/// One of those that are told why they are refused.
#[derive(Debug)]
pub(super) struct Telling(Arc<Admission>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.told.down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limits: LimitsConfig) -> Arc<Admission> {
        Admission::new(limits, Arc::default())
    }

    fn peer(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 1_000))
    }

    #[test]
    fn what_leaves_makes_room() {
        let admission = admission(LimitsConfig { max_connections: 2, ..LimitsConfig::default() });
        let (first, _second) = (admission.admit(peer(1)).expect("room"), admission.admit(peer(1)).expect("room"));
        assert_eq!(admission.admit(peer(2)).err(), Some(Refusal::Connections));
        drop(first);
        let third = admission.admit(peer(2)).expect("room again");
        third.arrive();
        third.arrive();
        assert_eq!((admission.metrics.open_connections.get(), admission.metrics.handshakes.get()), (2, 1));
        assert_eq!(admission.metrics.refused.get()["connections"], 1);
    }

    #[test]
    fn handshakes_are_those_without_a_request() {
        let admission = admission(LimitsConfig { max_handshakes: 1, ..LimitsConfig::default() });
        let first = admission.admit(peer(1)).expect("room");
        assert_eq!(admission.admit(peer(2)).err(), Some(Refusal::Handshakes));
        first.arrive();
        assert!(admission.admit(peer(2)).is_ok());
    }

    #[test]
    fn addresses_are_counted_apart_and_forgotten() {
        let admission = admission(LimitsConfig { max_connections_per_ip: 1, ..LimitsConfig::default() });
        let first = admission.admit(peer(1)).expect("room");
        assert_eq!(admission.admit(peer(1)).err(), Some(Refusal::Address));
        let _other = admission.admit(peer(2)).expect("another address");
        drop(first);
        assert_eq!(admission.addresses().len(), 1);
        assert!(admission.admit(peer(1)).is_ok());
        let household = |host: u16| SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, host, 0, 0, 1).into(), 1_000);
        let _first = admission.admit(household(1)).expect("room");
        assert_eq!(admission.admit(household(2)).err(), Some(Refusal::Address));
        let mapped = "[::ffff:192.0.2.2]:5".parse().expect("an address");
        assert_eq!(admission.admit(mapped).err(), Some(Refusal::Address));
    }

    #[test]
    fn the_clients_of_a_proxy_are_counted_instead_of_it() {
        let trusted = vec!["192.0.2.0/24".parse().expect("a network")];
        let limits = LimitsConfig { max_connections_per_ip: 1, trusted_proxies: trusted, ..LimitsConfig::default() };
        let admission = admission(limits);
        let client = SocketAddr::from(([198, 51, 100, 7], 0));
        let first = admission.admit(peer(1)).expect("room");
        let second = admission.admit(peer(1)).expect("the proxy itself has no limit");
        assert_eq!((first.speak_for(client.ip()), first.client()), (Ok(()), client));
        assert_eq!(second.speak_for(client.ip()), Err(Refusal::Address));
        // The connection is used for another client.
        assert_eq!((first.speak_for(peer(9).ip()), first.client().ip()), (Ok(()), peer(9).ip()));
        assert_eq!(second.speak_for(client.ip()), Ok(()));
        assert_eq!(second.speak_for(peer(9).ip()), Err(Refusal::Address));
        assert_eq!(second.client().ip(), client.ip(), "it stays whom it was");
        // What the connection itself has told is not told again.
        assert_eq!(second.set_client(client.ip()), Ok(()));
        assert_eq!((second.speak_for(peer(7).ip()), second.client().ip()), (Ok(()), client.ip()));
        drop((first, second));
        assert!(admission.addresses().is_empty());
    }
}
