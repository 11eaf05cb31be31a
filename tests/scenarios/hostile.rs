//! Crafted directories, as a writer with the key can store them: every verb comes to the same
//! verdict on each entry.

use std::collections::{BTreeSet, HashMap};
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
use backup_core::id::{BlobId, SnapshotId};
use backup_core::maintenance::{RepairOptions, RepairReport, repair};
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
        Self::of(|_| true).await
    }

    /// The cases with these verdicts.
    async fn of(is_wanted: impl Fn(Verdict) -> bool) -> Self {
        let (room, repo, _cli, mut crafted) = Crafted::in_new_repository().await;
        let blob = crafted.blob(BlobKind::Data, b"hello").to_hex();
        let parts = Parts { blob, directory: String::new() };
        let directory_id = crafted.directory(&[file(&parts, "inside")]).to_hex();
        let parts = Parts { directory: directory_id, ..parts };
        let mut all = Vec::new();
        for case in cases(&parts).into_iter().filter(|case| is_wanted(case.verdict)) {
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

/// The words of all verbs for an entry of a type that this program does not support.
const FOREIGN: &str = "which only other programs can restore";

fn verdict(lost: usize, noted: &[&String]) -> Verdict {
    match (lost, noted) {
        (0, []) => Verdict::Sound,
        (0, lines) if lines.iter().any(|line| line.contains(FOREIGN)) => Verdict::Foreign,
        (0, _) => Verdict::Noted,
        _ => Verdict::Lost,
    }
}

/// The verdict by all lines about a snapshot, of which each has to name the entry.
#[track_caller]
fn agreed(lost: &[String], noted: &[String], case: &Case) -> Verdict {
    let found = verdict(naming(lost, case).len(), &naming(noted, case));
    let all: Vec<&String> = noted.iter().collect();
    assert_eq!(verdict(lost.len(), &all), found, "{}: {lost:?} {noted:?}", case.name);
    found
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
    let found = agreed(&lost, &noted, case);
    assert_eq!(report.damaged_snapshots.contains(id), found == Verdict::Lost, "{}", case.name);
    found
}

async fn of_verify(corpus: &Corpus, id: SnapshotId, case: &Case, level: VerifyLevel) -> Verdict {
    let (warnings, cx) = Warnings::context();
    let report = verify(&corpus.repo.reader(id).await, level, &cx).await.unwrap();
    agreed(&affected(&report.problems), &warnings.taken(), case)
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
    let named = naming(&lines, case);
    assert_eq!(names(&target.join("data")), expected(case), "{}: {lines:?}", case.name);
    assert_eq!(fs::read(target.join("data/good")).unwrap(), b"hello", "{}", case.name);
    match restored {
        Err(error) => {
            assert!(error.is_damage(), "{}: {}", case.name, error.chain());
            verdict(named.len(), &[])
        }
        Ok(report) => {
            assert_eq!(report.warnings, lines.len() as u64, "{}: {lines:?}", case.name);
            verdict(0, &named)
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
    let named = naming(&lines, case);
    assert_eq!(done.code == 3, !named.is_empty(), "{}: {done}", case.name);
    let is_lost = |line: &&&String| line.contains("left out") && !line.contains(FOREIGN);
    verdict(named.iter().filter(is_lost).count(), &named)
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
        let found = agreed(&affected(&report.unfit), &warnings.taken(), case);
        assert_eq!(found, case.verdict, "{}", case.name);
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
        ("unknown type", [0, 3, 3, 0, 3]),
        ("irregular", [0, 3, 3, 0, 3]),
        ("no type", [4, 4, 3, 3, 3]),
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

/// Oddities that are no damage stand in no command's way.
#[tokio::test(flavor = "multi_thread")]
async fn commands_succeed_beside_odd_entries() {
    let corpus = Corpus::of(|verdict| verdict != Verdict::Lost).await;
    let cli = Cli::new(&corpus.dir(), corpus.repo.passphrase.reveal());
    let copy = corpus.room.path().join("copy");
    run(&mut cli.command(&[], &["init", "-r", text(&copy), "--like", text(&corpus.dir())]))
        .succeeded();
    for arguments in [
        &["check", "--read-data"][..],
        &["verify", "--all"],
        &["stats"],
        &["repair", "--read-data", "--yes"],
        &["prune", "--yes", "--clock-is-right"],
        &["copy", "--all", "--to", text(&copy)],
        &["check", "-r", text(&copy), "--read-data"],
    ] {
        cli.run(arguments).succeeded();
    }
    assert_eq!(corpus.repo.snapshots().await.len(), corpus.cases.len());
    let checked = cli.run(&["check", "--json"]).succeeded();
    assert!(checked.text().contains(FOREIGN), "{checked}");
}

/// Files of which a repair keeps the blobs, although their recorded sizes differ.
const RESIZED: [&str; 3] = ["larger than its blobs", "smaller than its blobs", "no list of blobs"];

async fn repaired(corpus: &Corpus, dry_run: bool) -> RepairReport {
    let options = RepairOptions { dry_run, ..RepairOptions::default() };
    repair(&corpus.repo.repository, &options, &Context::silent()).await.unwrap()
}

/// The snapshots that repairs have put in the places of damaged ones.
async fn mended(corpus: &Corpus) -> HashMap<SnapshotId, SnapshotId> {
    let snapshots = corpus.repo.snapshots().await;
    snapshots.iter().filter_map(|info| Some((info.snapshot.original?, info.id))).collect()
}

/// The names below `/data` after a repair.
fn left(case: &Case) -> BTreeSet<String> {
    let resized = RESIZED.contains(&case.name).then(|| "bad".to_owned());
    expected(case).into_iter().chain(resized).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_removes_lost_entries_and_keeps_all_others() {
    let corpus = Corpus::new().await;
    let plan = repaired(&corpus, true).await;
    assert_eq!(mended(&corpus).await.len(), 0);
    let done = repaired(&corpus, false).await;
    assert_eq!(plan.lost, done.lost);
    let (mended, lost) = (mended(&corpus).await, affected(&done.lost));
    let snapshots = corpus.repo.snapshots().await;
    assert_eq!(snapshots.len(), corpus.cases.len());
    for (case, id) in &corpus.cases {
        let snapshot = format!("snapshot {}:", id.short());
        let lost: Vec<String> =
            lost.iter().filter(|line| line.starts_with(&snapshot)).cloned().collect();
        let is_lost = agreed(&lost, &[], case) == Verdict::Lost;
        assert_eq!(is_lost, case.verdict == Verdict::Lost, "{}: {lost:?}", case.name);
        // Nothing else is written again.
        assert_eq!(snapshots.iter().any(|info| info.id == *id), !is_lost, "{}", case.name);
        assert_eq!(mended.contains_key(id), is_lost, "{}", case.name);
        let Some(id) = mended.get(id) else { continue };
        let target = corpus.target(id, "mended");
        corpus.repo.restore(*id, &target).await;
        assert_eq!(names(&target.join("data")), left(case), "{}", case.name);
    }
    let checked = corpus.repo.check(ReadData::All).await.unwrap();
    assert_eq!(checked.problems, []);
    let again = repaired(&corpus, false).await;
    assert!(again.repaired.is_empty() && again.lost.is_empty(), "{again:#?}");
}

/// A directory that a repair has to change keeps entries that only other programs can restore.
#[tokio::test(flavor = "multi_thread")]
async fn repair_and_copy_keep_entries_of_other_programs() {
    let (room, repo, cli, mut crafted) = Crafted::in_new_repository().await;
    let blob = crafted.blob(BlobKind::Data, b"hello").to_hex();
    let parts = Parts { blob: blob.clone(), directory: String::new() };
    let foreign = format!(
        r#"{{"name":"door","type":"irregular","mtime":"10000-01-01T00:00:00Z","size":5,
        "content":["{}"],"x":[1e999]}}"#,
        crafted.blob(BlobKind::Data, b"behind the door").to_hex()
    );
    let lost = file(&parts, "..");
    let data = crafted.directory(&[file(&parts, "good"), foreign, lost]).to_hex();
    let root = crafted.directory(&[directory(&parts, "data", &data)]);
    let id = crafted.snapshot(&root);
    crafted.finish();
    let cx = Context::silent();
    repair(&repo.repository, &RepairOptions::default(), &cx).await.unwrap();
    let copy = Repo::in_dir(&room.path().join("copy")).await;
    let from = repo.repository.load_index(&cx).await.unwrap();
    let infos = repo.snapshots().await;
    assert_eq!(infos[0].snapshot.original, Some(id));
    copy::copy(&from, &infos, &copy.repository, &CopyOptions::default(), &cx).await.unwrap();
    // The data of the entry is needed by nothing else.
    for _ in 0..2 {
        cli.run(&["prune", "--grace", "0s", "--max-unused", "0%", "--yes", "--clock-is-right"])
            .succeeded();
    }
    for repo in [&repo, &copy] {
        let reader = repo.reader(repo.snapshots().await[0].id).await;
        let root = reader.tree_with_faults(&reader.root_id()).await.unwrap();
        let data = reader.tree_with_faults(&root.get(b"data").unwrap().subtree.unwrap()).await;
        let data = data.unwrap();
        let names: Vec<&[u8]> = data.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, [b"good"]);
        let [fault] = &data.faults[..] else { panic!("{:?}", data.faults) };
        assert!(fault.describe().contains(FOREIGN) && !fault.is_lost(), "{fault:?}");
        assert_eq!(fault.content, [BlobId::digest(b"behind the door")]);
        let found = reader.blob_len(&fault.content[0]).unwrap();
        assert_eq!(found, 15);
        repo.assert_sound().await;
    }
}

mod needs_restic_new {
    use super::*;
    use crate::support::restic::Restic;

    #[tokio::test(flavor = "multi_thread")]
    async fn restic_agrees_after_the_repair_of_crafted_entries() {
        let corpus = Corpus::of(|verdict| verdict == Verdict::Lost).await;
        let restic = Restic::new("restic-new", &corpus.dir(), corpus.repo.passphrase.reveal());
        let before = restic.run(&["check", "--no-lock", "--read-data"]);
        assert_ne!(before.code, 0, "{before}");
        repaired(&corpus, false).await;
        let checked = restic.run(&["check", "--no-lock", "--read-data"]).succeeded();
        assert!(checked.text().contains("no errors were found"), "{checked}");
        let mended = mended(&corpus).await;
        for (case, id) in &corpus.cases {
            let target = corpus.target(id, "by-restic");
            restic.restore(&mended[id].to_hex(), &target);
            assert_eq!(names(&target.join("data")), left(case), "{}", case.name);
        }
    }

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
        // Stock restic restores the blobs; here a repair does that.
        assert_eq!(only, RESIZED);
    }
}
