//! What stands in the way of a backup.

use backup_core::source::{Probe, SourceResult};
use bson::{Bson, Document, doc};

use super::catalog::{databases, uuid_bson, uuid_of};
use super::error::{Explain as _, code, code_of, is_denied};
use super::scan::oldest_entry;
use super::server::{Server, Topology};

/// Oplog windows below this many seconds are pointed out: a scan must fit into them.
const SHORT_WINDOW: u32 = 3600;

/// Looks at everything a backup needs, and reads no data but the newest and oldest entries of the oplog.
pub(super) async fn probe(server: &Server) -> SourceResult<Probe> {
    let mut probe = Probe { version: Some(server.version_text()), ..Probe::default() };
    if let Err(error) = server.refuse_sharded() {
        probe.problems.push(format!("{}: {}", error.chain(), error.hint().unwrap_or_default()));
        return Ok(probe);
    }
    if !server.at_least(4, 4) {
        probe.problems.push(format!(
            "MongoDB {} is too old: 4.4 or newer is needed",
            probe.version.as_deref().unwrap_or("of this version")
        ));
    }
    let mut denied = Vec::new();
    match databases(server).await {
        Ok(databases) => {
            probe.estimated_bytes = Some(databases.values().sum());
            let mut collections = 0;
            for db in databases.keys() {
                let listed = server.list(db, doc! { "listCollections": 1, "nameOnly": true }).await;
                match listed {
                    Ok(listed) => collections += listed.len() as u64,
                    Err(error) if is_denied(&error) => denied.push("listCollections"),
                    Err(error) => return Err(error).reading("listing collections"),
                }
            }
            probe.estimated_objects = Some(collections);
        }
        Err(_) => denied.push("listDatabases"),
    }
    denied.extend(rights(server).await?);
    if !denied.is_empty() {
        denied.dedup();
        probe.problems.push(format!("not allowed: {}; {}", denied.join(", "), grant(server).await));
    }
    if server.is_replica_set() {
        probe.problems.extend(window(server).await?);
    }
    Ok(probe)
}

/// What a backup does and this user may not.
async fn rights(server: &Server) -> SourceResult<Vec<&'static str>> {
    let mut wanted = vec![
        ("reading users", "admin", doc! { "find": "system.users", "limit": 1, "singleBatch": true }),
        ("reading roles", "admin", doc! { "find": "system.roles", "limit": 1, "singleBatch": true }),
    ];
    if matches!(server.topology, Topology::ReplicaSet { .. }) {
        let newest = doc! { "find": "oplog.rs", "limit": 1, "singleBatch": true, "sort": { "$natural": -1 } };
        wanted.push(("reading the oplog", "local", newest));
        wanted.push((
            "reading transactions",
            "config",
            doc! { "find": "transactions", "limit": 1, "singleBatch": true },
        ));
    }
    let mut denied = Vec::new();
    for (what, db, command) in wanted {
        match server.run(db, command).await {
            Ok(_) => {}
            Err(error) if is_denied(&error) => denied.push(what),
            Err(error) => return Err(error).reading(what),
        }
    }
    let version = server.list("admin", doc! { "listCollections": 1, "filter": { "name": "system.version" } }).await;
    let uuid = version.ok().and_then(|found| uuid_of(found.first()?.get_document("info").ok()?.get("uuid")));
    if let Some(uuid) = uuid {
        let find = doc! { "find": uuid_bson(&uuid), "limit": 1, "singleBatch": true };
        match server.run("admin", find).await {
            Err(error) if code_of(&error) == Some(code::UNAUTHORIZED) => denied.push("reading by UUID"),
            _ => {}
        }
    }
    Ok(denied)
}

/// The statement that mends missing rights, for the user that is connected.
async fn grant(server: &Server) -> String {
    let status = server.run("admin", doc! { "connectionStatus": 1 }).await.unwrap_or_default();
    let users = status.get_document("authInfo").and_then(|info| info.get_array("authenticatedUsers"));
    let user = users.ok().and_then(|users| users.first().and_then(Bson::as_document)).cloned().unwrap_or_default();
    let text = |user: &Document, field: &str, default: &str| {
        // A name is data: quoted as the shell wants it.
        Bson::String(user.get_str(field).unwrap_or(default).to_owned()).to_string()
    };
    if user.is_empty() {
        return "the address names no user: add one with the built-in role `backup`".to_owned();
    }
    format!(
        "run: db.getSiblingDB({}).grantRolesToUser({}, [{{role: \"backup\", db: \"admin\"}}])",
        text(&user, "db", "admin"),
        text(&user, "user", "USER")
    )
}

/// Whether the oplog reaches back far enough.
async fn window(server: &Server) -> SourceResult<Option<String>> {
    let oldest = match oldest_entry(server).await {
        Ok(Some(oldest)) => oldest,
        // What is denied is said already.
        Ok(None) | Err(_) => return Ok(None),
    };
    let newest = server.majority_time().await?;
    let seconds = newest.seconds.saturating_sub(oldest.seconds);
    // A young set has a short oplog because it is young: then nothing was dropped from it yet.
    let stats = server.run("local", doc! { "collStats": "oplog.rs", "scale": 1 }).await.unwrap_or_default();
    let number = |field: &str| match stats.get(field) {
        Some(Bson::Int32(number)) => f64::from(*number),
        #[expect(clippy::cast_precision_loss, reason = "a share is computed")]
        Some(Bson::Int64(number)) => *number as f64,
        Some(Bson::Double(number)) => *number,
        _ => 0.0,
    };
    let full = number("maxSize") > 0.0 && number("size") > number("maxSize") * 0.9;
    Ok((full && seconds < SHORT_WINDOW).then(|| {
        format!(
            "the oplog reaches back only {} minutes: a scan must be shorter, or its snapshot cannot be brought to one \
             moment; make it larger: db.adminCommand({{replSetResizeOplog: 1, size: MEGABYTES}})",
            seconds / 60
        )
    }))
}
