//! What is said of a backup.

use backup_core::pipeline::{BackupReport, EntryCounts};

use crate::human;
use crate::style::{self, paint};
use crate::table::facts;

/// Advice about a repository that lacks packs.
const DAMAGE: &str = "missing or truncated; this snapshot is complete, but earlier ones may be \
                      damaged: list them with `backup check`, and repair them with `backup repair`, \
                      also from a copy (--from)";

pub(crate) fn describe(report: &BackupReport) -> String {
    let kind = report.kind.as_str();
    let compared = match &report.parent {
        Some(parent) => format!(", compared with {}", paint(style::SNAPSHOT, parent.short())),
        None => String::new(),
    };
    let heading = match &report.snapshot {
        Some(id) => {
            let saved = paint(style::GOOD, "saved");
            format!("Snapshot {} {saved}: {kind}{compared}", paint(style::SNAPSHOT, id.short()))
        }
        None => format!("Dry run, nothing was stored. Type of the snapshot: {kind}{compared}"),
    };
    let (totals, stored) = (&report.totals, &report.stored);
    let packed = match stored.added_bytes {
        0 => "nothing new".to_owned(),
        added => format!(
            "{} of new data, {} after compression, in {}",
            human::size(added),
            human::size(stored.packed_bytes),
            human::count(stored.packs, "pack", "packs")
        ),
    };
    let time = human::between(report.started, report.finished);
    let speed = human::rate(totals.bytes, time).map(|rate| format!(", {rate}")).unwrap_or_default();
    let missing = match report.warnings {
        0 => String::new(),
        some => format!(
            "{} missing or incomplete; see the warnings",
            human::count(some, "entry", "entries")
        ),
    };
    let damage = match report.lost_packs {
        0 => String::new(),
        lost => format!("{} {DAMAGE}", human::count(lost, "pack", "packs")),
    };
    let lines = facts(&[
        ("Files", counts(&report.files)),
        ("Directories", counts(&report.dirs)),
        ("Others", if totals.others == 0 { String::new() } else { totals.others.to_string() }),
        ("Size", human::size(totals.bytes)),
        (if report.snapshot.is_some() { "Stored" } else { "To store" }, packed),
        ("Warnings", missing),
        ("Damage", damage),
        ("Time", format!("{}{speed}", human::duration(time))),
    ]);
    format!("{heading}\n{lines}")
}

fn counts(counts: &EntryCounts) -> String {
    format!("{} new, {} changed, {} unchanged", counts.new, counts.changed, counts.unmodified)
}
