//! Who the clients are: their part of the network, what they do, and what happens to them.

use fastrand::Rng;

use super::agenda::Millis;
use super::flow::Link;

/// How a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Request,
    /// Connects and says nothing, or not all.
    Silence,
    HalfRequest,
}

/// Something that happens to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It reads nothing for so long.
    Stall(Millis),
    /// Nothing gets through in either direction for so long.
    Partition(Millis),
    /// It reads and says nothing any more.
    Mute,
    /// Its machine is gone: nothing gets through, for ever.
    Gone,
    Leave(Farewell),
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// With a Close, and waits for the answer.
    Close,
    /// Closes its socket.
    End,
    /// Says that it will say no more, and reads on.
    HalfClose,
    Reset,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Persona {
    pub(crate) link: Link,
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
    /// Bytes it reads in a tenth of a second, if not all at once.
    pub(crate) allowance: Option<usize>,
    /// Its reads and the server's get pieces of any size.
    pub(crate) splits: bool,
    pub(crate) manners: Manners,
    /// Whether it says more than it must.
    pub(crate) speaks: bool,
    /// Mean time between faults; `None` if only what happens to all happens to it.
    pub(crate) fault_every: Option<Millis>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Steady,
    Mobile,
    Slow,
    Staller,
    Distant,
    Mortal,
    Visitor,
    Crumbs,
    Rude,
}

impl Persona {
    /// A client of a channel that publishes `bytes_per_second` in messages of up to `largest` bytes.
    pub(crate) fn new(rng: &mut Rng, bytes_per_second: usize, largest: usize) -> Self {
        use Kind::{Crumbs, Distant, Mobile, Mortal, Rude, Slow, Staller, Steady, Visitor};
        let kind = match rng.u32(0..100) {
            0..46 => Steady,
            46..60 => Mobile,
            60..68 => Slow,
            68..76 => Staller,
            76..82 => Distant,
            82..86 => Mortal,
            86..95 => Visitor,
            95..98 => Crumbs,
            _ => Rude,
        };
        let near = Link { latency: rng.u64(1..5), jitter: rng.u64(0..3), loss: 0, segment: 1_460 };
        let far = Link { latency: rng.u64(15..150), jitter: rng.u64(0..30), loss: rng.u32(2..50), segment: 1_460 };
        let mut persona = Self {
            link: if matches!(kind, Mobile | Distant) || rng.u32(0..8) == 0 { far } else { near },
            send_buffer: rng.usize(1..16) << 10,
            receive_buffer: rng.usize(1..16) << 10,
            allowance: None,
            splits: kind == Crumbs || rng.u32(0..10) == 0,
            manners: Manners::Request,
            speaks: rng.u32(0..10) == 0,
            fault_every: (kind != Steady).then(|| rng.u64(5_000..60_000)),
            kind,
        };
        match kind {
            Slow => persona.make_slow(rng, bytes_per_second, largest),
            Crumbs => persona.link.segment = rng.usize(1..40),
            Rude => persona.manners = if rng.bool() { Manners::Silence } else { Manners::HalfRequest },
            _ => {}
        }
        persona
    }

    /// Reads less than is published, so little that it may not see a Ping in time, or a little more.
    fn make_slow(&mut self, rng: &mut Rng, bytes_per_second: usize, largest: usize) {
        let rate = bytes_per_second * rng.usize(40..130) / 100;
        self.allowance = Some((rate / 10).max(5));
        let buffers = (rate * rng.usize(20..150) / 100 / 2).max(largest / 2 + 300);
        (self.send_buffer, self.receive_buffer) = (buffers, buffers);
    }

    /// Whether nothing delays it but its distance.
    pub(crate) fn is_prompt(&self) -> bool {
        self.allowance.is_none() && self.link.loss == 0 && self.link.segment > 1_000
    }

    /// How long its bytes may be under way, whatever is lost, when nothing is wrong: five
    /// retransmissions in a row, and what an allowance makes wait.
    pub(crate) fn patience(&self, backlog: usize) -> Millis {
        let reads = self.allowance.map_or(0, |allowance| {
            100 * (self.send_buffer + self.receive_buffer + backlog).div_ceil(allowance) as Millis
        });
        // A window is what the receiver has room for, and it tells of a third of it at a time.
        let windows = (self.send_buffer + backlog).div_ceil((self.receive_buffer / 3).max(1)) as Millis;
        let round_trip = 2 * (self.link.latency + self.link.jitter);
        round_trip * (1 + windows) + if self.link.loss > 0 { 10_000 } else { 10 } + reads
    }

    /// What happens next.
    pub(crate) fn fault(&self, rng: &mut Rng) -> Fault {
        // As often shorter than a heartbeat takes as longer.
        let duration = [rng.u64(50..3_000), rng.u64(1_000..20_000)][rng.usize(0..2)];
        let leave = [Farewell::Close, Farewell::Close, Farewell::End, Farewell::HalfClose, Farewell::Reset];
        match self.kind {
            Kind::Mortal if rng.bool() => Fault::Mute,
            Kind::Mortal => Fault::Gone,
            Kind::Visitor => Fault::Leave(leave[rng.usize(0..leave.len())]),
            Kind::Distant => Fault::Partition(duration),
            Kind::Staller => Fault::Stall(duration),
            _ => [Fault::Stall(duration), Fault::Partition(duration), Fault::Leave(leave[rng.usize(0..leave.len())])]
                [rng.usize(0..3)],
        }
    }
}
