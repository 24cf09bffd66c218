//! What the machine takes: one thread that reads the pipe and sends, with nothing in between.

use std::io::{PipeReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::lines::{Stamps, drive, wait_until};
use crate::plan::Plan;
use crate::table::print_row;
use crate::{Result, client};

/// Sends `frame` for each line.
pub(crate) fn measure(plan: &Plan, lines: &[Vec<u8>], frame: &[u8]) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let _frames = client::read(TcpStream::connect(listener.local_addr()?)?);
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let (reader, mut writer) = std::io::pipe()?;
    let (reads, writes) = (Stamps::default(), Stamps::default());
    let (frame, read, written) = (frame.to_vec(), reads.clone(), writes.clone());
    std::thread::spawn(move || answer(reader, socket, &frame, &read, &written));
    let mut times: Vec<Duration> = Vec::with_capacity(lines.len());
    drive(plan, lines, &mut writer, |n| {
        wait_until("the message", || writes.len() > n)?;
        times.extend(writes.get(n).zip(reads.get(n)).map(|(written, read)| written - read));
        Ok(())
    })?;
    println!("the machine: one thread");
    print_row("  read, then send at once", plan.counted(&times));
    Ok(())
}

fn answer(mut pipe: PipeReader, mut socket: TcpStream, frame: &[u8], reads: &Stamps, writes: &Stamps) {
    let mut buffer = [0; 8 << 10];
    while let Ok(1..) = pipe.read(&mut buffer) {
        let read = Instant::now();
        if socket.write_all(frame).is_err() {
            return;
        }
        let written = Instant::now();
        reads.push(read);
        writes.push(written);
    }
}
