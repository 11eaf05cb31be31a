//! Old dumps of mongodump that become snapshots, and archives that are exported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bson::{Document, doc};
use serde_json::Value;

use super::own::{files, filled, tool};
use crate::support::cli::Cli;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};
use crate::support::mongodump::{compress, dump, newest, oplog, pack, unpack};

struct Place {
    cli: Cli,
    room: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let cli = Cli::new(&room.path().join("repository"), "key");
        let place = Self { cli, room };
        place.done(&["init"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        self.cli.run(arguments).succeeded().text()
    }

    /// Fails with a hint; returns the text.
    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        let outcome = self.cli.run(arguments);
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert!(outcome.code != 0 && text.contains("Hint:"), "{}: {text}", outcome.code);
        text
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Imports a dump into job `shop` of the set `rs`; returns the summary.
    #[track_caller]
    fn import(&self, path: &Path, more: &[&str]) -> Value {
        let path = path.to_str().unwrap();
        let import = ["import", "--mongodump", path, "--job", "shop", "--name", "rs"];
        self.cli.summary(&[&import[..], more].concat())
    }

    #[track_caller]
    fn refuses(&self, path: &Path, more: &[&str]) -> String {
        let path = path.to_str().unwrap();
        let import = ["import", "--mongodump", path, "--job", "shop", "--name", "rs"];
        self.fails(&[&import[..], more].concat())
    }

    fn snapshots(&self) -> Vec<Value> {
        self.json(&["list"])["snapshots"].as_array().unwrap().clone()
    }

    #[track_caller]
    fn restore(&self, snapshot: &Value, target: &Mongod, more: &[&str]) {
        let id = snapshot["snapshot"].as_str().unwrap();
        let restore = ["restore", id, "--target", target.uri(), "--verify", "--yes", "--no-users"];
        self.done(&[&restore[..], more].concat());
    }
}

/// A server with everything that mongodump takes.
async fn origin(version: Version) -> Mongod {
    let origin = filled(version).await;
    if version.has_time_series() {
        for name in ["twin", "system.buckets.twin", "system.buckets.orphan"] {
            origin.run("odd", doc! { "drop": name }).await;
        }
    }
    origin
}

/// Rewrites descriptions as tools of the time before UUIDs wrote them.
fn without_uuids(directory: &Path) {
    for (path, bytes) in files(directory) {
        if path.extension() != Some("json".as_ref()) {
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        let at = text.find(",\"uuid\"").unwrap_or(text.len() - 1);
        let end = text[at..].find("\"}").map_or(text.len() - 1, |length| at + length + 1);
        std::fs::write(directory.join(path), format!("{}{}", &text[..at], &text[end..])).unwrap();
    }
}

pub(super) async fn imported_dump_joins_the_job(version: Version) {
    let (origin, target) = (origin(version).await, Mongod::start(version).await);
    let place = Place::new();
    let directory = place.path("dump");
    dump(&origin.client, &directory, None).await;
    let expected = state(&origin.client).await;
    let first = place.import(&directory, &["--time", "2022-05-01T03:00:00Z"]);
    assert_eq!((&first["time_source"], &first["is_part"]), (&"given".into(), &false.into()));
    place.restore(&first, &target, &[]);
    same(&expected, &state(&target.client).await);
    place.done(&["verify", "latest", "--level", "deep"]);
    place.done(&["compare", "latest", "--with", target.uri()]);
    place.cli.check();

    // Compressed, with the time of the newest file, as a dry run first.
    compress(&directory);
    let flags = ["--gzip", "--tier", "monthly"];
    place.import(&directory, &[&flags[..], &["--dry-run"]].concat());
    assert_eq!(place.snapshots().len(), 1);
    let second = place.import(&directory, &flags);
    assert_eq!(second["time_source"], "files");
    target.clear().await;
    place.restore(&second, &target, &[]);
    same(&expected, &state(&target.client).await);
    assert_eq!(second["stored"]["data_blobs"], 1, "documents are stored once: {second}");

    // A dump of the time before UUIDs, and real backups of the same set.
    let old = place.path("old");
    dump(&origin.client, &old, None).await;
    without_uuids(&old);
    assert!(place.refuses(&old, &["--gzip"]).contains("not compressed"));
    let third = place.import(&old, &["--time", "2021-01-01T00:00:00Z"]);
    target.clear().await;
    place.restore(&third, &target, &[]);
    same(&expected, &state(&target.client).await);
    let run = ["run", "--source", origin.uri(), "--job", "shop", "--type", "incremental"];
    let built = place.cli.summary(&run);
    assert_eq!(built["type"], "full", "a dump is no base: {built}");

    let all = place.snapshots();
    let times: Vec<&str> = all.iter().map(|one| one["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times[0].starts_with("2021-01-01"), "{times:?}");
    let identity = |one: &Value| (one["host"].clone(), one["paths"].clone());
    assert!(all.iter().all(|one| identity(one) == identity(&all[3])), "{all:?}");
    assert_eq!(all[3]["id"], built["snapshot"]);
    let shown = place.done(&["show", first["snapshot"].as_str().unwrap()]);
    assert!(shown.contains("imported") && shown.contains("Imported from a dump"), "{shown}");
    assert!(shown.contains("No captured log continues it"), "{shown}");
    let timeline = place.json(&["timeline", "shop"]);
    assert_eq!(timeline["imported"].as_array().unwrap().len(), 3, "{timeline}");
    let bases = timeline["bases"].as_array().unwrap();
    assert_eq!(bases.len(), 1, "no dump is the base of a log: {timeline}");
    let drawn = place.done(&["timeline", "shop"]);
    assert!(drawn.contains("restorable to its own moment only"), "{drawn}");
    let adopted = std::fs::read_dir(place.path("repository/x-adopted")).unwrap().count();
    assert_eq!(adopted, 4, "the beginning, and three dumps");
    // Retention counts dumps for their own years: of this year, the newest snapshot stays.
    let config = format!(
        r#"
        [repositories.main]
        url = {:?}
        passphrase_env = "BACKUP_PASSWORD"
        [sources.shop]
        kind = "mongodb"
        url = {:?}
        [jobs.shop]
        source = "shop"
        repository = "main"
        keep = {{ yearly = 9 }}
        "#,
        place.path("repository"),
        origin.uri(),
    );
    std::fs::write(place.path("backup.toml"), config).unwrap();
    let file = place.path("backup.toml");
    place.done(&["--config", file.to_str().unwrap(), "cleanup", "shop", "--yes"]);
    let left = place.snapshots();
    let ids: Vec<&Value> = left.iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&third["snapshot"], &first["snapshot"], &built["snapshot"]]);
}

pub(super) async fn oplog_brings_a_dump_to_one_moment(version: Version) {
    let (origin, target) = (origin(version).await, Mongod::start(version).await);
    let place = Place::new();
    let directory = place.path("dump");
    let from = newest(&origin.client).await;
    dump(&origin.client, &directory, None).await;
    let documents: Vec<Document> = (0..500).map(|n| doc! { "_id": n, "n": n }).collect();
    origin.run("shop", doc! { "insert": "created", "documents": documents }).await;
    let set =
        doc! { "q": { "_id": { "$lt": 900 } }, "u": { "$set": { "group": -1 } }, "multi": true };
    origin.run("odd", doc! { "update": "many", "updates": [set] }).await;
    let gone = doc! { "q": { "_id": { "$gt": 2500 } }, "limit": 0 };
    origin.run("odd", doc! { "delete": "many", "deletes": [gone] }).await;
    origin.run("admin", doc! { "renameCollection": "odd.a+b", "to": "odd.renamed" }).await;
    origin.run("odd", doc! { "drop": "upper" }).await;
    let index = doc! { "key": { "n": 1 }, "name": "late", "unique": true };
    origin.run("shop", doc! { "createIndexes": "created", "indexes": [index] }).await;
    oplog(&origin.client, from, &directory).await;
    let expected = state(&origin.client).await;
    let end = newest(&origin.client).await;

    for (name, is_gzip) in [("plain", false), ("packed", true)] {
        let archive = pack(&directory, &place.path(name), is_gzip);
        let imported = place.import(&archive, if is_gzip { &["--gzip"] } else { &[] });
        assert_eq!(imported["time_source"], "dump");
        target.clear().await;
        place.restore(&imported, &target, &[]);
        same(&expected, &state(&target.client).await);
        let id = imported["snapshot"].as_str().unwrap();
        let manifest = &place.json(&["show", id])["manifest"];
        let position = format!("{}:{}", end.time, end.increment);
        assert_eq!(manifest["checkpoint"]["position"], position.as_str());
        assert_eq!(manifest["checkpoint"]["log"], Value::Null, "no later moment is claimed");
        // No moment but its own.
        let later = format!("{}:{}", end.time + 60, 1);
        place.fails(&["restore", id, "--target", target.uri(), "--until", &later, "--yes"]);
    }
    // Descriptions without UUIDs: the oplog identifies the collections.
    without_uuids(&directory);
    let imported = place.import(&directory, &[]);
    target.clear().await;
    place.restore(&imported, &target, &[]);
    same(&expected, &state(&target.client).await);
}

pub(super) async fn dump_of_one_database_is_a_part(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for (db, name) in [("shop", "orders"), ("shop", "people"), ("crm", "leads")] {
        origin.run(db, doc! { "insert": name, "documents": [{ "_id": 1 }, { "_id": 2 }] }).await;
    }
    let place = Place::new();
    let directory = place.path("dump");
    dump(&origin.client, &directory, Some(&["shop"])).await;
    let imported = place.import(&directory, &[]);
    assert_eq!(imported["is_part"], true);
    assert!(
        place.fails(&["restore", "latest", "--job", "shop", "--target", target.uri()]).len() > 1
    );
    let shown = place.json(&["show", imported["snapshot"].as_str().unwrap()]);
    assert_eq!(shown["manifest"]["include"], serde_json::json!(["shop.orders", "shop.people"]));
    // Collections that the dump lacks stay, also with --delete.
    for (db, name) in [("shop", "other"), ("crm", "leads")] {
        target.run(db, doc! { "insert": name, "documents": [{ "_id": 7 }] }).await;
    }
    place.restore(&imported, &target, &["--if-exists", "replace", "--delete"]);
    let found = state(&target.client).await;
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["crm.leads", "shop.orders", "shop.other", "shop.people"]);
    let expected = state(&origin.client).await;
    assert_eq!(expected["shop.orders"], found["shop.orders"]);
    // Without a name, the dump joins the set that the job's newest snapshot is of.
    let arguments = ["import", "--mongodump", directory.to_str().unwrap(), "--job", "shop"];
    place.cli.summary(&arguments);
    let all = place.snapshots();
    assert_eq!(all[0]["paths"], all[1]["paths"]);
    // Without a snapshot, the server has to be known.
    let other = ["import", "--mongodump", directory.to_str().unwrap(), "--job", "other"];
    assert!(place.fails(&other).contains("--name"));
    let asked = place.cli.summary(&[&other[..], &["--source", origin.uri()]].concat());
    assert_eq!(asked["job"], "other");
}

pub(super) async fn damaged_dumps_become_no_snapshot(version: Version) {
    let origin = Mongod::start(version).await;
    let documents: Vec<Document> =
        (0..2000).map(|n| doc! { "_id": n, "text": format!("secret {n}") }).collect();
    origin.run("shop", doc! { "insert": "orders", "documents": documents.clone() }).await;
    origin.run("shop", doc! { "insert": "people", "documents": documents }).await;
    let place = Place::new();
    let (directory, archive) = (place.path("dump"), place.path("archive"));
    dump(&origin.client, &directory, None).await;
    pack(&directory, &archive, false);
    let whole = std::fs::read(&archive).unwrap();
    let broken = place.path("broken");
    let refused = |bytes: &[u8], expected: &str| {
        std::fs::write(&broken, bytes).unwrap();
        let text = place.refuses(&broken, &[]);
        assert!(text.contains(expected) && !text.contains("secret "), "{expected}: {text}");
    };
    for at in [5, 60, 900, whole.len() / 3, whole.len() / 2, whole.len() - 3] {
        refused(&whole[..at], "truncated");
    }
    let at = whole.windows(11).position(|bytes| bytes == b"secret 1999").unwrap();
    let mut flipped = whole.clone();
    flipped[at + 7] ^= 1;
    refused(&flipped, "the checksum of shop.");
    let mut other = whole;
    other[at - 23..at - 19].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    refused(&other, "damaged at byte");
    // gzip that ends in the middle.
    let packed = place.path("packed");
    pack(&directory, &packed, true);
    let packed = std::fs::read(&packed).unwrap();
    refused(&packed[..packed.len() / 2], "broken");
    // Directories: a cut document, one that is nested too deep, a description without documents.
    let file = directory.join("shop/orders.bson");
    let sound = std::fs::read(&file).unwrap();
    std::fs::write(&file, &sound[..sound.len() - 1]).unwrap();
    assert!(place.refuses_alone(&directory).contains("shop.orders"));
    let mut deep = vec![5, 0, 0, 0, 0];
    for _ in 1..100_000 {
        let length = i32::try_from(deep.len() + 8).unwrap();
        deep = [&length.to_le_bytes()[..], b"\x03a\0", &deep, &[0]].concat();
        if deep.len() > 300_000 {
            break;
        }
    }
    std::fs::write(&file, &deep).unwrap();
    assert!(place.refuses_alone(&directory).contains("levels of nesting"));
    std::fs::remove_file(&file).unwrap();
    assert!(place.refuses(&directory, &[]).contains("shop.orders"));
    // Dumps of other tools, by name.
    let mut tar = vec![0; 512];
    tar[..7].copy_from_slice(b"toc.dat");
    tar[257..262].copy_from_slice(b"ustar");
    let sql = b"--\n-- PostgreSQL database dump\n--\n";
    for bytes in [&b"PGDMP\x01\x0e\x00"[..], &tar, sql] {
        refused(bytes, "pg_dump");
        let rdb = ["import", "--rdb", broken.to_str().unwrap(), "--job", "c", "--name", "h:1"];
        assert!(place.fails(&rdb).contains("pg_dump"));
    }
    std::fs::write(directory.join("toc.dat"), b"PGDMP").unwrap();
    assert!(place.refuses(&directory, &[]).contains("pg_dump"));
    refused(b"REDIS0011\xfa", "--rdb");
    refused(b"nothing of the kind", "no known dump");
    assert!(place.snapshots().is_empty());
}

impl Place {
    /// Fails; the text has no hint that helps with a damaged file.
    #[track_caller]
    fn refuses_alone(&self, path: &Path) -> String {
        let path = path.to_str().unwrap();
        let import = ["import", "--mongodump", path, "--job", "shop", "--name", "rs"];
        let outcome = self.cli.run(&import);
        assert_ne!(outcome.code, 0);
        format!("{}{}", outcome.text(), outcome.stderr)
    }
}

/// Documents of a file, as a set.
fn documents(bytes: &[u8]) -> BTreeMap<Vec<u8>, usize> {
    let (mut found, mut rest) = (BTreeMap::new(), bytes);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        *found.entry(rest[..length].to_vec()).or_default() += 1;
        rest = &rest[length..];
    }
    found
}

