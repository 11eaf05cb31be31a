//! The collections of a restore on their way: documents first, then indexes and validators.

use std::collections::HashMap;

use backup_core::context::Context;
use backup_core::source::{
    ObjectDigest, RestoreRequest, SourceError, SourceErrorKind, SourceResult,
};

use super::finish;
use super::loader::Loader;
use super::verify::Restored;
use crate::mongodb::catalog::Collection;
use crate::mongodb::digest::Sum;
use crate::mongodb::dump::Dump;
use crate::mongodb::fold::{Folded, Live};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::MongoOptions;
use crate::mongodb::ordered::Ordered;
use crate::mongodb::raw::first_of;
use crate::mongodb::server::{Server, unless_cancelled};

/// One collection on its way.
pub(super) struct Work {
    pub(super) live: Live,
    /// Under its name at the target, or under the one it has until it is complete.
    pub(super) collection: Collection,
    /// The name it gets when it is complete.
    pub(super) renamed_to: Option<Namespace>,
    /// It has its indexes already.
    pub(super) is_indexed: bool,
    pub(super) loader: Loader,
}

/// All documents: those of the dump, then those that operations touch, then what must be in order.
pub(super) async fn load(
    cx: &Context,
    dump: &Dump,
    folded: &mut Folded,
    works: &mut [Work],
) -> SourceResult<()> {
    let mut ordered: HashMap<u32, Ordered> = HashMap::new();
    let places: HashMap<u32, usize> =
        works.iter().enumerate().map(|(at, work)| (work.live.number, at)).collect();
    for work in works.iter_mut() {
        let Some(mut reading) = dump.documents(&work.live)? else { continue };
        while let Some(mut piece) = unless_cancelled(cx, reading.piece()).await? {
            while let Some(document) = first_of(&mut piece)? {
                if let Some(document) = folded.base(&work.live, document)? {
                    work.loader.insert(document).await?;
                }
            }
        }
        // The last batch of one collection is not kept waiting while the next is read.
        work.loader.flush().await?;
    }
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
    /// What comes after the documents: indexes and validator; returns what can be read back.
    pub(super) async fn finish(
        self,
        cx: &Context,
        server: &Server,
        options: &MongoOptions,
        dump: &Dump,
        request: &RestoreRequest,
    ) -> SourceResult<Restored> {
        let Self { collection, loader, live, is_indexed, .. } = self;
        as_recorded(dump, &live.collection, loader.sum(), request.verify)?;
        let loaded = loader.finish().await?;
        if !is_indexed {
            unless_cancelled(cx, finish::indexes(server, &collection, options)).await?;
        }
        unless_cancelled(cx, finish::validator(server, &collection.namespace, &live.changes))
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
        !same_size || (hashed && *recorded != sum.finish(collection))
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
