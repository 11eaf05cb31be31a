//! Writing a snapshot to a server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`restore`]: plan, load, finish |
//! | `wanted.rs` | the part of the snapshot that is restored, under its names at the target |
//! | `target.rs` | what is there, what stands in the way, creating and dropping |
//! | `aside.rs` | collections under temporary names until they are complete |
//! | `others.rs` | objects at the target that the snapshot lacks |
//! | `planned.rs` | objects that a plan names, and their documents |
//! | `load.rs` | the collections on their way: documents, then indexes and validators |
//! | `loader.rs` | inserting documents in batches, several at a time |
//! | `writer.rs` | writing one batch: insertions, replacements, reading back |
//! | `command.rs` | write commands assembled from bytes |
//! | `replay.rs` | operations of the oplog, applied by the target's server |
//! | `finish.rs` | indexes, validators, views, the wait for a majority |
//! | `users.rs` | users and roles: compared, added, replaced |
//! | `verify.rs` | reading it all back |
//! | `failure.rs` | the state in which a failed restore leaves the target |
//!
//! Documents first, into collections without indexes and past their validators; then indexes,
//! views, and users last. Nothing is written before everything that stands in the way is known, and
//! what the repository has lost as far as its index says.
//!
//! Plain collections are filled and indexed as `tmp.restore.RUN.NAME` and then renamed: nobody
//! takes half of one for all of it, and with `replace` the old one is there until its successor is
//! complete. It cannot be done where documents are merged into what is there, nor with time-series
//! and encrypted collections, names of nearly 255 bytes and `system.js`: they can be seen before
//! they are complete.

mod aside;
mod command;
mod failure;
mod finish;
mod load;
mod loader;
mod others;
mod planned;
mod replay;
mod target;
mod users;
mod verify;
mod wanted;
mod writer;

use std::collections::HashSet;

use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{RestoreReport, RestoreRequest, SourceResult};
use futures::future::join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::catalog::Collection;
use super::dump::Dump;
use super::fold::{Folded, Live};
use super::namespace::{Filter, Namespace};
use super::options::MongoOptions;
use super::scan::Scan;
use super::server::{Primary, Server, unless_cancelled};
use crate::pace::Pace;
use failure::Left;
use load::Work;
use loader::{Flow, Loaded, Loader};
use target::Target;
use verify::{Restored, Verifier};

/// Collections that are made, indexed or renamed at the same time.
pub(super) const TOGETHER: usize = 8;
/// Bytes of documents up to which a collection gets its indexes before its documents.
const SMALL: u64 = 16 << 20;

/// Writes the selected part of a snapshot to `server`.
pub(super) async fn restore(
    cx: &Context,
    server: &Server,
    options: &MongoOptions,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
) -> SourceResult<RestoreReport> {
    server.refuse_sharded()?;
    others::refuse_unclear(request, options)?;
    let dump = unless_cancelled(cx, Dump::open(cx, snapshot)).await?.with_log(request.log.clone());
    let until = dump.moment_with_log(options.until).await?;
    let options = &MongoOptions { until, ..options.clone() };
    let replays = replay::is_wanted(server, &dump, options, request)?;
    let filter = Filter::new(&request.selection)?;
    let folded = unless_cancelled(cx, dump.fold(cx, options.until, &filter, replays)).await?;
    let (wanted, views) = wanted::wanted(&folded, &filter, options)?;
    let names = wanted.iter().map(|(_, collection)| collection).chain(&views);
    let names: Vec<Namespace> = names.map(|collection| collection.namespace.clone()).collect();
    let target = Target::look(cx, server, request.if_exists).await?;
    target.refuse_conflicts(&names, &views)?;
    let collections = wanted.len() as u64;
    let mut report =
        RestoreReport { entries: collections + views.len() as u64, ..RestoreReport::default() };
    users::compare(cx, server, (&dump, &folded), &wanted, request.if_exists, &mut report).await?;
    dump.refuse_lost(wanted.iter().map(|(live, _)| live))?;
    let others = target.others(&names, [&filter, &dump.state.filter()?], &request.delete);
    report.removed = others.len() as u64;
    report.removals = target.removals(cx, &others, &names).await?;
    if request.dry_run {
        report.objects = target.planned(cx, &dump, (&wanted, &views)).await?;
        return Ok(report);
    }
    let primary = unless_cancelled(cx, server.primary()).await?;
    let plan = Plan {
        cx,
        server,
        primary,
        options,
        request,
        dump,
        folded,
        replays,
        wanted,
        views,
        names,
        others,
    };
    match plan.carry_out(&target, &mut report).await {
        Ok(()) => Ok(report),
        Err(error) => {
            target.clear_own().await;
            let done = (report.files_written, collections);
            Err(Left::of(&target).explain(error, done, request.if_exists))
        }
    }
}

