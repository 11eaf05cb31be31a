//! Index objects with false places of blobs, beside the true ones: no verb is misled, a check names
//! them, and a repair or a prune removes them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::format::BlobKind;
use backup_core::id::{BlobId, SnapshotId};
use backup_core::maintenance::{MaxUnused, PruneOptions, prune};
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::corpus::parts;
use crate::support::corpus::shadows::{Named, Shadow, cases, missing_pack};
use crate::support::crafted::Crafted;
use crate::support::crafted_nodes::{self, directory};
use crate::support::measured::measured;
use crate::support::process::{Outcome, run};
use crate::support::repo::Repo;
use crate::support::restic::{RESTICS, Restic, text};

/// A repository with a snapshot of `source`: `data/inside`, which contains "hello".
struct Place {
    room: TempDir,
    cli: Cli,
    repo: Repo,
    id: SnapshotId,
    /// Names of the packs: data, directories.
    packs: Vec<String>,
}

impl Place {
    async fn new() -> Self {
        let (room, repo, cli, mut crafted) = Crafted::in_new_repository().await;
        crafted.blob(BlobKind::Data, b"hello");
        crafted.blob(BlobKind::Data, b"other");
        let data = crafted.directory(&[crafted_nodes::file(&parts(), "inside")]);
        let root = crafted.directory(&[directory(&parts(), "data", &data.to_hex())]);
        let id = crafted.snapshot(&root);
        let packs = crafted.finish();
        fs::create_dir_all(room.path().join("source/data")).unwrap();
        fs::write(room.path().join("source/data/inside"), "hello").unwrap();
        Self { room, cli, repo, id, packs }
    }

    fn crafted(&self) -> Crafted {
        Crafted::within(&self.path("repository"), &self.repo.passphrase)
    }

    /// Stores the index object of a case; returns its name.
    fn shadow(&self, case: &Shadow) -> String {
        let text = case.text.replace("<data>", &self.packs[0]).replace("<trees>", &self.packs[1]);
        self.crafted().index_object(text.as_bytes())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        measured(&self.cli, arguments)
    }

    /// The tree in `target` equals the source; removes it.
    #[track_caller]
    fn assert_same(&self, name: &str, target: &str) {
        let target = self.path(target);
        run(Command::new("diff").arg("-r").arg(self.path("source")).arg(&target)).succeeded();
        fs::remove_dir_all(target).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    #[track_caller]
    fn assert_restored(&self, name: &str) {
        let target = self.path("restored");
        let done = self.run(&["restore", &self.id.to_hex(), "--target", text(&target)]);
        assert_eq!(done.code, 0, "{name}: {done}");
        self.assert_same(name, "restored");
    }

    /// Restored from an archive, and from a copy of the repository.
    #[track_caller]
    fn assert_exported_and_copied(&self, name: &str) {
        let (id, archive, unpacked) =
            (self.id.to_hex(), self.path("out.tar"), self.path("unpacked"));
        let done = self.run(&["export", &id, "-o", text(&archive)]);
        assert_eq!(done.code, 0, "{name}: {done}");
        fs::create_dir(&unpacked).unwrap();
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&unpacked)).succeeded();
        self.assert_same(name, "unpacked");
        let (copy, like) = (self.path("copy"), self.path("repository"));
        self.run(&["init", "-r", text(&copy), "--like", text(&like)]).succeeded();
        let done = self.run(&["copy", &id, "--to", text(&copy)]);
        assert_eq!(done.code, 0, "{name}: {done}");
        let target = self.path("restored");
        self.run(&["restore", "latest", "-r", text(&copy), "--target", text(&target)]).succeeded();
        self.assert_same(name, "restored");
        self.run(&["check", "--read-data", "-r", text(&copy)]).succeeded();
    }

    /// Removes all that is not needed, at once.
    async fn prune(&self, name: &str) {
        let options = PruneOptions {
            grace: Duration::ZERO,
            max_unused: MaxUnused::Percent(0.0),
            ..PruneOptions::default()
        };
        // The crafted snapshots are months older than the present.
        self.repo.repository.confirm_clock(&Context::silent()).await.unwrap();
        // The first run marks packs; later ones delete them.
        for _ in 0..3 {
            let pruned = prune(&self.repo.repository, &options, &Context::silent()).await;
            pruned.unwrap_or_else(|error| panic!("{name}: {}", error.chain()));
        }
    }

    /// Stock restic and this program find nothing wrong.
    #[track_caller]
    fn assert_sound(&self, name: &str) {
        let dir = self.path("repository");
        for version in RESTICS {
            Restic::new(version, &dir, self.repo.passphrase.reveal()).check();
        }
        let checked = self.run(&["check", "--read-data"]);
        assert_eq!(checked.code, 0, "{name}: {checked}");
        self.assert_restored(name);
    }
}

