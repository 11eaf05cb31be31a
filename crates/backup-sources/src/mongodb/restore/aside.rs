//! Collections under the names that they have until they are complete: `tmp.restore.RUN.NAME`.
//!
//! Every restore has a run number of its own, so that two of them never fill one collection, and
//! nothing that a user may have called alike is in the way. A collection is renamed only if it is
//! still the one that was made: who drops it meanwhile does not make half of it pass for all.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::source::{IfExists, SourceError, SourceErrorKind, SourceResult};
use bson::doc;
use futures::FutureExt as _;

use super::target::{Target, came_meanwhile};
use super::together::together;
use crate::mongodb::catalog::{self, Collection, Kind, uuid_at};
use crate::mongodb::error::{Explain as _, code, code_of, malformed};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::Fields;
use crate::mongodb::server::unless_cancelled;

/// What stands before the run's number.
const PREFIX: &str = "tmp.restore.";
/// Digits of the run's number.
const DIGITS: usize = 8;
/// Longest name of a collection with its database, bytes: what every server from 4.4 on takes.
const LONGEST: usize = 255;
/// How long a restore that has failed tries to clear up, and how much longer for each collection.
const CLEARING: Duration = Duration::from_secs(10);
const CLEARING_ONE: Duration = Duration::from_millis(20);
/// How often that is done, and the pause in between.
const ROUNDS: u32 = 2;
const SETTLING: Duration = Duration::from_millis(200);
/// Leftovers that a note names.
const NAMED: usize = 5;

/// Temporary names of one restore.
pub(super) struct Aside {
    run: String,
}

impl Aside {
    pub(super) fn new() -> Self {
        let run = bson::Uuid::new()
            .bytes()
            .iter()
            .take(DIGITS / 2)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self { run }
    }

    /// Has a collection completed under another name, so that nobody takes half of it for all;
    /// returns its own. That can be done with plain collections that are not merged into, if the
    /// other name is not too long. Encrypted ones cannot be renamed
    /// (<https://www.mongodb.com/docs/manual/reference/command/renameCollection/>).
    ///
    /// Buckets and a plain collection of the name that their time-series collection would have can
    /// exist side by side: the server allows it when creating one races with writing the other. It
    /// takes all that is written to that name for measurements then, so that there it has to be
    /// done.
    pub(super) fn name(
        &self,
        collection: &mut Collection,
        names: &HashSet<Namespace>,
        if_exists: IfExists,
    ) -> SourceResult<Option<Namespace>> {
        let namespace = &collection.namespace;
        let other =
            Namespace::new(&*namespace.db, format!("{PREFIX}{}.{}", self.run, namespace.name));
        let is_possible =
            other.to_string().len() <= LONGEST && !collection.options.has("encryptedFields");
        let is_free = if_exists != IfExists::Merge && !namespace.name.starts_with("system.");
        let must = !namespace.is_buckets() && names.contains(&namespace.buckets());
        if must && !is_possible {
            let text = format!(
                "{namespace} exists beside time-series buckets of the same name, and cannot be \
                 restored under a temporary name"
            );
            return Err(SourceError::new(SourceErrorKind::Target, text)
                .with_hint("exclude this collection (--exclude), or restore it alone"));
        }
        let is_wanted = must || (is_free && is_possible);
        Ok(is_wanted.then(|| std::mem::replace(&mut collection.namespace, other)))
    }

    pub(super) fn is_one(&self, namespace: &Namespace) -> bool {
        run_of(namespace).is_some_and(|(run, _)| run == self.run)
    }
}

/// The number and the final name of what some restore has not completed.
pub(super) fn run_of(namespace: &Namespace) -> Option<(&str, &str)> {
    let rest = namespace.name.strip_prefix(PREFIX)?;
    let (run, name) = rest.split_at_checked(DIGITS)?;
    let is_run = run.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    Some((run, name.strip_prefix('.')?)).filter(|_| is_run)
}

/// The name that a collection has for users: of one that is not complete, its final name.
pub(super) fn shown(namespace: &Namespace) -> Namespace {
    match run_of(namespace) {
        Some((_, name)) => Namespace::new(&*namespace.db, name),
        None => namespace.visible(),
    }
}

/// Returns true if a restore made the collection to complete it as one of these, and it is not
/// itself one of these.
fn is_left_of(found: &Namespace, names: &HashSet<Namespace>) -> bool {
    !names.contains(found)
        && run_of(found).is_some_and(|(_, name)| names.contains(&Namespace::new(&*found.db, name)))
}