/// Everything that a restore is going to do.
struct Plan<'a> {
    cx: &'a Context,
    server: &'a Server,
    /// That of the target, before anything was written.
    primary: Primary,
    options: &'a MongoOptions,
    request: &'a RestoreRequest,
    dump: Dump,
    folded: Folded,
    /// The target's server applies operations.
    replays: bool,
    wanted: Vec<(Live, Collection)>,
    views: Vec<Collection>,
    /// Of all of them.
    names: Vec<Namespace>,
    /// Objects at the target that are removed.
    others: Vec<Namespace>,
}

impl Plan<'_> {
    async fn carry_out(mut self, target: &Target, report: &mut RestoreReport) -> SourceResult<()> {
        let Self { cx, server, options, request, .. } = self;
        let wanted = std::mem::take(&mut self.wanted);
        let mut works = self.prepare(target, wanted).await?;
        load::load(cx, &self.dump, &mut self.folded, &mut works).await?;
        if self.replays {
            replay::replay(cx, server, &self.dump, options, &mut works).await?;
        }
        let (users, works): (Vec<_>, Vec<_>) =
            works.into_iter().partition(|work| work.collection.namespace.is_authorization());
        let finishing = stream::iter(works).map(|work| self.finish(work)).buffered(TOGETHER);
        let finished: Vec<Finished> = finishing.try_collect().await?;
        // Nothing that is there goes before what takes its place is known to last.
        let again = failure::again(request.if_exists);
        finish::barrier(cx, server, &self.names, self.primary, again).await?;
        let restored = complete(cx, target, finished, report).await?;
        target.remove(cx, &self.others).await?;
        finish::views(cx, target, &self.views).await?;
        target.clear_late_leftovers(cx, &self.names.iter().cloned().collect()).await?;
        for Work { collection, loader, live, .. } in users {
            load::as_recorded(&self.dump, &live.collection, loader.sum(), request.verify)?;
            let loaded = users::restore(cx, server, &collection.namespace, request, loader).await?;
            add(report, &loaded);
        }
        finish::barrier(cx, server, &self.names, self.primary, again).await?;
        if request.verify {
            let mut verifier =
                Verifier::new(Scan::at_once(cx, server), server, options, self.dump.state.newest());
            for restored in &restored {
                report.verified_bytes +=
                    unless_cancelled(cx, verifier.collection(restored)).await?;
            }
            for view in &self.views {
                unless_cancelled(cx, verifier.view(view)).await?;
            }
            cx.events.note(verifier.told(self.views.len()));
        }
        Ok(())
    }

    /// Makes a place for the documents of each collection. Those under temporary names do not
    /// depend on each other, and are made several at a time.
    async fn prepare(
        &self,
        target: &Target,
        wanted: Vec<(Live, Collection)>,
    ) -> SourceResult<Vec<Work>> {
        let (cx, options) = (self.cx, self.options);
        let names: HashSet<Namespace> = self.names.iter().cloned().collect();
        if let Some(left) = unless_cancelled(cx, target.clear_leftovers(&names)).await? {
            cx.events.note(left);
        }
        let flow = Flow::new(Pace::of(options.max_bytes_per_second), options.write_concern);
        let (mut works, mut staged) = (Vec::new(), Vec::new());
        for (live, mut collection) in wanted {
            let renamed_to = target.aside.name(&mut collection, &names, self.request.if_exists)?;
            match renamed_to {
                Some(_) => staged.push((live, collection, renamed_to)),
                None => {
                    works.push(self.make(target, &flow, (live, collection, renamed_to)).await?);
                }
            }
        }
        let making = stream::iter(staged).map(|one| self.make(target, &flow, one));
        let made: Vec<Work> = making.buffered(TOGETHER).try_collect().await?;
        works.extend(made);
        Ok(works)
    }

    /// Makes one collection; a small one under a temporary name with its indexes. Building these
    /// on documents takes the server at least a tenth of a second for each collection.
    async fn make(
        &self,
        target: &Target,
        flow: &Flow,
        (live, collection, renamed_to): (Live, Collection, Option<Namespace>),
    ) -> SourceResult<Work> {
        let (cx, server, options) = (self.cx, self.server, self.options);
        let existed = unless_cancelled(cx, target.prepare(&live, &collection, options)).await?;
        let is_indexed = renamed_to.is_some() && self.is_small(&live)?;
        if is_indexed {
            unless_cancelled(cx, finish::indexes(server, &collection, options)).await?;
        }
        let shown = renamed_to.clone().unwrap_or_else(|| collection.namespace.clone());
        let verify = self.request.verify;
        let loader = Loader::new((cx, server), (&collection, shown), flow, existed, verify);
        Ok(Work { live, collection, renamed_to, is_indexed, loader })
    }

    /// Whether a collection has few documents, each of which is written once: while the server
    /// applies operations, a unique index may not hold.
    fn is_small(&self, live: &Live) -> SourceResult<bool> {
        let operations = if self.folded.is_touched(live) { self.dump.entry_bytes() } else { 0 };
        let bytes = self.dump.bytes_of(live)?.saturating_add(operations);
        Ok(!self.replays && bytes <= SMALL)
    }

    async fn finish(&self, work: Work) -> SourceResult<Finished> {
        let renamed_to = work.renamed_to.clone();
        let Self { cx, server, options, request, .. } = *self;
        Ok((work.finish(cx, server, options, &self.dump, request).await?, renamed_to))
    }
}

