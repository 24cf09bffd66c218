//! Reports side by side: the named figures of the runs that all of them have, and what there is to object.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{ratio, rough};
use super::grid::Side::{Left, Right};
use super::grid::{Column, Grid, hanging, width};
use super::metric::{Kind, METRICS, Metric};
use super::model::{Report, Run, Verdict};

/// Reports that are repetitions of the same, and what they are called.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) reports: Vec<Report>,
}

/// Settings in which runs may differ and be compared; of the URL the path counts.
const INCIDENTAL: [&str; 5] = ["url", "publish-url", "server-pid", "json", "html"];
/// A difference that is not called one.
const NOISE: f64 = 0.02;
/// With more groups than that a sign stands for `better` and `worse`.
const MOST_WITH_WORDS: usize = 3;
/// Where warnings are wrapped.
const MOST: usize = 100;

/// The comparison, as text; ratios are to the first group.
pub(crate) fn render(groups: &[Group]) -> String {
    let sets = matched(groups);
    let mut out = String::new();
    for text in missing(groups) {
        out.push_str(&warning(&text));
    }
    if sets.is_empty() {
        out.push_str(&warning("there is no run that all of them have: nothing to compare"));
    }
    for set in &sets {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&hanging("run ", 4, &set.title, MOST));
        for text in objections(groups, set) {
            out.push_str(&warning(&text));
        }
        out.push_str(&table(groups, set));
    }
    if !sets.is_empty() && groups.len() > 1 {
        out.push('\n');
        let first = groups.first().map_or("", |group| group.name.as_str());
        let judged = if groups.len() > MOST_WITH_WORDS { "+ better, - worse" } else { "better or worse" };
        let several = if sets.iter().flat_map(|set| &set.runs).any(|runs| runs.len() > 1) {
            "; of several runs the median (lowest–highest)"
        } else {
            ""
        };
        let legend = format!("ratios are to {first}, {judged} by more than 2 %{several}");
        out.push_str(&hanging("", 0, &legend, MOST));
    }
    out
}

fn warning(text: &str) -> String {
    hanging("warning: ", width("warning: "), text, MOST)
}

/// Runs to compare: for each group those of its reports.
struct Matched<'a> {
    title: String,
    runs: Vec<Vec<&'a Run>>,
}

/// Runs of the same name, in the order of the first group; if there is none, the only runs of the reports.
fn matched(groups: &[Group]) -> Vec<Matched<'_>> {
    let common: Vec<&str> = names(groups.iter().take(1))
        .into_iter()
        .filter(|name| groups.iter().all(|group| names([group]).contains(name)))
        .collect();
    if common.is_empty() && !groups.is_empty() && all_reports(groups).all(|report| report.runs.len() == 1) {
        let runs: Vec<Vec<&Run>> = groups.iter().map(runs_of).collect();
        return vec![Matched { title: names(groups).join(" / "), runs }];
    }
    let of_name = |group, name: &str| runs_of(group).into_iter().filter(|run| run.name == name).collect();
    common
        .into_iter()
        .map(|name| Matched { title: name.to_owned(), runs: groups.iter().map(|group| of_name(group, name)).collect() })
        .collect()
}

fn all_reports(groups: &[Group]) -> impl Iterator<Item = &Report> {
    groups.iter().flat_map(|group| &group.reports)
}

fn runs_of(group: &Group) -> Vec<&Run> {
    group.reports.iter().flat_map(|report| &report.runs).collect()
}

/// Names of runs, each once, in the order in which they come.
fn names<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for run in groups.into_iter().flat_map(runs_of) {
        if !names.contains(&run.name.as_str()) {
            names.push(run.name.as_str());
        }
    }
    names
}

