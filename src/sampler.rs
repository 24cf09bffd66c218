//! Samples the server's stacks from inside, where `perf` is missing or forbidden. Feature `sampler` only.
//!
//! With `TICKCAST_SAMPLER=FILE` in the environment the first SIGUSR1 starts it; the second, or the end of the server,
//! writes the folded stacks to FILE: one stack and its samples a line, as `inferno-flamegraph` takes them.
//! `TICKCAST_SAMPLER_HZ` is samples a second of CPU time.
//!
//! Time in the kernel counts for the function that made the system call. Inlined functions count for the one they are
//! inlined into: pprof puts samples of one function together before it asks what was inlined there.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use pprof::{ProfilerGuard, Report};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The environment variable that names the output.
const OUTPUT: &str = "TICKCAST_SAMPLER";
/// Samples a second of CPU time. Prime, so that they do not march in step with timers.
const FREQUENCY: i32 = 499;

/// Takes the first samples while there is one thread, which allocates nothing: pprof 0.15 loads the tables of unwinding
/// inside its first signal, and that allocates, which is not allowed in the middle of an allocation.
pub(crate) fn prepare() -> anyhow::Result<()> {
    if output().is_none() {
        return Ok(());
    }
    let guard = ProfilerGuard::new(999).context("cannot start the sampler")?;
    let began = Instant::now();
    // Two ticks of the slowest clock a kernel is built with (100 Hz), and some.
    while began.elapsed() < Duration::from_millis(50) {
        std::hint::spin_loop();
    }
    drop(guard);
    Ok(())
}

fn output() -> Option<PathBuf> {
    std::env::var_os(OUTPUT).map(PathBuf::from)
}

/// A sampler that waits, or samples.
pub(crate) struct Sampler {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Sampler {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut signals = signal(SignalKind::user_defined1()).context("cannot catch SIGUSR1")?;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let Some(output) = output() else { return Ok(()) };
            tokio::select! {
                _ = signals.recv() => {}
                _ = &mut stopped => return Ok(()),
            }
            let guard = ProfilerGuard::new(frequency()?).context("cannot start the sampler")?;
            tokio::select! {
                _ = signals.recv() => {}
                _ = &mut stopped => {}
            }
            // Names take seconds to look up.
            tokio::task::spawn_blocking(move || {
                let report = guard.report().build().context("cannot end the sampler")?;
                write(&report, &output)
            })
            .await?
        });
        Ok(Self { stop, task })
    }

    /// Writes what was sampled, unless that is done.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        // If nobody listens the task is at its end.
        let _ = self.stop.send(());
        self.task.await?
    }
}

fn frequency() -> anyhow::Result<i32> {
    let text = std::env::var("TICKCAST_SAMPLER_HZ").ok();
    text.map_or(Ok(FREQUENCY), |text| text.parse().context("TICKCAST_SAMPLER_HZ"))
}

fn write(report: &Report, output: &Path) -> anyhow::Result<()> {
    let mut stacks: HashMap<String, isize> = HashMap::new();
    for (frames, count) in &report.data {
        let mut stack = frames.thread_name.clone();
        // From the innermost; of what one address stands for, the last is the function that is there.
        for name in frames.frames.iter().rev().filter_map(|inlined| inlined.last()) {
            let _ = write!(stack, ";{}", name.name().replace(';', ":"));
        }
        *stacks.entry(stack).or_default() += count;
    }
    let mut lines: Vec<_> = stacks.into_iter().map(|(stack, count)| format!("{stack} {count}\n")).collect();
    lines.sort_unstable();
    // Whoever waits for the file finds it whole.
    let partial = output.with_extension("partial");
    std::fs::write(&partial, lines.concat())
        .and_then(|()| std::fs::rename(&partial, output))
        .with_context(|| format!("cannot write {}", output.display()))
}
