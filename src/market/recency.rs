//! Which updates of a live feed are news.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::state::MAX_SYMBOLS;
use super::update::{Change, Update};

/// How long a number may stand that nothing exceeds before lower ones are believed. Two connections are
/// seconds apart at the most.
const RESTART_AFTER: Duration = Duration::from_secs(10);
const KINDS: usize = 4;

/// The numbers of the last updates, by symbol and kind.
///
/// An update is news if its number is higher than the last one of its symbol and kind, or if it has none. Otherwise it has
/// come before, over another connection of the same feed or the same one, and is not applied again.
///
/// Numbers may start over at the exchange, and that must not silence a symbol. So a number that is not higher is believed all
/// the same
/// * on a later connection, with a later time by the exchange's clock: what was sent before cannot have that; or
/// * when nothing higher has come for ten seconds, whatever its time and connection: a duplicate is not that late.
#[derive(Debug, Default)]
pub struct Recency {
    symbols: HashMap<Box<str>, [Option<Seen>; KINDS]>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    id: u64,
    ts: Option<u64>,
    connection: u64,
    at: Instant,
}

impl Recency {
    /// Whether `update`, which connection number `connection` has brought at `now`, is news; then it is the last of its kind.
    pub fn is_news(&mut self, update: &Update<'_>, connection: u64, now: Instant) -> bool {
        let Some(id) = update.id else { return true };
        let seen = Seen { id, ts: update.ts, connection, at: now };
        let kind = kind(&update.change);
        let Some(kinds) = self.symbols.get_mut(update.symbol) else {
            // The market takes no more symbols either.
            if self.symbols.len() < MAX_SYMBOLS {
                let mut kinds = [None; KINDS];
                kinds[kind] = Some(seen);
                self.symbols.insert(update.symbol.into(), kinds);
            }
            return true;
        };
        let is_news = kinds[kind].is_none_or(|last| id > last.id || last.is_outdated_by(&seen));
        if is_news {
            kinds[kind] = Some(seen);
        }
        is_news
    }
}

impl Seen {
    /// Whether the numbers have started over.
    fn is_outdated_by(&self, other: &Self) -> bool {
        let is_later = self.ts.zip(other.ts).is_some_and(|(before, ts)| ts > before);
        (other.connection > self.connection && is_later) || other.at.duration_since(self.at) >= RESTART_AFTER
    }
}

fn kind(change: &Change) -> usize {
    match change {
        Change::Quote { .. } => 0,
        Change::Trade { aggregated: false, .. } => 1,
        Change::Trade { aggregated: true, .. } => 2,
        Change::Depth => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal::Decimal;

    fn quote(id: u64, ts: Option<u64>) -> Update<'static> {
        let one = Decimal::ONE;
        let change = Change::Quote { bid: one, bid_size: one, ask: one, ask_size: one };
        Update { symbol: "X", ts, id: Some(id), change }
    }

    #[test]
    fn only_higher_numbers_are_news_for_each_symbol_and_kind() {
        let (mut recency, now) = (Recency::default(), Instant::now());
        for (id, expected) in [(5, true), (5, false), (4, false), (6, true), (5, false), (100, true)] {
            assert_eq!(recency.is_news(&quote(id, None), 1, now), expected, "{id}");
        }
        assert!(recency.is_news(&Update { symbol: "Y", ..quote(5, None) }, 1, now));
        for aggregated in [false, true] {
            let change = Change::Trade { price: Decimal::ONE, quantity: Decimal::ONE, trades: 1, aggregated };
            let trade = Update { change, ..quote(5, None) };
            assert!(recency.is_news(&trade, 1, now));
            assert!(!recency.is_news(&trade, 2, now));
        }
        let depth = Update { change: Change::Depth, ..quote(5, None) };
        assert!(recency.is_news(&depth, 1, now) && !recency.is_news(&depth, 1, now));
        let unnumbered = Update { id: None, ..depth };
        assert!(recency.is_news(&unnumbered, 1, now) && recency.is_news(&unnumbered, 1, now));
    }

    #[test]
    fn numbers_that_start_over_on_a_later_connection_are_believed() {
        let (mut recency, now) = (Recency::default(), Instant::now());
        assert!(recency.is_news(&quote(1_000, Some(50)), 1, now));
        // The same connection, an earlier time, the same time, no time: what was seen before.
        for (id, ts, connection) in [(7, Some(60), 1), (7, Some(49), 2), (7, Some(50), 2), (7, None, 2)] {
            assert!(!recency.is_news(&quote(id, ts), connection, now), "{id} {ts:?} {connection}");
        }
        assert!(recency.is_news(&quote(7, Some(60)), 2, now));
        assert!(recency.is_news(&quote(8, Some(60)), 2, now));
        // What the old connection still brings is higher, and so it is believed, once; and then what is new again.
        assert!(recency.is_news(&quote(1_001, Some(51)), 1, now));
        assert!(recency.is_news(&quote(9, Some(61)), 2, now));
    }

    #[test]
    fn a_number_that_nothing_exceeds_does_not_stand_for_ever() {
        let (mut recency, now) = (Recency::default(), Instant::now());
        assert!(recency.is_news(&quote(1_000, None), 1, now));
        assert!(!recency.is_news(&quote(7, None), 1, now + RESTART_AFTER / 2));
        assert!(recency.is_news(&quote(7, None), 1, now + RESTART_AFTER));
        assert!(!recency.is_news(&quote(7, None), 1, now + RESTART_AFTER));
    }
}
