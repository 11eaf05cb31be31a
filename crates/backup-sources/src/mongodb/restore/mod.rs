//! Writing a snapshot to a server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`restore`]: plan, load, finish |
//! | `wanted.rs` | the part of the snapshot that is restored, under its names at the target |
//! | `into.rs` | the database that the address of the target names |
//! | `target.rs` | what is there, what stands in the way, creating and dropping |
//! | `left_out.rs` | collections and views that cannot be brought to the moment |
//! | `adjust.rs` | indexes and options that are left out or converted |
//! | `impossible.rs` | names that no server takes |
//! | `refused/` | definitions that the target refuses |
//! | `aside.rs` | collections under temporary names until they are complete |
//! | `others.rs` | objects at the target that the snapshot lacks |
//! | `contents.rs` | numbers of databases, collections, documents, users and roles |
//! | `planned.rs` | objects that a plan names, and their documents |
//! | `make.rs` | making collections, a few ahead of their documents |
//! | `indexes.rs` | indexes: before the documents, or after them |
//! | `load.rs` | the collections on their way: documents, then indexes and validators |
//! | `loader.rs` | inserting documents in batches, several at a time |
//! | `writer.rs` | writing one batch: insertions, replacements, reading back |
//! | `command.rs` | write commands assembled from bytes |
//! | `replay.rs` | operations of the oplog, applied by the target's server |
//! | `finish.rs` | validators, views, the wait for a majority |
//! | `together.rs` | several commands at a time |
//! | `users.rs` | users and roles: compared, added, replaced |
//! | `equal.rs` | comparison of users and roles |
//! | `verify.rs` | reading it all back |
//! | `definitions.rs` | differences between definitions |
//! | `failure.rs` | the state in which a failed restore leaves the target |
//!
//! Small collections get their indexes while they are empty, others after their documents, which are
//! written past the validators; then come views, and users last. TTL indexes come after all other
//! indexes: the server deletes by them from then on. Nothing is written before everything that stands in the way is known, and
//! what the repository has lost as far as its index says.
//!
//! Plain collections are filled and indexed as `tmp.restore.RUN.NAME` and then renamed: nobody
//! takes half of one for all of it, and with `replace` the old one is there until its successor is
//! complete. It cannot be done where documents are merged into what is there, nor with time-series
//! and encrypted collections, names of nearly 255 bytes and `system.js`: they can be seen before
//! they are complete.

mod adjust;
mod aside;
mod command;
mod contents;
mod definitions;
mod equal;
mod failure;
mod finish;
mod impossible;
mod indexes;
mod into;
mod left_out;
mod load;
mod loader;
mod make;
mod others;
mod planned;
mod refused;
mod replay;
mod target;
mod together;
mod users;
mod verify;
mod wanted;
mod writer;

