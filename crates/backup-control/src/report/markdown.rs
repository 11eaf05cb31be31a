//! Reports as text.

use std::fmt::Write;

use super::tables::{date, tables};
use super::{Met, Report};
use crate::words;

/// A report as Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# Backup report\n\n{} to {}, host {}\n\n{}\n",
        date(report.from),
        date(report.to),
        cell(&report.host),
        summary(report)
    );
    for mut known in tables(report) {
        // A text is narrow.
        known.leave_out("Location");
        table(&mut text, known.heading, &known.columns, known.rows.into_iter());
    }
    table(
        &mut text,
        "Checklist",
        &["", "Requirement", "Evidence"],
        report.checklist.iter().map(|check| {
            vec![check.met.mark().to_owned(), check.demand.to_owned(), check.evidence.clone()]
        }),
    );
    text
}

/// What there is to say in a line.
pub(super) fn summary(report: &Report) -> String {
    let totals = &report.totals;
    let rate = totals.success_rate.map_or_else(
        || "no backup finished".to_owned(),
        |rate| format!("{:.1}% of backups succeeded", rate * 100.0),
    );
    let count = |met| report.checklist.iter().filter(|check| check.met == met).count() as u64;
    let not_known = match count(Met::NotKnown) {
        0 => String::new(),
        some => format!(", {some} not known"),
    };
    format!(
        "{rate} ({} of {}), {} stored, {}, {} not met{not_known}",
        totals.succeeded,
        totals.succeeded + totals.failed,
        words::size(totals.stored_bytes),
        words::count(report.restores.len() as u64, "restore", "restores"),
        words::count(count(Met::No), "requirement", "requirements")
    )
}

/// A table with a heading; none without rows.
fn table(
    text: &mut String,
    heading: &str,
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return;
    }
    // Writing into text never fails.
    _ = write!(
        text,
        "\n## {heading}\n\n| {} |\n|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    for row in rows {
        let cells: Vec<String> = row.iter().map(|value| cell(value)).collect();
        _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

/// Text that stays in its cell, whatever is in it.
fn cell(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "'")
}
