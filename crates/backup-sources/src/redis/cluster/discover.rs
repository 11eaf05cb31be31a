//! Who has which slots, as all masters agree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use futures::future::try_join_all;
use redis::Value;

use super::super::error::{GRANT_CLUSTER, WireError, malformed};
use super::super::options::RedisOptions;
use super::super::server::{Vendor, Version};
use super::super::wire::Endpoint;
use super::slots::{COUNT, Slots};
use super::topology::{self, Node};

const DOING: &str = "cannot query the nodes of the cluster";
/// So long a node is waited for that others can stand in for: one that is gone must not hold up the
/// log of all.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: &str =
    "try again in a moment; compare the replies of the nodes to CLUSTER NODES if this persists";

/// A master with its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Shard {
    /// The master's name in the cluster.
    pub(in super::super) id: String,
    /// Its address.
    pub(in super::super) address: String,
    pub(in super::super) slots: Slots,
    epoch: u64,
    /// Where the master is reached,
    host: String,
    port: u16,
    /// and who is read.
    reader: (String, u16),
}

/// A cluster at rest.
#[derive(Debug, Clone)]
pub(in super::super) struct Cluster {
    /// By address.
    pub(in super::super) shards: Vec<Shard>,
    options: RedisOptions,
    /// All nodes: any of them leads to the others.
    nodes: Vec<RedisOptions>,
    /// Which of them has answered last.
    answered: Arc<AtomicUsize>,
}

/// What has become of a cluster.
#[derive(Debug)]
pub(super) enum Rest {
    /// Every slot is where it was, and stays there.
    Still,
    /// It is not: what has changed.
    Changed(String),
    /// They are, but by now these belong to another node than the one that is followed: numbers of
    /// shards.
    Elsewhere(Vec<usize>),
    /// That cannot be told at the moment.
    Unknown(SourceError),
}

impl Cluster {
    /// Asks the node that is named, and every master for what it says of itself.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unavailable`] while slots are being moved, or a master is dead, or the
    /// masters do not agree.
    pub(in super::super) async fn find(
        options: &RedisOptions,
        version: Option<&Version>,
    ) -> SourceResult<Self> {
        let nodes = ask(options).await?;
        let reads_replicas = nodes.iter().any(|node| node.is_self && !node.is_master);
        let masters = nodes.iter().filter(|node| node.is_master && !node.slots.is_empty());
        let shards = try_join_all(masters.map(async |master| {
            require_alive(master)?;
            let at = at(options, &master.host, master.port);
            require_rest(master, &at, version).await?;
            let replica = nodes.iter().filter(|node| node.master.as_ref() == Some(&master.id));
            // The one that was named is meant.
            let replica =
                replica.filter(|node| !node.is_failing && (node.is_linked || node.is_self));
            let reader = replica
                .max_by_key(|node| node.is_self)
                .filter(|_| reads_replicas)
                .unwrap_or(master);
            SourceResult::Ok(Shard {
                id: master.id.clone(),
                address: master.address(),
                slots: master.slots.clone(),
                epoch: master.epoch,
                host: master.host.clone(),
                port: master.port,
                reader: (reader.host.clone(), reader.port),
            })
        }));
        let mut shards = shards.await?;
        shards.sort_by(|a, b| a.address.cmp(&b.address));
        let others = nodes.iter().filter(|node| !node.is_self && node.port != 0);
        let others = others.map(|node| at(options, &node.host, node.port));
        let nodes = std::iter::once(options.clone()).chain(others).collect();
        let cluster = Self { shards, options: options.clone(), nodes, answered: Arc::default() };
        cluster.require_sense()?;
        Ok(cluster)
    }

    /// Every slot has one owner at most, every owner an address of its own.
    fn require_sense(&self) -> SourceResult<()> {
        if self.shards.is_empty() {
            return Err(unrest("no node of the cluster has any slots".to_owned()));
        }
        if self.shards.windows(2).any(|pair| pair[0].address == pair[1].address) {
            return Err(malformed("reply to CLUSTER NODES: two masters have the same address"));
        }
        let mut all = Slots::default();
        let ranges = self.shards.iter().flat_map(|shard| shard.slots.ranges());
        if ranges.into_iter().all(|(first, last)| all.add(*first, *last)) {
            return Ok(());
        }
        Err(unrest("two nodes claim the same slots".to_owned()))
    }

    /// Slots that nobody has.
    pub(in super::super) fn missing(&self) -> u16 {
        let ranges = self.shards.iter().flat_map(|shard| shard.slots.ranges());
        COUNT - ranges.map(|(first, last)| last - first + 1).sum::<u16>()
    }

