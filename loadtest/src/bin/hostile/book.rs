//! What became of everybody, and what the server did that it must not do.

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::peer::End;

/// Different findings that are kept; of the others only that there were some.
const MAX_FINDINGS: usize = 50;

/// One kind's figures.
#[derive(Debug, Default)]
struct Row {
    opened: u64,
    upgraded: u64,
    ends: BTreeMap<End, u64>,
}

#[derive(Debug)]
pub(crate) struct Book {
    rows: BTreeMap<Kind, Row>,
    findings: BTreeMap<(Kind, String), u64>,
}

/// The columns of the table.
const COLUMNS: [&str; 10] =
    ["connections", "101", "4xx", "503", "closed", "reset", "ended", "timeout", "left", "failed"];

impl Row {
    fn count(&self, of: impl Fn(End) -> bool) -> u64 {
        self.ends.iter().filter(|(end, _)| of(**end)).map(|(_, count)| count).sum()
    }

    fn figures(&self) -> [u64; COLUMNS.len()] {
        [
            self.opened,
            self.upgraded,
            self.count(|end| matches!(end, End::Status(400..500))),
            self.count(|end| end == End::Status(503)),
            self.count(|end| matches!(end, End::Closed(_))),
            self.count(|end| end == End::Reset),
            self.count(|end| end == End::Ended),
            self.count(|end| end == End::Timeout),
            self.count(|end| end == End::Left),
            self.count(|end| end == End::Failed),
        ]
    }

    /// Statuses and codes, each with how often.
    fn codes(&self) -> BTreeMap<u16, u64> {
        let code = |end: &End| match end {
            End::Status(code) | End::Closed(code) => Some(*code),
            _ => None,
        };
        self.ends.iter().filter_map(|(end, count)| Some((code(end)?, *count))).collect()
    }
}

impl Book {
    pub(crate) fn new(kinds: &[Kind]) -> Self {
        Self { rows: kinds.iter().map(|kind| (*kind, Row::default())).collect(), findings: BTreeMap::new() }
    }

    fn row(&mut self, kind: Kind) -> &mut Row {
        self.rows.entry(kind).or_default()
    }

    pub(crate) fn opened(&mut self, kind: Kind) {
        self.row(kind).opened += 1;
    }

    pub(crate) fn upgraded(&mut self, kind: Kind) {
        self.row(kind).upgraded += 1;
    }

    pub(crate) fn ended(&mut self, kind: Kind, end: End) {
        *self.row(kind).ends.entry(end).or_default() += 1;
    }

    pub(crate) fn forbid(&mut self, kind: Kind, what: &str) {
        let key = (kind, what.to_owned());
        let key = if self.findings.len() < MAX_FINDINGS || self.findings.contains_key(&key) {
            key
        } else {
            (kind, "more of other sorts".to_owned())
        };
        *self.findings.entry(key).or_default() += 1;
    }

    /// A server that is gone does nothing wrong, and nothing right.
    pub(crate) fn close(&mut self) {
        let failed = |row: &Row| row.opened > 0 && row.count(|end| end == End::Failed) == row.opened;
        let unreached: Vec<_> = self.rows.iter().filter(|(_, row)| failed(row)).map(|(kind, _)| *kind).collect();
        unreached.into_iter().for_each(|kind| self.forbid(kind, "no connection could be made"));
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// A line for who watches.
    pub(crate) fn progress(&self) -> String {
        let opened: u64 = self.rows.values().map(|row| row.opened).sum();
        let ended: u64 = self.rows.values().map(|row| row.count(|_| true)).sum();
        let found: u64 = self.findings.values().sum();
        format!("{opened:>8} connections  {:>6} open  {found:>4} findings", opened - ended)
    }

    /// A row for each kind, and the findings.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<15}", "kind");
        for column in COLUMNS {
            text.push_str(&format!(" {column:>11}"));
        }
        text.push_str("  codes\n");
        for (kind, row) in &self.rows {
            text.push_str(&format!("{:<15}", kind.name()));
            for figure in row.figures() {
                text.push_str(&format!(" {figure:>11}"));
            }
            let codes: Vec<_> = row.codes().iter().map(|(code, count)| format!("{code}×{count}")).collect();
            text.push_str(&format!("  {}", codes.join(" ")));
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        for ((kind, what), count) in &self.findings {
            text.push_str(&format!("FORBIDDEN {}: {what} ({count} times)\n", kind.name()));
        }
        text
    }

    pub(crate) fn json(&self, url: &str, seed: u64) -> serde_json::Value {
        let row = |(kind, row): (&Kind, &Row)| {
            let mut figures: serde_json::Map<_, _> =
                COLUMNS.iter().zip(row.figures()).map(|(name, figure)| ((*name).to_owned(), figure.into())).collect();
            let codes: serde_json::Map<_, _> =
                row.codes().iter().map(|(code, count)| (code.to_string(), (*count).into())).collect();
            figures.insert("kind".to_owned(), kind.name().into());
            figures.insert("codes".to_owned(), codes.into());
            serde_json::Value::from(figures)
        };
        let finding = |((kind, what), count): (&(Kind, String), &u64)| serde_json::json!({ "kind": kind.name(), "what": what, "count": count });
        serde_json::json!({
            "url": url,
            "seed": seed,
            "kinds": self.rows.iter().map(row).collect::<Vec<_>>(),
            "forbidden": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_in_one_column() {
        let mut book = Book::new(&[Kind::Churn, Kind::Protocol]);
        for end in
            [End::Status(400), End::Status(503), End::Closed(1002), End::Reset, End::Ended, End::Timeout, End::Left]
        {
            book.opened(Kind::Protocol);
            book.ended(Kind::Protocol, end);
        }
        let row = &book.json("ws://x/", 1)["kinds"][1];
        let columns = ["4xx", "503", "closed", "reset", "ended", "timeout", "left"];
        assert!(columns.iter().all(|column| row[column] == 1), "{row}");
        assert_eq!((&row["connections"], &row["codes"]["1002"]), (&7.into(), &1.into()));
        assert!(book.is_clean());
        let widths: Vec<_> = book.table().lines().map(|line| line.find("  codes").unwrap_or(125)).collect();
        assert_eq!(widths[0], 15 + 12 * COLUMNS.len());
        book.forbid(Kind::Protocol, "x");
        assert!(!book.is_clean() && book.table().contains("FORBIDDEN protocol: x (1 times)"));
    }
}
