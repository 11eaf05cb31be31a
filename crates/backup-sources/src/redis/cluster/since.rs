//! Incremental and differential snapshots of clusters: the dumps of an earlier one, and the
//! commands of each master since.
//!
//! Masters are known by their slots, so that a failover does not matter. Where slots have changed
//! hands, or the backlog of one master does not reach back, everything is read.

use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{BackupKind, SourceError, SourceErrorKind, SourceResult};
use futures::future::try_join_all;

use super::super::follow::gap;
use super::super::layout::Layout;
use super::super::options::RedisOptions;
use super::super::reader::{Done, Feed};
use super::super::restore::places_of;
use super::super::server::Version;
use super::super::since::{Since, done, reach};
use super::backup::full;
use super::discover::Cluster;
use super::places::{Place, Places};

/// Reads what came since `parent`.
pub(in super::super) async fn since(
    cx: &Context,
    options: &RedisOptions,
    version: Option<&Version>,
    parent: &SnapshotReader,
    feed: &Feed,
) -> SourceResult<Done> {
    let started = cx.clock.now();
    let cluster = Cluster::find(options, version).await?;
    match find(&cluster, parent).await {
        Ok(ways) => {
            // Where each master was is known: what moves from now on comes behind that.
            cluster.require_unchanged(version).await?;
            let time = cx.clock.now();
            let reading = ways.into_iter().map(async |(layout, place, since)| {
                let to = since.read(time, &layout, parent, feed).await?;
                SourceResult::Ok(Place { id: to.branch, offset: to.offset, ..place })
            });
            let places = Places(try_join_all(reading).await?);
            Ok(Done { log: Some(places.log_start(started, time)), ..done(time, None) })
        }
        Err(error) if error.kind() == SourceErrorKind::LogGap => {
            cx.events.note(format!("This backup is a full one: {error}."));
            let done = full(cx, options, version, feed).await?;
            Ok(Done { kind: Some(BackupKind::Full), ..done })
        }
        Err(error) => Err(error),
    }
}

/// The way of each master from where the earlier snapshot ends. That all of them can go on is known
/// before anything is handed on.
async fn find(
    cluster: &Cluster,
    parent: &SnapshotReader,
) -> SourceResult<Vec<(Layout, Place, Since)>> {
    let unsuited = |error: SourceError| SourceError::new(SourceErrorKind::LogGap, error.chain());
    let places = match places_of(parent).await {
        Ok(places) => places,
        Err(error)
            if matches!(error.kind(), SourceErrorKind::Invalid | SourceErrorKind::Mismatch) =>
        {
            return Err(unsuited(error));
        }
        Err(error) => return Err(error),
    };
    if places.len() != cluster.shards.len() {
        return Err(gap(
            "the number of masters in the cluster has changed since the earlier snapshot"
                .to_owned(),
        ));
    }
    try_join_all(places.into_iter().map(async |(layout, place)| {
        let shard = cluster.shards.iter().find(|shard| shard.slots == place.slots);
        let shard = shard
            .ok_or_else(|| gap("slots have new owners since the earlier snapshot".to_owned()))?;
        let from = backup_core::log::Position::new(place.id.clone(), place.offset);
        let since = reach(&cluster.master(shard), from).await;
        let since = since.map_err(|error| error.context(format!("node {}", shard.address)))?;
        SourceResult::Ok((layout, place, since))
    }))
    .await
}
