//! Writing a snapshot to a server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`restore`]: plan, load, finish |
//! | `target.rs` | what is there, what stands in the way, creating and dropping |
//! | `loader.rs` | inserting documents in batches, several at a time |
//! | `command.rs` | write commands assembled from bytes |
//! | `finish.rs` | indexes, validators, views, users |
//!
//! Documents first, into collections without indexes and past their validators; then indexes, views and users. Nothing is
//! written before everything that stands in the way is known. A restore that is interrupted leaves collections that are not
//! complete; doing it again with `--if-exists replace` mends that.

mod command;
mod finish;
mod loader;
mod target;

use std::collections::HashMap;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::repository::SnapshotReader;
use backup_core::source::{IfExists, RestoreReport, RestoreRequest, SourceError, SourceErrorKind, SourceResult};

use super::catalog::Collection;
use super::dump::Dump;
use super::fold::{Folded, Live};
use super::namespace::{Filter, Namespace};
use super::options::MongoOptions;
use super::ordered::Ordered;
use super::scan::Scan;
use super::server::{Server, unless_cancelled};
use loader::{Loaded, Loader};
use target::Target;

/// One collection on its way.
struct Work {
    live: Live,
    /// Under its name at the target.
    collection: Collection,
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
    let dump = unless_cancelled(cx, Dump::open(cx, snapshot)).await?;
    dump.refuse_other_moments(options.until).await?;
    let mut folded = unless_cancelled(cx, dump.fold(cx, options.until)).await?;
    let filter = Filter::new(&request.selection)?;
    let (wanted, views) = wanted(&folded, &filter, options)?;
    let names = wanted.iter().map(|(_, collection)| collection).chain(&views);
    let names: Vec<Namespace> = names.map(|collection| collection.namespace.clone()).collect();
    let mut target = Target::look(cx, server, request.if_exists).await?;
    target.refuse_conflicts(&names)?;
    if request.if_exists == IfExists::Fail {
        refuse_other_users(cx, server, &dump, &wanted).await?;
    }
    let mut report = RestoreReport { entries: (wanted.len() + views.len()) as u64, ..RestoreReport::default() };
    if request.dry_run {
        return Ok(report);
    }
    if request.if_exists == IfExists::Replace && options.renames.is_empty() {
        report.removed = target.remove_others(cx, &names, &filter).await?;
    }
    let mut works = Vec::with_capacity(wanted.len());
    for (live, collection) in wanted {
        let existed = unless_cancelled(cx, target.prepare(&live, &collection, options)).await?;
        let loader = Loader::new(cx, server, &collection, existed, request.verify);
        works.push(Work { live, collection, loader });
    }
    load(cx, &dump, &mut folded, &mut works).await?;
    let loaded = finish_all(cx, server, options, request.if_exists, &dump, works, &mut report).await?;
    finish::views(cx, &mut target, &views).await?;
    finish::barrier(cx, server, &names).await?;
    if request.verify {
        let scan = Scan::at_once(cx, server);
        for (collection, loaded) in loaded {
            report.verified_bytes += verify(&scan, server, &collection, &loaded).await?;
        }
    }
    Ok(report)
}

/// Users and roles stand in the way only if they are something else at the target.
async fn refuse_other_users(
    cx: &Context,
    server: &Server,
    dump: &Dump,
    wanted: &[(Live, Collection)],
) -> SourceResult<()> {
    for (live, collection) in wanted.iter().filter(|(_, collection)| collection.namespace.is_authorization()) {
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
    let covers = |namespace: &Namespace| filter.covers(namespace) && !namespace.is_restored_by_the_server();
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
    let views =
        folded.views.iter().filter(|view| covers(&view.namespace)).map(renamed).collect::<SourceResult<Vec<_>>>()?;
    let mut seen = std::collections::HashSet::new();
    let all = collections.iter().map(|(_, collection)| collection).chain(&views);
    for collection in all {
        if !seen.insert(&collection.namespace) {
            let text = format!("two collections would be restored as {}", collection.namespace);
            return Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint("change the renaming rules"));
        }
    }
    Ok((collections, views))
}

