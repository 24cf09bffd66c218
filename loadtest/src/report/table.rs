//! The report in a terminal: plain text, at most [`MOST`] columns.

use super::facts::{self, Fact};
use super::format::{count, printable, time_us};
use super::grid::Side::{Left, Right};
use super::grid::{Grid, flow, hanging, pad, width};
use super::model::{Report, Run, Verdict};
use super::outcome;

/// Columns.
const MOST: usize = 100;
/// Where the text behind the name of a topic begins.
const TOPIC: usize = 13;
/// Reasons listed; the page has all of them.
const REASONS: usize = 8;

/// What is printed when a run ends.
pub(crate) fn render(run: &Run) -> String {
    let mut out = headline(run);
    out.push('\n');
    out.push_str(&topic("connections", &facts::connections(run)));
    out.push_str(&topic("traffic", &facts::traffic(run)));
    out.push_str(&reasons(run));
    out.push('\n');
    out.push_str(&outcome::quantile_grid(&pad("latency", TOPIC - 2, Left), &facts::distributions(run)).text(0, MOST));
    let oddities = facts::oddities(run);
    if !oddities.is_empty() {
        out.push_str(&topic("messages", &oddities));
    }
    out.push('\n');
    out.push_str(&topic_or_why("sequence", facts::sequence(run)));
    out.push_str(&topic_or_why("publisher", facts::publisher(run)));
    out.push_str(&topic_or_why("server", facts::server(run)));
    out.push_str(&topic("harness", &facts::harness(run)));
    for part in outcome::parts(run) {
        out.push('\n');
        out.push_str(&topic(part.title, &part.facts));
        out.push_str(&part.grid.text(2, MOST));
    }
    out.push_str(&judgement(run));
    out
}

/// Name, scenario, length, URL and verdict.
fn headline(run: &Run) -> String {
    let scenario = if run.name == run.scenario { String::new() } else { format!("{}, ", run.scenario) };
    let text = format!("{}: {scenario}{} measured, {}", run.name, time_us(run.seconds * 1e6), facts::url(run));
    let verdict = facts::verdict(run);
    let left = MOST - width(verdict) - 2;
    let mut lines = hanging("", 0, &text, left);
    let first = lines.find('\n').unwrap_or(lines.len());
    let gap = pad("", left + 2 - width(&lines[..first]), Left);
    lines.insert_str(first, &format!("{gap}{verdict}"));
    lines
}

fn topic(name: &str, facts: &[Fact]) -> String {
    let parts: Vec<String> = facts.iter().map(|fact| format!("{} {}", fact.name, printable(&fact.value))).collect();
    flow(&pad(name, TOPIC, Left), TOPIC, &parts, " · ", MOST)
}

fn topic_or_why(name: &str, facts: Result<Vec<Fact>, String>) -> String {
    match facts {
        Ok(facts) => topic(name, &facts),
        Err(why) => hanging(&pad(name, TOPIC, Left), TOPIC, &why, MOST),
    }
}

fn reasons(run: &Run) -> String {
    let reasons = facts::reasons(run);
    let mut grid = Grid::new(&[("", Left), ("", Right), ("", Left)]);
    for (what, counted) in reasons.iter().take(REASONS) {
        grid.cells(vec![(*what).to_owned(), format!("{} ×", count(counted.count)), clip(&counted.reason)]);
    }
    let mut out = grid.text(TOPIC, MOST);
    if reasons.len() > REASONS {
        out.push_str(&format!("{}and {} more reasons\n", pad("", TOPIC, Left), reasons.len() - REASONS));
    }
    out
}

