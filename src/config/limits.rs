//! `[limits]`: how much of the server anybody may have.

use std::net::IpAddr;

use ipnet::IpNet;

use super::keys::{key, quoted};
use super::{Key, value};

/// What a peer may take, and whose word about its clients is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Connections at a time, of any kind; zero leaves it to the descriptors there are. Refused with
    /// 503. A WebSocket client costs about 1 KiB here and what the kernel holds for a socket.
    pub max_connections: usize,
    /// Those of one IPv4 address or one /64 of IPv6; zero is no limit. Refused with 429. Many
    /// screens behind one address translator count as one.
    pub max_connections_per_ip: usize,
    /// Connections that have not made their first request yet; zero is no limit. Refused with 503.
    pub max_handshakes: usize,
    /// Frames one client may send in a second, of any kind; zero is no limit. More end it with 1008.
    pub messages_per_second: u32,
    /// Publications over HTTP in a second, all publishers together; zero is no limit. A request is
    /// refused with 429, a stream is read more slowly.
    pub publish_rate: f64,
    /// Proxies that may say for whom they speak, by `X-Forwarded-For` or the PROXY protocol.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each connection of a trusted proxy begins with a PROXY protocol header, version 1 or 2.
    pub proxy_protocol: bool,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_connections_per_ip: 0,
            max_handshakes: 20_000,
            messages_per_second: 1_000,
            publish_rate: 0.0,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
        }
    }
}

impl LimitsConfig {
    /// Whether `peer` may say for whom it speaks.
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer.to_canonical()))
    }
}

/// An address or a network.
fn network(text: &str) -> Result<IpNet, String> {
    let address = |_| text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(address).map_err(|_| "an address or network such as 10.0.0.7 or 10.0.0.0/8".to_owned())
}

fn count(raw: value::Raw<'_>) -> Result<usize, value::Expected> {
    value::integer(raw, 0, 100_000_000).map(|n| n as usize)
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "limits.max_connections",
        "TICKCAST_LIMITS_MAX_CONNECTIONS",
        "max-connections",
        "N",
        "Connections at a time, refused with 503 beyond; 0 = as many as there are descriptors",
        limits.max_connections,
        count,
        usize::to_string
    ),
    key!(
        "limits.max_connections_per_ip",
        "TICKCAST_LIMITS_MAX_CONNECTIONS_PER_IP",
        "max-connections-per-ip",
        "N",
        "Connections of one address (IPv6: one /64), refused with 429 beyond; 0 = no limit",
        limits.max_connections_per_ip,
        count,
        usize::to_string
    ),
    key!(
        "limits.max_handshakes",
        "TICKCAST_LIMITS_MAX_HANDSHAKES",
        "max-handshakes",
        "N",
        "Connections that have not made a request yet, refused with 503 beyond; 0 = no limit",
        limits.max_handshakes,
        count,
        usize::to_string
    ),
    key!(
        "limits.messages_per_second",
        "TICKCAST_LIMITS_MESSAGES_PER_SECOND",
        "messages-per-second",
        "N",
        "Frames one client may send in a second, closed with 1008 beyond; 0 = no limit",
        limits.messages_per_second,
        |raw| value::integer(raw, 0, 1_000_000).map(|n| n as u32),
        u32::to_string
    ),
    key!(
        "limits.publish_rate",
        "TICKCAST_LIMITS_PUBLISH_RATE",
        "publish-rate",
        "N",
        "Messages published over HTTP in a second, refused with 429 beyond (streams are slowed down); 0 = no limit",
        limits.publish_rate,
        |raw| value::float_or_zero(raw, 0.001, 1e9),
        |v: &f64| value::show_float(*v)
    ),
    key!(
        "limits.trusted_proxies",
        "TICKCAST_LIMITS_TRUSTED_PROXIES",
        "trusted-proxies",
        "LIST",
        "Addresses or networks of proxies whose word about their clients is believed (X-Forwarded-For)",
        limits.trusted_proxies,
        |raw| value::list(raw, network),
        |v: &Vec<IpNet>| format!("[{}]", v.iter().map(quoted).collect::<Vec<_>>().join(", "))
    ),
    key!(
        "limits.proxy_protocol",
        "TICKCAST_LIMITS_PROXY_PROTOCOL",
        "proxy-protocol",
        "BOOL",
        "Connections of trusted proxies begin with a PROXY protocol header, version 1 or 2",
        limits.proxy_protocol,
        value::boolean,
        bool::to_string
    ),
];