/// All documents: those of the dump, then those that operations touch, then what must be in order.
async fn load(cx: &Context, dump: &Dump, folded: &mut Folded, works: &mut [Work]) -> SourceResult<()> {
    let mut ordered: HashMap<u32, Ordered> = HashMap::new();
    let places: HashMap<u32, usize> = works.iter().enumerate().map(|(at, work)| (work.live.number, at)).collect();
    for work in works.iter_mut() {
        let Some(mut reading) = dump.documents(&work.live)? else { continue };
        while let Some(document) = unless_cancelled(cx, reading.next()).await? {
            if let Some(document) = folded.base(&work.live, document)? {
                work.loader.insert(document).await?;
            }
        }
        // The last batch of one collection is not kept waiting while the next is read.
        work.loader.flush().await?;
    }
    while let Some(settled) = folded.settle()? {
        for found in settled {
            let Some(work) = places.get(&found.number).and_then(|at| works.get_mut(*at)) else { continue };
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

/// Indexes, validators and users; returns what can be read back.
async fn finish_all(
    cx: &Context,
    server: &Server,
    options: &MongoOptions,
    if_exists: IfExists,
    dump: &Dump,
    works: Vec<Work>,
    report: &mut RestoreReport,
) -> SourceResult<Vec<(Collection, Loaded)>> {
    let mut to_verify = Vec::new();
    for Work { collection, loader, live } in works {
        let loaded = loader.finish().await?;
        as_recorded(dump, &live.collection, &loaded)?;
        report.files_written += 1;
        report.total_bytes += loaded.sum.bytes;
        report.written_bytes += loaded.sum.bytes;
        report.verified_bytes += loaded.verified;
        if loaded.inexact > 0 {
            report.warnings += 1;
            let text = format!(
                "{} documents with empty timestamps got the time of the restore: inserting them as they are needs \
                 the right to run applyOps",
                loaded.inexact
            );
            cx.events.warn(WarningKind::Metadata, collection.namespace.to_string(), text);
        }
        if collection.namespace.is_authorization() {
            finish::users(cx, server, &collection.namespace, if_exists).await?;
            continue;
        }
        unless_cancelled(cx, finish::indexes(server, &collection, options)).await?;
        unless_cancelled(cx, finish::validator(server, &collection.namespace, &live.changes)).await?;
        // What was merged was read back batch by batch.
        if !loaded.merged {
            to_verify.push((collection, loaded));
        }
    }
    Ok(to_verify)
}

/// What was read from the snapshot must be what was counted when it was made.
fn as_recorded(dump: &Dump, collection: &Collection, loaded: &Loaded) -> SourceResult<()> {
    match dump.state.digest_of(&collection.namespace) {
        Some(recorded) if *recorded != loaded.sum.finish(collection) => {
            let text = format!("{}: the snapshot does not hold what was read when it was made", collection.namespace);
            Err(SourceError::new(SourceErrorKind::Mismatch, text))
        }
        _ => Ok(()),
    }
}

/// Reads a restored collection back.
async fn verify(scan: &Arc<Scan>, server: &Server, collection: &Collection, loaded: &Loaded) -> SourceResult<u64> {
    let uuid = target::uuid_of_collection(server, &collection.namespace).await?;
    let there = Collection { uuid: Some(uuid), ..collection.clone() };
    let sum = super::digest::sum_of(scan, &there).await?;
    if sum == loaded.sum {
        return Ok(sum.bytes);
    }
    // Capped collections drop what does not fit; the source may have held more than its limits say for a moment.
    let text = format!(
        "{}: there are {} documents with {} bytes, and {} with {} were restored",
        collection.namespace, sum.count, sum.bytes, loaded.sum.count, loaded.sum.bytes
    );
    Err(SourceError::new(SourceErrorKind::Mismatch, text)
        .with_hint("was something else writing to the target, or does a TTL index delete old documents?"))
}
