//! What is backed up comes back: contents, names, metadata; full, incremental and differential;
//! whole or in part.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use backup_core::error::ErrorKind;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, IfExists, RestoreRequest, Selection};
use tempfile::TempDir;

use crate::support::compare::{assert_same, differences};
use crate::support::noise::{noise, text};
use crate::support::repo::{Repo, files, keep, options, restored};
use crate::support::tree::{chmod, everything, settle, touch, write};

/// A directory to back up, and elsewhere room for copies of it.
struct Place {
    _source: TempDir,
    top: PathBuf,
    room: TempDir,
}

impl Place {
    fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        let top = source.path().join("top");
        fs::create_dir(&top).unwrap();
        Self { _source: source, top, room: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// Backs up with success and keeps a copy of what was backed up.
    async fn backup(
        &self,
        repo: &Repo,
        copy: &str,
        options: &BackupOptions,
    ) -> backup_core::pipeline::BackupReport {
        settle();
        let report = repo.backup(&files(&[&self.top]), options).await;
        keep(&self.top, &self.path(copy));
        report
    }

    /// Restores into a new directory and compares with a copy.
    async fn compare(&self, repo: &Repo, id: backup_core::id::SnapshotId, copy: &str) {
        let target = self.path(&format!("restored-{copy}"));
        repo.restore(id, &target).await;
        assert_same(&self.path(copy), &restored(&target, &self.top));
    }
}

fn of_kind(kind: BackupKind) -> BackupOptions {
    BackupOptions { kind: Some(kind), ..options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_from_memory() {
    let place = Place::new();
    everything(&place.top);
    let repo = Repo::in_memory().await;
    let report = place.backup(&repo, "copy", &options()).await;
    assert_eq!(report.warnings, 0);
    place.compare(&repo, report.snapshot.unwrap(), "copy").await;
    repo.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_from_a_directory() {
    let place = Place::new();
    everything(&place.top);
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::in_dir(dir.path()).await;
    let id = place.backup(&repo, "copy", &options()).await.snapshot.unwrap();
    let passphrase = repo.passphrase.reveal().to_owned();
    drop(repo);
    let again = Repo::open(crate::support::repo::local(dir.path()), &passphrase).await.unwrap();
    place.compare(&again, id, "copy").await;
    assert_eq!(again.verify(id).await.problems, []);
    again.assert_sound().await;
}

/// What people do to their files between two backups.
fn change(top: &Path) {
    write(top.join("content/text"), text(50, 310_000));
    let mut appended = fs::read(top.join("content/many chunks")).unwrap();
    appended.extend(noise(51, 100));
    write(top.join("content/many chunks"), appended);
    fs::remove_file(top.join("content/noise")).unwrap();
    fs::remove_dir_all(top.join("names/dirs")).unwrap();
    fs::rename(top.join("content/many"), top.join("content/renamed")).unwrap();
    write(top.join("new/directory/file"), "new");
    chmod(top.join("content/zeros"), 0o640);
    touch(top.join("content/empty"), 5, 5);
    fs::remove_dir(top.join("empty directory")).unwrap();
    write(top.join("empty directory"), "a file now");
    fs::remove_file(top.join("content/one byte")).unwrap();
    write(top.join("content/one byte/inside"), "a directory now");
    fs::remove_file(top.join("links/dangling")).unwrap();
    symlink("elsewhere", top.join("links/dangling")).unwrap();
    fs::remove_file(top.join("links/its second name")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn incremental_differential_and_full() {
    let place = Place::new();
    let repo = Repo::in_memory().await;
    everything(&place.top);
    let full = place.backup(&repo, "one", &options()).await;
    assert_eq!((full.kind, full.parent), (BackupKind::Full, None));
    change(&place.top);
    let incremental = place.backup(&repo, "two", &options()).await;
    assert_eq!(incremental.kind, BackupKind::Incremental);
    assert_eq!(incremental.parent, full.snapshot);
    write(place.top.join("new/directory/second"), "second");
    let differential = place.backup(&repo, "three", &of_kind(BackupKind::Differential)).await;
    assert_eq!(differential.kind, BackupKind::Differential);
    assert_eq!(differential.parent, full.snapshot);
    let again = place.backup(&repo, "four", &of_kind(BackupKind::Full)).await;
    assert_eq!((again.kind, again.parent), (BackupKind::Full, None));
    assert_eq!(again.files.unmodified, 0, "a full backup reads everything");
    assert_eq!(again.stored.tree_blobs, 2, "but stores only .backup and the root again");

    let kinds: Vec<_> = repo
        .snapshots()
        .await
        .iter()
        .map(|info| info.snapshot.tag("type").map(str::to_owned))
        .collect();
    let expected =
        ["full", "incremental", "differential", "full"].map(|kind| Some(kind.to_owned()));
    assert_eq!(kinds, expected);
    for (report, copy) in
        [(full, "one"), (incremental, "two"), (differential, "three"), (again, "four")]
    {
        let id = report.snapshot.unwrap();
        let manifest = repo.reader(id).await.manifest().await.unwrap().unwrap();
        assert_eq!((manifest.kind, manifest.base), (report.kind, report.parent));
        place.compare(&repo, id, copy).await;
    }
    repo.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_counted() {
    let place = Place::new();
    for name in ["same", "gone", "changed", "dir/same", "dir/sub/same"] {
        write(place.top.join(name), name);
    }
    let repo = Repo::in_memory().await;
    let first = place.backup(&repo, "one", &options()).await;
    assert_eq!((first.files.new, first.files.changed, first.files.unmodified), (5, 0, 0));
    assert_eq!((first.totals.files, first.totals.bytes), (5, 4 + 4 + 7 + 8 + 12));
    fs::remove_file(place.top.join("gone")).unwrap();
    write(place.top.join("changed"), "changed!");
    write(place.top.join("new"), "");
    let second = place.backup(&repo, "two", &options()).await;
    assert_eq!((second.files.new, second.files.changed, second.files.unmodified), (1, 1, 3));
    let summary = repo.snapshots().await[1].snapshot.summary.clone().unwrap();
    assert_eq!((summary.files_new, summary.files_changed, summary.files_unmodified), (1, 1, 3));
    place.compare(&repo, second.snapshot.unwrap(), "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_files_stay_out() {
    let place = Place::new();
    for name in [
        "keep.txt",
        "drop.tmp",
        "cache/deep/file",
        "a/b.tmp",
        "a/keep",
        "marked/.nobackup",
        "marked/file",
    ] {
        write(place.top.join(name), name);
    }
    let exclude = vec!["*.tmp".to_owned(), place.top.join("cache").display().to_string()];
    let options =
        BackupOptions { selection: Selection::new(Vec::new(), exclude).unwrap(), ..options() };
    let repo = Repo::in_memory().await;
    let report = place.backup(&repo, "copy", &options).await;
    let target = place.path("restored");
    repo.restore(report.snapshot.unwrap(), &target).await;
    let missing = [
        "a/b.tmp",
        "cache",
        "cache/deep",
        "cache/deep/file",
        "drop.tmp",
        "marked/.nobackup",
        "marked/file",
    ];
    let expected = missing.map(|path| format!("{path}: missing"));
    assert_eq!(differences(&place.path("copy"), &restored(&target, &place.top)), expected);
    assert_eq!(repo.snapshots().await[0].snapshot.excludes, options.selection.exclude());
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_paths_are_restored_alone() {
    let place = Place::new();
    everything(&place.top);
    let repo = Repo::in_memory().await;
    let id = place.backup(&repo, "copy", &options()).await.snapshot.unwrap();
    let request = RestoreRequest {
        selection: Selection::new(vec![place.top.join("links").display().to_string()], Vec::new())
            .unwrap(),
        ..RestoreRequest::default()
    };
    let target = place.path("restored");
    repo.restore_with(id, &request, &target).await.unwrap();
    let top = restored(&target, &place.top);
    let names: Vec<_> =
        fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["links"]);
    // One name of the hard-linked file lies outside of what was chosen.
    let found = differences(&place.path("copy/links"), &top.join("links"));
    assert!(
        found.iter().all(|difference| difference.contains("hard link: expected a hard link")),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_is_refused_merged_or_replaced() {
    let place = Place::new();
    everything(&place.top);
    let repo = Repo::in_memory().await;
    let id = place.backup(&repo, "copy", &options()).await.snapshot.unwrap();
    let target = place.path("restored");
    repo.restore(id, &target).await;
    let top = restored(&target, &place.top);
    change(&top);
    keep(&top, &place.path("before"));
    let with = |if_exists| RestoreRequest { if_exists, ..RestoreRequest::default() };
    let refused = repo.restore_with(id, &with(IfExists::Fail), &target).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TargetExists);
    assert_same(&place.path("before"), &top);

    fs::remove_file(top.join("empty directory")).unwrap();
    fs::remove_dir_all(top.join("content/one byte")).unwrap();
    repo.restore_with(id, &with(IfExists::Merge), &target).await.unwrap();
    let kept = differences(&place.path("copy"), &top);
    let extra = ["content/renamed", "new"];
    assert!(
        kept.iter().any(|difference| difference == "new/directory/file: should not be there"),
        "{kept:?}"
    );
    let surplus = |difference: &String| {
        extra.iter().any(|path| difference.starts_with(path))
            && difference.ends_with("not be there")
    };
    assert!(kept.iter().all(surplus), "{kept:?}");

    repo.restore_with(id, &with(IfExists::Replace), &target).await.unwrap();
    assert_eq!(differences(&place.path("copy"), &top), kept, "replace removes nothing");
    let delete =
        RestoreRequest { delete: backup_core::source::Delete::ABSENT, ..with(IfExists::Replace) };
    let report = repo.restore_with(id, &delete, &target).await.unwrap();
    assert_same(&place.path("copy"), &top);
    assert!(report.removed >= 4, "{report:?}");
    assert_eq!(report.written_bytes, 0, "merging had mended all contents");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_roots_and_single_files() {
    let place = Place::new();
    write(place.top.join("a/inside"), "a");
    write(place.top.join("b/inside"), "b");
    write(place.top.join("single"), "single");
    write(place.top.join("left out"), "x");
    settle();
    let roots = ["a", "b", "single"].map(|name| place.top.join(name));
    let source = files(&roots.each_ref().map(PathBuf::as_path));
    let repo = Repo::in_memory().await;
    let id = repo.backup(&source, &options()).await.snapshot.unwrap();
    assert_eq!(
        repo.snapshots().await[0].snapshot.paths,
        roots.each_ref().map(|root| root.display().to_string())
    );
    let target = place.path("restored");
    repo.restore(id, &target).await;
    assert_eq!(differences(&place.top, &restored(&target, &place.top)), ["left out: missing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_and_a_full_one() {
    let place = Place::new();
    let repo = Repo::in_memory().await;
    let empty = place.backup(&repo, "empty", &options()).await;
    assert_eq!((empty.totals.files, empty.totals.bytes), (0, 0));
    for at in 0..2000 {
        fs::write(place.top.join(format!("file {at}")), at.to_string()).unwrap();
    }
    let full = place.backup(&repo, "full", &options()).await;
    assert_eq!(full.totals.files, 2000);
    place.compare(&repo, empty.snapshot.unwrap(), "empty").await;
    place.compare(&repo, full.snapshot.unwrap(), "full").await;
}
