//! What a contest has shown: a table for people, and everything for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::{Cost, Result};

/// Of one contest.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of its files.
    pub name: String,
    /// What was done, and with which data.
    pub title: String,
    /// In the order of the table. The first tool of a step is ours.
    pub rows: Vec<Row>,
    /// What was to be reached.
    pub bars: Vec<Judged>,
    /// Names and contents of pictures (SVG).
    #[serde(skip)]
    pub pictures: Vec<(String, String)>,
}

/// One step of one tool.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub step: String,
    /// Who did it.
    pub tool: String,
    /// Of each run.
    pub costs: Vec<Cost>,
}

/// What a bar is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// CPU seconds.
    Cpu,
    /// CPU seconds of the kernel.
    System,
    /// Seconds.
    Wall,
    /// Largest resident set.
    Peak,
    /// Requests to a store.
    Requests,
}

impl Measure {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::System => "system",
            Self::Wall => "wall",
            Self::Peak => "memory",
            Self::Requests => "requests",
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of requests")]
    fn of(self, cost: &Cost) -> Option<f64> {
        match self {
            Self::Cpu => Some(cost.cpu),
            Self::System => Some(cost.system),
            Self::Wall => Some(cost.wall),
            Self::Peak => Some(cost.peak),
            Self::Requests => cost.requests.map(|count| count as f64),
        }
    }
}

/// What was to be reached: ours as a share of another tool's, or as a number.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// In which step.
    pub step: &'static str,
    /// The beginning of the tool's name; nothing: the number itself is limited.
    pub beside: Option<&'static str>,
    /// What is compared.
    pub measure: Measure,
    /// No more than this.
    pub at_most: f64,
}

/// A bar, and whether it was met.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// What it is about.
    pub what: String,
    /// What was measured; nothing if one of the two was not.
    pub value: Option<f64>,
    /// No more than this.
    pub at_most: f64,
}

impl Judged {
    /// Whether it was measured, and is no more than it may be.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.value.is_some_and(|value| value <= self.at_most)
    }

    fn verdict(&self) -> &'static str {
        match self.value {
            None => "not measured",
            Some(_) if self.is_met() => "met",
            Some(_) => "**missed**",
        }
    }
}

/// Median, least and most.
fn spread(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64, f64)> {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    Some((*sorted.get(sorted.len() / 2)?, *sorted.first()?, *sorted.last()?))
}

impl Row {
    fn spread(&self, measure: Measure) -> Option<(f64, f64, f64)> {
        spread(self.costs.iter().filter_map(|cost| measure.of(cost)))
    }

    /// The median.
    #[must_use]
    pub fn median(&self, measure: Measure) -> Option<f64> {
        Some(self.spread(measure)?.0)
    }

    fn cells(&self, ours: Option<&Self>) -> Vec<String> {
        let cell = |measure, digits: usize| match self.spread(measure) {
            Some((median, least, most)) if self.costs.len() > 1 => {
                format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
            }
            Some((median, ..)) => format!("{median:.digits$}"),
            None => String::new(),
        };
        #[expect(clippy::cast_precision_loss, reason = "megabytes with one digit")]
        let stored = spread(
            self.costs.iter().filter_map(|cost| cost.stored).map(|bytes| bytes as f64 / 1e6),
        );
        let stored = stored.map_or(String::new(), |(median, ..)| format!("{median:.1}"));
        let ratio = |measure| Some(ours?.median(measure)? / self.median(measure)?);
        let ratio =
            |measure| ratio(measure).filter(|_| ours.is_some_and(|ours| ours.tool != self.tool));
        let told = |ratio: Option<f64>| ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        vec![
            self.step.clone(),
            self.tool.clone(),
            cell(Measure::Cpu, 2),
            cell(Measure::System, 2),
            cell(Measure::Wall, 2),
            cell(Measure::Peak, 0),
            stored,
            cell(Measure::Requests, 0),
            told(ratio(Measure::Cpu)),
            told(ratio(Measure::Wall)),
            told(ratio(Measure::Peak)),
        ]
    }
}

