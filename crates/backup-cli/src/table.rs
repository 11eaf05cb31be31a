//! Plain tables: as wide as their content, columns two spaces apart, columns without any content
//! left out.

use crate::style::{self, paint};

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table being filled.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: impl Into<Vec<(&'static str, Align)>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// The lines, headings first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let used: Vec<usize> = (0..self.columns.len())
            .filter(|at| {
                self.rows.iter().any(|row| row.get(*at).is_some_and(|cell| !cell.is_empty()))
            })
            .collect();
        let widths: Vec<usize> = used.iter().map(|at| self.width(*at)).collect();
        let line = |cell: &dyn Fn(usize) -> String| {
            let mut line = String::new();
            for (at, width) in used.iter().zip(&widths) {
                let text = cell(*at);
                let space = " ".repeat(width.saturating_sub(length(&text)));
                if !line.is_empty() {
                    line.push_str("  ");
                }
                match self.columns[*at].1 {
                    Align::Left => line.extend([text, space]),
                    Align::Right => line.extend([space, text]),
                }
            }
            line.trim_end().to_owned()
        };
        let heading = line(&|at| self.columns[at].0.to_owned());
        let rows = self.rows.iter().map(|row| line(&|at| row.get(at).cloned().unwrap_or_default()));
        std::iter::once(paint(style::HEADING, heading)).chain(rows).collect()
    }

    fn width(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| length(cell));
        cells.chain([length(self.columns[at].0)]).max().unwrap_or(0)
    }
}

/// Characters that are seen: colours are not.
fn length(text: &str) -> usize {
    anstream::adapter::strip_str(text).map(|part| part.chars().count()).sum()
}

/// Lines of a label and what belongs to it; labels without content are left out.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let shown: Vec<_> = facts.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = shown
        .iter()
        .map(|(label, value)| {
            let space = " ".repeat(width - label.chars().count() + 2);
            format!("  {}{space}{value}", paint(style::FAINT, label))
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_and_drops_empty_columns() {
        let mut table =
            Table::new([("ID", Align::Left), ("None", Align::Left), ("Size", Align::Right)]);
        table.row(["a".to_owned(), String::new(), "5 B".to_owned()]);
        table.row(["höhe".to_owned(), String::new(), "500 B".to_owned()]);
        let lines = table.lines();
        assert_eq!(lines[1..], ["a       5 B", "höhe  500 B"]);
        assert!(lines[0].contains("ID     Size") && !lines[0].contains("None"));
    }

    #[test]
    fn colours_take_no_room() {
        let mut table =
            Table::new([("ID", Align::Left), ("State", Align::Left), ("Size", Align::Right)]);
        table.row(["a".to_owned(), paint(style::SNAPSHOT, "good"), "5 B".to_owned()]);
        table.row(["b".to_owned(), "failed".to_owned(), "500 B".to_owned()]);
        let plain: Vec<String> = table
            .lines()
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        assert_eq!(plain, ["ID  State    Size", "a   good      5 B", "b   failed  500 B"]);
    }
}
