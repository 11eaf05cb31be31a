//! Snapshots and digests of clusters: a dump of each master, or of one replica of each if a replica
//! is what was named.

use std::collections::BTreeMap;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::source::{BackupKind, Item, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::super::backup::{self, Description, Member, Opened};
use super::super::digest::{Part, databases as databases_of};
use super::super::layout::Layout;
use super::super::options::RedisOptions;
use super::super::rdb::{DatabaseSurvey, merge};
use super::super::reader::{Done, Feed};
use super::super::request::{Moment, tell_moment};
use super::super::server::{Server, Version};
use super::discover::{Cluster, Shard};
use super::places::{Place, Places};

/// So long a replica may take to have what its master had.
const LAG: Duration = Duration::from_secs(60);

/// Reads all masters.
pub(in super::super) async fn full(
    cx: &Context,
    options: &RedisOptions,
    version: Option<&Version>,
    feed: &Feed,
) -> SourceResult<Done> {
    let started = cx.clock.now();
    let cluster = Cluster::find(options, version).await?;
    if cluster.missing() > 0 {
        let message = format!(
            "{} to no node: its keys are lost to the cluster",
            words::count(cluster.missing().into(), "slot belongs", "slots belong")
        );
        feed.item(Item::Warning(Warning {
            kind: WarningKind::Other,
            path: String::new(),
            message,
        }))
        .await?;
    }
    try_join_all(cluster.shards.iter().map(|shard| caught_up(&cluster, shard))).await?;
    let (mut stored, mut remarks) = (Vec::new(), vec![remark(&cluster)]);
    let mut odd: Option<Moment> = None;
    let mut waves = cluster.shards.chunks(at_once()).peekable();
    while let Some(wave) = waves.next() {
        let opened = try_join_all(wave.iter().map(|shard| open(&cluster, shard))).await?;
        if waves.peek().is_none() {
            // All dumps have begun: whatever moves from now on is in none of them.
            cluster.require_unchanged(version).await?;
        }
        let has_no_place = |moment: &&Moment| !matches!(moment, Moment::At(_));
        let first = opened.iter().map(|opened| &opened.moment).find(has_no_place).cloned();
        if odd.is_none()
            && let Some(first) = first
        {
            remarks.extend(tell_moment(cx, options, feed, &first).await?);
            odd = Some(first);
        }
        let storing =
            wave.iter().zip(opened).map(|(shard, opened)| store(cx, &cluster, shard, opened, feed));
        stored.extend(try_join_all(storing).await?);
    }
    let scanned = stored.iter().any(|one| one.scanned_from.is_some());
    if scanned {
        cluster.require_unchanged(version).await?;
    }
    let mut databases = BTreeMap::new();
    stored.iter().for_each(|one| merge(&mut databases, &one.dump.databases));
    let time = stored.iter().map(|one| one.time).max().unwrap_or(started);
    Ok(Done {
        started,
        time,
        position: None,
        log: places(&stored).map(|places| places.log_start(started, time)),
        kind: Some(BackupKind::Full),
        server_version: stored.first().and_then(|one| backup::server_version(&one.dump)),
        objects: backup::objects(&databases),
        counted: true,
        remarks,
        scanned,
        tags: Vec::new(),
    })
}

/// Where the dumps end in the streams of the masters; `None` if a dump has no position.
fn places(stored: &[Description]) -> Option<Places> {
    let place = |one: &Description| {
        let slots = one.member.as_ref().filter(|_| !one.replication_id.is_empty())?.slots.clone();
        Some(Place { slots, id: one.replication_id.clone(), offset: one.offset })
    };
    stored.iter().map(place).collect::<Option<_>>().map(Places)
}

/// As many contents are read at a time by whoever stores them: servers hang up on whom nobody reads
/// for a minute.
fn at_once() -> usize {
    std::thread::available_parallelism().map_or(2, |threads| threads.get() + 1).min(8)
}

/// Waits until a replica that is read has what its master had when the backup began: what comes
/// behind a dump is looked for in the log from then on.
async fn caught_up(cluster: &Cluster, shard: &Shard) -> SourceResult<()> {
    let (master, reader) = (cluster.master(shard), cluster.reader(shard));
    if (&master.host, master.port) == (&reader.host, reader.port) {
        return Ok(());
    }
    let offset = async |options: &RedisOptions| {
        let server = Server::find(options).await;
        let server = server
            .map_err(|error| error.context(format!("node {}:{}", options.host, options.port)))?;
        SourceResult::Ok(server.info.number("master_repl_offset").unwrap_or(0))
    };
    let begun = Instant::now();
    let wanted = offset(&master).await?;
    loop {
        let has = offset(&reader).await?;
        if has >= wanted {
            return Ok(());
        }
        if begun.elapsed() > LAG {
            let text = format!(
                "the replica {}:{} is {} behind its master, and has been for {LAG:?}",
                reader.host,
                reader.port,
                words::count(wanted - has, "byte", "bytes")
            );
            return Err(SourceError::new(SourceErrorKind::Unavailable, text)
                .with_hint("name a master, or back up when the replica has caught up"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn open(cluster: &Cluster, shard: &Shard) -> SourceResult<Opened> {
    let opened = backup::open(&cluster.reader(shard)).await;
    opened.map_err(|error| error.context(format!("node {}", shard.address)))
}

async fn store(
    cx: &Context,
    cluster: &Cluster,
    shard: &Shard,
    opened: Opened,
    feed: &Feed,
) -> SourceResult<Description> {
    let member =
        Member { id: shard.id.clone(), slots: shard.slots.clone(), masters: cluster.shards.len() };
    let stored = backup::store(cx, &Layout::of(&shard.address), feed, opened, Some(member)).await;
    stored.map_err(|error| error.context(format!("node {}", shard.address)))
}

/// What the manifest says of it.
fn remark(cluster: &Cluster) -> String {
    const SHOWN: usize = 50;
    let shards = cluster.shards.iter().take(SHOWN);
    let shown: Vec<_> =
        shards.map(|shard| format!("{} has the slots {}", shard.address, shard.slots)).collect();
    let more = match cluster.shards.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "A cluster of {}, each at its own moment: {}{more}.",
        words::count(cluster.shards.len() as u64, "master", "masters"),
        shown.join("; ")
    )
}

/// Databases of all nodes, as far as `part` covers them, however keys are spread among the nodes.
pub(in super::super) async fn databases(
    options: &RedisOptions,
    version: Option<&Version>,
    part: &Part,
) -> SourceResult<BTreeMap<u32, DatabaseSurvey>> {
    let cluster = Cluster::find(options, version).await?;
    let found = try_join_all(
        cluster.shards.iter().map(async |shard| databases_of(&cluster.reader(shard), part).await),
    );
    let mut databases: BTreeMap<u32, DatabaseSurvey> = BTreeMap::new();
    found.await?.iter().for_each(|one| merge(&mut databases, one));
    cluster.require_unchanged(version).await?;
    Ok(databases)
}
