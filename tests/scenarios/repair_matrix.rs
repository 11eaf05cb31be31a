//! Check, repair, check: a repair deals with all damage that a check reports, and stock restic
//! agrees.

use std::fs;
use std::path::Path;

use backup_core::check::ReadData;
use backup_core::context::Context;
use backup_core::format::{BlobKind, IndexBlob, IndexFile, IndexPack};
use backup_core::id::{BlobId, PackId};
use backup_core::maintenance::{RepairOptions, RepairReport, repair};
use backup_core::testing::MemorySink;
use tempfile::TempDir;

use crate::support::damage::{DAMAGES, Damage, Fixture};
use crate::support::repo::Repo;
use crate::support::restic::Restic;
use crate::support::script::assert_holds;

/// Without and with reading all data: for a repair, and for the checks around it.
fn levels() -> [(bool, ReadData); 2] {
    [(false, ReadData::None), (true, ReadData::All)]
}

pub(super) async fn repaired(repo: &Repo, read_data: bool, dry_run: bool) -> RepairReport {
    let options = RepairOptions { read_data, dry_run, ..RepairOptions::default() };
    repair(&repo.repository, &options, &Context::silent())
        .await
        .unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// The objects in a new directory.
pub(super) fn stored(sink: &MemorySink) -> TempDir {
    let room = tempfile::tempdir().unwrap();
    for (key, bytes) in sink.objects() {
        let file = room.path().join(key.as_str());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    // restic requires all folders.
    for folder in ["data", "index", "keys", "locks", "snapshots"] {
        fs::create_dir_all(room.path().join(folder)).unwrap();
    }
    room
}

/// Stock restic finds nothing wrong.
pub(super) fn assert_restic_agrees(
    fixture: &Fixture,
    sink: &MemorySink,
    read_data: bool,
    case: &str,
) {
    let room = stored(sink);
    let restic = Restic::new("restic-new", room.path(), fixture.recovery());
    let arguments: &[&str] = match read_data {
        true => &["check", "--no-lock", "--read-data"],
        false => &["check", "--no-lock"],
    };
    let checked = restic.run(arguments);
    assert!(
        checked.code == 0 && checked.text().contains("no errors were found"),
        "{case}: {checked}"
    );
    assert_restores_with_restic(&restic, fixture, room.path(), case);
}

/// The snapshot that nothing was done to is restored by stock restic.
fn assert_restores_with_restic(restic: &Restic, fixture: &Fixture, room: &Path, case: &str) {
    let target = room.join("restored");
    let id = fixture.spared_id.to_hex();
    let target_text = target.to_str().unwrap();
    let done = restic.run(&["restore", &id, "--no-lock", "--target", target_text]);
    assert_eq!(done.code, 0, "{case}: {done}");
}

/// Check, plan, repair, check, repair: the report of the repair.
async fn assert_converges(
    fixture: &Fixture,
    sink: &MemorySink,
    (read_data, level): (bool, ReadData),
    case: &str,
) -> RepairReport {
    let repo = fixture.open(sink, true).await.unwrap();
    let before = repo.check(level).await.unwrap();
    let objects = sink.objects();
    let plan = repaired(&repo, read_data, true).await;
    assert!(sink.objects() == objects, "{case}: a dry run changes nothing");
    let done = repaired(&repo, read_data, false).await;
    let is_idle = done.repaired.is_empty() && done.lost.is_empty();
    assert!(
        before.problems.is_empty() || !is_idle,
        "{case}: damage is reported, but there is nothing to repair: {:#?}",
        before.problems
    );
    let lost = |report: &RepairReport| -> Vec<String> {
        report.lost.iter().map(|problem| problem.object.clone()).collect()
    };
    assert_eq!(lost(&plan), lost(&done), "{case}: {plan:#?}\n{done:#?}");
    // A view of its own, as a later run has.
    let repo = fixture.open(sink, true).await.unwrap();
    let after = repo.check(level).await.unwrap();
    assert_eq!(after.problems, [], "{case}: {done:#?}");
    let again = repaired(&repo, read_data, false).await;
    assert!(again.repaired.is_empty() && again.lost.is_empty(), "{case}: {done:#?}\n{again:#?}");
    assert_holds(&repo, fixture.spared_id, &fixture.spared).await;
    // Damage inside of packs is found by reading them only.
    if read_data && done.lost.iter().all(|problem| problem.object.starts_with("key")) {
        assert_holds(&repo, fixture.hit_id, &fixture.hit).await;
    }
    assert_restic_agrees(fixture, sink, read_data, case);
    done
}

/// Each damage of the objects that `pick` names.
async fn assert_all_converge(name: &str, key: impl Fn(&Fixture) -> backup_core::sink::Key) {
    let fixture = Fixture::new().await;
    let key = key(&fixture);
    for damage in DAMAGES {
        for level in levels() {
            let case = format!("{name}, {damage:?}, read data: {}", level.0);
            let sink = fixture.damaged(&key, damage);
            let done = assert_converges(&fixture, &sink, level, &case).await;
            // Replaced objects stay.
            let damaged = fixture.damaged(&key, damage).objects().remove(&key);
            let is_kept = |bytes: &bytes::Bytes| sink.objects().values().any(|kept| kept == bytes);
            assert!(damaged.is_none_or(|bytes| is_kept(&bytes)), "{case}: {done:#?}");
        }
    }
}

fn receipt_of(key: &backup_core::sink::Key) -> backup_core::sink::Key {
    backup_core::sink::Key::new(format!("x-receipts/{key}")).unwrap()
}

/// A false index: its name, whether restores read the repository as it is, and the index objects.
type False = (&'static str, bool, fn(IndexFile) -> Vec<IndexFile>);

/// The blobs of the pack of data, or of that of directories.
fn blobs(file: &mut IndexFile, kind: BlobKind) -> &mut Vec<IndexBlob> {
    let is_of = |pack: &&mut IndexPack| pack.blobs.iter().any(|blob| blob.kind == kind);
    &mut file.packs.iter_mut().find(is_of).expect("there are both").blobs
}

fn changed(mut file: IndexFile, change: impl Fn(&mut Vec<IndexBlob>)) -> Vec<IndexFile> {
    change(blobs(&mut file, BlobKind::Data));
    change(blobs(&mut file, BlobKind::Tree));
    vec![file]
}

/// An index object for each blob.
fn apart(file: IndexFile) -> Vec<IndexFile> {
    let alone = |pack: IndexPack| {
        let one = move |blob| IndexFile {
            packs: vec![IndexPack { id: pack.id, blobs: vec![blob] }],
            ..IndexFile::default()
        };
        pack.blobs.into_iter().map(one)
    };
    file.packs.into_iter().flat_map(alone).collect()
}

fn halves(file: IndexFile) -> Vec<IndexFile> {
    let mut halves = [IndexFile::default(), IndexFile::default()];
    for pack in file.packs {
        let (first, second) = pack.blobs.split_at(pack.blobs.len() / 2);
        for (half, blobs) in halves.iter_mut().zip([first, second]) {
            half.packs.push(IndexPack { id: pack.id, blobs: blobs.to_vec() });
        }
    }
    halves.into()
}

const FALSE_INDEXES: &[False] = &[
    ("halves of each pack in two objects", true, halves),
    ("each blob in an object of its own", true, apart),
    ("without the first blobs", true, |file| changed(file, |blobs| _ = blobs.remove(0))),
    ("without the last blobs", true, |file| changed(file, |blobs| _ = blobs.pop())),
    ("without any blob", true, |file| changed(file, Vec::clear)),
    ("swapped offsets", true, |file| {
        changed(file, |blobs| {
            let first = blobs[0].offset;
            blobs[0].offset = std::mem::replace(&mut blobs[1].offset, first);
        })
    }),
    ("wrong lengths", true, |file| changed(file, |blobs| blobs[0].length += 1)),
    ("wrong lengths that add up", true, |file| {
        changed(file, |blobs| {
            blobs[0].length += 1;
            blobs[1].offset += 1;
            blobs[1].length -= 1;
        })
    }),
    ("wrong plain lengths", true, |file| {
        let wrong = |blob: &mut IndexBlob| {
            blob.uncompressed_length = blob.uncompressed_length.map(|len| len + 1);
        };
        changed(file, |blobs| blobs.iter_mut().for_each(wrong))
    }),
    ("compressed blobs as plain ones", true, |file| {
        changed(file, |blobs| blobs.iter_mut().for_each(|blob| blob.uncompressed_length = None))
    }),
    ("the other kind", true, |file| {
        let other = |blob: &mut IndexBlob| {
            let is_data = blob.kind == BlobKind::Data;
            blob.kind = if is_data { BlobKind::Tree } else { BlobKind::Data };
        };
        let mut file = file;
        file.packs.iter_mut().flat_map(|pack| &mut pack.blobs).for_each(other);
        vec![file]
    }),
    ("names of other blobs", false, |file| {
        changed(file, |blobs| blobs[0].id = BlobId::digest(b"another"))
    }),
    ("a blob that is not there", true, |file| {
        changed(file, |blobs| {
            let end = blobs.iter().map(|blob| blob.offset + blob.length).max().unwrap();
            let id = BlobId::digest(b"not there");
            blobs.push(IndexBlob { id, offset: end, ..blobs[0] });
        })
    }),
    ("names of other packs", false, |mut file| {
        for (number, pack) in file.packs.iter_mut().enumerate() {
            pack.id = PackId::digest(&[number.try_into().unwrap()]);
        }
        vec![file]
    }),
    ("each pack with the contents of another", true, |mut file| {
        let first = file.packs[0].id;
        file.packs[0].id = std::mem::replace(&mut file.packs[1].id, first);
        vec![file]
    }),
    ("a false object beside the true one", true, |file| {
        let mut files = changed(file.clone(), |blobs| blobs[0].length += 1);
        files.push(file);
        files
    }),
    ("one blob in the true object, all in another", true, |file| {
        let mut files = apart(file.clone());
        files.truncate(1);
        files.push(file);
        files
    }),
    ("all twice", true, |file| vec![file.clone(), file]),
];

mod needs_restic_new {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn repair_converges_for_config_copies_and_keys() {
        assert_all_converge("key file", |fixture| fixture.key_file.clone()).await;
        let copy = |_: &Fixture| backup_core::sink::Key::new("x-receipts/config").unwrap();
        assert_all_converge("copy of config", copy).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn repair_converges_for_indexes() {
        assert_all_converge("index", |fixture| fixture.index.clone()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn repair_converges_for_data_packs() {
        assert_all_converge("data pack", |fixture| fixture.data_pack.clone()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn repair_converges_for_tree_packs() {
        assert_all_converge("tree pack", |fixture| fixture.tree_pack.clone()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn repair_converges_for_snapshots() {
        assert_all_converge("snapshot", |fixture| fixture.snapshot.clone()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn repair_converges_for_inventory_entries() {
        assert_all_converge("entry of a key", |fixture| receipt_of(&fixture.key_file)).await;
        assert_all_converge("entry of a snapshot", |fixture| receipt_of(&fixture.snapshot)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn repair_converges_for_a_lost_index_beside_damaged_packs() {
        let fixture = Fixture::new().await;
        for pack in [&fixture.data_pack, &fixture.tree_pack] {
            for damage in [Damage::Flip(333), Damage::Flip(990), Damage::Halve, Damage::Delete] {
                let sink = fixture.damaged(pack, damage);
                sink.remove(&fixture.index);
                let case = format!("lost index and {pack}, {damage:?}");
                assert_converges(&fixture, &sink, (true, ReadData::All), &case).await;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn packs_decide_where_index_entries_are_false() {
        let fixture = Fixture::new().await;
        for (name, is_readable, change) in FALSE_INDEXES {
            for level in levels() {
                let case = format!("{name}, read data: {}", level.0);
                let sink = fixture.with_indexes(change).await;
                if *is_readable {
                    let repo = fixture.open(&sink, true).await.unwrap();
                    assert_holds(&repo, fixture.hit_id, &fixture.hit).await;
                    assert_eq!(repo.verify(fixture.hit_id).await.problems, [], "{case}");
                    let checked = repo.check(level.1).await.unwrap();
                    assert_eq!(checked.damaged_snapshots, [], "{case}: {:#?}", checked.problems);
                }
                let done = assert_converges(&fixture, &sink, level, &case).await;
                assert_eq!(done.lost, [], "{case}");
                let repo = fixture.open(&sink, true).await.unwrap();
                assert_holds(&repo, fixture.hit_id, &fixture.hit).await;
            }
        }
    }
}
