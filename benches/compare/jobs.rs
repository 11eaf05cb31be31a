//! Very many jobs in one configuration and one repository. Cost must grow with the jobs, not with
//! their square.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use backup_benches::{Cost, Judged, Measure, Report, Result, Row, timed, tools, untimed};
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::format::{KeyFile, Snapshot, seal_json};
use backup_core::id::SnapshotId;
use backup_core::repository::Repository;
use backup_core::sink::{Key, Prefix, SinkOps};
use backup_storage::LocalSink;
use futures::{StreamExt, TryStreamExt};
use jiff::SignedDuration;
use tempfile::TempDir;

use crate::peers::{phrases, variables};
use crate::{Options, child};

/// Jobs, and snapshots of each. The last two are compared.
const SIZES: [(u64, u64); 7] =
    [(1, 1000), (20, 1000), (1, 10), (20, 10), (100, 10), (500, 10), (2000, 10)];
const QUICK: [(u64, u64); 2] = [(5, 3), (20, 3)];
/// `run of all` is left out with more jobs, and with very many snapshots.
const ALL_OF: u64 = 500;

/// Steps, their arguments, and the CPU seconds that they may take with 500 jobs.
const STEPS: [(&str, &str, Option<f64>); 8] = [
    ("config check", "config check", None),
    ("list", "list", None),
    ("status", "status", Some(0.6)),
    ("alerts check", "alerts check", Some(0.6)),
    ("report", "report", None),
    ("cleanup --all --dry-run", "cleanup --all --dry-run", Some(1.5)),
    (ONE, "run job-0", None),
    (ALONE, "--config one.toml run job-0", None),
];
const ALL: &str = "run of all";
const ONE: &str = "run of one job";
const ALONE: &str = "run of the only configured job";
/// The work of 2000 jobs, as a multiple of that of 500.
const SLOPE: f64 = 4.5;
/// CPU of a run beside one with a single job in the configuration.
const SHARE: f64 = 1.3;
/// Megabytes.
const MEMORY: f64 = 150.0;

