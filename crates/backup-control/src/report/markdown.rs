//! Reports as text.

use std::fmt::Write;
use std::time::Duration;

use super::{JobReport, Met, Report};
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
    let columns = [
        "Job",
        "Backups",
        "Failed",
        "Success",
        "Last success",
        "Size",
        "Growth",
        "Stored",
        "Ratio",
        "Longest",
        "RPO",
        "RTO",
        "Copies",
    ];
    table(&mut text, "Jobs", &columns, report.jobs.iter().map(|job| job_row(job).to_vec()));
    let failures = report.jobs.iter().filter_map(|job| Some(vec![job.job.clone(), job.last_failure.clone()?]));
    table(&mut text, "Last failures", &["Job", "Why"], failures);
    table(
        &mut text,
        "Storage",
        &["Repository", "Used", "Left", "Cost per month", "Verified", "Copied"],
        report.repositories.iter().map(|known| {
            vec![
                known.repository.clone(),
                known.used_bytes.map(words::size).unwrap_or_default(),
                known.left_bytes.map(words::size).unwrap_or_default(),
                known.cost_per_month.map(|cost| money(cost, &report.currency)).unwrap_or_default(),
                known.verified.map(date).unwrap_or_default(),
                known.copied.map(date).unwrap_or_default(),
            ]
        }),
    );
    table(
        &mut text,
        "Restores",
        &["Began", "Job", "To", "By", "Result", "Took", "Size"],
        report.restores.iter().map(|restore| {
            vec![
                format!("{:.0}", restore.started),
                restore.job.clone(),
                restore.target.clone(),
                restore.user.clone(),
                restore.state.to_owned(),
                restore.seconds.map(time).unwrap_or_default(),
                words::size(restore.bytes),
            ]
        }),
    );
    table(
        &mut text,
        "Checklist",
        &["", "Demand", "Evidence"],
        report
            .checklist
            .iter()
            .map(|check| vec![check.met.mark().to_owned(), check.demand.to_owned(), check.evidence.clone()]),
    );
    text
}

/// What there is to say in a line.
pub(super) fn summary(report: &Report) -> String {
    let totals = &report.totals;
    let rate = totals
        .success_rate
        .map_or_else(|| "no backup ended".to_owned(), |rate| format!("{:.1}% of backups succeeded", rate * 100.0));
    let unmet = report.checklist.iter().filter(|check| check.met == Met::No).count();
    format!(
        "{rate} ({} of {}), {} stored, {}, {} not met",
        totals.succeeded,
        totals.succeeded + totals.failed,
        words::size(totals.stored_bytes),
        words::count(report.restores.len() as u64, "restore", "restores"),
        words::count(unmet as u64, "demand", "demands")
    )
}

/// What a table has of a job.
pub(super) fn job_row(job: &JobReport) -> [String; 13] {
    let against = |measured: Option<u64>, target: Option<u64>| match (measured, target) {
        (None, None) => String::new(),
        (Some(measured), None) => time(measured),
        (None, Some(target)) => format!("? of {}", time(target)),
        (Some(measured), Some(target)) => format!("{} of {}", time(measured), time(target)),
    };
    [
        job.job.clone(),
        job.backups.to_string(),
        job.failed.to_string(),
        job.success_rate.map(|rate| format!("{:.1}%", rate * 100.0)).unwrap_or_default(),
        job.last_success.map_or_else(|| "never".to_owned(), |moment| format!("{moment:.0}")),
        job.bytes.map(words::size).unwrap_or_default(),
        job.growth_bytes.map(signed).unwrap_or_default(),
        words::size(job.stored_bytes),
        job.ratio.map(|ratio| format!("{ratio:.1}")).unwrap_or_default(),
        job.longest_seconds.map(time).unwrap_or_default(),
        against(job.rpo_measured_seconds, job.rpo_seconds),
        against(job.rto_measured_seconds, job.rto_seconds),
        if job.is_offsite { format!("{}, one elsewhere", job.copies) } else { job.copies.to_string() },
    ]
}

fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    format!("{sign}{}", words::size(bytes.unsigned_abs()))
}

pub(super) fn time(seconds: u64) -> String {
    words::duration(Duration::from_secs(seconds))
}

pub(super) fn date(moment: jiff::Timestamp) -> String {
    format!("{moment:.0}").chars().take(10).collect()
}

pub(super) fn money(cost: f64, currency: &str) -> String {
    format!("{cost:.2} {currency}")
}

/// A table with a heading; none without rows.
fn table(text: &mut String, heading: &str, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return;
    }
    // Writing into text never fails.
    _ = write!(text, "\n## {heading}\n\n| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
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
