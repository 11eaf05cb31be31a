//! The earlier snapshot that an incremental backup builds on, and why one cannot be built on.
//!
//! From 17 on a server that keeps summaries of its log (`summarize_wal`) sends the blocks that
//! changed since a backup whose manifest it is given (PostgreSQL's documentation, “Making an
//! Incremental Backup”). What it needs is said by the server itself; everything else is looked at
//! here. Without summaries the log tells (`trace.rs`). If neither does, the backup is a full one.

use std::collections::HashSet;

use backup_core::format::Node;
use backup_core::repository::{IndexedRepository, SnapshotReader};
use backup_core::source::{EntryPath, Item, Metadata, SourceError, SourceResult};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::super::cluster::Cluster;
use super::super::delta::{BLOCK, Delta};
use super::super::error::{ServerError, WireError, malformed};
use super::super::layout::Layout;
use super::super::lsn::Lsn;
use super::super::wire::Connection;
use super::describe::{Description, MOST_INCREMENTS};
use super::feed::Feed;
use super::sums::hash;
use crate::parent::{incomplete, is_lasting};

/// Oldest version that sends what changed.
pub(in super::super) const SINCE: u32 = 17;

/// An earlier snapshot that can be built on.
#[derive(Debug)]
pub(super) struct Earlier {
    snapshot: SnapshotReader,
    layout: Layout,
    /// How many backups of what changed it has.
    increments: usize,
    /// Whether pages had checksums.
    data_checksums: Option<String>,
    manifest: Node,
    timeline: u32,
    start: Lsn,
    end: Lsn,
    /// Hashes of what its newest layer has, by the paths of the manifest.
    files: HashSet<u64>,
}

impl Earlier {
    /// What can be built on; else why not.
    pub(super) async fn of(
        snapshot: &SnapshotReader,
        cluster: &Cluster,
    ) -> SourceResult<Result<Self, String>> {
        if let Some(reason) = incomplete(snapshot) {
            return Ok(Err(reason.to_owned()));
        }
        match Self::look(snapshot, cluster).await {
            Err(error) => because(error).map(Err),
            looked => looked,
        }
    }

    async fn look(
        snapshot: &SnapshotReader,
        cluster: &Cluster,
    ) -> SourceResult<Result<Self, String>> {
        let major = cluster.version / 10_000;
        let (layout, description) = Description::read(snapshot).await?;
        let Description { increments, version, data_checksums, timeline, .. } = description;
        let place = |text: &str| text.parse::<Lsn>().map_err(|_| malformed("cluster.json"));
        let (start, end) = (place(&description.start)?, place(&description.end)?);
        if layout != Layout::of(cluster.system_id) || version / 10_000 != major {
            return Ok(Err(
                "the earlier snapshot is of another cluster or major version".to_owned()
            ));
        }
        if increments >= MOST_INCREMENTS {
            return Ok(Err(format!("{increments} incremental backups build on the last full one")));
        }
        let Some(manifest) = snapshot.find(&layout.newest(increments).manifest()).await? else {
            return Ok(Err("the earlier snapshot has no manifest".to_owned()));
        };
        let (mut files, newest) = (HashSet::new(), layout.newest(increments));
        let mut walk = snapshot.walk();
        while let Some((path, node)) = walk.next().await? {
            files.extend(listed(&newest, &path).map(|path| hash(&path)));
            if node.content.iter().any(|blob| snapshot.blob_len(blob).is_err()) {
                return Ok(Err("the repository has lost data of the earlier snapshot".to_owned()));
            }
        }
        Ok(Ok(Self {
            snapshot: snapshot.clone(),
            layout,
            increments,
            data_checksums,
            manifest,
            timeline,
            start,
            end,
            files,
        }))
    }

    /// How many backups of what changed there are with the one that is being made.
    pub(super) fn increments(&self) -> usize {
        self.increments + 1
    }

