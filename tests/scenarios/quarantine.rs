//! Objects that a repair replaces stay in `x-quarantine/` until a prune deletes them, and packs that a
//! repair is given by name are replaced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::maintenance::{PruneOptions, PruneReport, prune};
use backup_core::sink::{Key, SinkOps};
use backup_core::testing::MemorySink;
use bytes::Bytes;

use crate::scenarios::repair_matrix::{assert_restic_agrees, repaired, stored};
use crate::support::cli::Cli;
use crate::support::damage::{Damage, Fixture};
use crate::support::repo::{Repo, local};
use crate::support::script::assert_holds;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn quarantined(sink: &MemorySink) -> BTreeMap<Key, Bytes> {
    let all = sink.objects().into_iter();
    all.filter(|(key, _)| key.as_str().starts_with("x-quarantine/")).collect()
}

async fn pruned(repo: &Repo, grace: Duration, dry_run: bool) -> PruneReport {
    let options = PruneOptions { grace, dry_run, ..PruneOptions::default() };
    prune(&repo.repository, &options, &Context::silent()).await.unwrap()
}

/// Objects of the repository itself, without those of the side.
fn is_stock(key: &Key) -> bool {
    !key.as_str().starts_with("x-") && !key.as_str().starts_with("locks/")
}

/// Repairs, and fails unless every object that went is in the quarantine; returns the objects there.
async fn repaired_with_quarantine(
    fixture: &Fixture,
    sink: &MemorySink,
    case: &str,
) -> BTreeMap<Key, Bytes> {
    let before = sink.objects();
    let repo = fixture.open(sink, true).await.unwrap();
    let planned = repaired(&repo, true, true).await;
    assert_eq!(quarantined(sink), BTreeMap::new(), "{case}: {planned:#?}");
    let done = repaired(&repo, true, false).await;
    let (after, kept) = (sink.objects(), quarantined(sink));
    for (key, bytes) in before.iter().filter(|(key, _)| is_stock(key)) {
        let is_there = after.get(key) == Some(bytes) || kept.values().any(|kept| kept == bytes);
        assert!(is_there, "{case}: {key} is nowhere: {done:#?}");
    }
    assert!(!kept.is_empty(), "{case}: {done:#?}");
    kept
}

/// Packs are files whose names are theirs.
fn pack_file(dir: &Path, pack: &Key) -> PathBuf {
    dir.join(pack.as_str())
}

mod needs_restic_new {
    use super::*;
    use crate::support::restic::Restic;

