//! Making the collections of a restore, with the indexes that they get while they are empty.

use std::collections::HashSet;

use backup_core::context::Context;
use backup_core::source::SourceResult;
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc::Sender;

use super::Plan;
use super::indexes::{Indexes, Terms};
use super::load::Work;
use super::loader::{Flow, Loader};
use super::target::Target;
use crate::mongodb::catalog::Collection;
use crate::mongodb::fold::{Folded, Live};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::server::unless_cancelled;
use crate::pace::Pace;

/// Bytes of documents up to which a collection gets its indexes before its documents.
const SMALL: u64 = 16 << 20;

/// A collection that will be made.
pub(super) struct Planned {
    live: Live,
    /// Under the name that it has until it is complete.
    collection: Collection,
    /// The name that it gets then, if that is another one.
    renamed_to: Option<Namespace>,
    indexes: Indexes,
}

/// All collections that will be made.
pub(super) struct Planning {
    /// Under temporary names: they do not depend on each other.
    staged: Vec<Planned>,
    /// Under their own names.
    direct: Vec<Planned>,
    flow: Flow,
}

impl Plan<'_> {
    /// Chooses names and early indexes, and clears the leftovers of earlier restores.
    pub(super) async fn planning(
        &self,
        target: &Target,
        folded: &Folded,
        wanted: Vec<(Live, Collection)>,
    ) -> SourceResult<Planning> {
        let (cx, options) = (self.cx, self.options);
        let names: HashSet<Namespace> = self.names.iter().cloned().collect();
        let clearing = target.clear_leftovers(cx, &names);
        if let Some(left) = unless_cancelled(cx, clearing).await? {
            cx.events.note(left);
        }
        let flow = Flow::new(Pace::of(options.max_bytes_per_second), options.write_concern);
        let terms = Terms { defer_ttl: options.defer_ttl, version: target.server.version };
        let mut planning = Planning { staged: Vec::new(), direct: Vec::new(), flow };
        for (live, mut collection) in wanted {
            let renamed_to = target.aside.name(&mut collection, &names, self.request.if_exists)?;
            let is_small = renamed_to.is_some() && self.is_small(folded, &live)?;
            let indexes = if collection.namespace.is_authorization() {
                Indexes::default() // The server has them.
            } else {
                Indexes::of(&collection, is_small, terms)
            };
            let planned = Planned { live, collection, renamed_to, indexes };
            match planned.renamed_to {
                Some(_) => planning.staged.push(planned),
                None => planning.direct.push(planned),
            }
        }
        Ok(planning)
    }

    /// Whether a collection has few documents, each of which is written once: while the server
    /// applies operations, a unique index may not hold.
    fn is_small(&self, folded: &Folded, live: &Live) -> SourceResult<bool> {
        let operations = if folded.is_touched(live) { self.dump.entry_bytes() } else { 0 };
        let bytes = self.dump.bytes_of(live)?.saturating_add(operations);
        Ok(!self.replays && bytes <= SMALL)
    }
}

/// Makes collections and hands them over, in the order in which they are filled: those under
/// temporary names first, a few ahead of the documents. The others can be seen, and merging into
/// them cannot be undone: they come last, and all of them exist before the first one is filled.
pub(super) async fn make(
    plan: &Plan<'_>,
    target: &Target,
    planning: Planning,
    sender: Sender<Work>,
) -> SourceResult<()> {
    let Planning { staged, direct, flow } = planning;
    let staging = stream::iter(staged).map(|planned| made(plan, target, &flow, planned).boxed());
    let mut staging = staging.buffered(target.parallel).boxed();
    while let Some(work) = staging.try_next().await? {
        if sender.send(work).await.is_err() {
            return Ok(()); // Filling has failed, and reports it.
        }
    }
    let mut works = Vec::with_capacity(direct.len());
    for planned in direct {
        works.push(made(plan, target, &flow, planned).await?);
    }
    for work in works {
        if sender.send(work).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn made(
    plan: &Plan<'_>,
    target: &Target,
    flow: &Flow,
    planned: Planned,
) -> SourceResult<Work> {
    let Planned { live, collection, renamed_to, indexes } = planned;
    let cx: &Context = plan.cx;
    let existed = unless_cancelled(cx, target.prepare(&live, &collection, plan.options)).await?;
    unless_cancelled(cx, target.build(&collection.namespace, &indexes.early)).await?;
    let shown = renamed_to.clone().unwrap_or_else(|| collection.namespace.clone());
    let verify = plan.request.verify;
    let loader = Loader::new((cx, plan.server), (&collection, shown), flow, existed, verify);
    Ok(Work { live, collection, renamed_to, indexes, loader })
}
