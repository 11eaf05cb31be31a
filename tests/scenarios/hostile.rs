//! Crafted directories, as a writer with the key can store them: every verb comes to the same
//! verdict on each entry.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use backup_core::check::{CheckReport, Problem, ReadData};
use backup_core::context::Context;
use backup_core::copy::{self, CopyOptions};
use backup_core::event::{Event, Events, Reporter};
use backup_core::format::BlobKind;
use backup_core::id::SnapshotId;
use backup_core::pipeline::{VerifyLevel, restore, verify};
use backup_core::source::RestoreRequest;
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::crafted::Crafted;
use crate::support::crafted_nodes::{Case, Parts, Verdict, cases, directory, file};
use crate::support::process::run;
use crate::support::repo::{Repo, files};
use crate::support::restic::text;

/// Keeps the warnings of an operation.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn report(&self, event: &Event) {
        if let Event::Warning(warning) = event {
            let line = format!("{}: {}", warning.path, warning.message);
            self.0.lock().unwrap().push(line);
        }
    }
}

impl Warnings {
    fn context() -> (Arc<Self>, Context) {
        let warnings = Arc::new(Self::default());
        (Arc::clone(&warnings), Context::new(Events::to(warnings)))
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The corpus in one repository: a snapshot for every case.
struct Corpus {
    room: TempDir,
    repo: Repo,
    cases: Vec<(Case, SnapshotId)>,
}

impl Corpus {
    async fn new() -> Self {
        let (room, repo, _cli, mut crafted) = Crafted::in_new_repository().await;
        let blob = crafted.blob(BlobKind::Data, b"hello").to_hex();
        let parts = Parts { blob, directory: String::new() };
        let directory_id = crafted.directory(&[file(&parts, "inside")]).to_hex();
        let parts = Parts { directory: directory_id, ..parts };
        let mut all = Vec::new();
        for case in cases(&parts) {
            let nodes = [vec![file(&parts, "good")], case.nodes.clone()].concat();
            let data = crafted.directory(&nodes).to_hex();
            let root = crafted.directory(&[directory(&parts, "data", &data)]);
            let id = crafted.snapshot(&root);
            all.push((case, id));
        }
        crafted.finish();
        Self { room, repo, cases: all }
    }

    fn dir(&self) -> PathBuf {
        self.room.path().join("repository")
    }

    fn target(&self, id: &SnapshotId, verb: &str) -> PathBuf {
        self.room.path().join(format!("{verb}-{}", id.short()))
    }
}

/// The lines that name the entry of a case below `/data`.
fn naming<'a>(lines: impl IntoIterator<Item = &'a String>, case: &Case) -> Vec<&'a String> {
    let path = format!("/data/{}", case.shown);
    let quoted = format!("the entry {:?}", case.shown);
    let names = |line: &&String| line.contains(&path) || line.contains(&quoted[..quoted.len() - 1]);
    lines.into_iter().filter(names).collect()
}

fn verdict(lost: usize, noted: usize) -> Verdict {
    match (lost, noted) {
        (0, 0) => Verdict::Sound,
        (0, _) => Verdict::Noted,
        _ => Verdict::Lost,
    }
}

fn affected(problems: &[Problem]) -> Vec<String> {
    problems.iter().flat_map(|problem| problem.affects.clone()).collect()
}

fn of_check(report: &CheckReport, id: &SnapshotId, case: &Case) -> Verdict {
    let snapshot = format!("snapshot {}:", id.short());
    let of_snapshot = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| line.starts_with(&snapshot)).cloned().collect()
    };
    let (lost, noted) = (of_snapshot(&affected(&report.problems)), of_snapshot(&report.notes));
    let found = verdict(naming(&lost, case).len(), naming(&noted, case).len());
    assert_eq!(verdict(lost.len(), noted.len()), found, "{}: {lost:?} {noted:?}", case.name);
    assert_eq!(report.damaged_snapshots.contains(id), found == Verdict::Lost, "{}", case.name);
    found
}

async fn of_verify(corpus: &Corpus, id: SnapshotId, case: &Case, level: VerifyLevel) -> Verdict {
    let (warnings, cx) = Warnings::context();
    let report = verify(&corpus.repo.reader(id).await, level, &cx).await.unwrap();
    let (lost, noted) = (affected(&report.problems), warnings.taken());
    let found = verdict(naming(&lost, case).len(), naming(&noted, case).len());
    assert_eq!(verdict(lost.len(), noted.len()), found, "{}: {lost:?} {noted:?}", case.name);
    found
}

/// The names in a directory, as Rust's escapes show them.
fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().as_bytes().escape_ascii().to_string()).collect()
}

fn expected(case: &Case) -> BTreeSet<String> {
    case.restored.iter().cloned().chain(["good".to_owned()]).collect()
}

async fn of_restore(corpus: &Corpus, id: SnapshotId, case: &Case) -> Verdict {
    let (warnings, cx) = Warnings::context();
    let target = corpus.target(&id, "restored");
    let request =
        RestoreRequest { target: Some(text(&target).to_owned()), ..RestoreRequest::default() };
    let reader = corpus.repo.reader(id).await;
    let restored = restore(&reader, &files(&[&target]), &request, &cx).await;
    let lines = warnings.taken();
    let named = naming(&lines, case).len();
    assert_eq!(names(&target.join("data")), expected(case), "{}: {lines:?}", case.name);
    assert_eq!(fs::read(target.join("data/good")).unwrap(), b"hello", "{}", case.name);
    match restored {
        Err(error) => {
            assert!(error.is_damage(), "{}: {}", case.name, error.chain());
            verdict(named, 0)
        }
        Ok(report) => {
            assert_eq!(report.warnings, lines.len() as u64, "{}: {lines:?}", case.name);
            verdict(0, named)
        }
    }
}

