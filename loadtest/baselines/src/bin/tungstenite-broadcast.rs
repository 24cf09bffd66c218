//! What most Rust servers do: tokio-tungstenite, a task for each client, one `tokio::sync::broadcast` for all.
//!
//! A client that falls behind by more than the channel holds loses the oldest messages, as in tickcast. tokio
//! rounds the channel's capacity of 50 up to a power of two, 64. Each task copies a message into its client's
//! write buffer and sends that with a system call of its own. What a client has lost is counted once its task
//! gets back to the channel: not while the task waits for the socket, nor if the client leaves first.

use std::process::ExitCode;
use std::sync::Arc;

use baselines::serve::{Fanout, Socket, serve};
use baselines::{Counter, QUEUE_SIZE};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_tungstenite::tungstenite::Message;

struct Broadcast {
    sender: broadcast::Sender<Message>,
    dropped: Counter,
}

impl Fanout for Broadcast {
    type Seat = broadcast::Receiver<Message>;

    fn publish(&self, message: Message) -> usize {
        // An error says that there is nobody.
        self.sender.send(message).unwrap_or(0)
    }

    fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    fn join(self: &Arc<Self>) -> Self::Seat {
        self.sender.subscribe()
    }

    async fn stream(self: Arc<Self>, mut seat: Self::Seat, mut socket: Socket) {
        loop {
            tokio::select! {
                published = seat.recv() => match published {
                    Ok(message) => {
                        if socket.send(message).await.is_err() {
                            return;
                        }
                    }
                    Err(RecvError::Lagged(lost)) => self.dropped.add(lost),
                    Err(RecvError::Closed) => return,
                },
                received = socket.next() => match received {
                    // tungstenite answers Close with the next read, which nothing may be sent before.
                    Some(Ok(Message::Close(_))) => break,
                    // It answers Pings by itself.
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
            }
        }
        drop(seat);
        while let Some(Ok(_)) = socket.next().await {}
    }
}

fn main() -> ExitCode {
    let (sender, _) = broadcast::channel(QUEUE_SIZE);
    baselines::main("tungstenite-broadcast", |listener| {
        serve(listener, Broadcast { sender, dropped: Counter::default() })
    })
}
