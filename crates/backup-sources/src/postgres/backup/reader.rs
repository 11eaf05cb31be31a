//! The backup reader: what is held while it runs, and what it stands for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Checkpoint, Chunking, Facts, Item, LogStart, Metadata,
    SourceError, SourceErrorKind, SourceResult,
};
use jiff::Timestamp;
use tokio::sync::mpsc::Receiver;
use tokio_util::task::AbortOnDropHandle;

use super::super::cluster::{Cluster, version_text};
use super::super::error::{WireError, malformed};
use super::super::layout::Layout;
use super::super::lsn::Lsn;
use super::super::options::PostgresOptions;
use super::super::wire::{BackupStream, BaseBackup, Connection};
use super::begun::{Begun, Way};
use super::describe::{Description, by_sql, settings};
use super::earlier::{Earlier, SINCE, because, is_passing};
use super::feed::Feed;
use super::fetch::Fetch;
use super::fetcher::Fetcher;
use super::log_keeper::keep_log;
use super::manifest::Manifest;
use super::thin::Thinning;
use super::trace::Trace;
use super::unlogged;
use super::unpack::Unpacker;

const BEGINNING: &str = "cannot begin a backup";

/// Begins a backup.
pub(in super::super) fn open(
    cx: &Context,
    cluster: &Cluster,
    options: &PostgresOptions,
    request: &BackupRequest,
) -> Box<dyn BackupReader> {
    let (feed, items) = Feed::new();
    let (version, is_full) = (cluster.version, Arc::new(AtomicBool::new(true)));
    let clock_ahead = Arc::<OnceLock<Option<i64>>>::default();
    let run = Run {
        cx: cx.clone(),
        cluster: cluster.clone(),
        options: options.clone(),
        parent: request.parent.clone(),
        is_full: Arc::clone(&is_full),
        clock_ahead: Arc::clone(&clock_ahead),
        feed,
    };
    let task = tokio::spawn(async move {
        let (cx, feed) = (run.cx.clone(), run.feed.clone());
        let done = tokio::select! {
            () = cx.cancel.cancelled() => Err(SourceError::cancelled()),
            done = run.carry_out() => done,
        };
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                feed.fail(error).await;
                None
            }
        }
    });
    Box::new(Reader { items, version, is_full, clock_ahead, task: AbortOnDropHandle::new(task) })
}

/// A backup that is being made.
struct Run {
    cx: Context,
    cluster: Cluster,
    options: PostgresOptions,
    /// The earlier snapshot that was asked to be built on.
    parent: Option<SnapshotReader>,
    /// Set to false when it is.
    is_full: Arc<AtomicBool>,
    clock_ahead: Arc<OnceLock<Option<i64>>>,
    feed: Feed,
}

struct Reader {
    /// Of the server.
    version: u32,
    /// It builds on nothing, whatever was asked for.
    is_full: Arc<AtomicBool>,
    /// Seconds by which the clock of the server is ahead, once it was read.
    clock_ahead: Arc<OnceLock<Option<i64>>>,
    items: Receiver<SourceResult<Item>>,
    /// What it stands for, unless an error was handed on.
    task: AbortOnDropHandle<Option<Done>>,
}

/// What the backup stands for.
#[derive(Debug)]
struct Done {
    started: Timestamp,
    finished: Timestamp,
    timeline: u32,
    end: Lsn,
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        self.items.recv().await.transpose()
    }

    fn facts(&self) -> Facts {
        let kind = self.is_full.load(Ordering::Acquire).then_some(BackupKind::Full);
        Facts {
            kind,
            server_version: Some(version_text(self.version)),
            clock_ahead_seconds: self.clock_ahead.get().copied().flatten(),
            ..Facts::default()
        }
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        let done = self.task.await.ok().flatten();
        let done = done.ok_or_else(|| {
            SourceError::new(SourceErrorKind::Unavailable, "the backup was interrupted")
        })?;
        let at = Position::new(done.timeline.to_string(), done.end.0);
        Ok(Checkpoint {
            started: done.started,
            finished: done.finished,
            position: Some(format!("{} on timeline {}", done.end, done.timeline)),
            // The log up to there is in the snapshot itself.
            log: Some(LogStart::new(done.end.0, at)),
        })
    }

    async fn abort(self: Box<Self>) {
        // Connections end with it, and with them slot and backup.
        drop(self.task);
    }
}