fn of_export(corpus: &Corpus, cli: &Cli, id: SnapshotId, case: &Case) -> Verdict {
    let archive = corpus.target(&id, "exported");
    let done = cli.run(&["export", &id.to_hex(), "-o", text(&archive)]);
    assert!(matches!(done.code, 0 | 3), "{}: {done}", case.name);
    let unpacked = corpus.target(&id, "unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-x", "-P", "--no-same-owner", "-f"]).arg(&archive).arg("-C").arg(&unpacked);
    run(&mut tar).succeeded();
    assert_eq!(names(&unpacked.join("data")), expected(case), "{}: {done}", case.name);
    let lines: Vec<String> = done.stderr.lines().map(str::to_owned).collect();
    let named = match (done.code, naming(&lines, case).len()) {
        (3, 0) => panic!("{}: {done}", case.name),
        (_, named) => named,
    };
    let is_lost = done.stderr.contains("left out");
    if is_lost { verdict(named, 0) } else { verdict(0, named) }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_agree_on_every_crafted_entry() {
    let corpus = Corpus::new().await;
    let cli = Cli::new(&corpus.dir(), corpus.repo.passphrase.reveal());
    let checked = corpus.repo.check(ReadData::All).await.unwrap();
    for (case, id) in &corpus.cases {
        let id = *id;
        let found = [
            ("check", of_check(&checked, &id, case)),
            ("verify", of_verify(&corpus, id, case, VerifyLevel::Checksum).await),
            ("verify deep", of_verify(&corpus, id, case, VerifyLevel::Deep).await),
            ("restore", of_restore(&corpus, id, case).await),
            ("export", of_export(&corpus, &cli, id, case)),
        ];
        let wrong: Vec<_> = found.iter().filter(|(_, found)| *found != case.verdict).collect();
        assert!(wrong.is_empty(), "{}: {:?} expected, {wrong:?}", case.name, case.verdict);
    }
    assert!(!corpus.room.path().join("escaped").exists());
    assert!(corpus.cases.len() >= 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_is_complete_and_names_unfit_entries() {
    let corpus = Corpus::new().await;
    let other = Repo::in_dir(&corpus.room.path().join("copy")).await;
    let (warnings, cx) = Warnings::context();
    let from = corpus.repo.repository.load_index(&cx).await.unwrap();
    let mut copies = Vec::new();
    for info in corpus.repo.snapshots().await {
        let (case, _) = corpus.cases.iter().find(|(_, id)| *id == info.id).unwrap();
        let options = CopyOptions::default();
        let to = &other.repository;
        let report = copy::copy(&from, &[info], to, &options, &cx).await.unwrap();
        assert_eq!(report.problems, [], "{}", case.name);
        let (lost, noted) = (affected(&report.unfit), warnings.taken());
        let found = verdict(naming(&lost, case).len(), naming(&noted, case).len());
        assert_eq!(found, case.verdict, "{}: {lost:?} {noted:?}", case.name);
        assert_eq!(verdict(lost.len(), noted.len()), found, "{}", case.name);
        copies.push((case, report.copied[0].to.unwrap()));
    }
    // The copies are as good as the originals, down to entries that only other tools can restore.
    let checked = other.check(ReadData::All).await.unwrap();
    for (case, id) in copies {
        assert_eq!(of_check(&checked, &id, case), case.verdict, "{}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_follow_the_verdict() {
    let corpus = Corpus::new().await;
    let cli = Cli::new(&corpus.dir(), corpus.repo.passphrase.reveal());
    let find = |name: &str| corpus.cases.iter().find(|(case, _)| case.name == name).unwrap().1;
    let target = corpus.room.path().join("copy");
    run(&mut cli.command(&[], &["init", "-r", text(&target), "--like", text(&corpus.dir())]))
        .succeeded();
    for (name, codes) in [
        ("sound directory", [0, 0, 0, 0, 0]),
        ("year 9999", [0, 3, 3, 0, 0]),
        ("larger than its blobs", [4, 4, 3, 3, 0]),
        ("unknown type", [4, 4, 3, 3, 3]),
    ] {
        let id = find(name).to_hex();
        let restored = corpus.room.path().join(format!("to-{id}"));
        let exported = corpus.room.path().join(format!("{id}.tar"));
        for (arguments, code) in [
            &["verify", &id][..],
            &["restore", &id, "--target", text(&restored)],
            &["export", &id, "-o", text(&exported)],
            &["copy", &id, "--to", text(&target)],
            &["ls", &id, "/data"],
        ]
        .iter()
        .zip(codes)
        {
            let done = cli.run(arguments);
            assert_eq!(done.code, code, "{name}: {done}");
        }
    }
    assert_eq!(cli.run(&["check"]).code, 4);
}

mod needs_restic_new {
    use super::*;
    use crate::support::restic::Restic;

    /// Cases of which stock restic restores the entry and this program does not.
    const RESTIC_ONLY: &[&str] =
        &["larger than its blobs", "smaller than its blobs", "no list of blobs"];

    #[tokio::test(flavor = "multi_thread")]
    async fn restic_restores_no_entry_that_we_lose() {
        let corpus = Corpus::new().await;
        let restic = Restic::new("restic-new", &corpus.dir(), corpus.repo.passphrase.reveal());
        let mut only = Vec::new();
        for (case, id) in &corpus.cases {
            let target = corpus.target(id, "restic");
            let arguments = ["restore", &id.to_hex(), "--no-lock", "--target", text(&target)];
            restic.run(&arguments);
            let theirs = names(&target.join("data"));
            if !theirs.is_subset(&expected(case)) {
                only.push(case.name);
            }
        }
        assert_eq!(only, RESTIC_ONLY);
    }
}
