//! Crowds of hostile clients: who is right is served all the while, and when they have left nothing of
//! them is there.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;
use support::client::{CLOSE, Client, PING, TEXT, close, frame, handshake_request};
use support::http::{connect, read_answer};
use support::{Server, wait_until};

/// As a market's snapshot of 40 symbols.
const MESSAGE: usize = 10_000;

/// A server, a client that is right, and what there was before anybody came.
struct Scene {
    server: Server,
    neighbour: Client,
    descriptors: usize,
    said: u64,
}

impl Scene {
    fn new(arguments: &[&str]) -> Self {
        let server = Server::start(&[&["--source", "none", "--workers", "2"], arguments].concat());
        server.say("market", &message(0));
        let mut neighbour = Client::connect(server.address, "market");
        assert_eq!(neighbour.text(), message(0));
        wait_until("nobody else", || server.metric("tickcast_open_connections") == 2);
        let descriptors = server.descriptors();
        Self { server, neighbour, descriptors, said: 0 }
    }

    /// Publishes, and the neighbour has it.
    fn serve(&mut self) {
        self.said += 1;
        self.server.say("market", &message(self.said));
        assert_eq!(self.neighbour.text(), message(self.said), "a neighbour misses a message");
    }

    /// Everybody else has left: nothing is open, everything adds up, nothing has panicked.
    fn end(mut self) {
        self.serve();
        let Self { mut server, neighbour, descriptors, .. } = self;
        wait_until("all descriptors closed", || server.descriptors() <= descriptors);
        server.wait_for_metric("tickcast_connections{channel=\"market\"}", |count| count == 1);
        // The neighbour and who asks.
        server.wait_for_metric("tickcast_open_connections", |count| count == 2);
        assert_eq!(server.metric("tickcast_handshakes"), 0);
        let accepted = server.metric("tickcast_connections_total");
        assert_eq!(server.metric("tickcast_disconnects_total") + 1, accepted, "all that began have ended");
        server.wait_for_metric("tickcast_frames_queued", |queued| queued == 0);
        let [pushed, sent, dropped, discarded] = server.metrics([
            "tickcast_frames_pushed_total",
            "tickcast_frames_sent_total",
            "tickcast_frames_dropped_total",
            "tickcast_frames_discarded_total",
        ]);
        assert_eq!(pushed, sent + dropped + discarded);
        drop(neighbour);
        let stderr = server.end();
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

fn message(n: u64) -> String {
    format!("{n:0>MESSAGE$}")
}

/// Ends a connection with a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(stream);
}

#[test]
fn half_open_handshakes_hold_up_nobody_and_are_cut_off() {
    let mut scene = Scene::new(&["--handshake-timeout", "2s"]);
    let request = handshake_request(scene.server.address, "/ws/market").into_bytes();
    let mut half = Vec::new();
    for n in 0..500 {
        let mut stream = connect(scene.server.address);
        let part = [0, 1, request.len() / 2, request.len() - 1][n % 4];
        stream.write_all(&request[..part]).expect("sent");
        half.push(stream);
        if n % 100 == 99 {
            let mut late = Client::connect(scene.server.address, "market");
            assert_eq!(late.text(), message(scene.said));
            scene.serve();
            assert_eq!(late.text(), message(scene.said));
        }
    }
    for mut stream in half {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 101"), "half a handshake is none");
    }
    scene.end();
}

#[test]
fn every_way_to_leave_is_the_end() {
    let mut scene = Scene::new(&[]);
    let address = scene.server.address;
    let request = handshake_request(address, "/ws/market").into_bytes();
    let body = frame(TEXT, &[b'x'; 5_000]);
    for n in 0..600 {
        let mut stream = connect(address);
        match n % 12 {
            0 => drop(stream),
            1 => reset(stream),
            2 | 3 => {
                stream.write_all(&request[..request.len() - n % 12]).expect("sent");
                if n % 12 == 3 { reset(stream) } else { drop(stream) }
            }
            4 => {
                // Gone before it is answered.
                stream.write_all(&request).expect("sent");
                reset(stream);
            }
            5 => {
                stream.write_all(&request).expect("sent");
                stream.shutdown(Shutdown::Write).expect("open");
                let _ = stream.read_to_end(&mut Vec::new());
            }
            way => {
                stream.write_all(&request).expect("sent");
                assert_eq!(read_answer(&mut stream, false).status, 101);
                match way {
                    6 => drop(stream),
                    7 => reset(stream),
                    8 => {
                        stream.write_all(&body[..3_000]).expect("sent");
                        reset(stream);
                    }
                    9 => {
                        stream.write_all(&body[..3]).expect("sent");
                        drop(stream);
                    }
                    10 => {
                        stream.write_all(&frame(CLOSE, &close(1000))).expect("sent");
                        reset(stream);
                    }
                    _ => {
                        let mut client = Client { stream };
                        client.send(CLOSE, &close(1000));
                        assert_eq!(client.read_to_close().0, 1000);
                    }
                }
            }
        }
        if n % 60 == 59 {
            scene.serve();
        }
    }
    scene.end();
}

/// A handshake in 180 packets is one all the same, and who is beside it waits for none of them.
#[test]
fn handshakes_of_one_byte_at_a_time() {
    let mut scene = Scene::new(&[]);
    let request = handshake_request(scene.server.address, "/ws/market").into_bytes();
    let mut streams: Vec<_> = (0..20).map(|_| connect(scene.server.address)).collect();
    for (n, byte) in request.iter().enumerate() {
        streams.iter_mut().for_each(|stream| stream.write_all(std::slice::from_ref(byte)).expect("sent"));
        if n % 20 == 0 {
            scene.serve();
        }
    }
    for mut stream in streams {
        assert_eq!(read_answer(&mut stream, false).status, 101);
        assert_eq!(Client { stream }.text(), message(scene.said));
    }
    scene.end();
}

/// Who floods is closed and comes back, again and again.
#[test]
fn floods_that_come_back() {
    let mut scene = Scene::new(&["--messages-per-second", "50"]);
    let address = scene.server.address;
    let fragments = [frame(TEXT & 0x7f, b""), frame(0x00, b"").repeat(5_000)].concat();
    for flood in [frame(PING, b"").repeat(5_000), fragments] {
        let floods: Vec<_> = (0..4)
            .map(|_| {
                let flood = flood.clone();
                std::thread::spawn(move || {
                    for _ in 0..10 {
                        let mut client = Client::connect(address, "market");
                        // Refused in the middle, which may be a reset.
                        let _ = client.stream.write_all(&flood);
                        let _ = client.stream.read_to_end(&mut Vec::new());
                    }
                })
            })
            .collect();
        while !floods.iter().all(std::thread::JoinHandle::is_finished) {
            scene.serve();
        }
        floods.into_iter().for_each(|flood| flood.join().expect("no panic"));
    }
    scene.server.wait_for_metric("tickcast_disconnects_total{reason=\"flood\"}", |count| count == 80);
    scene.end();
}

/// Each holds a ring of frames that are shared, and 64 KiB in the kernel, which is not the server's.
#[test]
fn slow_readers_of_large_messages_hold_no_more_than_a_ring() {
    const QUEUE: u64 = 50;
    const CROWD: u64 = 10;
    let mut scene = Scene::new(&["--queue-size", "50"]);
    let address = scene.server.address;
    let round = |scene: &mut Scene| {
        let mut slow: Vec<_> = (0..CROWD).map(|_| Client::with_small_buffer(address, "market", 4 << 10)).collect();
        let dropped = scene.server.metric("tickcast_frames_dropped_total");
        // Until each has lost as much as it holds: nothing more can wait for them.
        let mut n = 0;
        while scene.server.metric("tickcast_frames_dropped_total") < dropped + CROWD * QUEUE {
            scene.serve();
            // Some read a little.
            if n % 10 == 0 {
                slow.iter_mut().step_by(2).for_each(|client| client.stream.read_exact(&mut [0; 100]).expect("more"));
            }
            n += 1;
            assert!(n < 10_000, "they do not lag");
        }
        let queued = scene.server.metric("tickcast_frames_queued");
        assert!((QUEUE..=CROWD * (QUEUE + 1)).contains(&queued), "{queued} frames queued");
        let memory = scene.server.memory();
        drop(slow);
        scene.server.wait_for_metric("tickcast_connections", |count| count == 1);
        memory
    };
    round(&mut scene);
    let before = scene.server.memory();
    // The frames of a ring are the same in all of them, unless one stands elsewhere: all rings apart would be
    // 5 MB, all that was published as much again in each round.
    let held: Vec<_> = (0..4).map(|_| round(&mut scene).saturating_sub(before)).collect();
    assert!(held.iter().all(|held| *held < 8 << 20), "grew by {held:?} bytes with them");
    let grown = scene.server.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "grew by {grown} bytes without them");
    scene.end();
}