impl Run {
    async fn carry_out(self) -> SourceResult<Done> {
        let Self { cx, cluster, options, feed, .. } = &self;
        let started = cx.clock.now();
        let mut connection = cluster.connect(options).await?;
        let settings =
            settings(&mut connection).await.map_err(|error| error.into_source(BEGINNING))?;
        let data_checksums = connection
            .show("data_checksums")
            .await
            .map_err(|error| error.into_source(BEGINNING))?;
        let layout = Layout::of(cluster.system_id);
        let facts = by_sql(cx, options, feed).await?;
        // The run sets it once.
        _ = self.clock_ahead.set(facts.clock_ahead_seconds);
        let keeper = keep_log(cx, cluster, options, &connection, started).await?;
        let version = connection.version;
        let begun = self.begin(connection, &data_checksums).await?;
        let (from, timeline, tablespaces) = (begun.from, begun.timeline, begun.way.tablespaces());
        let increments = begun.way.earlier().map_or(0, Earlier::increments);
        if let Some(earlier) = begun.way.earlier() {
            self.is_full.store(false, Ordering::Release);
            earlier.keep(feed).await?;
        }
        let (end, skipped) = self.take(begun).await?;
        if increments == 0 {
            unlogged::note(cx, options, &feed.unlogged()).await;
        }
        let data_directory = facts.configuration.data_directory.clone();
        let configuration = facts.configuration.hand_on(cx, feed, &layout, &skipped).await?;
        let finished = cx.clock.now();
        if let Some((mut keeper, slot)) = keeper {
            // It would go with the connection, but only when the server notices: whoever looks now
            // sees that it is gone.
            _ = keeper.drop_slot(&slot).await;
        }
        let description = Description {
            system_id: cluster.system_id.to_string(),
            version,
            wal_segment_size: cluster.segments.size(),
            timeline,
            start: from.to_string(),
            end: end.to_string(),
            data_checksums: Some(data_checksums),
            increments,
            tablespaces,
            settings,
            linked: Vec::new(),
            collations: facts.collations,
            data_directory: (!data_directory.is_empty()).then_some(data_directory),
            configuration,
        };
        let json = serde_json::to_vec_pretty(&description)
            .map_err(|_| malformed("description of the cluster"))?;
        feed.whole(
            layout.description(),
            Metadata::stream(finished),
            Chunking::default(),
            json.into(),
        )
        .await?;
        Ok(Done { started, finished, timeline, end })
    }

    /// Hands everything on that belongs to it; returns where it ends, and the files that the
    /// server skipped.
    async fn take(&self, Begun { way, from, timeline }: Begun) -> SourceResult<(Lsn, Vec<String>)> {
        let Self { cx, cluster, options, feed, .. } = self;
        let layout = way.earlier().map_or_else(|| Layout::of(cluster.system_id), Earlier::place);
        let (stream, thinning) = match way {
            Way::Full(stream) | Way::Summarized(stream, _) => (stream, None),
            Way::Thinned(stream, thinning) => (stream, Some(thinning)),
            Way::Fetched(fetch, thinning) => {
                let like = thinning.earlier().like().await?;
                let (manifest, damage) = (Manifest::default(), Vec::new());
                let fetcher = Fetcher {
                    cx,
                    cluster,
                    options,
                    feed,
                    layout,
                    thinning,
                    like,
                    fetch: *fetch,
                    manifest,
                    damage,
                };
                return Ok((fetcher.run().await?, Vec::new()));
            }
        };
        Unpacker::new(feed.clone(), layout, cluster.segments, thinning)
            .run(cx, stream, from, timeline)
            .await
    }

    /// Has the server begin: with what changed since the earlier snapshot if that can be, else with
    /// everything.
    async fn begin(&self, mut connection: Connection, data_checksums: &str) -> SourceResult<Begun> {
        let Some(parent) = &self.parent else { return self.full(connection, None).await };
        let earlier = match Earlier::of(parent, &self.cluster).await? {
            Ok(earlier) => earlier,
            Err(reason) => return self.full(connection, Some(&reason)).await,
        };
        let refusal = earlier.refusal(&mut connection, data_checksums).await;
        if let Some(reason) = refusal.map_err(|error| error.into_source(BEGINNING))? {
            return self.full(connection, Some(reason)).await;
        }
        let (major, has_checksums) = (self.cluster.version / 10_000, data_checksums == "on");
        if major < SINCE {
            let why = format!("PostgreSQL {major} has no WAL summaries");
            return self.by_log(earlier, connection, has_checksums, &why).await;
        }
        let (earlier, reason) = match self.by_summaries(earlier, connection).await? {
            Ok(begun) => return Ok(begun),
            Err(refused) => refused,
        };
        // What a server has refused it may not have forgotten.
        let connection = self.cluster.connect(&self.options).await?;
        let why = format!("the server's WAL summaries cannot be used: {reason}");
        self.by_log(earlier, connection, has_checksums, &why).await
    }

