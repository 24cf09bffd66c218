//! From a message of the source to the socket of the first client, on a server that has nothing
//! else to do: interval 0, one client on loopback TCP that reads, one line at a time.
//!
//! ```sh
//! cargo bench --bench tick_to_wire -- --messages 5000 --symbols 4 --interval 5ms
//! ```
//!
//! Four runs, one after the other, over the same lines (quotes and trades of the synthetic market):
//!
//! * *The server*: the real `Feed`, `Publisher` and `Server` in this process. The clock starts when
//!   the reading thread's `read` of the pipe has returned, and stops when the `send` to the client has
//!   returned. Exact for every message and without a hook: the start is taken by the input that the
//!   feed is given, `Frame::published` says when `publish` was called, and from there the sums in
//!   `Metrics::delivery_seconds` and `publish_seconds` grow by exactly this message's times.
//! * *The same pieces, one by one*: `Feed`, `Decoder`, `MarketState`, `SnapshotWriter`, `Channel`,
//!   `Rounds` and a socket, in two tasks of the benchmark that take the time between them; some 30 ns a
//!   stage are the clock's. Only how a publish call divides is an estimate: framing is done once
//!   more, afterwards, and `ring` is the call without it. These tasks do less than the server's, which
//!   also look at deadlines, arrivals and marks; that is the difference between the sum and the total.
//! * *The machine*: one thread that reads the pipe, and sends as many bytes at once. Nothing that has to
//!   read and to send can be faster here.
//! * *From outside*: the binary with the pipe as its standard input, another process. From before
//!   the `write` into the pipe until the client's `read` has returned: an upper bound, since it
//!   includes the pipe and waking up the client.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

mod client;
mod floor;
mod lines;
mod outside;
mod plan;
mod served;
mod stages;
mod table;

use std::error::Error;

use plan::Plan;

// What the binary has.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = Plan::from_arguments(&arguments)?;
    let lines = lines::make(&plan)?;
    let Plan { messages, symbols, interval, workers, .. } = plan;
    println!("{messages} messages, {symbols} symbols, one each {interval:?}; {workers} workers, one client");
    table::print_head();
    let (total, frame) = served::measure(&plan, &lines)?;
    stages::measure(&plan, &lines)?;
    floor::measure(&plan, &lines, &frame)?;
    outside::measure(&plan, &lines)?;
    table::print_verdict(&total);
    Ok(())
}