    /// How a shard's master is reached.
    pub(in super::super) fn master(&self, shard: &Shard) -> RedisOptions {
        at(&self.options, &shard.host, shard.port)
    }

    /// How the node is reached that is read for a shard.
    pub(in super::super) fn reader(&self, shard: &Shard) -> RedisOptions {
        at(&self.options, &shard.reader.0, shard.reader.1)
    }

    /// Which shard has a slot; `None` for those that nobody has.
    pub(in super::super) fn owners(&self) -> Vec<Option<usize>> {
        let owner = |slot| self.shards.iter().position(|shard| shard.slots.has(slot));
        (0..COUNT).map(owner).collect()
    }

    /// Asks whoever answers.
    async fn ask_any(&self) -> SourceResult<Vec<Node>> {
        let mut last = unrest("no node of the cluster answers".to_owned());
        let first = self.answered.load(Ordering::Relaxed);
        for number in (0..self.nodes.len()).map(|at| (at + first) % self.nodes.len()) {
            match tokio::time::timeout(PATIENCE, ask(&self.nodes[number])).await {
                Ok(Ok(nodes)) => {
                    self.answered.store(number, Ordering::Relaxed);
                    return Ok(nodes);
                }
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = unrest(format!(
                        "a node of the cluster does not answer within {PATIENCE:?}"
                    ));
                }
            }
        }
        Err(last)
    }

    /// Which node the master is that has these slots by now, and how it is reached.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unavailable`] if there is none at the moment.
    pub(in super::super) async fn master_of(
        &self,
        slots: &Slots,
    ) -> SourceResult<(String, RedisOptions)> {
        let nodes = self.ask_any().await?;
        let master = nodes.iter().find(|node| node.is_master && node.slots == *slots);
        let master =
            master.ok_or_else(|| unrest(format!("no master has the slots {slots} now")))?;
        require_alive(master)?;
        Ok((master.id.clone(), at(&self.options, &master.host, master.port)))
    }

    /// Whether slots have changed hands since, or are about to. That another node is the master of
    /// some is no change, but it has to be the one that is followed: what is written to it is in no
    /// other stream. `followed` are the nodes of all shards, `None` while there is no connection.
    pub(super) async fn rest(
        &self,
        version: Option<&Version>,
        followed: &[Option<String>],
    ) -> Rest {
        let nodes = match self.ask_any().await {
            Ok(nodes) => nodes,
            Err(error) => return Rest::Unknown(error),
        };
        let masters: Vec<&Node> =
            nodes.iter().filter(|node| node.is_master && !node.slots.is_empty()).collect();
        let is_known = |node: &&Node| self.shards.iter().any(|shard| shard.slots == node.slots);
        if masters.len() != self.shards.len() || !masters.iter().all(is_known) {
            return Rest::Changed("slots of the cluster have new owners".to_owned());
        }
        let owner = |shard: &Shard| {
            masters.iter().find(|node| node.slots == shard.slots).map(|node| &node.id)
        };
        let strays = |(shard, followed): (&Shard, &Option<String>)| {
            followed.is_some() && followed.as_ref() != owner(shard)
        };
        let elsewhere: Vec<usize> = self
            .shards
            .iter()
            .zip(followed)
            .enumerate()
            .filter(|(_, pair)| strays(*pair))
            .map(|(at, _)| at)
            .collect();
        if !elsewhere.is_empty() {
            return Rest::Elsewhere(elsewhere);
        }
        let looking = masters.iter().map(async |master| {
            require_alive(master)?;
            let (own, moving) =
                moving(master, &at(&self.options, &master.host, master.port), version).await?;
            if owners(&own) != owners(&nodes) {
                return Err(unrest(format!(
                    "{} disagrees with other masters about the owners of slots",
                    master.address()
                )));
            }
            Ok(moving)
        });
        let found = tokio::time::timeout(2 * PATIENCE, try_join_all(looking)).await;
        match found
            .unwrap_or_else(|_| Err(unrest("a master of the cluster does not answer".to_owned())))
        {
            Ok(found) => match found.into_iter().flatten().next() {
                Some(what) => Rest::Changed(what),
                None if followed.contains(&None) => {
                    Rest::Unknown(unrest("a master is not connected yet".to_owned()))
                }
                None => Rest::Still,
            },
            Err(error) => Rest::Unknown(error),
        }
    }

    /// Refuses if slots have changed hands since, or are about to.
    pub(super) async fn require_unchanged(&self, version: Option<&Version>) -> SourceResult<()> {
        let now = Self::find(&self.options, version).await?;
        let known = |cluster: &Self| -> Vec<_> {
            cluster
                .shards
                .iter()
                .map(|shard| (shard.id.clone(), shard.slots.clone(), shard.epoch))
                .collect()
        };
        if known(self) == known(&now) {
            return Ok(());
        }
        Err(unrest(
            "the cluster changed while it was read: its masters or their slots are different now"
                .to_owned(),
        ))
    }
}