    #[tokio::test(flavor = "multi_thread")]
    async fn quarantine_lasts_until_a_prune_is_due() {
        let fixture = Fixture::new().await;
        for (name, key, damage) in [
            ("key file", &fixture.key_file, Damage::Flip(333)),
            ("index", &fixture.index, Damage::Flip(333)),
            ("snapshot", &fixture.snapshot, Damage::Halve),
            ("tree pack", &fixture.tree_pack, Damage::Delete),
            ("data pack", &fixture.data_pack, Damage::Flip(333)),
        ] {
            let sink = fixture.damaged(key, damage);
            let kept = repaired_with_quarantine(&fixture, &sink, name).await;
            let count = kept.len() as u64;
            let repo = fixture.open(&sink, true).await.unwrap();
            let early = pruned(&repo, DAY, false).await;
            assert_eq!(
                (early.quarantined_waiting, early.quarantined_deleted),
                (count, 0),
                "{name}"
            );
            assert_eq!(quarantined(&sink), kept, "{name}");
            let planned = pruned(&repo, Duration::ZERO, true).await;
            let counts =
                |report: &PruneReport| (report.quarantined_waiting, report.quarantined_deleted);
            assert_eq!(counts(&planned), (0, count), "{name}");
            assert_eq!(quarantined(&sink), kept, "{name}: a dry run changes nothing");
            let late = pruned(&repo, Duration::ZERO, false).await;
            assert_eq!(counts(&late), (0, count), "{name}");
            assert_eq!(quarantined(&sink), BTreeMap::new(), "{name}");
            let repo = fixture.open(&sink, true).await.unwrap();
            repo.assert_sound().await;
            assert_holds(&repo, fixture.spared_id, &fixture.spared).await;
            assert_restic_agrees(&fixture, &sink, true, name);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn quarantine_keeps_every_content_of_a_name() {
        let fixture = Fixture::new().await;
        let sink = fixture.damaged(&fixture.snapshot, Damage::Delete);
        let contents = [&b"first"[..], b"second", b"third"];
        for content in contents.into_iter().chain(contents) {
            sink.put_bytes(&fixture.snapshot, content.to_vec()).await.unwrap();
            let repo = fixture.open(&sink, true).await.unwrap();
            repaired(&repo, false, false).await;
        }
        let mut kept: Vec<Bytes> = quarantined(&sink).into_values().collect();
        kept.sort();
        assert_eq!(kept, contents);
    }

    /// A sound pack, as one on a failing disk: all of it is moved.
    #[tokio::test(flavor = "multi_thread")]
    async fn repair_moves_the_content_of_named_packs() {
        let fixture = Fixture::new().await;
        for pack in [&fixture.data_pack, &fixture.tree_pack] {
            let room = stored(&fixture.copy());
            let cli = Cli::new(room.path(), fixture.recovery());
            let digits = &pack.file_name()[..8];
            let planned = cli.run(&["repair", "packs", digits, "--dry-run"]).succeeded();
            assert!(planned.text().contains("moved into new packs"), "{planned}");
            let done = cli.run(&["repair", "packs", digits, "--yes"]).succeeded();
            assert!(done.text().contains(digits), "{done}");
            cli.run(&["check", "--read-data"]).succeeded();
            assert!(pack_file(room.path(), pack).exists(), "it stays until a prune");
            for _ in 0..2 {
                cli.run(&["prune", "--grace", "0s", "--yes"]).succeeded();
            }
            assert!(!pack_file(room.path(), pack).exists());
            let repo = Repo::open(local(room.path()), fixture.recovery()).await.unwrap();
            repo.assert_sound().await;
            assert_holds(&repo, fixture.hit_id, &fixture.hit).await;
            assert_holds(&repo, fixture.spared_id, &fixture.spared).await;
            let restic = Restic::new("restic-new", room.path(), fixture.recovery());
            let checked = restic.run(&["check", "--no-lock", "--read-data"]).succeeded();
            assert!(checked.text().contains("no errors were found"), "{checked}");
        }
    }

    /// Without reading all data, the damage of a named pack is found.
    #[tokio::test(flavor = "multi_thread")]
    async fn repair_gives_up_damaged_packs_by_name() {
        let fixture = Fixture::new().await;
        let pack = &fixture.data_pack;
        let room = stored(&fixture.damaged(pack, Damage::Flip(333)));
        let cli = Cli::new(room.path(), fixture.recovery());
        let name = pack.file_name();
        let twin = room.path().join("data").join(&name[..2]).join(format!("{:0<64}", &name[..8]));
        fs::write(&twin, b"twin").unwrap();
        let files = || fs::read(pack_file(room.path(), pack)).unwrap();
        let before = files();
        for (digits, reason) in [
            (&name[..3], "at least 4 digits"),
            (&name[..8], "several packs begin with"),
            ("ffffffffffff", "no stored pack begins with"),
            ("../../config", "no stored pack begins with"),
        ] {
            let refused = cli.run(&["repair", "packs", digits, "--yes"]);
            assert!(refused.code == 2 && refused.stderr.contains(reason), "{refused}");
        }
        fs::remove_file(twin).unwrap();
        assert_eq!(cli.run(&["repair", "packs", name, "--accept-loss", "0000", "--yes"]).code, 2);
        assert_eq!(cli.run(&["repair", "--yes"]).code, 0, "only reading finds it");
        let planned = cli.run(&["repair", "packs", &name[..8], "--dry-run"]);
        assert!(planned.code == 4 && planned.text().contains("cannot be recovered"), "{planned}");
        assert!(files() == before, "a dry run changes nothing");
        let done = cli.run(&["repair", "packs", &name[..8], "--yes"]);
        assert_eq!(done.code, 4, "{done}");
        cli.run(&["check", "--read-data"]).succeeded();
        cli.run(&["repair", "--read-data", "--yes"]).succeeded();
        let repo = Repo::open(local(room.path()), fixture.recovery()).await.unwrap();
        assert_holds(&repo, fixture.spared_id, &fixture.spared).await;
        let restic = Restic::new("restic-new", room.path(), fixture.recovery());
        let checked = restic.run(&["check", "--no-lock", "--read-data"]).succeeded();
        assert!(checked.text().contains("no errors were found"), "{checked}");
    }
}
