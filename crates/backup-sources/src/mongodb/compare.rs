//! Whether a server holds what a snapshot does, without restoring it.
//!
//! What the snapshot holds is folded to its moment and digested, as restoring would write it; what
//! the server holds is read. The server goes on: compare a target that nothing writes to, or expect
//! differences.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_core::source::{Digest, Selection, SourceResult};

use super::MongoSource;
use super::catalog::{Collection, Kind};
use super::digest::{self, Sum};
use super::dump::Dump;
use super::fold::Live;
use super::import::drop_unrecorded;
use super::namespace::{Filter, Namespace};
use super::position::Position;
use super::raw::first_of;
use super::server::unless_cancelled;

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct CompareRequest {
    /// Which collections, of those that the backup was asked for.
    pub selection: Selection,
    /// The moment, inclusive; `None` is the end of the snapshot, or the moment of `log`.
    pub until: Option<Position>,
    /// What is applied to the snapshot, the base of its plan.
    pub log: Option<Arc<LogReplay>>,
}

/// What was compared, by `database.collection`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// In the snapshot.
    pub stored: Digest,
    /// On the server.
    pub found: Digest,
}

/// Compares what `snapshot` holds at a moment with what the server holds now.
///
/// # Errors
/// [`SourceErrorKind::Unsupported`](backup_core::source::SourceErrorKind::Unsupported) for a
/// sharded cluster, and if the oplog holds an operation that is not known; those of reading either
/// side. Differences are no error.
pub async fn compare(
    cx: &Context,
    source: &MongoSource,
    snapshot: &SnapshotReader,
    request: &CompareRequest,
) -> SourceResult<Comparison> {
    let dump = unless_cancelled(cx, Dump::open(cx, snapshot)).await?.with_log(request.log.clone());
    let until = dump.moment_with_log(request.until).await?;
    let (asked, backed_up) = (Filter::new(&request.selection)?, dump.state.filter()?);
    let stored = stored(cx, &dump, until, &asked).await?;
    // What the backup left out is on the server, and no difference.
    let recorded = dump.state.collections.iter().map(|saved| &saved.collection);
    let recorded: BTreeMap<&Namespace, &Collection> =
        recorded.map(|collection| (&collection.namespace, collection)).collect();
    let covers = |collection: &mut Collection| {
        if let Some(recorded) = recorded.get(&collection.namespace) {
            drop_unrecorded(recorded, collection);
        }
        backed_up.covers(&collection.namespace) && is_compared(collection)
    };
    let found = unless_cancelled(cx, digest::digest_of(cx, &source.server, &asked, covers)).await;
    let found = source.server.named(found)?;
    Ok(Comparison { stored, found })
}

/// A time-series collection is its buckets, in which its options stand as well.
fn is_compared(collection: &Collection) -> bool {
    collection.kind != Kind::TimeSeries && !collection.namespace.is_restored_by_the_server()
}

/// Digests of what a snapshot holds at a moment.
async fn stored(
    cx: &Context,
    dump: &Dump,
    until: Option<Position>,
    asked: &Filter,
) -> SourceResult<Digest> {
    let mut folded = unless_cancelled(cx, dump.fold(cx, until, asked)).await?;
    let covers =
        |namespace: &Namespace| asked.covers(namespace) && !namespace.is_restored_by_the_server();
    let is_wanted = |one: &&Live| !one.temporary && covers(&one.collection.namespace);
    let live: Vec<Live> = folded.live.iter().filter(is_wanted).cloned().collect();
    let mut sums: HashMap<u32, Sum> = live.iter().map(|one| (one.number, Sum::default())).collect();
    for one in &live {
        let Some(mut reading) = dump.documents(one)? else { continue };
        let sum = sums.entry(one.number).or_default();
        while let Some(mut piece) = unless_cancelled(cx, reading.piece()).await? {
            while let Some(document) = first_of(&mut piece)? {
                if let Some(document) = folded.base(one, document)? {
                    sum.add(&document);
                }
            }
        }
    }
    while let Some(settled) = folded.settle()? {
        cx.check_cancelled()?;
        for document in settled {
            if let Some(sum) = sums.get_mut(&document.number) {
                sum.add(&document.document);
            }
        }
    }
    let mut objects = BTreeMap::new();
    for one in live {
        let (collection, sum) = (one.changed(), sums.remove(&one.number).unwrap_or_default());
        objects.insert(collection.namespace.to_string(), sum.finish(&collection));
    }
    for view in folded.views.iter().filter(|view| covers(&view.namespace)) {
        objects.insert(view.namespace.to_string(), Sum::default().finish(view));
    }
    objects.retain(digest::is_noteworthy);
    Ok(Digest { objects })
}