/// Two lines of a reason are enough in a terminal.
fn clip(reason: &str) -> String {
    const LONGEST: usize = 120;
    if width(reason) <= LONGEST {
        return reason.to_owned();
    }
    reason.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// Thresholds, warnings and, last so that nothing hides it, what makes the run invalid.
fn judgement(run: &Run) -> String {
    let mut out = String::new();
    if !run.thresholds.is_empty() {
        let mut grid = Grid::new(&[("", Left), ("", Left), ("", Left), ("", Right)]);
        for (at, threshold) in run.thresholds.iter().enumerate() {
            let shown = if threshold.shown.is_empty() { "not measured" } else { &threshold.shown };
            grid.cells(vec![
                pad(if at == 0 { "thresholds" } else { "" }, TOPIC - 2, Left),
                threshold.word().to_owned(),
                threshold.expression.clone(),
                shown.to_owned(),
            ]);
        }
        out.push('\n');
        out.push_str(&grid.text(0, MOST));
    }
    for (word, texts) in [("warning: ", &run.warnings), ("INVALID: ", &run.invalid)] {
        if !texts.is_empty() {
            out.push('\n');
        }
        for text in texts {
            out.push_str(&hanging(word, width(word), text, MOST));
        }
    }
    out
}

/// A line for each run.
pub(crate) fn summary(report: &Report) -> String {
    let bad = report.runs.iter().filter(|run| run.verdict != Verdict::Held).count();
    let total = report.runs.len();
    let conclusion = match bad {
        0 => format!("{total} runs, all of them good"),
        bad => format!("{total} runs, {bad} of them not good"),
    };
    format!("{}{conclusion}\n", facts::overview(report).text(0, MOST))
}

#[cfg(test)]
mod tests {
    use super::super::model::{Counted, Latency, Quantiles, Threshold};
    use super::*;

    fn run() -> Run {
        let mut run = Run { name: "steady".to_owned(), scenario: "steady".to_owned(), seconds: 60.0, ..Run::default() };
        run.config.insert("url".to_owned(), "ws://127.0.0.1:9000/ws".to_owned());
        run.config.insert("ts-field".to_owned(), "ts".to_owned());
        run.traffic.messages = 1;
        run
    }

    #[test]
    fn what_was_not_measured_is_said_in_words() {
        let text = render(&run());
        assert!(text.contains("delivery     not measured: no message had a time (--ts-field ts)\n"), "{text}");
        assert!(text.contains("no message had a sequence number (--seq-field)"), "{text}");
        assert!(text.contains("(--server-pid)"), "{text}");
    }

    #[test]
    fn nothing_is_wider_than_it_may_be() {
        let mut run = run();
        run.config.insert("url".to_owned(), format!("ws://host/{}", "x".repeat(300)));
        run.warnings.push("word ".repeat(80));
        run.invalid.push("z".repeat(250));
        let reason = "\u{1b}[2J\nINVALID ".repeat(40);
        run.connections.disconnect_reasons = vec![Counted { reason, count: 1_234_567 }; 30];
        let quantiles = Quantiles { count: 1, p50: 12.3, max: 1e9, ..Quantiles::default() };
        run.latency = Some(Latency { delivery_us: quantiles, ..Latency::default() });
        let text = render(&run);
        for line in text.lines() {
            assert!(width(line) <= MOST, "{} wide: {line}", width(line));
        }
        assert!(text.contains("and 22 more reasons"));
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn thresholds_line_up_and_the_invalid_is_last() {
        let mut run = run();
        let threshold = |expression: &str, shown: &str, crossed| Threshold {
            expression: expression.to_owned(),
            value: Some(1.0),
            shown: shown.to_owned(),
            crossed,
        };
        run.thresholds = vec![threshold("p99>50ms", "12.3 µs", false), threshold("holes>0", "", true)];
        run.verdict = Verdict::Invalid;
        run.invalid.push("no message came".to_owned());
        let text = render(&run);
        assert!(text.contains("thresholds   held     p99>50ms       12.3 µs\n"), "{text}");
        assert!(text.contains("             CROSSED  holes>0   not measured\n"), "{text}");
        assert!(text.ends_with("\nINVALID: no message came\n"), "{text}");
        assert!(text.lines().next().expect("a headline").ends_with("  INVALID"));
    }

    #[test]
    fn a_summary_has_a_line_for_each_run() {
        let report = Report { runs: vec![run(), run()], ..Report::default() };
        assert_eq!(summary(&report).lines().count(), 4);
    }
}