impl Target {
    /// Remembers a collection that was made to be renamed.
    pub(super) async fn made_aside(&self, namespace: &Namespace) -> SourceResult<()> {
        let uuid = uuid_at(&self.server, namespace).await.writing("cannot list the collections")?;
        self.state().staged.insert(namespace.clone(), uuid);
        Ok(())
    }

    /// Gives a collection that is complete its own name. What it replaces was there until now.
    pub(super) async fn complete(&self, from: &Namespace, to: &Namespace) -> SourceResult<()> {
        let there = uuid_at(&self.server, from).await.writing("cannot list the collections")?;
        let made = self.state().staged.get(from).copied().flatten();
        if there != made {
            let text = format!("{to}: its restored data was dropped during the restore");
            return Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(
                "check for another restore that replaces this collection, then run the restore \
                     again",
            ));
        }
        let replaces = self.if_exists == IfExists::Replace;
        // A collection can take the place of another one only.
        if replaces && self.kind_of(to).is_some_and(|kind| kind != Kind::Collection) {
            self.make_room(to).await?;
        }
        let command = Fields::default()
            .with("renameCollection", &from.to_string())
            .with("to", &to.to_string())
            .with("dropTarget", replaces);
        match self.define("admin", &command).await? {
            Ok(()) => {}
            Err(error) if code_of(&error) == Some(code::NAMESPACE_EXISTS) => {
                return Err(came_meanwhile(to));
            }
            Err(error) => return Err(error).writing(format_args!("cannot rename {from} to {to}")),
        }
        {
            let mut state = self.state();
            state.staged.remove(from);
            state.existing.remove(from);
            state.existing.insert(to.clone(), Kind::Collection);
        }
        self.completed(to);
        Ok(())
    }

    /// Drops what earlier restores have not completed of these collections, if what is there may be
    /// replaced; else returns what to say of it. A restore that is still at it notices.
    pub(super) async fn clear_leftovers(
        &self,
        cx: &Context,
        names: &HashSet<Namespace>,
    ) -> SourceResult<Option<String>> {
        let leftovers: Vec<Namespace> = {
            let state = self.state();
            state.existing.keys().filter(|found| is_left_of(found, names)).cloned().collect()
        };
        if self.if_exists == IfExists::Replace {
            let dropping = leftovers.iter().map(|leftover| self.drop(leftover).boxed());
            return together(cx, self.parallel, dropping.collect()).await.1.map(|()| None);
        }
        let shown: Vec<String> = leftovers.iter().take(NAMED).map(ToString::to_string).collect();
        let more = if leftovers.len() > NAMED { ", …" } else { "" };
        let text = format!(
            "{}{more}: left by an interrupted restore, or used by a running one. Drop them if no \
             restore is running.",
            shown.join(", ")
        );
        Ok((!leftovers.is_empty()).then_some(text))
    }

    /// Drops the collections that the server has created for an interrupted restore after this one
    /// listed the target: commands that it had accepted before its client disconnected. Like
    /// [`Self::clear_leftovers`], only where the request replaces.
    pub(super) async fn clear_late_leftovers(
        &self,
        cx: &Context,
        names: &HashSet<Namespace>,
    ) -> SourceResult<()> {
        if self.if_exists != IfExists::Replace {
            return Ok(());
        }
        let databases: BTreeSet<&str> = names.iter().map(|name| &*name.db).collect();
        for db in databases {
            let filter = doc! { "name": { "$regex": format!("^{}", PREFIX.replace('.', "\\.")) } };
            let command = doc! { "listCollections": 1, "nameOnly": true, "filter": filter };
            let listing = async {
                self.server.list_written(db, command).await.writing("cannot list the collections")
            };
            for entry in unless_cancelled(cx, listing).await? {
                let entry = Fields::parse(entry.as_bytes())?;
                let name = entry.get("name").ok_or_else(|| malformed("list of collections"))?;
                let Some(name) = name.text() else { continue };
                let found = Namespace::new(db, name);
                if is_left_of(&found, names) && !self.aside.is_one(&found) {
                    self.drop(&found).await?;
                }
            }
        }
        Ok(())
    }

    /// After a failure: drops the collections that this restore has made and not completed, as far
    /// as the target still answers. Merged collections stay.
    pub(super) async fn clear_own(&self) {
        let own: Vec<Namespace> = {
            let state = self.state();
            let filling = state.filling.iter().filter(|_| self.if_exists != IfExists::Merge);
            state.staged.keys().chain(filling).cloned().collect()
        };
        let clearing = async {
            // The server may still carry out an insertion that was given up, and make the
            // collection anew by it.
            for round in 0..ROUNDS {
                if round > 0 {
                    tokio::time::sleep(SETTLING).await;
                }
                let dropping =
                    own.iter().map(|namespace| self.drop_own(namespace, round == 0).boxed());
                // The restore's own context may be cancelled.
                together(&Context::silent(), self.parallel, dropping.collect()).await.1?;
            }
            SourceResult::Ok(())
        };
        let limit = CLEARING + CLEARING_ONE * u32::try_from(own.len()).unwrap_or(u32::MAX);
        // The failure is reported already; leftovers are named with it.
        let mut gone = own.clone();
        if !matches!(tokio::time::timeout(limit, clearing).await, Ok(Ok(()))) {
            gone = tokio::time::timeout(CLEARING, self.absent(own)).await.unwrap_or_default();
        }
        let mut state = self.state();
        for namespace in &gone {
            state.staged.remove(namespace);
            state.filling.remove(namespace);
        }
    }

    /// Those that the server does not have, as far as it answers: some were never made.
    async fn absent(&self, own: Vec<Namespace>) -> Vec<Namespace> {
        let mut absent = Vec::new();
        for namespace in own {
            if matches!(catalog::find(&self.server, &namespace).await, Ok(None)) {
                absent.push(namespace);
            }
        }
        absent
    }

    /// Drops what this restore has made; later only what no other client would make by writing to
    /// the name that users see.
    async fn drop_own(&self, namespace: &Namespace, is_first: bool) -> SourceResult<()> {
        if namespace.is_buckets() && is_first {
            self.drop(&namespace.visible()).await?;
        }
        if is_first || namespace.is_buckets() || self.aside.is_one(namespace) {
            self.drop(namespace).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(name: &str, options: Fields) -> Collection {
        let namespace = Namespace::new("db", name);
        Collection { namespace, kind: Kind::Collection, uuid: None, options, indexes: Vec::new() }
    }

    #[test]
    fn what_can_be_is_completed_under_another_name() {
        let aside = Aside::new();
        let prefix = format!("{PREFIX}{}.", aside.run);
        let long = "x".repeat(LONGEST - "db.".len() - prefix.len());
        let names = ["db.c", "db.system.buckets.b", "db.b", "db.system.buckets.w"];
        let names: HashSet<Namespace> =
            names.iter().map(|name| Namespace::parse(name).unwrap()).collect();
        let other = |name: &str, if_exists| {
            let mut collection = collection(name, Fields::default());
            let own = aside.name(&mut collection, &names, if_exists).unwrap();
            assert!(own.is_none_or(|own| own == Namespace::new("db", name)));
            collection.namespace.name
        };
        for if_exists in [IfExists::Fail, IfExists::Replace] {
            for own in ["c", &*long, "tmp.restore.c"] {
                assert_eq!(other(own, if_exists), format!("{prefix}{own}"));
            }
            for own in [&*format!("{long}x"), "system.js", "system.buckets.w"] {
                assert_eq!(other(own, if_exists), own);
            }
        }
        assert_eq!(other("c", IfExists::Merge), "c");
        assert_eq!(other("b", IfExists::Merge), format!("{prefix}b"));
        let mut encrypted = collection("c", doc! { "encryptedFields": {} }.into());
        assert_eq!(aside.name(&mut encrypted, &names, IfExists::Fail).unwrap(), None);
        let long = "x".repeat(250);
        let buckets = HashSet::from([Namespace::new("db", &*long).buckets()]);
        assert!(
            aside
                .name(&mut collection(&long, Fields::default()), &buckets, IfExists::Fail)
                .is_err()
        );
    }

    #[test]
    fn leftovers_are_told_from_what_users_make() {
        let (aside, other) = (Aside::new(), Aside::new());
        let mut one = collection("a.b", Fields::default());
        aside.name(&mut one, &HashSet::new(), IfExists::Fail).unwrap();
        assert!(aside.is_one(&one.namespace) && !other.is_one(&one.namespace));
        assert_eq!(run_of(&one.namespace), Some((&*aside.run, "a.b")));
        assert_eq!(shown(&one.namespace), Namespace::new("db", "a.b"));
        for name in [
            "tmp.restore.c",
            "tmp.restore.12345678",
            "tmp.restore.1234567x.c",
            "tmp.restore.ÄÄÄÄ.c",
            "c",
        ] {
            assert_eq!(run_of(&Namespace::new("db", name)), None);
        }
    }
}
