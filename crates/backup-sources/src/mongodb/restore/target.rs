//! What is at the target, and what stands in the way.

use std::collections::{BTreeMap, BTreeSet};

use backup_core::context::Context;
use backup_core::source::{IfExists, SourceError, SourceErrorKind, SourceResult};
use bson::{Bson, Document, doc};

use crate::mongodb::catalog::{self, Collection, CollectionUuid, Kind, uuid_of};
use crate::mongodb::error::{Explain as _, code, code_of, malformed};
use crate::mongodb::fold::Live;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::options::MongoOptions;
use crate::mongodb::server::{Server, unless_cancelled};

/// Seconds after which a deferred TTL deletes: 47 years, the longest that every server takes for every kind.
pub(super) const FAR_AWAY: i32 = 1_500_000_000;
/// Names that an error lists.
const NAMED: usize = 10;

/// A server that is written to.
pub(super) struct Target {
    server: Server,
    if_exists: IfExists,
    /// What is there, under the names that users see.
    existing: BTreeMap<Namespace, Kind>,
}

/// Where documents are inserted: users and roles go through collections of their own and are then merged by the server.
pub(super) fn loading_name(namespace: &Namespace) -> Namespace {
    match (&*namespace.db, &*namespace.name) {
        ("admin", "system.users") => Namespace::new("admin", "tempusers"),
        ("admin", "system.roles") => Namespace::new("admin", "temproles"),
        _ => namespace.clone(),
    }
}

impl Target {
    pub(super) async fn look(cx: &Context, server: &Server, if_exists: IfExists) -> SourceResult<Self> {
        let mut existing = BTreeMap::new();
        for db in catalog::databases(server).await?.into_keys() {
            let listing = async {
                let command = doc! { "listCollections": 1, "nameOnly": true };
                server.client.database(&db).run_cursor_command(command).await.writing("listing collections")
            };
            let mut cursor = unless_cancelled(cx, listing).await?;
            while cursor.advance().await.writing("listing collections")? {
                let entry = Document::try_from(cursor.current()).map_err(|_| malformed("a list of collections"))?;
                let name = entry.get_str("name").map_err(|_| malformed("a list of collections"))?;
                let kind = Kind::parse(entry.get_str("type").unwrap_or("collection")).unwrap_or(Kind::Collection);
                existing.insert(Namespace::new(&*db, name), kind);
            }
        }
        Ok(Self { server: server.clone(), if_exists, existing })
    }

    fn exists(&self, namespace: &Namespace) -> bool {
        self.existing.contains_key(namespace) || self.existing.contains_key(&namespace.visible())
    }

    /// With `fail`, nothing of what is restored may be there.
    pub(super) fn refuse_conflicts(&self, names: &[Namespace]) -> SourceResult<()> {
        // Users and roles are compared one by one when they are merged: some are nearly always there.
        let in_the_way = names.iter().filter(|name| !name.is_authorization() && self.exists(name));
        let in_the_way: BTreeSet<String> = in_the_way.map(|name| name.visible().to_string()).collect();
        if in_the_way.is_empty() || self.if_exists != IfExists::Fail {
            return Ok(());
        }
        let mut text = in_the_way.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if in_the_way.len() > NAMED {
            text.push_str(&format!(" and {} more", in_the_way.len() - NAMED));
        }
        Err(SourceError::new(SourceErrorKind::TargetExists, format!("the target has {text} already")).with_hint(
            "choose --if-exists replace (drops and restores them) or merge (replaces documents with equal _id and keeps \
             others), another target, or other names (--rename)",
        ))
    }

    /// Drops what the selection covers and the snapshot does not hold.
    pub(super) async fn remove_others(
        &mut self,
        cx: &Context,
        names: &[Namespace],
        filter: &Filter,
    ) -> SourceResult<u64> {
        let wanted: BTreeSet<Namespace> = names.iter().map(Namespace::visible).collect();
        let others: Vec<Namespace> = self
            .existing
            .keys()
            .filter(|name| !name.is_buckets() && !name.is_internal() && name.db != "admin")
            .filter(|name| filter.covers(name) && !wanted.contains(name))
            .cloned()
            .collect();
        for namespace in &others {
            unless_cancelled(cx, self.drop(namespace)).await?;
        }
        Ok(others.len() as u64)
    }

