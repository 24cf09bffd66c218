//! What can be known to go wrong before the first connection: limits on descriptors and ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::options::{Plan, Scenario};
use crate::probe;
use crate::report::format::count;

/// Descriptors the harness needs beside its connections.
const OWN_DESCRIPTORS: u64 = 64;
/// Ports that may be held by connections closed less than a minute ago, or by others.
const SPARE_PORTS: u64 = 1_000;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Preflight {
    pub(crate) warnings: Vec<String>,
    /// Addresses to connect from; empty = the system's choice.
    pub(crate) sources: Vec<IpAddr>,
}

/// Looks at the limits, and raises the one on descriptors as far as it may be.
pub(crate) fn check(plan: &Plan, address: SocketAddr) -> Preflight {
    let mut found = Preflight { sources: plan.source_addresses.clone(), ..Preflight::default() };
    let connections = plan.connections as u64;
    let limit =
        rlimit::increase_nofile_limit(u64::MAX).or_else(|_| rlimit::getrlimit(rlimit::Resource::NOFILE).map(|l| l.0));
    if let Ok(limit) = limit
        && limit < connections + OWN_DESCRIPTORS
    {
        found.warnings.push(format!(
            "this process may open {} files, too few for {} connections: raise it (ulimit -n {}, as root)",
            count(limit),
            count(connections),
            connections + OWN_DESCRIPTORS
        ));
    }
    if let Some(pid) = plan.server_pid
        && let Some(limit) = probe::descriptor_limit(pid)
        && limit < connections + OWN_DESCRIPTORS
    {
        found.warnings.push(format!(
            "the server (process {pid}) may open {} files, too few for {} connections",
            count(limit),
            count(connections)
        ));
    }
    check_ports(plan, address, probe::local_ports().unwrap_or(28_232), &mut found);
    found
}

fn check_ports(plan: &Plan, address: SocketAddr, ports: u64, found: &mut Preflight) {
    let connections = plan.connections as u64;
    // A port is held for a minute after its connection was closed.
    let again = match plan.scenario {
        Scenario::Storm => connections * u64::from(plan.storms),
        Scenario::Churn => (connections as f64 * plan.churn_share * plan.duration.as_secs_f64().min(60.0)) as u64,
        _ => 0,
    };
    let needed = connections + again + SPARE_PORTS;
    let sources = found.sources.len().max(1) as u64;
    if needed <= ports.saturating_mul(sources) {
        return;
    }
    if found.sources.is_empty() && address.ip().is_ipv4() && address.ip().is_loopback() {
        let wanted = needed.div_ceil(ports.max(1));
        found.sources = (0..wanted.min(65_000)).map(|n| loopback(n as u32)).collect();
        return;
    }
    found.warnings.push(format!(
        "{} connections may need {} ports, and there are {} from {}: add a --source-address, or widen \
         net.ipv4.ip_local_port_range",
        count(connections),
        count(needed),
        count(ports * sources),
        if found.sources.is_empty() { "one address".to_owned() } else { format!("{sources} addresses") }
    ));
}

/// 127.0.0.1 and those behind it.
fn loopback(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x7f00_0001 + number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(connections: usize, address: &str, sources: &[&str], ports: u64) -> Preflight {
        let source_addresses: Vec<IpAddr> = sources.iter().map(|text| text.parse().expect("an address")).collect();
        let plan = Plan { connections, source_addresses: source_addresses.clone(), ..Plan::default() };
        let mut found = Preflight { sources: source_addresses, ..Preflight::default() };
        check_ports(&plan, address.parse().expect("an address"), ports, &mut found);
        found
    }

    #[test]
    fn loopback_gets_more_addresses_when_one_is_not_enough() {
        assert!(ports(10_000, "127.0.0.1:80", &[], 28_232).sources.is_empty());
        let many = ports(60_000, "127.0.0.1:80", &[], 28_232);
        assert!(many.warnings.is_empty());
        let expected: Vec<IpAddr> =
            ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|text| text.parse().expect("one")).to_vec();
        assert_eq!(many.sources, expected);
    }

    #[test]
    fn elsewhere_there_is_a_warning() {
        let far = ports(60_000, "192.0.2.1:80", &[], 28_232);
        assert!(far.sources.is_empty() && far.warnings[0].contains("28,232 from one address"), "{far:?}");
        let two = ports(60_000, "192.0.2.1:80", &["192.0.2.7", "192.0.2.8"], 28_232);
        assert!(two.warnings[0].contains("56,464 from 2 addresses"), "{two:?}");
    }
}
