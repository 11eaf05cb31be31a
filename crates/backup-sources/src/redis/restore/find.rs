//! The keys of a snapshot, by name or by digest: its dump is read to the end, and nothing is written.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    EntryPath, RestoreRequest, Selection, SourceError, SourceErrorKind, SourceResult,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::super::backup::Channel;
use super::super::digest::{Part, path_of};
use super::super::error::invalid;
use super::super::options::RestoreOptions;
use super::super::rdb::{DatabaseSurvey, RdbError, Record, merge, survey, type_name};
use super::dumps::{self, Dumps};
use super::replay::Replay;
use super::{Job, WAITING};

/// Keys that are told at a time.
const BATCH: usize = 256;

/// A key of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// `/<database>/<key>`, as selections have it.
    pub path: EntryPath,
    /// Type of its value.
    pub kind: &'static str,
    /// Bytes of its value in the dump.
    pub bytes: u64,
    /// When it expires, in milliseconds since 1970.
    pub expires: Option<u64>,
}

/// Keys, as the dump is read.
#[derive(Debug)]
pub struct FoundKeys {
    batches: Receiver<SourceResult<Vec<FoundKey>>>,
    has_commands: bool,
}

impl FoundKeys {
    /// Whether the snapshot has commands behind its dump: what these write or delete is not seen.
    #[must_use]
    pub fn has_commands(&self) -> bool {
        self.has_commands
    }

    /// More of them; `None` when the dump has been read to its end.
    ///
    /// # Errors
    /// The dump cannot be read, or is damaged.
    pub async fn next(&mut self) -> SourceResult<Option<Vec<FoundKey>>> {
        self.batches.recv().await.transpose()
    }
}

/// Looks for the keys that `selection` covers. Memory is bounded, whatever the dump holds.
///
/// # Errors
/// The snapshot holds no dump of Redis, or cannot be read.
pub async fn find_keys(
    cx: &Context,
    snapshot: &SnapshotReader,
    selection: &Selection,
) -> SourceResult<FoundKeys> {
    let (options, request) = (RestoreOptions::default(), RestoreRequest::default());
    let dumps = dumps::find(snapshot).await?;
    let job = Job::new(cx, &options, &request, snapshot, dumps)?;
    if let Some(what) = &job.description.dump.unknown {
        return Err(RdbError::Unknown(what.clone()).into_source());
    }
    let has_commands = !Replay::of(&job).await?.is_empty();
    let (dumps, selection) = (job.read_dumps(), selection.clone());
    let (sender, batches) = channel(WAITING);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(dumps, &selection, &sender) {
            // Whoever does not listen any more has stopped.
            _ = sender.blocking_send(Err(error.into_source()));
        }
    });
    Ok(FoundKeys { batches, has_commands })
}

fn read(
    mut dumps: Dumps,
    selection: &Selection,
    sender: &Sender<SourceResult<Vec<FoundKey>>>,
) -> Result<(), RdbError> {
    let mut batch = Vec::new();
    let send = |batch: &mut Vec<FoundKey>| {
        sender
            .blocking_send(Ok(std::mem::take(batch)))
            .map_err(|_| RdbError::Source(SourceError::cancelled()))
    };
    while let Some(mut parser) = dumps.next()? {
        while let Some(record) = parser.next()? {
            let Record::Key(key) = record else { continue };
            let path = path_of(&key);
            if selection.covers(&path) {
                let (kind, expires) = (type_name(key.kind), key.expires);
                batch.push(FoundKey { path, kind, bytes: parser.skip_value()?, expires });
                if batch.len() >= BATCH {
                    send(&mut batch)?;
                }
            }
            parser.reuse(key);
        }
    }
    if batch.is_empty() { Ok(()) } else { send(&mut batch) }
}

/// The databases of a snapshot, as far as `part` covers them.
///
/// # Errors
/// [`SourceErrorKind::Unsupported`] if commands follow the dump, or its format is unknown.
pub(in super::super) async fn stored(
    cx: &Context,
    snapshot: &SnapshotReader,
    part: &Part,
) -> SourceResult<BTreeMap<u32, DatabaseSurvey>> {
    let (options, request) = (RestoreOptions::default(), RestoreRequest::default());
    let job = Job::new(cx, &options, &request, snapshot, dumps::find(snapshot).await?)?;
    if let Some(what) = &job.description.dump.unknown {
        return Err(RdbError::Unknown(what.clone()).into_source());
    }
    if !Replay::of(&job).await?.is_empty() {
        let text = "commands after the dump cannot be compared with a server";
        return Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(
            "name a full snapshot, or restore this one to a spare server and compare that",
        ));
    }
    let (mut dumps, part) = (job.read_dumps(), part.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let mut databases = BTreeMap::new();
        while let Some(pieces) = dumps.waiting.blocking_recv() {
            let found = survey(Channel(pieces), |key| part.covers(key))?;
            part.left_out().too_large.fetch_add(found.not_hashed, Ordering::Relaxed);
            merge(&mut databases, &found.databases);
        }
        Ok(databases)
    });
    let read = reading.await.map_err(|_| invalid("the reader of the dump ended unexpectedly"))?;
    read.map_err(RdbError::into_source)
}
