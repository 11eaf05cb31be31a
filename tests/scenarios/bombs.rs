//! Small objects that expand to huge ones. Each costs its own snapshot, and neither memory nor
//! time: the program runs as a child, and the kernel measures it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use backup_core::format::BlobKind;
use backup_core::id::{BlobId, KeyId, SnapshotId};
use backup_core::testing::tool;
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::crafted::Crafted;
use crate::support::crafted_nodes::{Parts, directory, file};
use crate::support::measured::measured;
use crate::support::process::{Outcome, run};
use crate::support::restic::text;

/// A frame of zstd: `times` the text `repeated` between two others. The frame states its length if
/// `stated`.
pub(super) fn frame(
    before: &str,
    repeated: &str,
    times: usize,
    after: &str,
    stated: bool,
) -> Vec<u8> {
    let len = before.len() + repeated.len() * times + after.len();
    let mut zstd = Command::new(tool("zstd"));
    zstd.args(["-3", "-c", "-q"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    if stated {
        zstd.arg(format!("--stream-size={len}"));
    }
    let mut child = zstd.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let at_once = (1 << 20) / repeated.len() + 1;
    let (before, after) = (before.to_owned(), after.to_owned());
    let piece = repeated.repeat(at_once);
    let rest = repeated.repeat(times % at_once);
    let writing = std::thread::spawn(move || {
        input.write_all(before.as_bytes()).unwrap();
        (0..times / at_once).for_each(|_| input.write_all(piece.as_bytes()).unwrap());
        input.write_all(rest.as_bytes()).unwrap();
        input.write_all(after.as_bytes()).unwrap();
    });
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// A repository with a sound snapshot, and another one for a bomb.
struct Place {
    room: TempDir,
    cli: Cli,
    crafted: Crafted,
    parts: Parts,
    good: SnapshotId,
}

impl Place {
    async fn new() -> Self {
        let (room, _, cli, mut crafted) = Crafted::in_new_repository().await;
        let blob = crafted.blob(BlobKind::Data, b"hello").to_hex();
        let parts = Parts { blob, directory: String::new() };
        let data = crafted.directory(&[file(&parts, "good")]);
        let good = Self::root(&mut crafted, &parts, &data);
        Self { room, cli, crafted, parts, good }
    }

    /// A snapshot whose directory `/data` is this one.
    fn root(crafted: &mut Crafted, parts: &Parts, data: &BlobId) -> SnapshotId {
        let root = crafted.directory(&[directory(parts, "data", &data.to_hex())]);
        crafted.snapshot(&root)
    }

    /// A snapshot whose directory `/data` is a bomb.
    fn tree(&mut self, frame: &[u8], length: usize) -> SnapshotId {
        let length = u32::try_from(length).unwrap();
        let id = BlobId::digest(frame);
        let id = self.crafted.compressed(BlobKind::Tree, id, frame, length);
        Self::root(&mut self.crafted, &self.parts, &id)
    }

    fn stored(self) -> Stored {
        self.crafted.finish();
        Stored { room: self.room, cli: self.cli, good: self.good }
    }
}

struct Stored {
    room: TempDir,
    cli: Cli,
    good: SnapshotId,
}

impl Stored {
    /// Runs the program within the limits of memory and time.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Outcome {
        measured(&self.cli, arguments)
    }

    fn target(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// The sound snapshot is listed and restored.
    #[track_caller]
    fn assert_usable(&self) {
        let good = self.good.to_hex();
        let listed = self.run(&["list"]);
        assert!(listed.text().contains(&self.good.short()), "{listed}");
        let target = self.target("good");
        self.run(&["restore", &good, "--target", text(&target)]).succeeded();
        assert_eq!(fs::read(target.join("data/good")).unwrap(), b"hello");
        fs::remove_dir_all(target).unwrap();
    }

    /// A check finds the bomb and names it.
    #[track_caller]
    fn assert_found(&self, named: &str) {
        let checked = self.run(&["check"]);
        assert_eq!(checked.code, 4, "{checked}");
        assert!(checked.text().contains(named), "{named}: {checked}");
    }

    /// A bomb in the directory `/data` of a snapshot is named by every verb.
    #[track_caller]
    fn assert_named(&self, bomb: SnapshotId) {
        self.assert_usable();
        self.assert_found(&format!("snapshot {}: /data", bomb.short()));
        let (id, target) = (bomb.to_hex(), self.target("bomb"));
        let verified = self.run(&["verify", &id]);
        assert_eq!(verified.code, 4, "{verified}");
        let restored = self.run(&["restore", &id, "--target", text(&target)]);
        assert_eq!(restored.code, 4, "{restored}");
        assert!(restored.stderr.contains("/data"), "{restored}");
        let copy = self.target("copy");
        let like = text(&self.target("repository")).to_owned();
        self.run(&["init", "-r", text(&copy), "--like", &like]).succeeded();
        let copied = self.run(&["copy", &id, "--to", text(&copy)]);
        assert_eq!(copied.code, 4, "{copied}");
    }
}

mod needs_zstd_and_time {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_snapshot_objects() {
        let head = format!("{{\"time\":\"2026-02-01T00:00:00Z\",\"tree\":\"{}\",", "ab".repeat(32));
        for (field, repeated, times) in [
            ("\"paths\":[", "\"\",", 300_000_000),
            ("\"x\":[", "0,", 7_000_000),
            ("\"x\":{\"a\":[", "{\"a\":0},", 1_000_000),
            ("\"hostname\":\"", "a", 1_000_000_000),
        ] {
            let place = Place::new().await;
            let before = format!("{head}{field}");
            let bomb = place
                .crafted
                .compressed_object("snapshots", &frame(&before, repeated, times, "0]}", false));
            let stored = place.stored();
            stored.assert_usable();
            stored.assert_found(&bomb[..8]);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_index_objects() {
        let (id, blob) = ("ab".repeat(32), "cd".repeat(32));
        let pack = format!("{{\"id\":\"{id}\",\"blobs\":[]}},");
        let other = format!("{{\"blobs\":[],\"id\":\"{id}\"}},");
        let blob = format!("{{\"id\":\"{blob}\",\"type\":\"data\",\"offset\":0,\"length\":9}},");
        let blobs = format!("{{\"packs\":[{{\"id\":\"{id}\",\"blobs\":[");
        for (before, repeated, times) in [
            ("{\"packs\":[", &pack[..], 10_000_000),
            ("{\"packs\":[", &other, 10_000_000),
            (&blobs, &blob, 10_000_000),
            ("{\"supersedes\":[", "[],", 300_000_000),
            ("", " ", 1_000_000_000),
        ] {
            let place = Place::new().await;
            let text = frame(before, repeated, times, "0]}", true);
            let bomb = place.crafted.compressed_object("index", &text);
            let stored = place.stored();
            stored.assert_usable();
            stored.assert_found(&bomb[..8]);
        }
    }

    /// Directories within the limit of length whose entries take too much memory, and others that are
    /// longer than the index states.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_directories() {
        let node = "{\"name\":\"a\",\"type\":\"file\"},";
        let id = format!("\"{}\",", "ab".repeat(32));
        let attribute = "{\"name\":\"\"},";
        for (before, repeated, times, after) in [
            ("", node, 9_000_000, "null"),
            ("", "0,", 100_000_000, "0"),
            ("{\"name\":\"a\",\"type\":\"file\",\"content\":[", &id, 3_900_000, "0]}"),
            ("{\"name\":\"a\",\"extended_attributes\":[", attribute, 20_000_000, "0]}"),
            ("{\"name\":\"a\",\"user\":\"", "a", 250_000_000, "\"}"),
        ] {
            let before = format!("{{\"nodes\":[{before}");
            let after = format!("{after}]}}");
            let length = before.len() + repeated.len() * times + after.len();
            let bomb = frame(&before, repeated, times, &after, true);
            for stated in [length, 1000] {
                let mut place = Place::new().await;
                let snapshot = place.tree(&bomb, stated);
                place.stored().assert_named(snapshot);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_directory_longer_than_accepted() {
        let node = "{\"name\":\"a\",\"type\":\"file\"},";
        let bomb = frame("{\"nodes\":[", node, 100_000_000, "null]}", true);
        let mut place = Place::new().await;
        let snapshot = place.tree(&bomb, 2_700_000_016);
        place.stored().assert_named(snapshot);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_data_blobs() {
        for (stated, length) in [(true, u32::MAX), (true, 3_000_000_000), (false, 1 << 20)] {
            let mut place = Place::new().await;
            let bomb = frame("", "\0", 600_000_000, "", stated);
            let id = BlobId::digest(&bomb);
            let blob = place.crafted.compressed(BlobKind::Data, id, &bomb, length).to_hex();
            let size = format!("\"size\":{length},");
            let parts = Parts { blob, directory: String::new() };
            let node = file(&parts, "bomb").replace("\"size\":5,", &size);
            let data = place.crafted.directory(&[node, file(&place.parts, "good")]);
            let snapshot = Place::root(&mut place.crafted, &place.parts, &data);
            let stored = place.stored();
            stored.assert_usable();
            let (id, target) = (snapshot.to_hex(), stored.target("bomb"));
            let restored = stored.run(&["restore", &id, "--target", text(&target)]);
            assert_eq!(restored.code, 4, "{restored}");
            assert!(restored.stderr.contains("/data/bomb"), "{restored}");
            assert_eq!(fs::read(target.join("data/good")).unwrap(), b"hello");
            assert!(!target.join("data/bomb").exists());
            assert_eq!(stored.run(&["verify", &id]).code, 4);
            let checked = stored.run(&["check", "--read-data"]);
            assert_eq!(checked.code, 4, "{checked}");
            assert!(checked.text().contains("/data/bomb"), "{checked}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_depth() {
        let mut place = Place::new().await;
        let mut tree = place.crafted.directory(&[file(&place.parts, "bottom")]);
        for _ in 0..100_000 {
            tree = place.crafted.directory(&[directory(&place.parts, "d", &tree.to_hex())]);
        }
        let snapshot = Place::root(&mut place.crafted, &place.parts, &tree);
        let stored = place.stored();
        stored.assert_usable();
        stored.assert_found(&format!("snapshot {}: /data/d/d/", snapshot.short()));
        let (id, target) = (snapshot.to_hex(), stored.target("deep"));
        for (arguments, code) in [
            (&["verify", &id][..], 4),
            (&["restore", &id, "--target", text(&target)], 4),
            (&["ls", &id, "-R"], 4),
            (&["repair", "--dry-run"], 0),
        ] {
            let done = stored.run(arguments);
            assert_eq!(done.code, code, "{done}");
        }
        // Shorter than the longest path that a program can name at once.
        let deepest = "d/".repeat(1900);
        assert!(target.join("data").join(&deepest).is_dir());
        run(Command::new("rm").arg("-rf").arg(&target)).succeeded();
    }

    /// A key file that demands 512 MiB, beside the one that opens the repository.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_key_files() {
        let place = Place::new().await;
        let keys = place.room.path().join("repository/keys");
        for n in [1_u64 << 19, 1 << 31] {
            let json = format!(
                r#"{{"kdf":"scrypt","N":{n},"r":8,"p":1,"salt":"AAAA","data":"AAAA","created":null}}"#
            );
            fs::write(keys.join(KeyId::digest(json.as_bytes()).to_hex()), json).unwrap();
        }
        let stored = place.stored();
        stored.assert_usable();
    }
}
