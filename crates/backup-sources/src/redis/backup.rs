//! Snapshots: the dump that a server sends to a replica, looked through while it comes.
//!
//! ```text
//!  PSYNC ─▶ pieces ─┬─▶ content of dump.rdb ─▶ pipeline
//!                   └─▶ survey (a thread) ─▶ complete? ─▶ the content ends, node.json
//! ```
//!
//! The content ends well only when all of it has come and its checksum is right; else it fails, and
//! with it the backup.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::source::{BackupKind, ObjectDigest, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::cluster::{Slots, slot_of};
use super::error::{WireError, malformed};
use super::layout::Layout;
use super::options::RedisOptions;
use super::rdb::{DatabaseSurvey, Pieces, RdbError, Survey, survey};
use super::reader::{Done, Feed, WAITING};
use super::request::{Moment, Reading, read, tell_moment};
use super::server::Info;

/// `node.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// The id of the history that the dump is a moment of; empty if the dump has no position,
    pub(super) replication_id: String,
    /// and the place in it, in bytes.
    pub(super) offset: u64,
    /// When that was.
    pub(super) time: Timestamp,
    /// When reading began, if keys were read one by one until then: each as it was when it was
    /// read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scanned_from: Option<Timestamp>,
    /// Names of the modules that the server has loaded; `None` if it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) modules: Option<BTreeSet<String>>,
    /// Which part of a cluster it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) member: Option<Member>,
    /// What the dump holds.
    pub(super) dump: Survey,
}

/// A master of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Its name in the cluster.
    pub(super) id: String,
    /// Its slots, by ranges with first and last.
    pub(super) slots: Slots,
    /// How many masters the snapshot has.
    pub(super) masters: usize,
}

/// Reads everything.
pub(super) async fn full(
    cx: &Context,
    options: &RedisOptions,
    layout: &Layout,
    feed: &Feed,
    kind: Option<BackupKind>,
) -> SourceResult<Done> {
    let started = cx.clock.now();
    let opened = open(options).await?;
    let remarks = tell_moment(cx, options, feed, &opened.moment).await?;
    let stored = store(cx, layout, feed, opened, None).await?;
    let Description { replication_id, offset, time, scanned_from, dump, .. } = stored;
    let objects = objects(&dump.databases);
    Ok(Done {
        started,
        time,
        position: (!replication_id.is_empty()).then(|| Position::new(replication_id, offset)),
        log: None,
        kind,
        server_version: server_version(&dump),
        objects,
        counted: true,
        remarks,
        scanned: scanned_from.is_some(),
        tags: Vec::new(),
    })
}

/// A dump that a server has begun to send.
pub(super) struct Opened {
    pub(super) moment: Moment,
    modules: Option<BTreeSet<String>>,
    dump: Reading,
}

/// Asks a server for everything.
pub(super) async fn open(options: &RedisOptions) -> SourceResult<Opened> {
    let modules =
        modules(options).await.map_err(|error| error.into_source("cannot request a dump"))?;
    let (moment, dump) = read(options).await?;
    Ok(Opened { moment, modules, dump })
}

/// Hands a dump on, with what it holds; of a cluster it is that of `member`.
pub(super) async fn store(
    cx: &Context,
    layout: &Layout,
    feed: &Feed,
    opened: Opened,
    member: Option<Member>,
) -> SourceResult<Description> {
    let Opened { moment, modules, dump } = opened;
    // The server has made its copy just now.
    let time = cx.clock.now();
    let content = feed.begin(layout.dump(), time).await?;
    let slots = member.as_ref().map(|member| member.slots.clone());
    let dump = match pass_on(dump, &content, slots).await {
        Ok(found) => found,
        Err(error) => {
            // Whoever reads the content must not take its end for complete.
            _ = content.send(Err(copy_of(&error))).await;
            return Err(error);
        }
    };
    drop(content);
    warn(cx, &dump);
    let (time, scanned_from) =
        if moment == Moment::Scanned { (cx.clock.now(), Some(time)) } else { (time, None) };
    let (replication_id, offset) = match moment {
        Moment::At(at) => (at.branch, at.offset),
        Moment::Unplaced | Moment::Scanned => Default::default(),
    };
    let description =
        Description { replication_id, offset, time, scanned_from, modules, member, dump };
    let json =
        serde_json::to_vec_pretty(&description).map_err(|_| malformed("description of a dump"))?;
    feed.whole(layout.description(), time, json).await?;
    Ok(description)
}

