//! What clients may not do, and how they are told (RFC 6455); what they may, and what comes back.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod closing;
mod floods;
mod violations;

use support::Server;

/// Sessions that have ended for `reason`.
fn ended(server: &Server, reason: &str) -> u64 {
    server.metric(&format!("tickcast_disconnects_total{{reason=\"{reason}\"}}"))
}

/// Waits until `count` sessions have ended for `reason`.
fn wait_for_ended(server: &Server, reason: &str, count: u64) {
    server.wait_for_metric(&format!("tickcast_disconnects_total{{reason=\"{reason}\"}}"), |ended| ended == count);
}
