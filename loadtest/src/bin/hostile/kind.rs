//! The kinds of hostile clients, and how many there are of each.

/// One way to be hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    HalfOpen,
    Churn,
    Reset,
    HalfClose,
    Dribble,
    PingFlood,
    FragmentFlood,
    SlowReaders,
    Garbage,
    Protocol,
    Oversize,
}

/// How many connections begin in a second, and how many there are at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) per_second: f64,
    pub(crate) at_once: usize,
}

impl Kind {
    /// All of them by name, with what they do.
    pub(crate) const ALL: [(&'static str, Self, &'static str); 11] = [
        ("half-open", Self::HalfOpen, "500 connections that send half a handshake or nothing"),
        ("churn", Self::Churn, "2,000 a second that connect and leave at once: Close, FIN, RST, without handshake"),
        ("reset", Self::Reset, "RST in the middle of a frame, a head or a request"),
        ("half-close", Self::HalfClose, "shut down the side they write on and keep reading"),
        ("dribble", Self::Dribble, "handshake and frames one byte at a time"),
        ("ping-flood", Self::PingFlood, "Pings without end"),
        ("fragment-flood", Self::FragmentFlood, "a message of empty continuations without end"),
        ("slow-readers", Self::SlowReaders, "10 that read nothing, or 16 bytes a second"),
        ("garbage", Self::Garbage, "random bytes instead of a handshake, and behind one"),
        ("protocol", Self::Protocol, "each violation of RFC 6455 in turn; the Close must have its code"),
        ("oversize", Self::Oversize, "heads of 10,000 lines, long paths, 200 MiB in fragments or in one frame"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind, _)| *kind == self).map_or("", |(name, _, _)| name)
    }

    /// What it does unless told otherwise: enough to be felt, little enough for one thread.
    pub(crate) fn pace(self) -> Pace {
        let (per_second, at_once) = match self {
            Self::HalfOpen => (500.0, 500),
            Self::Churn => (2_000.0, 500),
            Self::Reset => (200.0, 100),
            Self::HalfClose | Self::Garbage => (50.0, 100),
            Self::Protocol => (100.0, 100),
            Self::Dribble => (20.0, 50),
            Self::PingFlood | Self::FragmentFlood => (10.0, 4),
            Self::SlowReaders => (10.0, 10),
            Self::Oversize => (10.0, 5),
        };
        Pace { per_second, at_once }
    }
}
