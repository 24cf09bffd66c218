//! What there is to say about a run, by topic, in the words of the terminal and of the page alike.

use super::format::{bandwidth, count, percent, rate, share, size, three_digits, time_us};
use super::grid::Grid;
use super::grid::Side::{Left, Right};
use super::model::{Counted, Quantiles, Report, Run, Verdict};

/// A figure and its name.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

pub(crate) fn fact(name: &'static str, value: impl Into<String>) -> Fact {
    Fact { name, value: value.into() }
}

/// A distribution and its name, or why there is none.
pub(crate) type Distribution = (&'static str, Result<Quantiles, String>);

/// How it ended, in a word.
pub(crate) fn verdict(run: &Run) -> &'static str {
    match run.verdict {
        Verdict::Held if run.thresholds.is_empty() => "valid",
        Verdict::Held => "held",
        Verdict::Crossed => "CROSSED",
        Verdict::Invalid => "INVALID",
    }
}

/// The URL, if it is known.
pub(crate) fn url(run: &Run) -> &str {
    setting(run, "url").unwrap_or("unknown URL")
}

/// A setting, if it was given.
fn setting<'a>(run: &'a Run, key: &str) -> Option<&'a str> {
    run.config.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// ` (--key value)`.
fn flag(run: &Run, key: &str) -> String {
    setting(run, key).map_or_else(|| format!(" (--{key})"), |value| format!(" (--{key} {value})"))
}

pub(crate) fn connections(run: &Run) -> Vec<Fact> {
    let c = &run.connections;
    let mut facts = vec![
        fact("open", format!("{} of {}", count(c.open_at_start), count(c.wanted))),
        fact("ramp", time_us(c.ramp_seconds * 1e6)),
        fact("errors", count(c.connect_errors)),
        fact("disconnects", count(c.disconnects)),
        fact("open at the end", count(c.open_at_end)),
    ];
    if c.opened != c.open_at_start {
        facts.push(fact("handshakes", count(c.opened)));
    }
    facts
}

/// Everything that has a reason: what it is, the reason, how often.
pub(crate) fn reasons(run: &Run) -> Vec<(&'static str, &Counted)> {
    let errors = run.connections.connect_error_reasons.iter().map(|counted| ("connect error", counted));
    let disconnects = run.connections.disconnect_reasons.iter().map(|counted| ("disconnect", counted));
    let refused = run.publisher.iter().flat_map(|publisher| &publisher.error_reasons);
    errors.chain(disconnects).chain(refused.map(|counted| ("publish error", counted))).collect()
}

pub(crate) fn traffic(run: &Run) -> Vec<Fact> {
    let t = &run.traffic;
    let mut facts = vec![
        fact("messages", count(t.messages)),
        fact("messages/s", rate(t.messages_per_second)),
        fact("payload", bandwidth(t.payload_bytes_per_second)),
    ];
    if t.binary > 0 {
        facts.push(fact("binary", count(t.binary)));
    }
    facts.push(match (t.delivered, t.expected) {
        (Some(delivered), Some(expected)) => {
            fact("delivered", format!("{} of {} expected", share(delivered), count(expected)))
        }
        (Some(delivered), None) => fact("delivered", share(delivered)),
        (None, _) => fact("delivered", "not measured: expected deliveries are not known"),
    });
    facts.push(fact("longest silence", time_us(t.longest_silence_us)));
    facts
}

/// The distributions of the latency table.
pub(crate) fn distributions(run: &Run) -> Vec<Distribution> {
    let latency = run.latency.as_ref().filter(|latency| latency.delivery_us.count > 0);
    let delivery = latency.map(|latency| latency.delivery_us);
    let other = run.traffic.future + run.traffic.retained;
    let no_time = if run.traffic.messages == 0 {
        "not measured: no message came".to_owned()
    } else if other > 0 {
        "not measured: all times were in the future, or older than the connection".to_owned()
    } else {
        format!("not measured: no message had a time{}", flag(run, "ts-field"))
    };
    let mut all = vec![("delivery", delivery.ok_or(no_time))];
    if let Some(uncorrected) = latency.and_then(|latency| latency.uncorrected_us) {
        all.push(("uncorrected", Ok(uncorrected)));
    }
    let apart = "not measured: no message was seen by two clients, or they cannot be told apart (--seq-field)";
    all.push(("spread", some(run.spread_us).ok_or_else(|| apart.to_owned())));
    let nobody = "not measured: no connection was made";
    all.push(("connect", some(run.connections.connect_us).ok_or_else(|| nobody.to_owned())));
    if let Some(publisher) = &run.publisher {
        let silent = "not measured: the server answered no publication";
        all.push(("publish answer", some(publisher.answer_us).ok_or_else(|| silent.to_owned())));
    }
    all
}

/// A distribution of nothing was not measured.
pub(crate) fn some(quantiles: Option<Quantiles>) -> Option<Quantiles> {
    quantiles.filter(|quantiles| quantiles.count > 0)
}

