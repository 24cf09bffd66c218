//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with full jitter: a delay is anything from zero to a ceiling that doubles with each
/// failure. Whoever lost the feed at the same moment does not come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Ceilings from `base` to `cap`.
    pub(super) fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// The delay after one more failure.
    pub(super) fn after_failure(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(fastrand::f64())
    }

    /// All is well: the next failure is the first.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    fn ceiling(&self) -> Duration {
        self.base.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_cap_and_start_over() {
        let (base, cap) = (Duration::from_millis(250), Duration::from_secs(30));
        let mut backoff = Backoff::new(base, cap);
        for expected in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let expected = Duration::from_millis(expected);
            assert_eq!(backoff.ceiling(), expected);
            assert!(backoff.after_failure() <= expected);
        }
        (0..100).for_each(|_| assert!(backoff.after_failure() <= cap));
        backoff.reset();
        assert_eq!(backoff.ceiling(), base);
    }
}
