//! Backups that build on an earlier snapshot: its dump by reference, and the oplog since then.
//!
//! Nothing of the collections is read. Where the oplog does not reach back to the earlier snapshot,
//! or that cannot be built on for another reason, the backup is a full one, and says why.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Checkpoint, Chunking, Content, Entry, EntryPath, Facts, Item,
    LogStart, Metadata, SourceError, SourceResult,
};
use futures::stream::{self, StreamExt as _};
use jiff::Timestamp as Time;
use tokio::time::Instant;

use super::{Pieces, Scan, oplog, slice};
use crate::mongodb::capture::ahead;
use crate::mongodb::catalog;
use crate::mongodb::dump::Dump;
use crate::mongodb::history::{entry_at, newest};
use crate::mongodb::layout::Layout;
use crate::mongodb::lineage::Lineage;
use crate::mongodb::namespace::Filter;
use crate::mongodb::options::MongoOptions;
use crate::mongodb::position::Position;
use crate::mongodb::server::{Server, unless_cancelled};
use crate::mongodb::state::Since;
use crate::pace::Pace;
use crate::parent::{incomplete, is_lasting};

/// How long a member may take to get to the earlier snapshot, and how often it is looked at.
const LAG: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Begins a backup that builds on `parent`; `None`, with a note, if it has to be a full one.
pub(super) async fn open(
    cx: &Context,
    server: &Server,
    layout: &Layout,
    request: &BackupRequest,
    parent: &SnapshotReader,
    options: &MongoOptions,
) -> SourceResult<Option<Box<dyn BackupReader>>> {
    let started = cx.clock.now();
    let (dump, from, branch) = match usable(cx, server, request, parent).await? {
        Ok(usable) => usable,
        Err(reason) => {
            cx.events.note(format!("This backup is a full one: {reason}."));
            return Ok(None);
        }
    };
    let scan = Scan::new(cx, server, None, 1, Pace::of(options.max_bytes_per_second));
    let to = oplog::end(&scan).await?.max(from.at);
    let filter = Filter::new(&request.selection)?;
    if !request.selection.is_all()
        && let Some(name) =
            unless_cancelled(cx, slice::renamed_into(server, &filter, (from.needs, to))).await?
    {
        let text = "was renamed from a collection that the earlier snapshot does not have";
        cx.events.note(format!("This backup is a full one: {name} {text}."));
        return Ok(None);
    }
    let mut warnings = VecDeque::new();
    if request.selection.record().is_incomplete() {
        // Reads the oplog alone otherwise, which holds no list of collections.
        let listed = catalog::covered(cx, server, &filter).await?;
        warnings.extend(listed.warnings().map(Item::Warning));
    }
    cx.events.note(format!(
        "The oplog from {} to {to} is added to snapshot {}.",
        from.at,
        parent.id().short()
    ));
    let finished = cx.clock.now();
    let manifest = unless_cancelled(cx, async { Ok(parent.manifest().await?) }).await?;
    let remarks = manifest.map(|manifest| manifest.remarks).unwrap_or_default();
    let mut reader = Reader { scan, branch, started, finished, from, to, remarks, items: warnings };
    let held = unless_cancelled(cx, dump.held(cx)).await?.unwrap_or(from.needs);
    reader.prepare(layout, &dump, (filter, held))?;
    Ok(Some(Box::new(reader)))
}

/// Where the earlier snapshot stands in the oplog.
#[derive(Debug, Clone, Copy)]
struct From {
    /// The oplog is needed from behind here on,
    needs: Position,
    /// to go on from this moment.
    at: Position,
}

impl From {
    /// From behind which entry on the next one needs the oplog, if this one has taken it up to
    /// `to`. Where that is nothing new, nothing is stored: then all that this one needed is still
    /// needed.
    fn needed_after(&self, to: Position) -> Position {
        if to > self.at { to } else { self.needs }
    }
}