/// Which runs are not where others have them.
fn missing(groups: &[Group]) -> Vec<String> {
    let all = names(groups);
    let alone = all_reports(groups).all(|report| report.runs.len() == 1);
    let by_position = alone && !all.iter().any(|name| groups.iter().all(|group| names([group]).contains(name)));
    if by_position {
        return match all.len() {
            0 | 1 => Vec::new(),
            _ => vec![format!("no run has the same name everywhere: compared by position ({})", all.join(", "))],
        };
    }
    let mut texts = Vec::new();
    for name in all {
        for group in groups {
            let total = group.reports.len();
            let there = group.reports.iter().filter(|report| report.runs.iter().any(|run| run.name == name)).count();
            if there == 0 {
                texts.push(format!("{} has no run {name}", group.name));
            } else if there < total {
                texts.push(format!("{} has the run {name} in {there} of {total} reports only", group.name));
            }
        }
    }
    texts
}

/// Why the runs of a set should not be compared, or only with care.
fn objections(groups: &[Group], set: &Matched<'_>) -> Vec<String> {
    let mut texts = Vec::new();
    for (group, runs) in groups.iter().zip(&set.runs) {
        let invalid: Vec<&&Run> = runs.iter().filter(|run| run.verdict == Verdict::Invalid).collect();
        if invalid.is_empty() {
            continue;
        }
        let reasons: BTreeSet<&str> = invalid.iter().flat_map(|run| &run.invalid).map(String::as_str).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        let which = match runs.len() {
            1 => "INVALID".to_owned(),
            total => format!("INVALID in {} of {total} runs", invalid.len()),
        };
        texts.push(format!("{} is {which}: {}", group.name, reasons.join("; ")));
    }
    let differing = differing(groups, set);
    if !differing.is_empty() {
        texts.push(format!("settings differ: {}", differing.join("; ")));
    }
    texts
}

/// `key: group value, group value` for each setting that is not the same in all runs.
fn differing(groups: &[Group], set: &Matched<'_>) -> Vec<String> {
    let settings: Vec<Vec<BTreeMap<String, String>>> =
        set.runs.iter().map(|runs| runs.iter().map(|run| settings(run)).collect()).collect();
    let keys: BTreeSet<&String> = settings.iter().flatten().flat_map(BTreeMap::keys).collect();
    let mut texts = Vec::new();
    for key in keys {
        let value = |settings: &BTreeMap<String, String>| settings.get(key).map_or("unset", String::as_str).to_owned();
        let values: Vec<BTreeSet<String>> = settings.iter().map(|runs| runs.iter().map(value).collect()).collect();
        let distinct: BTreeSet<&String> = values.iter().flatten().collect();
        if distinct.len() > 1 {
            let shown = groups.iter().zip(values).map(|(group, values)| {
                format!("{} {}", group.name, values.into_iter().collect::<Vec<_>>().join(" and "))
            });
            texts.push(format!("{key}: {}", shown.collect::<Vec<_>>().join(", ")));
        }
    }
    texts
}

/// Those that must agree.
fn settings(run: &Run) -> BTreeMap<String, String> {
    let kept = run.config.iter().filter(|(key, _)| !INCIDENTAL.contains(&key.as_str()));
    let mut settings: BTreeMap<String, String> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    settings.insert("scenario".to_owned(), run.scenario.clone());
    if let Some(url) = run.config.get("url") {
        settings.insert("path of the URL".to_owned(), path(url).to_owned());
    }
    settings
}

/// Path and query of a URL.
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find(['/', '?']).map_or("/", |at| &rest[at..])
}

/// A row for each metric that any group has.
fn table(groups: &[Group], set: &Matched<'_>) -> String {
    let mut grid = Grid::new(&[("metric", Left)]);
    let mut column = |head: &str, side, gap| grid.columns.push(Column { head: head.to_owned(), side, gap });
    for (at, (group, runs)) in groups.iter().zip(&set.runs).enumerate() {
        // What belongs to one group is close together.
        let several = runs.len() > 1;
        column(&group.name, Right, if several { 1 } else { 2 });
        if several {
            column("", Left, 2);
        }
        if at > 0 {
            column("ratio", Right, 1);
            column("", Left, 2);
        }
    }
    let mut nothing = Vec::new();
    for metric in METRICS {
        let values: Vec<Vec<f64>> = set.runs.iter().map(|runs| sorted(metric, runs)).collect();
        let all: Vec<f64> = values.iter().flatten().copied().collect();
        if !all.is_empty() && all.iter().all(|value| *value == 0.0) {
            nothing.push(metric.name);
        } else if !all.is_empty() {
            grid.cells(row(metric, set, &values));
        }
    }
    let mut out = grid.text(0, usize::MAX);
    if !nothing.is_empty() {
        out.push_str(&hanging("0 everywhere: ", 2, &nothing.join(", "), MOST));
    }
    out
}

