//! How much a client may say.

use tokio::time::Instant;

/// The same for all clients of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Largest message, fragments together.
    pub(super) max_message: usize,
    /// Frames in a second; zero is no limit.
    frames_per_second: u32,
    /// Seconds are counted from here.
    origin: Instant,
}

impl Allowance {
    pub(super) fn new(max_message: usize, frames_per_second: u32) -> Self {
        Self { max_message, frames_per_second, origin: Instant::now() }
    }
}

/// What one client has said in the second under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    second: u32,
    frames: u32,
}

impl Said {
    /// Counts frames; returns whether the client may have said them. Seconds are those of the shard's
    /// clock, so around the turn of one a client may say twice as much in a moment.
    pub(super) fn count(&mut self, frames: u32, allowance: &Allowance) -> bool {
        if frames == 0 || allowance.frames_per_second == 0 {
            return true;
        }
        let second = allowance.origin.elapsed().as_secs() as u32;
        if second != self.second {
            *self = Self { second, frames: 0 };
        }
        self.frames = self.frames.saturating_add(frames);
        self.frames <= allowance.frames_per_second
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_begins_anew() {
        let (allowance, mut said) = (Allowance::new(1, 3), Said::default());
        for _ in 0..4 {
            assert!(said.count(2, &allowance) && said.count(1, &allowance) && said.count(0, &allowance));
            assert!(!said.count(1, &allowance));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((0..1_000).all(|_| said.count(1, &Allowance::new(1, 0))));
    }
}
