//! The floor: what the kernel takes to deliver a message, and as little else as can be.
//!
//! One thread. A publication is framed once and sent with one non-blocking `send` to each socket in turn;
//! there are no queues. A client whose socket is full loses the message. One that took part of a frame gets
//! the rest when its socket takes more, and loses what is published until then. What fan-out costs beyond
//! this is the server's own; a server comes in below it only by sending less often than once a message.

use std::process::ExitCode;

mod client;
mod frame;
mod publisher;
mod server;

fn main() -> ExitCode {
    baselines::main("floor", |listener| server::Server::new(listener)?.run())
}