    async fn full(&self, connection: Connection, reason: Option<&str>) -> SourceResult<Begun> {
        if let Some(reason) = reason {
            self.cx.events.note(format!("This backup is a full one: {reason}."));
        }
        let begun = BackupStream::start(connection, self.request(false)).await;
        let (stream, from, timeline) = begun.map_err(|error| error.into_source(BEGINNING))?;
        Ok(Begun { way: Way::Full(stream), from, timeline })
    }

    /// Has the server send what changed since, by its own summaries; `Err` within says why that
    /// cannot be.
    async fn by_summaries(
        &self,
        earlier: Earlier,
        mut connection: Connection,
    ) -> SourceResult<Result<Begun, (Earlier, String)>> {
        match earlier.upload(&mut connection).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Ok(Err((earlier, reason))),
            Err(error) => {
                let reason = because(error.into_source(BEGINNING))?;
                return Ok(Err((earlier, reason)));
            }
        }
        match BackupStream::start(connection, self.request(true)).await {
            Ok((stream, from, timeline)) => {
                let name = earlier.name();
                self.cx.events.note(format!(
                    "Only changes since snapshot {name} are read, according to the server's WAL \
                     summaries."
                ));
                Ok(Ok(Begun { way: Way::Summarized(stream, earlier), from, timeline }))
            }
            Err(WireError::Server(error)) if !is_passing(&error) => {
                Ok(Err((earlier, error.to_string())))
            }
            Err(error) => Err(error.into_source(BEGINNING)),
        }
    }

    /// Finds out by the log what changed since. That alone is read if it may be; else the server
    /// sends everything, and nothing else is stored. `why` says why the server does not leave out
    /// the rest itself.
    async fn by_log(
        &self,
        earlier: Earlier,
        connection: Connection,
        has_checksums: bool,
        why: &str,
    ) -> SourceResult<Begun> {
        let Self { cx, cluster, options, .. } = self;
        let (name, host) = (earlier.name(), connection.host.clone());
        let trace = match Trace::begin(cx, cluster, options, &earlier).await? {
            Ok(trace) => trace,
            Err(reason) => return self.full(connection, Some(&format!("{why}; {reason}"))).await,
        };
        let obstacle = match Fetch::begin(cluster, options, &connection, has_checksums).await? {
            Ok(fetch) => {
                let (from, timeline) = (fetch.from, fetch.timeline);
                // If it is to be a full one, this one ends with its session.
                let changed = match trace.up_to((from, timeline), &host).await? {
                    Ok(changed) => changed,
                    Err(reason) => {
                        return self.full(connection, Some(&format!("{why}; {reason}"))).await;
                    }
                };
                cx.events.note(format!(
                    "Only changes since snapshot {name} are read, according to the WAL ({why})."
                ));
                let way = Way::Fetched(Box::new(fetch), Thinning::new(changed, earlier));
                return Ok(Begun { way, from, timeline });
            }
            Err(obstacle) => obstacle,
        };
        let begun = self.full(connection, None).await?;
        let changed = match trace.up_to((begun.from, begun.timeline), &host).await? {
            Ok(changed) => changed,
            Err(reason) => {
                cx.events.note(format!("This backup is a full one: {why}; {reason}."));
                return Ok(begun);
            }
        };
        cx.events.note(format!(
            "Only changes since snapshot {name} are stored, according to the WAL ({why}). The \
             server sends everything, because changed pages cannot be read by SQL ({obstacle})."
        ));
        let way = match begun.way {
            Way::Full(stream) => Way::Thinned(stream, Thinning::new(changed, earlier)),
            other => other,
        };
        Ok(Begun { way, ..begun })
    }

    fn request(&self, incremental: bool) -> BaseBackup {
        let PostgresOptions { fast_checkpoint, max_bytes_per_second, .. } = self.options;
        BaseBackup { fast_checkpoint, max_bytes_per_second, incremental }
    }
}
