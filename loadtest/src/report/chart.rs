//! Line charts as inline SVG. Labels are placed in percent and lines stretch, so that a chart fills its box at any
//! width with text of the same size; colours are the page's.

mod axis;

pub(crate) use axis::Axis;

use super::format::printable;

/// Points of a line after thinning.
const MOST_POINTS: usize = 600;
/// The coordinates of lines, stretched to the box.
const SIDE: f64 = 1_000.0;

/// A colour of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    First,
    Second,
    Third,
    /// Dashed and grey.
    Quiet,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::First => "tone-1",
            Self::Second => "tone-2",
            Self::Third => "tone-3",
            Self::Quiet => "tone-0",
        }
    }
}

/// A line; it has a gap where there is no value.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) tone: Tone,
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

impl Line {
    fn any(&self) -> bool {
        self.points.iter().any(|(x, y)| x.is_finite() && y.is_some_and(f64::is_finite))
    }
}

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// What the axes are.
    pub(crate) axes: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
    /// Whether the space below the lines is filled.
    pub(crate) filled: bool,
    /// Whether every point has a dot.
    pub(crate) dotted: bool,
    /// Stretches of x that are shaded: they were not measured.
    pub(crate) shaded: Vec<(f64, f64)>,
    /// A value that matters, and its name.
    pub(crate) limit: Option<(f64, &'static str)>,
}

/// `text` for an HTML document, attributes included.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

impl Chart {
    /// A `<figure>`.
    pub(crate) fn render(&self) -> String {
        let drawn: Vec<&Line> = self.lines.iter().filter(|line| line.any()).collect();
        let mut out = format!(
            "<figure class=\"chart\"><figcaption><b>{}</b> <span>{}</span>{}</figcaption>\n",
            escape(self.title),
            escape(self.axes),
            self.legend(&drawn)
        );
        if drawn.is_empty() {
            out.push_str("<p class=\"empty\">Nothing was measured.</p></figure>\n");
            return out;
        }
        out.push_str(&format!("<svg role=\"img\" aria-label=\"{}\">\n", escape(self.title)));
        out.push_str(&self.ground());
        out.push_str(&format!("<svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\">"));
        for line in &drawn {
            out.push_str(&self.line(line));
        }
        out.push_str("</svg>\n");
        for line in &drawn {
            out.push_str(&self.dots(line));
        }
        out.push_str("</svg></figure>\n");
        out
    }

    fn legend(&self, drawn: &[&Line]) -> String {
        let mut keys: Vec<String> = drawn.iter().map(|line| key(line.tone.class(), line.name)).collect();
        if !drawn.is_empty() {
            keys.extend(self.limit.map(|(_, name)| key("limit", name)));
            if !self.shaded.is_empty() {
                keys.push(key("shade", "not measured"));
            }
        }
        format!("<span class=\"legend\">{}</span>", keys.concat())
    }

    /// Shades, grid, labels and the limit: everything behind the lines.
    fn ground(&self) -> String {
        let mut out = String::new();
        for (from, to) in &self.shaded {
            let (from, to) = (self.x.place(*from) * 1e2, self.x.place(*to) * 1e2);
            let width = to - from;
            out.push_str(&format!("<rect class=\"shade\" x=\"{from:.2}%\" width=\"{width:.2}%\" height=\"100%\"/>"));
        }
        for (value, label) in &self.y.ticks {
            let y = 1e2 - self.y.place(*value) * 1e2;
            out.push_str(&format!("<line class=\"rule\" x2=\"100%\" y1=\"{y:.2}%\" y2=\"{y:.2}%\"/>"));
            let label = escape(label);
            out.push_str(&format!("<text class=\"y\" x=\"-8\" y=\"{y:.2}%\" dy=\"0.35em\">{label}</text>"));
        }
        for (at, (value, label)) in self.x.ticks.iter().rev().enumerate() {
            let x = self.x.place(*value) * 1e2;
            out.push_str(&format!("<line class=\"rule\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y2=\"100%\"/>"));
            // On a telephone every other label of many has to go.
            let class = if at % 2 == 1 && self.x.ticks.len() > 6 { "x spare" } else { "x" };
            let label = escape(label);
            out.push_str(&format!("<text class=\"{class}\" x=\"{x:.2}%\" y=\"100%\" dy=\"1.6em\">{label}</text>"));
        }
        if let Some((value, _)) = self.limit {
            let y = 1e2 - self.y.place(value) * 1e2;
            out.push_str(&format!("<line class=\"limit\" x2=\"100%\" y1=\"{y:.2}%\" y2=\"{y:.2}%\"/>"));
        }
        out.push('\n');
        out
    }

