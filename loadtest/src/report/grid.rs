//! Tables of text: what the terminal, the page and the comparison have in common.

use super::format::printable;

/// On which side the cells of a column end up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) head: String,
    pub(crate) side: Side,
    /// Spaces behind it in a text.
    pub(crate) gap: usize,
}

/// A row.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    /// A cell for every column.
    Cells(Vec<String>),
    /// The first cell, and words in place of the others: what was not measured, and why.
    Words(String, String),
}

/// A table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grid {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

impl Grid {
    /// A table without rows.
    pub(crate) fn new(columns: &[(&str, Side)]) -> Self {
        let columns = columns.iter().map(|(head, side)| Column { head: (*head).to_owned(), side: *side, gap: GAP });
        let columns = columns.collect();
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn cells(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(Row::Cells(cells));
    }

    pub(crate) fn words(&mut self, first: &str, words: &str) {
        self.rows.push(Row::Words(first.to_owned(), words.to_owned()));
    }

    /// Aligned lines of at most `most` characters, each with `indent` in front; the last column is wrapped if it must be,
    /// and columns with nothing in them are left out.
    pub(crate) fn text(&self, indent: usize, most: usize) -> String {
        let layout = Layout::new(self, indent, most);
        let mut out = String::new();
        if self.columns.iter().any(|column| !column.head.is_empty()) {
            let heads: Vec<String> = self.columns.iter().map(|column| column.head.clone()).collect();
            out.push_str(&self.lines(&heads, &layout));
        }
        for row in &self.rows {
            match row {
                Row::Cells(cells) => out.push_str(&self.lines(cells, &layout)),
                Row::Words(first, words) => {
                    let to = layout.widths[0] + layout.gaps[0];
                    let head = format!("{}{}", layout.margin, pad(first, to, Side::Left));
                    out.push_str(&hanging(&head, indent + to, words, most));
                }
            }
        }
        out
    }

    /// The line of a row, and more lines if its last cell is wider than there is room.
    fn lines(&self, cells: &[String], layout: &Layout) -> String {
        let mut line = layout.margin.clone();
        let end = cells.len().saturating_sub(1);
        for (at, (cell, column)) in cells.iter().zip(&self.columns).enumerate() {
            if at == end && column.side == Side::Left {
                let hang = width(&line);
                return hanging(&line, hang, cell, hang + layout.last);
            }
            line.push_str(&pad(&printable(cell), layout.widths[at], column.side));
            line.push_str(&" ".repeat(layout.gaps[at]));
        }
        format!("{}\n", line.trim_end())
    }
}

/// Where the columns of a text are.
struct Layout {
    margin: String,
    widths: Vec<usize>,
    gaps: Vec<usize>,
    /// Room for the last column.
    last: usize,
}

impl Layout {
    fn new(grid: &Grid, indent: usize, most: usize) -> Self {
        let mut widths: Vec<usize> = grid.columns.iter().map(|column| width(&column.head)).collect();
        for row in &grid.rows {
            match row {
                Row::Cells(cells) => {
                    for (widest, cell) in widths.iter_mut().zip(cells) {
                        *widest = (*widest).max(width(&printable(cell)));
                    }
                }
                Row::Words(first, _) => widths[0] = widths[0].max(width(first)),
            }
        }
        let mut gaps: Vec<usize> = grid.columns.iter().map(|column| column.gap).collect();
        let mut before = 0;
        for at in 1..widths.len() {
            if widths[at] == 0 {
                gaps[before] = gaps[before].max(gaps[at]);
                gaps[at] = 0;
            } else {
                before = at;
            }
        }
        let others: usize = widths.iter().zip(&gaps).rev().skip(1).map(|(width, gap)| width + gap).sum();
        Self { margin: " ".repeat(indent), widths, gaps, last: most.saturating_sub(indent + others).max(NARROWEST) }
    }
}

/// Between columns.
const GAP: usize = 2;
/// A column is not wrapped to less.
const NARROWEST: usize = 24;

/// How many columns of a terminal `text` takes, if none of it is of double width.
pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// `text` and spaces, together `to` wide.
pub(crate) fn pad(text: &str, to: usize, side: Side) -> String {
    let space = " ".repeat(to.saturating_sub(width(text)));
    match side {
        Side::Left => format!("{text}{space}"),
        Side::Right => format!("{space}{text}"),
    }
}

/// `head` and `text` behind it, wrapped to `most` with lines after the first indented by `hang`.
pub(crate) fn hanging(head: &str, hang: usize, text: &str, most: usize) -> String {
    let parts: Vec<String> = text.split_whitespace().map(printable).collect();
    flow(head, hang, &parts, " ", most)
}

/// `head` and `parts` with `between` in between; a line breaks between parts only, unless a part is wider than a line.
pub(crate) fn flow(head: &str, hang: usize, parts: &[String], between: &str, most: usize) -> String {
    let room = most.saturating_sub(hang).max(NARROWEST);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for part in parts {
        if !line.is_empty() && width(&line) + width(between) + width(part) > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push_str(between);
        }
        for c in part.chars() {
            if width(&line) == room {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        let start = if at == 0 { head.to_owned() } else { " ".repeat(hang) };
        out.push_str(format!("{start}{line}").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&[("latency", Side::Left), ("p50", Side::Right), ("why", Side::Left)]);
        grid.cells(vec!["delivery".to_owned(), "12.3 µs".to_owned(), "one two three four five six seven".to_owned()]);
        grid.cells(vec!["x".to_owned(), "1.00 ms".to_owned(), String::new()]);
        grid.words("spread", "not measured");
        grid
    }

    #[test]
    fn columns_line_up_in_characters_not_bytes() {
        let text = grid().text(0, 100);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "latency       p50  why");
        assert_eq!(lines[1], "delivery  12.3 µs  one two three four five six seven");
        assert_eq!(lines[2], "x         1.00 ms");
        assert_eq!(lines[3], "spread    not measured");
    }

    #[test]
    fn the_last_column_wraps_below_itself() {
        let text = grid().text(2, 48);
        assert!(
            text.contains("  delivery  12.3 µs  one two three four five six\n                     seven\n"),
            "{text}"
        );
        assert!(text.lines().all(|line| width(line) <= 48));
    }

    #[test]
    fn a_column_of_nothing_takes_no_room() {
        let mut grid = Grid::new(&[("a", Side::Left), ("", Side::Left), ("b", Side::Right)]);
        grid.cells(vec!["1".to_owned(), String::new(), "2".to_owned()]);
        assert_eq!(grid.text(0, 100), "a  b\n1  2\n");
    }

    #[test]
    fn a_word_without_end_is_broken() {
        let text = hanging("reason ", 7, &"x".repeat(100), 50);
        assert_eq!(text.lines().map(width).collect::<Vec<_>>(), [50, 50, 21]);
    }

    #[test]
    fn a_cell_cannot_forge_a_line() {
        let mut grid = Grid::new(&[("", Side::Left), ("", Side::Left)]);
        grid.cells(vec!["a\nb".to_owned(), "c\nverdict held\u{1b}[2J".to_owned()]);
        assert_eq!(grid.text(0, 100), "a\u{fffd}b  c verdict held\u{fffd}[2J\n");
    }
}
