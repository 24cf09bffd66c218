//! What is measured.

use std::time::Duration;

use tickcast::Config;
use tickcast::source::SourceKind;

use crate::Result;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) messages: usize,
    pub(crate) symbols: usize,
    pub(crate) interval: Duration,
    pub(crate) workers: usize,
    /// Messages before those that count: every symbol is known by then, and buffers have their size.
    pub(crate) warm_up: usize,
}

impl Plan {
    /// Without `--bench` cargo only wants to see it run.
    pub(crate) fn from_arguments(arguments: &[String]) -> Result<Self> {
        let smoke = !arguments.iter().any(|argument| argument == "--bench");
        let (messages, interval) = if smoke { (20, 2) } else { (5_000, 5) };
        let interval = Duration::from_millis(interval);
        let mut plan = Self { messages, symbols: 4, interval, workers: Config::default().workers, warm_up: 0 };
        let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(name) = rest.next() {
            let field = match name.as_str() {
                "--messages" => &mut plan.messages,
                "--symbols" => &mut plan.symbols,
                "--workers" => &mut plan.workers,
                "--interval" => {
                    plan.interval =
                        rest.next().and_then(|value| duration(value)).ok_or("--interval takes 5ms, 500us")?;
                    continue;
                }
                // What a test runner passes on.
                _ if smoke => continue,
                _ => return Err(format!("{name}: --messages, --symbols, --interval, --workers are known").into()),
            };
            let value = rest.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
            *field = value.ok_or_else(|| format!("{name} takes a number from 1"))?;
        }
        plan.warm_up = 8 * plan.symbols + plan.messages / 20;
        Ok(plan)
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config { source: SourceKind::Stdin, workers: self.workers, ..Config::default() };
        config.listen.set_port(0);
        config.ws.broadcast_interval = Duration::ZERO;
        // The client answers no Ping.
        config.ws.heartbeat_interval = Duration::ZERO;
        config
    }

    /// A runtime as the binary's.
    pub(crate) fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(self.workers).enable_all().build()?)
    }

    /// The ones that count.
    pub(crate) fn counted<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        &all[self.warm_up.min(all.len())..]
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number = digits.parse().ok()?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}
