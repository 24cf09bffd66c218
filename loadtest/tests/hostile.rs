//! The hostile clients find what a server does wrong, and nothing where it is right.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

/// Runs `hostile`; returns its exit status and its table.
fn hostile(address: SocketAddr, kinds: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostile"));
    command.args(["--url", &format!("ws://{address}/ws/market"), "--kind", kinds, "--duration", "1s", "--quiet"]);
    let output = command.output().expect("the binary starts");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A server that lets everybody in and says the same to all of them.
fn server(says: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                let _ = stream.read(&mut [0; 1_000]);
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.read(&mut [0; 1_000]);
                let _ = stream.write_all(says);
                if says.is_empty() {
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
            });
        }
    });
    address
}

#[test]
fn a_wrong_code_is_found() {
    let (status, table) = hostile(server(&[0x88, 2, 0x03, 0xeb]), "protocol");
    assert_eq!(status, Some(1), "{table}");
    assert!(table.contains("FORBIDDEN protocol: a frame that is not masked: Close 1003, expected [1002]"), "{table}");
    assert!(table.contains("answered with 101, expected 404"), "{table}");
}

#[test]
fn who_stays_is_found() {
    let (status, table) = hostile(server(b""), "protocol,oversize");
    assert_eq!(status, Some(1), "{table}");
    assert!(table.contains("FORBIDDEN protocol: half a character at the end: still connected"), "{table}");
    assert!(table.contains("FORBIDDEN oversize: 200 MiB in fragments: still connected"), "{table}");
}

#[test]
fn a_server_that_is_gone_is_not_taken_for_a_right_one() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let (status, table) = hostile(address, "churn");
    assert_eq!(status, Some(1), "{table}");
    assert!(table.contains("FORBIDDEN churn: no connection could be made"), "{table}");
}
