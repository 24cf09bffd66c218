//! What the two baselines on tokio share: everything except how a message gets from the publisher to the clients.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::http::{self, Parsed, Refusal, Route};

/// A WebSocket to a client.
pub type Socket = WebSocketStream<TcpStream>;

/// tungstenite clears this much every time it looks for a client's frame, and keeps it for each. Clients send
/// next to nothing, so its 128 KiB would be most of what is measured.
const READ_BUFFER: usize = 4 << 10;

/// How long to wait when there are no descriptors left, for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A way to get messages to clients.
pub trait Fanout: Send + Sync + 'static {
    /// A client's place, from before it is told that it has one.
    type Seat: Send;

    /// Passes a message on to every client and returns how many there are.
    fn publish(&self, message: Message) -> usize;
    /// Messages that clients have lost.
    fn dropped(&self) -> u64;
    /// Takes a place for one more client.
    fn join(self: &Arc<Self>) -> Self::Seat;
    /// Serves a client until it leaves.
    fn stream(self: Arc<Self>, seat: Self::Seat, socket: Socket) -> impl Future<Output = ()> + Send;
}

/// Serves all connections until SIGTERM or SIGINT.
///
/// # Errors
/// The runtime cannot be set up.
pub fn serve<F: Fanout>(listener: TcpListener, fanout: F) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            () = accept(listener, Arc::new(fanout)) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    });
    runtime.shutdown_background();
    served
}

async fn accept<F: Fanout>(listener: tokio::net::TcpListener, fanout: Arc<F>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&fanout)))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection<F: Fanout>(stream: TcpStream, fanout: Arc<F>) {
    // What fails here is a peer that has gone. Boxed, so that clients do not keep the room it takes.
    if let Ok(Some((seat, socket))) = Box::pin(requests(stream, &fanout)).await {
        fanout.stream(seat, socket).await;
    }
}

/// Answers requests until the connection ends or becomes a client's.
async fn requests<F: Fanout>(mut stream: TcpStream, fanout: &Arc<F>) -> io::Result<Option<(F::Seat, Socket)>> {
    stream.set_nodelay(true)?;
    let mut received = BytesMut::new();
    let mut continued = false;
    loop {
        let request = match http::parse(&received) {
            Ok(Parsed::Whole(request)) => request,
            Ok(Parsed::Partial { expects_continue }) => {
                if expects_continue && !std::mem::replace(&mut continued, true) {
                    stream.write_all(http::CONTINUE).await?;
                }
                received.reserve(READ_BUFFER);
                if stream.read_buf(&mut received).await? == 0 {
                    return Ok(None);
                }
                continue;
            }
            Err(refusal) => return refuse(stream, refusal).await,
        };
        continued = false;
        let body = Bytes::copy_from_slice(&received[request.body.clone()]);
        received.advance(request.body.end);
        let keep_alive = request.keep_alive;
        let answer = match request.route {
            Route::Stream { accept } => {
                let seat = fanout.join();
                stream.write_all(http::switching(&accept).as_bytes()).await?;
                let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
                let rest = received.to_vec();
                let socket = Socket::from_partially_read(stream, rest, Role::Server, Some(config)).await;
                return Ok(Some((seat, socket)));
            }
            Route::Publish { binary } => match message(body, binary) {
                Some(message) => http::published(fanout.publish(message), keep_alive),
                None => return refuse(stream, http::NOT_UTF8).await,
            },
            Route::Health => http::healthy(keep_alive),
            Route::Stats => http::stats(fanout.dropped(), keep_alive),
        };
        stream.write_all(answer.as_bytes()).await?;
        if !keep_alive {
            stream.shutdown().await?;
            return Ok(None);
        }
    }
}

fn message(body: Bytes, binary: bool) -> Option<Message> {
    if binary { Some(Message::Binary(body)) } else { Utf8Bytes::try_from(body).ok().map(Message::Text) }
}

async fn refuse<T>(mut stream: TcpStream, refusal: Refusal) -> io::Result<Option<T>> {
    stream.write_all(refusal.answer().as_bytes()).await?;
    stream.shutdown().await?;
    Ok(None)
}