/// Messages that are not in the latencies as they should be; empty if there are none.
pub(crate) fn oddities(run: &Run) -> Vec<Fact> {
    let traffic = &run.traffic;
    let all = [
        fact("without a time", count(traffic.untimed)),
        fact("with a time in the future", count(traffic.future)),
        fact("kept for newcomers", count(traffic.retained)),
    ];
    all.into_iter().filter(|fact| fact.value != "0").collect()
}

pub(crate) fn sequence(run: &Run) -> Result<Vec<Fact>, String> {
    let Some(sequence) = run.sequence else {
        return Err(format!("not measured: no message had a sequence number{}", flag(run, "seq-field")));
    };
    let mut facts = vec![
        fact("holes", count(sequence.holes)),
        fact("repeats", count(sequence.repeats)),
        fact("disorder", count(sequence.disorder)),
        fact("numbered", count(sequence.numbered)),
    ];
    let rare = [("restarts", sequence.restarts), ("silent clients", sequence.silent_clients)];
    facts.extend(rare.into_iter().filter(|(_, value)| *value > 0).map(|(name, value)| fact(name, count(value))));
    Ok(facts)
}

pub(crate) fn publisher(run: &Run) -> Result<Vec<Fact>, String> {
    let Some(publisher) = &run.publisher else {
        return Err("not the harness's own (--publish-url)".to_owned());
    };
    let mut facts = vec![
        fact("published", format!("{} of {} due", count(publisher.published), count(publisher.scheduled))),
        fact("rate", format!("{}/s", rate(publisher.rate))),
        fact("errors", count(publisher.publish_errors)),
    ];
    if let Some(late) = some(publisher.late_us) {
        facts.push(fact("late p99", format!("{} (max {})", time_us(late.p99), time_us(late.max))));
    }
    if let Some(wakeup) = some(publisher.wakeup_us) {
        facts.push(fact("wake-up p99", format!("{} (max {})", time_us(wakeup.p99), time_us(wakeup.max))));
    }
    Ok(facts)
}

pub(crate) fn server(run: &Run) -> Result<Vec<Fact>, String> {
    let Some(server) = &run.server else {
        return Err("not measured: its process is not known (--server-pid)".to_owned());
    };
    let cores = if run.seconds > 0.0 { server.cpu_seconds / run.seconds } else { 0.0 };
    let kernel = if server.cpu_seconds > 0.0 { server.kernel_seconds / server.cpu_seconds } else { 0.0 };
    let cores = match kernel {
        0.0 => three_digits(cores),
        kernel => format!("{} ({} of it kernel)", three_digits(cores), percent(kernel)),
    };
    let mut facts = vec![
        fact("CPU/message", server.cpu_us_per_message.map_or_else(|| "not measured".to_owned(), time_us)),
        fact("cores", cores),
        fact("descriptors", count(server.descriptors)),
        fact("threads", count(server.threads)),
        fact("RSS before", size(server.rss_before_bytes as f64)),
        fact("connected", size(server.rss_connected_bytes as f64)),
        fact("max", size(server.rss_max_bytes as f64)),
        fact("end", size(server.rss_end_bytes as f64)),
    ];
    if let Some(bytes) = server.bytes_per_connection {
        facts.push(fact("per connection", size(bytes)));
    }
    Ok(facts)
}

pub(crate) fn harness(run: &Run) -> Vec<Fact> {
    let harness = &run.harness;
    let mut facts = vec![
        fact("workers", harness.workers.to_string()),
        fact("busiest", percent(harness.busiest_worker)),
        fact("waiting for CPU", percent(harness.waiting_for_cpu)),
        fact("saturated", format!("{} s", count(harness.saturated_seconds))),
    ];
    facts.push(match some(harness.own_delay_us) {
        Some(delay) => fact("own delay p99", format!("{} (max {})", time_us(delay.p99), time_us(delay.max))),
        None => fact("own delay", "not measured"),
    });
    facts.push(fact("RSS", size(harness.rss_bytes as f64)));
    if let Some(bytes) = harness.bytes_per_connection {
        facts.push(fact("per connection", size(bytes)));
    }
    facts
}

/// A row for each run.
pub(crate) fn overview(report: &Report) -> Grid {
    let mut grid = Grid::new(&[
        ("verdict", Left),
        ("run", Left),
        ("open", Right),
        ("messages/s", Right),
        ("delivered", Right),
        ("p50", Right),
        ("p99", Right),
        ("p99.9", Right),
        ("max", Right),
        ("holes", Right),
    ]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    for run in &report.runs {
        let delivery = some(run.latency.as_ref().map(|latency| latency.delivery_us));
        grid.cells(vec![
            verdict(run).to_owned(),
            run.name.clone(),
            count(run.connections.open_at_start),
            rate(run.traffic.messages_per_second),
            or_dash(run.traffic.delivered.map(share)),
            or_dash(delivery.map(|q| time_us(q.p50))),
            or_dash(delivery.map(|q| time_us(q.p99))),
            or_dash(delivery.map(|q| time_us(q.p99_9))),
            or_dash(delivery.map(|q| time_us(q.max))),
            or_dash(run.sequence.map(|sequence| count(sequence.holes))),
        ]);
    }
    grid
}