/// The same settings for another node.
fn at(options: &RedisOptions, host: &str, port: u16) -> RedisOptions {
    // A node that does not know its own address is the one that was asked.
    if host.is_empty() {
        return options.clone();
    }
    RedisOptions { host: host.to_owned(), port, socket: None, ..options.clone() }
}

fn unrest(text: String) -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, text).with_hint(AGAIN)
}

fn failed(error: WireError) -> SourceError {
    error.into_source_granting(DOING, GRANT_CLUSTER)
}

/// What a node knows.
async fn ask(options: &RedisOptions) -> SourceResult<Vec<Node>> {
    let mut client = Endpoint::of(options).ask().await.map_err(failed)?;
    let nodes: String = client.run(redis::cmd("CLUSTER").arg("NODES")).await.map_err(failed)?;
    topology::parse(&nodes)
}

fn require_alive(master: &Node) -> SourceResult<()> {
    if !master.is_failing {
        return Ok(());
    }
    let text =
        format!("the master {} does not answer, and no replica has taken over", master.address());
    Err(unrest(text))
}

/// Refuses if a master does not agree, or hands over or takes over slots.
async fn require_rest(
    master: &Node,
    options: &RedisOptions,
    version: Option<&Version>,
) -> SourceResult<()> {
    let (_, Some(what)) = moving(master, options, version).await? else { return Ok(()) };
    let text = format!("{what}: their keys may be in two nodes or in none during the dumps");
    Err(SourceError::new(SourceErrorKind::Unavailable, text).with_hint(
        "back up when the move has ended; run `redis-cli --cluster fix` if it was interrupted",
    ))
}

/// Who has which slots, as a node sees it.
fn owners(nodes: &[Node]) -> BTreeMap<&str, &Slots> {
    let masters = nodes.iter().filter(|node| node.is_master && !node.slots.is_empty());
    masters.map(|node| (&*node.id, &node.slots)).collect()
}

/// Asks a master whether it agrees, what it knows, and which slots it hands over or takes over, if
/// it does.
async fn moving(
    master: &Node,
    options: &RedisOptions,
    version: Option<&Version>,
) -> SourceResult<(Vec<Node>, Option<String>)> {
    let name = master.address();
    let nodes = ask(options).await.map_err(|error| error.context(format!("node {name}")))?;
    let own = nodes.iter().find(|node| node.is_self).filter(|own| own.id == master.id);
    let Some(own) = own else {
        let text = format!("another node answers at the address of {name}");
        return Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint(
            "make the addresses that the nodes announce to each other reach the same nodes from \
             this machine",
        ));
    };
    if (&own.slots, own.is_master) != (&master.slots, true) {
        return Err(unrest(format!("{name} disagrees with other nodes about its slots")));
    }
    let is_moving = !own.moving.is_empty() || has_jobs(options, version).await?;
    if !is_moving {
        return Ok((nodes, None));
    }
    let slots = own.moving.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    let what = if slots.is_empty() { "slots".to_owned() } else { format!("slots ({slots})") };
    Ok((nodes, Some(format!("{what} of {name} are being moved"))))
}

/// Valkey from 9 on moves slots by jobs, which it tells of by another command.
async fn has_jobs(options: &RedisOptions, version: Option<&Version>) -> SourceResult<bool> {
    if !version.is_some_and(|version| version.vendor == Vendor::Valkey && version.major >= 9) {
        return Ok(false);
    }
    let mut client = Endpoint::of(options).ask().await.map_err(failed)?;
    let jobs: Vec<Value> =
        client.run(redis::cmd("CLUSTER").arg("GETSLOTMIGRATIONS")).await.map_err(failed)?;
    Ok(jobs.iter().any(is_under_way))
}

/// Whether a job, whose reply is names and values in turn, has not ended.
pub(super) fn is_under_way(job: &Value) -> bool {
    let text = |value: &Value| redis::from_redis_value_ref::<String>(value).ok();
    let mut facts = job.as_map_iter().into_iter().flatten();
    let state = facts.find(|(name, _)| text(name).as_deref() == Some("state"));
    let state = state.and_then(|(_, value)| text(value));
    !matches!(state.as_deref(), Some("success" | "failed" | "cancelled" | "canceled"))
}
