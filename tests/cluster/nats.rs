//! The real `nats-server`, with a store of its own that outlives the process as long as the test wants.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::support::wait_until;

/// Where the program may be: a user's PATH need not have what is for administrators.
const PROGRAMS: [&str; 3] = ["nats-server", "/usr/sbin/nats-server", "/usr/local/bin/nats-server"];
/// Ports of its own, below those that the kernel gives to outgoing connections (32768 by default): while
/// the server is down nobody else gets its port by accident.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// A server that keeps its port and its store when it is killed and started again.
pub(super) struct Nats {
    child: Option<Child>,
    directory: PathBuf,
    port: u16,
}

impl Nats {
    pub(super) fn start() -> Self {
        Self::with("")
    }

    /// A server with more lines in its configuration.
    pub(super) fn with(configuration: &str) -> Self {
        let port = free_port();
        let name = format!("tickcast-nats-{}-{port}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory");
        let mut nats = Self { child: None, directory, port };
        nats.configure(configuration);
        nats.restart();
        nats
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(super) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// What the next start reads.
    pub(super) fn configure(&self, more: &str) {
        let store = self.directory.join("store");
        let text = format!(
            "listen: \"{}\"\njetstream {{ store_dir: {store:?}, max_memory_store: 64MB, max_file_store: 256MB }}\n{more}\n",
            self.address()
        );
        fs::write(self.directory.join("conf"), text).expect("written");
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a process of ours");
            child.wait().expect("a child");
        }
    }

    /// Starts it on the same port and store, and waits until it speaks.
    pub(super) fn restart(&mut self) {
        self.kill();
        let log = fs::File::options().create(true).append(true).open(self.directory.join("log")).expect("a log");
        let found = PROGRAMS.iter().find_map(|program| {
            let mut command = Command::new(program);
            command.arg("-c").arg(self.directory.join("conf")).stdin(Stdio::null()).stdout(Stdio::null());
            match command.stderr(log.try_clone().expect("another handle")).spawn() {
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                started => Some(started.expect("nats-server starts")),
            }
        });
        let found = found.expect("nats-server is not installed, and these tests need it: apt-get install nats-server");
        let child = self.child.insert(found);
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        wait_until("nats-server listens", || {
            assert!(child.try_wait().expect("a child").is_none(), "nats-server has ended");
            speaks(address)
        });
    }

    /// Throws away all it has stored; it must not run.
    pub(super) fn empty(&self) {
        assert!(self.child.is_none(), "only the dead are emptied");
        fs::remove_dir_all(self.directory.join("store")).expect("a store");
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("--- nats-server ---\n{log}").as_bytes());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Whether somebody there introduces himself as a NATS server does.
fn speaks(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO ")
}

fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs at the same time begin at different places.
    let begin = (std::process::id() % 331) as u16 * 36;
    let candidates = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(usize::from(PORTS));
    let mut ports = candidates.map(|n| FIRST_PORT + begin.wrapping_add(n) % PORTS);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
