//! Plain tables: columns two spaces apart, columns without any content left out. On a terminal, long
//! texts are cut if rows then fit on a line; elsewhere a table is as wide as its content.

use std::io::IsTerminal as _;

use crate::style::{self, paint};

/// Space between two columns.
const GAP: usize = 2;
/// Columns up to this width are never cut.
const MIN_CUT: usize = 12;

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
    /// Left, and cut if a row is wider than the terminal: for texts that need not be copied.
    Text,
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
        self.fitted(terminal_width())
    }

    /// The lines, at most `limit` characters wide as far as texts can be cut.
    fn fitted(&self, limit: Option<usize>) -> Vec<String> {
        let used: Vec<usize> = (0..self.columns.len())
            .filter(|at| {
                self.rows.iter().any(|row| row.get(*at).is_some_and(|cell| !cell.is_empty()))
            })
            .collect();
        let mut widths: Vec<usize> = used.iter().map(|at| self.width(*at)).collect();
        if let Some(limit) = limit {
            let can_cut: Vec<bool> =
                used.iter().map(|at| self.columns[*at].1 == Align::Text).collect();
            shrink(&mut widths, &can_cut, limit);
        }
        let line = |cell: &dyn Fn(usize) -> String| {
            let mut line = String::new();
            for (at, width) in used.iter().zip(&widths) {
                let text = cut(cell(*at), *width);
                let space = " ".repeat(width.saturating_sub(length(&text)));
                if !line.is_empty() {
                    line.push_str(&" ".repeat(GAP));
                }
                match self.columns[*at].1 {
                    Align::Left | Align::Text => line.extend([text, space]),
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

/// Width of the terminal in columns; `None` if standard output is not a terminal.
fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Narrows the widest columns that can be cut until the row has at most `limit` characters. Leaves
/// all columns alone if that is not enough.
fn shrink(widths: &mut [usize], can_cut: &[bool], limit: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    let narrowest = |(width, cut): (&usize, &bool)| if *cut { MIN_CUT.min(*width) } else { *width };
    if widths.iter().zip(can_cut).map(narrowest).sum::<usize>() + gaps > limit {
        return;
    }
    while widths.iter().sum::<usize>() + gaps > limit {
        let columns = widths.iter_mut().zip(can_cut).filter(|(_, cut)| **cut);
        let Some((widest, _)) = columns.max_by_key(|(width, _)| **width) else { return };
        *widest -= 1;
    }
}

/// The text within `width` characters. A coloured text is never cut.
fn cut(text: String, width: usize) -> String {
    if length(&text) <= width || text.contains('\x1b') {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
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
    fn long_texts_are_cut_to_the_terminal() {
        let mut table = Table::new([
            ("Identifier", Align::Left),
            ("Size", Align::Right),
            ("Paths", Align::Text),
        ]);
        let path = "/a/rather/long/path/of/a/directory";
        let id = "20261125-154522-d38761";
        table.row([id.to_owned(), "5 B".to_owned(), path.to_owned()]);
        assert_eq!(table.fitted(None)[1], format!("{id}   5 B  {path}"));
        assert_eq!(table.fitted(Some(50))[1], format!("{id}   5 B  /a/rather/long/path…"));
        let whole = format!("{id}   5 B  {path}");
        assert_eq!(table.fitted(Some(30))[1], whole, "cutting would not be enough");
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