/// Fails unless two directories hold the same descriptions and documents.
#[track_caller]
fn same_dumps(expected: &Path, found: &Path) {
    let (expected, found) = (files(expected), files(found));
    let is_content = |(path, bytes): &(&PathBuf, &Vec<u8>)| {
        path.extension() == Some("json".as_ref()) || !bytes.is_empty()
    };
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files.iter().filter(is_content).map(|(path, _)| path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&expected), names(&found));
    for (path, expected) in expected.iter().filter(is_content) {
        let (found, shown) = (&found[path], path.display());
        match path.extension() == Some("json".as_ref()) {
            true => assert_eq!(expected, found, "{shown}"),
            false => assert!(documents(expected) == documents(found), "{shown}"),
        }
    }
}

pub(super) async fn exported_archive_equals_an_exported_directory(version: Version) {
    let (origin, target) = (origin(version).await, Mongod::start(version).await);
    let place = Place::new();
    let run = ["run", "--source", origin.uri(), "--job", "shop"];
    place.done(&run);
    let expected = state(&origin.client).await;
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    place.done(&["export", "latest", "--to", &path("plain")]);
    place.done(&["export", "latest", "--to", &path("gzip"), "--gzip"]);
    let mut gunzip = std::process::Command::new("gzip");
    crate::support::process::run(gunzip.args(["-dr", &path("gzip")])).succeeded();
    same_dumps(&place.path("plain"), &place.path("gzip"));
    for (name, more) in [("archive", &[][..]), ("archive.gz", &["--gzip"])] {
        let export = ["export", "latest", "--archive", &path(name)];
        place.done(&[&export[..], more].concat());
        let unpacked = place.path(&format!("{name} unpacked"));
        unpack(&place.path(name), &unpacked);
        same_dumps(&place.path("plain"), &unpacked);
        // It exists now.
        place.fails(&[&export[..], more].concat());
        place.done(&[&export[..], &["--if-exists", "replace"], more].concat());
        // The archive becomes a snapshot again.
        let imported = place.import(&place.path(name), &["--time", "2020-01-01T00:00:00Z"]);
        target.clear().await;
        place.restore(&imported, &target, &[]);
        same(&expected, &state(&target.client).await);
    }
    let stdout = place.cli.run(&["export", "latest", "--archive", "-"]).succeeded();
    assert_eq!(stdout.stdout, std::fs::read(place.path("archive")).unwrap());
    let both = place.cli.run(&["export", "latest", "--archive", "-", "--json"]);
    let begins_an_archive = both.stdout.starts_with(&[0x6d, 0xe2, 0x99, 0x81]);
    assert_eq!((both.code, begins_an_archive), (2, false));
    let part = ["export", "latest", "--archive", &path("part"), "--only", "odd.many,Ödd-db.*"];
    place.done(&[&part[..], &["--rename", "odd.*=copy.*"]].concat());
    unpack(&place.path("part"), &place.path("part unpacked"));
    let names: Vec<PathBuf> = files(&place.path("part unpacked")).into_keys().collect();
    assert!(names.contains(&"copy/many.bson".into()) && names.len() == 4, "{names:?}");
}

