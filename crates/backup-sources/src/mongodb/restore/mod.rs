//! Writing a snapshot to a server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`restore`]: plan, load, finish |
//! | `target.rs` | what is there, what stands in the way, creating and dropping |
//! | `loader.rs` | inserting documents in batches, several at a time |
//! | `writer.rs` | writing one batch: insertions, replacements, reading back |
//! | `command.rs` | write commands assembled from bytes |
//! | `replay.rs` | operations of the oplog, applied by the target's server |
//! | `finish.rs` | indexes, validators, views, users |
//! | `verify.rs` | reading it all back |
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
mod finish;
mod loader;
mod replay;
mod target;
mod verify;
mod writer;

use std::collections::{HashMap, HashSet};

use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    IfExists, ObjectDigest, RestoreReport, RestoreRequest, SourceError, SourceErrorKind,
    SourceResult,
};

use super::catalog::Collection;
use super::digest::Sum;
use super::dump::Dump;
use super::fold::{Folded, Live};
use super::namespace::{Filter, Namespace};
use super::options::MongoOptions;
use super::ordered::Ordered;
use super::raw::first_of;
use super::scan::Scan;
use super::server::{Primary, Server, unless_cancelled};
use crate::pace::Pace;
use loader::{Flow, Loaded, Loader};
use target::Target;
use verify::{Restored, Verifier};

/// One collection on its way.
struct Work {
    live: Live,
    /// Under its name at the target, or under the one it has until it is complete.
    collection: Collection,
    /// The name it gets when it is complete.
    renamed_to: Option<Namespace>,
    loader: Loader,
}

/// Writes the selected part of a snapshot to `server`.
pub(super) async fn restore(
    cx: &Context,
    server: &Server,
    options: &MongoOptions,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
) -> SourceResult<RestoreReport> {
    server.refuse_sharded()?;
    let dump = unless_cancelled(cx, Dump::open(cx, snapshot)).await?.with_log(request.log.clone());
    let until = dump.moment_with_log(options.until).await?;
    let options = &MongoOptions { until, ..options.clone() };
    let replays = replay::is_wanted(server, &dump, options, request)?;
    let filter = Filter::new(&request.selection)?;
    let folded = unless_cancelled(cx, dump.fold(cx, options.until, &filter, replays)).await?;
    let (wanted, views) = wanted(&folded, &filter, options)?;
    let names = wanted.iter().map(|(_, collection)| collection).chain(&views);
    let names: Vec<Namespace> = names.map(|collection| collection.namespace.clone()).collect();
    let mut target = Target::look(cx, server, request.if_exists).await?;
    target.refuse_conflicts(&names, &views)?;
    if request.if_exists == IfExists::Fail {
        refuse_other_users(cx, server, &dump, &wanted).await?;
    }
    dump.refuse_lost(wanted.iter().map(|(live, _)| live))?;
    let collections = wanted.len() as u64;
    let mut report =
        RestoreReport { entries: collections + views.len() as u64, ..RestoreReport::default() };
    if request.dry_run {
        return Ok(report);
    }
    let primary = unless_cancelled(cx, server.primary()).await?;
    let plan = Plan {
        cx,
        server,
        primary,
        options,
        request,
        filter,
        dump,
        folded,
        replays,
        wanted,
        views,
        names,
    };
    match plan.carry_out(&mut target, &mut report).await {
        Ok(()) => Ok(report),
        Err(error) => {
            target.clear_own().await;
            Err(interrupted(error, (report.files_written, collections), request.if_exists))
        }
    }
}

/// How to mend what a restore left that was interrupted: without dropping what was merged into.
fn again(if_exists: IfExists) -> &'static str {
    match if_exists {
        IfExists::Merge => "restore again with --if-exists merge",
        IfExists::Fail | IfExists::Replace => "restore again with --if-exists replace",
    }
}

/// Says what an interrupted restore leaves.
fn interrupted(
    error: SourceError,
    (complete, all): (u64, u64),
    if_exists: IfExists,
) -> SourceError {
    if complete == all || error.kind() == SourceErrorKind::Mismatch {
        return error;
    }
    let text = format!(
        "{} of {all} collections at the target are missing or not complete",
        all - complete
    );
    let is_explained = error.hint().is_some();
    let error = error.context(text);
    if is_explained { error } else { error.with_hint(again(if_exists)) }
}

/// Everything that a restore is going to do.
struct Plan<'a> {
    cx: &'a Context,
    server: &'a Server,
    /// That of the target, before anything was written.
    primary: Primary,
    options: &'a MongoOptions,
    request: &'a RestoreRequest,
    filter: Filter,
    dump: Dump,
    folded: Folded,
    /// The target's server applies operations.
    replays: bool,
    wanted: Vec<(Live, Collection)>,
    views: Vec<Collection>,
    /// Of all of them.
    names: Vec<Namespace>,
}

