//! The clients, in a process of their own: they shake hands, read, count bytes and throw them away.

use std::cell::Cell;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REQUEST: &str = "GET /ws/market HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The receiving process, seen from the sending one.
pub(crate) struct Receiver {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Receiver {
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["receive", &address.to_string(), &clients.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no stdin")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut receiver = Self { child, orders, answers };
        receiver.answer()?;
        Ok(receiver)
    }

    /// Waits until `bytes` more have been received.
    pub(crate) fn wait_for(&mut self, bytes: u64) -> Result<(), Box<dyn Error>> {
        writeln!(self.orders, "{bytes}")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<(), Box<dyn Error>> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err("the receiving process ended".into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes received, and how many are waited for.
#[derive(Default)]
struct Count {
    received: Cell<u64>,
    wanted: Cell<u64>,
}

impl Count {
    fn add(&self, bytes: u64) {
        self.received.set(self.received.get() + bytes);
        self.answer();
    }

    fn answer(&self) {
        if self.wanted.get() > 0 && self.received.get() >= self.wanted.get() {
            self.received.set(self.received.get() - self.wanted.take());
            println!("received");
        }
    }
}

/// The receiving process.
pub(crate) fn run(address: &str, clients: usize) -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = address.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async move {
        let count = Rc::new(Count::default());
        for _ in 0..clients {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(REQUEST.as_bytes()).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            tokio::task::spawn_local(read(stream, Rc::clone(&count)));
        }
        println!("connected");
        let mut orders = tokio::io::BufReader::new(tokio::io::stdin()).lines();
        while let Some(order) = orders.next_line().await? {
            count.wanted.set(order.parse()?);
            count.answer();
        }
        Ok(())
    }))
}

async fn read(stream: TcpStream, count: Rc<Count>) {
    let mut buffer = vec![0; 64 << 10];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(bytes) => count.add(bytes as u64),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
