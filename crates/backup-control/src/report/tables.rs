//! What reports have in tables, whatever they look like.

use std::time::Duration;

use super::{JobReport, Report};
use crate::words;

/// A table.
pub(super) struct Table {
    pub(super) heading: &'static str,
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    fn new<const N: usize>(
        heading: &'static str,
        columns: [&'static str; N],
        rows: impl Iterator<Item = [String; N]>,
    ) -> Self {
        Self { heading, columns: columns.to_vec(), rows: rows.map(Vec::from).collect() }
    }

    /// Without a column, if it has that.
    pub(super) fn leave_out(&mut self, column: &str) {
        let Some(at) = self.columns.iter().position(|known| *known == column) else { return };
        self.columns.remove(at);
        self.rows.iter_mut().for_each(|row| _ = row.remove(at));
    }
}

/// All but the checklist. Some may have no rows.
pub(super) fn tables(report: &Report) -> [Table; 5] {
    [jobs(report), failures(report), storage(report), restores(report), log(report)]
}

fn jobs(report: &Report) -> Table {
    let columns = [
        "Job",
        "Backups",
        "Failed",
        "Success",
        "Last success, UTC",
        "Size",
        "Growth",
        "Stored",
        "Ratio",
        "Longest",
        "RPO",
        "RTO",
        "Copies",
    ];
    Table::new("Jobs", columns, report.jobs.iter().map(job_row))
}

fn failures(report: &Report) -> Table {
    let failed =
        report.jobs.iter().filter_map(|job| Some([job.job.clone(), job.last_failure.clone()?]));
    Table::new("Last failures", ["Job", "Cause"], failed)
}

fn storage(report: &Report) -> Table {
    let rows = report.repositories.iter().map(|known| {
        [
            known.repository.clone(),
            known.place.clone(),
            known.used_bytes.map(words::size).unwrap_or_default(),
            known.left_bytes.map(words::size).unwrap_or_default(),
            known.cost_per_month.map(|cost| money(cost, &report.currency)).unwrap_or_default(),
            known.verified.map(date).unwrap_or_default(),
            known.copied.map(date).unwrap_or_default(),
        ]
    });
    Table::new(
        "Storage",
        ["Repository", "Location", "Used", "Free", "Cost per month", "Verified", "Copied"],
        rows,
    )
}

fn restores(report: &Report) -> Table {
    let rows = report.restores.iter().map(|restore| {
        [
            moment(restore.started),
            restore.job.clone(),
            restore.target.clone(),
            restore.user.clone(),
            restore.state.to_owned(),
            restore.seconds.map(time).unwrap_or_default(),
            words::size(restore.bytes),
        ]
    });
    Table::new(
        "Restores",
        ["Start, UTC", "Job", "Target", "User", "Result", "Duration", "Size"],
        rows,
    )
}

fn log(report: &Report) -> Table {
    let more = (report.log_left_out > 0).then(|| {
        let text = format!(
            "{} earlier: see `backup audit`",
            words::count(report.log_left_out as u64, "record", "records")
        );
        ["…".to_owned(), String::new(), String::new(), String::new(), text]
    });
    let rows = report.log.iter().map(|entry| {
        [
            moment(entry.time),
            entry.operation.clone(),
            entry.user.clone(),
            entry.status.as_str().to_owned(),
            entry.about.clone(),
        ]
    });
    Table::new(
        "Tests, changes and incidents",
        ["Time, UTC", "Operation", "User", "Result", "Subject"],
        more.into_iter().chain(rows),
    )
}

/// What a table has of a job.
fn job_row(job: &JobReport) -> [String; 13] {
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
        job.last_success.map_or_else(|| "never".to_owned(), moment),
        job.bytes.map(words::size).unwrap_or_default(),
        job.growth_bytes.map(signed).unwrap_or_default(),
        words::size(job.stored_bytes),
        job.ratio.map(|ratio| format!("{ratio:.1}")).unwrap_or_default(),
        job.longest_seconds.map(time).unwrap_or_default(),
        against(job.rpo_measured_seconds, job.rpo_seconds),
        against(job.rto_measured_seconds, job.rto_seconds),
        match (job.copies, job.is_offsite) {
            (None, _) => "?".to_owned(),
            (Some(copies), true) => format!("{copies}, one off-site"),
            (Some(copies), false) => copies.to_string(),
        },
    ]
}

fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    format!("{sign}{}", words::size(bytes.unsigned_abs()))
}

pub(super) fn time(seconds: u64) -> String {
    words::duration(Duration::from_secs(seconds))
}

fn moment(moment: jiff::Timestamp) -> String {
    moment.strftime("%F %H:%M").to_string()
}

pub(super) fn date(moment: jiff::Timestamp) -> String {
    format!("{moment:.0}").chars().take(10).collect()
}

pub(super) fn money(cost: f64, currency: &str) -> String {
    format!("{cost:.2} {currency}")
}
