//! What the baselines share: how they start, listen and read HTTP.
//!
//! A baseline is a server with tickcast's two doors, `GET /ws/{channel}` and `POST /publish/{channel}`, and
//! one of the usual ways to fan out in between. There is one channel whatever its name, no heartbeat, no
//! timeout and no limit on clients: less than a server needs, and so less than tickcast does for each client.
//!
//! * `floor`: one thread that does nothing but call `send` for each socket in turn.
//! * `tungstenite-broadcast`: tokio-tungstenite, a task a client, `tokio::sync::broadcast`.
//! * `mpsc-mutex`: tokio-tungstenite, a bounded queue a client behind a mutex.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

pub mod http;
pub mod serve;

/// Messages that may wait for one client: what a ring of tickcast holds.
pub const QUEUE_SIZE: usize = 50;

/// Connections that may wait to be accepted while a publication goes out; the usual limit of the kernel.
const BACKLOG: i32 = 4096;

/// A count that threads add to and nothing is ordered by, hence `Relaxed`.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The `main` of a baseline: arguments, limit on open files, listening socket, then `serve` until it ends.
pub fn main(name: &str, serve: impl FnOnce(TcpListener) -> io::Result<()>) -> ExitCode {
    let address = match listen_address(std::env::args().skip(1)) {
        Ok(address) => address,
        Err(reason) => {
            say(&format!("{name}: {reason}\nUsage: {name} [--listen ADDR:PORT]   [default: 127.0.0.1:0]"));
            return ExitCode::from(2);
        }
    };
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        say(&format!("{name}: cannot raise the limit on open files: {error}"));
    }
    let served = listen(address).and_then(|listener| {
        say(&format!("listening on http://{}/", listener.local_addr()?));
        serve(listener)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{name}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn listen_address(mut arguments: impl Iterator<Item = String>) -> Result<SocketAddr, String> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    while let Some(argument) = arguments.next() {
        let value = match argument.strip_prefix("--listen=") {
            Some(value) => value.to_owned(),
            None if argument == "--listen" => arguments.next().unwrap_or_default(),
            None => return Err(format!("unexpected argument '{argument}'")),
        };
        address = value.parse().map_err(|_| format!("--listen '{value}': expected an address and a port"))?;
    }
    Ok(address)
}

/// A non-blocking listener, the same for all so that none of them turns away a crowd that comes at once.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A line on stderr; there is nobody to tell if that fails.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::listen_address;

    fn parse(arguments: &[&str]) -> Result<String, String> {
        listen_address(arguments.iter().map(|argument| (*argument).to_owned())).map(|address| address.to_string())
    }

    #[test]
    fn arguments() {
        assert_eq!(parse(&[]), Ok("127.0.0.1:0".to_owned()));
        assert_eq!(parse(&["--listen", "[::1]:80"]), Ok("[::1]:80".to_owned()));
        assert_eq!(parse(&["--listen=0.0.0.0:9000"]), Ok("0.0.0.0:9000".to_owned()));
        for wrong in [&["--listen"][..], &["--listen", "here"], &["--help"], &["8080"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