/// The same error, for another reader.
pub(super) fn copy_of(error: &SourceError) -> SourceError {
    let copy = SourceError::new(error.kind(), error.chain());
    match error.hint() {
        Some(hint) => copy.with_hint(hint),
        None => copy,
    }
}

/// Digests by database, as they are recorded.
pub(super) fn objects(databases: &BTreeMap<u32, DatabaseSurvey>) -> BTreeMap<String, ObjectDigest> {
    databases.iter().map(|(number, database)| (database_name(*number), database.object())).collect()
}

/// What must be loaded where the dump is to be loaded.
async fn modules(options: &RedisOptions) -> Result<Option<BTreeSet<String>>, WireError> {
    let info = Info::of(options).await?;
    info.refuse_sentinel()?;
    Ok(info.is_known().then(|| info.modules().clone()))
}

/// The name that a database has in digests.
pub(super) fn database_name(number: u32) -> String {
    format!("db{number}")
}

/// The version of the server, as the dump says it.
pub(super) fn server_version(found: &Survey) -> Option<String> {
    let of = |name: &str| found.remarks.get(name).cloned();
    of("valkey-ver")
        .map(|version| format!("Valkey {version}"))
        .or_else(|| of("redis-ver").map(|version| format!("Redis {version}")))
}

pub(super) fn warn(cx: &Context, found: &Survey) {
    if let Some(what) = &found.unknown {
        cx.events.note(format!(
            "the dump has {what}: it is stored unchanged and can be restored as a whole, but its \
             keys cannot be read one by one"
        ));
    }
}

/// Hands the dump on, and looks through it at the same time; all of its keys must be of `slots`.
async fn pass_on(
    mut dump: Reading,
    content: &Sender<SourceResult<Bytes>>,
    slots: Option<Slots>,
) -> SourceResult<Survey> {
    let (to_survey, pieces) = channel(WAITING);
    let surveying =
        tokio::task::spawn_blocking(move || look_through(Channel(pieces), slots.as_ref()));
    let passing = async {
        while let Some(piece) = dump.next().await? {
            // A survey that has found damage does not listen any more.
            if to_survey.send(Ok(piece.clone())).await.is_err() {
                return Ok(());
            }
            // Nobody has to read it: what it holds is told all the same.
            _ = content.send(Ok(piece)).await;
        }
        SourceResult::Ok(())
    };
    let passed = passing.await;
    drop(to_survey);
    let found = surveying.await;
    passed?;
    found.map_err(|_| malformed("dump: its reader ended unexpectedly"))?
}

/// A node that has keys of slots of others is about to hand them over, or to take them over.
fn look_through(pieces: Channel, slots: Option<&Slots>) -> SourceResult<Survey> {
    let foreign = Cell::new(0_u64);
    let found = survey(pieces, |key| {
        let is_foreign = slots.is_some_and(|slots| !slots.has(slot_of(&key.name)));
        foreign.set(foreign.get() + u64::from(is_foreign));
        true
    });
    let found = found.map_err(RdbError::into_source)?;
    match foreign.get() {
        0 => Ok(found),
        keys => {
            let keys = words::count(keys, "key", "keys");
            let text = format!("a node of the cluster has {keys} in slots of other nodes");
            Err(SourceError::new(SourceErrorKind::Unavailable, text).with_hint(
                "wait until the slots are moved, or run `redis-cli --cluster fix` if the move was \
                 interrupted",
            ))
        }
    }
}

/// Pieces that come by a channel, for a thread that waits for them.
#[derive(Debug)]
pub(super) struct Channel(pub(super) Receiver<SourceResult<Bytes>>);

impl Pieces for Channel {
    fn next(&mut self) -> Result<Option<Bytes>, RdbError> {
        Ok(self.0.blocking_recv().transpose()?)
    }
}