use backup_core::context::Context;
use backup_core::event::{Progress, Stage};
use backup_core::repository::SnapshotReader;
use backup_core::source::{RestoreReport, RestoreRequest, SourceResult};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::catalog::Collection;
use super::digest::Sum;
use super::dump::Dump;
use super::expected::Expected;
use super::fold::{Folded, Live};
use super::namespace::{Filter, Namespace};
use super::options::MongoOptions;
use super::scan::Scan;
use super::server::{Primary, Server, unless_cancelled};
use crate::progress::StageProgress;
use failure::Left;
use load::Work;
use loader::Loaded;
use target::Target;
use together::together;
use verify::{Restored, Verifier};

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
    #[cfg(feature = "testing")]
    let dump = dump.with_fault(options.fold_fault);
    let until = dump.moment_with_log(options.until).await?;
    let options = &MongoOptions { until, ..options.clone() };
    let replays = replay::is_wanted(server, &dump, options, request)?;
    let filter = Filter::new(&request.selection)?;
    let mut folded =
        unless_cancelled(cx, dump.fold_known(cx, options.until, &filter, replays)).await?;
    let left_out = left_out::leave_out(cx, &mut folded, &filter)?;
    let options = &into::options_into(cx, server, &folded, &filter, options.clone())?;
    others::refuse_unclear(request, options)?;
    let (mut wanted, views) = wanted::wanted(&folded, &filter, options)?;
    let taker = refused::Taker::of(server);
    let adjusted = adjust::adjust(&mut wanted, taker, &options.adjustments)?;
    let names = wanted.iter().map(|(_, collection)| collection).chain(&views);
    let names: Vec<Namespace> = names.map(|collection| collection.namespace.clone()).collect();
    let target = Target::look(cx, server, options, request.if_exists).await?;
    target.refuse_impossible(&names)?;
    target.refuse_conflicts(&names, &wanted, &views)?;
    let is_merged = |name: &Namespace| target.is_merged_into(name);
    let definitions = (&wanted[..], &views[..]);
    refused::refuse(cx, server, definitions, dump.state.newest(), is_merged).await?;
    let mut report = RestoreReport { adjusted, ..RestoreReport::default() };
    report.warnings += left_out.len() as u64;
    let users = users::compare(cx, server, (&dump, &folded), &wanted, request.if_exists);
    let users = users.await?.into_report(&mut report);
    let planned = contents::planned(&dump, (&wanted, &views), &users)?;
    report.entries = planned.collections + planned.views + planned.users + planned.roles;
    report.contents = Some(planned);
    dump.refuse_lost(wanted.iter().map(|(live, _)| live))?;
    let in_snapshot: Vec<Namespace> = names.iter().cloned().chain(left_out).collect();
    let others = target.others(
        &in_snapshot,
        [&filter, &dump.state.filter()?],
        &request.delete,
        options.into_database.as_deref(),
    );
    report.removed = others.len() as u64;
    report.removals = target.removals(cx, &others, &in_snapshot).await?;
    if request.dry_run {
        report.objects = target.planned(cx, &dump, (&wanted, &views)).await?;
        report.objects.extend(users);
        return Ok(report);
    }
    let primary = unless_cancelled(cx, server.primary()).await?;
    let plan =
        Plan { cx, server, primary, options, request, dump, filter, replays, views, names, others };
    match plan.carry_out(&target, folded, wanted, &mut report).await {
        Ok(()) => Ok(report),
        Err(error) => {
            target.clear_own().await;
            let done = (report.files_written, planned.collections);
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
    /// The selection of the request.
    filter: Filter,
    /// The target's server applies operations.
    replays: bool,
    views: Vec<Collection>,
    /// Of all of them.
    names: Vec<Namespace>,
    /// Objects at the target that are removed.
    others: Vec<Namespace>,
}

impl Plan<'_> {
    async fn carry_out(
        self,
        target: &Target,
        mut folded: Folded,
        wanted: Vec<(Live, Collection)>,
        report: &mut RestoreReport,
    ) -> SourceResult<()> {
        let Self { cx, server, options, request, .. } = self;
        let progress = self.progress(&wanted)?;
        let planning = self.planning(target, &folded, wanted).await?;
        let mut works = load::load(&self, target, &mut folded, planning, &progress).await?;
        if self.replays {
            replay::replay(cx, server, &self.dump, options, &mut works).await?;
        }
        let (users, works): (Vec<_>, Vec<_>) =
            works.into_iter().partition(|work| work.collection.namespace.is_authorization());
        let finished = self.finish(target, works, &progress).await?;
        progress.finish();
        // Nothing that is there goes before what takes its place is known to last.
        let again = failure::again(request.if_exists);
        finish::barrier(cx, server, &self.names, self.primary, again).await?;
        let objects = finished.len() + self.views.len();
        let progress = StageProgress::start(&cx.events, Stage::Commit, items(objects));
        let restored = complete(cx, target, finished, report, &progress).await?;
        target.remove(cx, &self.others).await?;
        finish::views(cx, target, &self.views, &progress).await?;
        report.contents =
            report.contents.map(|planned| contents::written(&restored, &self.views, &planned));
        target.clear_late_leftovers(cx, &self.names.iter().cloned().collect()).await?;
        let mut written: Vec<(Live, Sum)> =
            restored.iter().map(|one| (one.live.clone(), one.loaded.sum)).collect();
        for Work { collection, loader, live, .. } in users {
            load::as_recorded(&self.dump, &live.collection, loader.sum(), request.verify)?;
            written.push((live, *loader.sum()));
            let loaded = users::restore(cx, server, &collection.namespace, request, loader).await?;
            add(report, &loaded);
        }
        finish::barrier(cx, server, &self.names, self.primary, again).await?;
        progress.finish();
        if request.verify {
            self.verify(&folded, &written, &restored, report).await
        } else {
            Ok(())
        }
    }

    /// Begins the stage of the documents: its collections, and the bytes of the dump.
    fn progress(&self, wanted: &[(Live, Collection)]) -> SourceResult<StageProgress> {
        let bytes = wanted.iter().map(|(live, _)| self.dump.bytes_of(live));
        let total_bytes = bytes.sum::<SourceResult<u64>>()?;
        let expected = Progress { total_bytes, ..items(wanted.len()) };
        Ok(StageProgress::start(&self.cx.events, Stage::Restore, expected))
    }

    /// Waits for the documents and builds the indexes that remain; those by which the server deletes
    /// come last, so that it has little time before the collections are complete.
    async fn finish(
        &self,
        target: &Target,
        works: Vec<Work>,
        progress: &StageProgress,
    ) -> SourceResult<Vec<Finished>> {
        let (expiring, works): (Vec<_>, Vec<_>) =
            works.into_iter().partition(|work| work.indexes.expires());
        let mut finished = Vec::with_capacity(works.len() + expiring.len());
        for works in [works, expiring] {
            let finishing =
                stream::iter(works).map(|work| self.finish_one(target, work, progress).boxed());
            let finishing = finishing.buffered(target.parallel).boxed();
            finished.extend(finishing.try_collect::<Vec<_>>().await?);
        }
        Ok(finished)
    }

    async fn finish_one(
        &self,
        target: &Target,
        work: Work,
        progress: &StageProgress,
    ) -> SourceResult<Finished> {
        let renamed_to = work.renamed_to.clone();
        let is_counted = work.indexes.late.is_empty();
        let restored = work.finish(self.cx, target, &self.dump, self.request).await?;
        progress.done(u64::from(!is_counted), 0);
        Ok((restored, renamed_to))
    }

    /// Reads everything back and compares it with the snapshot. If the oplog was applied, a second
    /// reading of the snapshot is compared as well.
    async fn verify(
        &self,
        folded: &Folded,
        written: &[(Live, Sum)],
        restored: &[Restored],
        report: &mut RestoreReport,
    ) -> SourceResult<()> {
        let Self { cx, server, options, .. } = *self;
        let objects = restored.len() + self.views.len();
        let progress = StageProgress::start(&cx.events, Stage::Verify, items(objects));
        let mut verifier =
            Verifier::new(Scan::at_once(cx, server), server, options, self.dump.state.newest());
        if self.dump.needs_entries() {
            let live = written.iter().map(|(live, _)| live);
            let expected = Expected::read(cx, &self.dump, options.until, live);
            let expected = unless_cancelled(cx, expected).await?;
            let filters = [&self.dump.state.filter()?, &self.filter];
            verifier.found(expected.differences(filters, folded)?);
            verifier.expect(expected, written, self.replays);
        }
        for restored in restored {
            let bytes = unless_cancelled(cx, verifier.collection(restored)).await?;
            report.verified_bytes += bytes;
            progress.done(1, bytes);
        }
        for view in &self.views {
            unless_cancelled(cx, verifier.view(view)).await?;
            progress.done(1, 0);
        }
        progress.finish();
        verifier.finish()?;
        cx.events.note(verifier.told(self.views.len()));
        Ok(())
    }
}

