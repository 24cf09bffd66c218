//! A minute of real messages of the exchange.

static CAPTURE: &[u8] = include_bytes!("../../data/binance-20240808-1m.log.zst");

/// Length of a receive time and the space behind it.
const TIMESTAMP: usize = 20;

/// The capture's messages, without their receive times.
pub fn messages() -> Vec<Vec<u8>> {
    let text = zstd::decode_all(CAPTURE).expect("a whole capture");
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| line.split_at_checked(TIMESTAMP));
    lines.map(|(_, message)| message.to_vec()).collect()
}
