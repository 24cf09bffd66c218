//! Those that leave: at once, in every way, in the middle of something.

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::kind::Kind;
use crate::peer::{End, PATIENCE};
use crate::stage::Stage;
use crate::wire;

/// Connects and leaves.
pub(super) async fn churn(stage: &Stage, n: u64) -> Result<End, End> {
    const KIND: Kind = Kind::Churn;
    if n % 6 < 3 {
        let mut peer = stage.client(KIND).await?;
        match n % 6 {
            0 => {
                peer.send(&wire::frame(wire::CLOSE, &1_000_u16.to_be_bytes())).await?;
                let end = peer.end(Instant::now() + PATIENCE).await;
                return Ok(stage.judge(KIND, "a Close", end, &[1_000]));
            }
            1 => peer.stream.shutdown().await.map_err(|_| End::Reset)?,
            _ => peer.reset(),
        }
        return Ok(End::Left);
    }
    let mut peer = stage.connect().await?;
    let request = stage.handshake();
    match n % 6 {
        3 => {}
        4 => {
            peer.send(&request).await?;
            peer.reset();
        }
        _ => peer.send(&request[..request.len() / 2]).await?,
    }
    Ok(End::Left)
}

/// Resets the connection in the middle of a frame, of its head, of a request.
pub(super) async fn reset(stage: &Stage, n: u64) -> Result<End, End> {
    if n % 4 == 3 {
        let mut peer = stage.connect().await?;
        let request = stage.handshake();
        peer.send(&request[..request.len() - 2]).await?;
        peer.reset();
        return Ok(End::Left);
    }
    let mut peer = stage.client(Kind::Reset).await?;
    let frame = match n % 4 {
        0 => wire::frame(wire::TEXT, &[b'x'; 5_000]),
        1 => wire::frame(wire::PING, b"never to be answered"),
        _ => wire::head(wire::BINARY, 60_000),
    };
    peer.send(&frame[..frame.len() * 2 / 3]).await?;
    peer.reset();
    Ok(End::Left)
}
