//! Dumps of other tools as sources, and the streams of snapshots that they join.

use std::path::PathBuf;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::repository::{IndexedRepository, SnapshotList};
use backup_core::source::{Source, SourceIdentity};
use jiff::Timestamp;

use super::{SourceSpec, mongodb, redis};
use crate::config::SourceKind;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// A dump of another tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpPlace {
    /// A directory or an archive of mongodump.
    Mongodump(PathBuf),
    /// An RDB file of Redis or Valkey.
    Rdb(PathBuf),
}

impl DumpPlace {
    /// The kind of source that its snapshot is of.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Mongodump(_) => SourceKind::Mongodb,
            Self::Rdb(_) => SourceKind::Redis,
        }
    }
}

/// Choices for an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportFlags {
    /// The dump.
    pub place: DumpPlace,
    /// Refuse a dump that is not compressed with gzip.
    pub must_be_gzip: bool,
    /// Its time; the one that the dump or its files have if none is given.
    pub time: Option<Timestamp>,
}

/// Origin of the time of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// A flag.
    Given,
    /// The dump itself: the end of its oplog, or a remark of its server.
    Dump,
    /// The newest change of its files.
    Files,
}

/// A dump that can be stored.
#[derive(Debug, Clone)]
pub struct Import {
    /// The dump.
    pub source: Arc<dyn Source>,
    /// Patterns of the objects in it; none if it is of a whole server.
    pub include: Vec<String>,
    /// True if it may hold less than the job selects.
    pub is_part: bool,
    /// The moment that its snapshot will stand for.
    pub time: Timestamp,
    /// Origin of the moment.
    pub time_source: TimeSource,
}

/// Opens a dump for the stream of `identity`, the source of a job that includes `include`.
///
/// # Errors
/// The errors of opening the dump; [`Error::Invalid`] if its time has not come yet.
pub async fn import(
    flags: &ImportFlags,
    identity: SourceIdentity,
    include: &[String],
    cx: &Context,
) -> Result<Import> {
    let import = match &flags.place {
        DumpPlace::Mongodump(path) => mongodb::import(path, flags, identity, include, cx).await?,
        DumpPlace::Rdb(path) => redis::import(path, flags, identity).await?,
    };
    let now = cx.clock.now();
    if import.time > now {
        let text = format!("the time of the dump, {}, has not come yet", import.time);
        return Err(Error::invalid(text).with_hint("give the time of the dump with --time"));
    }
    Ok(import)
}

/// The source whose snapshots a dump joins: the one of this name, else that of the job's newest
/// snapshot, else the server of the job.
///
/// # Errors
/// [`Error::Invalid`] if there is neither a name, nor a snapshot, nor a server of the kind; those of
/// connecting.
pub async fn stream(
    (job, kind): (&str, SourceKind),
    name: Option<&str>,
    server: Option<&SourceSpec>,
    (snapshots, indexed): (&SnapshotList, &IndexedRepository),
    (env, cx): (&Environment, &Context),
) -> Result<SourceIdentity> {
    if let Some(server) = server.filter(|server| server.kind() != kind) {
        let text = format!(
            "job `{job}` backs up a source of kind `{}`, and the dump is of kind `{kind}`",
            server.kind()
        );
        return Err(Error::invalid(text).with_hint("name another job"));
    }
    if let Some(name) = name {
        return match kind {
            SourceKind::Mongodb => mongodb::identity_of(name),
            _ => redis::identity_of(name),
        };
    }
    let newest = snapshots.snapshots.iter().rev().find(|info| {
        info.snapshot.tag("job") == Some(job) && info.snapshot.tag("source") == Some(kind.as_str())
    });
    if let Some(newest) = newest
        && let Some(manifest) = indexed.snapshot(newest).manifest().await?
    {
        return Ok(manifest.source);
    }
    const HINT: &str = "name the replica set or server with --name";
    let Some(server) = server else {
        let text = format!("cannot determine the source of job `{job}`: it has no snapshot yet");
        return Err(Error::invalid(text).with_hint(
            "name the replica set or server with --name, or its address with --source",
        ));
    };
    match server.open(env, &cx.events).await {
        Ok(source) => Ok(source.identity()),
        Err(Error::Core(error)) if error.hint().is_none() => {
            Err(Error::Core(error.with_hint(HINT)))
        }
        Err(error) => Err(error),
    }
}
