//! What stands in the way of a snapshot, and the statement or setting that mends it.

use std::time::Instant;

use backup_core::context::Context;
use backup_core::source::{Probe, ProbeProblem, ServerClock, SourceResult};
use backup_core::words;
use jiff::Timestamp;

use super::cluster::Cluster;
use super::error::{GRANT, WireError};
use super::options::{RedisOptions, SnapshotReading};
use super::server::{Info, Server};
use super::wire::{Connection, Reply};

/// Below this a short interruption tears a hole into the captured stream, bytes.
const SMALL_BACKLOG: u64 = 16 << 20;

/// Asks the server. Nothing is changed, and it is not made to write a dump.
pub(super) async fn probe(cx: &Context, options: &RedisOptions) -> SourceResult<Probe> {
    let server = Server::find(options).await?;
    let mut connection =
        Connection::open(options).await.map_err(|error| error.into_source("cannot connect"))?;
    let mut probe =
        Probe { version: server.version.as_ref().map(ToString::to_string), ..Probe::default() };
    rights(options, &mut connection, &mut probe.problems).await?;
    let info = &server.info;
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
    limits(cx, &mut connection).await?;
    let before = Instant::now();
    if let Some(reply) = ask(&mut connection, &["TIME"]).await?
        && let Some(seconds) = reply.parts().first().and_then(Reply::text)
        && let Ok(Ok(server)) = seconds.parse().map(Timestamp::from_second)
    {
        let clock = ServerClock::reported(server, before);
        probe.clock_ahead_seconds = Some(clock.ahead_seconds(cx));
    }
    Ok(probe)
}

/// The server's answer; none if it may not be asked.
async fn ask(connection: &mut Connection, words: &[&str]) -> SourceResult<Option<Reply>> {
    match connection.run(words).await {
        Ok(reply) => Ok(Some(reply)),
        Err(WireError::Server(_)) => Ok(None),
        Err(error) => Err(error.into_source("cannot query the server")),
    }
}

/// Whether we may be a replica, asked without becoming one.
async fn rights(
    options: &RedisOptions,
    connection: &mut Connection,
    problems: &mut Vec<ProbeProblem>,
) -> SourceResult<()> {
    if options.reader == Some(SnapshotReading::Scan) {
        return Ok(());
    }
    match connection.run(&["REPLCONF", "capa", "psync2"]).await {
        Ok(_) => {}
        Err(WireError::Server(text)) => {
            let remedy = if text.starts_with("NOPERM") { GRANT } else { managed() };
            let finding = format!("the server refuses replication ({text})");
            problems.push(ProbeProblem::new(finding, remedy));
            return Ok(());
        }
        Err(error) => return Err(error.into_source("cannot query the server")),
    }
    let name = options.psync.to_lowercase();
    // Of an unknown command the answer has an empty place.
    if let Some(reply) = ask(connection, &["COMMAND", "INFO", &name]).await?
        && let [one] = reply.parts()
        && one.parts().is_empty()
    {
        let finding = format!("the server has no command {name}");
        problems.push(ProbeProblem::new(finding, managed()));
        return Ok(());
    }
    let user = match ask(connection, &["ACL", "WHOAMI"]).await? {
        Some(reply) => reply.text().unwrap_or_default().to_owned(),
        None => return Ok(()),
    };
    // Servers from 7 on tell it beforehand: OK, or why not.
    if let Some(reply) = ask(connection, &["ACL", "DRYRUN", &user, &name, "?", "-1"]).await?
        && let Some(text) = reply.text()
        && text.contains("no permissions")
    {
        problems.push(ProbeProblem::new(text, GRANT));
    }
    Ok(())
}

fn managed() -> &'static str {
    "managed services withhold this command; request its name there from the provider, or set \
     `reader` to `scan`: keys are then read one by one, not at one moment, and without a log"
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
        let mut problems = Vec::new();
        let mut connection = Connection::open(&cluster.reader(shard))
            .await
            .map_err(|error| error.into_source("cannot connect"))?;
        rights(options, &mut connection, &mut problems).await?;
        probe.problems.extend(problems.into_iter().map(|problem| {
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
async fn limits(cx: &Context, connection: &mut Connection) -> SourceResult<()> {
    let value = async |connection: &mut Connection, name: &str| {
        let reply = ask(connection, &["CONFIG", "GET", name]).await?;
        SourceResult::Ok(
            reply.and_then(|reply| reply.parts().get(1).and_then(Reply::text).map(str::to_owned)),
        )
    };
    if let Some(size) =
        value(connection, "repl-backlog-size").await?.and_then(|text| text.parse::<u64>().ok())
        && size < SMALL_BACKLOG
    {
        cx.events.note(format!(
            "the backlog has {} KiB, so a follower that is interrupted for longer has a gap: \
             CONFIG SET repl-backlog-size 64mb",
            size >> 10
        ));
    }
    if let Some(all) = value(connection, "client-output-buffer-limit").await? {
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
