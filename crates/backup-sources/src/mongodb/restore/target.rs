//! What is at the target, and what stands in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::source::{IfExists, SourceError, SourceErrorKind, SourceResult};
use bson::{Bson, Document, doc};

use super::aside::Aside;
use crate::mongodb::catalog::{self, Collection, Kind};
use crate::mongodb::error::{Explain as _, code, code_of, malformed};
use crate::mongodb::fold::Live;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::options::MongoOptions;
use crate::mongodb::server::{Server, unless_cancelled};

/// Seconds after which a deferred TTL deletes: 47 years, the longest that every server takes for
/// every kind.
pub(super) const FAR_AWAY: i32 = 1_500_000_000;
/// How often what appears while it is created is replaced, and how long that waits, times the
/// number of the attempt.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// Names that an error lists.
const NAMED: usize = 10;

/// A server that is written to.
pub(super) struct Target {
    pub(super) server: Server,
    pub(super) if_exists: IfExists,
    /// What is there, under the names that users see.
    pub(super) existing: BTreeMap<Namespace, Kind>,
    pub(super) aside: Aside,
}

/// Where documents are inserted: users and roles go through collections of their own and are then
/// merged by the server.
pub(super) fn loading_name(namespace: &Namespace) -> Namespace {
    match (&*namespace.db, &*namespace.name) {
        ("admin", "system.users") => Namespace::new("admin", "tempusers"),
        ("admin", "system.roles") => Namespace::new("admin", "temproles"),
        _ => namespace.clone(),
    }
}

impl Target {
    pub(super) async fn look(
        cx: &Context,
        server: &Server,
        if_exists: IfExists,
    ) -> SourceResult<Self> {
        let mut existing = BTreeMap::new();
        for db in catalog::databases(server).await?.into_keys() {
            let listing = async {
                let command = doc! { "listCollections": 1, "nameOnly": true };
                server
                    .client
                    .database(&db)
                    .run_cursor_command(command)
                    .await
                    .writing("cannot list the collections")
            };
            let mut cursor = unless_cancelled(cx, listing).await?;
            while cursor.advance().await.writing("cannot list the collections")? {
                let entry = Document::try_from(cursor.current())
                    .map_err(|_| malformed("list of collections"))?;
                let name = entry.get_str("name").map_err(|_| malformed("list of collections"))?;
                let kind = Kind::parse(entry.get_str("type").unwrap_or("collection"))
                    .unwrap_or(Kind::Collection);
                existing.insert(Namespace::new(&*db, name), kind);
            }
        }
        Ok(Self { server: server.clone(), if_exists, existing, aside: Aside::new() })
    }

    fn exists(&self, namespace: &Namespace) -> bool {
        self.existing.contains_key(namespace) || self.existing.contains_key(&namespace.visible())
    }

    /// With `fail`, nothing of what is restored may be there; with `merge`, nothing else in place
    /// of a view.
    pub(super) fn refuse_conflicts(
        &self,
        names: &[Namespace],
        views: &[Collection],
    ) -> SourceResult<()> {
        if self.if_exists == IfExists::Merge {
            views
                .iter()
                .try_for_each(|view| self.refuse_other_kinds(&view.namespace, Kind::View))?;
        }
        let beside_buckets = |name: &&Namespace| {
            names.contains(&name.buckets()) && self.existing.contains_key(*name)
        };
        if let (IfExists::Merge, Some(name)) = (self.if_exists, names.iter().find(beside_buckets)) {
            let text = format!(
                "cannot merge into {name}: time-series buckets of the same name exist beside it"
            );
            return Err(SourceError::new(SourceErrorKind::TargetExists, text)
                .with_hint("choose --if-exists replace, or exclude this collection"));
        }
        // Users and roles are compared one by one when they are merged: some are nearly always
        // there.
        let in_the_way = names.iter().filter(|name| !name.is_authorization() && self.exists(name));
        let in_the_way: BTreeSet<String> =
            in_the_way.map(|name| name.visible().to_string()).collect();
        if in_the_way.is_empty() || self.if_exists != IfExists::Fail {
            return Ok(());
        }
        let mut text = in_the_way.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if in_the_way.len() > NAMED {
            text.push_str(&format!(" and {} more", in_the_way.len() - NAMED));
        }
        Err(SourceError::new(
            SourceErrorKind::TargetExists,
            format!("the target has {text} already"),
        )
        .with_hint(
            "choose --if-exists replace (drops and restores them) or merge (replaces documents \
             with equal _id and keeps others), another target, or other names (--rename)",
        ))
    }

