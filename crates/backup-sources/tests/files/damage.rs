//! Restoring from damaged repositories: everything else comes back, and what does not is named.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::error::{Error, ErrorKind};
use backup_core::event::{Event, Events, WarningKind};
use backup_core::format::{BlobKind, Node};
use backup_core::id::{BlobId, SnapshotId};
use backup_core::maintenance::{RepairOptions, repair};
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{InitOptions, Repository, SnapshotReader};
use backup_core::sink::Key;
use backup_core::source::{IfExists, RestoreRequest, Source, SourceErrorKind};
use backup_core::testing::{MemorySink, ScriptedEntry, ScriptedSource};
use backup_sources::files::FilesSource;
use tempfile::TempDir;

use crate::common::*;

/// Everything of a backup comes into one pack.
fn one_pack() -> BackupOptions {
    let mut options = BackupOptions::default();
    options.write.open_packs = 1;
    options
}

/// A snapshot, by a reader that has read nothing yet.
async fn reader(repository: &Repository, id: SnapshotId) -> SnapshotReader {
    let cx = Context::silent();
    let snapshots = repository.snapshots(&cx).await.unwrap().snapshots;
    let info = snapshots.iter().find(|info| info.id == id).unwrap();
    repository.load_index(&cx).await.unwrap().snapshot(info)
}

/// A directory, its snapshot, and the repository to be damaged.
struct Fixture {
    from: TempDir,
    source: FilesSource,
    sink: MemorySink,
    repository: Repository,
    snapshot: SnapshotReader,
}

