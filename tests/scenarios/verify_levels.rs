//! Each level of a verification finds the damage that it is for, and that of the levels above it.

use std::fs;
use std::path::Path;

use backup_core::id::SnapshotId;
use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::corpus::parts;
use crate::support::crafted::Crafted;
use crate::support::crafted_nodes::{directory, stored_file};

const LEVELS: [&str; 3] = ["checksum", "structure", "deep"];

/// The description of a snapshot of one file with five bytes, in a directory.
fn manifest(files: u64) -> Value {
    json!({
        "schema": 1,
        "program": "backup 0.1.0",
        "created": "2026-01-01T00:00:00Z",
        "job": "docs",
        "source": {"kind": "files", "id": "testhost", "host": "testhost", "paths": ["/data"]},
        "type": "full",
        "tier": "daily",
        "checkpoint": {"started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:01Z"},
        "totals": {"files": files, "dirs": 1, "others": 0, "bytes": 5, "warnings": 0},
    })
}

/// A snapshot with this description.
fn snapshot(crafted: &mut Crafted, manifest: &[u8]) -> SnapshotId {
    let inside = stored_file(crafted, "inside", b"hello");
    let manifest = stored_file(crafted, "manifest.json", manifest);
    let data = crafted.directory(&[inside]).to_hex();
    let own = crafted.directory(&[manifest]).to_hex();
    let root = [directory(&parts(), ".backup", &own), directory(&parts(), "data", &data)];
    let root = crafted.directory(&root);
    crafted.snapshot(&root)
}

/// All copies of all blobs get another byte.
fn damage(repository: &Path) {
    let folders = fs::read_dir(repository.join("data")).unwrap().map(Result::unwrap);
    let packs = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().map(Result::unwrap));
    for pack in packs {
        let mut bytes = fs::read(pack.path()).unwrap();
        bytes.iter_mut().step_by(16).for_each(|byte| *byte ^= 1);
        let mut permissions = pack.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        fs::set_permissions(pack.path(), permissions).unwrap();
        fs::write(pack.path(), bytes).unwrap();
    }
}

/// Exit codes of the levels, and the output of the last one.
fn verified(cli: &Cli, id: &SnapshotId) -> ([i32; 3], String) {
    let mut said = String::new();
    let codes = LEVELS.map(|level| {
        let done = cli.run(&["verify", &id.to_hex(), "--level", level]);
        said = format!("{}{}", done.text(), done.stderr);
        done.code
    });
    (codes, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_levels_find_their_damage() {
    let (room, _repo, cli, mut crafted) = Crafted::in_new_repository().await;
    let sound = snapshot(&mut crafted, manifest(1).to_string().as_bytes());
    let no_manifest = snapshot(&mut crafted, b"{\"schema\":1");
    let wrong_count = snapshot(&mut crafted, manifest(2).to_string().as_bytes());
    crafted.finish();
    assert_eq!(verified(&cli, &sound).0, [0, 0, 0], "{}", verified(&cli, &sound).1);
    let (codes, said) = verified(&cli, &no_manifest);
    assert_eq!(codes, [0, 4, 4], "{said}");
    assert!(said.contains("manifest of snapshot"), "{said}");
    let (codes, said) = verified(&cli, &wrong_count);
    assert_eq!(codes, [0, 0, 4], "{said}");
    assert!(said.contains("lists 2 files with 5 bytes"), "{said}");
    assert!(said.contains("holds 1 file with 5 bytes"), "{said}");
    damage(&room.path().join("repository"));
    assert_eq!(verified(&cli, &sound).0, [4, 4, 4]);
}
