//! One server takes over from another: everybody is told to come back, not all at once, and whoever
//! comes in between is let in.

mod support;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::client::{CLOSE, Client, close};
use support::{Server, command, run, wait_until};

#[test]
fn a_restart_is_told_to_one_after_the_other() {
    const CLIENTS: usize = 200;
    let mut server = Server::start(&["--source", "none", "--drain-timeout", "4s", "--workers", "2"]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(server.address, "market")).collect();
    server.say("market", "hello");
    clients.iter_mut().for_each(|client| assert_eq!(client.text(), "hello"));
    let begin = Instant::now();
    server.signal("-TERM");
    let mut told: Vec<f64> = std::thread::scope(|scope| {
        let told = clients.iter_mut().map(|client| {
            scope.spawn(move || {
                assert_eq!(client.read_to_close(), (1012, "server restarting".to_owned(), 0));
                let at = begin.elapsed().as_secs_f64();
                client.send(CLOSE, &close(1012));
                assert_eq!(client.try_read(), None);
                at
            })
        });
        let told: Vec<_> = told.collect();
        told.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    let (status, took) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    assert!(!told.is_sorted(), "in a random order");
    told.sort_by(f64::total_cmp);
    // Spread evenly over the first four fifths: each of the second to the fourth quarter of the clients waits longer.
    for (part, at) in [(1, 0.8), (2, 1.6), (3, 2.4)] {
        let first = told[part * CLIENTS / 4];
        assert!(first > at - 0.2, "client {} of {CLIENTS} was told after {first} s", part * CLIENTS / 4);
    }
}

#[test]
fn nobody_waits_when_nobody_is_there() {
    let mut server = Server::start(&["--source", "none", "--drain-timeout", "60s"]);
    server.signal("-TERM");
    let (status, took) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "it took {took:?}");
}

/// A server on a listening socket that this process holds, as a supervisor does.
fn activated(listener: &TcpListener) -> Server {
    let socket = OwnedFd::from(listener.try_clone().expect("another handle"));
    let mut command = Command::new("sh");
    // The socket comes as descriptor 0 and is moved to 3, the first of those passed on (sd_listen_fds(3)).
    let script = format!(
        "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec {} --source none --drain-timeout 2s",
        env!("CARGO_BIN_EXE_tickcast")
    );
    command.args(["-c", &script]).stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped());
    Server::spawn(command)
}

/// Clients connect without a pause while `next` takes over from `server`. Every one of them must be let in,
/// by either.
fn hand_over(mut server: Server, next: impl FnOnce() -> Server) {
    let address = server.address;
    let (over, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients = || {
            while !over.load(Ordering::Relaxed) {
                Client::connect(address, "market");
                connected.fetch_add(1, Ordering::Relaxed);
            }
        };
        let end = Over(&over);
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(clients)).collect();
        let some_more = || {
            let enough = connected.load(Ordering::Relaxed) + 200;
            wait_until("more clients", || connected.load(Ordering::Relaxed) > enough);
        };
        some_more();
        let next = next();
        some_more();
        server.signal("-TERM");
        assert_eq!(server.wait().0.code(), Some(0));
        some_more();
        drop(end);
        clients.into_iter().for_each(|client| client.join().expect("nobody is refused"));
        assert_eq!(next.get("/readyz").status, 200);
    });
}

/// Ends the clients, whatever happens to the test.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_is_refused_when_a_supervisor_holds_the_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    hand_over(activated(&listener), || activated(&listener));
}

#[test]
fn two_may_listen_if_told_so() {
    let first = Server::start(&["--source", "none", "--reuse-port", "true"]);
    let address = first.address.to_string();
    let arguments = ["--source", "none", "--listen", &address, "--drain-timeout", "2s"];
    let (status, _, stderr) = run(command(&arguments));
    assert_eq!(status, Some(1), "not by accident: {stderr}");
    let mut first = first;
    let second = Server::spawn(command(&[&arguments[..], &["--reuse-port", "true"]].concat()));
    first.signal("-TERM");
    assert_eq!(first.wait().0.code(), Some(0));
    Client::connect(second.address, "market");
    second.wait_for_metric("tickcast_connections_total", |count| count == 1);
}

/// What counts is where the socket listens, not what `listen` says.
#[test]
fn publishing_over_a_socket_that_others_reach_is_off() {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let mut server = activated(&listener);
    server.wait_for_line("publishing is off");
    server.address.set_ip([127, 0, 0, 1].into());
    assert_eq!(server.publish("market", "text/plain", b"hello").status, 403);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    activated(&listener).say("market", "hello");
}
