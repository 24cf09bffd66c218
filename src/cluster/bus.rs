//! The connection to NATS: one for everything a node says and hears, made again for ever.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;

use super::JoinError;
use super::status::Status;
use crate::config::{ClusterConfig, NatsUrl};

/// A server that does not answer in this time is passed over for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two Pings to the server; a connection with two unanswered ones is given up.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The first pause between two attempts to connect, and the longest, which bounds how late a node notices
/// that a server is back. Random between half of it and all, so that not all nodes come at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Messages that wait for this node at most; beyond that the newest are lost until the next is taken, and
/// the last one of each channel is read again.
const WAITING: usize = 4_096;

/// The connection, and how often there was a new one.
#[derive(Clone, Debug)]
pub(super) struct Bus {
    pub(super) client: Client,
    connections: watch::Receiver<u64>,
}

impl Bus {
    /// Begins to connect, and goes on whatever happens.
    ///
    /// # Errors
    /// The credentials or certificates cannot be used.
    pub(super) async fn connect(config: &ClusterConfig, status: &Arc<Status>) -> Result<Self, JoinError> {
        let (count, connections) = watch::channel(0);
        let seen = Arc::clone(status);
        let options = authenticated(config)
            .await?
            .name(format!("tickcast {}", status.name()))
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(CONNECT_TIMEOUT))
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(WAITING)
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                notice(&event, &seen, &count);
                std::future::ready(())
            });
        let addresses: Vec<_> = config.url.iter().map(|url| url.address().clone()).collect();
        let client = options.connect(addresses).await.map_err(|error| JoinError::Connect(error.to_string()))?;
        Ok(Self { client, connections })
    }

    /// Tells of every new connection, the first included, with a new value; and of messages lost on the way
    /// to this node, with the same one.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }
}

/// Waits for another connection than the one that was looked at last.
///
/// # Cancel safety
/// Cancel safe.
pub(super) async fn replaced(connections: &mut watch::Receiver<u64>) {
    let before = *connections.borrow();
    // The sender goes with the connection, and with everything else.
    if connections.wait_for(|count| *count != before).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Says who this node is, and whom it trusts.
async fn authenticated(config: &ClusterConfig) -> Result<ConnectOptions, JoinError> {
    let mut options = ConnectOptions::new();
    if let Some(path) = &config.credentials {
        let unusable = |error| JoinError::Credentials { path: path.clone(), error };
        options = options.credentials_file(path).await.map_err(unusable)?;
    }
    if let Some((user, password)) = config.url.iter().find_map(NatsUrl::user) {
        options = options.user_and_password(user, password);
    }
    if let Some(password) = config.password.first() {
        options = options.user_and_password(config.user.clone(), password.expose().to_owned());
    }
    if let Some(token) = config.token.first() {
        options = options.token(token.expose().to_owned());
    }
    if let Some(ca) = &config.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&config.cert, &config.key) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    // Of servers that others have told of as well, whatever they call themselves.
    let encrypted =
        config.ca.is_some() || config.cert.is_some() || config.url.iter().any(|url| url.address().tls_required());
    Ok(if encrypted { options.require_tls(true) } else { options })
}

fn pause(attempts: usize) -> Duration {
    let doublings = attempts.saturating_sub(1).min(10) as u32;
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn notice(event: &Event, status: &Status, count: &watch::Sender<u64>) {
    match event {
        Event::Connected => {
            status.set_connected(true);
            count.send_modify(|count| *count += 1);
            tracing::info!("connected to NATS");
        }
        Event::Disconnected | Event::Closed => {
            status.set_connected(false);
            tracing::warn!("the connection to NATS is lost; trying again until there is one");
        }
        // What has been lost meanwhile shows in the numbers; the last of each channel is read again.
        Event::SlowConsumer(_) => count.send_modify(|_| ()),
        Event::ServerError(error) => say(status, &format!("NATS says: {error}")),
        Event::ClientError(error) => say(status, &error.to_string()),
        Event::LameDuckMode | Event::Draining => tracing::info!("NATS says: {event}"),
    }
}

/// Logs what goes wrong again and again only now and then.
fn say(status: &Status, why: &str) {
    if status.fail(why) {
        tracing::warn!("the connection to NATS: {why}");
    }
}
