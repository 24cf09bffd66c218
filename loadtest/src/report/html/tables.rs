//! The tables of a run.

use crate::report::chart::escape;
use crate::report::facts::{self, Fact};
use crate::report::format::{count, percent, rate, size, three_digits, time_us, utc};
use crate::report::grid::{Grid, Row, Side};
use crate::report::model::{Report, Run, Second};
use crate::report::outcome;

/// Rows of the timeline; longer runs are drawn together.
const MOST_ROWS: usize = 300;

/// All that there is to read about a run.
pub(super) fn all(run: &Run) -> String {
    let mut out = String::from("<div class=\"tables\">\n");
    out.push_str(&wide_panel("Latency", &grid(&outcome::quantile_grid("", &facts::distributions(run)))));
    for part in outcome::parts(run) {
        let title = format!("Scenario: {}", part.title);
        out.push_str(&wide_panel(&title, &format!("{}{}", line_of(&part.facts), grid(&part.grid))));
    }
    out.push_str("</div>\n<div class=\"cards\">\n");
    out.push_str(&thresholds(run));
    let mut connections = facts::connections(run);
    if let Some(connect) = facts::some(run.connections.connect_us) {
        connections.push(facts::fact("connect p99", time_us(connect.p99)));
    }
    out.push_str(&panel("Connections", &list(&connections)));
    let mut traffic = facts::traffic(run);
    traffic.push(facts::fact("pings", count(run.traffic.pings)));
    traffic.extend(facts::oddities(run));
    out.push_str(&panel("Traffic", &list(&traffic)));
    for (title, facts) in
        [("Sequence", facts::sequence(run)), ("Publisher", facts::publisher(run)), ("Server", facts::server(run))]
    {
        out.push_str(&panel(title, &list_or_why(facts)));
    }
    out.push_str(&panel("Harness", &list(&facts::harness(run))));
    out.push_str("</div>\n");
    out.push_str(&reasons(run));
    out.push_str(&timeline(&run.timeline));
    out.push_str(&configuration(run));
    out
}

/// A line for each run, and the way to it.
pub(super) fn overview(report: &Report) -> String {
    let table = grid_of(&facts::overview(report), |at, column, cell| match column {
        0 => format!("<span class=\"{}\">{}</span>", super::verdict_class(&report.runs[at]), escape(cell)),
        1 => format!("<a href=\"#run-{at}\">{}</a>", escape(cell)),
        _ => escape(cell),
    });
    wide_panel("Runs", &table)
}

/// How and where the report was made.
pub(super) fn origin(report: &Report) -> String {
    let command: Vec<String> = report.command.iter().map(|argument| quoted(argument)).collect();
    let host = &report.host;
    let facts = [
        facts::fact("loadtest", format!("{}, report schema {}", report.version, report.schema)),
        facts::fact("processor", format!("{}, {} of its CPUs", host.cpu, host.cpus)),
        facts::fact("system", host.system.clone()),
    ];
    let command = format!("<pre>{}</pre>\n", escape(&command.join(" ")));
    wide_panel("Command and host", &format!("{command}{}", list(&facts)))
}

/// An argument as a shell would take it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

fn panel(title: &str, content: &str) -> String {
    format!("<div class=\"panel\"><h3>{}</h3>\n{content}</div>\n", escape(title))
}

/// A panel that takes all of the width.
fn wide_panel(title: &str, content: &str) -> String {
    format!("<div class=\"panel wide\"><h3>{}</h3>\n{content}</div>\n", escape(title))
}

fn grid(grid: &Grid) -> String {
    grid_of(grid, |_, _, cell| escape(cell))
}

