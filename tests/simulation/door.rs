//! Where the server's connections come from.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tickcast::server::Accept;
use tokio::sync::Notify;

use super::wire::Stream;

/// A listener without a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door(Arc<Knocks>);

#[derive(Debug, Default)]
struct Knocks {
    waiting: Mutex<VecDeque<(Stream, SocketAddr)>>,
    knocked: Notify,
}

impl Door {
    pub(crate) fn knock(&self, stream: Stream, client: usize) {
        let address = Ipv4Addr::from(0x0a00_0000 + client as u32);
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back((stream, (address, 1_000).into()));
        self.0.knocked.notify_one();
    }
}

impl Accept for Door {
    type Incoming = Stream;
    type Stream = Stream;

    async fn accept(&self) -> (Stream, SocketAddr) {
        loop {
            if let Some(knock) = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return knock;
            }
            self.0.knocked.notified().await;
        }
    }

    async fn open(incoming: Stream) -> io::Result<(Stream, Option<SocketAddr>)> {
        incoming.readable().await;
        Ok((incoming, None))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, 1).into())
    }
}
