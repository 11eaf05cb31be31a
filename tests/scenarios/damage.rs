//! Every kind of damage to every kind of object: it is found and named with what it affects, what
//! is undamaged still restores, and the next backup is sound or fails.

use std::sync::Arc;

use backup_core::check::{CheckReport, ReadData};
use backup_core::clock::SharedClock;
use backup_core::context::Context;
use backup_core::error::Error;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{PruneOptions, prune};
use backup_core::sink::{Key, SinkOps};
use backup_core::source::Selection;
use backup_core::testing::{FakeClock, MemorySink};
use jiff::SignedDuration;

use crate::support::damage::{DAMAGES, Damage, Fixture, one_pack};
use crate::support::repo::{Repo, options};
use crate::support::samples::script;
use crate::support::script::{assert_holds, digest, restore_script};

/// Returns true if a problem is of an object whose name contains `object`, and affects something
/// with `affected` in it.
fn names(report: &CheckReport, object: &str, affected: &str) -> bool {
    let hit = |problem: &&backup_core::check::Problem| problem.object.contains(object);
    report
        .problems
        .iter()
        .filter(hit)
        .any(|problem| problem.affects.iter().any(|text| text.contains(affected)))
}

/// The beginning of a name that messages show.
fn short(key: &Key) -> &str {
    &key.file_name()[..8]
}

/// The error of opening, with its causes and its hint.
fn message(error: &Error) -> String {
    format!("{}; {}", error.chain(), error.hint().unwrap_or_default())
}

/// Everything that must hold whatever was damaged, in a repository that still opens.
async fn assert_survives(fixture: &Fixture, sink: &MemorySink, case: &str) {
    let repo =
        fixture.open(sink, true).await.unwrap_or_else(|error| panic!("{case}: {}", error.chain()));
    let full = repo.check(ReadData::All).await.unwrap();
    let found = !full.problems.is_empty() || !full.notes.is_empty();
    let is_aside = case.starts_with("x-receipts") || case.starts_with("x-adopted");
    assert!(found || is_aside, "{case}: nothing is found");
    assert_holds(&repo, fixture.spared_id, &fixture.spared).await;
    assert_eq!(repo.verify(fixture.spared_id).await.problems, [], "{case}");
    let listed = repo.snapshots().await.iter().any(|info| info.id == fixture.hit_id);
    if listed {
        assert_verify_is_right(fixture, &repo, fixture.hit_id, &full, case).await;
    }
    assert_next_backup(fixture, &repo, case).await;
}

/// Verification says that a snapshot is sound exactly if it restores, and then a full check agrees.
async fn assert_verify_is_right(
    fixture: &Fixture,
    repo: &Repo,
    id: SnapshotId,
    full: &CheckReport,
    case: &str,
) {
    let problems = repo.verify(id).await.problems;
    let restored = restore_script(repo, id).await;
    let whole = match &restored {
        Ok(restored) => restored.restored_digest(&Selection::all()) == digest(&fixture.hit).await,
        Err(_) => false,
    };
    assert!(whole || restored.is_err(), "{case}: a restore succeeded with other content");
    // The manifest, which a restore leaves out, may be what is damaged.
    let manifest = problems
        .iter()
        .all(|problem| problem.affects.iter().all(|text| text.contains("/.backup/")));
    assert!(
        problems.is_empty() == whole || manifest,
        "{case}: restores: {whole}, but {problems:?}"
    );
    let short = id.short();
    let checked = full
        .problems
        .iter()
        .any(|problem| problem.affects.iter().any(|text| text.contains(&short)));
    assert_eq!(
        checked,
        !problems.is_empty(),
        "{case}: check and verify differ: {full:?}\n{problems:?}"
    );
    for problem in &problems {
        assert!(problem.affects.iter().any(|text| text.contains(&short)), "{case}: {problem:?}");
    }
}

