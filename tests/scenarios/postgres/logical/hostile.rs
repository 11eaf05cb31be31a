//! Crafted descriptions in logical backups: a restore refuses them, and leaves the server alone.

use std::path::Path;
use std::time::{Duration, Instant};

use backup_core::format::{BlobKind, write_tree};
use backup_core::id::{BlobId, SnapshotId};
use backup_core::repository::SnapshotReader;
use backup_core::source::EntryPath;
use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Version, backed_up_shop, digests, value_of};
use crate::support::crafted::Crafted;
use crate::support::postgres::Postgres;
use crate::support::repo::{Repo, local};

const SHOP: &str = "CREATE TABLE notes (id int PRIMARY KEY, t text); INSERT INTO notes SELECT n, \
                    'n' FROM generate_series(1, 100) n; CREATE TABLE other (id int)";

/// Stands for 100 000 lists in each other, which this library could not hold.
const NESTED: &str = "nested";

/// A change of the description of the database.
type Change = fn(&mut Value);

fn cases() -> Vec<(&'static str, Change)> {
    vec![
        ("tables that are partitions of each other", |manifest| {
            manifest["tables"][0]["partition_of"] = json!(["public", "other"]);
            manifest["tables"][1]["partition_of"] = json!(["public", "notes"]);
        }),
        ("table that is a partition of itself", |manifest| {
            manifest["tables"][0]["partition_of"] = json!(["public", "notes"]);
        }),
        ("table that is listed twice", |manifest| {
            let table = manifest["tables"][0].clone();
            manifest["tables"].as_array_mut().unwrap().push(table);
        }),
        ("rows elsewhere", |manifest| {
            manifest["tables"][0]["files"][0]["path"] = json!("../../../../../../etc/passwd");
        }),
        ("rows at an absolute path", |manifest| {
            manifest["tables"][0]["files"][0]["path"] = json!("/etc/passwd");
        }),
        ("columns that are SQL", |manifest| {
            manifest["tables"][0]["columns"] = json!(["id) FROM stdin; DROP TABLE x; --"]);
        }),
        ("encoding that is SQL", |manifest| {
            manifest["encoding"] = json!("UTF8'; CREATE DATABASE escaped; --");
        }),
        ("pattern that cannot be read", |manifest| manifest["include"] = json!(["[a"])),
        ("later form", |manifest| manifest["form"] = json!(u32::MAX)),
        ("negative number of rows", |manifest| {
            manifest["tables"][0]["files"][0]["rows"] = json!(-1);
        }),
        ("no tables", |manifest| manifest["tables"] = json!({})),
        ("100 000 levels", |manifest| manifest["include"] = json!(NESTED)),
    ]
}

/// The directory `tree` with another content of the file at `path`.
async fn changed(
    crafted: &mut Crafted,
    reader: &SnapshotReader,
    tree: BlobId,
    path: &[&str],
    content: &[u8],
) -> BlobId {
    let mut nodes = reader.tree(&tree).await.unwrap().nodes;
    let [name, below @ ..] = path else { panic!("the path ends early") };
    let node = nodes.iter_mut().find(|node| *node.name == *name.as_bytes()).unwrap();
    match node.subtree {
        Some(subtree) => {
            node.subtree = Some(Box::pin(changed(crafted, reader, subtree, below, content)).await);
        }
        None => {
            node.content = vec![crafted.blob(BlobKind::Data, content)];
            node.metadata.size = content.len() as u64;
        }
    }
    crafted.blob(BlobKind::Tree, &write_tree(&mut nodes, &TimeZone::UTC).unwrap())
}

/// The snapshot with a changed description of its database `shop`.
async fn described(
    crafted: &mut Crafted,
    reader: &SnapshotReader,
    system: &str,
    change: Change,
) -> SnapshotId {
    let path = ["postgres", system, "logical", "shop", "manifest.json"];
    let file = EntryPath::new(format!("/{}", path.join("/")).as_bytes()).unwrap();
    let node = reader.find(&file).await.unwrap().unwrap();
    let pieces: Vec<Bytes> = reader.content(&node).try_collect().await.unwrap();
    let mut manifest: Value = serde_json::from_slice(&pieces.concat()).unwrap();
    change(&mut manifest);
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let json = manifest.to_string().replace(&format!("{NESTED:?}"), &nested);
    let tree = changed(crafted, reader, reader.root_id(), &path, json.as_bytes()).await;
    let mut snapshot = serde_json::to_value(reader.snapshot()).unwrap();
    snapshot["tree"] = json!(tree.to_hex());
    crafted.snapshot_object(snapshot.to_string().as_bytes())
}

/// All databases of a server.
async fn databases(server: &Postgres) -> String {
    let query = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    value_of(server, "postgres", query).await
}

pub(crate) async fn crafted_descriptions_are_refused(version: Version) {
    let (server, place) = backed_up_shop(version, SHOP).await;
    let dir = place.path("repository");
    let repo = Repo::open(local(Path::new(&dir)), "key").await.unwrap();
    let id = repo.snapshots().await.pop().unwrap().id;
    let reader = repo.reader(id).await;
    let system =
        value_of(&server, "postgres", "SELECT system_identifier::text FROM pg_control_system()")
            .await;
    let mut crafted = Crafted::within(Path::new(&dir), &repo.passphrase);
    let sound = described(&mut crafted, &reader, &system, |_| {}).await;
    let mut stored = Vec::new();
    for (name, change) in cases() {
        stored.push((name, described(&mut crafted, &reader, &system, change).await));
    }
    crafted.finish();
    let target = Postgres::start(version).await;
    let before = databases(&target).await;
    for (name, id) in stored {
        let begun = Instant::now();
        let id = id.to_hex();
        let done =
            place.run(&["restore", &id, "--target", &target.uri(), "--only", "shop", "--yes"]);
        assert!(matches!(done.code, 1..=4), "{name}: {done}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}: {done}");
        let text = format!("{}{}", done.text(), done.stderr);
        assert!(!text.contains("root:"), "{name}: {text}");
        // An interrupted restore leaves this database, and the next one drops it.
        target.run("DROP DATABASE IF EXISTS \"shop (restoring)\"").await;
        assert_eq!(databases(&target).await, before, "{name}: {text}");
    }
    place.done(&["restore", &sound.to_hex(), "--target", &target.uri(), "--only", "shop", "--yes"]);
    let (restored, expected) = (digests(&target).await, digests(&server).await);
    for table in ["shop.public.notes", "shop.public.other"] {
        assert_eq!(restored[table], expected[table]);
    }
}
