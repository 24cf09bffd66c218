//! One connection of each kind: what it does, and what the server may make of it.

mod crowds;
mod floods;
mod leavers;
mod violations;

use crate::kind::Kind;
use crate::peer::End;
use crate::stage::Stage;

/// The connection number `n` of a kind. How it ended is an error where it did so early.
pub(crate) async fn attack(stage: &Stage, kind: Kind, n: u64) -> Result<End, End> {
    match kind {
        Kind::HalfOpen => crowds::half_open(stage, n).await,
        Kind::SlowReaders => crowds::slow_reader(stage, n).await,
        Kind::HalfClose => crowds::half_close(stage, n).await,
        Kind::Dribble => crowds::dribble(stage, n).await,
        Kind::Churn => leavers::churn(stage, n).await,
        Kind::Reset => leavers::reset(stage, n).await,
        Kind::PingFlood => floods::pings(stage).await,
        Kind::FragmentFlood => floods::fragments(stage).await,
        Kind::Oversize => floods::oversize(stage, n).await,
        Kind::Garbage => violations::garbage(stage, n).await,
        Kind::Protocol => violations::protocol(stage, n).await,
    }
}
