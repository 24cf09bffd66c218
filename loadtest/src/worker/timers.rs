//! When a worker has to do something although no socket says so. All in nanoseconds since the epoch.

use std::collections::VecDeque;
use std::time::Duration;

use super::SLOW_TICK;

/// How long a client that is to return waits after a failed attempt.
const RETRY_AFTER: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Start, length, connections in all, next one.
    ramp: Option<(u64, u64, usize, usize)>,
    /// All wait equally long, so the first in is the first due.
    retries: VecDeque<(u64, usize)>,
    /// The same.
    deadlines: VecDeque<(u64, usize, u32)>,
    slow: Option<u64>,
    stop: Option<u64>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Timers {
    /// How long nothing is due.
    pub(super) fn next(&self, now: u64) -> Option<Duration> {
        let ramp = self.ramp.map(Self::due);
        let retry = self.retries.front().map(|(due, _)| *due);
        let deadline = self.deadlines.front().map(|(due, ..)| *due);
        let first = [ramp, retry, deadline, self.slow, self.stop].into_iter().flatten().min()?;
        Some(Duration::from_nanos(first.saturating_sub(now)))
    }

    fn due((start, length, total, next): (u64, u64, usize, usize)) -> u64 {
        start + (u128::from(length) * next as u128 / total as u128) as u64
    }

    pub(super) fn ramp(&mut self, now: u64, over: Duration, total: usize) {
        self.ramp = (total > 0).then(|| (now, nanos(over), total, 0));
    }

    pub(super) fn due_connect(&mut self, now: u64) -> Option<usize> {
        let ramp = self.ramp.filter(|ramp| Self::due(*ramp) <= now)?;
        let (start, length, total, at) = ramp;
        self.ramp = (at + 1 < total).then_some((start, length, total, at + 1));
        Some(at)
    }

    pub(super) fn retry(&mut self, now: u64, at: usize) {
        self.retries.push_back((now + nanos(RETRY_AFTER), at));
    }

    pub(super) fn due_retry(&mut self, now: u64) -> Option<usize> {
        self.retries.pop_front_if(|(due, _)| *due <= now).map(|(_, at)| at)
    }

    pub(super) fn deadline(&mut self, now: u64, after: Duration, at: usize, generation: u32) {
        self.deadlines.push_back((now + nanos(after), at, generation));
    }

    pub(super) fn due_deadline(&mut self, now: u64) -> Option<(usize, u32)> {
        self.deadlines.pop_front_if(|(due, ..)| *due <= now).map(|(_, at, generation)| (at, generation))
    }

    pub(super) fn slow(&mut self, now: u64, on: bool) {
        self.slow = on.then(|| now + nanos(SLOW_TICK));
    }

    pub(super) fn slow_is_due(&mut self, now: u64) -> bool {
        match &mut self.slow {
            Some(due) if *due <= now => {
                // On a schedule of its own: being late once is made up for.
                *due += nanos(SLOW_TICK);
                true
            }
            _ => false,
        }
    }

    /// Nothing but the end is waited for.
    pub(super) fn stop(&mut self, now: u64, after: Duration) {
        *self = Self { stop: Some(now + nanos(after)), ..Self::default() };
    }

    pub(super) fn stop_is_due(&self, now: u64) -> bool {
        self.stop.is_some_and(|due| due <= now)
    }
}
