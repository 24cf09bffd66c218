//! The source's side: lines, the pace at which they come, and when they have been read.

use std::io::{self, PipeReader, Write};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tickcast::config::SimConfig;
use tickcast::source::{Lines, Pipe, Sim};
use tokio::io::{AsyncRead, ReadBuf};

use crate::Result;
use crate::plan::Plan;

/// Moments, in order, seen by several threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamps(Arc<Mutex<Vec<Instant>>>);

impl Stamps {
    pub(crate) fn push(&self, at: Instant) {
        self.lock().push(at);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn get(&self, n: usize) -> Option<Instant> {
        self.lock().get(n).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end of a pipe as the server opens it; says when each read has returned.
#[derive(Debug)]
pub(crate) struct Stamped {
    pipe: Pipe,
    reads: Stamps,
}

impl Stamped {
    /// Inside the runtime that is to read.
    pub(crate) fn open(pipe: &PipeReader) -> Result<(Self, Stamps)> {
        let path = format!("/dev/fd/{}", pipe.as_raw_fd());
        let reads = Stamps::default();
        Ok((Self { pipe: Pipe::open(path.as_ref())?, reads: reads.clone() }, reads))
    }
}

impl AsyncRead for Stamped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.pipe).poll_read(cx, buffer);
        if read.is_ready() {
            self.reads.push(Instant::now());
        }
        read
    }
}

/// Lines of the synthetic market, with their ends.
pub(crate) fn make(plan: &Plan) -> Result<Vec<Vec<u8>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let count = plan.warm_up + plan.messages;
    // A rate at which it never waits.
    let mut sim = Sim::new(&SimConfig { symbols: plan.symbols as u64, rate: 1e9, seed: 1 });
    let (mut all, mut due) = (Vec::new(), Lines::default());
    while all.len() < count {
        runtime.block_on(sim.next(&mut due));
        all.extend(due.iter_mut().map(|line| [&*line, b"\n"].concat()));
    }
    all.truncate(count);
    Ok(all)
}

/// Writes one line each interval, and halfway has `look` at what became of it. Returns when each was
/// about to be written.
pub(crate) fn drive(
    plan: &Plan,
    lines: &[Vec<u8>],
    pipe: &mut impl Write,
    mut look: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Instant>> {
    let mut written = Vec::with_capacity(lines.len());
    for (n, line) in lines.iter().enumerate() {
        written.push(Instant::now());
        pipe.write_all(line)?;
        std::thread::sleep(plan.interval / 2);
        look(n)?;
        std::thread::sleep(plan.interval / 2);
    }
    Ok(written)
}

/// Waits until `there` says so.
pub(crate) fn wait_until(what: &str, mut there: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !there() {
        if start.elapsed().as_secs() >= 20 {
            return Err(format!("{what} did not come").into());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(())
}