/// What a metric was in runs, those that measured it.
fn sorted(metric: &Metric, runs: &[&Run]) -> Vec<f64> {
    let mut values: Vec<f64> =
        runs.iter().filter_map(|run| (metric.value)(run)).filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The cells of a metric.
fn row(metric: &Metric, set: &Matched<'_>, values: &[Vec<f64>]) -> Vec<String> {
    let words = values.len() <= MOST_WITH_WORDS;
    let first = values.first().and_then(|values| median(values));
    let mut cells = vec![metric.name.to_owned()];
    for (at, (runs, values)) in set.runs.iter().zip(values).enumerate() {
        let middle = median(values);
        cells.push(middle.map_or_else(|| "–".to_owned(), |middle| metric.show(middle)));
        if runs.len() > 1 {
            cells.push(range(metric, values, runs.len()));
        }
        if at > 0 {
            let (ratio, judgement) = match (first, middle) {
                (Some(first), Some(middle)) => (ratio(middle, first), judge(metric, middle, first)),
                _ => (String::new(), Judgement::Same),
            };
            cells.push(ratio);
            cells.push(judgement.text(words).to_owned());
        }
    }
    cells
}

/// Of sorted values.
fn median(sorted: &[f64]) -> Option<f64> {
    let (low, high) = (*sorted.get(sorted.len().checked_sub(1)? / 2)?, *sorted.get(sorted.len() / 2)?);
    // Their mean would be no number if both are infinite.
    Some(if low == high { low } else { low.midpoint(high) })
}

/// `(lowest–highest)` of sorted values, the unit left to the median if all three have the same.
fn range(metric: &Metric, sorted: &[f64], runs: usize) -> String {
    let (Some(middle), [low, .., high]) = (median(sorted), sorted) else {
        return if sorted.len() < runs && runs > 1 { format!("({} of {runs})", sorted.len()) } else { String::new() };
    };
    let split = |value: f64| {
        // Beside the figure itself, the first digits of a large one show how it varied.
        let shown = match metric.kind {
            Kind::Count | Kind::Rate if value >= 1e5 => rough(value),
            _ => metric.show(value),
        };
        shown
            .split_once(' ')
            .map_or((shown.clone(), String::new()), |(figure, unit)| (figure.to_owned(), unit.to_owned()))
    };
    let ((low, low_unit), (high, high_unit), (_, unit)) = (split(*low), split(*high), split(middle));
    let bounds = match (low == high, low_unit == unit && high_unit == unit) {
        (true, true) => String::new(),
        (_, true) => format!("{low}–{high}"),
        _ => format!("{low} {low_unit}–{high} {high_unit}"),
    };
    let some = if sorted.len() < runs { format!("{} of {runs}", sorted.len()) } else { String::new() };
    match (bounds.as_str(), some.as_str()) {
        ("", "") => String::new(),
        (only, "") | ("", only) => format!("({only})"),
        (bounds, some) => format!("({bounds}, {some})"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Better,
    Same,
    Worse,
}

impl Judgement {
    fn text(self, words: bool) -> &'static str {
        match (self, words) {
            (Self::Better, true) => "better",
            (Self::Worse, true) => "worse",
            (Self::Better, false) => "+",
            (Self::Worse, false) => "-",
            (Self::Same, _) => "",
        }
    }
}

/// What a value is compared with the first group's.
fn judge(metric: &Metric, value: f64, first: f64) -> Judgement {
    if value == first || (value - first).abs() <= NOISE * first.abs() {
        return Judgement::Same;
    }
    if (value < first) == metric.lower_is_better { Judgement::Better } else { Judgement::Worse }
}

#[cfg(test)]
mod tests;
