//! Three ways to send the same frames to many sockets.

use std::error::Error;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use tickcast::fanout::{Channel, Hub, Message, Subscription};
use tickcast::source::SourceKind;
use tickcast::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::runtime::Runtime;

use crate::Plan;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A way to send.
pub(crate) trait Sender: Sized {
    fn start(plan: Plan) -> Result<Self>;
    fn address(&self) -> SocketAddr;
    fn wait_for_clients(&mut self, clients: usize) -> Result<()>;
    fn publish(&mut self, messages: usize, size: usize) -> Result<()>;
}

fn message(size: usize) -> Message {
    Message::binary(vec![b'x'; size])
}

fn runtime(plan: Plan) -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(plan.workers).enable_all().build()?)
}

/// The floor: nothing but the system calls.
pub(crate) struct Floor {
    address: SocketAddr,
    clients: std::thread::JoinHandle<std::io::Result<Vec<TcpStream>>>,
    streams: Vec<TcpStream>,
}

impl Sender for Floor {
    fn start(plan: Plan) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let clients = std::thread::spawn(move || {
            let accept = |_| {
                let (mut stream, _) = listener.accept()?;
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut bytes = [0; 512];
                    let read = stream.read(&mut bytes)?;
                    request.extend_from_slice(&bytes[..read]);
                }
                stream.write_all(ACCEPTED)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            };
            (0..plan.clients).map(accept).collect()
        });
        Ok(Self { address, clients, streams: Vec::new() })
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait_for_clients(&mut self, _clients: usize) -> Result<()> {
        let done = std::mem::replace(&mut self.clients, std::thread::spawn(|| Ok(Vec::new())));
        self.streams = done.join().map_err(|_| "accepting failed")??;
        Ok(())
    }

    fn publish(&mut self, messages: usize, size: usize) -> Result<()> {
        let hub = Hub::default();
        let channel = hub.channel("floor")?;
        let mut subscription = hub.subscribe(&channel);
        for _ in 0..messages {
            channel.publish(message(size))?;
            let frame = subscription.try_recv().ok_or("nothing published")?;
            for stream in &mut self.streams {
                // The receiver keeps up: a burst fits into the socket's buffer.
                stream.write_all(frame.wire())?;
            }
        }
        Ok(())
    }
}

/// A ring, a task and a `Notify` a client.
pub(crate) struct PerClient {
    runtime: Runtime,
    address: SocketAddr,
    channel: Channel,
}

impl Sender for PerClient {
    fn start(plan: Plan) -> Result<Self> {
        let runtime = runtime(plan)?;
        let hub = Hub::default();
        let channel = hub.channel("market")?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let joined = channel.clone();
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (hub, channel) = (hub.clone(), joined.clone());
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(stream.read_u8().await?);
                    }
                    stream.set_nodelay(true)?;
                    stream.write_all(ACCEPTED).await?;
                    let subscription = hub.subscribe(&channel);
                    write(stream, subscription).await
                });
            }
        });
        Ok(Self { runtime, address, channel })
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait_for_clients(&mut self, clients: usize) -> Result<()> {
        wait_for_clients(&self.runtime, &self.channel, clients);
        Ok(())
    }

    fn publish(&mut self, messages: usize, size: usize) -> Result<()> {
        for _ in 0..messages {
            self.channel.publish(message(size))?;
        }
        Ok(())
    }
}

/// Sends everything that waits in one vectored write. Readers keep up here, so a write is whole.
async fn write(stream: tokio::net::TcpStream, mut subscription: Subscription) -> std::io::Result<()> {
    loop {
        let mut frames = vec![subscription.recv().await];
        frames.extend(std::iter::from_fn(|| subscription.try_recv()).take(63));
        let slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(frame.wire())).collect();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = stream.async_io(Interest::WRITABLE, || stream.try_write_vectored(&slices)).await?;
        assert_eq!(written, total, "the receiver keeps up");
    }
}

/// The server as it is.
pub(crate) struct PerShard {
    runtime: Runtime,
    address: SocketAddr,
    channel: Channel,
}

impl Sender for PerShard {
    fn start(plan: Plan) -> Result<Self> {
        let runtime = runtime(plan)?;
        let mut config = Config { source: SourceKind::None, workers: plan.workers, ..Config::default() };
        config.listen.set_port(0);
        let hub = Hub::new(config.hub());
        let server = runtime.block_on(async { Server::bind(config, hub.clone()) })?;
        let address = server.local_addr()?;
        runtime.spawn(server.run(std::future::pending::<()>()));
        Ok(Self { runtime, address, channel: hub.channel("market")? })
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait_for_clients(&mut self, clients: usize) -> Result<()> {
        wait_for_clients(&self.runtime, &self.channel, clients);
        Ok(())
    }

    fn publish(&mut self, messages: usize, size: usize) -> Result<()> {
        for _ in 0..messages {
            self.channel.publish(message(size))?;
        }
        Ok(())
    }
}

fn wait_for_clients(runtime: &Runtime, channel: &Channel, clients: usize) {
    runtime.block_on(async {
        while channel.subscribers() < clients {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
}
