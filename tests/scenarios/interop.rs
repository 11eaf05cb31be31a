//! Stock restic and rustic read, check, restore and continue what we write, and we what they write.
//!
//! `restic mount` is left out: it needs FUSE, which test machines rarely have.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::error::{Error, ErrorKind};
use backup_core::id::SnapshotId;
use backup_core::repository::Repository;
use backup_core::sink::Sink;
use backup_storage::LocalSink;
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::compare::differences;
use crate::support::counting::Counting;
use crate::support::noise;
use crate::support::repo::{HOST, Repo, files, local, options, restored};
use crate::support::restic::{Restic, everything_for};
use crate::support::tree::{settle, write};

/// A tree, and room for repositories and restored copies where it does not disturb the tree.
struct Place {
    _source: TempDir,
    top: PathBuf,
    room: TempDir,
}

impl Place {
    /// With everything that this version of restic knows.
    fn new(version: &str) -> Self {
        let source = tempfile::tempdir().unwrap();
        let top = source.path().join("top");
        everything_for(version, &top);
        Self { _source: source, top, room: tempfile::tempdir().unwrap() }
    }

    fn repository(&self) -> PathBuf {
        self.room.path().join("repository")
    }

    fn restic(&self, version: &str, password: &str) -> Restic {
        Restic::new(version, &self.repository(), password)
    }

    /// Our repository with a full and an incremental snapshot, the last of the tree as it is.
    async fn ours(&self) -> (Repo, SnapshotId) {
        let repo = Repo::in_dir(&self.repository()).await;
        repo.backup(&files(&[&self.top]), &options()).await;
        write(self.top.join("content/text"), noise::text(60, 310_000));
        write(self.top.join("new/file"), "new");
        settle();
        let id = repo.backup(&files(&[&self.top]), &options()).await.snapshot.unwrap();
        (repo, id)
    }

    /// Differences between the tree and a restored copy.
    fn differences(&self, target: &Path) -> Vec<String> {
        differences(&self.top, &restored(target, &self.top))
    }
}

/// Paths below `top`, as bytes, with directories.
fn paths(top: &Path) -> BTreeSet<Vec<u8>> {
    let mut paths = BTreeSet::new();
    let mut stack = vec![top.to_path_buf()];
    while let Some(path) = stack.pop() {
        if path.is_dir() && !path.is_symlink() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.insert(path.as_os_str().as_bytes().to_vec());
    }
    paths
}

mod needs_restic {
    use serde_json::Value;

    use super::*;
    use crate::support::restic::{RESTICS, text};

