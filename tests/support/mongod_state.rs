//! What a server holds, read by plain commands of the driver: the oracle. None of the code under
//! test takes part.

use std::collections::BTreeMap;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;
use mongodb::Client;

/// One collection or view.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    pub(crate) kind: String,
    /// Sorted by name.
    pub(crate) options: Vec<(String, Bson)>,
    /// Sorted by name, fields sorted.
    pub(crate) indexes: Vec<Vec<(String, Bson)>>,
    /// Every document's bytes by the bytes of its `_id`.
    pub(crate) documents: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The `_id`s in natural order, for capped collections.
    pub(crate) order: Vec<Vec<u8>>,
}

pub(crate) type State = BTreeMap<String, Facts>;

async fn all(client: &Client, db: &str, command: Document) -> Vec<Document> {
    let shown = command.to_string();
    let cursor = client.database(db).run_cursor_command(command).await;
    cursor.unwrap_or_else(|error| panic!("{shown}: {error}")).try_collect().await.unwrap()
}

fn sorted(document: &Document) -> Vec<(String, Bson)> {
    let ours = document.iter().filter(|(key, _)| !matches!(&***key, "uuid" | "ns"));
    let mut fields: Vec<_> = ours.map(|(key, value)| (key.clone(), value.clone())).collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

fn id(document: &RawDocumentBuf) -> Vec<u8> {
    let mut wrapped = RawDocumentBuf::new();
    wrapped.append(bson::cstr!("i"), document.get("_id").unwrap().unwrap());
    wrapped.into_bytes()
}

async fn facts(client: &Client, db: &str, entry: &Document) -> Facts {
    let name = entry.get_str("name").unwrap();
    let kind = entry.get_str("type").unwrap().to_owned();
    let options = entry.get_document("options").unwrap();
    let mut facts = Facts {
        options: sorted(options),
        indexes: Vec::new(),
        documents: BTreeMap::new(),
        order: Vec::new(),
        kind,
    };
    if facts.kind != "collection" {
        return facts;
    }
    let indexes = all(client, db, doc! { "listIndexes": name }).await;
    facts.indexes = indexes.iter().map(sorted).collect();
    facts.indexes.sort_by_key(|index| format!("{index:?}"));
    let collection = client.database(db).collection::<RawDocumentBuf>(name);
    let mut cursor = collection.find(doc! {}).sort(doc! { "$natural": 1 }).await.unwrap();
    while let Some(document) = cursor.try_next().await.unwrap() {
        if options.get_bool("capped").unwrap_or(false) {
            facts.order.push(id(&document));
        }
        facts.documents.insert(id(&document), document.into_bytes());
    }
    facts
}

/// Everything but the server's own databases, by name.
pub(crate) async fn state(client: &Client) -> State {
    state_of(client, |_| true).await
}

/// The same of the collections and views whose names `keep` accepts.
pub(crate) async fn state_of(client: &Client, keep: impl Fn(&str) -> bool) -> State {
    let mut found = BTreeMap::new();
    for db in client.list_database_names().await.unwrap() {
        if matches!(&*db, "config" | "local") {
            continue;
        }
        for entry in all(client, &db, doc! { "listCollections": 1 }).await {
            let name = entry.get_str("name").unwrap();
            // Left over from an operation that failed; the server drops it when it next becomes a
            // primary.
            let temporary =
                entry.get_document("options").unwrap().get_bool("temp").unwrap_or(false);
            let server_made = temporary
                || name == "system.views"
                || name == "system.profile"
                || (db == "admin" && name.starts_with("system."));
            if !server_made && keep(name) {
                found.insert(format!("{db}.{name}"), facts(client, &db, &entry).await);
            }
        }
    }
    found
}

/// Fails with the first difference.
#[track_caller]
pub(crate) fn same(expected: &State, found: &State) {
    let names = |state: &State| state.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(expected), names(found));
    for (name, expected) in expected {
        let found = &found[name];
        assert_eq!((&expected.kind, &expected.options), (&found.kind, &found.options), "{name}");
        assert_eq!(expected.indexes, found.indexes, "{name}");
        assert_eq!(expected.documents.len(), found.documents.len(), "{name}");
        for (id, document) in &expected.documents {
            let show = |bytes: &Vec<u8>| {
                Document::try_from(RawDocumentBuf::from_bytes(bytes.clone()).unwrap()).unwrap()
            };
            match found.documents.get(id) {
                Some(other) if other == document => {}
                Some(other) => panic!("{name}: {} is {}", show(document), show(other)),
                None => panic!("{name}: {} is missing", show(document)),
            }
        }
        assert_eq!(expected.order, found.order, "order of {name}");
    }
}