pub(crate) fn contest(options: &Options) -> Result<Report> {
    let sizes = if options.is_quick() { &QUICK[..] } else { &SIZES[..] };
    let program = tools::backup()?.display().to_string();
    let rooms = sizes.iter().map(|(jobs, snapshots)| Room::new(*jobs, *snapshots, &program));
    let rooms = rooms.collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<(&Room<'_>, &str, Row)> = Vec::new();
    for step in STEPS.iter().map(|(step, ..)| *step).chain([ALL]) {
        let rooms = rooms.iter().filter(|room| room.takes(step));
        rows.extend(rooms.map(|room| (room, step, room.row(step))));
    }
    for _ in 0..options.runs {
        // In turn: the machine may be slower a minute later.
        for (room, step, row) in &mut rows {
            row.costs.push(room.timed(step)?);
        }
    }
    let rows = rows.into_iter().map(|(.., row)| row).collect();
    let title = format!("`backup` with many jobs; {}", options.told());
    let mut report = Report::new("jobs", title, rows, &[]);
    if !options.is_quick() {
        report.bars = bars(&report.rows);
    }
    Ok(report)
}

fn named(step: &str, jobs: u64, snapshots: u64) -> String {
    format!("{step}: {jobs} jobs, {snapshots} snapshots each")
}

/// A configuration with a repository that has a number of snapshots of each job.
struct Room<'a> {
    jobs: u64,
    snapshots: u64,
    /// Path of `backup`.
    program: &'a str,
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl<'a> Room<'a> {
    fn new(jobs: u64, snapshots: u64, program: &'a str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
        let path = directory.path();
        let (own, within) = (variables(path), |words: &str| within(path, program, words));
        fs::write(path.join("backup.toml"), configuration(path, jobs)?)?;
        fs::write(path.join("one.toml"), configuration(path, 1)?)?;
        // As in the README: a generated key is not stretched.
        untimed(&within("init --quiet -r main --generate-key --key-file key"), path, &own)?;
        let key = fs::read_to_string(path.join("key"))?;
        let variables = [own, phrases(key.trim_end())].concat();
        untimed(&within("run --quiet job-0"), path, &variables)?;
        let itself = std::env::current_exe()?;
        let more = format!("{} {} jobs {jobs} {snapshots}", itself.display(), child::WORD);
        untimed(&format!("cd {} && {more} </dev/null", path.display()), path, &variables)?;
        // Writes receipts, and caches.
        untimed(&within("run --quiet job-0"), path, &variables)?;
        Ok(Self { jobs, snapshots, program, directory, variables })
    }

    fn takes(&self, step: &str) -> bool {
        step != ALL || (self.jobs <= ALL_OF && self.snapshots < 1000)
    }

    fn row(&self, step: &str) -> Row {
        let step = named(step, self.jobs, self.snapshots);
        Row { step, tool: "backup".to_owned(), costs: Vec::new() }
    }

    fn timed(&self, step: &str) -> Result<Cost> {
        let words = STEPS.iter().find(|(one, ..)| *one == step).map(|(_, words, _)| *words);
        let all = || (0..self.jobs).map(|job| format!(" job-{job}")).collect::<String>();
        let words = words.map_or_else(|| format!("run{}", all()), str::to_owned);
        let path = self.directory.path();
        timed(&within(path, self.program, &format!("{words} >/dev/null")), path, &self.variables)
    }
}

fn within(directory: &Path, program: &str, words: &str) -> String {
    format!("cd {} && {program} {words}", directory.display())
}

/// Jobs of one small file each, with a policy and an alert.
fn configuration(room: &Path, jobs: u64) -> Result<String> {
    let mut text = "[repositories.main]\nurl = \"repo\"\n[notify.none]\nkind = \"command\"\n\
                    command = \"true\"\n[alerts.stale]\ncondition = \"stale > 24h\"\n\
                    severity = \"high\"\nnotify = [\"none\"]\n[defaults]\nkeep = { last = 7 }\n"
        .to_owned();
    for job in 0..jobs {
        let source = format!("source-{job}");
        fs::create_dir_all(room.join(&source))?;
        fs::write(room.join(&source).join("file"), format!("content of {job}"))?;
        write!(
            text,
            "[sources.s{job}]\nkind = \"files\"\npaths = [\"{source}\"]\n[jobs.job-{job}]\n\
             source = \"s{job}\"\nrepository = \"main\"\nschedule = \"{} 2 * * *\"\n",
            job % 60
        )?;
    }
    Ok(text)
}

/// Adds snapshots of each job to the repository `repo` in the current directory, with the tree of
/// its first snapshot. Runs in a process of this program.
pub(crate) async fn add_snapshots(jobs: u64, snapshots: u64) -> Result<()> {
    let sink = LocalSink::without_fsync("repo")?;
    let phrase = Passphrase::new(std::env::var("BACKUP_PASSWORD")?);
    let files = sink.list_all(&Prefix::new("keys")?).await?;
    let file = files.first().ok_or("the repository has no key")?;
    let key = KeyFile::from_json(&sink.get_bytes(&file.key).await?)?.unwrap_with(&phrase)?;
    let key = key.ok_or("the pass phrase is wrong")?;
    let repository = Repository::open(Arc::new(sink.clone()), &phrase).await?;
    let list = repository.snapshots(&Context::silent()).await?;
    let first = list.snapshots.first().ok_or("the repository has no snapshot")?.snapshot.clone();
    let all = (0..jobs).flat_map(|job| (1..=snapshots).map(move |number| (job, number)));
    let store = |(job, number): (u64, u64)| {
        let (first, key, sink) = (&*first, &key, &sink);
        async move {
            let own = format!("source-{job}");
            let mut snapshot = Snapshot {
                time: first.time - SignedDuration::from_mins(i64::try_from(number)?),
                paths: first.paths.iter().map(|path| path.replace("source-0", &own)).collect(),
                parent: None,
                x_previous: None,
                ..Snapshot::clone(first)
            };
            snapshot.tags.retain(|tag| !tag.starts_with("job="));
            snapshot.tags.push(format!("job=job-{job}"));
            let sealed = seal_json(key, &snapshot)?;
            let name = Key::new(format!("snapshots/{}", SnapshotId::digest(&sealed)))?;
            sink.put_bytes(&name, sealed).await?;
            Ok(())
        }
    };
    futures::stream::iter(all).map(store).buffer_unordered(16).try_collect::<()>().await
}

fn bars(rows: &[Row]) -> Vec<Judged> {
    let median = |step: &str, jobs: u64, measure: Measure| {
        let name = named(step, jobs, 10);
        rows.iter().find(|row| row.step == name).and_then(|row| row.median(measure))
    };
    let mut bars = Vec::new();
    for (step, _, limit) in STEPS {
        let (at_500, at_2000) = (median(step, 500, Measure::Cpu), median(step, 2000, Measure::Cpu));
        if let Some(at_most) = limit {
            bars.push(Judged { what: format!("{step}, 500 jobs: CPU"), value: at_500, at_most });
        }
        let value = at_500.zip(at_2000).map(|(before, after)| after / before);
        let what = format!("{step}, 2000 jobs: CPU beside 500 jobs");
        bars.push(Judged { what, value, at_most: SLOPE });
    }
    let value = median(ONE, 500, Measure::Cpu).zip(median(ALONE, 500, Measure::Cpu));
    let what = format!("{ONE}, 500 jobs: CPU beside the only configured job");
    bars.push(Judged { what, value: value.map(|(among, alone)| among / alone), at_most: SHARE });
    let largest = rows.iter().filter_map(|row| row.median(Measure::Peak)).max_by(f64::total_cmp);
    bars.push(Judged { what: "all steps: memory, MB".to_owned(), value: largest, at_most: MEMORY });
    bars
}
