//! The load-test harness for WebSocket fan-out servers: a place holder that says so.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // There is nobody to tell if that fails.
    let _ = writeln!(std::io::stderr(), "loadtest: this version measures nothing yet");
    ExitCode::from(2)
}
