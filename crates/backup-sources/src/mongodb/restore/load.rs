//! The collections of a restore on their way: documents first, then indexes and validators.

use std::collections::HashMap;

use backup_core::context::Context;
use backup_core::source::{
    ObjectDigest, RestoreRequest, SourceError, SourceErrorKind, SourceResult,
};
use futures::future;
use tokio::sync::mpsc;

use super::indexes::Indexes;
use super::loader::Loader;
use super::make::{Planning, make};
use super::target::Target;
use super::verify::Restored;
use super::{Plan, finish};
use crate::mongodb::catalog::Collection;
use crate::mongodb::digest::Sum;
use crate::mongodb::dump::Dump;
use crate::mongodb::fold::{Folded, Live};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::ordered::Ordered;
use crate::mongodb::raw::first_of;
use crate::mongodb::server::unless_cancelled;
use crate::progress::StageProgress;

/// One collection on its way.
pub(super) struct Work {
    pub(super) live: Live,
    /// Under its name at the target, or under the one it has until it is complete.
    pub(super) collection: Collection,
    /// The name it gets when it is complete.
    pub(super) renamed_to: Option<Namespace>,
    /// Those that it has, and those that it gets after its documents.
    pub(super) indexes: Indexes,
    pub(super) loader: Loader,
}

/// Makes the collections and fills them: with the documents of the dump, then with those that
/// operations touch, then with those that must be in order.
pub(super) async fn load(
    plan: &Plan<'_>,
    target: &Target,
    folded: &mut Folded,
    planning: Planning,
    progress: &StageProgress,
) -> SourceResult<Vec<Work>> {
    // Collections that were made wait here for their documents.
    let (sender, made) = mpsc::channel(target.parallel);
    let making = make(plan, target, planning, sender);
    let dumped = dumped(plan, folded, made, progress);
    let ((), mut works) = future::try_join(making, dumped).await?;
    settled(&plan.dump, folded, &mut works).await?;
    Ok(works)
}

/// Documents of the dump, one collection after another.
async fn dumped(
    plan: &Plan<'_>,
    folded: &mut Folded,
    mut made: mpsc::Receiver<Work>,
    progress: &StageProgress,
) -> SourceResult<Vec<Work>> {
    let cx = plan.cx;
    let mut works = Vec::new();
    while let Some(mut work) = made.recv().await {
        let mut reading = plan.dump.documents(&work.live)?;
        while let Some(reading) = &mut reading
            && let Some(mut piece) = unless_cancelled(cx, reading.piece()).await?
        {
            let bytes = piece.len() as u64;
            while let Some(document) = first_of(&mut piece)? {
                if let Some(document) = folded.base(&work.live, document)? {
                    work.loader.insert(document).await?;
                }
            }
            progress.done(0, bytes);
        }
        // The last batch of one collection is not kept waiting while the next is read.
        work.loader.flush().await?;
        progress.done(u64::from(work.indexes.late.is_empty()), 0);
        works.push(work);
    }
    Ok(works)
}

/// Documents that operations touch, then those of capped collections, in their order.
async fn settled(dump: &Dump, folded: &mut Folded, works: &mut [Work]) -> SourceResult<()> {
    let mut ordered: HashMap<u32, Ordered> = HashMap::new();
    let places: HashMap<u32, usize> =
        works.iter().enumerate().map(|(at, work)| (work.live.number, at)).collect();
    while let Some(settled) = folded.settle()? {
        for found in settled {
            let Some(work) = places.get(&found.number).and_then(|at| works.get_mut(*at)) else {
                continue;
            };
            if work.collection.is_capped() {
                ordered.entry(found.number).or_default().push(&found)?;
            } else {
                work.loader.insert(found.document).await?;
            }
        }
        // Many collections with a little each must not add up.
        for work in works.iter_mut() {
            work.loader.flush().await?;
        }
    }
    for (number, mut ordered) in ordered {
        let Some(work) = places.get(&number).and_then(|at| works.get_mut(*at)) else { continue };
        ordered.sort(&work.live.collection, dump.state.version);
        while let Some(document) = ordered.next()? {
            work.loader.insert(document).await?;
        }
    }
    Ok(())
}

impl Work {
    /// Waits for the documents, builds the indexes that remain and sets the validator.
    pub(super) async fn finish(
        self,
        cx: &Context,
        target: &Target,
        dump: &Dump,
        request: &RestoreRequest,
    ) -> SourceResult<Restored> {
        let Self { collection, loader, live, indexes, .. } = self;
        as_recorded(dump, &live.collection, loader.sum(), request.verify)?;
        let loaded = loader.finish().await?;
        if collection.namespace.is_buckets() {
            unless_cancelled(cx, target.drop_other_indexes(&collection)).await?;
        }
        unless_cancelled(cx, target.build(&collection.namespace, &indexes.late)).await?;
        unless_cancelled(
            cx,
            finish::validator(target, &collection.namespace, (&live.changes, &collection.options)),
        )
        .await?;
        Ok(Restored { collection, live, loaded })
    }
}

/// What was read from the snapshot must be what was counted when it was made, and with `hashed`
/// documents be the same.
pub(super) fn as_recorded(
    dump: &Dump,
    collection: &Collection,
    sum: &Sum,
    hashed: bool,
) -> SourceResult<()> {
    let differs = |recorded: &ObjectDigest| {
        let same_size = (recorded.count, recorded.bytes) == (sum.count, sum.bytes);
        // The definitions that were backed up: a restore may leave some of them out.
        let mut saved = dump.state.collections.iter().map(|saved| &saved.collection);
        let own = |saved: &&Collection| saved.namespace == collection.namespace;
        let saved = saved.find(own).unwrap_or(collection);
        !same_size || (hashed && *recorded != sum.finish(saved))
    };
    match dump.state.digest_of(&collection.namespace) {
        // By now it may be another.
        _ if dump.needs_entries() => Ok(()),
        Some(recorded) if differs(recorded) => {
            let text = format!(
                "{}: the data in the snapshot differs from the digest that the backup recorded",
                collection.namespace
            );
            Err(SourceError::new(SourceErrorKind::Mismatch, text))
        }
        _ => Ok(()),
    }
}