pub(super) async fn lists_and_bare_names_select_collections(version: Version) {
    let origin = Mongod::start(version).await;
    for (db, name) in [("shop", "orders"), ("shop", "users"), ("crm", "users"), ("crm", "x,y")] {
        origin.run(db, doc! { "insert": name, "documents": [{ "_id": 1 }] }).await;
    }
    let place = Place::new();
    let run = |more: &[&str]| {
        let run = ["run", "--source", origin.uri(), "--job", "shop"];
        place.cli.summary(&[&run[..], more].concat());
        let manifest = place.json(&["show", "latest"])["manifest"].clone();
        manifest["objects"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(run(&["--only", "shop.orders,crm.u*"]), ["crm.users", "shop.orders"]);
    assert_eq!(
        run(&["--only", r"crm.x\,y, shop.{orders,users}"]),
        ["crm.x,y", "shop.orders", "shop.users"]
    );
    assert_eq!(run(&["--exclude", "admin,*.users,crm.*"]), ["shop.orders"]);
    let bare = ["run", "--source", origin.uri(), "--job", "shop", "--only", "users"];
    let text = place.fails(&bare);
    assert!(text.contains("DATABASE.users") && text.contains("'*.users'"), "{text}");
    let target = Mongod::start(version).await;
    let restore = ["restore", "latest", "--target", target.uri(), "--yes", "--only"];
    let text = place.fails(&[&restore[..], &["orders"]].concat());
    assert!(text.contains("DATABASE.orders"), "{text}");
    let to = place.path("out").to_str().unwrap().to_owned();
    let text = place.fails(&["export", "latest", "--to", &to, "--only", "orders"]);
    assert!(text.contains("DATABASE.orders"), "{text}");
    place.done(&[&restore[..], &["shop.orders,shop.o*"]].concat());
}

/// Stock mongodump, as directory and archive, compressed or not, with its oplog.
pub(super) async fn dump_of_stock_mongodump_comes_back(version: Version) {
    let (origin, target) = (origin(version).await, Mongod::start(version).await);
    let expected = state(&origin.client).await;
    let place = Place::new();
    for (name, more) in [
        ("dir", &["--out"][..]),
        ("dir gzip", &["--gzip", "--out"]),
        ("archive", &["--oplog", "--archive"]),
        ("archive gzip", &["--oplog", "--gzip", "--archive"]),
    ] {
        let (flag, more) = more.split_last().unwrap();
        let path = format!("{flag}={}", place.path(name).display());
        tool("MONGODUMP", &origin, &[more, &[&path]].concat());
        let imported = place.import(&place.path(name), &[]);
        target.clear().await;
        place.restore(&imported, &target, &[]);
        same(&expected, &state(&target.client).await);
    }
}

/// Stock mongorestore reads exported archives and compressed directories.
pub(super) async fn stock_mongorestore_takes_archives(version: Version) {
    let (origin, target) = (origin(version).await, Mongod::start(version).await);
    // The tool replaces empty timestamps of capped collections at their end.
    origin.run("odd", doc! { "drop": "capped empty" }).await;
    let expected = state(&origin.client).await;
    let place = Place::new();
    place.done(&["run", "--source", origin.uri(), "--job", "shop"]);
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    place.done(&["export", "latest", "--to", &path("dir"), "--gzip"]);
    place.done(&["export", "latest", "--archive", &path("plain")]);
    place.done(&["export", "latest", "--archive", &path("packed"), "--gzip"]);
    let (plain, packed) =
        (format!("--archive={}", path("plain")), format!("--archive={}", path("packed")));
    for more in [&["--gzip", &path("dir")][..], &[&plain], &["--gzip", &packed]] {
        target.clear().await;
        tool("MONGORESTORE", &target, &[&["--drop"], more].concat());
        same(&expected, &state(&target.client).await);
    }
}
