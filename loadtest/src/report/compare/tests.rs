use super::super::model::{Latency, Quantiles, Sequence};
use super::*;

fn run(name: &str, p50: f64, holes: u64) -> Run {
    let delivery_us = Quantiles { count: 1, p50, p90: p50, p99: p50 * 2.0, max: p50 * 9.0, ..Quantiles::default() };
    Run {
        name: name.to_owned(),
        scenario: "steady".to_owned(),
        latency: Some(Latency { delivery_us, ..Latency::default() }),
        sequence: Some(Sequence { holes, ..Sequence::default() }),
        ..Run::default()
    }
}

fn group(name: &str, runs: Vec<Run>) -> Group {
    let reports = runs.into_iter().map(|run| Report { runs: vec![run], ..Report::default() }).collect();
    Group { name: name.to_owned(), reports }
}

fn row<'a>(text: &'a str, metric: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(metric));
    line.unwrap_or_else(|| panic!("no {metric} in\n{text}")).split_whitespace().collect()
}

#[test]
fn a_ratio_is_judged_by_its_metric() {
    let mut slow = run("a", 50.0, 5);
    slow.traffic.messages_per_second = 50.0;
    let mut fast = run("a", 42.0, 0);
    fast.traffic.messages_per_second = 100.0;
    let text = render(&[group("x", vec![slow]), group("y", vec![fast])]);
    assert_eq!(row(&text, "p50"), ["p50", "50.0", "µs", "42.0", "µs", "0.84x", "better"]);
    assert_eq!(row(&text, "messages_per_second"), ["messages_per_second", "50.0", "100", "2.00x", "better"]);
    assert_eq!(row(&text, "holes"), ["holes", "5", "0", "<0.01x", "better"]);
    assert!(text.contains("0 everywhere: ") && text.contains("repeats, disorder"), "{text}");
}

#[test]
fn little_is_not_judged_and_zero_is_no_base() {
    let text = render(&[group("x", vec![run("a", 100.0, 0)]), group("y", vec![run("a", 101.9, 7)])]);
    assert_eq!(row(&text, "p50"), ["p50", "100", "µs", "102", "µs", "1.02x"]);
    assert_eq!(row(&text, "holes"), ["holes", "0", "7", "–", "worse"]);
}

#[test]
fn several_reports_have_a_median_and_a_range() {
    let many = vec![run("a", 5.8, 0), run("a", 6.1, 0), run("a", 5.91, 0)];
    let text = render(&[group("x", many), group("y", vec![run("a", 5.0, 0)])]);
    assert_eq!(row(&text, "p50")[..4], ["p50", "5.91", "µs", "(5.80–6.10)"]);
    let mixed = vec![run("a", 900.0, 0), run("a", 1_100.0, 0)];
    let text = render(&[group("x", mixed), group("y", vec![run("a", 5.0, 0)])]);
    assert!(text.contains("1.00 ms (900 µs–1.10 ms)"), "{text}");
}

#[test]
fn columns_line_up_with_many_groups() {
    let names = ["tickcast", "floor", "µ-third", "fourth", "fifth", "sixth"];
    let groups: Vec<Group> =
        names.iter().map(|name| group(name, vec![run("a", 5.8, 0), run("a", 60_000.0, 1_234)])).collect();
    let text = render(&groups);
    let head = text.lines().find(|line| line.starts_with("metric")).expect("a head");
    let ends = head.match_indices("ratio").map(|(at, word)| width(&head[..at + word.len()]));
    let ends: Vec<usize> = ends.collect();
    assert_eq!(ends.len(), 5);
    for line in text.lines().filter(|line| line.contains('x') && line.contains('(') && line.contains("1.00x")) {
        for end in &ends {
            let column: String = line.chars().skip(end - 5).take(5).collect();
            assert!(column == "1.00x" || column.trim() == "=", "{column:?} in {line}");
        }
    }
}

#[test]
fn missing_runs_are_named() {
    let mut both = group("x", vec![run("a", 1.0, 0)]);
    both.reports[0].runs.push(run("b", 1.0, 0));
    let text = render(&[both, group("y", vec![run("a", 1.0, 0)])]);
    assert!(text.starts_with("warning: y has no run b\n"), "{text}");
    assert_eq!(text.matches("metric ").count(), 1);
}

#[test]
fn single_runs_of_other_names_are_compared_by_position() {
    let text = render(&[group("x", vec![run("a", 1.0, 0)]), group("y", vec![run("b", 2.0, 0)])]);
    assert!(text.contains("compared by position (a, b)"), "{text}");
    assert_eq!(row(&text, "p50").last(), Some(&"worse"));
}

#[test]
fn differing_settings_and_invalid_runs_are_objected_to() {
    let with = |url: &str, connections: &str| {
        let mut run = run("a", 1.0, 0);
        run.config.insert("url".to_owned(), url.to_owned());
        run.config.insert("connections".to_owned(), connections.to_owned());
        run
    };
    let mut bad = with("ws://b:2/other?x=1", "2000");
    bad.verdict = Verdict::Invalid;
    bad.invalid.push("a worker was saturated".to_owned());
    let text = render(&[group("x", vec![with("ws://a:1/ws", "1000")]), group("y", vec![bad])]);
    assert!(text.contains("warning: y is INVALID: a worker was saturated\n"), "{text}");
    assert!(text.contains("connections: x 1000, y 2000;"), "{text}");
    assert!(text.contains("path of the URL: x /ws, y /other?x=1\n"), "{text}");
    let same = render(&[group("x", vec![with("ws://a:1/ws", "1")]), group("y", vec![with("ws://b:2/ws", "1")])]);
    assert!(!same.contains("warning"), "{same}");
}

#[test]
fn what_never_ended_is_comparable() {
    assert_eq!(median(&[f64::INFINITY, f64::INFINITY]), Some(f64::INFINITY));
    assert_eq!(median(&[]), None);
    assert_eq!(render(&[]), "warning: there is no run that all of them have: nothing to compare\n");
}
