//! RDB files that become snapshots.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::data::fill;
use crate::support::cli::Cli;
use crate::support::process::run;
use crate::support::redis::{Redis, Version};

struct Place {
    cli: Cli,
    room: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let cli = Cli::new(&room.path().join("repository"), "key");
        cli.run(&["init"]).succeeded();
        Self { cli, room }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn import(&self, file: &Path, more: &[&str]) -> Value {
        let import = ["import", "--rdb", file.to_str().unwrap(), "--job", "cache"];
        self.cli.summary(&[&import[..], more].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let done = self.cli.run(&[arguments, &["--json"]].concat()).succeeded();
        serde_json::from_str(&done.text()).unwrap()
    }
}

/// The file that a server saves, which has the form of `redis-cli --rdb`.
fn saved(server: &Redis, place: &Place) -> PathBuf {
    server.run(&["SAVE"]);
    let setting = |name: &str| server.run(&["CONFIG", "GET", name]).list()[1].text();
    let written = Path::new(&setting("dir")).join(setting("dbfilename"));
    let copied = place.path("saved.rdb");
    std::fs::copy(written, &copied).unwrap();
    copied
}

pub(super) async fn imported_rdb_file_joins_the_job(version: Version) {
    let (origin, target) = (Redis::start(version), Redis::start(version));
    fill(&origin);
    let place = Place::new();
    let file = saved(&origin, &place);
    let content = std::fs::read(&file).unwrap();
    let name = format!("127.0.0.1:{}", origin.port());
    let first = place.import(&file, &["--name", &name, "--time", "2022-05-01T03:00:00Z"]);
    let mut gzip = Command::new("gzip");
    run(gzip.arg(&file)).succeeded();
    let packed = place.path("saved.rdb.gz");
    // The name is known by now, and the server has written the time into the file.
    let second = place.import(&packed, &["--gzip", "--tier", "monthly"]);
    assert_eq!((&first["time_source"], &second["time_source"]), (&"given".into(), &"dump".into()));
    for snapshot in [&first, &second] {
        let id = snapshot["snapshot"].as_str().unwrap();
        let restore = ["restore", id, "--target", &target.address(), "--verify", "--yes"];
        let more = ["--if-exists", "replace"];
        place.cli.run(&[&restore[..], &more].concat()).succeeded();
        assert_eq!(origin.debug_digest(), target.debug_digest());
        if version >= Version::Redis7 {
            assert_eq!(target.run(&["FUNCTION", "LIST"]).list().len(), 2);
        }
        let shown = place.cli.run(&["show", id]).succeeded().text();
        assert!(shown.contains("imported") && shown.contains("Imported from an RDB"), "{shown}");
        let log = &place.json(&["show", id])["manifest"]["checkpoint"]["log"];
        assert_eq!(*log, Value::Null, "no later moment is claimed");
        target.run(&["FLUSHALL"]);
    }
    // A real backup joins the same stream, and a directory takes an imported file as it was.
    let run_it = ["run", "--source", &origin.address(), "--job", "cache"];
    let built = place.cli.summary(&[&run_it[..], &["--type", "incremental"]].concat());
    assert_eq!(built["type"], "full", "an RDB file is no base: {built}");
    let all = place.json(&["list"])["snapshots"].as_array().unwrap().clone();
    assert!(all.iter().all(|one| one["paths"] == all[0]["paths"] && one["host"] == all[0]["host"]));
    assert_eq!(all[2]["id"], built["snapshot"]);
    let directory = place.path("out");
    let id = first["snapshot"].as_str().unwrap();
    place.cli.run(&["export", id, "--to", directory.to_str().unwrap()]).succeeded();
    let exported = std::fs::read(directory.join("dump.rdb")).unwrap();
    assert!(exported == content, "an export is the file");
    place.cli.check();
}

pub(super) async fn damaged_rdb_files_become_no_snapshot(version: Version) {
    let origin = Redis::start(version);
    fill(&origin);
    let place = Place::new();
    let whole = std::fs::read(saved(&origin, &place)).unwrap();
    let broken = place.path("broken.rdb");
    let refused = |bytes: &[u8], expected: &str| {
        std::fs::write(&broken, bytes).unwrap();
        let import = ["import", "--rdb", broken.to_str().unwrap(), "--job", "c", "--name", "h:1"];
        let outcome = place.cli.run(&import);
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert!(outcome.code != 0 && text.contains(expected), "{expected}: {text}");
    };
    for at in [11, 40, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..at], "unexpected end of the file");
    }
    let mut flipped = whole.clone();
    let at = whole.len() - 100;
    flipped[at] ^= 1;
    refused(&flipped, "the dump cannot be loaded");
    let mut later = whole;
    later[5..9].copy_from_slice(b"0099");
    refused(&later, "unknown RDB version");
    refused(b"\x6d\xe2\x99\x81", "--mongodump");
    let import = ["import", "--rdb", place.room.path().to_str().unwrap(), "--job", "c"];
    assert_ne!(place.cli.run(&[&import[..], &["--name", "h:1"]].concat()).code, 0);
    assert!(place.json(&["list"])["snapshots"].as_array().unwrap().is_empty());
}
