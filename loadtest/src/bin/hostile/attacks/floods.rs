//! Too much: control frames, fragments, heads, messages.

use std::time::Duration;

use tokio::time::Instant;

use crate::kind::Kind;
use crate::peer::{End, PATIENCE, Peer};
use crate::stage::Stage;
use crate::wire;

/// Frames in one write, and the pause behind it: as many as a million in four seconds for each client,
/// which costs this program little.
const CHUNK: usize = 250;
const PAUSE: Duration = Duration::from_millis(1);
/// What nobody takes.
const HUGE: usize = 200 << 20;
/// Payload of its fragments.
const FRAGMENT: usize = 32 << 10;

pub(super) async fn pings(stage: &Stage) -> Result<End, End> {
    let mut peer = stage.client(Kind::PingFlood).await?;
    flood(stage, Kind::PingFlood, &mut peer, &wire::frame(wire::PING, b"and again")).await
}

pub(super) async fn fragments(stage: &Stage) -> Result<End, End> {
    let mut peer = stage.client(Kind::FragmentFlood).await?;
    peer.send(&wire::frame(wire::TEXT & !wire::LAST, b"once")).await?;
    flood(stage, Kind::FragmentFlood, &mut peer, &wire::frame(wire::CONTINUATION, b"")).await
}

/// Sends `frame` until it is told to stop, which a server without a limit does not do.
async fn flood(stage: &Stage, kind: Kind, peer: &mut Peer, frame: &[u8]) -> Result<End, End> {
    let told_by = Instant::now() + PATIENCE;
    let limited = stage.flood_limit > 0;
    let deadline = if limited { told_by } else { stage.deadline };
    match peer.pour(&frame.repeat(CHUNK), usize::MAX, PAUSE, deadline).await {
        End::Timeout if !limited => Ok(End::Left),
        end => Ok(stage.judge(kind, "a flood", end, &[1008])),
    }
}

pub(super) async fn oversize(stage: &Stage, n: u64) -> Result<End, End> {
    match n % 5 {
        0 => {
            let lines: String = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect();
            refused(stage, &wire::handshake(&stage.host, &stage.path, &lines), "a head of 10,000 lines").await
        }
        1 => {
            let path = format!("{}?{}", stage.path, "y".repeat(70_000));
            refused(stage, &wire::handshake(&stage.host, &path, ""), "a path of 70,000 bytes").await
        }
        2 => {
            let mut peer = stage.client(Kind::Oversize).await?;
            peer.send(&wire::frame(wire::BINARY & !wire::LAST, &[0; FRAGMENT])).await?;
            let fragment = wire::frame(wire::CONTINUATION, &[0; FRAGMENT]);
            too_big(stage, &mut peer, &fragment, "200 MiB in fragments").await
        }
        3 => {
            let mut peer = stage.client(Kind::Oversize).await?;
            peer.send(&wire::head(wire::BINARY, HUGE as u64)).await?;
            too_big(stage, &mut peer, &[0; FRAGMENT], "200 MiB in a frame").await
        }
        _ => {
            let mut peer = stage.client(Kind::Oversize).await?;
            peer.send(&wire::head(wire::TEXT, 1 << 62)).await?;
            let end = peer.end(Instant::now() + PATIENCE).await;
            Ok(stage.judge(Kind::Oversize, "a frame said to have 4 EiB", end, &[1009]))
        }
    }
}

async fn too_big(stage: &Stage, peer: &mut Peer, chunk: &[u8], what: &str) -> Result<End, End> {
    let end = peer.pour(chunk, HUGE / FRAGMENT, PAUSE, Instant::now() + PATIENCE).await;
    Ok(stage.judge(Kind::Oversize, what, end, &[1009]))
}

/// A request that nobody reads to its end. The reset that follows may overtake the answer.
async fn refused(stage: &Stage, request: &[u8], what: &str) -> Result<End, End> {
    let mut peer = stage.connect().await?;
    let sent = peer.send(request).await;
    match peer.status(Instant::now() + PATIENCE).await {
        Ok(status) => {
            if !matches!(status, 400 | 413 | 414 | 429 | 431 | 503) {
                stage.forbid(Kind::Oversize, &format!("{what} was answered with {status}"));
            }
            Ok(End::Status(status))
        }
        Err(End::Timeout) => Ok(stage.judge(Kind::Oversize, what, End::Timeout, &[])),
        Err(end) => Ok(sent.err().unwrap_or(end)),
    }
}
