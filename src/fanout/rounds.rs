//! Rounds: how the owner of a shard gets every frame to every client, one client after the other.
//!
//! For each channel with clients in the shard there is one log of frames, at most a ring's worth,
//! and for each client the number of the message it is to get next. A round goes over all clients
//! of a channel; each is lent everything in the log that it has not had, up to the newest of that
//! moment. So nothing is copied, counted or pushed for a client that keeps up, and what was
//! published during a round reaches the rest of it at once.
//!
//! Channels take turns: a large crowd, or large frames, on one do not keep another's waiting for
//! longer than the owner says ([`Rounds::others`]).

use std::collections::VecDeque;
use std::sync::Arc;

use super::channel::Channel;
use super::lane::Lane;
use super::membership::Joined;
use super::{Frame, Membership, Shard};

/// Where a client stands in a shard's rounds. Valid until it is deregistered; [`Rounds::register`]
/// says when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    stream: usize,
    position: usize,
}

/// What a client is to be sent.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The client's slot.
    pub slot: usize,
    /// How many frames it lost before these: they gave way to newer ones, and are counted.
    pub lost: u64,
    /// The frames, oldest first; lent, a client that cannot take them at once clones what is left.
    pub frames: &'a [Frame],
}

/// The rounds of one shard. Dropping them leaves all channels.
#[derive(Debug)]
pub struct Rounds {
    shard: Arc<Shard>,
    /// Frames a log holds.
    capacity: usize,
    /// By the lane's number.
    streams: Vec<Option<Stream>>,
    /// Streams in a round; the first is being served.
    active: VecDeque<usize>,
    marked: Vec<usize>,
}

impl Rounds {
    pub(super) fn new(shard: Arc<Shard>, capacity: usize) -> Self {
        let (streams, active, marked) = Default::default();
        Self { shard, capacity: capacity.max(1), streams, active, marked }
    }

    /// Takes in what was published since the last time.
    pub fn collect(&mut self) {
        self.shard.lanes.take(&mut self.marked);
        for id in self.marked.drain(..) {
            let Some(stream) = self.streams.get_mut(id).and_then(Option::as_mut) else {
                // Nobody there is registered yet; the frames wait in the lane.
                continue;
            };
            stream.collect(self.capacity);
            stream.channel.pass_on(&stream.lane);
            if stream.is_dead() {
                self.active.retain(|active| *active != id);
                self.streams[id] = None;
            } else if stream.begin_round() {
                self.active.push_back(id);
            } else {
                stream.let_go();
            }
        }
    }

    /// Takes over a client's membership; what it has missed is in [`Self::catch_up`] at once, or comes
    /// in the round. Returns its place and the channel's last message from before its join, or `None` if it
    /// has not joined.
    pub fn register(&mut self, slot: usize, membership: Membership) -> Option<(Place, Option<Frame>)> {
        let (channel, Joined { lane, first, next }) = membership.take()?;
        let id = lane.id();
        if self.streams.len() <= id {
            self.streams.resize_with(id + 1, || None);
        }
        let stream = self.streams[id].get_or_insert_with(|| Stream::new(channel, lane, next - 1));
        let position = stream.members.len();
        stream.members.push(Member { slot, next });
        stream.collect(self.capacity);
        if stream.begin_round() || stream.begin_round_for(position) {
            self.active.push_back(id);
        } else {
            stream.let_go();
        }
        Some((Place { stream: id, position }, first))
    }

    /// What a client has not had. It is given out here or in the round, never twice.
    pub fn catch_up(&mut self, place: Place) -> Option<Delivery<'_>> {
        let stream = self.streams.get_mut(place.stream)?.as_mut()?;
        stream.collect(self.capacity);
        // Others may be behind as well, now that their frames are in the log.
        if stream.begin_round() {
            self.active.push_back(place.stream);
        }
        stream.serve(place.position)
    }

    /// The client leaves; what it has not had is discarded. Clients that moved into other places
    /// are told to `moved`, by slot.
    pub fn deregister(&mut self, place: Place, moved: impl FnMut(usize, Place)) {
        if let Some(stream) = self.streams.get_mut(place.stream).and_then(Option::as_mut) {
            stream.remove(place.position);
            stream.close_gaps(place.stream, moved);
        }
    }

    /// Whom to serve next, and with what; `None` when everybody has had everything that was
    /// collected.
    pub fn next_delivery(&mut self) -> Option<Delivery<'_>> {
        let (id, position) = loop {
            let id = *self.active.front()?;
            match self.streams[id].as_mut().and_then(Stream::advance) {
                Some(position) => break (id, position),
                None => self.active.pop_front(),
            };
        };
        self.streams[id].as_mut()?.serve(position)
    }

    /// It is another channel's turn.
    pub fn others(&mut self) {
        if self.active.len() > 1 {
            self.active.rotate_left(1);
        }
    }
}

#[derive(Debug)]
struct Member {
    /// `GONE` once it has left.
    slot: usize,
    /// The number of the message it gets next.
    next: u64,
}

const GONE: usize = usize::MAX;

/// Gaps that are not worth closing.
const FEW: usize = 32;

