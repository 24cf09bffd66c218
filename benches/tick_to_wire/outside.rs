//! The binary, another process, seen from outside.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::lines::{drive, wait_until};
use crate::plan::Plan;
use crate::table::print_row;
use crate::{Result, client};

/// Ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn measure(plan: &Plan, lines: &[Vec<u8>]) -> Result<()> {
    let workers = plan.workers.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickcast"));
    command.args(["--listen", "127.0.0.1:0", "--source", "stdin", "--broadcast-interval", "0"]);
    command.args(["--heartbeat-interval", "0", "--workers", &workers]);
    let mut server = Process(command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    let mut pipe = server.0.stdin.take().ok_or("no stdin")?;
    let stderr = BufReader::new(server.0.stderr.take().ok_or("no stderr")?);
    let mut log = stderr.lines().map_while(std::result::Result::ok);
    let line = log.find(|line| line.contains("listening")).ok_or("the server does not listen")?;
    let address = line.split("http://").nth(1).map(|rest| rest.trim_end_matches('/'));
    let frames = client::connect(address.ok_or("no address")?.parse()?)?;
    let written = drive(plan, lines, &mut pipe, |n| wait_until("the message", || frames.len() > n))?;
    if frames.len() != written.len() {
        return Err("a message more or less than lines: the interval is too short".into());
    }
    let times: Vec<Duration> =
        written.iter().enumerate().filter_map(|(n, at)| Some(frames.get(n)?.saturating_duration_since(*at))).collect();
    println!("from outside, the binary");
    print_row("  write until the client's read", plan.counted(&times));
    Ok(())
}
