//! One connection: two flows, and the server's end of it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::agenda::{Event, Millis, Shared, Way};
use super::audit::Audit;
use super::flow::Flow;

/// Both ends and all between them.
#[derive(Debug)]
pub(crate) struct Wire {
    id: usize,
    pub(crate) client: usize,
    pub(crate) down: Flow,
    pub(crate) up: Flow,
    pub(crate) audit: Audit,
    rng: Rng,
    /// Nothing gets through until then.
    pub(crate) cut_until: Millis,
    /// What is read and written here goes in pieces of any size.
    splits: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The server's end is gone, the client's as well.
    server_gone: bool,
    pub(crate) client_gone: bool,
    /// Bytes were thrown away.
    pub(crate) is_lossy: bool,
    /// Where in the stream of the client its Pongs and its Close end.
    pub(crate) pongs: VecDeque<u64>,
    pub(crate) close: Option<u64>,
}

/// A handle on it.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<Mutex<Wire>>);

impl Line {
    pub(crate) fn new(id: usize, client: usize, flows: (Flow, Flow), audit: Audit, rng: Rng, splits: bool) -> Self {
        let (down, up) = flows;
        Self(Arc::new(Mutex::new(Wire {
            id,
            client,
            down,
            up,
            audit,
            rng,
            cut_until: 0,
            splits,
            reader: None,
            writer: None,
            server_gone: false,
            client_gone: false,
            is_lossy: false,
            pongs: VecDeque::new(),
            close: None,
        })))
    }

    /// Never while the agenda is locked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// Sends what a flow's window allows.
    fn pump(&mut self, way: Way, shared: &Shared) {
        let mut agenda = shared.lock();
        let flow = if way == Way::Down { &mut self.down } else { &mut self.up };
        if let Some(at) = flow.pump(agenda.now()) {
            agenda.schedule(at, Event::Arrive(self.id, way));
        }
    }

    /// Something comes to an end of the wire.
    pub(crate) fn arrive(&mut self, way: Way, shared: &Shared) {
        let now = shared.lock().now();
        let gets_through = now >= self.cut_until;
        let flow = if way == Way::Down { &mut self.down } else { &mut self.up };
        if let Some(at) = flow.arrive(now, gets_through) {
            shared.lock().schedule(at, Event::Arrive(self.id, way));
        }
        match way {
            Way::Up => self.arrive_up(now, shared),
            Way::Down => self.arrive_down(now, shared),
        }
    }

    fn arrive_up(&mut self, now: Millis, shared: &Shared) {
        let arrived = self.up.total_arrived;
        while self.pongs.pop_front_if(|end| *end <= arrived).is_some() {
            self.audit.ponged_at = Some(now);
        }
        let leaves = self.up.has_ended() || self.close.is_some_and(|end| end <= arrived);
        if leaves && self.audit.dropped_at.is_none() {
            self.audit.leaves_at.get_or_insert(now);
        }
        if self.server_gone && self.up.unread() > 0 {
            // Nobody reads that any more, and a kernel says so.
            self.up.discard();
            self.is_lossy |= self.down.reset();
            self.pump(Way::Down, shared);
        }
        if self.up.was_reset() {
            self.is_lossy |= self.down.discard();
            self.writer.take().into_iter().for_each(Waker::wake);
        }
        if self.up.unread() > 0 || self.up.has_ended() {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    fn arrive_down(&mut self, now: Millis, shared: &Shared) {
        if self.client_gone && self.down.unread() > 0 {
            self.down.discard();
            self.is_lossy = true;
            self.up.reset();
            self.pump(Way::Up, shared);
        }
        if self.audit.is_blocked && self.down.has_much_room() {
            self.audit.is_blocked = false;
            self.audit.writable_at = now;
            self.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    /// The client says something, if there is room for all of it. Returns where that ends.
    pub(crate) fn say(&mut self, bytes: Vec<u8>, shared: &Shared) -> Option<u64> {
        if !self.up.is_open() || self.up.room() < bytes.len() {
            return None;
        }
        self.up.push(Bytes::from(bytes));
        self.pump(Way::Up, shared);
        Some(self.up.total_sent)
    }

    /// The client reads.
    pub(crate) fn hear(&mut self, most: usize, shared: &Shared) -> Option<Bytes> {
        let bytes = self.down.read(most)?;
        self.pump(Way::Down, shared);
        Some(bytes)
    }

    /// The client has said everything.
    pub(crate) fn half_close(&mut self, shared: &Shared) {
        self.up.shut_down();
        self.pump(Way::Up, shared);
    }

    /// The client goes. A kernel that still holds something for it says so.
    pub(crate) fn hang_up(&mut self, resets: bool, shared: &Shared) {
        self.client_gone = true;
        if self.down.unread() > 0 || resets {
            self.down.discard();
            self.is_lossy = true;
            self.up.reset();
        }
        self.half_close(shared);
    }
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct Stream {
    line: Line,
    shared: Shared,
}

impl Stream {
    pub(crate) fn new(line: Line, shared: Shared) -> Self {
        Self { line, shared }
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) {
        std::future::poll_fn(|cx| {
            let mut wire = self.line.lock();
            if wire.up.unread() > 0 || wire.up.has_ended() {
                return Poll::Ready(());
            }
            wire.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.line.lock();
        let wire = &mut *wire;
        if wire.up.was_reset() || !wire.down.is_open() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if wire.audit.is_blocked || wire.down.room() == 0 {
            wire.audit.block(&self.shared.lock());
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offered > 0, "a write of nothing");
        let most = offered.min(wire.down.room());
        let taken = if wire.splits && wire.rng.bool() { wire.rng.usize(1..=most) } else { most };
        let mut bytes = BytesMut::with_capacity(taken);
        for slice in slices {
            let len = slice.len().min(taken - bytes.len());
            bytes.extend_from_slice(&slice[..len]);
        }
        wire.audit.take(&bytes, taken == offered, &mut self.shared.lock());
        wire.down.push(bytes.freeze());
        wire.pump(Way::Down, &self.shared);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.line.lock();
        wire.down.shut_down();
        wire.pump(Way::Down, &self.shared);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.line.lock();
        if wire.up.was_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut most = buffer.remaining();
        if wire.splits {
            most = [1, wire.rng.usize(1..=most), most][wire.rng.usize(0..3)];
        }
        match wire.up.read(most) {
            Some(bytes) => {
                buffer.put_slice(&bytes);
                wire.pump(Way::Up, &self.shared);
            }
            None if wire.up.has_ended() => {}
            None => {
                wire.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut wire = self.line.lock();
        wire.audit.end(&mut self.shared.lock());
        wire.server_gone = true;
        (wire.reader, wire.writer) = (None, None);
        if wire.up.unread() > 0 {
            // As a kernel does when it closes what was not read.
            wire.up.discard();
            wire.is_lossy |= wire.down.reset();
        } else {
            wire.down.shut_down();
        }
        wire.pump(Way::Down, &self.shared);
    }
}
