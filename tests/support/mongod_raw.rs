//! Definitions of collections and indexes, byte for byte as a server lists them: the oracle of
//! restores to a server of the same version.

use std::collections::BTreeMap;

use bson::{RawBson, RawDocument, RawDocumentBuf, doc};
use mongodb::Client;

/// The definition of one collection or view.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    /// The entry of `listCollections` without the UUID.
    pub(crate) entry: RawDocumentBuf,
    /// The entries of `listIndexes`, in their order.
    pub(crate) indexes: Vec<RawDocumentBuf>,
}

/// Definitions by `database.collection`.
pub(crate) type Definitions = BTreeMap<String, Definition>;

async fn all(client: &Client, db: &str, command: bson::Document) -> Vec<RawDocumentBuf> {
    let command = RawDocumentBuf::try_from(&command).unwrap();
    let db = client.database(db);
    let mut cursor = db.run_raw_cursor_command(command).await.unwrap();
    let mut found = Vec::new();
    while cursor.advance().await.unwrap() {
        found.push(cursor.current().to_owned());
    }
    found
}

/// A copy without the UUID.
fn plain(entry: &RawDocument) -> RawDocumentBuf {
    let mut copy = RawDocumentBuf::new();
    for element in entry {
        let (key, value) = element.unwrap();
        match (key.as_str(), value.as_document()) {
            ("uuid", _) => {}
            ("info", Some(info)) => copy.append(key, plain(info)),
            _ => copy.append(key, RawBson::from(value)),
        }
    }
    copy
}

/// Definitions of everything but the server's own databases.
pub(crate) async fn definitions(client: &Client) -> Definitions {
    let mut found = BTreeMap::new();
    for db in client.list_database_names().await.unwrap() {
        if matches!(&*db, "admin" | "config" | "local") {
            continue;
        }
        for entry in all(client, &db, doc! { "listCollections": 1 }).await {
            let name = entry.get_str("name").unwrap();
            if name == "system.views" {
                continue;
            }
            let has_indexes = entry.get_str("type").unwrap() == "collection";
            let indexes = if has_indexes {
                all(client, &db, doc! { "listIndexes": name }).await
            } else {
                Vec::new()
            };
            found.insert(format!("{db}.{name}"), Definition { entry: plain(&entry), indexes });
        }
    }
    found
}

/// Fails with the first difference.
#[track_caller]
pub(crate) fn same_definitions(expected: &Definitions, found: &Definitions) {
    assert!(expected.keys().eq(found.keys()), "{:?} {:?}", expected.keys(), found.keys());
    for (name, expected) in expected {
        assert_eq!(*expected, found[name], "{name}");
    }
}
