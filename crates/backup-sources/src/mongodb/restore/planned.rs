//! Objects that a restore plan names: the ones it writes, and the ones at the target that these
//! replace or are merged into.

use backup_core::context::Context;
use backup_core::source::{ExistingObject, PlannedObject, SourceResult};
use bson::doc;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::target::Target;
use crate::mongodb::catalog::{Collection, Kind, whole};
use crate::mongodb::dump::Dump;
use crate::mongodb::error::{Explain as _, is_denied};
use crate::mongodb::fold::Live;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::server::unless_cancelled;

impl Target {
    /// Names the collections and views that are written, without users and roles. Documents are counted as the backup
    /// recorded them; a log that is applied to them may change their number, which is then unknown.
    pub(super) async fn planned(
        &self,
        cx: &Context,
        dump: &Dump,
        (wanted, views): (&[(Live, Collection)], &[Collection]),
    ) -> SourceResult<Vec<PlannedObject>> {
        let recorded = |live: &Live| {
            let namespace = &live.collection.namespace;
            // The documents of buckets are not measurements.
            let is_known = !dump.needs_entries() && !namespace.is_buckets();
            dump.state.digest_of(namespace).filter(|_| is_known).map(|digest| digest.count)
        };
        let mut objects = Vec::with_capacity(wanted.len() + views.len());
        let data = wanted.iter().filter(|(_, one)| !one.namespace.is_authorization());
        for (live, collection) in data {
            let is_buckets = collection.namespace.is_buckets();
            let kind = if is_buckets { Kind::TimeSeries } else { collection.kind };
            objects.push((collection.namespace.visible(), kind, recorded(live)));
        }
        objects.extend(views.iter().map(|view| (view.namespace.clone(), Kind::View, None)));
        let planning = objects.into_iter().map(|(namespace, kind, count)| async move {
            let existing = unless_cancelled(cx, self.existing(&namespace)).await?;
            let (kind, name) = (word(kind).to_owned(), namespace.to_string());
            SourceResult::Ok(PlannedObject { kind, name, count, existing })
        });
        stream::iter(planning).buffered(self.parallel).try_collect().await
    }

    /// The object that is replaced or merged into.
    async fn existing(&self, namespace: &Namespace) -> SourceResult<Option<ExistingObject>> {
        if self.kind_of(namespace).is_none() {
            return Ok(None);
        }
        let (_, count) = self.counted(namespace).await?;
        Ok(Some(ExistingObject { count, estimate: None }))
    }

    /// Kind of an object at the target, and the number of its documents, if that is known without
    /// reading them.
    pub(super) async fn counted(
        &self,
        object: &Namespace,
    ) -> SourceResult<(&'static str, Option<u64>)> {
        let kind = self.kind_of(object).unwrap_or(Kind::Collection);
        if kind != Kind::Collection {
            return Ok((word(kind), None));
        }
        let count = match self.server.run(&object.db, doc! { "count": &object.name }).await {
            Ok(reply) => Some(whole(reply.get("n"))),
            Err(error) if is_denied(&error) => None,
            Err(error) => {
                return Err(error).writing(format_args!("cannot count the documents of {object}"));
            }
        };
        Ok((word(kind), count))
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::View => "view",
        // Counting the measurements would read all of them.
        Kind::TimeSeries => "time-series collection",
        Kind::Collection => "collection",
    }
}
