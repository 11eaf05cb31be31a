//! Dumps as mongodump writes them, made with plain commands of the driver: none of the code under
//! test takes part.

use std::path::{Path, PathBuf};
use std::process::Command;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;
use mongodb::Client;

use super::cli::workspace;
use super::process::run;

/// Escapes a name as a query of a URL.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The name of the files of a collection: a long one is cut off, and its hash follows.
fn stem(name: &str) -> String {
    use base64::Engine as _;
    use sha1::Digest as _;
    let escaped = escaped(name);
    if escaped.len() <= 238 {
        return escaped;
    }
    let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha1::Sha1::digest(name));
    format!("{}%24{hash}", &escaped[..208])
}

/// Canonical extended JSON, with the fields in their order.
fn json(value: &Bson) -> String {
    match value {
        Bson::Document(document) => {
            let fields = document
                .iter()
                .map(|(name, value)| format!("{}:{}", serde_json::json!(name), json(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Bson::Array(items) => {
            format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(","))
        }
        other => other.clone().into_canonical_extjson().to_string(),
    }
}

async fn all(client: &Client, db: &str, command: Document) -> Vec<Document> {
    let cursor = client.database(db).run_cursor_command(command).await.unwrap();
    cursor.try_collect().await.unwrap()
}

/// The bytes of documents that a command finds, one after another.
async fn raw(client: &Client, db: &str, command: Document) -> Vec<u8> {
    let command = RawDocumentBuf::try_from(&command).unwrap();
    let db = client.database(db);
    let mut cursor = db.run_raw_cursor_command(command).await.unwrap();
    let mut found = Vec::new();
    while cursor.advance().await.unwrap() {
        found.extend_from_slice(cursor.current().as_bytes());
    }
    found
}

/// The newest entry of the oplog.
pub(crate) async fn newest(client: &Client) -> bson::Timestamp {
    let find =
        doc! { "find": "oplog.rs", "sort": { "$natural": -1 }, "limit": 1, "singleBatch": true };
    all(client, "local", find).await[0].get_timestamp("ts").unwrap()
}

/// Writes the oplog from an entry on, as `mongodump --oplog` does.
pub(crate) async fn oplog(client: &Client, from: bson::Timestamp, directory: &Path) {
    let find = doc! { "find": "oplog.rs", "filter": { "ts": { "$gte": from } } };
    std::fs::write(directory.join("oplog.bson"), raw(client, "local", find).await).unwrap();
}

/// Writes everything, or these databases: views and time-series collections as their description.
pub(crate) async fn dump(client: &Client, directory: &Path, databases: Option<&[&str]>) {
    for db in client.list_database_names().await.unwrap() {
        let is_meant = databases.is_none_or(|meant| meant.contains(&&*db));
        if matches!(&*db, "config" | "local") || !is_meant {
            continue;
        }
        let place = directory.join(&db);
        std::fs::create_dir_all(&place).unwrap();
        for entry in all(client, &db, doc! { "listCollections": 1 }).await {
            one(client, &db, &entry, &place).await;
        }
    }
}

async fn one(client: &Client, db: &str, entry: &Document, place: &Path) {
    let (name, kind) = (entry.get_str("name").unwrap(), entry.get_str("type").unwrap());
    let is_buckets = name.starts_with("system.buckets.");
    let is_of_users = matches!(name, "system.users" | "system.roles" | "system.version");
    if name.starts_with("system.") && !is_buckets && name != "system.js" && !is_of_users {
        return;
    }
    if !is_buckets {
        let indexes = match kind {
            "view" => Vec::new(),
            _ => all(client, db, doc! { "listIndexes": name }).await,
        };
        let mut description = doc! {
            "options": entry.get_document("options").unwrap().clone(), "indexes": indexes,
            "collectionName": name, "type": kind,
        };
        if let Some(Bson::Binary(uuid)) = entry.get_document("info").unwrap().get("uuid") {
            description.insert("uuid", hex::encode(&uuid.bytes));
        }
        let path = place.join(format!("{}.metadata.json", stem(name)));
        std::fs::write(path, json(&Bson::Document(description))).unwrap();
    }
    // Stock tools write an empty file for a view.
    let documents = match kind {
        "collection" => raw(client, db, doc! { "find": name }).await,
        "view" => Vec::new(),
        _ => return,
    };
    std::fs::write(place.join(format!("{}.bson", stem(name))), documents).unwrap();
}

/// Compresses every file of a dump, as `mongodump --gzip` does.
pub(crate) fn compress(directory: &Path) {
    let mut command = Command::new("gzip");
    run(command.arg("-r").arg(directory)).succeeded();
}

fn script(arguments: &[&Path], more: &[&str]) {
    let mut command = Command::new("python3");
    command.arg(workspace().join("tests/support/mongodump.py")).arg(more[0]);
    run(command.args(arguments).args(&more[1..])).succeeded();
}

/// Makes an archive of a directory, with its collections by turns.
pub(crate) fn pack(directory: &Path, archive: &Path, is_gzip: bool) -> PathBuf {
    let more: &[&str] = if is_gzip { &["pack", "--gzip"] } else { &["pack"] };
    script(&[directory, archive], more);
    archive.to_owned()
}

/// Reads an archive into a directory, and fails if anything in it is wrong.
pub(crate) fn unpack(archive: &Path, directory: &Path) {
    script(&[archive, directory], &["unpack"]);
}