/// A collection with its indexes, and the name that it gets.
type Finished = (Restored, Option<Namespace>);

/// Gives the collections their names, several at a time. A rename that has begun is waited for:
/// the state of the target is known whatever happens.
async fn complete(
    cx: &Context,
    target: &Target,
    finished: Vec<Finished>,
    report: &mut RestoreReport,
) -> SourceResult<Vec<Restored>> {
    let mut restored = Vec::with_capacity(finished.len());
    let mut finished = finished.into_iter().peekable();
    while finished.peek().is_some() {
        cx.check_cancelled()?;
        let some = finished.by_ref().take(TOGETHER).map(|(mut one, renamed_to)| async move {
            if let Some(name) = renamed_to {
                target.complete(&one.collection.namespace, &name).await?;
                one.collection.namespace = name;
            }
            target.completed(&one.collection.namespace);
            SourceResult::Ok(one)
        });
        let some = join_all(some).await;
        some.iter().flatten().for_each(|one| add(report, &one.loaded));
        for one in some {
            restored.push(one?);
        }
    }
    Ok(restored)
}

/// Counts a collection that is complete.
fn add(report: &mut RestoreReport, loaded: &Loaded) {
    report.files_written += 1;
    report.total_bytes += loaded.sum.bytes;
    report.written_bytes += loaded.sum.bytes;
    report.verified_bytes += loaded.verified;
}
