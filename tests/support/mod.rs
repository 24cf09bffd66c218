//! What the tests share: the real binary on a free port, and clients that speak raw bytes.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "every test uses a part of this")]

pub mod client;
pub mod http;
pub mod tls;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Nothing in a test takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    lines: Mutex<Receiver<String>>,
    seen: Vec<String>,
}

/// Starts the binary with `arguments` and no configuration from outside.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickcast"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TICKCAST_") || name.starts_with("WS_")) {
        command.env_remove(name);
    }
    command
}

impl Server {
    /// A server on a free port that has said that it listens.
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(&[&["--listen", "127.0.0.1:0"], arguments].concat()))
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let lines = Mutex::new(lines);
        let mut server = Self { child, address: SocketAddr::from(([0; 4], 0)), lines, seen: Vec::new() };
        let line = server.wait_for_line("listening");
        let address = line.split("://").nth(1).and_then(|rest| rest.trim_end_matches('/').parse().ok());
        server.address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        server
    }

    /// The next line on stderr that contains `text`.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.get_mut().expect("no panic").recv_timeout(left).unwrap_or_else(|error| {
                panic!("no line with {text:?}: {error}; stderr so far:\n{}", self.seen.join("\n"))
            });
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Everything on stderr of a server that has ended.
    pub fn rest_of_log(&mut self) -> String {
        self.seen.extend(self.lines.get_mut().expect("no panic").iter());
        self.seen.join("\n")
    }

    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("piped, and taken once")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill starts").success());
    }

    /// Waits for the end; returns the status and how long it took.
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it, which must be clean; returns all it has said on stderr.
    pub fn end(&mut self) -> String {
        self.signal("-INT");
        let (status, _) = self.wait();
        assert!(status.success(), "{status}");
        let rest: Vec<_> = self.lines.get_mut().expect("no panic").iter().collect();
        self.seen.extend(rest);
        self.seen.join("\n")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a process").count()
    }

    pub fn get(&self, path: &str) -> http::Answer {
        http::request(self.address, "GET", path, &[], b"")
    }

    pub fn publish(&self, channel: &str, content_type: &str, body: &[u8]) -> http::Answer {
        http::request(self.address, "POST", &format!("/publish/{channel}"), &[("content-type", content_type)], body)
    }

    /// Publishes a text message that must be accepted.
    pub fn say(&self, channel: &str, text: &str) {
        let answer = self.publish(channel, "text/plain", text.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// One metric's value, all labels added up; 0 if it has no sample.
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics([name])[0]
    }

    /// Several metrics' values at one moment.
    pub fn metrics<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        let text = self.get("/metrics").text();
        names.map(|name| {
            assert!(text.contains(&format!("# TYPE {} ", name.split('{').next().unwrap_or(name))), "no metric {name}");
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            let matching = samples.filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<u64>().ok())?
            });
            matching.sum()
        })
    }

    /// Waits until a metric satisfies `condition`.
    pub fn wait_for_metric(&self, name: &str, condition: impl Fn(u64) -> bool) -> u64 {
        let mut value = 0;
        wait_until(name, || {
            value = self.metric(name);
            condition(value)
        });
        value
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
        kib * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let stderr: Vec<_> = {
                let lines = self.lines.get_mut().expect("no panic");
                self.seen.drain(..).chain(lines.try_iter()).collect()
            };
            let _ = writeln!(std::io::stderr(), "--- stderr of the server ---\n{}", stderr.join("\n"));
        }
    }
}

/// Waits until `condition` holds, looking again and again.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the binary to its end: exit status, stdout, stderr.
pub fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What `check-config` says: exit status, stdout, stderr.
pub fn check(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = command(&[&["check-config"], arguments].concat());
    command.envs(environment.iter().copied());
    run(command)
}

/// A file that is gone with the test.
pub struct Temporary(PathBuf);

impl Temporary {
    pub fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tickcast-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("written");
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Processor time a process has spent.
pub fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("a process");
    // Behind the name, which may hold anything: fields 14 and 15 of proc(5), in hundredths of a second.
    let fields = stat.rsplit(')').next().expect("a name").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
