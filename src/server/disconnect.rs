//! Why a session ended: a counted outcome, not an error.

use std::fmt;
use std::io;

/// Stands for a Close without a code (RFC 6455 section 7.1.5); never sent.
pub(super) const NO_CODE: u16 = 1005;

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The client sent Close, with this code if any.
    Closed(Option<u16>),
    /// The connection ended without a Close.
    Gone,
    /// A Ping was not answered in time.
    Heartbeat,
    /// The token that let the client in has expired.
    Expired,
    /// The client broke RFC 6455; what it did.
    Protocol(&'static str),
    /// A text message of the client was not UTF-8.
    Utf8,
    /// A message of the client was larger than allowed.
    TooBig,
    /// The client did not keep up for as long as it may.
    Slow,
    /// The client took nothing of what it was sent for too long.
    Stalled,
    /// The client said more than it may in a second.
    Flood,
    /// The server shuts down.
    Shutdown,
    /// The server restarts.
    Restart,
    /// The socket failed.
    Io(io::ErrorKind),
}

impl Disconnect {
    /// The label under which it is counted.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Gone => "gone",
            Self::Heartbeat => "heartbeat",
            Self::Expired => "expired",
            Self::Protocol(_) => "protocol",
            Self::Utf8 => "utf8",
            Self::TooBig => "too_big",
            Self::Slow => "slow",
            Self::Stalled => "stalled",
            Self::Flood => "flood",
            Self::Shutdown => "shutdown",
            Self::Restart => "restart",
            Self::Io(_) => "io",
        }
    }

    /// Code and text of the Close frame the server sends (RFC 6455 section 7.4.1), 1005 if that frame
    /// has none; `None` if the client can no longer be told.
    pub fn close(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Closed(code) => Some((code.unwrap_or(NO_CODE), "")),
            Self::Heartbeat => Some((1008, "heartbeat timeout")),
            Self::Expired => Some((1008, "token expired")),
            Self::Protocol(what) => Some((1002, what)),
            Self::Utf8 => Some((1007, "text is not UTF-8")),
            Self::TooBig => Some((1009, "message too big")),
            Self::Slow => Some((1008, "slow consumer")),
            Self::Stalled => Some((1008, "write timeout")),
            Self::Flood => Some((1008, "too many messages")),
            Self::Shutdown => Some((1001, "server shutting down")),
            // Not in RFC 6455: registered with IANA, "Service Restart".
            Self::Restart => Some((1012, "server restarting")),
            Self::Gone | Self::Io(_) => None,
        }
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Some(code)) => write!(f, "closed by the client with {code}"),
            Self::Closed(None) => f.write_str("closed by the client"),
            Self::Gone => f.write_str("connection ended without a Close"),
            Self::Heartbeat => f.write_str("no Pong in time"),
            Self::Expired => f.write_str("token expired"),
            Self::Protocol(what) => write!(f, "protocol error: {what}"),
            Self::Utf8 => f.write_str("text is not UTF-8"),
            Self::TooBig => f.write_str("message too big"),
            Self::Slow => f.write_str("did not keep up"),
            Self::Stalled => f.write_str("took nothing for too long"),
            Self::Flood => f.write_str("too many messages"),
            Self::Restart => f.write_str("server restarting"),
            Self::Shutdown => f.write_str("server shutting down"),
            Self::Io(kind) => write!(f, "socket failed: {kind}"),
        }
    }
}
