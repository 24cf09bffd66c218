//! `[publish]`: publishing over HTTP.

use super::keys::{GIB, bytes, key};
use super::{Key, value};

/// What may be published over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishConfig {
    /// Largest message; a line of NDJSON counts by itself.
    pub max_body_size: usize,
    /// Channels there may be, since publishing creates them.
    pub max_channels: usize,
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self { max_body_size: 16 << 20, max_channels: 10_000 }
    }
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "publish.max_body_size",
        "TICKCAST_PUBLISH_MAX_BODY_SIZE",
        "publish-max-body-size",
        "SIZE",
        "Largest message published over HTTP; a line of NDJSON counts by itself",
        publish.max_body_size,
        |raw| value::size(raw, 1, GIB),
        bytes
    ),
    key!(
        "publish.max_channels",
        "TICKCAST_PUBLISH_MAX_CHANNELS",
        "publish-max-channels",
        "N",
        "Channels there may be",
        publish.max_channels,
        |raw| value::integer(raw, 1, 1_000_000).map(|n| n as usize),
        usize::to_string
    ),
];
