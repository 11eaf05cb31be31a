//! Repair: what is recoverable is recovered, what is not is named, and nothing that is sound is
//! touched.

use std::sync::Arc;

use backup_core::check::ReadData;
use backup_core::context::Context;
use backup_core::copy::{CopyOptions, copy};
use backup_core::crypto::Passphrase;
use backup_core::error::ErrorKind;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{PruneOptions, RepairOptions, RepairReport, prune, repair};
use backup_core::repository::{InitOptions, Likeness, Repository};
use backup_core::sink::{Key, Prefix};
use backup_core::testing::{MemorySink, ScriptedSource};

use crate::support::noise::noise;
use crate::support::repo::{Repo, options};
use crate::support::samples::script;
use crate::support::script::assert_holds;

struct Fixture {
    sink: MemorySink,
    repo: Repo,
    source: ScriptedSource,
    id: SnapshotId,
}

impl Fixture {
    async fn new() -> Self {
        let sink = MemorySink::new();
        let repo = Repo::init(Arc::new(sink.clone())).await;
        let source = script("one");
        let id = repo.backup(&source, &options()).await.snapshot.unwrap();
        Self { sink, repo, source, id }
    }

    /// A copy of everything, with the same key or another.
    async fn copied(&self, share_key: bool) -> Repository {
        let like = Likeness { repository: self.repo.repository.clone(), share_key };
        let options = InitOptions { like: Some(like), ..InitOptions::default() };
        let (sink, cx) = (Arc::new(MemorySink::new()), Context::silent());
        let to = Repository::init(sink, &Passphrase::generate(), &options, &cx).await.unwrap();
        let from = self.repo.repository.load_index(&cx).await.unwrap();
        copy(&from, &self.repo.snapshots().await, &to, &CopyOptions::default(), &cx).await.unwrap();
        to
    }

    fn objects(&self, prefix: &str) -> Vec<Key> {
        let prefix = Prefix::new(prefix).unwrap();
        self.sink.objects().into_keys().filter(|key| prefix.contains(key)).collect()
    }

    /// What a dry run says and what a run does is the same.
    async fn repair(&self, from: Vec<Repository>, read_data: bool) -> RepairReport {
        let before = self.sink.objects();
        let options = RepairOptions { from, read_data, dry_run: true, ..RepairOptions::default() };
        let told = repair(&self.repo.repository, &options, &Context::silent()).await.unwrap();
        assert_eq!(self.sink.objects(), before, "a dry run changes nothing");
        let options = RepairOptions { dry_run: false, ..options };
        let done = repair(&self.repo.repository, &options, &Context::silent()).await.unwrap();
        let objects = |report: &RepairReport| {
            report.lost.iter().map(|lost| lost.object.clone()).collect::<Vec<_>>()
        };
        assert_eq!(objects(&told), objects(&done));
        done
    }

    async fn assert_whole(&self) {
        self.repo.assert_sound().await;
        assert_holds(&self.repo, self.id, &self.source).await;
        prune(&self.repo.repository, &PruneOptions::default(), &Context::silent()).await.unwrap();
    }
}

