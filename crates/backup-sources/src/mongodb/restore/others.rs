//! Objects at the target that the snapshot lacks: removed only if the request says so, and named in
//! the plan.

use std::collections::{BTreeMap, BTreeSet};

use backup_core::context::Context;
use backup_core::source::{
    Delete, IfExists, Removal, RestoreRequest, SourceError, SourceErrorKind, SourceResult,
};
use futures::FutureExt as _;

use super::aside::run_of;
use super::target::Target;
use super::together::together;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::options::MongoOptions;
use crate::mongodb::server::unless_cancelled;

/// Refuses a removal that would follow from no clear rule: beside other modes than `replace`, and
/// under other names than those of the snapshot.
pub(super) fn refuse_unclear(request: &RestoreRequest, options: &MongoOptions) -> SourceResult<()> {
    if request.delete == Delete::Nothing
        || (request.if_exists == IfExists::Replace && options.renames.is_empty())
    {
        return Ok(());
    }
    let text = "objects that the snapshot lacks can be removed only with --if-exists replace, and \
                not under other names";
    Err(SourceError::new(SourceErrorKind::Invalid, text)
        .with_hint("leave out --delete, or give it with --if-exists replace and without --rename"))
}

impl Target {
    /// Objects that the request removes: both the selection and the patterns of the backup
    /// (`filters`) cover them, and the snapshot does not hold them (`names`). A snapshot shows
    /// nothing about objects that its backup left out. With `database`, only objects of it.
    pub(super) fn others(
        &self,
        names: &[Namespace],
        filters: [&Filter; 2],
        delete: &Delete,
        database: Option<&str>,
    ) -> Vec<Namespace> {
        let restored: BTreeSet<Namespace> = names.iter().map(Namespace::visible).collect();
        let is_asked = |name: &Namespace| match delete {
            Delete::Nothing | Delete::PlannedFiles(..) => false,
            Delete::Absent(_) => true,
            Delete::Planned(planned) => planned.contains(&name.to_string()),
        };
        let is_of_a_restore = |name: &Namespace| run_of(name).is_some();
        let state = self.state();
        let found = state.existing.keys().filter(|name| {
            !name.is_buckets()
                && !name.is_internal()
                && name.db != "admin"
                && database.is_none_or(|database| name.db == database)
                && !is_of_a_restore(name)
                && !restored.contains(name)
                && is_asked(name)
                && filters.iter().all(|filter| filter.covers(name))
        });
        found.cloned().collect()
    }

    /// Describes these objects, and the databases of which nothing is left.
    pub(super) async fn removals(
        &self,
        cx: &Context,
        others: &[Namespace],
        names: &[Namespace],
    ) -> SourceResult<Vec<Removal>> {
        let mut removals = Vec::with_capacity(others.len());
        let mut gone: BTreeMap<&str, u64> = BTreeMap::new();
        for other in others {
            *gone.entry(&other.db).or_default() += 1;
            removals.push(unless_cancelled(cx, self.removal(other)).await?);
        }
        for (db, count) in gone {
            let is_kept = names.iter().any(|name| name.db == db);
            if !is_kept && self.objects_of(db) == count {
                let kind = "database".to_owned();
                removals.push(Removal {
                    kind,
                    name: db.to_owned(),
                    count: Some(count),
                    estimate: None,
                });
            }
        }
        Ok(removals)
    }

    /// Number of objects of a database that users see.
    fn objects_of(&self, db: &str) -> u64 {
        let state = self.state();
        let of_it = |name: &&Namespace| name.db == db && !name.is_buckets() && !name.is_internal();
        state.existing.keys().filter(of_it).count() as u64
    }

    async fn removal(&self, other: &Namespace) -> SourceResult<Removal> {
        let (kind, count) = self.counted(other).await?;
        Ok(Removal { kind: kind.to_owned(), name: other.to_string(), count, estimate: None })
    }

    /// Drops these objects.
    pub(super) async fn remove(&self, cx: &Context, others: &[Namespace]) -> SourceResult<()> {
        let dropping = others.iter().map(|namespace| self.drop(namespace).boxed());
        together(cx, self.parallel, dropping.collect()).await.1
    }
}