    /// Why a server cannot be asked for what changed since, if so. `data_checksums` says whether
    /// pages have checksums now.
    pub(super) async fn refusal(
        &self,
        connection: &mut Connection,
        data_checksums: &str,
    ) -> Result<Option<&'static str>, WireError> {
        let sizes = (connection.show("block_size").await?, connection.show("segment_size").await?);
        if sizes != (BLOCK.to_string(), "1GB".to_owned()) {
            return Ok(Some("the server was not built with pages of 8 KiB and files of 1 GiB"));
        }
        // They can be switched on and off while the server is down, and its log tells nothing of
        // that.
        let same = self.data_checksums.as_deref() == Some(data_checksums);
        Ok((!same).then_some("page checksums were switched on or off since the earlier snapshot"))
    }

    /// Gives the server the earlier backup's manifest; `Err` within says why it cannot be built on.
    pub(super) async fn upload(
        &self,
        connection: &mut Connection,
    ) -> Result<Result<(), String>, WireError> {
        if connection.show("summarize_wal").await? != "on" {
            return Ok(Err("summarize_wal is off".to_owned()));
        }
        let manifest = self.snapshot.content(&self.manifest).map_err(Into::into).boxed();
        match connection.upload_manifest(manifest).await {
            Err(WireError::Server(error)) if !is_passing(&error) => Ok(Err(error.to_string())),
            other => other.map(Ok),
        }
    }

    /// Where it begins and ends, on this timeline.
    pub(super) fn start(&self) -> Lsn {
        self.start
    }

    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    pub(super) fn timeline(&self) -> u32 {
        self.timeline
    }

    /// The repository that it is in.
    pub(super) fn indexed(&self) -> &IndexedRepository {
        self.snapshot.indexed()
    }

    /// Whether it has a file, as a whole or in part, by its path in the manifest.
    pub(super) fn has(&self, listed: &[u8]) -> bool {
        self.files.contains(&hash(listed))
    }

    /// What the label of a backup says that builds on it (`xlogbackup.c`).
    pub(super) fn label(&self) -> String {
        format!("INCREMENTAL FROM LSN: {}\nINCREMENTAL FROM TLI: {}\n", self.start, self.timeline)
    }

    /// A segment of the log that came with it.
    pub(super) async fn segment(
        &self,
        name: &str,
    ) -> SourceResult<BoxStream<'static, backup_core::error::Result<Bytes>>> {
        let path = self.layout.newest(self.increments).base().join(b"pg_wal").join(name.as_bytes());
        let node = self.snapshot.find(&path).await?.filter(Node::is_file);
        let node = node
            .ok_or_else(|| malformed(format!("earlier snapshot: WAL segment {name} is missing")))?;
        Ok(self.snapshot.content(&node))
    }

    /// Takes over what is built on.
    pub(super) async fn keep(&self, feed: &Feed) -> SourceResult<()> {
        let mut paths = vec![self.layout.base()];
        if self.snapshot.find(&self.layout.tablespaces()).await?.is_some() {
            paths.push(self.layout.tablespaces());
        }
        paths.extend((1..=self.increments).map(|number| self.layout.incremental(number).cluster()));
        for path in paths {
            feed.item(Item::Keep(path)).await?;
        }
        Ok(())
    }

    /// What its files are like.
    pub(super) async fn like(&self) -> SourceResult<Metadata> {
        let path = self.layout.newest(self.increments).base().join(b"global").join(b"pg_control");
        let node = self.snapshot.find(&path).await?;
        Ok(node.ok_or_else(|| malformed("earlier snapshot: pg_control is missing"))?.metadata)
    }

    /// Where the new one goes.
    pub(super) fn place(&self) -> Layout {
        self.layout.incremental(self.increments())
    }

    /// The snapshot that is built on, as people know it.
    pub(super) fn name(&self) -> String {
        self.snapshot.id().short()
    }
}

/// What a file of a layer is called in the manifest of the backup: with its own name, even if only
/// a part of it is there.
fn listed(layer: &Layout, path: &EntryPath) -> Option<Vec<u8>> {
    let below = |top: &EntryPath| {
        let rest = path.as_bytes().strip_prefix(top.as_bytes())?.strip_prefix(b"/")?;
        Some(Delta::path_of_whole(rest))
    };
    let of_tablespace = || Some([&b"pg_tblspc/"[..], &below(&layer.tablespaces())?].concat());
    below(&layer.base()).or_else(of_tablespace)
}

/// What is wrong with the earlier snapshot, if that lasts: then it is a reason for a full backup.
pub(super) fn because(error: SourceError) -> SourceResult<String> {
    if is_lasting(&error) {
        Ok(format!("the earlier snapshot cannot be read ({})", error.chain()))
    } else {
        Err(error)
    }
}

/// Whether what the server refuses has nothing to do with what is asked for: lost connections
/// (class 08), too little of something (53), somebody who stops the server or this (57).
pub(super) fn is_passing(error: &ServerError) -> bool {
    ["08", "53", "57"].iter().any(|class| error.code.starts_with(class))
}