#[tokio::test]
async fn a_sound_repository_is_left_alone() {
    let fixture = Fixture::new().await;
    let report = fixture.repair(Vec::new(), true).await;
    assert!(report.repaired.is_empty() && report.lost.is_empty(), "{report:?}");
    fixture.assert_whole().await;
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_from_the_packs() {
    let fixture = Fixture::new().await;
    for key in fixture.objects("index") {
        fixture.sink.remove(&key);
    }
    let report = fixture.repair(Vec::new(), false).await;
    assert!(report.lost.is_empty() && !report.repaired.is_empty(), "{report:?}");
    fixture.assert_whole().await;
}

#[tokio::test]
async fn a_damaged_index_is_replaced() {
    let fixture = Fixture::new().await;
    let key = fixture.objects("index").remove(0);
    fixture.sink.corrupt(&key, |bytes| bytes[20] ^= 1);
    let report = fixture.repair(Vec::new(), false).await;
    assert!(report.lost.is_empty(), "{report:?}");
    assert!(!fixture.objects("index").contains(&key), "the damaged one is gone");
    fixture.assert_whole().await;
}

#[tokio::test]
async fn a_lost_pack_comes_back_from_a_copy() {
    for share_key in [true, false] {
        let fixture = Fixture::new().await;
        let copied = fixture.copied(share_key).await;
        for key in fixture.objects("data") {
            fixture.sink.remove(&key);
        }
        let report = fixture.repair(vec![copied], false).await;
        assert!(report.lost.is_empty(), "same key {share_key}: {report:?}");
        fixture.assert_whole().await;
    }
}

#[tokio::test]
async fn flipped_bits_are_found_by_reading_and_come_back_from_a_copy() {
    let fixture = Fixture::new().await;
    let copied = fixture.copied(false).await;
    for key in fixture.objects("data") {
        fixture.sink.corrupt(&key, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    let report = fixture.repair(vec![copied], true).await;
    assert!(report.lost.is_empty(), "{report:?}");
    assert_holds(&fixture.repo, fixture.id, &fixture.source).await;
    fixture.assert_whole().await;
}

#[tokio::test]
async fn a_cut_pack_gives_what_is_left_of_it() {
    let fixture = Fixture::new().await;
    let largest = fixture
        .objects("data")
        .into_iter()
        .max_by_key(|key| fixture.sink.objects()[key].len())
        .unwrap();
    fixture.sink.corrupt(&largest, |bytes| bytes.truncate(bytes.len() / 2));
    let report = fixture.repair(Vec::new(), false).await;
    assert!(!report.lost.is_empty(), "half of a pack is lost for good");
    fixture.repo.assert_sound().await;
    let left = fixture.repo.snapshots().await;
    assert_eq!(left.len(), 1, "a snapshot with what is left takes the place of the old one");
    assert_eq!(left[0].snapshot.original, Some(fixture.id));
    assert!(left[0].snapshot.tags.contains(&"repaired".to_owned()));
    let (before, after) = (left[0].snapshot.tree, fixture.repo.verify(left[0].id).await);
    assert!(after.entries > 3, "not all was lost: {after:?} below {before:?}");
    assert!(
        !fixture.objects("x-quarantine").is_empty(),
        "the old one is put aside, not thrown away"
    );
    // Nothing stands in the way of the next backup and of a prune.
    let again = fixture.repo.backup(&fixture.source, &options()).await.snapshot.unwrap();
    assert_holds(&fixture.repo, again, &fixture.source).await;
    prune(&fixture.repo.repository, &PruneOptions::default(), &Context::silent()).await.unwrap();
}

#[tokio::test]
async fn a_truncated_snapshot_is_taken_from_a_copy_or_put_aside() {
    let fixture = Fixture::new().await;
    let copied = fixture.copied(true).await;
    let key = fixture.objects("snapshots").remove(0);
    fixture.sink.corrupt(&key, |bytes| bytes.truncate(30));
    let refused = prune(&fixture.repo.repository, &PruneOptions::default(), &Context::silent())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged, "what it needs is not known");
    let report = fixture.repair(vec![copied], false).await;
    assert!(report.lost.is_empty(), "{report:?}");
    fixture.assert_whole().await;

    fixture.sink.corrupt(&key, |bytes| bytes.truncate(30));
    let report = fixture.repair(Vec::new(), false).await;
    assert_eq!(report.lost.len(), 1, "{report:?}");
    assert!(fixture.repo.snapshots().await.is_empty());
    assert_eq!(fixture.objects("x-quarantine").len(), 1);
    assert!(fixture.repo.check(ReadData::All).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_snapshot_that_vanished_is_named() {
    let fixture = Fixture::new().await;
    let key = fixture.objects("snapshots").remove(0);
    fixture.sink.remove(&key);
    let refused = prune(&fixture.repo.repository, &PruneOptions::default(), &Context::silent())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged);
    let report = fixture.repair(Vec::new(), false).await;
    assert_eq!(report.lost.len(), 1, "{report:?}");
    assert!(report.lost[0].object.contains(&fixture.id.short()));
    prune(&fixture.repo.repository, &PruneOptions::default(), &Context::silent()).await.unwrap();
}

#[tokio::test]
async fn repair_names_the_lost_entries_of_every_snapshot() {
    let sink = MemorySink::new();
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let source = |number: usize| {
        let source = ScriptedSource::new().file("/top/dir/lost", noise(7, 300_000));
        source.file("/top/number", number.to_string())
    };
    repo.backup(&source(0), &options()).await;
    let packs = sink.objects().into_iter().filter(|(key, _)| key.as_str().starts_with("data/"));
    let (largest, _) = packs.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    for number in 1..60 {
        repo.backup(&source(number), &options()).await;
    }
    sink.remove(&largest);
    let done = repair(&repo.repository, &RepairOptions::default(), &Context::silent()).await;
    let lost = done.unwrap().lost;
    assert_eq!(lost.len(), 60);
    for problem in lost {
        // The pack also holds files of `/.backup`, and the number of the first snapshot.
        let names: Vec<&str> = problem
            .affects
            .iter()
            .filter_map(|text| text.strip_prefix(&*problem.object)?.strip_prefix(": "))
            .filter(|name| !name.starts_with("/.backup/") && *name != "/top/number")
            .collect();
        assert_eq!(names, ["/top/dir/lost"], "{problem:?}");
        let count = format!("{} of its entries cannot be recovered", problem.affects.len());
        assert_eq!(problem.message, count);
    }
}
