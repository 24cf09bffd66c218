//! A connection under a test's thumb: it takes some bytes, blocks, fails, and says what it is told to.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::admission::{Admission, Ticket};
use crate::config::LimitsConfig;

/// A clone is another handle on the same connection.
#[derive(Clone, Debug)]
pub(super) struct Fake(Arc<Mutex<Wire>>);

#[derive(Debug)]
pub(super) struct Wire {
    rng: Rng,
    /// What it took that the test has not looked at.
    pub(super) written: Vec<u8>,
    /// Bytes it takes before it blocks.
    room: usize,
    /// Bytes beyond that which it takes and holds back until it is flushed, as encryption does; 0 = none.
    most_held: usize,
    pub(super) held: VecDeque<u8>,
    fails: bool,
    incoming: VecDeque<u8>,
    at_end: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    pub(super) is_shut_down: bool,
}

impl Fake {
    /// Takes nothing at first.
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Wire {
            rng: Rng::with_seed(seed),
            written: Vec::new(),
            room: 0,
            most_held: 0,
            held: VecDeque::new(),
            fails: false,
            incoming: VecDeque::new(),
            at_end: false,
            reader: None,
            writer: None,
            is_shut_down: false,
        })))
    }

    /// The same, or one that holds back up to some number of bytes, as the seed will.
    pub(super) fn any(seed: u64) -> Self {
        let most = [0, 0, 30, 1_000, 20_000][Rng::with_seed(seed).usize(..5)];
        Self::holding(seed, most)
    }

    /// One that holds back up to `most` bytes.
    pub(super) fn holding(seed: u64, most: usize) -> Self {
        let fake = Self::new(seed);
        fake.wire().most_held = most;
        fake
    }

    pub(super) fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().expect("no panic under the lock")
    }

    /// Takes `room` bytes more.
    pub(super) fn open(&self, room: usize) {
        let mut wire = self.wire();
        wire.room = wire.room.saturating_add(room);
        if wire.room > 0 {
            wire.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    /// The peer says something.
    pub(super) fn say(&self, bytes: &[u8]) {
        let mut wire = self.wire();
        wire.incoming.extend(bytes);
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    /// The peer says nothing more.
    pub(super) fn end(&self) {
        let mut wire = self.wire();
        wire.at_end = true;
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    /// Everything fails from here on.
    pub(super) fn fail(&self) {
        let mut wire = self.wire();
        wire.fails = true;
        let Wire { reader, writer, .. } = &mut *wire;
        reader.take().into_iter().chain(writer.take()).for_each(Waker::wake);
    }
}

impl Wire {
    /// Whether all that the peer said was read.
    pub(super) fn has_been_read(&self) -> bool {
        self.incoming.is_empty()
    }

    /// Lets go of what is held back, as far as there is room.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fails {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let let_go = self.held.len().min(self.room);
        self.room -= let_go;
        self.written.extend(self.held.drain(..let_go));
        if self.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes what fits into what may be held back, lets go of what there is room for; more than once, if that
    /// makes room.
    fn hold(&mut self, cx: &mut Context<'_>, mut bytes: impl Iterator<Item = u8>) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        loop {
            let before = self.held.len();
            self.held.extend(bytes.by_ref().take(self.most_held - before));
            let some = self.held.len() - before;
            taken += some;
            let flushed = self.flush(cx);
            match flushed {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if some > 0 && self.rng.u32(..50) > 0 => {}
                Poll::Pending if taken == 0 => return Poll::Pending,
                _ if taken > 0 => return Poll::Ready(Ok(taken)),
                _ => {}
            }
        }
    }
}

impl AsyncWrite for Fake {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.wire();
        if wire.fails {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offered > 0, "a write of nothing");
        if wire.most_held > 0 {
            return wire.hold(cx, slices.iter().flat_map(|slice| slice.iter().copied()));
        }
        if wire.room == 0 {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = offered.min(wire.room);
        // All that there is room for, as kernels do, or any part of it, as they may.
        let taken = if wire.rng.bool() { most } else { wire.rng.usize(1..=most) };
        wire.room -= taken;
        let bytes = slices.iter().flat_map(|slice| slice.iter()).take(taken);
        wire.written.extend(bytes);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.wire();
        ready!(wire.flush(cx))?;
        wire.is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Fake {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.wire();
        if wire.fails {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if wire.incoming.is_empty() {
            if wire.at_end {
                return Poll::Ready(Ok(()));
            }
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = wire.incoming.len().min(buffer.remaining());
        let some = wire.rng.usize(1..=most);
        let bytes: Vec<u8> = wire.incoming.drain(..some).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

/// A frame of a server, taken off the front of `bytes`: opcode and payload. `None` if it is not whole.
pub(super) fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (head, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().expect("two bytes")))),
        127 => panic!("no test sends that much"),
        len => (2, usize::from(len)),
    };
    let first = bytes[0];
    assert_eq!(first & 0xf0, 0x80, "final, nothing reserved");
    let payload = bytes.get(head..head + len)?.to_vec();
    bytes.drain(..head + len);
    Some((first & 0x0f, payload))
}

/// The ticket of somebody who was let in.
pub(super) fn ticket() -> Ticket {
    let admission = Admission::new(LimitsConfig::default(), Arc::default());
    admission.admit(([127, 0, 0, 1], 1).into()).expect("the first one")
}

/// A small frame of a client.
pub(super) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x80 | payload.len() as u8, 0, 0, 0, 0];
    [&[0x80 | opcode], &mask[..], payload].concat()
}
