//! The state of the market: one writer applies updates, a snapshot reads it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::update::{Change, Update};

/// Symbols there may be; a feed with more is not one market but an attack on memory.
pub const MAX_SYMBOLS: usize = 20_000;

/// The figures of every symbol seen, by name.
#[derive(Debug, Default)]
pub struct MarketState {
    symbols: BTreeMap<Box<str>, Symbol>,
}

/// One symbol's figures. What is not known yet is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Symbol {
    /// Price of the last trade.
    pub last: Option<Decimal>,
    /// Best bid.
    pub bid: Option<Decimal>,
    /// Best ask.
    pub ask: Option<Decimal>,
    /// Quantity at the best bid.
    pub bid_size: Option<Decimal>,
    /// Quantity at the best ask.
    pub ask_size: Option<Decimal>,
    /// Figures of this session's trades.
    pub session: Option<Session>,
    /// Last update by the exchange's clock, microseconds since the epoch.
    pub ts: Option<u64>,
    /// Single trades are reported, so their sums (`aggTrade`) must not count again.
    has_trades: bool,
}

/// What a session's trades add up to: from the start of the feed, or of the capture replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// First price.
    pub open: Decimal,
    /// Highest price.
    pub high: Decimal,
    /// Lowest price.
    pub low: Decimal,
    /// Quantity traded.
    pub volume: Decimal,
    /// Price times quantity, summed; `None` once it no longer fits 28 digits.
    pub turnover: Option<Decimal>,
    /// Number of trades.
    pub trades: u64,
}

/// Why an update could not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// See [`MAX_SYMBOLS`].
    #[error("more than {MAX_SYMBOLS} symbols")]
    TooManySymbols,
}

impl MarketState {
    /// Applies one update.
    ///
    /// # Errors
    /// The update names a new symbol and there are too many; the state is unchanged.
    pub fn apply(&mut self, update: &Update<'_>) -> Result<(), ApplyError> {
        if !self.symbols.contains_key(update.symbol) {
            if self.symbols.len() >= MAX_SYMBOLS {
                return Err(ApplyError::TooManySymbols);
            }
            self.symbols.insert(update.symbol.into(), Symbol::default());
        }
        if let Some(symbol) = self.symbols.get_mut(update.symbol) {
            symbol.apply(update);
        }
        Ok(())
    }

    /// Begins a session: sums, extremes and opening prices start over; quotes and last prices stay.
    pub fn begin_session(&mut self) {
        for symbol in self.symbols.values_mut() {
            symbol.session = None;
        }
    }

    /// All symbols in order of their names.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, &Symbol)> {
        self.symbols.iter().map(|(name, symbol)| (&**name, symbol))
    }
}

impl Symbol {
    fn apply(&mut self, update: &Update<'_>) {
        self.ts = update.ts.or(self.ts);
        match update.change {
            Change::Quote { bid, bid_size, ask, ask_size } => {
                (self.bid, self.bid_size) = (Some(bid), Some(bid_size));
                (self.ask, self.ask_size) = (Some(ask), Some(ask_size));
            }
            Change::Trade { aggregated: true, .. } if self.has_trades => {}
            Change::Trade { price, quantity, trades, aggregated } => {
                self.has_trades |= !aggregated;
                self.trade(price, quantity, trades);
            }
            Change::Depth => {}
        }
    }

    fn trade(&mut self, price: Decimal, quantity: Decimal, trades: u64) {
        // Futures report some liquidations as trades at no price (`"X":"NA"`): nothing changed hands.
        if price.is_zero() {
            return;
        }
        self.last = Some(price);
        let session = self.session.get_or_insert(Session {
            open: price,
            high: price,
            low: price,
            volume: Decimal::ZERO,
            turnover: Some(Decimal::ZERO),
            trades: 0,
        });
        session.high = session.high.max(price);
        session.low = session.low.min(price);
        session.volume = session.volume.checked_add(quantity).unwrap_or(Decimal::MAX);
        session.turnover = session.turnover.and_then(|sum| sum.checked_add(price.checked_mul(quantity)?));
        session.trades = session.trades.saturating_add(trades);
    }
}

impl Session {
    /// Volume-weighted average price, to 8 decimals.
    pub fn vwap(&self) -> Option<Decimal> {
        Some(self.turnover?.checked_div(self.volume)?.round_dp(8))
    }

    /// `last` minus the opening price.
    pub fn change(&self, last: Decimal) -> Option<Decimal> {
        last.checked_sub(self.open)
    }

    /// The change in percent of the opening price, to 2 decimals.
    pub fn change_pct(&self, last: Decimal) -> Option<Decimal> {
        Some(self.change(last)?.checked_mul(Decimal::ONE_HUNDRED)?.checked_div(self.open)?.round_dp(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(state: &mut MarketState, price: &str, quantity: &str, aggregated: bool) {
        let change = Change::Trade { price: dec(price), quantity: dec(quantity), trades: 1, aggregated };
        state.apply(&Update { symbol: "X", ts: Some(7), id: None, change }).expect("few symbols");
    }

    fn dec(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    fn symbol(state: &MarketState) -> &Symbol {
        state.symbols().next().expect("one symbol").1
    }

    #[test]
    fn trades_add_up() {
        let mut state = MarketState::default();
        for (price, quantity) in [("10.0", "1"), ("12.5", "3"), ("9.5", "0")] {
            trade(&mut state, price, quantity, false);
        }
        let session = symbol(&state).session.clone().expect("traded");
        assert_eq!((session.open, session.high, session.low), (dec("10"), dec("12.5"), dec("9.5")));
        assert_eq!((session.volume, session.trades), (dec("4"), 3));
        assert_eq!(session.vwap(), Some(dec("11.875")));
        assert_eq!((session.change(dec("9.5")), session.change_pct(dec("9.5"))), (Some(dec("-0.5")), Some(dec("-5"))));
    }

    #[test]
    fn sums_of_trades_count_only_where_single_trades_do_not() {
        let mut state = MarketState::default();
        trade(&mut state, "1", "5", true);
        trade(&mut state, "2", "1", false);
        trade(&mut state, "1", "1", true);
        assert_eq!(symbol(&state).last, Some(dec("2")));
        assert_eq!(symbol(&state).session.as_ref().expect("traded").volume, dec("6"));
    }

    #[test]
    fn a_session_starts_over_and_keeps_the_last_price() {
        let mut state = MarketState::default();
        trade(&mut state, "1", "5", false);
        state.begin_session();
        assert_eq!((symbol(&state).last, &symbol(&state).session), (Some(dec("1")), &None));
    }

    #[test]
    fn what_does_not_fit_is_unknown_and_nothing_panics() {
        let mut state = MarketState::default();
        let huge = "79228162514264337593543950335";
        trade(&mut state, huge, huge, false);
        trade(&mut state, "0", "1", false);
        trade(&mut state, "0.0000000000000000000000000001", huge, false);
        let symbol = symbol(&state);
        let session = symbol.session.as_ref().expect("traded");
        assert_eq!((session.vwap(), session.volume), (None, Decimal::MAX));
        assert_eq!(symbol.last, Some(dec("0.0000000000000000000000000001")));
        assert_eq!(session.change_pct(Decimal::MIN), None);
    }
}