/// The expected number of objects of a stage.
fn items(count: usize) -> Progress {
    Progress { total_items: count as u64, ..Progress::default() }
}

/// A collection with its indexes, and the name that it gets.
type Finished = (Restored, Option<Namespace>);

/// Gives the collections their names, several at a time.
async fn complete(
    cx: &Context,
    target: &Target,
    finished: Vec<Finished>,
    report: &mut RestoreReport,
    progress: &StageProgress,
) -> SourceResult<Vec<Restored>> {
    let renaming = finished.into_iter().map(|(mut one, renamed_to)| {
        let renamed = async move {
            if let Some(name) = renamed_to {
                target.complete(&one.collection.namespace, &name).await?;
                one.collection.namespace = name;
            }
            target.completed(&one.collection.namespace);
            progress.done(1, 0);
            Ok(one)
        };
        renamed.boxed()
    });
    let (restored, outcome) = together(cx, target.parallel, renaming.collect()).await;
    report.files_written += restored.len() as u64;
    restored.iter().for_each(|one| add(report, &one.loaded));
    outcome.map(|()| restored)
}

/// Counts the bytes of a collection that is complete, or of users or roles.
fn add(report: &mut RestoreReport, loaded: &Loaded) {
    report.total_bytes += loaded.sum.bytes;
    report.written_bytes += loaded.sum.bytes;
    report.verified_bytes += loaded.verified;
}
