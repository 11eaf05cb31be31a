//! What stands in the way of a backup, and the statement or setting that mends it.

use std::time::Instant;

use backup_core::context::Context;
use backup_core::source::{Probe, ProbeProblem, ServerClock, SourceResult};
use jiff::Timestamp;

use super::backup;
use super::cluster::{Cluster, version_text};
use super::error::WireError;
use super::options::PostgresOptions;
use super::wal;
use super::wire::{Connection, Slot, Sql};

/// Below this a burst of writes makes the server drop the slot, and with it the log.
const SAFE: u64 = 256 << 20;

/// Asks the server.
pub(super) async fn probe(
    cx: &Context,
    cluster: &Cluster,
    options: &PostgresOptions,
) -> SourceResult<Probe> {
    let version = Some(version_text(cluster.version));
    let mut probe = Probe { version, ..Probe::default() };
    let sql = Sql::open(options, &options.database).await;
    let health = match &options.slot {
        Some(name) => wal::health(options, name).await,
        None => Ok(None),
    };
    match &cluster.refusal {
        Some(refusal) => {
            let finding = format!("the server refuses replication: {}", refusal.finding);
            probe.problems.push(ProbeProblem { finding, ..refusal.clone() });
            if let Ok(sql) = &sql
                && let Some(service) = managed(sql).await
            {
                let finding =
                    format!("this is {service}, which gives no access to the data directory");
                let remedy = "back it up logically (`method = \"logical\"`)";
                probe.problems.push(ProbeProblem::new(finding, remedy));
            }
        }
        None => {
            // Its state may be unknown.
            let has_slot = !matches!(health, Ok(None));
            replication(cx, cluster, options, has_slot, &mut probe.problems).await?;
        }
    }
    match sql {
        Ok(sql) => {
            size(&sql, &mut probe).await;
            probe.clock_ahead_seconds = clock_ahead(cx, &sql).await;
        }
        Err(error) => cx.events.note(format!(
            "SQL is not possible, so sizes and the state of the slot are unknown: {}. In \
             pg_hba.conf: hostssl {} {} ADDRESS scram-sha-256",
            error.chain(),
            options.database,
            options.user
        )),
    }
    if let (Some(name), Ok(Some(health))) = (&options.slot, &health) {
        slot(cx, name, health, &mut probe.problems);
    }
    Ok(probe)
}

/// What replication itself can tell.
async fn replication(
    cx: &Context,
    cluster: &Cluster,
    options: &PostgresOptions,
    has_slot: bool,
    problems: &mut Vec<ProbeProblem>,
) -> SourceResult<()> {
    let doing = |error: WireError| error.into_source("cannot read the server's settings");
    let mut connection = cluster.connect(options).await?;
    if connection.show("wal_level").await.map_err(doing)? == "minimal" {
        let remedy = "ALTER SYSTEM SET wal_level = 'replica'; then restart the server";
        problems.push(ProbeProblem::new("wal_level is minimal", remedy));
    }
    if connection.show("full_page_writes").await.map_err(doing)? == "off" {
        let remedy = "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();";
        problems.push(ProbeProblem::new("full_page_writes is off", remedy));
    }
    // A backup takes two connections, and following the log another one.
    let senders: u32 =
        connection.show("max_wal_senders").await.map_err(doing)?.parse().unwrap_or(0);
    if senders < 3 {
        let remedy = "ALTER SYSTEM SET max_wal_senders = 10; then restart the server";
        problems.push(ProbeProblem::new(format!("max_wal_senders is {senders}"), remedy));
    }
    if connection.major() >= backup::INCREMENTAL_SINCE
        && connection.show("summarize_wal").await.map_err(doing)? != "on"
    {
        cx.events.note(
            "without WAL summaries, incremental backups find changes in the WAL, and the server \
             may have to send everything: ALTER SYSTEM SET summarize_wal = on; SELECT \
             pg_reload_conf();",
        );
    }
    let keeps_log = connection.show("wal_keep_size").await.map_err(doing)? != "0";
    if !keeps_log && !has_slot {
        cx.events.note(
            "no slot keeps the WAL: incremental and differential backups need all of it since the \
             backup that they build on. Capture it, or ALTER SYSTEM SET wal_keep_size = '10GB'; \
             SELECT pg_reload_conf();",
        );
    }
    let name = format!("backup_probe_{}", std::process::id());
    if let Err(error) = connection.create_slot(&name, Slot::Temporary).await {
        let error = error.into_source("cannot create a replication slot");
        let remedy = "ALTER SYSTEM SET max_replication_slots = 10; then restart the server";
        problems.push(ProbeProblem::new(error.chain(), remedy));
    }
    drop::<Connection>(connection);
    Ok(())
}

/// Services that keep the data directory to themselves, by the roles that they make.
async fn managed(sql: &Sql) -> Option<&'static str> {
    const ROLES: &str =
        "SELECT rolname FROM pg_roles WHERE rolname IN ('rdsadmin', 'cloudsqladmin', 'azuresu')";
    let row = sql.client.query_opt(ROLES, &[]).await.ok()??;
    Some(match row.try_get::<_, &str>(0).ok()? {
        "rdsadmin" => "Amazon RDS",
        "cloudsqladmin" => "Google Cloud SQL",
        _ => "Azure Database for PostgreSQL",
    })
}

/// Seconds by which the clock of the server is ahead of that of this machine.
pub(super) async fn clock_ahead(cx: &Context, sql: &Sql) -> Option<i64> {
    const SECONDS: &str = "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint";
    let before = Instant::now();
    let row = sql.client.query_one(SECONDS, &[]).await.ok()?;
    let time = Timestamp::from_second(row.try_get(0).ok()?).ok()?;
    Some(ServerClock::reported(time, before).ahead_seconds(cx))
}

/// Estimates the size of all visible databases. A session sees the tables of one database only, so
/// objects are not counted.
async fn size(sql: &Sql, probe: &mut Probe) {
    const BYTES: &str = "SELECT sum(pg_database_size(oid))::bigint FROM pg_database WHERE \
                         has_database_privilege(oid, 'CONNECT') OR pg_has_role(current_user, \
                         'pg_read_all_stats', 'USAGE')";
    let bytes = sql.client.query_one(BYTES, &[]).await;
    let bytes: Option<i64> = bytes.ok().and_then(|row| row.try_get(0).ok());
    probe.estimated_bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
}

/// A slot that keeps the log without bounds fills the server's disk, one that has lost it keeps
/// nothing.
fn slot(cx: &Context, name: &str, health: &wal::SlotHealth, problems: &mut Vec<ProbeProblem>) {
    match (health.state, health.safe_bytes) {
        (wal::SlotState::Lost, _) => {
            problems.push(ProbeProblem::new(
                format!("the slot {name} has lost its WAL"),
                format!("SELECT pg_drop_replication_slot('{name}'); then make a full backup"),
            ));
        }
        (_, None) => cx.events.note(format!(
            "the slot {name} keeps WAL without a limit, until the server's disk is full: ALTER \
             SYSTEM SET max_slot_wal_keep_size = '…GB'; SELECT pg_reload_conf();"
        )),
        (_, Some(safe)) if safe < SAFE => problems.push(ProbeProblem::new(
            format!("the slot {name} loses its WAL after {} MiB more", safe >> 20),
            "capture the log, or raise max_slot_wal_keep_size",
        )),
        _ => {}
    }
}
