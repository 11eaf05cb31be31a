//! Ways to the target: one to a server, one to each master of a cluster. By its slot it is decided
//! which one a key takes.

use std::collections::BTreeMap;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use futures::future::try_join_all;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::super::cluster::{Cluster, slot_of};
use super::super::error::{GRANT_RESTORE, WireError};
use super::super::options::RedisOptions;
use super::super::rdb::RdbError;
use super::super::server::{Info, Version};
use super::super::wire::{Client, Endpoint, RawConnection};
use super::pipeline::Batch;
use super::plan::format_of;
use super::suited;

/// Batches that wait on each way.
const WAITING: usize = 4;

/// Commands on their way to a node.
pub(super) type Batches<T> = Receiver<SourceResult<Batch<T>>>;

/// Where keys are restored to.
pub(super) struct Target {
    pub(super) nodes: Vec<TargetNode>,
    /// Which node has a slot; empty for a server.
    owners: Vec<usize>,
}

/// A server, or a master of a cluster.
pub(super) struct TargetNode {
    pub(super) options: RedisOptions,
    pub(super) info: Info,
}

impl Target {
    /// Asks what the target is. Nothing is changed.
    pub(super) async fn find(server: &RedisOptions) -> SourceResult<Self> {
        let first = TargetNode::find(server.clone()).await?;
        if !first.info.is_cluster() {
            first.refuse()?;
            return Ok(Self { nodes: vec![first], owners: Vec::new() });
        }
        let cluster = Cluster::find(server, first.info.version().as_ref()).await;
        let cluster = cluster.map_err(|error| error.context("cannot inspect the target"))?;
        let masters = cluster.shards.iter().map(|shard| TargetNode::find(cluster.master(shard)));
        let nodes = try_join_all(masters).await?;
        nodes.iter().try_for_each(TargetNode::refuse)?;
        let owners: Option<Vec<usize>> = cluster.owners().into_iter().collect();
        let Some(owners) = owners else {
            let slots = words::count(cluster.missing().into(), "slot belongs", "slots belong");
            let text = format!("{slots} to no node of the target");
            return Err(SourceError::new(SourceErrorKind::Target, text)
                .with_hint("assign the slots with CLUSTER ADDSLOTSRANGE"));
        };
        Ok(Self { nodes, owners })
    }

    /// The version of the oldest node: what it takes, the others take as well.
    pub(super) fn version(&self) -> Option<Version> {
        self.nodes
            .iter()
            .filter_map(|node| node.info.version())
            .min_by_key(|version| format_of(version).1)
    }

    pub(super) fn infos(&self) -> impl Iterator<Item = &Info> {
        self.nodes.iter().map(|node| &node.info)
    }

    /// Keys of all nodes, by database.
    pub(super) fn keys(&self) -> BTreeMap<u32, u64> {
        let mut all = BTreeMap::new();
        for (database, keys) in self.infos().flat_map(Info::keys) {
            *all.entry(database).or_default() += keys;
        }
        all
    }

    /// A connection for requests to each node.
    pub(super) async fn clients(&self) -> SourceResult<Vec<Client>> {
        try_join_all(self.nodes.iter().map(TargetNode::client)).await
    }

    /// A connection for pipelines to each node.
    pub(super) async fn pipelines(&self) -> SourceResult<Vec<RawConnection>> {
        try_join_all(self.nodes.iter().map(TargetNode::pipeline)).await
    }

    /// A way to each node, and their other ends.
    pub(super) fn lanes<T>(&self) -> (Lanes<T>, Vec<Batches<T>>) {
        let lane = |_| {
            let (sender, end) = channel(WAITING);
            (Lane { sender, batch: Batch::default(), selected: 0 }, end)
        };
        let (lanes, ends) = self.nodes.iter().map(lane).unzip();
        (Lanes { lanes, owners: self.owners.clone() }, ends)
    }
}

fn cannot_connect(error: WireError, options: &RedisOptions) -> SourceError {
    error.into_source_granting(format!("cannot connect to {}", options.label()), GRANT_RESTORE)
}

impl TargetNode {
    async fn find(options: RedisOptions) -> SourceResult<Self> {
        let info = Info::of(&options).await.map_err(|error| cannot_connect(error, &options))?;
        Ok(Self { options, info })
    }

    async fn client(&self) -> SourceResult<Client> {
        let opened = Endpoint::of(&self.options).ask().await;
        opened.map_err(|error| cannot_connect(error, &self.options))
    }

    async fn pipeline(&self) -> SourceResult<RawConnection> {
        let opened = Endpoint::of(&self.options).raw().await;
        opened.map_err(|error| cannot_connect(error, &self.options))
    }

    fn refuse(&self) -> SourceResult<()> {
        let refuse = |text: &str, hint: &str| {
            Err(SourceError::new(SourceErrorKind::Target, text).with_hint(hint))
        };
        if !self.info.is_known() {
            return refuse("the type of the target is unknown: INFO is not allowed", GRANT_RESTORE);
        }
        self.info.refuse_sentinel()?;
        if self.info.is_replica() {
            return refuse("the target is a replica, which accepts no writes", suited::REPLICA);
        }
        Ok(())
    }
}

/// Ways to all nodes, for a thread that may wait.
pub(super) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    owners: Vec<usize>,
}

/// A way to a node.
pub(super) struct Lane<T> {
    sender: Sender<SourceResult<Batch<T>>>,
    pub(super) batch: Batch<T>,
    /// The database that the connection is at.
    selected: u32,
}

impl<T> Lanes<T> {
    /// The way that a key takes.
    pub(super) fn of(&mut self, name: &[u8]) -> &mut Lane<T> {
        let at = if self.owners.is_empty() { 0 } else { self.owners[usize::from(slot_of(name))] };
        &mut self.lanes[at]
    }

    /// Sends what waits.
    pub(super) fn send(&mut self) -> Result<(), RdbError> {
        self.lanes.iter_mut().try_for_each(Lane::send)
    }

    /// No node must take what it got for everything.
    pub(super) fn fail(&mut self, error: &RdbError) {
        for lane in &mut self.lanes {
            let copy = SourceError::new(SourceErrorKind::Mismatch, error.to_string());
            // Whoever writes may have given up already.
            _ = lane.sender.blocking_send(Err(copy));
        }
    }
}

impl<T> Lane<T> {
    /// Goes to a database.
    pub(super) fn select(&mut self, database: u32, about: T) {
        if self.selected != database {
            self.batch.push(&["SELECT", &database.to_string()], about);
            self.selected = database;
        }
    }

    pub(super) fn send_if_full(&mut self) -> Result<(), RdbError> {
        if self.batch.is_full() { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), RdbError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.sender.blocking_send(Ok(batch)).map_err(|_| RdbError::Source(SourceError::cancelled()))
    }
}
