//! Crafted snapshots, indexes and config objects: each costs itself, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use backup_core::crypto::Passphrase;
use backup_core::format::BlobKind;
use backup_core::id::SnapshotId;
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::corpus::objects::{self, Verdict};
use crate::support::corpus::parts;
use crate::support::crafted::Crafted;
use crate::support::crafted_nodes::{self, directory};
use crate::support::long::long;
use crate::support::measured::measured;
use crate::support::process::Outcome;
use crate::support::restic::text;

/// A repository with a sound snapshot of `/data/inside`.
struct Place {
    room: TempDir,
    cli: Cli,
    passphrase: Passphrase,
    good: SnapshotId,
}

impl Place {
    /// With the objects that `craft` adds.
    async fn new(craft: impl FnOnce(&mut Crafted)) -> Self {
        let (room, repo, cli, mut crafted) = Crafted::in_new_repository().await;
        crafted.blob(BlobKind::Data, b"hello");
        let data = crafted.directory(&[crafted_nodes::file(&parts(), "inside")]);
        assert_eq!(data.to_hex(), parts().directory);
        let root = crafted.directory(&[directory(&parts(), "data", &data.to_hex())]);
        let good = crafted.snapshot(&root);
        craft(&mut crafted);
        crafted.finish();
        Self { room, cli, passphrase: repo.passphrase, good }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        measured(&self.cli, arguments)
    }

    /// The sound snapshot is listed and restored, and nothing was written elsewhere.
    #[track_caller]
    fn assert_usable(&self) {
        let listed = self.run(&["list"]);
        assert!(listed.text().contains(&self.good.short()), "{listed}");
        let target = self.path("good");
        self.run(&["restore", &self.good.to_hex(), "--target", text(&target)]).succeeded();
        assert_eq!(fs::read(target.join("data/inside")).unwrap(), b"hello");
        fs::remove_dir_all(target).unwrap();
        let mut names: Vec<_> = self.room.path().read_dir().unwrap().collect();
        assert_eq!(names.len(), 1, "{:?}", names.pop());
        assert!(!Path::new("/tmp/escaped").exists());
    }
}

/// No control character reaches a terminal.
#[track_caller]
fn assert_printable(done: &Outcome) {
    let is_control = |c: char| c.is_control() && c != '\n';
    assert!(!done.text().contains(is_control) && !done.stderr.contains(is_control), "{done}");
}