    /// Drops what the snapshot would hold if it had been there: what both the selection and the
    /// backup's own (`filters`) cover, and is not among `names`. Of what was left out of the backup
    /// the snapshot says nothing.
    pub(super) async fn remove_others(
        &mut self,
        cx: &Context,
        names: &[Namespace],
        filters: [&Filter; 2],
    ) -> SourceResult<u64> {
        let wanted: BTreeSet<Namespace> = names.iter().map(Namespace::visible).collect();
        let others: Vec<Namespace> = self
            .existing
            .keys()
            .filter(|name| !name.is_buckets() && !name.is_internal() && name.db != "admin")
            .filter(|name| {
                filters.iter().all(|filter| filter.covers(name)) && !wanted.contains(name)
            })
            .cloned()
            .collect();
        for namespace in &others {
            unless_cancelled(cx, self.drop(namespace)).await?;
        }
        Ok(others.len() as u64)
    }

    pub(super) async fn drop(&mut self, namespace: &Namespace) -> SourceResult<()> {
        match self.server.write(&namespace.db, doc! { "drop": &namespace.name }).await {
            Ok(_) => {}
            Err(error) if code_of(&error) == Some(code::NAMESPACE_NOT_FOUND) => {}
            Err(error) => return Err(error).writing(format_args!("cannot drop {namespace}")),
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
                let kind = if collection.namespace.is_buckets() {
                    Kind::TimeSeries
                } else {
                    Kind::Collection
                };
                let checked = if live.orphan {
                    Ok(())
                } else {
                    self.refuse_other_kinds(&collection.namespace, kind)
                };
                return checked.map(|()| true);
            }
            if collection.namespace.name == "system.js" {
                // It cannot be dropped.
                let all = doc! { "q": {}, "limit": 0 };
                let emptied = self
                    .server
                    .write(&loading.db, doc! { "delete": &loading.name, "deletes": [all] })
                    .await;
                emptied.writing(format_args!("cannot empty {loading}"))?;
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

    /// Documents can be merged with others of their kind only: what is written to a view goes
    /// elsewhere or nowhere. And a view takes the place of views only.
    fn refuse_other_kinds(&self, namespace: &Namespace, wanted: Kind) -> SourceResult<()> {
        let namespace = namespace.visible();
        match self.existing.get(&namespace) {
            Some(kind) if *kind != wanted => Err(SourceError::new(
                SourceErrorKind::TargetExists,
                format!(
                    "{namespace} is a {} at the target and a {} in the snapshot",
                    kind.word(),
                    wanted.word()
                ),
            )
            .with_hint("choose --if-exists replace, or another name (--rename)")),
            _ => Ok(()),
        }
    }

    async fn create(
        &mut self,
        live: &Live,
        collection: &Collection,
        options: &MongoOptions,
    ) -> SourceResult<()> {
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
        self.make(namespace, &command).await?;
        self.existing.insert(namespace.clone(), collection.kind);
        if self.aside.is_one(namespace) { self.made_aside(namespace).await } else { Ok(()) }
    }

    /// Runs a command that creates what was not there. The server may still be busy with what a
    /// restore asked for that was interrupted a moment ago: what that makes now is replaced like
    /// what was there before.
    async fn make(&mut self, namespace: &Namespace, command: &Document) -> SourceResult<()> {
        let mut attempt = 0;
        loop {
            let error = match self.server.write(&namespace.db, command.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if code_of(&error) != Some(code::NAMESPACE_EXISTS) {
                return Err(error).writing(format_args!("cannot create {namespace}"));
            }
            let may_drop = self.if_exists == IfExists::Replace || self.aside.is_one(namespace);
            if !may_drop || attempt == ATTEMPTS {
                return Err(came_meanwhile(namespace));
            }
            attempt += 1;
            tokio::time::sleep(PAUSE * attempt).await;
            self.drop(&namespace.visible()).await?;
            if namespace.is_buckets() {
                self.drop(namespace).await?;
            }
        }
    }

    /// Makes a view, in place of one that is there if that may be replaced.
    pub(super) async fn create_view(&mut self, view: &Collection) -> SourceResult<()> {
        if self.existing.contains_key(&view.namespace) {
            self.drop(&view.namespace).await?;
        }
        let mut command = doc! { "create": &view.namespace.name };
        command.extend(view.options.clone());
        self.make(&view.namespace, &command).await
    }
}

pub(super) fn came_meanwhile(namespace: &Namespace) -> SourceError {
    let text = format!("{} appeared at the target during the restore", namespace.visible());
    SourceError::new(SourceErrorKind::TargetExists, text)
        .with_hint("check for other writers at the target, then run the restore again")
}

/// Fields of `document` whose names `keep` accepts.
pub(super) fn fields(document: &Document, keep: impl Fn(&str) -> bool) -> Document {
    let kept = document.iter().filter(|(key, _)| keep(key));
    kept.map(|(key, value)| (key.clone(), Bson::clone(value))).collect()
}