/// The next backup fails, or publishes a snapshot that is sound. Whether bytes deep in a pack of
/// data have changed is for `check --read-data` to find, which then names the new snapshot as well.
async fn assert_next_backup(fixture: &Fixture, repo: &Repo, case: &str) {
    let before = repo.snapshots().await.len();
    let Ok(report) = repo.try_backup(&fixture.hit, &one_pack()).await else {
        assert_eq!(
            repo.snapshots().await.len(),
            before,
            "{case}: a failed run published a snapshot"
        );
        return;
    };
    let id = report.snapshot.unwrap();
    let problems = repo.verify(id).await.problems;
    if problems.is_empty() {
        assert_holds(repo, id, &fixture.hit).await;
    } else {
        assert!(
            case.starts_with("data pack, Flip"),
            "{case}: the next snapshot is published and broken: {problems:?}"
        );
        let full = repo.check(ReadData::All).await.unwrap();
        assert!(names(&full, "pack", &id.short()), "{case}: {full:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config() {
    let fixture = Fixture::new().await;
    let key = Key::new("config").unwrap();
    for damage in DAMAGES {
        let sink = fixture.damaged(&key, damage);
        for recovery in [false, true] {
            let error = fixture.open(&sink, recovery).await.map(drop).unwrap_err();
            assert!(error.is_damage(), "{damage:?}: {error:?}");
            assert!(
                message(&error).contains("x-receipts/config"),
                "{damage:?}: {}",
                message(&error)
            );
        }
        // The advice of the message.
        let copy = sink.objects()[&Key::new("x-receipts/config").unwrap()].clone();
        backup_core::sink::SinkOps::put_bytes(&sink, &key, copy).await.unwrap();
        fixture.open(&sink, false).await.unwrap().assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_of_config() {
    let fixture = Fixture::new().await;
    let key = Key::new("x-receipts/config").unwrap();
    for damage in DAMAGES {
        let case = format!("copy of config, {damage:?}");
        let sink = fixture.damaged(&key, damage);
        let report = fixture.open(&sink, false).await.unwrap().check(ReadData::None).await.unwrap();
        if damage == Damage::Delete {
            assert!(report.notes.iter().any(|note| note.contains("config")), "{case}: {report:?}");
        } else {
            assert!(names(&report, "x-receipts/config", "config"), "{case}: {report:?}");
        }
        assert_survives(&fixture, &sink, &case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_file() {
    let fixture = Fixture::new().await;
    for damage in DAMAGES {
        let case = format!("key file, {damage:?}");
        let sink = fixture.damaged(&fixture.key_file, damage);
        let error = fixture.open(&sink, false).await.map(drop).unwrap_err();
        if damage != Damage::Delete {
            assert!(
                message(&error).contains(short(&fixture.key_file)),
                "{case}: {}",
                message(&error)
            );
        }
        let report = fixture.open(&sink, true).await.unwrap().check(ReadData::None).await.unwrap();
        assert!(names(&report, short(&fixture.key_file), "pass phrase"), "{case}: {report:?}");
        assert_survives(&fixture, &sink, &case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn index() {
    let fixture = Fixture::new().await;
    let hit = fixture.hit_id.short();
    for damage in DAMAGES {
        let case = format!("index, {damage:?}");
        let sink = fixture.damaged(&fixture.index, damage);
        let report = fixture.open(&sink, false).await.unwrap().check(ReadData::None).await.unwrap();
        if damage != Damage::Delete {
            assert!(names(&report, short(&fixture.index), "snapshot"), "{case}: {report:?}");
        }
        assert!(names(&report, "", &format!("snapshot {hit}")), "{case}: {report:?}");
        assert_survives(&fixture, &sink, &case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_pack() {
    let fixture = Fixture::new().await;
    let hit = fixture.hit_id.short();
    for damage in DAMAGES {
        let case = format!("data pack, {damage:?}");
        let sink = fixture.damaged(&fixture.data_pack, damage);
        let repo = fixture.open(&sink, false).await.unwrap();
        let report = repo
            .check(if damage.is_flip() { ReadData::All } else { ReadData::None })
            .await
            .unwrap();
        // The last bytes are the pack's own header, which no snapshot needs.
        let affected = match damage {
            Damage::Flip(990 | 1000) | Damage::Shorten(1) => "snapshot".to_owned(),
            _ => format!("snapshot {hit}: /hit/"),
        };
        assert!(names(&report, short(&fixture.data_pack), &affected), "{case}: {report:?}");
        assert_survives(&fixture, &sink, &case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tree_pack() {
    let fixture = Fixture::new().await;
    let hit = fixture.hit_id.short();
    for damage in DAMAGES {
        let case = format!("tree pack, {damage:?}");
        let sink = fixture.damaged(&fixture.tree_pack, damage);
        let repo = fixture.open(&sink, false).await.unwrap();
        let in_header = matches!(damage, Damage::Flip(990 | 1000));
        let report =
            repo.check(if in_header { ReadData::All } else { ReadData::None }).await.unwrap();
        let affected = if in_header || damage == Damage::Shorten(1) {
            "snapshot"
        } else {
            &format!("snapshot {hit}: /")
        };
        assert!(names(&report, short(&fixture.tree_pack), affected), "{case}: {report:?}");
        assert_survives(&fixture, &sink, &case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot() {
    let fixture = Fixture::new().await;
    for damage in DAMAGES {
        let case = format!("snapshot, {damage:?}");
        let sink = fixture.damaged(&fixture.snapshot, damage);
        let repo = fixture.open(&sink, false).await.unwrap();
        let report = repo.check(ReadData::None).await.unwrap();
        assert!(names(&report, short(&fixture.snapshot), "all of it"), "{case}: {report:?}");
        assert_survives(&fixture, &sink, &case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts() {
    let fixture = Fixture::new().await;
    let of_key = Key::new(format!("x-receipts/{}", fixture.key_file)).unwrap();
    let of_snapshot = Key::new(format!("x-receipts/{}", fixture.snapshot)).unwrap();
    for key in [of_key, of_snapshot] {
        for damage in DAMAGES {
            let case = format!("{key}, {damage:?}");
            let sink = fixture.damaged(&key, damage);
            let repo = fixture.open(&sink, false).await.unwrap();
            let report = repo.check(ReadData::None).await.unwrap();
            // Other tools write no receipts: a missing one is no problem, a broken one is.
            assert_eq!(
                names(&report, short(&key), ""),
                damage != Damage::Delete,
                "{case}: {report:?}"
            );
            assert_survives(&fixture, &sink, &case).await;
            assert!(
                sink.objects().contains_key(&key),
                "{case}: the next backup has not written it again"
            );
        }
    }
}

/// A backup that lists a snapshot, and is killed when it has completed its receipt, may do so after
/// it was forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_comes_after_the_forgetting_alarms_nobody() {
    let clock = Arc::new(FakeClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let sink = MemorySink::on_clock(Arc::clone(&clock) as SharedClock);
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let cx = Context { clock: Arc::clone(&clock) as SharedClock, ..Context::silent() };
    let id = repo.backup(&script("first"), &options()).await.snapshot.unwrap();
    repo.backup(&script("second"), &options()).await;
    let key = Key::new(format!("x-receipts/snapshots/{id}")).unwrap();
    let receipt = sink.objects()[&key].clone();
    repo.repository.forget(&[id], &cx).await.unwrap();
    sink.put_bytes(&key, receipt).await.unwrap();
    repo.assert_sound().await;
    let sweep = || async {
        clock.advance(SignedDuration::from_hours(30));
        prune(&repo.repository, &PruneOptions::default(), &cx).await.unwrap()
    };
    sweep().await;
    assert!(sweep().await.deleted_packs > 0);
    // Now nothing says any more that it was forgotten.
    assert!(repo.repository.forgotten(&cx).await.unwrap().is_empty());
    repo.assert_sound().await;
    assert!(!sink.objects().contains_key(&key));
}
