//! Following the log for the log lane. A branch is a timeline, an offset is a place in the log.
//!
//! Bytes go to files as the server names and cuts them. Following begins with the beginning of a
//! segment, so that files are whole, and says what it already had once more; whoever captures knows
//! what is the same.

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::{Position, Timeline, Watermark};
use backup_core::source::{LogReader, LogSegment, SourceError, SourceErrorKind, SourceResult};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::super::cluster::Cluster;
use super::super::options::PostgresOptions;
use super::super::wire::timely;
use super::follower::Follower;
use super::history::History;

/// Segments that wait to be asked for, at most 1 MiB each.
const WAITING: usize = 4;

/// Follows the log from behind `from`, or from now on.
pub(in super::super) async fn open(
    cx: &Context,
    cluster: &Cluster,
    options: &PostgresOptions,
    from: Option<&Position>,
) -> SourceResult<Box<dyn LogReader>> {
    if let Some(refusal) = &cluster.refusal {
        return Err(SourceError::new(
            SourceErrorKind::Unsupported,
            format!("cannot follow the WAL: {refusal}"),
        ));
    }
    let (sender, segments) = mpsc::channel(WAITING);
    let (durable, told) = watch::channel(None);
    let (vouching, vouched) = watch::channel(None);
    let follower = Follower::begin(cx, cluster, options, from, (sender, vouching), told).await?;
    let at = follower.position();
    let task = AbortOnDropHandle::new(tokio::spawn(follower.run()));
    Ok(Box::new(Capture { segments, at, vouched, durable, _task: task }))
}

/// Fails if a timeline that is known began somewhere else than the server says.
pub(in super::super) async fn require_lineage(
    cluster: &Cluster,
    options: &PostgresOptions,
    known: &Timeline,
) -> SourceResult<()> {
    if cluster.refusal.is_some() {
        return Ok(());
    }
    let mut connection = cluster.connect(options).await?;
    let newest = cluster.require_same(&mut connection).await?.timeline;
    // The first one has no history.
    if newest == 1 {
        return Ok(());
    }
    let text = timely(connection.timeline_history(newest)).await;
    let (_, text) =
        text.map_err(|error| error.into_source("cannot read the history of a timeline"))?;
    History::parse(&String::from_utf8_lossy(&text))?.require(newest, known)
}

/// The connection lives in a task of its own: dropping `next` loses nothing, and the server hears
/// of us even if nobody asks.
struct Capture {
    segments: mpsc::Receiver<SourceResult<LogSegment>>,
    /// Where the last segment ended.
    at: Position,
    /// The last watermark of the server; some segments before it may not have been taken.
    vouched: watch::Receiver<Option<Watermark>>,
    durable: watch::Sender<Option<Position>>,
    _task: AbortOnDropHandle<()>,
}

#[async_trait]
impl LogReader for Capture {
    async fn next(&mut self) -> SourceResult<LogSegment> {
        let ended = || {
            Err(SourceError::new(SourceErrorKind::Unavailable, "the WAL stream ended unexpectedly"))
        };
        let segment = self.segments.recv().await.unwrap_or_else(ended)?;
        self.at = Position::new(segment.branch.clone(), segment.to);
        Ok(segment)
    }

    fn vouched_for(&self) -> Option<Watermark> {
        self.vouched.borrow().clone().filter(|watermark| watermark.at == self.at)
    }

    async fn acknowledge(&mut self, position: &Position) -> SourceResult<()> {
        self.durable.send_replace(Some(position.clone()));
        Ok(())
    }
}
