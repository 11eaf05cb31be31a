//! What is at the target, and what stands in the way.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::mongodb::error::Error;
use backup_core::context::Context;
use backup_core::source::{IfExists, SourceError, SourceErrorKind, SourceResult};
use bson::doc;

use super::aside::{Aside, shown};
use crate::mongodb::catalog::{self, Collection, CollectionUuid, Kind};
use crate::mongodb::error::{Explain as _, code, code_of, malformed};
use crate::mongodb::fold::Live;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::{MongoOptions, WriteConcern};
use crate::mongodb::raw::Fields;
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

/// A server that is written to. Several collections are made and renamed at a time.
pub(super) struct Target {
    pub(super) server: Server,
    pub(super) if_exists: IfExists,
    pub(super) aside: Aside,
    /// Commands that define, rename or drop collections at the same time; at least 1.
    pub(super) parallel: usize,
    write_concern: WriteConcern,
    state: Mutex<State>,
}

/// Objects at the target, as far as this restore knows them.
#[derive(Debug, Default)]
pub(super) struct State {
    /// All collections and views.
    pub(super) existing: BTreeMap<Namespace, Kind>,
    /// Collections of this restore under their temporary names.
    pub(super) staged: BTreeMap<Namespace, Option<CollectionUuid>>,
    /// Collections made under their own names that are not complete.
    pub(super) filling: BTreeSet<Namespace>,
    /// Collections of the target that documents are merged into, and that are not complete.
    pub(super) merging: BTreeSet<Namespace>,
    /// Objects that were dropped, and whose successors are not complete.
    pub(super) dropped: BTreeSet<Namespace>,
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
        options: &MongoOptions,
        if_exists: IfExists,
    ) -> SourceResult<Self> {
        let mut state = State::default();
        for db in catalog::databases(server).await?.into_keys() {
            let listing = async {
                let command = doc! { "listCollections": 1, "nameOnly": true };
                server.list_written(&db, command).await.writing("cannot list the collections")
            };
            for entry in unless_cancelled(cx, listing).await? {
                let entry = Fields::parse(entry.as_bytes())?;
                let name = entry.get("name").ok_or_else(|| malformed("list of collections"))?;
                // Nothing that is restored has a name that is not UTF-8.
                let Some(name) = name.text() else { continue };
                let kind = Kind::parse(entry.text("type").unwrap_or("collection"))
                    .unwrap_or(Kind::Collection);
                state.existing.insert(Namespace::new(&*db, name), kind);
            }
        }
        Ok(Self {
            server: server.clone(),
            if_exists,
            aside: Aside::new(),
            parallel: options.parallel.max(1),
            write_concern: options.write_concern,
            state: Mutex::new(state),
        })
    }

    /// Never held across a command.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a command that creates, indexes, changes, renames or drops a collection. Without a write
    /// concern, a server from 5.0 on waits for the journals of a majority after each of them: three
    /// times as long as the command itself. A restore waits for that once, in [`barrier`].
    ///
    /// [`barrier`]: super::finish::barrier
    pub(super) async fn define(
        &self,
        db: &str,
        command: &Fields,
    ) -> SourceResult<Result<(), Error>> {
        let command = command.clone().with("writeConcern", self.write_concern.fields());
        Ok(self.server.write_raw(db, command.to_raw()?).await.map(drop))
    }

    fn exists(&self, namespace: &Namespace) -> bool {
        let existing = &self.state().existing;
        existing.contains_key(namespace) || existing.contains_key(&namespace.visible())
    }

    /// Returns `true` for a collection that documents are merged into, and that keeps its options.
    pub(super) fn is_merged_into(&self, namespace: &Namespace) -> bool {
        self.if_exists == IfExists::Merge && self.exists(namespace)
    }

    /// Kind of an object at the target.
    pub(super) fn kind_of(&self, namespace: &Namespace) -> Option<Kind> {
        self.state().existing.get(namespace).copied()
    }

    /// With `fail`, nothing of what is restored may be there; with `merge`, nothing of another kind.
    pub(super) fn refuse_conflicts(
        &self,
        names: &[Namespace],
        wanted: &[(Live, Collection)],
        views: &[Collection],
    ) -> SourceResult<()> {
        if self.if_exists == IfExists::Merge {
            views
                .iter()
                .try_for_each(|view| self.refuse_other_kinds(&view.namespace, Kind::View))?;
            for (_, collection) in wanted.iter().filter(|(live, _)| !live.orphan) {
                let namespace = &collection.namespace;
                let is_buckets = namespace.is_buckets();
                let kind = if is_buckets { Kind::TimeSeries } else { Kind::Collection };
                self.refuse_other_kinds(namespace, kind)?;
            }
        }
        let all: HashSet<&Namespace> = names.iter().collect();
        let beside_buckets =
            |name: &&Namespace| all.contains(&name.buckets()) && self.kind_of(name).is_some();
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

    /// Drops an object to make room for its successor.
    pub(super) async fn make_room(&self, namespace: &Namespace) -> SourceResult<()> {
        self.drop(namespace).await?;
        self.state().dropped.insert(namespace.visible());
        Ok(())
    }

    /// A collection or view is there in full.
    pub(super) fn completed(&self, namespace: &Namespace) {
        let mut state = self.state();
        let visible = namespace.visible();
        state.filling.remove(namespace);
        state.merging.remove(&visible);
        state.dropped.remove(&visible);
    }

    pub(super) async fn drop(&self, namespace: &Namespace) -> SourceResult<()> {
        let command = Fields::default().with("drop", &namespace.name);
        match self.define(&namespace.db, &command).await? {
            Ok(()) => {}
            Err(error) if code_of(&error) == Some(code::NAMESPACE_NOT_FOUND) => {}
            Err(error) => return Err(error).writing(format_args!("cannot drop {namespace}")),
        }
        self.state().existing.remove(namespace);
        Ok(())
    }

    /// Makes a place for the documents of a collection; true if it was there and is kept.
    pub(super) async fn prepare(
        &self,
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
                self.state().merging.insert(collection.namespace.visible());
                return Ok(true);
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
            self.make_room(&collection.namespace.visible()).await?;
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
        match self.kind_of(&namespace) {
            Some(kind) if kind != wanted => Err(SourceError::new(
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
        &self,
        live: &Live,
        collection: &Collection,
        options: &MongoOptions,
    ) -> SourceResult<()> {
        let namespace = &collection.namespace;
        let command = creation(live, collection, options);
        if self.aside.is_one(namespace) {
            // Remembered before it exists: a command that is given up may still make it.
            self.state().staged.insert(namespace.clone(), None);
        }
        self.make(namespace, &command).await?;
        self.state().existing.insert(namespace.clone(), collection.kind);
        if self.aside.is_one(namespace) {
            return self.made_aside(namespace).await;
        }
        self.state().filling.insert(namespace.clone());
        Ok(())
    }

    /// Runs a command that creates what was not there. The server may still be busy with what a
    /// restore asked for that was interrupted a moment ago: what that makes now is replaced like
    /// what was there before.
    async fn make(&self, namespace: &Namespace, command: &Fields) -> SourceResult<()> {
        let mut attempt = 0;
        loop {
            let error = match self.define(&namespace.db, command).await? {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if code_of(&error) != Some(code::NAMESPACE_EXISTS) {
                return Err(error).writing(format_args!("cannot create {}", shown(namespace)));
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
    pub(super) async fn create_view(&self, view: &Collection) -> SourceResult<()> {
        if self.kind_of(&view.namespace).is_some() {
            self.make_room(&view.namespace).await?;
        }
        let mut command = Fields::default().with("create", &view.namespace.name);
        command.extend(&view.options);
        self.make(&view.namespace, &command).await?;
        self.completed(&view.namespace);
        Ok(())
    }
}

pub(super) fn came_meanwhile(namespace: &Namespace) -> SourceError {
    let text = format!("{} appeared at the target during the restore", namespace.visible());
    SourceError::new(SourceErrorKind::TargetExists, text)
        .with_hint("check for other writers at the target, then run the restore again")
}

/// The command that makes a collection. Its options are those of the source, but for what the server
/// makes by itself.
fn creation(live: &Live, collection: &Collection, options: &MongoOptions) -> Fields {
    const OF_BUCKETS: [&[u8]; 5] =
        [b"uuid", b"clusteredIndex", b"validator", b"validationLevel", b"validationAction"];
    let namespace = &collection.namespace;
    let mut command;
    if namespace.is_buckets() && !live.orphan {
        // Its view, and the buckets with it.
        command = Fields::default().with("create", &namespace.visible().name);
        command.extend(&collection.options.only(|option| !OF_BUCKETS.contains(&option)));
    } else {
        command = Fields::default().with("create", &namespace.name);
        // A validator is there from the beginning; insertions go by it.
        command.extend(&collection.options.only(|option| option != b"uuid"));
        if !namespace.is_buckets() && command.is_true("clusteredIndex") {
            let key = Fields::default().with("_id", 1);
            let index = Fields::default().with("key", key).with("unique", true);
            command.set("clusteredIndex", index);
        }
    }
    if options.defer_ttl && command.has("expireAfterSeconds") {
        command.set("expireAfterSeconds", i64::from(FAR_AWAY));
    }
    command
}