/// The earlier snapshot's dump, if it can be built on, and the branch of the log; else why not.
async fn usable(
    cx: &Context,
    server: &Server,
    request: &BackupRequest,
    parent: &SnapshotReader,
) -> SourceResult<Result<(Dump, From, String), String>> {
    let refuse = |reason: &str| Ok(Err(reason.to_owned()));
    if !server.is_replica_set() {
        return refuse("a standalone server has no oplog");
    }
    let Some(log) = &parent.snapshot().x_log else {
        return refuse("the earlier snapshot has no oplog position");
    };
    if let Some(reason) = incomplete(parent) {
        return refuse(reason);
    }
    let Some(lineage) = Lineage::go_on(&server.branch, &log.start.at) else {
        let name = server.set_name();
        return Ok(Err(format!("the earlier snapshot is of another replica set called {name}")));
    };
    let from = From {
        needs: Position::of_offset(log.start.needs),
        at: Position::of_offset(log.start.at.offset),
    };
    let dump = match unless_cancelled(cx, Dump::open(cx, parent)).await {
        Ok(dump) if dump.is_whole() => dump,
        Ok(_) => return refuse("the repository has lost data of the earlier snapshot"),
        Err(error) if is_lasting(&error) => {
            return Ok(Err(format!("the earlier snapshot cannot be read ({})", error.chain())));
        }
        Err(error) => return Err(error),
    };
    let (include, exclude) = (request.selection.include(), request.selection.exclude());
    if dump.state.include != include || dump.state.exclude != exclude {
        return refuse("the earlier snapshot covers other collections");
    }
    // Both: it may have been taken back in between.
    for at in [from.needs, from.at] {
        if !unless_cancelled(cx, holds(server, at)).await? {
            return Ok(Err(format!(
                "the oplog no longer holds {at}, which is needed to continue the earlier snapshot"
            )));
        }
    }
    Ok(Ok((dump, from, lineage.branch)))
}

/// Whether the oplog holds an entry. A member hears a moment later than the one that the earlier
/// snapshot was read from what the majority has; one that still lags then will have got there
/// another time.
async fn holds(server: &Server, at: Position) -> SourceResult<bool> {
    let begun = Instant::now();
    loop {
        if entry_at(server, at).await?.is_some() {
            return Ok(true);
        }
        if newest(server).await?.at >= at {
            // It may have come in between.
            return Ok(entry_at(server, at).await?.is_some());
        }
        if begun.elapsed() > LAG {
            return Err(ahead(at));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Reader {
    scan: Arc<Scan>,
    /// Of the log.
    branch: String,
    started: Time,
    /// When the end of the oplog was looked at.
    finished: Time,
    from: From,
    to: Position,
    /// On the dump that it builds on.
    remarks: Vec<String>,
    items: VecDeque<Item>,
}

impl Reader {
    fn prepare(
        &mut self,
        layout: &Layout,
        dump: &Dump,
        (filter, held): (Filter, Position),
    ) -> SourceResult<()> {
        for directory in [layout.set(), layout.since()] {
            let metadata = Metadata::directory(self.started);
            let entry = Entry {
                path: directory,
                metadata,
                content: Content::Empty,
                chunking: Chunking::default(),
            };
            self.items.push_back(Item::Entry(entry));
        }
        self.items.push_back(Item::Keep(layout.dump()));
        self.items.extend(dump.added().cloned().map(Item::Keep));
        let mut state = dump.state.clone();
        let (newest, version) = (state.newest(), self.scan.server.version);
        let (dumped, ends) = (self.from.at, self.from.at);
        let since =
            state.since.get_or_insert_with(|| Since { dumped, ends, files: Vec::new(), newest });
        since.newest = newest.max(version);
        state.version = state.version.min(version);
        since.ends = self.to;
        let dumped = since.dumped;
        if self.to > self.from.at {
            since.files.push((self.from.needs, self.to));
        }
        // They were of what the dump stood for.
        state.collections.iter_mut().for_each(|saved| saved.digest = None);
        let catalog = state.encode();
        self.file(layout.catalog(), stream::once(async { Ok(catalog) }).boxed());
        if self.to > self.from.at {
            let (from, to) = (self.from.needs, self.to);
            let entries = slice::slice(&self.scan, slice::Slice { filter, from, to, held, dumped });
            self.file(layout.since_entry(from), entries);
        }
        Ok(())
    }

    fn file(&mut self, path: EntryPath, content: Pieces) {
        let (metadata, content) = (Metadata::stream(self.started), Content::Stream(content));
        self.items.push_back(Item::Entry(Entry {
            path,
            metadata,
            content,
            chunking: Chunking::ContentDefined,
        }));
    }
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        self.scan.cx.check_cancelled().map_err(SourceError::from)?;
        Ok(self.items.pop_front())
    }

    fn facts(&self) -> Facts {
        let (server_version, remarks) =
            (Some(self.scan.server.version_text()), self.remarks.clone());
        Facts { server_version, remarks, ..Facts::default() }
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        let finished = super::reader::not_before(&self.scan, self.to, self.finished).await?;
        let log = LogStart::new(
            self.from.needed_after(self.to).offset(),
            log::Position::new(&*self.branch, self.to.offset()),
        );
        let position = Some(self.to.to_string());
        Ok(Checkpoint { started: self.started, finished, position, log: Some(log) })
    }

    async fn abort(self: Box<Self>) {
        // The cursor ends with the content.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_stored_is_still_needed() {
        let at = |seconds| Position { seconds, increment: 1 };
        let from = From { needs: at(5), at: at(9) };
        assert_eq!(from.needed_after(at(9)), at(5));
        assert_eq!(from.needed_after(at(10)), at(10));
    }
}