    /// The stretches of a line between its gaps.
    fn line(&self, line: &Line) -> String {
        let mut out = String::new();
        let dense = if line.points.len() > MOST_POINTS { " dense" } else { "" };
        for stretch in stretches(&thin(&line.points)) {
            let points: Vec<String> = stretch
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", self.x.place(*x) * SIDE, SIDE - self.y.place(*y) * SIDE))
                .collect();
            let (tone, path) = (line.tone.class(), points.join(" "));
            if self.filled
                && let (Some((first, _)), Some((last, _))) = (stretch.first(), stretch.last())
            {
                let (first, last) = (self.x.place(*first) * SIDE, self.x.place(*last) * SIDE);
                out.push_str(&format!(
                    "<polygon class=\"{tone}\" points=\"{first:.1},{SIDE} {path} {last:.1},{SIDE}\"/>"
                ));
            }
            out.push_str(&format!("<polyline class=\"{tone}{dense}\" points=\"{path}\"/>"));
        }
        out
    }

    /// Dots on every point, or on those that have no neighbour to draw a line to.
    fn dots(&self, line: &Line) -> String {
        let mut out = String::new();
        for stretch in stretches(&thin(&line.points)) {
            if self.dotted || stretch.len() == 1 {
                for (x, y) in stretch {
                    let (x, y) = (self.x.place(x) * 1e2, 1e2 - self.y.place(y) * 1e2);
                    let tone = line.tone.class();
                    out.push_str(&format!("<circle class=\"{tone}\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"3\"/>"));
                }
            }
        }
        out
    }
}

fn key(class: &str, name: &str) -> String {
    format!("<span class=\"key {class}\"><i></i>{}</span>", escape(name))
}

/// At most about [`MOST_POINTS`], the lowest and the highest of each bucket in their order, so that no spike is lost.
fn thin(points: &[(f64, Option<f64>)]) -> Vec<(f64, Option<f64>)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let mut thinned = Vec::with_capacity(MOST_POINTS + 2);
    for bucket in points.chunks(points.len().div_ceil(MOST_POINTS / 2)) {
        let there = bucket.iter().enumerate().filter_map(|(at, (_, y))| Some((at, (*y).filter(|y| y.is_finite())?)));
        let lowest = there.clone().min_by(|(_, a), (_, b)| a.total_cmp(b));
        let highest = there.max_by(|(_, a), (_, b)| a.total_cmp(b));
        match (lowest, highest) {
            (Some((low, _)), Some((high, _))) => {
                thinned.push(bucket[low.min(high)]);
                if low != high {
                    thinned.push(bucket[low.max(high)]);
                }
            }
            _ => thinned.push((bucket[0].0, None)),
        }
    }
    thinned
}

/// What is between gaps.
fn stretches(points: &[(f64, Option<f64>)]) -> Vec<Vec<(f64, f64)>> {
    let mut all = vec![Vec::new()];
    for (x, y) in points {
        match y.filter(|y| y.is_finite() && x.is_finite()) {
            Some(y) => all.last_mut().expect("never empty").push((*x, y)),
            None => all.push(Vec::new()),
        }
    }
    all.retain(|stretch| !stretch.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::super::format::short;
    use super::*;

    fn chart(points: Vec<(f64, Option<f64>)>) -> Chart {
        Chart {
            title: "Throughput",
            axes: "",
            x: Axis::elapsed(10.0),
            y: Axis::from_zero(points.iter().filter_map(|(_, y)| *y), short),
            lines: vec![Line { name: "messages", tone: Tone::First, points }],
            filled: false,
            dotted: false,
            shaded: Vec::new(),
            limit: None,
        }
    }

    #[test]
    fn nothing_one_point_and_equal_values_are_drawn() {
        assert!(chart(Vec::new()).render().contains("Nothing was measured"));
        assert!(chart(vec![(1.0, None), (2.0, Some(f64::NAN))]).render().contains("Nothing was measured"));
        assert!(chart(vec![(5.0, Some(1.0))]).render().contains("<circle class=\"tone-1\" cx=\"50.00%\""));
        let equal = chart(vec![(0.0, Some(0.0)), (10.0, Some(0.0))]).render();
        assert!(equal.contains("points=\"0.0,1000.0 1000.0,1000.0\""), "{equal}");
        assert!(!equal.contains("NaN"));
    }

    #[test]
    fn a_gap_parts_a_line() {
        let svg =
            chart(vec![(0.0, Some(1.0)), (1.0, Some(1.0)), (2.0, None), (3.0, Some(1.0)), (4.0, Some(1.0))]).render();
        assert_eq!(svg.matches("<polyline").count(), 2);
    }

    #[test]
    fn thinning_keeps_the_spike() {
        let mut points: Vec<(f64, Option<f64>)> = (0..86_400).map(|t| (f64::from(t), Some(1.0))).collect();
        points[77_777].1 = Some(99.0);
        let thinned = thin(&points);
        assert!(thinned.len() <= MOST_POINTS + 2);
        assert!(thinned.contains(&(77_777.0, Some(99.0))));
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\" id='y'>&\u{1b}"), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\u{fffd}");
    }
}
