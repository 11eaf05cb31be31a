//! What stands in the way of a snapshot, and the statement or setting that mends it.

use std::time::Instant;

use backup_core::context::Context;
use backup_core::source::{LogCapture, Probe, ProbeProblem, ServerClock, SourceResult};
use backup_core::words;
use jiff::Timestamp;
use redis::{Cmd, FromRedisValue};

use super::cluster::Cluster;
use super::error::{GRANT, WireError};
use super::options::RedisOptions;
use super::rights;
use super::server::{self, Info, Server};
use super::wire::{Client, Endpoint};

/// Below this a short interruption tears a hole into the captured stream, bytes.
const SMALL_BACKLOG: u64 = 16 << 20;

/// Asks the server. Nothing is changed, and it is not made to write a dump.
pub(super) async fn probe(cx: &Context, options: &RedisOptions) -> SourceResult<Probe> {
    let server = Server::find(options).await?;
    let mut client = connect(options).await?;
    let mut probe =
        Probe { version: server.version.as_ref().map(ToString::to_string), ..Probe::default() };
    let info = &server.info;
    if let Err(error) = info.refuse_sentinel() {
        probe.problems.push(ProbeProblem::of_error(&error, "name a server"));
        probe.log_capture = LogCapture::Refused;
        return Ok(probe);
    }
    let (right, problem) = rights::check(options, info, &mut client).await?;
    probe.log_capture = right;
    probe.problems.extend(problem);
    if info.is_known() {
        probe.estimated_objects = Some(info.keys().values().sum());
        probe.estimated_bytes = info.number("used_memory");
        state(cx, info, &mut probe.problems);
        if info.is_cluster() {
            nodes(options, &server, &mut probe).await?;
        }
    } else {
        cx.events.note(format!(
            "INFO is not allowed, so sizes and the state of the server are unknown: {GRANT}"
        ));
    }
    limits(cx, &mut client).await?;
    let before = Instant::now();
    if let Some((seconds, _)) = ask::<(i64, u64)>(&mut client, &redis::cmd("TIME")).await?
        && let Ok(server) = Timestamp::from_second(seconds)
    {
        let clock = ServerClock::reported(server, before);
        probe.clock_ahead_seconds = Some(clock.ahead_seconds(cx));
    }
    Ok(probe)
}

async fn connect(options: &RedisOptions) -> SourceResult<Client> {
    Endpoint::of(options).ask().await.map_err(|error| error.into_source("cannot connect"))
}

/// The server's reply; `None` if the server refuses.
pub(super) async fn ask<T: FromRedisValue>(
    client: &mut Client,
    command: &Cmd,
) -> SourceResult<Option<T>> {
    permitted(client.run(command).await)
}

/// `None` if the server refuses.
fn permitted<T>(replied: Result<T, WireError>) -> SourceResult<Option<T>> {
    match replied {
        Ok(reply) => Ok(Some(reply)),
        Err(WireError::Server(_)) => Ok(None),
        Err(error) => Err(error.into_source("cannot query the server")),
    }
}

/// Whether all nodes can be found and read; what all of them hold.
async fn nodes(options: &RedisOptions, server: &Server, probe: &mut Probe) -> SourceResult<()> {
    let cluster = match Cluster::find(options, server.version.as_ref()).await {
        Ok(cluster) => cluster,
        Err(error) => {
            let remedy = "start the nodes of the cluster, and let this machine reach them";
            probe.problems.push(ProbeProblem::of_error(&error, remedy));
            return Ok(());
        }
    };
    let (mut keys, mut bytes) = (0, 0);
    for shard in &cluster.shards {
        let node = Server::find(&cluster.reader(shard)).await?;
        keys += node.info.keys().values().sum::<u64>();
        bytes += node.info.number("used_memory").unwrap_or(0);
        let reader = cluster.reader(shard);
        let mut client = connect(&reader).await?;
        let (right, problem) = rights::check(&reader, &node.info, &mut client).await?;
        probe.log_capture = probe.log_capture.max(right);
        probe.problems.extend(problem.map(|problem| {
            let finding = format!("node {}: {}", shard.address, problem.finding);
            ProbeProblem { finding, ..problem }
        }));
    }
    (probe.estimated_objects, probe.estimated_bytes) = (Some(keys), Some(bytes));
    if cluster.missing() > 0 {
        let slots = words::count(cluster.missing().into(), "slot belongs", "slots belong");
        let remedy = "assign every slot (CLUSTER ADDSLOTS)";
        probe.problems.push(ProbeProblem::new(format!("{slots} to no node"), remedy));
    }
    Ok(())
}

fn state(cx: &Context, info: &Info, problems: &mut Vec<ProbeProblem>) {
    if info.get("loading") == Some("1") {
        let finding = "the server is loading its data";
        problems.push(ProbeProblem::new(finding, "wait until it is done"));
    }
    if info.is_replica() && info.get("master_link_status") == Some("down") {
        let finding = "this is a replica without its master, whose data may be old";
        problems.push(ProbeProblem::new(finding, "name another server"));
    }
    if info.is_cluster() {
        cx.events.note(
            "this is a node of a cluster: a snapshot holds all of its masters, each at its own \
             moment",
        );
    }
    if !info.is_replica()
        && info.number("connected_slaves") == Some(0)
        && info.get("aof_enabled") == Some("0")
    {
        cx.events.note(
            "the server has no replica and no append-only file: the last writes are lost if it \
             stops",
        );
    }
    if info.get("rdb_last_bgsave_status") == Some("err") {
        let remedy = "check its log, it may lack the memory to fork";
        problems.push(ProbeProblem::new("the server's last save failed", remedy));
    }
}

/// What following the stream depends on.
async fn limits(cx: &Context, client: &mut Client) -> SourceResult<()> {
    let size = permitted(server::setting(client, "repl-backlog-size").await)?.flatten();
    if let Some(size) = size.and_then(|text| text.parse::<u64>().ok())
        && size < SMALL_BACKLOG
    {
        cx.events.note(format!(
            "the backlog has {} KiB, so a follower that is interrupted for longer has a gap: \
             CONFIG SET repl-backlog-size 64mb",
            size >> 10
        ));
    }
    let all = permitted(server::setting(client, "client-output-buffer-limit").await)?.flatten();
    if let Some(all) = all {
        let limit =
            all.split("slave ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        if limit.is_some_and(|limit| limit > 0 && limit < SMALL_BACKLOG) {
            cx.events.note(
                "the server disconnects slow replicas: CONFIG SET client-output-buffer-limit \
                 \"replica 256mb 64mb 60\"",
            );
        }
    }
    Ok(())
}