impl Plan<'_> {
    async fn carry_out(
        mut self,
        target: &mut Target,
        report: &mut RestoreReport,
    ) -> SourceResult<()> {
        let Self { cx, server, options, request, .. } = self;
        let flow = Flow::new(Pace::of(options.max_bytes_per_second), options.write_concern);
        let mut works = Vec::with_capacity(self.wanted.len());
        let names: HashSet<Namespace> = self.names.iter().cloned().collect();
        if let Some(left) = unless_cancelled(cx, target.clear_leftovers(&names)).await? {
            cx.events.note(left);
        }
        for (live, mut collection) in self.wanted {
            let renamed_to = target.aside.name(&mut collection, &names, request.if_exists)?;
            let existed = unless_cancelled(cx, target.prepare(&live, &collection, options)).await?;
            let shown = renamed_to.clone().unwrap_or_else(|| collection.namespace.clone());
            let loader =
                Loader::new((cx, server), (&collection, shown), &flow, existed, request.verify);
            works.push(Work { live, collection, renamed_to, loader });
        }
        load(cx, &self.dump, &mut self.folded, &mut works).await?;
        if self.replays {
            replay::replay(cx, server, &self.dump, options, &mut works).await?;
        }
        let (users, works): (Vec<_>, Vec<_>) =
            works.into_iter().partition(|work| work.collection.namespace.is_authorization());
        let mut finished = Vec::with_capacity(works.len());
        for work in works {
            let renamed_to = work.renamed_to.clone();
            finished
                .push((work.finish(cx, server, options, &self.dump, request).await?, renamed_to));
        }
        // Nothing that is there goes before what takes its place is known to last.
        let again = again(request.if_exists);
        finish::barrier(cx, server, &self.names, self.primary, again).await?;
        let mut restored = Vec::with_capacity(finished.len());
        for (mut one, renamed_to) in finished {
            if let Some(name) = renamed_to {
                unless_cancelled(cx, target.complete(&one.collection.namespace, &name)).await?;
                one.collection.namespace = name;
            }
            add(report, &one.loaded);
            restored.push(one);
        }
        if request.if_exists == IfExists::Replace && options.renames.is_empty() {
            let filters = [&self.filter, &self.dump.state.filter()?];
            report.removed = target.remove_others(cx, &self.names, filters).await?;
        }
        finish::views(cx, target, &self.views).await?;
        for Work { collection, loader, live, .. } in users {
            as_recorded(&self.dump, &live.collection, loader.sum(), request.verify)?;
            let loaded = finish::users(cx, server, &collection.namespace, request, loader).await?;
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
}

/// Users and roles stand in the way only if they are something else at the target.
async fn refuse_other_users(
    cx: &Context,
    server: &Server,
    dump: &Dump,
    wanted: &[(Live, Collection)],
) -> SourceResult<()> {
    for (live, collection) in
        wanted.iter().filter(|(_, collection)| collection.namespace.is_authorization())
    {
        let Some(mut reading) = dump.documents(live)? else { continue };
        let mut documents = Vec::new();
        while let Some(document) = unless_cancelled(cx, reading.next()).await? {
            documents.push(super::raw::document(&document)?.to_owned());
        }
        finish::refuse_other_users(server, &collection.namespace, &documents).await?;
    }
    Ok(())
}

type Wanted = (Vec<(Live, Collection)>, Vec<Collection>);

/// What the selection covers, under the names at the target.
fn wanted(folded: &Folded, filter: &Filter, options: &MongoOptions) -> SourceResult<Wanted> {
    let covers =
        |namespace: &Namespace| filter.covers(namespace) && !namespace.is_restored_by_the_server();
    let renamed = |collection: &Collection| {
        let namespace = options.renames.apply(&collection.namespace)?;
        SourceResult::Ok(Collection { namespace, ..collection.clone() })
    };
    let mut collections = Vec::new();
    for live in &folded.live {
        let namespace = &live.collection.namespace;
        let left_out = live.temporary || (namespace.is_authorization() && !options.restore_users);
        if covers(namespace) && !left_out {
            collections.push((live.clone(), renamed(&live.collection)?));
        }
    }
    let views = folded
        .views
        .iter()
        .filter(|view| covers(&view.namespace))
        .map(renamed)
        .collect::<SourceResult<Vec<_>>>()?;
    let mut seen = std::collections::HashSet::new();
    let all = collections.iter().map(|(_, collection)| collection).chain(&views);
    for collection in all {
        if !seen.insert(&collection.namespace) {
            let text = format!("two collections would be restored as {}", collection.namespace);
            return Err(SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("change the renaming rules"));
        }
    }
    Ok((collections, views))
}

/// All documents: those of the dump, then those that operations touch, then what must be in order.
async fn load(
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
    async fn finish(
        self,
        cx: &Context,
        server: &Server,
        options: &MongoOptions,
        dump: &Dump,
        request: &RestoreRequest,
    ) -> SourceResult<Restored> {
        let Self { collection, loader, live, .. } = self;
        as_recorded(dump, &live.collection, loader.sum(), request.verify)?;
        let loaded = loader.finish().await?;
        unless_cancelled(cx, finish::indexes(server, &collection, options)).await?;
        unless_cancelled(cx, finish::validator(server, &collection.namespace, &live.changes))
            .await?;
        Ok(Restored { collection, live, loaded })
    }
}

/// Counts a collection that is complete.
fn add(report: &mut RestoreReport, loaded: &Loaded) {
    report.files_written += 1;
    report.total_bytes += loaded.sum.bytes;
    report.written_bytes += loaded.sum.bytes;
    report.verified_bytes += loaded.verified;
}

/// What was read from the snapshot must be what was counted when it was made, and with `hashed`
/// documents be the same.
fn as_recorded(dump: &Dump, collection: &Collection, sum: &Sum, hashed: bool) -> SourceResult<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_restore_says_what_it_leaves() {
        let error = || SourceError::new(SourceErrorKind::Target, "refused");
        let left = interrupted(error(), (3, 5), IfExists::Fail);
        assert_eq!(
            left.to_string(),
            "2 of 5 collections at the target are missing or not complete: refused"
        );
        assert!(
            left.hint().unwrap().contains("--if-exists replace")
                && left.kind() == SourceErrorKind::Target
        );
        assert_eq!(interrupted(error(), (5, 5), IfExists::Fail).to_string(), "refused");
        assert_eq!(
            interrupted(error().with_hint("wait"), (0, 5), IfExists::Fail).hint(),
            Some("wait")
        );
        assert!(
            interrupted(error(), (0, 5), IfExists::Merge)
                .hint()
                .unwrap()
                .contains("--if-exists merge")
        );
    }
}