    #[tokio::test(flavor = "multi_thread")]
    async fn checks_and_restores_what_we_wrote() {
        for version in RESTICS {
            let place = Place::new(version);
            let (repo, id) = place.ours().await;
            let restic = place.restic(version, repo.passphrase.reveal());
            restic.check();
            let target = place.room.path().join(version);
            restic.restore(&id.to_hex(), &target);
            assert_eq!(place.differences(&target), [""; 0], "{version}");
            let manifest: Value =
                serde_json::from_slice(&fs::read(target.join(".backup/manifest.json")).unwrap())
                    .unwrap();
            assert_eq!(manifest["type"], "incremental");
            assert!(
                fs::read_to_string(target.join(".backup/RESTORE.md")).unwrap().contains("restic")
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lists_and_dumps_what_we_wrote() {
        for version in RESTICS {
            let place = Place::new(version);
            let (repo, id) = place.ours().await;
            let restic = place.restic(version, repo.passphrase.reveal());
            let listed: Value = serde_json::from_slice(
                &restic.run(&["snapshots", "--no-lock", "--json"]).succeeded().stdout,
            )
            .unwrap();
            let listed = listed.as_array().unwrap();
            assert_eq!(listed.len(), 2, "{version}");
            assert_eq!(listed[1]["id"], id.to_hex());
            assert_eq!(listed[1]["parent"], listed[0]["id"]);
            assert_eq!(listed[1]["hostname"], "testhost");
            assert_eq!(listed[1]["paths"][0], text(&place.top));
            assert_eq!(listed[1]["tags"][2], "type=incremental");

            let shown = restic.run(&["ls", "--no-lock", "latest"]).succeeded().stdout;
            for path in paths(&place.top).iter().filter(|path| {
                path.iter().all(|b| (32..127).contains(b) && *b != b'"' && *b != b'\\')
            }) {
                let line = [b"\n", &path[..], b"\n"].concat();
                assert!(
                    shown.windows(line.len()).any(|window| window == line),
                    "{version}: {}",
                    path.escape_ascii()
                );
            }
            let json = restic.run(&["ls", "--no-lock", "--json", "latest"]).succeeded().text();
            let nodes = json.lines().filter(|line| line.contains(r#""node""#)).count();
            let above = place.top.ancestors().count() - 2;
            let described = [".backup", "manifest.json", "RESTORE.md", "skipped.jsonl"].len();
            assert_eq!(nodes, paths(&place.top).len() + above + described, "{version}");

            for name in [
                "content/many chunks",
                "content/empty",
                "content/sparse",
                "names/files/*?[a-z]{x,y}",
            ] {
                let path = place.top.join(name);
                let dumped = restic.run(&["dump", "--no-lock", "latest", text(&path)]).succeeded();
                assert!(dumped.stdout == fs::read(&path).unwrap(), "{version}: {name}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn counts_what_we_wrote() {
        for version in RESTICS {
            let place = Place::new(version);
            let (repo, id) = place.ours().await;
            let totals = repo.reader(id).await.manifest().await.unwrap().unwrap().totals;
            let restic = place.restic(version, repo.passphrase.reveal());
            let stats = |mode: &str| -> Value {
                let shown = restic
                    .run(&["stats", "--no-lock", "--json", "--mode", mode, "latest"])
                    .succeeded();
                serde_json::from_slice(&shown.stdout).unwrap()
            };
            let restore = stats("restore-size");
            let described = 4;
            assert_eq!(
                restore["total_file_count"],
                totals.files + totals.dirs + totals.others + described,
                "{version}"
            );
            let raw = stats("raw-data");
            assert!(
                raw["total_size"].as_u64().unwrap() < restore["total_size"].as_u64().unwrap(),
                "{version}: {raw}"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn continues_from_our_snapshot() {
        for version in RESTICS {
            let place = Place::new(version);
            let (repo, id) = place.ours().await;
            let restic = place.restic(version, repo.passphrase.reveal());
            let summary = restic.backup(&[&place.top]);
            let files = repo.reader(id).await.manifest().await.unwrap().unwrap().totals.files;
            assert_eq!(summary["files_unmodified"], files, "{version}: {summary}");
            assert_eq!(
                (&summary["files_new"], &summary["files_changed"]),
                (&0.into(), &0.into()),
                "{version}: {summary}"
            );
            assert_eq!(summary["data_blobs"], 0, "{version}: {summary}");
            assert_eq!(
                summary["tree_blobs"], 1,
                "only the root, which lacks our .backup: {version}: {summary}"
            );
            let theirs = repo.snapshots().await.pop().unwrap();
            assert_eq!(theirs.snapshot.parent, Some(id), "{version}");
            restic.check();
            repo.assert_sound().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn their_snapshots_are_restored_and_continued() {
        for version in RESTICS {
            let place = Place::new(version);
            let restic = place.restic(version, "secret");
            restic.init("2");
            restic.backup(&[&place.top]);
            let repo = Repo::open(local(&place.repository()), "secret").await.unwrap();
            let theirs = repo.snapshots().await.pop().unwrap().id;
            let target = place.room.path().join("restored");
            repo.restore(theirs, &target).await;
            assert_eq!(place.differences(&target), [""; 0], "{version}");
            assert_eq!(repo.verify(theirs).await.problems, [], "{version}");
            repo.assert_sound().await;

            let source = Counting::new(files(&[&place.top]));
            let report = repo.backup(&source, &options()).await;
            assert_eq!(report.parent, Some(theirs), "{version}");
            assert_eq!(source.opened_and_late().0, 0, "{version}: contents were read");
            assert_eq!((report.files.new, report.files.changed), (0, 0), "{version}");
            assert_eq!(report.stored.tree_blobs, 2, "{version}: .backup and the root");
            restic.check();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_guard_stops_what_would_destroy() {
        for version in RESTICS {
            let place = Place::new(version);
            let (repo, _) = place.ours().await;
            let restic = place.restic(version, repo.passphrase.reveal());
            let before = paths(&place.repository());
            for dangerous in [
                &["prune"][..],
                &["forget", "--keep-last", "1", "--prune"],
                &["forget", "--keep-last", "1"],
                &["rebuild-index"],
                &["unlock"],
                &["prune"],
            ] {
                let outcome = restic.run(dangerous);
                assert_eq!(outcome.code == 0, dangerous == ["unlock"], "{outcome}");
                assert_eq!(paths(&place.repository()), before, "{outcome}");
            }
            // Without --no-lock: shared locks beside the guard.
            restic.run(&["ls", "latest"]).succeeded();
            restic
                .run(&["restore", "latest", "--target", text(&place.room.path().join(version))])
                .succeeded();
            restic.backup(&[&place.top]);
            repo.assert_sound().await;
        }
    }
}

mod needs_restic_new {
    use std::sync::Arc;

    use backup_core::context::Context;
    use backup_core::crypto::Passphrase;
    use backup_core::repository::{InitOptions, Repository};
    use backup_core::sink::{Operation, SinkErrorKind};
    use backup_core::testing::{Fault, FaultRule, FaultySink};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn repository_made_after_a_failed_init_opens() {
        // Which key file stock restic tries first is a matter of chance.
        for _ in 0..6 {
            let room = tempfile::tempdir().unwrap();
            let sink = FaultySink::new(local(room.path()));
            let (passphrase, cx) = (Passphrase::generate(), Context::silent());
            let init = || Repository::init(Arc::new(sink.clone()), &passphrase, NO_RECOVERY, &cx);
            sink.add(
                FaultRule::new(Fault::Before(SinkErrorKind::Unavailable))
                    .on(Operation::Put)
                    .under("config"),
            );
            init().await.unwrap_err();
            init().await.unwrap();
            Restic::new("restic-new", room.path(), passphrase.reveal()).check();
        }
    }

    const NO_RECOVERY: &InitOptions = &InitOptions { recovery: None, like: None };
}

mod needs_restic_for_keys {
    use backup_core::context::Context;
    use backup_core::crypto::Passphrase;

    use super::*;
    use crate::support::restic::RESTICS;

    #[tokio::test(flavor = "multi_thread")]
    async fn opens_with_keys_that_were_added_and_with_no_others() {
        for version in RESTICS {
            let place = Place::new(version);
            let (repo, id) = place.ours().await;
            let (added, new, cx) =
                (Passphrase::generate(), Passphrase::generate(), Context::silent());
            repo.repository.add_key(&added, Some("for the vault".to_owned()), &cx).await.unwrap();
            let target = place.room.path().join("restored");
            place.restic(version, added.reveal()).restore(&id.to_hex(), &target);
            assert_eq!(place.differences(&target), [""; 0], "{version}");
            // Its own list of keys has ours.
            let keys = place
                .restic(version, added.reveal())
                .run(&["key", "list", "--no-lock", "--json"])
                .succeeded();
            let keys: Vec<serde_json::Value> = serde_json::from_str(&keys.text()).unwrap();
            assert_eq!(
                keys.len(),
                repo.repository.keys().await.unwrap().len(),
                "{version}: {keys:?}"
            );
            assert!(keys.iter().any(|key| key["current"] == true), "{version}: {keys:?}");

            repo.repository.rotate_key(&new, None, &cx).await.unwrap();
            let old =
                place.restic(version, repo.passphrase.reveal()).run(&["snapshots", "--no-lock"]);
            assert!(
                old.code != 0 && old.to_string().contains("wrong password"),
                "{version}: {old}"
            );
            place.restic(version, new.reveal()).check();
        }
    }
}

mod needs_restic_014 {
    use backup_core::error::ErrorKind;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn version_1_is_read_and_not_written() {
        let place = Place::new("restic-0.14");
        let restic = place.restic("restic-0.14", "secret");
        restic.init("1");
        restic.backup(&[&place.top]);
        let repo = Repo::open(local(&place.repository()), "secret").await.unwrap();
        let theirs = repo.snapshots().await.pop().unwrap().id;
        let target = place.room.path().join("restored");
        repo.restore(theirs, &target).await;
        assert_eq!(place.differences(&target), [""; 0]);
        repo.assert_sound().await;
        let before = paths(&place.repository());
        let refused = repo.try_backup(&files(&[&place.top]), &options()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::UnsupportedVersion);
        assert!(refused.hint().is_some());
        assert_eq!(paths(&place.repository()), before);
    }

    /// Verbs that would write refuse format 1; the upgrade leaves damage as it is.
    #[tokio::test(flavor = "multi_thread")]
    async fn migrate_upgrades_version_1_beside_damage() {
        let place = Place::new("restic-0.14");
        let restic = place.restic("restic-0.14", "secret");
        restic.init("1");
        restic.backup(&[&place.top]);
        let cli = Cli::new(&place.repository(), "secret");
        let config = fs::read(place.repository().join("config")).unwrap();
        // The program's own notes beside the repository do not count.
        let objects = || {
            let is_own = |path: &Vec<u8>| path.windows(3).any(|part| part == b"/x-");
            paths(&place.repository()).into_iter().filter(|path| !is_own(path)).collect::<Vec<_>>()
        };
        let before = objects();
        let source = place.top.to_str().unwrap();
        let other = place.room.path().join("other");
        let other = other.to_str().unwrap();
        let format_2 = Cli::new(Path::new(other), "secret");
        format_2.run(&["init"]).succeeded();
        format_2.run(&["run", "--source", source, "--job", "j"]).succeeded();
        let new = place.room.path().join("new");
        fs::write(&new, "another pass phrase").unwrap();
        let is_file = |path: &Vec<u8>| Path::new(OsStr::from_bytes(path)).is_file();
        let pack = paths(&place.repository().join("data")).into_iter().find(is_file).unwrap();
        let pack_name = Path::new(OsStr::from_bytes(&pack)).file_name().unwrap();
        let address = place.repository();
        let address = address.to_str().unwrap();
        for arguments in [
            &["run", "--source", source, "--job", "j"][..],
            &["forget", "latest", "--yes"],
            &["hold", "latest", "--reason", "test"],
            &["prune", "--yes"],
            &["repair", "--yes", "--read-data"],
            &["repair", "packs", &pack_name.to_str().unwrap()[..8], "--yes"],
            &["key", "add", "--new-password-file", new.to_str().unwrap()],
            &["key", "rotate", "--new-password-file", new.to_str().unwrap(), "--yes"],
            &["copy", "-r", other, "--to", address, "--all"],
        ] {
            let refused = cli.run(arguments);
            assert_ne!(refused.code, 0, "{refused}");
            assert!(refused.stderr.contains("version 1"), "{refused}");
            assert_eq!(objects(), before, "{refused}");
        }
        let repo = Repo::open(local(&place.repository()), "secret").await.unwrap();
        let (id, cx) = (repo.snapshots().await[0].id, Context::silent());
        for refused in [
            repo.repository.release(&id).await.map(drop),
            repo.repository.undo_forget(&[id], "test", &cx).await,
            repo.repository.adopt(&repo.snapshots().await, &cx).await,
            repo.repository.add_key(&Passphrase::generate(), None, &cx).await.map(drop),
            repo.repository.remove_key(&repo.repository.key_id()).await,
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::UnsupportedVersion);
        }
        assert_eq!(objects(), before);
        // A lost pack, and an index that cannot be read.
        fs::remove_file(OsStr::from_bytes(&pack)).unwrap();
        let index = paths(&place.repository().join("index")).into_iter().find(is_file).unwrap();
        let index = Path::new(OsStr::from_bytes(&index)).to_owned();
        let mut damaged = fs::read(&index).unwrap();
        damaged[100] ^= 1;
        fs::write(&index, damaged).unwrap();
        let planned = cli.run(&["migrate", "--dry-run"]).succeeded();
        assert!(planned.text().contains("from format 1 to format 2"), "{planned}");
        assert_eq!(fs::read(place.repository().join("config")).unwrap(), config);
        cli.run(&["migrate", "--yes"]).succeeded();
        assert!(cli.run(&["migrate"]).succeeded().text().contains("already"));
        let kept = place.repository().join("x-quarantine/config");
        assert_eq!(fs::read(kept).unwrap(), config);
        let shown = restic.run(&["cat", "config", "--no-lock"]).succeeded();
        assert!(shown.text().contains("\"version\": 2"), "{shown}");
        assert_eq!(cli.run(&["repair", "--yes", "--read-data"]).code, 4);
        let repo = Repo::open(local(&place.repository()), "secret").await.unwrap();
        let id = repo.backup(&files(&[&place.top]), &options()).await.snapshot.unwrap();
        repo.assert_sound().await;
        restic.check();
        let target = place.room.path().join("upgraded");
        restic.restore(&id.to_hex(), &target);
        assert_eq!(place.differences(&target), [""; 0]);
    }
}

mod needs_rustic {
    use super::*;
    use crate::support::restic::{Rustic, text};

    #[tokio::test(flavor = "multi_thread")]
    async fn checks_and_restores_what_we_wrote() {
        let place = Place::new("rustic");
        let (repo, id) = place.ours().await;
        let rustic = Rustic::new(&place.repository(), repo.passphrase.reveal());
        let checked = rustic.run(&["check", "--read-data"]).succeeded();
        assert!(
            !checked.stderr.contains("ERROR") && !checked.text().contains("ERROR"),
            "{checked}"
        );
        let target = place.room.path().join("rustic");
        rustic.run(&["restore", &id.to_hex(), text(&target)]).succeeded();
        assert_eq!(place.differences(&target), [""; 0]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn their_snapshots_are_restored_and_continued() {
        let place = Place::new("rustic");
        let rustic = Rustic::new(&place.repository(), "secret");
        rustic.run(&["init"]).succeeded();
        rustic.run(&["backup", "--host", HOST, text(&place.top)]).succeeded();
        let repo = Repo::open(local(&place.repository()), "secret").await.unwrap();
        let theirs = repo.snapshots().await.pop().unwrap().id;
        let target = place.room.path().join("restored");
        repo.restore(theirs, &target).await;
        // rustic stores no times of the path that it was given.
        let found = place.differences(&target);
        assert!(found.iter().all(|difference| difference.starts_with(": mtime")), "{found:?}");
        repo.assert_sound().await;
        let source = Counting::new(files(&[&place.top]));
        let report = repo.backup(&source, &options()).await;
        assert_eq!(
            (report.parent, source.opened_and_late().0),
            (Some(theirs), 0),
            "no content is read again"
        );
        rustic.run(&["check", "--read-data"]).succeeded();
    }
}

/// `restic migrate` writes another config object with the same identity.
#[tokio::test]
async fn an_exported_key_comes_back_into_a_migrated_repository() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("repo");
    let restic = Restic::new("restic-new", &place, "secret");
    restic.init("1");
    let sink: Arc<dyn Sink> = Arc::new(LocalSink::open(&place).unwrap());
    let passphrase = Passphrase::new("secret");
    let opened = Repository::open(Arc::clone(&sink), &passphrase).await.unwrap();
    let exported = opened.export_key(&opened.key_id()).await.unwrap();
    restic.run(&["migrate", "upgrade_repo_v2"]).succeeded();
    let key = std::fs::read_dir(place.join("keys")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(key).unwrap();

    let wrong = async || Ok::<_, Error>(Passphrase::new("another"));
    let refused: Error = Repository::import_key(&*sink, &exported, wrong).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WrongPassphrase, "{}", refused.chain());
    assert_ne!(restic.run(&["cat", "config"]).code, 0, "restic opens a repository without a key");
    let right = async || Ok::<_, Error>(passphrase.clone());
    Repository::import_key(&*sink, &exported, right).await.unwrap();
    let config = restic.run(&["cat", "config"]).succeeded();
    assert!(config.text().contains("\"version\": 2"), "{}", config.text());
}
