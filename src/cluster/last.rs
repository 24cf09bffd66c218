//! The last message of each channel, kept by JetStream for nodes that come or come back.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message as Carried;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::{self, ErrorCode, stream};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Shared;

/// Asked for at a time.
const BATCH: usize = 256;
/// A reader that is not read from for so long is forgotten by the server.
const FORGET: Duration = Duration::from_secs(10);
/// A server that sends nothing for so long has forgotten what it was asked.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// What loading brings.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The last message of a channel.
    Message(Carried),
    /// That was all, of this attempt.
    All(u64),
}

/// Sends the last message of every channel, and then says so. Tries until it has worked.
pub(super) async fn load(shared: Arc<Shared>, attempt: u64, to: mpsc::Sender<Loaded>) {
    let mut told = false;
    loop {
        match try_load(&shared, &to).await {
            Ok(()) => break,
            Err(error) if !told && shared.status.is_connected() => {
                tracing::warn!("cannot read the last messages from JetStream yet: {error}");
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    // The receiver may be gone, and with it whoever would want to know.
    let _ = to.send(Loaded::All(attempt)).await;
}

async fn try_load(shared: &Shared, to: &mpsc::Sender<Loaded>) -> Result<(), async_nats::Error> {
    let jetstream = shared.jetstream();
    let stream = match jetstream.get_stream(shared.subjects.stream()).await {
        Ok(stream) => stream,
        // An edge that is there before the first origin.
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let wanted = pull::Config {
        deliver_policy: DeliverPolicy::LastPerSubject,
        filter_subject: shared.subjects.channels(),
        ack_policy: AckPolicy::None,
        inactive_threshold: FORGET,
        memory_storage: true,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(wanted).await?;
    let mut pending = consumer.cached_info().num_pending;
    while pending > 0 {
        let mut batch = consumer.fetch().max_messages(BATCH).messages().await?;
        let before = pending;
        while let Some(message) = timeout(ANSWER, batch.next()).await? {
            let message = message?;
            pending = message.info()?.pending;
            to.send(Loaded::Message(message.into())).await?;
        }
        // What was to come has been replaced by what came live.
        if pending == before {
            break;
        }
    }
    Ok(())
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Has JetStream keep the last message of every channel.
pub(super) async fn keep(shared: &Shared, jetstream: &jetstream::Context) -> Result<(), async_nats::Error> {
    let config = stream::Config {
        name: shared.subjects.stream(),
        description: Some("the last message of each channel of tickcast".to_owned()),
        subjects: vec![shared.subjects.channels()],
        max_messages_per_subject: 1,
        num_replicas: shared.config.replicas,
        storage: stream::StorageType::File,
        allow_direct: true,
        ..stream::Config::default()
    };
    jetstream.get_or_create_stream(config).await?;
    Ok(())
}
