//! The last message of each channel, kept by JetStream for nodes that come or come back.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message as Carried;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, RequestError};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind};
use async_nats::jetstream::{self, ErrorCode, stream};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::{Shared, lease};

/// Asked for at a time.
const AT_A_TIME: usize = 64;
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

/// Finds out whose reign it is and says so; then sends the last message of every channel, and says so. Tries until
/// it has worked.
pub(super) async fn load(shared: Arc<Shared>, attempt: u64, reign: mpsc::Sender<u64>, to: mpsc::Sender<Loaded>) {
    let mut told = false;
    loop {
        let epoch = lease::epoch(&shared).await;
        if let Ok(epoch) = epoch {
            shared.status.is_current(epoch);
        }
        // Who cannot find out serves what comes: a bus without JetStream brings no new reign either.
        let _ = reign.send(attempt).await;
        let loaded = match epoch {
            Ok(_) => try_load(&shared, &to).await,
            Err(error) => Err(error),
        };
        match loaded {
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

/// Each is asked for by itself, and its headers come as JSON. Delivered as live messages are, one with headers that the
/// client cannot read would end the connection, and be there again for the next.
async fn try_load(shared: &Shared, to: &mpsc::Sender<Loaded>) -> Result<(), async_nats::Error> {
    let jetstream = shared.jetstream();
    let stream = match jetstream.get_stream(shared.subjects.stream()).await {
        Ok(stream) => stream,
        // An edge that is there before the first origin.
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let subjects = stream.info_with_subjects(shared.subjects.channels()).await?;
    let messages = subjects.map(|subject| async {
        let (subject, _) = subject?;
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some(carried(message))),
            Err(error) if is_unreadable(&error) => {
                tracing::warn!(subject, "the last message is not one of the cluster's: {error}");
                shared.status.ignored.add("malformed");
                Ok(None)
            }
            // Purged meanwhile.
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(async_nats::Error::from(error)),
        }
    });
    let mut messages = std::pin::pin!(messages.buffer_unordered(AT_A_TIME));
    while let Some(message) = messages.try_next().await? {
        if let Some(message) = message {
            to.send(Loaded::Message(message)).await?;
        }
    }
    Ok(())
}

/// Whether there was an answer that cannot be read, or the subject is none that could be asked for.
fn is_unreadable(error: &LastRawMessageError) -> bool {
    let unasked = std::error::Error::source(error).is_some_and(|source| source.is::<RequestError>());
    match error.kind() {
        LastRawMessageErrorKind::Other => !unasked,
        kind => kind == LastRawMessageErrorKind::InvalidSubject,
    }
}

fn carried(message: StreamMessage) -> Carried {
    let StreamMessage { subject, headers, payload, .. } = message;
    let length = payload.len();
    Carried { subject, reply: None, payload, headers: Some(headers), status: None, description: None, length }
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
    let wanted = config.clone();
    let stream = jetstream.get_or_create_stream(config).await?;
    let found = &stream.cached_info().config;
    if found.subjects != wanted.subjects || found.max_messages_per_subject != 1 {
        let (name, subjects) = (&found.name, &found.subjects);
        return Err(format!(
            "stream {name} is there and keeps {subjects:?}, not the last of each of {:?}",
            wanted.subjects
        )
        .into());
    }
    if found.num_replicas != wanted.num_replicas {
        let (replicas, wanted) = (found.num_replicas, wanted.num_replicas);
        tracing::warn!(replicas, "JetStream keeps the last messages in so many copies; [cluster] says {wanted}");
    }
    Ok(())
}
