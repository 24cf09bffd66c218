//! The usual first design: tokio-tungstenite, a bounded queue and a writer task for each client, and a map of
//! the queues behind a mutex that a publication holds while it fills them.
//!
//! A queue that is full takes no more, so a slow client loses the *newest* messages and goes on with stale
//! ones. That is what `try_send` gives, and what this design usually does.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baselines::serve::{Fanout, Socket, serve};
use baselines::{Counter, QUEUE_SIZE};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_tungstenite::tungstenite::Message;

#[derive(Default)]
struct Queues {
    clients: Mutex<Clients>,
    dropped: Counter,
}

#[derive(Default)]
struct Clients {
    senders: HashMap<u64, mpsc::Sender<Message>>,
    last_id: u64,
}

/// A client's queue, in the map for as long as this exists.
struct Seat {
    id: u64,
    receiver: Option<mpsc::Receiver<Message>>,
    queues: Arc<Queues>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.queues.lock().senders.remove(&self.id);
    }
}

impl Queues {
    fn lock(&self) -> MutexGuard<'_, Clients> {
        // Nothing in between two changes of the map can panic.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fanout for Queues {
    type Seat = Seat;

    fn publish(&self, message: Message) -> usize {
        let clients = self.lock();
        for sender in clients.senders.values() {
            if let Err(TrySendError::Full(_)) = sender.try_send(message.clone()) {
                self.dropped.add(1);
            }
        }
        clients.senders.len()
    }

    fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    fn join(self: &Arc<Self>) -> Seat {
        let (sender, receiver) = mpsc::channel(QUEUE_SIZE);
        let mut clients = self.lock();
        clients.last_id += 1;
        let id = clients.last_id;
        clients.senders.insert(id, sender);
        Seat { id, receiver: Some(receiver), queues: Arc::clone(self) }
    }

    async fn stream(self: Arc<Self>, mut seat: Seat, socket: Socket) {
        let Some(mut queue) = seat.receiver.take() else { return };
        let (mut sink, mut incoming) = socket.split();
        let writer = tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        });
        // tungstenite answers Ping and Close by itself while it is read.
        while let Some(Ok(_)) = incoming.next().await {}
        // It may be waiting for a socket that nobody reads any more.
        writer.abort();
    }
}

fn main() -> ExitCode {
    baselines::main("mpsc-mutex", |listener| serve(listener, Queues::default()))
}
