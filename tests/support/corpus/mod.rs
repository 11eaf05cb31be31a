//! Generator of the corpus of crafted objects and of the answers of false servers. `tests/corpus`
//! holds its output, one JSON value in a line; `scenarios/corpus.rs` compares them.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the files of the corpus |
//! | `objects.rs` | snapshots, indexes and config objects |
//! | `catalogs.rs` | snapshots of databases |
//! | `shadows.rs` | indexes with false places of blobs that exist |
//! | `cache.rs`, `documents.rs`, `sql.rs` | answers of servers of Redis, MongoDB and PostgreSQL |
//! | `store.rs` | answers of an object store |
//! | `clouds.rs` | answers of stores of Google and Azure, and of a service for tokens |

pub(crate) mod cache;
pub(crate) mod catalogs;
pub(crate) mod clouds;
pub(crate) mod documents;
pub(crate) mod objects;
pub(crate) mod shadows;
pub(crate) mod sql;
pub(crate) mod store;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::crafted_nodes::{self, Parts};
use super::false_server::{Case, Step};

/// Objects that the texts of the corpus refer to: a blob `hello`, and a directory with it.
pub(crate) fn parts() -> Parts {
    use backup_core::id::BlobId;
    let blob = BlobId::digest(b"hello").to_hex();
    let parts = Parts { blob, directory: String::new() };
    let json = format!("{{\"nodes\":[{}]}}\n", crafted_nodes::file(&parts, "inside"));
    Parts { directory: BlobId::digest(json.as_bytes()).to_hex(), ..parts }
}

/// Names and contents of the files.
pub(crate) fn files() -> Vec<(&'static str, String)> {
    let trees = crafted_nodes::cases(&parts()).into_iter().map(|case| {
        let verdict = format!("{:?}", case.verdict);
        json!({"name": case.name, "nodes": case.nodes, "verdict": verdict, "restored": case.restored})
    });
    let object = |case: &objects::Object| json!({"name": case.name, "text": case.text, "verdict": format!("{:?}", case.verdict)});
    vec![
        ("trees.jsonl", lines(trees)),
        ("snapshots.jsonl", lines(objects::snapshots().iter().map(object))),
        ("indexes.jsonl", lines(objects::indexes().iter().map(object))),
        ("catalogs.jsonl", lines(catalogs::cases().iter().map(catalogs::shown))),
        ("shadows.jsonl", lines(shadows::cases().iter().map(shadows::shown))),
        ("configs.jsonl", lines(objects::configs().iter().map(object))),
        ("postgres.jsonl", lines(sql::cases().iter().map(conversation))),
        ("redis.jsonl", lines(cache::cases().iter().map(conversation))),
        ("mongodb.jsonl", lines(documents::cases().iter().map(conversation))),
        ("gcs.jsonl", lines(clouds::gcs().iter().map(store::shown))),
        ("azure.jsonl", lines(clouds::azure().iter().map(store::shown))),
        ("s3.jsonl", lines(store::cases().iter().map(store::shown))),
    ]
}

fn lines(values: impl IntoIterator<Item = Value>) -> String {
    values.into_iter().map(|value| format!("{value}\n")).collect()
}

fn conversation(case: &Case) -> Value {
    json!({"name": case.name, "steps": case.steps.iter().map(step).collect::<Vec<_>>()})
}

fn step(step: &Step) -> Value {
    match step {
        Step::Read => json!("read"),
        Step::Send(bytes) => json!({"send": content(bytes)}),
        Step::Repeat(bytes, most) => json!({"repeat": content(bytes), "bytes": most}),
    }
}

/// Bytes as Rust's escapes show them; a digest of long ones.
fn content(bytes: &[u8]) -> Value {
    if bytes.len() <= 2000 {
        return json!(bytes.escape_ascii().to_string());
    }
    json!({"bytes": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes))})
}