/// One channel's clients in the shard.
#[derive(Debug)]
struct Stream {
    channel: Channel,
    lane: Arc<Lane>,
    /// Consecutive messages, the last of them number `newest`.
    log: VecDeque<Frame>,
    newest: u64,
    /// Everybody registered has been offered the messages up to this one.
    offered: u64,
    members: Vec<Member>,
    gaps: usize,
    round: Option<Round>,
}

/// A round under way.
#[derive(Debug)]
struct Round {
    /// Who is next.
    position: usize,
    /// Who comes from here on came later, and waits for the next round: else those who come and go
    /// could keep it from its end.
    end: usize,
    /// At the end everybody has been offered the messages up to this one.
    offers: u64,
}

impl Stream {
    fn new(channel: Channel, lane: Arc<Lane>, newest: u64) -> Self {
        lane.set_offered(newest);
        let (log, members) = Default::default();
        Self { channel, lane, log, newest, offered: newest, members, gaps: 0, round: None }
    }

    /// Nothing is pushed any more, and nobody is there to get it.
    fn is_dead(&self) -> bool {
        self.lane.members() == 0
    }

    fn collect(&mut self, capacity: usize) {
        let lane = &self.lane;
        // No more than a ring holds, however fast it is filled: what comes meanwhile is marked anew.
        for frame in std::iter::from_fn(|| lane.pop()).take(capacity) {
            if frame.position() != self.newest + 1 {
                // What gave way in the lane is newer than all of the log, and so many came after it
                // that the lane was full.
                self.log.clear();
            } else if self.log.len() == capacity {
                self.log.pop_front();
            }
            self.newest = frame.position();
            self.log.push_back(frame);
        }
        self.log.make_contiguous();
    }

    /// Returns whether a round begins that was not under way.
    fn begin_round(&mut self) -> bool {
        let begins = self.round.is_none() && self.newest > self.offered;
        if begins {
            self.round = Some(Round { position: 0, end: self.members.len(), offers: self.newest });
        }
        begins
    }

    /// The same for one who comes when all others have had everything; at the end what was kept for it
    /// may go.
    fn begin_round_for(&mut self, position: usize) -> bool {
        let begins = self.round.is_none() && self.members[position].next <= self.newest;
        if begins {
            self.round = Some(Round { position, end: position + 1, offers: self.newest });
        }
        begins
    }

    /// The position of the next one to be served; `None` ends the round.
    #[inline]
    fn advance(&mut self) -> Option<usize> {
        loop {
            let round = self.round.as_mut()?;
            while round.position < round.end {
                let member = &self.members[round.position];
                round.position += 1;
                if member.next <= self.newest && member.slot != GONE {
                    return Some(round.position - 1);
                }
            }
            self.offered = round.offers;
            self.lane.set_offered(self.offered);
            let (has_news, end) = (round.offers < self.newest, self.members.len());
            if !has_news && round.end == end {
                self.round = None;
                self.let_go();
                return None;
            }
            let position = if has_news { 0 } else { round.end };
            *round = Round { position, end, offers: self.newest };
        }
    }

    /// Lets go of the frames, unless a round is under way or a handshake that is not done may still
    /// want them.
    fn let_go(&mut self) {
        if self.round.is_none() && self.lane.members() <= self.members.len() - self.gaps {
            // The channel keeps the newest anyway, and it is for a publisher to drop the last reference that
            // this one stays.
            self.log.drain(..self.log.len().saturating_sub(1));
        }
    }

    /// Lends a member what it has not had.
    #[inline]
    fn serve(&mut self, position: usize) -> Option<Delivery<'_>> {
        let member = self.members.get_mut(position).filter(|member| member.next <= self.newest)?;
        let (log, _) = self.log.as_slices();
        // How many of the newest it is owed.
        let owed = self.newest + 1 - member.next;
        let lost = owed.saturating_sub(log.len() as u64);
        if lost > 0 {
            // Else nothing is written here that another shard writes as well.
            self.channel.counters().dropped.add(lost);
        }
        member.next = self.newest + 1;
        Some(Delivery { slot: member.slot, lost, frames: &log[log.len() - (owed - lost) as usize..] })
    }

    fn remove(&mut self, position: usize) {
        let Some(member) = self.members.get_mut(position).filter(|member| member.slot != GONE) else {
            debug_assert!(false, "deregistered once");
            return;
        };
        member.slot = GONE;
        self.gaps += 1;
        self.channel.exit(Arc::clone(&self.lane), member.next);
    }

    /// Moves members together when half of the places are gaps, so that it costs each that leaves
    /// two moves at most.
    fn close_gaps(&mut self, stream: usize, mut moved: impl FnMut(usize, Place)) {
        if self.gaps <= FEW.max(self.members.len() / 2) && self.gaps < self.members.len() {
            return;
        }
        if let Some(round) = &mut self.round {
            // It goes on where it was: from the beginning it might never come to its end.
            let still_before = |end| self.members[..end].iter().filter(|member| member.slot != GONE).count();
            (round.position, round.end) = (still_before(round.position), still_before(round.end));
        }
        self.members.retain(|member| member.slot != GONE);
        self.gaps = 0;
        for (position, member) in self.members.iter().enumerate() {
            moved(member.slot, Place { stream, position });
        }
        self.members.shrink_to(2 * self.members.len());
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.lane.set_unserved();
        self.channel.pass_on(&self.lane);
        for position in 0..self.members.len() {
            if self.members[position].slot != GONE {
                self.remove(position);
            }
        }
    }
}
