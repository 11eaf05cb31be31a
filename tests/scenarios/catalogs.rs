//! Crafted snapshots of databases: no verb writes outside of its target, and each ends in bounded
//! memory and time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use backup_core::id::{BlobId, SnapshotId};
use serde_json::json;
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::corpus::catalogs::{Catalog, cases};
use crate::support::corpus::parts;
use crate::support::crafted::Crafted;
use crate::support::crafted_nodes;
use crate::support::measured::measured;
use crate::support::process::{Outcome, run};
use crate::support::restic::text;

/// A directory that is being made.
#[derive(Default)]
struct Folder {
    folders: BTreeMap<String, Folder>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Folder {
    fn add(&mut self, path: &str, content: &[u8]) {
        match path.split_once('/') {
            Some((name, rest)) => {
                self.folders.entry(name.to_owned()).or_default().add(rest, content);
            }
            None => _ = self.files.insert(path.to_owned(), content.to_vec()),
        }
    }

    fn store(&self, crafted: &mut Crafted) -> BlobId {
        let mut nodes: BTreeMap<&str, String> = BTreeMap::new();
        for (name, content) in &self.files {
            nodes.insert(name, crafted_nodes::stored_file(crafted, name, content));
        }
        for (name, folder) in &self.folders {
            let subtree = folder.store(crafted).to_hex();
            nodes.insert(name, crafted_nodes::directory(&parts(), name, &subtree));
        }
        crafted.directory(&nodes.into_values().collect::<Vec<_>>())
    }
}

/// A repository with a snapshot of every case.
struct Place {
    room: TempDir,
    cli: Cli,
    cases: Vec<(Catalog, SnapshotId)>,
}

impl Place {
    async fn new() -> Self {
        let (room, _repo, cli, mut crafted) = Crafted::in_new_repository().await;
        let mut stored = Vec::new();
        for case in cases() {
            let mut root = Folder::default();
            case.files.iter().for_each(|(path, content)| root.add(path, content));
            let tree = root.store(&mut crafted).to_hex();
            let tags = [format!("source={}", case.source), "job=db".to_owned()];
            let snapshot = json!({
                "time": "2026-01-01T00:00:00Z",
                "tree": tree,
                "paths": [format!("/{}", case.source)],
                "hostname": "testhost",
                "tags": tags,
            });
            let id = crafted.snapshot_object(snapshot.to_string().as_bytes());
            stored.push((case, id));
        }
        crafted.finish();
        Self { room, cli, cases: stored }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// Runs a command that may write below `out` only.
    #[track_caller]
    fn run(&self, name: &str, arguments: &[&str]) -> Outcome {
        let done = measured(&self.cli, arguments);
        let is_control = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!done.stderr.contains(is_control), "{name}: {done}");
        for entry in fs::read_dir(self.room.path()).unwrap().map(Result::unwrap) {
            let found = entry.file_name().into_string().unwrap();
            // Tablespaces lie beside their data directory.
            let known = ["repository", "out", "out.tablespaces", "out.tar"];
            assert!(known.contains(&&*found), "{name}: {found} was written: {done}");
        }
        assert!(!Path::new("/tmp/escaped").exists(), "{name}: {done}");
        assert!(!self.room.path().parent().unwrap().join("escaped").exists(), "{name}: {done}");
        done
    }

    fn clean(&self) {
        for name in ["out", "out.tablespaces"] {
            _ = fs::remove_dir_all(self.path(name));
        }
        _ = fs::remove_file(self.path("out.tar"));
    }
}

/// Names in an archive, as tar lists them.
fn listed(archive: &Path) -> Vec<String> {
    let done = run(Command::new("tar").args(["-t", "-P", "-f"]).arg(archive)).succeeded();
    done.text().lines().map(str::to_owned).collect()
}

fn is_lost(case: &Catalog) -> bool {
    case.files.iter().any(|(path, _)| path.split('/').any(|name| name == ".."))
}

mod needs_time {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn crafted_catalogs_lead_nowhere() {
        let place = Place::new().await;
        assert!(place.cases.len() >= 10);
        let out = place.path("out");
        for (case, id) in &place.cases {
            let (name, id) = (case.name, id.to_hex());
            let done = match case.source {
                "postgres" => place.run(name, &["restore", &id, "--target", text(&out)]),
                _ => place.run(name, &["export", &id, "--to", text(&out)]),
            };
            assert_eq!(done.code == 0, case.is_usable, "{name}: {done}");
            assert!(matches!(done.code, 0 | 1 | 2 | 4), "{name}: {done}");
            if case.is_usable {
                let files = fs::read_dir(out.join("shop")).unwrap().count();
                assert_eq!(files, 2, "{name}: data and metadata");
            }
            place.clean();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn crafted_catalogs_are_plain_files_for_other_verbs() {
        let place = Place::new().await;
        let good = place.cases[0].1.to_hex();
        for (case, id) in &place.cases {
            let (name, id, archive) = (case.name, id.to_hex(), place.path("out.tar"));
            let lost = is_lost(case);
            let exported = place.run(name, &["export", &id, "-o", text(&archive)]);
            assert_eq!(exported.code, if lost { 3 } else { 0 }, "{name}: {exported}");
            let is_inside = |path: &String| !path.starts_with('/') && !path.contains("..");
            assert!(listed(&archive).iter().all(is_inside), "{name}");
            for (arguments, code) in [
                (&["show", &id][..], [0, 0]),
                (&["ls", &id, "-R"], [0, 3]),
                (&["diff", &good, &id], [0, 3]),
                (&["verify", &id], [0, 4]),
            ] {
                let done = place.run(name, arguments);
                assert_eq!(done.code, code[usize::from(lost)], "{name}: {done}");
            }
            place.clean();
        }
    }
}
