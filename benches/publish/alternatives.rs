//! What is usually written instead. Each frames the message once, as the engine does, and gives a
//! reference to the bytes to a queue for each subscriber.

use std::collections::HashMap;
use std::sync::RwLock;

use bytes::Bytes;
use dashmap::DashMap;
use divan::black_box;
use fastwebsockets::{Frame, OpCode, Payload};
use tokio::sync::{broadcast, mpsc};

use crate::{CAPACITY, FanOut, PAYLOAD};

/// Head and payload in one allocation.
fn framed(payload: &[u8]) -> Bytes {
    let mut head = [0; 14];
    let len = Frame::new(true, OpCode::Binary, None, Payload::Borrowed(payload)).fmt_head(&mut head);
    let mut wire = Vec::with_capacity(len + payload.len());
    wire.extend_from_slice(&head[..len]);
    wire.extend_from_slice(payload);
    Bytes::from(wire)
}

fn payload() -> Bytes {
    Bytes::from(vec![b'x'; PAYLOAD])
}

/// `tokio::sync::broadcast`: one queue for all; a receiver that lags is told how many it lost.
pub(crate) struct Broadcast {
    sender: broadcast::Sender<Bytes>,
    receivers: Vec<broadcast::Receiver<Bytes>>,
    payload: Bytes,
}

impl FanOut for Broadcast {
    fn new(subscribers: usize) -> Self {
        let (sender, _) = broadcast::channel(CAPACITY);
        let receivers = (0..subscribers).map(|_| sender.subscribe()).collect();
        Self { sender, receivers, payload: payload() }
    }

    fn publish(&mut self) {
        self.sender.send(framed(&self.payload)).expect("there are receivers");
    }

    fn drain(&mut self) {
        for receiver in &mut self.receivers {
            while let Ok(frame) = receiver.try_recv() {
                drop(black_box(frame));
            }
        }
    }
}

fn take_all(receivers: &mut [mpsc::Receiver<Bytes>]) {
    for receiver in receivers {
        while let Ok(frame) = receiver.try_recv() {
            drop(black_box(frame));
        }
    }
}

/// A bounded `mpsc` for each client; whoever joins or leaves takes the lock that publishing reads
/// under.
pub(crate) struct MpscInLockedMap {
    senders: RwLock<HashMap<usize, mpsc::Sender<Bytes>>>,
    receivers: Vec<mpsc::Receiver<Bytes>>,
    payload: Bytes,
}

impl FanOut for MpscInLockedMap {
    fn new(subscribers: usize) -> Self {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..subscribers).map(|_| mpsc::channel(CAPACITY)).unzip();
        let senders = RwLock::new(senders.into_iter().enumerate().collect());
        Self { senders, receivers, payload: payload() }
    }

    fn publish(&mut self) {
        let frame = framed(&self.payload);
        for sender in self.senders.read().expect("no panic").values() {
            // Full: this subscriber loses the newest.
            let _ = sender.try_send(frame.clone());
        }
    }

    fn drain(&mut self) {
        take_all(&mut self.receivers);
    }
}

/// The same in a map that is locked in parts.
pub(crate) struct MpscInDashMap {
    senders: DashMap<usize, mpsc::Sender<Bytes>>,
    receivers: Vec<mpsc::Receiver<Bytes>>,
    payload: Bytes,
}

impl FanOut for MpscInDashMap {
    fn new(subscribers: usize) -> Self {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..subscribers).map(|_| mpsc::channel(CAPACITY)).unzip();
        Self { senders: senders.into_iter().enumerate().collect(), receivers, payload: payload() }
    }

    fn publish(&mut self) {
        let frame = framed(&self.payload);
        for sender in &self.senders {
            let _ = sender.try_send(frame.clone());
        }
    }

    fn drain(&mut self) {
        take_all(&mut self.receivers);
    }
}
