//! Numbers of databases, collections, documents, users and roles in plans and reports.

use std::collections::BTreeSet;

use backup_core::source::{PlannedObject, RestoredObjects, SourceResult};

use super::verify::Restored;
use crate::mongodb::catalog::Collection;
use crate::mongodb::dump::Dump;
use crate::mongodb::fold::Live;
use crate::mongodb::namespace::Namespace;

/// The objects that a plan writes. Documents and bytes are those of the backup; operations of a log
/// change both, so that the number of documents is then unknown.
pub(super) fn planned(
    dump: &Dump,
    (wanted, views): (&[(Live, Collection)], &[Collection]),
    users: &[PlannedObject],
) -> SourceResult<RestoredObjects> {
    let of_kind = |kind: &str| users.iter().filter(|one| one.kind == kind).count() as u64;
    let data = wanted.iter().filter(|(_, collection)| !collection.namespace.is_authorization());
    let mut planned = RestoredObjects {
        views: views.len() as u64,
        documents: Some(0),
        users: of_kind("user"),
        roles: of_kind("role"),
        ..RestoredObjects::default()
    };
    for (live, collection) in data.clone() {
        planned.collections += 1;
        planned.bytes += dump.bytes_of(live)?;
        planned.time_series += u64::from(collection.namespace.is_buckets());
        if !collection.namespace.is_buckets() {
            let recorded = dump.state.digest_of(&live.collection.namespace);
            let count = recorded.filter(|_| !dump.needs_entries()).map(|digest| digest.count);
            planned.documents = planned.documents.zip(count).map(|(sum, count)| sum + count);
        }
    }
    let names = data.map(|(_, collection)| collection).chain(views);
    planned.databases = databases(names.map(|collection| &collection.namespace));
    Ok(planned)
}

/// The objects that a restore has written; `users` are the planned users and roles.
pub(super) fn written(
    restored: &[Restored],
    views: &[Collection],
    planned: &RestoredObjects,
) -> RestoredObjects {
    let plain = restored.iter().filter(|one| !one.collection.namespace.is_buckets());
    let names = restored.iter().map(|one| &one.collection.namespace);
    RestoredObjects {
        databases: databases(names.chain(views.iter().map(|view| &view.namespace))),
        collections: restored.len() as u64,
        time_series: (restored.len() - plain.clone().count()) as u64,
        views: views.len() as u64,
        documents: Some(plain.map(|one| one.loaded.sum.count).sum()),
        bytes: restored.iter().map(|one| one.loaded.sum.bytes).sum(),
        ..*planned
    }
}

fn databases<'a>(names: impl Iterator<Item = &'a Namespace>) -> u64 {
    names.map(|name| &*name.db).collect::<BTreeSet<&str>>().len() as u64
}
