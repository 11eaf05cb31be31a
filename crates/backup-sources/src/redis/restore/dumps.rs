//! The dumps of a snapshot: one of a server, or one of each master of a cluster.

use std::collections::BTreeSet;

use backup_core::format::Node;
use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc::Receiver;

use super::super::backup::{Channel, Description};
use super::super::cluster::Place;
use super::super::error::{invalid, malformed};
use super::super::layout::{Layout, TOP, cluster_log, offset_of};
use super::super::rdb::{Parser, RdbError, merge};

/// Largest description that is taken, bytes.
const DESCRIPTION: u64 = 16 << 20;

/// A dump, and what was said of it.
#[derive(Debug, Clone)]
pub(super) struct Dump {
    pub(super) layout: Layout,
    pub(super) description: Description,
    pub(super) file: Node,
}

/// All dumps that a snapshot holds: at least one, and all of a cluster.
pub(super) async fn find(snapshot: &SnapshotReader) -> SourceResult<Vec<Dump>> {
    let none = || invalid("the snapshot holds no Redis dump");
    let top = EntryPath::root().join(TOP.as_bytes());
    let node = snapshot.find(&top).await?.ok_or_else(none)?;
    let tree = snapshot.tree(&node.subtree.ok_or_else(none)?).await?;
    let mut dumps = Vec::new();
    for node in &tree.nodes {
        // What was captured of a cluster, unless a server is called so.
        if top.join(&node.name) == cluster_log()
            && snapshot.find(&Layout::at(cluster_log()).description()).await?.is_none()
        {
            continue;
        }
        dumps.push(read(snapshot, Layout::at(top.join(&node.name))).await?);
    }
    let nodes: BTreeSet<_> =
        dumps.iter().map(|dump| Some(&dump.description.member.as_ref()?.id)).collect();
    let masters = |dump: &Dump| dump.description.member.as_ref().map_or(1, |member| member.masters);
    if dumps.is_empty() || nodes.len() < dumps.len() {
        return Err(none());
    }
    if dumps.iter().any(|dump| masters(dump) != dumps.len()) {
        return Err(SourceError::new(
            SourceErrorKind::Mismatch,
            "the snapshot does not hold all masters of its cluster",
        ));
    }
    Ok(dumps)
}

/// Where the masters of a cluster are at the end of a snapshot, each with its part of that.
pub(in super::super) async fn places_of(
    snapshot: &SnapshotReader,
) -> SourceResult<Vec<(Layout, Place)>> {
    let mut places = Vec::new();
    for dump in find(snapshot).await? {
        let Description { replication_id, offset, member, .. } = dump.description;
        let Some(member) = member.filter(|_| !replication_id.is_empty()) else {
            return Err(invalid(
                "the earlier snapshot has no offsets of the masters of the cluster",
            ));
        };
        let last = since(snapshot, &dump.layout).await?.pop();
        let (id, offset) = match last {
            Some(file) => (file.id, file.offset.saturating_add(file.node.metadata.size)),
            None => (replication_id, offset),
        };
        places.push((dump.layout, Place { slots: member.slots, id, offset }));
    }
    Ok(places)
}

/// A file of commands since a dump.
pub(super) struct Since {
    /// The replication id that it was read under.
    pub(super) id: String,
    /// Of its first byte.
    pub(super) offset: u64,
    pub(super) node: Node,
}

/// Those that a snapshot has itself, in order.
pub(super) async fn since(snapshot: &SnapshotReader, layout: &Layout) -> SourceResult<Vec<Since>> {
    let mut files = Vec::new();
    if let Some(tree) = snapshot.find(&layout.since_dir()).await?.and_then(|node| node.subtree) {
        let mut walk = snapshot.walk_below(layout.since_dir(), tree);
        while let Some((path, node)) = walk.next().await? {
            if node.is_file() {
                let name = || malformed(format!("file name {path}"));
                let offset = offset_of(&path.display()).ok_or_else(name)?;
                let id = path.parent().ok_or_else(name)?;
                files.push(Since {
                    id: String::from_utf8_lossy(id.name()).into_owned(),
                    offset,
                    node,
                });
            }
        }
    }
    files.sort_by_key(|file| file.offset);
    Ok(files)
}

async fn read(snapshot: &SnapshotReader, layout: Layout) -> SourceResult<Dump> {
    let none = || invalid("the snapshot holds no Redis dump");
    let file = snapshot.find(&layout.dump()).await?.ok_or_else(none)?;
    let node = snapshot.find(&layout.description()).await?.ok_or_else(none)?;
    if node.metadata.size > DESCRIPTION {
        return Err(malformed("node.json"));
    }
    let mut json = Vec::new();
    let mut content = snapshot.content(&node);
    while let Some(piece) = content.next().await.transpose()? {
        json.extend_from_slice(&piece);
    }
    let description = serde_json::from_slice(&json).map_err(|_| malformed("node.json"))?;
    Ok(Dump { layout, description, file })
}

/// What is said of all of them together. The moment is that of the last one.
pub(super) fn joined(dumps: &[Dump]) -> SourceResult<Description> {
    let mut all = dumps.iter().map(|dump| &dump.description);
    let mut joined = all.next().ok_or_else(|| invalid("the snapshot holds no Redis dump"))?.clone();
    for one in all {
        let (dump, other) = (&mut joined.dump, &one.dump);
        if dump.format != other.format {
            let text = "the dumps of the cluster's masters have different formats";
            return Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(
                "restore into a directory, and start a server on the files of each master",
            ));
        }
        let number = |name: &str, of: &Description| {
            of.dump.remarks.get(name).and_then(|text| text.parse::<u64>().ok())
        };
        let memory = number("used-mem", &joined)
            .zip(number("used-mem", one))
            .map(|(a, b)| a.saturating_add(b));
        let created = number("ctime", &joined).max(number("ctime", one));
        let dump = &mut joined.dump;
        let remarks = [("used-mem", memory), ("ctime", created)];
        dump.remarks.extend(
            remarks.into_iter().filter_map(|(name, to)| Some((name.to_owned(), to?.to_string()))),
        );
        dump.version = dump.version.max(other.version);
        dump.bytes += other.bytes;
        merge(&mut dump.databases, &other.databases);
        dump.libraries = dump.libraries.max(other.libraries);
        dump.module_data |= other.module_data;
        dump.not_hashed += other.not_hashed;
        dump.unknown = dump.unknown.take().or_else(|| other.unknown.clone());
        joined.time = joined.time.max(one.time);
        joined.scanned_from = joined.scanned_from.into_iter().chain(one.scanned_from).min();
        joined.modules = joined
            .modules
            .take()
            .zip(one.modules.clone())
            .map(|(a, b)| a.into_iter().chain(b).collect());
    }
    Ok(joined)
}

/// Dumps one after the other, for a thread that may wait.
pub(super) struct Dumps {
    pub(super) waiting: Receiver<Receiver<SourceResult<Bytes>>>,
    /// How many are still to come.
    pub(super) left: usize,
}

impl Dumps {
    /// The next one; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Parser<Channel>>, RdbError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let pieces = self
            .waiting
            .blocking_recv()
            .ok_or_else(|| RdbError::Source(SourceError::cancelled()))?;
        Ok(Some(Parser::new(Channel(pieces))))
    }
}
