//! What a message of the exchange says, reduced to what the market state needs.

use rust_decimal::Decimal;

/// One change, as the exchange reported it. Prices and sizes are exact decimals.
#[derive(Clone, Debug, PartialEq)]
pub struct Update<'a> {
    /// The instrument, as the exchange names it.
    pub symbol: &'a str,
    /// When, by the exchange's clock, in microseconds since the epoch; the transaction time if the
    /// message has one, else the event time. Spot `bookTicker` messages have neither.
    pub ts: Option<u64>,
    /// The exchange's number for it, which grows with every update of the same kind and symbol: `u` of
    /// `bookTicker` and `depthUpdate`, `t` of `trade`, `a` of `aggTrade`.
    pub id: Option<u64>,
    /// What changed.
    pub change: Change,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The best bid and ask.
    Quote {
        /// Best bid price.
        bid: Decimal,
        /// Quantity at the best bid.
        bid_size: Decimal,
        /// Best ask price.
        ask: Decimal,
        /// Quantity at the best ask.
        ask_size: Decimal,
    },
    /// One trade, or several at one price.
    Trade {
        /// Price of each.
        price: Decimal,
        /// Quantity, all together.
        quantity: Decimal,
        /// How many trades.
        trades: u64,
        /// Whether the message sums up trades that a `trade` stream reports one by one.
        aggregated: bool,
    },
    /// The order book below the top. Without the book it is a difference to, it says nothing about
    /// the best prices; only that the instrument was active.
    Depth,
}

impl Change {
    /// The exchange's word for the kind of message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Quote { .. } => "bookTicker",
            Self::Trade { aggregated: false, .. } => "trade",
            Self::Trade { aggregated: true, .. } => "aggTrade",
            Self::Depth => "depthUpdate",
        }
    }
}
