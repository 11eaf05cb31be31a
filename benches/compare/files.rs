//! Directories of files.

use backup_benches::{Bar, Judged, Measure, Report, Result, Row, data};

use crate::Options;
use crate::contest::{Contest, Directories, has_room, measure};
use crate::peers::{Kind, Step, available};

const MIXED: [Bar; 8] = [
    Bar { step: "first backup", beside: Some("restic"), measure: Measure::Cpu, at_most: 0.42 },
    Bar { step: "first backup", beside: Some("tar"), measure: Measure::Cpu, at_most: 1.15 },
    Bar { step: "unchanged", beside: Some("restic"), measure: Measure::Cpu, at_most: 0.15 },
    Bar { step: "forced re-read", beside: Some("restic"), measure: Measure::Cpu, at_most: 0.42 },
    Bar { step: "restore", beside: Some("restic"), measure: Measure::Cpu, at_most: 0.6 },
    Bar { step: "check, all data", beside: Some("restic"), measure: Measure::Cpu, at_most: 0.6 },
    Bar { step: "first backup", beside: Some("restic"), measure: Measure::Peak, at_most: 0.75 },
    Bar { step: "restore", beside: Some("restic"), measure: Measure::Peak, at_most: 0.6 },
];

const SMALL: [Bar; 4] = [
    Bar { step: "first backup", beside: Some("restic"), measure: Measure::Cpu, at_most: 0.35 },
    Bar { step: "restore", beside: Some("restic"), measure: Measure::Cpu, at_most: 0.6 },
    Bar { step: "first backup", beside: None, measure: Measure::Peak, at_most: 300.0 },
    Bar { step: "restore", beside: None, measure: Measure::Peak, at_most: 300.0 },
];

/// Large and small ones.
pub(crate) fn mixed(options: &Options) -> Result<Report> {
    let megabytes = options.size(1000, 60);
    let scratch = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
    let source = scratch.path().join("data");
    let files = data::create(&source, megabytes * 1_000_000)?;
    let steps =
        [Step::Init, Step::First, Step::Unchanged, Step::Reread, Step::Restore, Step::Check];
    let peers =
        available(&[Kind::Backup, Kind::Restic, Kind::Rustic, Kind::Borg, Kind::Tar, Kind::Floor])?;
    let is_kept = has_room(&source, files, peers.len(), options.runs)?;
    let contest = Contest {
        source,
        scratch: &scratch,
        steps: &steps,
        runs: options.runs,
        store: &Directories,
        is_kept,
    };
    let rows = measure(&contest, &peers)?;
    let title = format!("{megabytes} MB in {files} files; {}", options.told());
    Ok(Report::new("files", title, rows, &MIXED))
}

/// Trees in which nothing has changed: their files, and megabytes.
const TREES: [(u64, u64); 2] = [(5000, 325), (22_000, 325)];
const QUICK_TREES: [(u64, u64); 2] = [(200, 5), (800, 5)];

/// CPU of a backup without a change, beside restic's.
const UNCHANGED: f64 = 0.15;

/// Backups without a change, beside the constant cost of opening the repository.
pub(crate) fn unchanged(options: &Options) -> Result<Report> {
    let trees = if options.is_quick() { QUICK_TREES } else { TREES };
    let peers = available(&[Kind::Backup, Kind::Stretched, Kind::Restic])?;
    let mut rows = Vec::new();
    for (files, megabytes) in trees {
        let scratch = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
        let source = scratch.path().join("data");
        data::create_files(&source, files, megabytes * 1_000_000)?;
        let is_kept = has_room(&source, files, peers.len(), options.runs)?;
        let contest = Contest {
            source,
            scratch: &scratch,
            steps: &[Step::Init, Step::First, Step::Open, Step::Unchanged],
            runs: options.runs,
            store: &Directories,
            is_kept,
        };
        for row in measure(&contest, &peers)? {
            rows.push(Row { step: format!("{}: {files} files", row.step), ..row });
        }
    }
    let title = format!("Nothing has changed; {}", options.told());
    let mut report = Report::new("unchanged", title, rows, &[]);
    if !options.is_quick() {
        report.bars = trees.iter().map(|(files, _)| beside_restic(&report.rows, *files)).collect();
    }
    Ok(report)
}

/// CPU of a backup with a generated key, which needs no key derivation, beside restic's.
fn beside_restic(rows: &[Row], files: u64) -> Judged {
    let step = format!("{}: {files} files", Step::Unchanged.title());
    let cpu = |tool: &str| {
        let row = rows.iter().find(|row| row.step == step && row.tool.starts_with(tool));
        row.and_then(|row| row.median(Measure::Cpu))
    };
    let value = cpu("backup").zip(cpu("restic")).map(|(ours, theirs)| ours / theirs);
    Judged { what: format!("{step}: CPU beside restic"), value, at_most: UNCHANGED }
}

/// So many that what each one costs is all that counts.
pub(crate) fn small(options: &Options) -> Result<Report> {
    let files = options.size(1_000_000, 5000);
    let scratch = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
    let source = scratch.path().join("data");
    let bytes = data::create_small(&source, files)?;
    let peers = available(&[Kind::Backup, Kind::Restic])?;
    let is_kept = has_room(&source, files, peers.len(), options.runs)?;
    let contest = Contest {
        source,
        scratch: &scratch,
        steps: &[Step::Init, Step::First, Step::Restore],
        runs: options.runs,
        store: &Directories,
        is_kept,
    };
    let rows = measure(&contest, &peers)?;
    let title = format!("{files} files of {} MB; {}", bytes / 1_000_000, options.told());
    Ok(Report::new("small", title, rows, &SMALL))
}