/// A table with what `show` makes of row, column and cell.
fn grid_of(grid: &Grid, show: impl Fn(usize, usize, &str) -> String) -> String {
    let class = |side: Side| if side == Side::Left { " class=\"left\"" } else { "" };
    let mut out = String::from("<div class=\"scroll\"><table><thead><tr>");
    for column in &grid.columns {
        out.push_str(&format!("<th{}>{}</th>", class(column.side), escape(&column.head)));
    }
    out.push_str("</tr></thead><tbody>\n");
    for (at, row) in grid.rows.iter().enumerate() {
        out.push_str("<tr>");
        match row {
            Row::Cells(cells) => {
                for (number, (cell, column)) in cells.iter().zip(&grid.columns).enumerate() {
                    out.push_str(&format!("<td{}>{}</td>", class(column.side), show(at, number, cell)));
                }
            }
            Row::Words(first, words) => {
                let (first, words, span) = (escape(first), escape(words), grid.columns.len() - 1);
                out.push_str(&format!(
                    "<td class=\"left\">{first}</td><td class=\"none\" colspan=\"{span}\">{words}</td>"
                ));
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

/// Facts below each other.
fn list(facts: &[Fact]) -> String {
    let rows = facts.iter().map(|fact| format!("<dt>{}</dt><dd>{}</dd>\n", escape(fact.name), escape(&fact.value)));
    format!("<dl class=\"list\">\n{}</dl>\n", rows.collect::<String>())
}

fn list_or_why(facts: Result<Vec<Fact>, String>) -> String {
    match facts {
        Ok(facts) => list(&facts),
        Err(why) => format!("<p class=\"none\">{}</p>\n", escape(&why)),
    }
}

/// Facts beside each other.
fn line_of(facts: &[Fact]) -> String {
    let parts = facts.iter().map(|fact| format!("<span>{} <b>{}</b></span>", escape(fact.name), escape(&fact.value)));
    format!("<p class=\"line\">{}</p>\n", parts.collect::<Vec<_>>().join(" "))
}

fn thresholds(run: &Run) -> String {
    if run.thresholds.is_empty() {
        return String::new();
    }
    let rows = run.thresholds.iter().map(|threshold| {
        let word = threshold.word();
        let class = if word == "held" { "good" } else { "bad" };
        let shown = if threshold.shown.is_empty() { "not measured" } else { &threshold.shown };
        let (expression, shown) = (escape(&threshold.expression), escape(shown));
        format!("<tr><td class=\"left {class}\">{word}</td><td class=\"left\">{expression}</td><td>{shown}</td></tr>\n")
    });
    let rows: String = rows.collect();
    let head = "<th class=\"left\"></th><th class=\"left\">fails if</th><th>it was</th>";
    panel(
        "Thresholds",
        &format!("<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>\n"),
    )
}

/// Why connections failed or ended and publications were refused.
fn reasons(run: &Run) -> String {
    let reasons = facts::reasons(run);
    if reasons.is_empty() {
        return String::new();
    }
    let mut table = Grid::new(&[("", Side::Left), ("times", Side::Right), ("reason", Side::Left)]);
    for (what, counted) in reasons {
        table.cells(vec![what.to_owned(), count(counted.count), counted.reason.clone()]);
    }
    wide_panel("Reasons", &grid(&table).replacen("<table>", "<table class=\"reasons\">", 1))
}

fn configuration(run: &Run) -> String {
    let rows = run.config.iter().map(|(key, value)| {
        format!("<tr><td class=\"left\">--{}</td><td class=\"left\">{}</td></tr>\n", escape(key), escape(value))
    });
    let rows: String = rows.collect();
    format!(
        "<details class=\"panel wide\"><summary>Configuration</summary>\n<p class=\"line\"><span>started <b>{}</b></span></p>\n\
         <div class=\"scroll\"><table class=\"settings\"><tbody>\n{rows}</tbody></table></div></details>\n",
        utc(run.started_ms)
    )
}

fn timeline(seconds: &[Second]) -> String {
    if seconds.is_empty() {
        return String::new();
    }
    let each = seconds.len().div_ceil(MOST_ROWS);
    let mut table = Grid::new(&[
        ("until", Side::Right),
        ("", Side::Left),
        ("connected", Side::Right),
        ("messages/s", Side::Right),
        ("p50", Side::Right),
        ("p99", Side::Right),
        ("max", Side::Right),
        ("holes", Side::Right),
        ("disconnects", Side::Right),
        ("worker", Side::Right),
        ("server cores", Side::Right),
        ("server RSS", Side::Right),
    ]);
    let time = |us: Option<f64>| us.map_or_else(|| "–".to_owned(), time_us);
    for second in seconds.chunks(each).map(merged) {
        let length = if second.seconds > 0.0 { second.seconds } else { 1.0 };
        table.cells(vec![
            format!("{:.0} s", second.t),
            if second.measured { "" } else { "not measured" }.to_owned(),
            count(second.connected),
            rate(second.messages as f64 / length),
            time(second.p50_us),
            time(second.p99_us),
            time(second.max_us),
            count(second.holes),
            count(second.disconnects),
            percent(second.busiest_worker),
            second.server_cores.map_or_else(|| "–".to_owned(), three_digits),
            second.server_rss_bytes.map_or_else(|| "–".to_owned(), |bytes| size(bytes as f64)),
        ]);
    }
    let note = match each {
        1 => String::new(),
        each => {
            format!("<p class=\"line\">A row is {each} seconds: sums, and the worst of latency, CPU and memory.</p>\n")
        }
    };
    format!("<details class=\"panel wide\"><summary>Timeline</summary>\n{note}{}</details>\n", grid(&table))
}

/// Seconds as one: sums, and the worst of what cannot be added. At least one second.
fn merged(seconds: &[Second]) -> Second {
    let worst = |of: fn(&Second) -> Option<f64>| seconds.iter().filter_map(of).reduce(f64::max);
    let last = seconds.last().expect("chunks are not empty");
    Second {
        t: last.t,
        seconds: seconds.iter().map(|second| second.seconds).sum(),
        measured: seconds.iter().all(|second| second.measured),
        connected: last.connected,
        messages: seconds.iter().map(|second| second.messages).sum(),
        payload_bytes: seconds.iter().map(|second| second.payload_bytes).sum(),
        p50_us: worst(|second| second.p50_us),
        p99_us: worst(|second| second.p99_us),
        max_us: worst(|second| second.max_us),
        holes: seconds.iter().map(|second| second.holes).sum(),
        disconnects: seconds.iter().map(|second| second.disconnects).sum(),
        busiest_worker: worst(|second| Some(second.busiest_worker)).unwrap_or(0.0),
        server_cores: worst(|second| second.server_cores),
        server_rss_bytes: seconds.iter().filter_map(|second| second.server_rss_bytes).max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_summed_and_the_worst_is_kept() {
        let second = |t: u32, p99_us| Second { t: t.into(), seconds: 1.0, messages: 10, p99_us, ..Second::default() };
        let merged = merged(&[second(1, Some(5.0)), second(2, None), second(3, Some(9.0)), second(4, Some(1.0))]);
        assert_eq!((merged.t, merged.seconds, merged.messages, merged.p99_us), (4.0, 4.0, 40, Some(9.0)));
    }

    #[test]
    fn arguments_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("--url=ws://h:1/a"), "--url=ws://h:1/a");
        assert_eq!(quoted("p99>50ms"), "'p99>50ms'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
