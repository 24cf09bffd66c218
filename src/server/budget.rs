//! How many things may happen in a second: the generic cell rate algorithm, one atomic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A second's worth may be spent at once.
const BURST: Duration = Duration::from_secs(1);

/// An allowance that refills steadily. The source of the rule is ITU-T I.371, annex A.
#[derive(Debug)]
pub(super) struct Budget {
    origin: Instant,
    /// Nanoseconds each costs; zero if there is no limit.
    cost: u64,
    /// When all that was spent is earned again, in nanoseconds from the origin.
    spent_until: AtomicU64,
}

impl Budget {
    /// `rate` per second; zero is no limit.
    pub(super) fn new(rate: f64) -> Self {
        let cost = if rate > 0.0 { (1e9 / rate).round() as u64 } else { 0 };
        Self { origin: Instant::now(), cost, spent_until: AtomicU64::new(0) }
    }

    /// Spends one, or says for how long there is none.
    pub(super) fn spend(&self) -> Result<(), Duration> {
        if self.cost == 0 {
            return Ok(());
        }
        let now = self.origin.elapsed().as_nanos() as u64;
        // At least one may always be spent by who waited for it.
        let burst = (BURST.as_nanos() as u64).max(self.cost);
        let spend = |spent: u64| {
            let after = spent.max(now) + self.cost;
            (after <= now + burst).then_some(after)
        };
        // A count, which orders nothing else.
        match self.spent_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend) {
            Ok(_) => Ok(()),
            Err(spent) => Err(Duration::from_nanos((spent + self.cost).saturating_sub(now + burst))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_at_once_then_as_it_is_earned() {
        let budget = Budget::new(10.0);
        assert_eq!((0..20).filter(|_| budget.spend().is_ok()).count(), 10);
        let wait = budget.spend().expect_err("all is spent");
        assert_eq!(wait, Duration::from_millis(100));
        tokio::time::advance(wait).await;
        assert_eq!((0..20).filter(|_| budget.spend().is_ok()).count(), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..20).filter(|_| budget.spend().is_ok()).count(), 10, "nothing is saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit_and_rare_is_not_never() {
        let (free, rare) = (Budget::new(0.0), Budget::new(0.1));
        assert!((0..1_000).all(|_| free.spend().is_ok()));
        assert!(rare.spend().is_ok());
        tokio::time::advance(rare.spend().expect_err("one in ten seconds")).await;
        assert!(rare.spend().is_ok());
    }
}
