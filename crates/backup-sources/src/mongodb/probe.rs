//! What stands in the way of a backup.

use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::source::{Probe, ProbeProblem, ServerClock, SourceResult};
use bson::doc;
use jiff::Timestamp;

use super::catalog::{databases, uuid_at, uuid_bson};
use super::error::{Explain as _, code, code_of, is_denied};
use super::history::{self, OplogWindow};
use super::namespace::Namespace;
use super::server::{Server, Topology};

/// Oplog windows below this many seconds are pointed out where the log is not captured: a scan must
/// fit into them.
const SCAN: u64 = 3600;
/// Where it is, the window must be so many times as long as what may wait to be stored.
const TIMES: u64 = 3;

/// Looks at everything a backup needs, and reads no data but the newest and oldest entries of the
/// oplog.
pub(super) async fn probe(
    cx: &Context,
    server: &Server,
    log_interval: Option<Duration>,
) -> SourceResult<Probe> {
    let mut probe = Probe { version: Some(server.version_text()), ..Probe::default() };
    if let Err(error) = server.refuse_sharded() {
        let remedy = "back up each shard by itself";
        probe.problems.push(ProbeProblem::of_error(&error, remedy));
        return Ok(probe);
    }
    if !server.at_least(4, 4) {
        let version = probe.version.as_deref().unwrap_or("of this version");
        let finding = format!("MongoDB {version} is too old");
        probe.problems.push(ProbeProblem::new(finding, "upgrade the server to 4.4 or newer"));
    }
    let mut denied = Vec::new();
    match databases(server).await {
        Ok(databases) => {
            probe.estimated_bytes = Some(databases.values().sum());
            let mut collections = 0;
            for db in databases.keys() {
                let listed =
                    server.list_raw(db, doc! { "listCollections": 1, "nameOnly": true }).await;
                match listed {
                    Ok(listed) => collections += listed.len() as u64,
                    Err(error) if is_denied(&error) => denied.push("listCollections"),
                    Err(error) => return Err(error).reading("cannot list the collections"),
                }
            }
            probe.estimated_objects = Some(collections);
        }
        Err(_) => denied.push("listDatabases"),
    }
    denied.extend(rights(server).await?);
    if !denied.is_empty() {
        denied.dedup();
        let finding = format!("missing privileges ({})", denied.join(", "));
        probe.problems.push(ProbeProblem::new(finding, grant(server)));
    }
    if server.is_replica_set() {
        probe.problems.extend(window(server, log_interval).await?);
    }
    probe.clock_ahead_seconds = clock_ahead(cx, server).await;
    Ok(probe)
}

/// Seconds by which the clock of the server is ahead of that of this machine.
pub(super) async fn clock_ahead(cx: &Context, server: &Server) -> Option<i64> {
    let before = Instant::now();
    let hello = server.run("admin", doc! { "hello": 1 }).await.ok()?;
    let time = hello.get_datetime("localTime").ok()?;
    let time = Timestamp::from_millisecond(time.timestamp_millis()).ok()?;
    Some(ServerClock::reported(time, before).ahead_seconds(cx))
}

/// What a backup does and this user may not.
async fn rights(server: &Server) -> SourceResult<Vec<&'static str>> {
    // Identifiers only: other fields may hold text that is not UTF-8.
    let one = |name: &str, field: &str| doc! { "find": name, "limit": 1, "singleBatch": true, "projection": { "_id": 0, field: 1 } };
    let mut wanted = vec![
        ("reading users", "admin", one("system.users", "userId")),
        ("reading roles", "admin", one("system.roles", "db")),
    ];
    if matches!(server.topology, Topology::ReplicaSet { .. }) {
        let mut newest = one("oplog.rs", "ts");
        newest.insert("sort", doc! { "$natural": -1 });
        wanted.push(("reading the oplog", "local", newest));
        wanted.push(("reading transactions", "config", one("transactions", "state")));
    }
    let mut denied = Vec::new();
    for (what, db, command) in wanted {
        match server.run(db, command).await {
            Ok(_) => {}
            Err(error) if is_denied(&error) => denied.push(what),
            Err(error) => return Err(error).reading(what),
        }
    }
    let uuid = uuid_at(server, &Namespace::new("admin", "system.version")).await;
    if let Ok(Some(uuid)) = uuid {
        let find = doc! { "find": uuid_bson(&uuid), "limit": 1, "singleBatch": true };
        match server.run("admin", find).await {
            Err(error) if code_of(&error) == Some(code::UNAUTHORIZED) => {
                denied.push("reading by UUID");
            }
            _ => {}
        }
    }
    Ok(denied)
}

/// Users of MongoDB Atlas are made in its console, and not all of its clusters let anybody read
/// what a backup needs.
const ATLAS: &str = "in Atlas, give the user the specific privilege backup@admin (Database \
                     Access); shared tiers (M0, M2, M5, Flex) do not expose the oplog, so they \
                     cannot be backed up to one moment; a dedicated tier can";

fn is_atlas(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.ends_with(".mongodb.net")
}

/// The statement that mends missing rights, for the user that is connected.
fn grant(server: &Server) -> String {
    if is_atlas(&server.host) {
        return ATLAS.to_owned();
    }
    match &server.user {
        None => "the address names no user: add one with the built-in role `backup`".to_owned(),
        Some(user) => format!("run: {user}, [{{role: \"backup\", db: \"admin\"}}])"),
    }
}

/// Whether the oplog reaches back far enough.
async fn window(
    server: &Server,
    log_interval: Option<Duration>,
) -> SourceResult<Option<ProbeProblem>> {
    let seconds = match OplogWindow::of(server).await {
        Ok(Some(window)) => u64::from(window.seconds()),
        // What is denied is said already.
        Ok(None) | Err(_) => return Ok(None),
    };
    Ok(match too_short(seconds, log_interval) {
        Some(problem) if history::is_full(server).await => Some(problem),
        _ => None,
    })
}

/// What is wrong with an oplog that reaches back so many seconds, if it is full.
fn too_short(seconds: u64, log_interval: Option<Duration>) -> Option<ProbeProblem> {
    const LARGER: &str =
        "enlarge it with db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES})";
    let reaches = format!("the oplog reaches back only {} minutes", seconds / 60);
    let finding = match log_interval.map(|interval| interval.as_secs()) {
        Some(interval) => (seconds < interval.saturating_mul(TIMES)).then(|| {
            format!(
                "{reaches}, but capture may be up to {interval} s behind, so log may soon be lost"
            )
        }),
        None => (seconds < SCAN).then(|| {
            format!("{reaches}, so the snapshot of a longer scan cannot be brought to one moment")
        }),
    };
    finding.map(|finding| ProbeProblem::new(finding, LARGER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_compared_with_how_often_the_log_is_stored() {
        let every = |seconds| Some(Duration::from_secs(seconds));
        assert!(
            too_short(3599, None)
                .unwrap()
                .finding
                .contains("59 minutes, so the snapshot of a longer scan")
                && too_short(3600, None).is_none()
        );
        assert!(too_short(180, every(60)).is_none() && too_short(3600, every(600)).is_none());
        assert!(too_short(179, every(60)).unwrap().finding.contains("60 s behind"));
        assert!(too_short(3600, every(3600)).unwrap().finding.contains("60 minutes"));
    }

    #[test]
    fn atlas_is_recognised_by_its_names() {
        assert!(
            is_atlas("cluster0-shard-00-00.abcde.mongodb.net:27017") && is_atlas("x.mongodb.net")
        );
        assert!(!is_atlas("db.example.org:27017") && !is_atlas("mongodb.net.example.org"));
    }
}