mod needs_time {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn crafted_snapshots_cost_themselves() {
        let cases = objects::snapshots();
        assert!(cases.len() >= 10);
        let mut ids = Vec::new();
        let place = Place::new(|crafted| {
            let snapshot = |case: &objects::Object| crafted.snapshot_object(case.text.as_bytes());
            ids = cases.iter().map(snapshot).collect();
        })
        .await;
        place.assert_usable();
        let checked = place.run(&["check"]);
        assert_eq!(checked.code, 4, "{checked}");
        let listed = place.run(&["list"]);
        assert_printable(&listed);
        assert_printable(&checked);
        for (case, id) in cases.iter().zip(ids) {
            let is_named = checked.text().contains(&id.short());
            assert_eq!(is_named, case.verdict == Verdict::Damaged, "{}: {checked}", case.name);
            let target = place.path("crafted");
            let restored = place.run(&["restore", &id.to_hex(), "--target", text(&target)]);
            assert_printable(&restored);
            let is_restored = restored.code == 0;
            assert_eq!(is_restored, case.verdict == Verdict::Used, "{}: {restored}", case.name);
            if is_restored {
                assert_eq!(fs::read(target.join("inside")).unwrap(), b"hello", "{}", case.name);
                assert!(listed.text().contains(&id.short()), "{}: {listed}", case.name);
            }
            _ = fs::remove_dir_all(target);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn crafted_indexes_cost_themselves() {
        let cases = objects::indexes();
        assert!(cases.len() >= 10);
        let mut ids = Vec::new();
        let place = Place::new(|crafted| {
            let index = |case: &objects::Object| crafted.index_object(case.text.as_bytes());
            ids = cases.iter().map(index).collect();
        })
        .await;
        place.assert_usable();
        let checked = place.run(&["check"]);
        assert_eq!(checked.code, 4, "{checked}");
        for (case, id) in cases.iter().zip(ids) {
            let is_named = checked.text().contains(&id[..8]);
            assert_eq!(is_named, case.verdict == Verdict::Damaged, "{}: {checked}", case.name);
        }
        place.run(&["verify", &place.good.to_hex()]).succeeded();
        place.run(&["repair", "--dry-run"]);
        place.run(&["prune", "--dry-run"]);
        place.assert_usable();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn crafted_configs_lead_nowhere() {
        let cases = objects::configs();
        assert!(cases.len() >= 10);
        let place = Place::new(|_| {}).await;
        let dir = place.path("repository");
        let crafted = Crafted::within(&dir, &place.passphrase);
        let config = fs::read(dir.join("config")).unwrap();
        for case in &cases {
            crafted.config(case.text.as_bytes());
            if case.verdict == Verdict::Used {
                place.assert_usable();
                continue;
            }
            for arguments in [&["list"][..], &["check"], &["stats"], &["prune", "--dry-run"]] {
                let done = place.run(arguments);
                assert!(done.code != 0, "{}: {done}", case.name);
                assert_printable(&done);
            }
        }
        fs::write(dir.join("config"), config).unwrap();
        place.assert_usable();
    }

    /// Each level names the next one twice: 2^60 paths, and a file that cannot be restored at the
    /// end of each.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_repetition_of_directories_has_an_end() {
        // Each command walks 262 144 entries: most of them take too long for every run.
        for is_bad in if long() { vec![false, true] } else { vec![true] } {
            let mut snapshot = None;
            let place = Place::new(|crafted| {
                let name = if is_bad { ".." } else { "bottom" };
                let mut tree = crafted.directory(&[crafted_nodes::file(&parts(), name)]);
                for _ in 0..60 {
                    let names = ["a", "b"].map(|name| directory(&parts(), name, &tree.to_hex()));
                    tree = crafted.directory(&names);
                }
                snapshot = Some(crafted.snapshot(&tree));
            })
            .await;
            place.assert_usable();
            let snapshot = snapshot.unwrap();
            let checked = place.run(&["check"]);
            assert_eq!(checked.code, 4, "{checked}");
            assert!(checked.text().contains(&snapshot.short()), "{checked}");
            let (id, target) = (snapshot.to_hex(), place.path("repeated"));
            let listed = place.run(&["ls", &id, "-R"]);
            assert_eq!(listed.code, 4, "{}", listed.stderr.lines().last().unwrap_or_default());
            if !long() {
                continue;
            }
            let copy = place.path("copy");
            let like = place.path("repository");
            place.run(&["init", "-r", text(&copy), "--like", text(&like)]).succeeded();
            for (arguments, code) in [
                (&["verify", &id][..], 4),
                (&["diff", &id, &place.good.to_hex()], 4),
                // A copy is complete, repetitions included.
                (&["copy", &id, "--to", text(&copy)], if is_bad { 3 } else { 0 }),
                (&["repair", "--dry-run"], if is_bad { 4 } else { 0 }),
                (&["restore", &id, "--target", text(&target)], 4),
            ] {
                let done = place.run(arguments);
                assert_eq!(done.code, code, "{}", done.stderr.lines().last().unwrap_or_default());
            }
            let mut first = target.clone();
            first.extend(std::iter::repeat_n("a", 60));
            assert!(first.is_dir());
            assert_eq!(first.join("bottom").exists(), !is_bad);
            fs::remove_dir_all(target).unwrap();
        }
    }
}

mod needs_zstd_and_time {
    use super::*;
    use crate::scenarios::bombs::frame;

    /// Each is within the limit of one object; together they would take 800 MB.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_snapshots_together_do_not_fill_the_memory() {
        let tree = parts().directory;
        let before = format!("{{\"time\":\"2026-01-01T00:00:00Z\",\"tree\":\"{tree}\",\"x\":\"");
        let frame = frame(&before, "a", 2_000_000, "\"}", false);
        let mut bombs = Vec::new();
        let place = Place::new(|crafted| {
            // Each seal has another initialisation vector, and each object another name.
            let bomb = |_| crafted.compressed_object("snapshots", &frame);
            bombs = (0..400).map(bomb).collect();
        })
        .await;
        place.assert_usable();
        let checked = place.run(&["check"]);
        assert_eq!(checked.code, 4, "{checked}");
        let named = bombs.iter().filter(|id| checked.text().contains(&id[..8])).count();
        // Some are used until the memory for them is spent.
        assert!((380..400).contains(&named), "{named}: {checked}");
    }
}