const HEAD: [&str; 11] = [
    "step",
    "tool",
    "CPU s",
    "system",
    "wall s",
    "peak MB",
    "stored MB",
    "requests",
    "ours/its CPU",
    "wall",
    "memory",
];

impl Report {
    /// With each bar judged. The medians count.
    #[must_use]
    pub fn new(name: &str, title: String, rows: Vec<Row>, bars: &[Bar]) -> Self {
        let of = |step: &str, tool: &str| {
            rows.iter().find(|row| row.step == step && row.tool.starts_with(tool))
        };
        let judge = |bar: &Bar| {
            let ours = rows
                .iter()
                .find(|row| row.step == bar.step)
                .and_then(|row| row.median(bar.measure));
            let (what, value) = match bar.beside {
                None => (format!("{}: {}", bar.step, bar.measure.name()), ours),
                Some(tool) => {
                    let its = of(bar.step, tool).and_then(|row| row.median(bar.measure));
                    let share = ours.zip(its).map(|(ours, its)| ours / its);
                    (format!("{}: {} vs {tool}", bar.step, bar.measure.name()), share)
                }
            };
            Judged { what, value, at_most: bar.at_most }
        };
        let bars = bars.iter().map(judge).collect();
        Self { name: name.to_owned(), title, rows, bars, pictures: Vec::new() }
    }

    /// The table and the verdicts.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        if !self.rows.is_empty() {
            let ours = |row: &Row| self.rows.iter().find(|other| other.step == row.step);
            let cells: Vec<Vec<String>> =
                self.rows.iter().map(|row| row.cells(ours(row))).collect();
            table(&mut text, &HEAD, &cells);
        }
        if !self.bars.is_empty() {
            text.push('\n');
            let number = |number: f64| format!("{number:.2}");
            let cells = |bar: &Judged| {
                let value = bar.value.map_or(String::new(), number);
                vec![bar.what.clone(), value, number(bar.at_most), bar.verdict().to_owned()]
            };
            table(
                &mut text,
                &["bar", "measured", "at most", ""],
                &self.bars.iter().map(cells).collect::<Vec<_>>(),
            );
        }
        for (name, _) in &self.pictures {
            // Writing to a string cannot fail.
            _ = write!(text, "\n![{name}]({name}.svg)\n");
        }
        text
    }

    /// Writes `NAME.md`, `NAME.json` and the pictures.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn store(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join(&self.name).with_extension("md"), self.markdown())?;
        std::fs::write(
            dir.join(&self.name).with_extension("json"),
            serde_json::to_string_pretty(self)? + "\n",
        )?;
        for (name, picture) in &self.pictures {
            std::fs::write(dir.join(name).with_extension("svg"), picture)?;
        }
        Ok(())
    }

    /// What was missed.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        self.bars
            .iter()
            .filter(|bar| !bar.is_met())
            .map(|bar| format!("{}: {}", self.name, bar.what))
            .collect()
    }
}

/// Columns without any content are left out, and all are as wide as they have to be.
fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let has_content = |at: &usize| rows.iter().any(|row| !row[*at].is_empty());
    let columns: Vec<usize> = (0..head.len()).filter(has_content).collect();
    let width = |at: usize| {
        rows.iter().map(|row| row[at].chars().count()).chain([head[at].chars().count()]).max()
    };
    let widths: Vec<usize> = columns.iter().map(|at| width(*at).unwrap_or(0)).collect();
    let mut line = |cells: &mut dyn Iterator<Item = String>| {
        let cells =
            cells.zip(&widths).map(|(cell, width)| format!(" {cell:<width$} ")).collect::<Vec<_>>();
        // Writing to a string cannot fail.
        _ = writeln!(out, "|{}|", cells.join("|"));
    };
    line(&mut columns.iter().map(|at| head[*at].to_owned()));
    line(&mut widths.iter().map(|width| "-".repeat(*width)));
    for row in rows {
        line(&mut columns.iter().map(|at| row[*at].clone()));
    }
}
