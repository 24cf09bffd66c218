//! Those that hold on to what they have: half a handshake, an unread stream, half a connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::kind::Kind;
use crate::peer::{End, PATIENCE, Peer};
use crate::stage::Stage;
use crate::wire;

/// What the kernel of a slow reader takes for it; Linux doubles it.
const SMALL_BUFFER: u32 = 4 << 10;

/// Part of a handshake, or nothing, until it is cut off.
pub(super) async fn half_open(stage: &Stage, n: u64) -> Result<End, End> {
    let mut peer = stage.connect().await?;
    let begun = Instant::now();
    let request = stage.handshake();
    match n % 4 {
        0 => {}
        1 => peer.send(&request[..1]).await?,
        2 => peer.send(&request[..request.len() / 2]).await?,
        _ => peer.send(&request[..request.len() - 1]).await?,
    }
    waits(stage, Kind::HalfOpen, &mut peer, begun, "half a handshake").await
}

/// Waits to be cut off, which has to happen in the time for a handshake, or leaves at the end.
async fn waits(stage: &Stage, kind: Kind, peer: &mut Peer, begun: Instant, what: &str) -> Result<End, End> {
    let cut_off = begun + stage.handshake_timeout + PATIENCE;
    match peer.status(cut_off.min(stage.deadline)).await {
        Err(End::Timeout) if cut_off <= stage.deadline => Ok(stage.judge(kind, what, End::Timeout, &[])),
        Err(End::Timeout) => Ok(End::Left),
        Ok(101) => {
            stage.forbid(kind, &format!("{what} was answered with 101"));
            Ok(End::Status(101))
        }
        Ok(status) => Ok(End::Status(status)),
        Err(end) => Ok(end),
    }
}

/// Reads nothing, or 16 bytes a second.
pub(super) async fn slow_reader(stage: &Stage, n: u64) -> Result<End, End> {
    let mut peer = Peer::connect(stage.address, Some(SMALL_BUFFER)).await?;
    stage.upgrade(Kind::SlowReaders, &mut peer).await?;
    while Instant::now() + Duration::from_secs(1) < stage.deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if n % 2 == 1 && peer.stream.read_exact(&mut [0; 16]).await.is_err() {
            return Ok(End::Ended);
        }
    }
    tokio::time::sleep_until(stage.deadline).await;
    Ok(End::Left)
}

/// Says that nothing more comes, and reads on.
pub(super) async fn half_close(stage: &Stage, n: u64) -> Result<End, End> {
    const KIND: Kind = Kind::HalfClose;
    let mut peer = stage.connect().await?;
    match n % 4 {
        0 => stage.upgrade(KIND, &mut peer).await?,
        1 => peer.send(&stage.handshake()).await?,
        2 => peer.send(&stage.handshake()[..50]).await?,
        _ => peer.send(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", stage.host).as_bytes()).await?,
    }
    peer.stream.shutdown().await.map_err(|_| End::Reset)?;
    let deadline = Instant::now() + PATIENCE;
    match n % 4 {
        // Nobody who can neither close nor answer a Ping is a client.
        0 => return Ok(stage.judge(KIND, "a session that sends no more", peer.end(deadline).await, &[])),
        2 => match peer.status(deadline).await {
            Err(End::Timeout) => Ok(stage.judge(KIND, "half a request and no more", End::Timeout, &[])),
            Err(end) => Ok(end),
            Ok(status) => Ok(End::Status(status)),
        },
        // It is a request all the same.
        _ => match peer.status(deadline).await {
            Ok(101) => {
                stage.book.borrow_mut().upgraded(KIND);
                Ok(stage.judge(KIND, "a handshake and no more", peer.end(deadline).await, &[]))
            }
            Ok(200) => Ok(End::Left),
            Ok(status) => Ok(End::Status(status)),
            Err(End::Timeout) => Err(stage.judge(KIND, "a request before the FIN has no answer", End::Timeout, &[])),
            Err(end) => Err(end),
        },
    }
}

/// One byte at a time: a client that is right, one that is too slow, one that is wrong in the end.
pub(super) async fn dribble(stage: &Stage, n: u64) -> Result<End, End> {
    const KIND: Kind = Kind::Dribble;
    let pause = Duration::from_millis(4);
    let mut peer = stage.connect().await?;
    let begun = Instant::now();
    if n % 3 == 2 {
        // So slow that its time is over long before the handshake is.
        let request = stage.handshake();
        for byte in &request {
            let next = Instant::now() + Duration::from_secs(1);
            if peer.send(std::slice::from_ref(byte)).await.is_err() || next >= stage.deadline {
                break;
            }
            match peer.status(next).await {
                Err(End::Timeout) if Instant::now() < begun + stage.handshake_timeout + PATIENCE => {}
                Err(end) => return Ok(stage.judge(KIND, "a handshake of a byte a second", end, &[])),
                Ok(status) => return Ok(End::Status(status)),
            }
        }
        return waits(stage, KIND, &mut peer, begun, "a handshake of a byte a second").await;
    }
    peer.dribble(&stage.handshake(), pause).await?;
    stage.upgraded(KIND, &mut peer).await?;
    peer.dribble(&wire::frame(wire::TEXT, "h\u{e9}llo".as_bytes()), pause).await?;
    peer.dribble(&wire::frame(wire::PING, b"slowly"), pause).await?;
    // The server's own Pings may come in between.
    while let heard = peer.control(Instant::now() + PATIENCE).await?
        && heard.first != wire::PONG
    {}
    let (bytes, code) = match n % 3 {
        0 => (wire::frame(wire::CLOSE, &3_000_u16.to_be_bytes()), 3_000),
        _ => (vec![wire::TEXT, 1, b'x'], 1002),
    };
    peer.dribble(&bytes[..2], pause).await?;
    // Behind a violation the connection may be gone.
    let _ = peer.dribble(&bytes[2..], pause).await;
    let end = peer.end(Instant::now() + PATIENCE).await;
    Ok(stage.judge(KIND, "a byte at a time", end, &[code]))
}