    async fn drop(&mut self, namespace: &Namespace) -> SourceResult<()> {
        match self.server.write(&namespace.db, doc! { "drop": &namespace.name }).await {
            Ok(_) => {}
            Err(error) if code_of(&error) == Some(code::NAMESPACE_NOT_FOUND) => {}
            Err(error) => return Err(error).writing(format_args!("dropping {namespace}")),
        }
        self.existing.remove(namespace);
        Ok(())
    }

    /// Makes a place for the documents of a collection; true if it was there and is kept.
    pub(super) async fn prepare(
        &mut self,
        live: &Live,
        collection: &Collection,
        options: &MongoOptions,
    ) -> SourceResult<bool> {
        let loading = loading_name(&collection.namespace);
        if loading != collection.namespace {
            // Left over from a restore that was interrupted.
            self.drop(&loading).await?;
            return Ok(false);
        }
        if self.exists(&collection.namespace) {
            if self.if_exists == IfExists::Merge {
                return Ok(true);
            }
            if collection.namespace.name == "system.js" {
                // It cannot be dropped.
                let all = doc! { "q": {}, "limit": 0 };
                let emptied = self.server.write(&loading.db, doc! { "delete": &loading.name, "deletes": [all] }).await;
                emptied.writing(format_args!("emptying {loading}"))?;
                return Ok(false);
            }
            self.drop(&collection.namespace.visible()).await?;
            if collection.namespace.is_buckets() {
                self.drop(&collection.namespace).await?;
            }
        }
        self.create(live, collection, options).await?;
        Ok(false)
    }

    async fn create(&mut self, live: &Live, collection: &Collection, options: &MongoOptions) -> SourceResult<()> {
        let namespace = &collection.namespace;
        let mut command = doc! {};
        if namespace.is_buckets() && !live.orphan {
            // Its view, and the buckets with it.
            command.insert("create", namespace.visible().name);
            for option in ["timeseries", "expireAfterSeconds", "storageEngine"] {
                if let Some(value) = collection.options.get(option) {
                    command.insert(option, value.clone());
                }
            }
        } else {
            command.insert("create", &namespace.name);
            // A validator is there from the beginning; insertions go by it.
            command.extend(fields(&collection.options, |option| option != "uuid"));
            if !namespace.is_buckets() && command.get_bool("clusteredIndex").ok() == Some(true) {
                command.insert("clusteredIndex", doc! { "key": { "_id": 1 }, "unique": true });
            }
        }
        if options.defer_ttl && command.contains_key("expireAfterSeconds") {
            command.insert("expireAfterSeconds", i64::from(FAR_AWAY));
        }
        let created = self.server.write(&namespace.db, command).await;
        created.writing(format_args!("creating {namespace}"))?;
        self.existing.insert(namespace.clone(), collection.kind);
        Ok(())
    }

    /// Makes a view, in place of one that is there if that may be replaced.
    pub(super) async fn create_view(&mut self, view: &Collection) -> SourceResult<()> {
        if self.existing.contains_key(&view.namespace) {
            self.drop(&view.namespace).await?;
        }
        let mut command = doc! { "create": &view.namespace.name };
        command.extend(view.options.clone());
        let created = self.server.write(&view.namespace.db, command).await;
        created.writing(format_args!("creating the view {}", view.namespace))?;
        Ok(())
    }
}

/// The UUID that a restored collection has got.
pub(super) async fn uuid_of_collection(server: &Server, namespace: &Namespace) -> SourceResult<CollectionUuid> {
    let command = doc! { "listCollections": 1, "filter": { "name": &namespace.name } };
    let db = server.client.database(&namespace.db);
    let mut cursor = db.run_cursor_command(command).await.writing("listing collections")?;
    let mut uuid = None;
    while cursor.advance().await.writing("listing collections")? {
        let entry = Document::try_from(cursor.current()).map_err(|_| malformed("a list of collections"))?;
        uuid = uuid_of(entry.get_document("info").ok().and_then(|info: &Document| info.get("uuid")));
    }
    uuid.ok_or_else(|| {
        SourceError::new(SourceErrorKind::Mismatch, format!("{namespace} is not there after it was restored"))
    })
}

/// Fields of `document` whose names `keep` accepts.
pub(super) fn fields(document: &Document, keep: impl Fn(&str) -> bool) -> Document {
    let kept = document.iter().filter(|(key, _)| keep(key));
    kept.map(|(key, value)| (key.clone(), Bson::clone(value))).collect()
}
