//! `backup run` with one missing path of several: exit code 3, and a whole snapshot of the others.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::compare::assert_same;
use crate::support::noise::noise;
use crate::support::repo::restored;
use crate::support::tree::{settle, write};

/// Two directories that exist, a repository, and room for restored copies.
struct Place {
    source: TempDir,
    room: TempDir,
    cli: Cli,
}

impl Place {
    fn new() -> Self {
        let (source, room) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(source.path().join("first/deep/file"), noise(1, 300_000));
        write(source.path().join("last/file"), "last");
        settle();
        let cli = Cli::new(&room.path().join("repository"), "correct horse");
        cli.run(&["init"]).succeeded();
        Self { source, room, cli }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.source.path().join(name)
    }

    /// Backs up `first`, a path between both, and `last`; returns the exit code and the messages.
    fn back_up(&self) -> (i32, String) {
        let paths = ["first", "gone/below", "last"].map(|name| self.path(name));
        let mut arguments = vec!["run", "--no-progress"];
        for path in &paths {
            arguments.extend(["--source", path.to_str().unwrap()]);
        }
        let done = self.cli.run(&arguments);
        (done.code, done.stderr)
    }

    /// Compares the restored copy in `target` with the directories.
    fn assert_restored(&self, target: &Path, names: &[&str]) {
        for name in names {
            assert_same(&self.path(name), &restored(target, &self.path(name)));
        }
        assert_eq!(restored(target, &self.path("gone")).exists(), names.contains(&"gone"));
    }
}

#[test]
fn missing_path_costs_only_itself() {
    let place = Place::new();
    let (code, messages) = place.back_up();
    assert_eq!(code, 3, "{messages}");
    let gone = place.path("gone/below");
    assert!(messages.contains(gone.to_str().unwrap()), "{messages}");
    // A restore reports that the snapshot is incomplete.
    let restore = |name: &str, code: i32| {
        let target = place.room.path().join(name);
        let arguments = ["restore", "latest", "--target", target.to_str().unwrap()];
        let done = place.cli.run(&arguments);
        assert_eq!(done.code, code, "{done}");
        target
    };
    place.assert_restored(&restore("without", 3), &["first", "last"]);
    place.cli.check();

    // With the path, the next snapshot is whole.
    write(gone.join("file"), "back");
    settle();
    let (code, messages) = place.back_up();
    assert_eq!(code, 0, "{messages}");
    place.assert_restored(&restore("with", 0), &["first", "gone", "last"]);

    // Without any of the paths there is no snapshot.
    for name in ["first", "gone", "last"] {
        fs::rename(place.path(name), place.path(&format!("{name} moved"))).unwrap();
    }
    let (code, messages) = place.back_up();
    assert_eq!(code, 1, "{messages}");
    let list = place.cli.run(&["list", "--json"]).succeeded().text();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2, "{list}");
}

mod needs_restic {
    use super::*;
    use crate::support::restic::{RESTICS, Restic};

    #[test]
    fn restic_restores_a_snapshot_without_a_missing_path() {
        let place = Place::new();
        let (code, messages) = place.back_up();
        assert_eq!(code, 3, "{messages}");
        for version in RESTICS {
            let repository = place.room.path().join("repository");
            let restic = Restic::new(version, &repository, place.cli.password());
            restic.check();
            let target = place.room.path().join(version);
            restic.restore("latest", &target);
            place.assert_restored(&target, &["first", "last"]);
        }
    }
}
