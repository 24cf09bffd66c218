//! The report as a page: one file that needs no script and nothing from elsewhere, in the colours of the server's page.
//!
//! Reasons and settings can be a stranger's text: everything that is not written here goes through [`escape`], and the
//! page's policy forbids scripts and requests besides.

mod charts;
mod tables;

use super::chart::escape;
use super::facts;
use super::format::{count, rate, share, time_us, utc};
use super::metric::Metric;
use super::model::{Report, Run, Verdict};

const STYLE: &str = include_str!("page.css");

/// A whole document.
pub(crate) fn render(report: &Report) -> String {
    let names: Vec<&str> = report.runs.iter().map(|run| run.name.as_str()).collect();
    let title = escape(&format!("loadtest: {}", names.join(", ")));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{}<main>\n",
        header(report)
    );
    if report.runs.is_empty() {
        out.push_str("<p class=\"empty\">No run was made.</p>\n");
    }
    if report.runs.len() > 1 {
        out.push_str(&tables::overview(report));
    }
    for (at, run) in report.runs.iter().enumerate() {
        out.push_str(&section(at, run));
    }
    out.push_str(&tables::origin(report));
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn header(report: &Report) -> String {
    let started = report.runs.first().map_or_else(String::new, |run| utc(run.started_ms));
    let host = &report.host;
    let host = format!("{} · {} CPUs · {}", host.cpu, host.cpus, host.system);
    format!("<header><h1>loadtest</h1><span>{}</span><span>{}</span></header>\n", escape(&started), escape(&host))
}

fn section(at: usize, run: &Run) -> String {
    let mut out = format!("<section id=\"run-{at}\">\n{}{}", banner(run), tiles(run));
    out.push_str(&charts::all(run));
    out.push_str(&tables::all(run));
    out.push_str("</section>\n");
    out
}

/// What the run is, how it ended, and why.
fn banner(run: &Run) -> String {
    let class = verdict_class(run);
    let about = format!("{} · {} measured · {}", run.scenario, time_us(run.seconds * 1e6), facts::url(run));
    let mut out = format!(
        "<div class=\"banner {class}\"><h2>{}</h2><p class=\"about\">{}</p><b class=\"verdict\">{}</b>\n",
        escape(&run.name),
        escape(&about),
        facts::verdict(run)
    );
    let crossed = run.thresholds.iter().filter(|threshold| threshold.crossed);
    let crossed = crossed.map(|threshold| format!("Crossed: {}, it was {}", threshold.expression, threshold.shown));
    let invalid = run.invalid.iter().map(|reason| format!("Invalid: {reason}"));
    let warnings = run.warnings.iter().map(|warning| format!("Warning: {warning}"));
    for (class, text) in invalid.map(|text| ("bad", text)).chain(crossed.map(|text| ("bad", text))) {
        out.push_str(&format!("<p class=\"{class}\">{}</p>\n", escape(&text)));
    }
    for text in warnings {
        out.push_str(&format!("<p class=\"warn\">{}</p>\n", escape(&text)));
    }
    out.push_str("</div>\n");
    out
}

/// The class of the verdict's colour.
fn verdict_class(run: &Run) -> &'static str {
    match run.verdict {
        Verdict::Held => "good",
        Verdict::Crossed | Verdict::Invalid => "bad",
    }
}

/// The key figures.
fn tiles(run: &Run) -> String {
    let delivery = run.latency.as_ref().map(|latency| latency.delivery_us).filter(|q| q.count > 0);
    let of_metric = |name: &str| {
        let metric = Metric::find(name)?;
        (metric.value)(run).map(|value| metric.show(value))
    };
    let mut tiles = vec![
        ("p50", delivery.map(|q| time_us(q.p50))),
        ("p99", delivery.map(|q| time_us(q.p99))),
        ("p99.9", delivery.map(|q| time_us(q.p99_9))),
        ("max", delivery.map(|q| time_us(q.max))),
        ("messages/s", Some(rate(run.traffic.messages_per_second))),
        ("delivered", run.traffic.delivered.map(share)),
        ("holes", run.sequence.map(|sequence| count(sequence.holes))),
        ("CPU/message", of_metric("server_cpu")),
        ("connections", Some(count(run.connections.open_at_start))),
    ];
    for (name, metric) in [("knee, published/s", "knee"), ("storm recovery", "storm_recovery")] {
        tiles.extend(of_metric(metric).map(|value| (name, Some(value))));
    }
    let tiles: Vec<String> = tiles
        .into_iter()
        .map(|(name, value)| match value {
            Some(value) => format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escape(&value)),
            None => format!("<div><dt>{name}</dt><dd class=\"none\">not measured</dd></div>\n"),
        })
        .collect();
    format!("<dl class=\"tiles\">\n{}</dl>\n", tiles.concat())
}

#[cfg(test)]
mod tests {
    use super::super::model::{Counted, Second, Threshold};
    use super::*;

    #[test]
    fn an_empty_report_is_a_page() {
        let page = render(&Report::default());
        assert!(page.contains("No run was made"));
        let page = render(&Report { runs: vec![Run::default(), Run::default()], ..Report::default() });
        assert!(page.contains("not measured") && page.contains("href=\"#run-1\""));
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn a_hostile_server_writes_no_markup() {
        let evil = "<script>alert(1)</script>\"'";
        let mut run = Run { name: evil.to_owned(), scenario: evil.to_owned(), ..Run::default() };
        run.config.insert(evil.to_owned(), evil.to_owned());
        run.invalid = vec![evil.to_owned()];
        run.warnings = vec![evil.to_owned()];
        let counted = Counted { reason: evil.to_owned(), count: 1 };
        run.connections.connect_error_reasons = vec![counted.clone()];
        run.connections.disconnect_reasons = vec![counted];
        let (expression, shown) = (evil.to_owned(), evil.to_owned());
        run.thresholds = vec![Threshold { expression, shown, crossed: true, value: None }];
        let mut report = Report { runs: vec![run.clone(), run], command: vec![evil.to_owned()], ..Report::default() };
        report.host.cpu = evil.to_owned();
        report.host.system = evil.to_owned();
        let page = render(&report);
        assert!(!page.contains("<script") && !page.contains("alert(1)</"), "escaped everywhere");
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing from elsewhere");
    }

    #[test]
    fn a_day_is_thinned() {
        let second =
            |t| Second { t: f64::from(t), seconds: 1.0, measured: true, p50_us: Some(1.0), ..Second::default() };
        let run = Run { timeline: (1..=86_400).map(second).collect(), ..Run::default() };
        let page = render(&Report { runs: vec![run], ..Report::default() });
        assert!(page.len() < 400_000, "{} bytes", page.len());
    }
}