impl Fixture {
    /// `first` is stored in packs of its own.
    async fn new(first: &[&str], then: &[&str]) -> Self {
        let from = tempfile::tempdir().unwrap();
        let source = source(&[from.path()]);
        let (sink, cx) = (MemorySink::new(), Context::silent());
        let (passphrase, options) = (Passphrase::generate(), InitOptions::default());
        let repository =
            Repository::init(Arc::new(sink.clone()), &passphrase, &options, &cx).await.unwrap();
        for (seed, name) in first.iter().chain(then).enumerate() {
            if seed == first.len() {
                backup(&repository, &source, &one_pack(), &cx).await.unwrap();
            }
            let file = write(from.path().join(name), noise(100_000 + seed, seed as u64 + 77));
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640 + seed as u32))
                .unwrap();
            touch(&file, 1_000_000 + seed as i64, 5);
        }
        for name in first.iter().chain(then) {
            touch(from.path().join(name).parent().unwrap(), 2_000_000, 7);
        }
        std::fs::hard_link(from.path().join(first[0]), from.path().join("z link")).unwrap();
        let id = backup(&repository, &source, &one_pack(), &cx).await.unwrap().snapshot.unwrap();
        let snapshot = reader(&repository, id).await;
        Self { from, source, sink, repository, snapshot }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.from.path().join(name)
    }

    async fn node(&self, name: &str) -> Node {
        self.snapshot.find(&entry_path(&self.path(name))).await.unwrap().unwrap()
    }

    /// The pack with a blob, and the middle of the blob.
    async fn place(&self, kind: BlobKind, id: &BlobId) -> (Key, usize) {
        let index = self.repository.load_index(&Context::silent()).await.unwrap();
        let at = index.index().find(kind, id).unwrap();
        let key = self
            .sink
            .objects()
            .into_keys()
            .find(|key| key.file_name() == at.pack.to_hex())
            .unwrap();
        (key, (at.blob.offset + at.blob.len / 2) as usize)
    }

    async fn flip(&self, kind: BlobKind, id: &BlobId) {
        let (pack, middle) = self.place(kind, id).await;
        self.sink.corrupt(&pack, |bytes| bytes[middle] ^= 0x55);
    }

    /// Restores, which must fail because of damage, and checks that exactly `lost` was named.
    /// Returns the messages.
    async fn restore(&self, request: &RestoreRequest, lost: &[&str]) -> Vec<String> {
        let recorder = Arc::new(Recorder::default());
        let cx = Context::new(Events::to(recorder.clone()));
        let snapshot = reader(&self.repository, self.snapshot.id()).await;
        let error = self.source.restore(&cx, request, &snapshot).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Repository);
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Damaged, "{}", error.chain());
        let count = format!("{} of the selected entries could not be restored", lost.len());
        assert!(error.to_string().starts_with(&count), "{error}");
        assert!(error.hint().unwrap().contains("everything else was restored"));
        let (mut paths, mut messages) = (BTreeSet::new(), Vec::new());
        for event in recorder.0.lock().unwrap().iter() {
            let Event::Warning(warning) = event else { continue };
            assert_eq!(warning.kind, WarningKind::Unreadable, "{warning:?}");
            assert!(paths.insert(warning.path.clone()), "{warning:?} came twice");
            messages.push(warning.message.clone());
        }
        assert_eq!(
            paths,
            lost.iter().map(|name| self.path(name).to_str().unwrap().to_owned()).collect()
        );
        messages
    }

    fn assert_same(&self, to: &Path, names: &[&str]) {
        for name in names {
            let (was, is) = (self.path(name), restored(to, &self.path(name)));
            let state = |path: &Path| {
                let found = std::fs::metadata(path).unwrap();
                (found.mode(), found.mtime(), found.mtime_nsec())
            };
            assert_eq!(state(&is), state(&was), "{name}");
            assert!(
                was.is_dir() || std::fs::read(&is).unwrap() == std::fs::read(&was).unwrap(),
                "{name}"
            );
        }
    }

    fn assert_absent(&self, to: &Path, names: &[&str]) {
        for name in names {
            assert!(std::fs::symlink_metadata(restored(to, &self.path(name))).is_err(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_damaged_blob_costs_its_file_only() {
    let fixture = Fixture::new(&["a/hit"], &["a/one", "b/two", "three"]).await;
    fixture.flip(BlobKind::Data, &fixture.node("a/hit").await.content[0]).await;
    let to = tempfile::tempdir().unwrap();
    let lost = ["a/hit", "z link"];
    let messages = fixture.restore(&request(to.path(), IfExists::Fail), &lost).await;
    assert!(messages.iter().all(|message| message.contains("is damaged")), "{messages:?}");
    fixture.assert_same(to.path(), &["a", "a/one", "b", "b/two", "three"]);
    fixture.assert_absent(to.path(), &lost);
    // Again over what is there: the same.
    fixture.restore(&request(to.path(), IfExists::Replace), &lost).await;
    fixture.assert_same(to.path(), &["a", "a/one", "b", "b/two", "three"]);
    fixture.assert_absent(to.path(), &lost);
}

#[tokio::test]
async fn a_lost_pack_costs_its_files_only() {
    let fixture = Fixture::new(&["a/hit", "hit too"], &["a/one", "b/two"]).await;
    let (pack, _) = fixture.place(BlobKind::Data, &fixture.node("a/hit").await.content[0]).await;
    fixture.sink.remove(&pack);
    let to = tempfile::tempdir().unwrap();
    let messages =
        fixture.restore(&request(to.path(), IfExists::Fail), &["a/hit", "hit too", "z link"]).await;
    assert!(messages.iter().all(|message| message.contains("is missing")), "{messages:?}");
    fixture.assert_same(to.path(), &["a", "a/one", "b", "b/two"]);
    fixture.assert_absent(to.path(), &["a/hit", "hit too", "z link"]);
}

#[tokio::test]
async fn a_large_file_with_one_damaged_blob_is_not_left_half_written() {
    let fixture = Fixture::new(&["a/first"], &["one"]).await;
    let content = noise(12 << 20, 500);
    let large = write(fixture.path("large"), &content);
    touch(&large, 3_000_000, 1);
    let cx = Context::silent();
    let saved = backup(&fixture.repository, &fixture.source, &one_pack(), &cx)
        .await
        .unwrap()
        .snapshot
        .unwrap();
    let snapshot = reader(&fixture.repository, saved).await;
    let fixture = Fixture { snapshot, ..fixture };
    let blobs = fixture.node("large").await.content;
    assert!(blobs.len() > 2);
    fixture.flip(BlobKind::Data, blobs.last().unwrap()).await;
    let to = tempfile::tempdir().unwrap();
    fixture.restore(&request(to.path(), IfExists::Fail), &["large"]).await;
    fixture.assert_absent(to.path(), &["large"]);
    fixture.assert_same(to.path(), &["a/first", "one", "z link"]);
    // What exists is not removed, and does not look like what the snapshot holds.
    let copy = write(restored(to.path(), &large), vec![0; content.len()]);
    let messages = fixture.restore(&request(to.path(), IfExists::Merge), &["large"]).await;
    assert!(messages[0].contains("the existing file"), "{messages:?}");
    let found = std::fs::metadata(&copy).unwrap();
    assert_eq!(found.len(), content.len() as u64);
    assert_ne!(found.mtime(), 3_000_000);
    // What needs no damaged blob is mended, and what is complete needs none.
    let mut mended = content.clone();
    mended[0] ^= 1;
    std::fs::write(&copy, &mended).unwrap();
    fixture
        .source
        .restore(&cx, &request(to.path(), IfExists::Merge), &fixture.snapshot)
        .await
        .unwrap();
    fixture.assert_same(to.path(), &["large"]);
}

#[tokio::test]
async fn a_damaged_directory_costs_what_is_in_it_only() {
    let fixture = Fixture::new(&["a/one"], &["b/deep/two", "c/three", "four"]).await;
    fixture.flip(BlobKind::Tree, &fixture.node("b").await.subtree.unwrap()).await;
    let to = tempfile::tempdir().unwrap();
    let intact = ["a", "a/one", "c", "c/three", "four", "z link"];
    fixture.restore(&request(to.path(), IfExists::Fail), &["b"]).await;
    fixture.assert_same(to.path(), &intact);
    fixture.assert_absent(to.path(), &["b"]);
    // Nobody knows what belongs there, so what is there stays; elsewhere what the snapshot does not
    // have goes.
    let kept = write(restored(to.path(), &fixture.path("b/kept")), "kept");
    write(restored(to.path(), &fixture.path("a/extra")), "extra");
    let replace = deleting(request(to.path(), IfExists::Replace));
    for request in [request(to.path(), IfExists::Merge), replace] {
        fixture.restore(&request, &["b"]).await;
        fixture.assert_same(to.path(), &["a/one", "c", "c/three", "four", "z link"]);
        assert_eq!(std::fs::read(&kept).unwrap(), b"kept");
    }
    fixture.assert_same(to.path(), &intact);
    fixture.assert_absent(to.path(), &["a/extra"]);
    // What was not asked for is not missed.
    let apart = tempfile::tempdir().unwrap();
    let chosen = RestoreRequest {
        selection: selection(&["four"], &["b"]),
        ..request(apart.path(), IfExists::Fail)
    };
    let snapshot = reader(&fixture.repository, fixture.snapshot.id()).await;
    fixture.source.restore(&Context::silent(), &chosen, &snapshot).await.unwrap();
    fixture.assert_same(apart.path(), &["four"]);
}

/// A repair takes lost files out of the snapshot: their absence is no absence at the source.
#[tokio::test]
async fn delete_keeps_files_that_a_repair_dropped() {
    let fixture = Fixture::new(&["a/hit"], &["a/one", "b/two"]).await;
    let (pack, _) = fixture.place(BlobKind::Data, &fixture.node("a/hit").await.content[0]).await;
    let cx = Context::silent();
    let recorded = fixture.snapshot.skipped(|_| ()).await.unwrap();
    assert!(recorded.is_some());
    fixture.sink.remove(&pack);
    let report = repair(&fixture.repository, &RepairOptions::default(), &cx).await.unwrap();
    assert!(!report.lost.is_empty());
    let snapshots = fixture.repository.snapshots(&cx).await.unwrap().snapshots;
    let repaired = reader(&fixture.repository, snapshots.last().unwrap().id).await;
    let lacked = fixture.path("a/hit");
    assert!(repaired.find(&entry_path(&lacked)).await.unwrap().is_none());
    assert_eq!(repaired.skipped(|_| ()).await.unwrap(), None);
    let delete = deleting(in_place(IfExists::Replace));
    let report = fixture.source.restore(&cx, &delete, &repaired).await.unwrap();
    assert!(report.removed == 0 && report.kept.unknown > 0, "{report:?}");
    assert!(lacked.exists());
}

#[tokio::test]
async fn entries_with_unsafe_names_cost_only_themselves() {
    let place = tempfile::tempdir().unwrap();
    let escaped = place.path().join("escaped");
    for name in [&b".."[..], b".", b"", b"../../../../../../escaped", b"nul\0nul"] {
        let dir = backup_core::source::EntryPath::new("/data").unwrap();
        let crafted = ScriptedSource::new()
            .dir("/data")
            .file("/data/good", "intact")
            .with(ScriptedEntry::file_at(dir.join(name), "crafted"));
        let snapshot = snapshot(&crafted).await;
        let target = place.path().join("out");
        let error = source(&[place.path()])
            .restore(&Context::silent(), &request(&target, IfExists::Fail), &snapshot)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Repository, "{name:?}: {error}");
        assert_eq!(std::fs::read(target.join("data/good")).unwrap(), b"intact");
        assert_eq!(std::fs::read_dir(target.join("data")).unwrap().count(), 1, "{name:?}");
        assert!(!escaped.exists());
        std::fs::remove_dir_all(target).unwrap();
    }
}
