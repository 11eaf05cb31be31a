//! What grows with what: CPU seconds and peak memory of `backup` against bytes, files, blobs and
//! snapshots. Nothing may grow faster than the data does.

use std::path::Path;

use backup_benches::{Cost, Judged, Measure, Report, Result, Row, data, timed, tools, untimed};

use crate::peers::variables;
use crate::svg::{Panel, Point};
use crate::{Options, child, svg};

/// From one point to the next, twice as much is done.
const POINTS: u64 = 4;
/// How much more than twice as much the last point may take than the one before it.
const SLOPE: f64 = 1.15;

struct Curve {
    name: &'static str,
    /// What is counted.
    unit: &'static str,
    what: &'static str,
    /// The first point, and that of a quick contest.
    first: (u64, u64),
    /// Makes what `script` needs.
    prepare: fn(&Path, u64) -> Result<()>,
    script: fn(&str, &Path) -> String,
}

const CURVES: [Curve; 4] = [
    Curve {
        name: "bytes",
        unit: "MB",
        what: "first backup",
        first: (250, 10),
        prepare: |room, megabytes| {
            data::create(&room.join("data"), megabytes * 1_000_000).map(drop)
        },
        script: first_backup,
    },
    Curve {
        name: "files",
        unit: "files",
        what: "first backup",
        first: (50_000, 500),
        prepare: |room, files| data::create_small(&room.join("data"), files).map(drop),
        script: first_backup,
    },
    Curve {
        name: "blobs",
        unit: "blobs",
        what: "check",
        first: (250_000, 2000),
        prepare: |room, blobs| by_child(room, &format!("blobs repo 1 {blobs}")),
        script: |backup, room| {
            format!("{backup} check --quiet --no-cache --repo {}/repo", room.display())
        },
    },
    Curve {
        name: "snapshots",
        unit: "snapshots",
        what: "list",
        first: (250, 10),
        prepare: |room, snapshots| by_child(room, &format!("snapshots repo {snapshots}")),
        script: |backup, room| format!("{backup} list --json --repo {}/repo", room.display()),
    },
];

fn first_backup(backup: &str, room: &Path) -> String {
    // Each time a first one.
    let (repo, room) = ("repo-$$", room.display());
    format!(
        "{backup} init --quiet --repo {room}/{repo} && {backup} run --quiet --repo {room}/{repo} \
         --source {room}/data"
    )
}

/// A repository with what a process of this program puts into it.
fn by_child(room: &Path, words: &str) -> Result<()> {
    let (backup, itself) = (tools::backup()?, std::env::current_exe()?);
    let (backup, itself) = (backup.display(), itself.display());
    let script = format!(
        "cd {} && {backup} init --quiet --repo repo && {itself} {} {words} </dev/null",
        room.display(),
        child::WORD
    );
    untimed(&script, room, &variables(room)).map(drop)
}

pub(crate) fn contest(options: &Options) -> Result<Report> {
    let (mut rows, mut bars, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    for curve in &CURVES {
        let measured = curve.measure(options)?;
        bars.extend([Measure::Cpu, Measure::Peak].map(|measure| curve.judge(measure, &measured)));
        pictures.push((format!("curve-{}", curve.name), curve.picture(&measured)));
        rows.extend(measured.into_iter().map(|(_, row)| row));
    }
    let title =
        format!("Cost of `backup` at four points, each of twice the size; {}", options.told());
    let mut report = Report::new("curves", title, rows, &[]);
    (report.bars, report.pictures) = (bars, pictures);
    Ok(report)
}

impl Curve {
    fn measure(&self, options: &Options) -> Result<Vec<(u64, Row)>> {
        let backup = tools::backup()?.display().to_string();
        let first = options.size(self.first.0, self.first.1);
        let mut points = Vec::new();
        for size in (0..POINTS).map(|point| first << point) {
            let room = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
            (self.prepare)(room.path(), size)?;
            let script = (self.script)(&backup, room.path());
            let costs =
                (0..options.runs).map(|_| timed(&script, room.path(), &variables(room.path())));
            let costs = costs.collect::<Result<Vec<Cost>>>()?;
            let step = format!("{}, {size} {}", self.what, self.unit);
            points.push((size, Row { step, tool: "backup".to_owned(), costs }));
        }
        Ok(points)
    }

    /// How much more the last point takes than the one before it, for each that it is larger.
    fn judge(&self, measure: Measure, points: &[(u64, Row)]) -> Judged {
        let slope = match points {
            [.., (_, before), (_, last)] => last
                .median(measure)
                .zip(before.median(measure))
                .map(|(last, before)| last / before / 2.0),
            _ => None,
        };
        let what =
            format!("{} against {}: {}, last doubling", self.what, self.name, measure.name());
        Judged { what, value: slope, at_most: SLOPE }
    }

    fn picture(&self, points: &[(u64, Row)]) -> String {
        let panel = |title: &'static str, measure: Measure| {
            #[expect(clippy::cast_precision_loss, reason = "a place on paper")]
            let point =
                |(size, row): &(u64, Row)| Some(Point { x: *size as f64, y: row.median(measure)? });
            Panel { title, points: points.iter().filter_map(point).collect() }
        };
        let title = format!("{} against {}", self.what, self.name);
        svg::picture(
            &title,
            self.unit,
            &[panel("CPU seconds", Measure::Cpu), panel("peak memory, MB", Measure::Peak)],
        )
    }
}