mod needs_restic_and_time {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn false_places_are_ignored_and_repaired() {
        assert!(cases().len() >= 10);
        for case in cases() {
            let (place, name) = (Place::new().await, case.name);
            let index = place.shadow(&case);
            place.assert_restored(name);
            place.assert_exported_and_copied(name);
            let verified = place.run(&["verify", &place.id.to_hex()]);
            assert_eq!(verified.code, 0, "{name}: {verified}");
            let checked = place.run(&["check"]);
            let object = match case.named {
                Named::Index => format!("index {}", &index[..8]),
                Named::Pack => format!("pack {}", &missing_pack()[..8]),
                Named::Nothing => String::new(),
            };
            let code = if case.named == Named::Nothing { 0 } else { 4 };
            assert_eq!(checked.code, code, "{name}: {checked}");
            assert!(checked.text().contains(&object), "{name}: {checked}");
            let repaired = place.run(&["repair", "--yes"]);
            assert_eq!(repaired.code, 0, "{name}: {repaired}");
            place.assert_sound(name);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn prune_removes_false_places_and_keeps_the_blobs() {
        for case in cases() {
            let place = Place::new().await;
            place.shadow(&case);
            place.prune(case.name).await;
            place.assert_sound(case.name);
        }
    }

    /// The false pack is needed as a whole by its index entry, the true one only in part: without
    /// reading them, the false one is the better copy.
    #[tokio::test(flavor = "multi_thread")]
    async fn prune_keeps_the_copy_that_can_be_read() {
        let place = Place::new().await;
        let mut crafted = place.crafted();
        crafted.named(BlobKind::Data, BlobId::digest(b"hello"), b"false");
        let packs = crafted.finish();
        place.assert_restored("false pack");
        place.assert_exported_and_copied("false pack");
        let checked = place.run(&["check", "--read-data"]);
        assert_eq!(checked.code, 4, "{checked}");
        assert!(checked.text().contains(&packs[0][..8]), "{checked}");
        place.prune("false pack").await;
        assert!(!place.path("repository/data").join(&packs[0][..2]).join(&packs[0]).exists());
        place.assert_sound("false pack");
    }

    /// The true copy is marked for deletion already when the false one appears.
    #[tokio::test(flavor = "multi_thread")]
    async fn prune_recovers_a_marked_copy_if_the_other_one_is_false() {
        let place = Place::new().await;
        let (pack, blob) = (&place.packs[0], parts().blob);
        let other = BlobId::digest(b"other").to_hex();
        let blobs = [(blob, 0), (other, 37)].map(|(id, offset)| {
            format!("{{\"id\":\"{id}\",\"type\":\"data\",\"offset\":{offset},\"length\":37}}")
        });
        let text = format!(
            "{{\"packs\":[],\"packs_to_delete\":[{{\"id\":\"{pack}\",\
             \"time\":\"2020-01-01T00:00:00Z\",\"blobs\":[{}]}}]}}",
            blobs.join(",")
        );
        let mut crafted = place.crafted();
        crafted.index_object(text.as_bytes());
        crafted.named(BlobKind::Data, BlobId::digest(b"hello"), b"false");
        crafted.finish();
        place.prune("marked").await;
        place.assert_sound("marked");
    }
}
