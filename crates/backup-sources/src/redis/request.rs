//! Requests of a dump: as a replica, or key by key where a server keeps PSYNC to itself.

use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::log::Position;
use backup_core::source::{Item, SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::error::{GRANT, GRANT_SCAN, WireError, malformed};
use super::options::{RedisOptions, SnapshotReading};
use super::reader::{Feed, NO_MOMENT};
use super::scan::Scan;
use super::wire::{Dump, Endpoint, Sync};

/// The moment that a dump is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moment {
    /// This place in the replication stream.
    At(Position),
    /// One moment, of an unknown place in the stream: the server has answered as to an old replica.
    Unplaced,
    /// None: keys are read one by one.
    Scanned,
}

/// A dump on its way.
pub(super) struct Reading {
    from: Origin,
    limit: Limit,
}

/// How a dump is made.
enum Origin {
    Replica(Box<Dump>),
    Scan(Box<Scan>),
}

/// Time limit of a whole dump: a server that sends a little now and then is never silent.
#[derive(Debug, Clone, Copy)]
struct Limit {
    length: Duration,
    ends: Instant,
}

impl Limit {
    fn of(options: &RedisOptions) -> Self {
        let length = options.dump_timeout;
        Self { length, ends: Instant::now() + length }
    }

    async fn keep<T>(
        self,
        work: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, WireError> {
        timeout_at(self.ends, work).await.unwrap_or_else(|_| {
            let seconds = self.length.as_secs_f32();
            let text = format!("the dump has not ended after {seconds} seconds");
            let hint = "check the load of the server, or raise `dump_timeout` of the source";
            Err(SourceError::new(SourceErrorKind::Unavailable, text).with_hint(hint).into())
        })
    }
}

impl Reading {
    /// The next bytes; `None` at the end, when all have come.
    pub(super) async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        let doing = "cannot read the dump";
        match &mut self.from {
            Origin::Replica(dump) => {
                let read = self.limit.keep(dump.next()).await;
                read.map_err(|error| error.into_source(doing))
            }
            Origin::Scan(scan) => {
                let read = self.limit.keep(scan.next()).await;
                read.map_err(|error| error.into_source_granting(doing, GRANT_SCAN))
            }
        }
    }
}

/// Requests everything, and returns the moment of the dump. Keys are read one by one if the settings
/// or the server require that.
pub(super) async fn read(options: &RedisOptions) -> SourceResult<(Moment, Reading)> {
    let limit = Limit::of(options);
    let failed = |error: WireError| error.into_source("cannot request a dump");
    let refusal = match options.reader {
        Some(SnapshotReading::Scan) => None,
        wanted => match limit.keep(replicate(options)).await {
            Ok((moment, dump)) => {
                return Ok((moment, Reading { from: Origin::Replica(Box::new(dump)), limit }));
            }
            Err(WireError::Server(text)) if wanted.is_none() && is_kept(&text) => Some(text),
            Err(error) => return Err(failed(error)),
        },
    };
    match Scan::open(options).await {
        Ok(scan) => Ok((Moment::Scanned, Reading { from: Origin::Scan(Box::new(scan)), limit })),
        Err(error) => match refusal {
            None => Err(error.into_source_granting("cannot read key by key", GRANT_SCAN)),
            Some(text) => {
                let also = format!(
                    "cannot read key by key: {}",
                    error.into_source("").chain().trim_start_matches(": ")
                );
                let error = failed(WireError::Server(text));
                let hint = error.hint().unwrap_or(GRANT).to_owned();
                Err(error.context(also).with_hint(format!("{hint}; or, key by key: {GRANT_SCAN}")))
            }
        },
    }
}

/// Whether the server keeps replication to itself: by rights, or by another name of the command.
fn is_kept(text: &str) -> bool {
    text.starts_with("NOPERM") || text.to_lowercase().contains("unknown command")
}

async fn replicate(options: &RedisOptions) -> Result<(Moment, Dump), WireError> {
    let mut replication = Endpoint::of(options).replica(true).await?;
    let moment = match replication.sync(options, None).await? {
        Sync::Full { id, offset } => Moment::At(Position::new(id, offset)),
        Sync::Old => Moment::Unplaced,
        Sync::Continue { .. } => return Err(malformed("reply to PSYNC").into()),
    };
    Ok((moment, replication.dump().await?))
}

/// Reports a dump that is of no moment, or of no position; returns remarks for the snapshot.
pub(super) async fn tell_moment(
    cx: &Context,
    options: &RedisOptions,
    feed: &Feed,
    moment: &Moment,
) -> SourceResult<Vec<String>> {
    match moment {
        Moment::At(_) => Ok(Vec::new()),
        Moment::Scanned => tell_scan(cx, options, feed).await.map(|()| Vec::new()),
        Moment::Unplaced => {
            let remark = format!(
                "The server answers {} as SYNC, the command of old replicas. This snapshot is of \
                 one moment, but of no position in the replication stream: neither incremental \
                 snapshots nor a log can follow it.",
                options.psync
            );
            cx.events.note(&*remark);
            Ok(vec![remark])
        }
    }
}

/// Whoever did not ask for it does not get what was hoped for.
async fn tell_scan(cx: &Context, options: &RedisOptions, feed: &Feed) -> SourceResult<()> {
    if options.reader == Some(SnapshotReading::Scan) {
        cx.events.note(NO_MOMENT);
        return Ok(());
    }
    let message = format!(
        "the server refuses replication. {NO_MOMENT} Set `reader = \"scan\"` to accept this \
         without a warning"
    );
    feed.item(Item::Warning(Warning { kind: WarningKind::Other, path: String::new(), message }))
        .await
}
