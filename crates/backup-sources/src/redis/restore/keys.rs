//! Key by key, with RESTORE: the bytes of each value as they lie in the dump.
//!
//! What one key is refused for is no reason to leave out the others; but a restore that leaves a
//! key out is no success.

use std::sync::atomic::{AtomicU64, Ordering};

use backup_core::event::WarningKind;
use backup_core::source::{IfExists, RestoreReport, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use futures::future::try_join_all;

use super::super::error::{GRANT_RESTORE, WireError, invalid};
use super::super::options::RedisOptions;
use super::super::rdb::{RdbError, functions_payload};
use super::super::server;
use super::super::wire::{Client, Endpoint, RawConnection, Reply};
use super::lanes::{Batches, Target};
use super::memory::{evicted, require_memory, tell_evicted};
use super::merged::Replays;
use super::pipeline;
use super::plan::{Plan, Refused, target_time};
use super::prepare::{self, Room};
use super::rehearse::{Found, tell_expired, tell_module_data};
use super::verify;
use super::writer::{About, Read, Writer};
use super::{Job, gone};

const DOING: &str = "cannot restore keys";
/// Largest argument that servers take, if they do not say: `proto-max-bulk-len`, bytes.
const LARGEST: usize = 512 << 20;

/// Writes the selected keys to a server, or to the masters of a cluster.
pub(super) async fn restore(job: &Job<'_>, server: &RedisOptions) -> SourceResult<RestoreReport> {
    refuse_what_is_impossible(job).await?;
    let target = Target::find(server).await?;
    let mut clients = target.clients().await?;
    let now = target_time(job.cx, &mut clients[0]).await?;
    let has_modules = target.infos().all(|info| job.has_modules(info));
    let plan = Plan::of(job, target.version().as_ref(), has_modules, now);
    let largest = largest(&mut clients).await;
    let mut found = if plan.is_whole() && !plan.renames() {
        Found::recorded(job, &plan)
    } else {
        Found::read(job, &plan, largest).await?
    };
    found.require_renamed(&plan)?;
    plan.check_mapping(
        &job.description.dump.databases.keys().copied().collect(),
        &found.databases,
    )?;
    let rooms = look(job, &plan, &target, &mut clients, &found).await?;
    let (empties, removed) =
        (rooms.iter().any(Room::empties), rooms.iter().map(|room| room.keys).sum());
    if !found.is_read && (empties || job.request.dry_run) {
        found = super::super::unless_cancelled(job.cx, Found::read(job, &plan, largest)).await?;
    }
    if empties {
        found.require_that_all_fit()?;
    }
    if job.request.dry_run {
        let everything = rooms.iter().any(|room| room.everything);
        return found.foretold(job, removed, (&target.keys(), everything));
    }
    // Before anything is dropped: a target may refuse more connections.
    let connections = target.pipelines().await?;
    let lost = |error| if empties { gone(error) } else { error };
    for (at, (room, client)) in rooms.iter().zip(&mut clients).enumerate() {
        // What the nodes before had is gone already.
        room.make(client).await.map_err(|error| if at > 0 { lost(error) } else { error })?;
    }
    drop(clients);
    let filled = fill(job, &plan, &target, connections, largest, &rooms).await;
    let (mut report, refused) = filled.map_err(lost)?;
    report.removed = removed;
    finish(job, report, &refused).map_err(lost)
}

/// Looks at each node; nothing is changed.
async fn look(
    job: &Job<'_>,
    plan: &Plan,
    target: &Target,
    clients: &mut [Client],
    found: &Found,
) -> SourceResult<Vec<Room>> {
    let mut rooms = Vec::new();
    for (node, client) in target.nodes.iter().zip(clients) {
        rooms.push(prepare::look(job, plan, client, &node.info, found).await?);
    }
    if plan.is_whole() {
        require_memory(job, target.infos(), rooms.iter().all(|room| room.everything))?;
    }
    Ok(rooms)
}

/// Everything that is asked for, and whether it is there.
async fn fill(
    job: &Job<'_>,
    plan: &Plan,
    target: &Target,
    connections: Vec<RawConnection>,
    largest: usize,
    rooms: &[Room],
) -> SourceResult<(RestoreReport, Refused)> {
    let restored = AtomicU64::new(0);
    let written = write(job, plan, target, connections, largest, &restored).await;
    let (mut report, read, mut refused) =
        written.map_err(|error| stopped(job, error, restored.load(Ordering::Relaxed)))?;
    for node in &target.nodes {
        let loaded = functions(job, plan, &node.options, &read.libraries, &mut refused).await;
        loaded.map_err(|error| stopped(job, error, report.entries))?;
    }
    refused.merge(read.refused);
    tell_module_data(job, read.has_module_data, &mut report);
    tell_losses(job, (read.without_counters, read.without_field_times), &mut report);
    let read_back = if job.request.verify {
        Some(verify::verify(job, plan, target, &refused).await?)
    } else {
        None
    };
    let mut gone = 0;
    for (room, node) in rooms.iter().zip(&target.nodes) {
        gone += evicted(&node.options, room.evicted).await?;
    }
    if let Some(read_back) = &read_back {
        read_back.report(job, gone, &mut report)?;
    }
    tell_evicted(job, gone, read_back.map(|read_back| read_back.missing), &mut report);
    let keys = report.entries + read.expired + refused.count;
    tell_expired(job, keys, read.expired, &mut report)?;
    if read.expired_fields > 0 {
        let text = format!(
            "{} expired since the snapshot: the server drops expired fields",
            words::count(read.expired_fields, "field of a hash", "fields of hashes")
        );
        job.cx.events.note(text);
    }
    Ok((report, refused))
}

/// Warns of losses of values that were sent in an older form.
fn tell_losses(job: &Job<'_>, (streams, hashes): (u64, u64), report: &mut RestoreReport) {
    let losses = [
        (
            words::count(streams, "stream has", "streams have"),
            streams,
            "entries-added, max-deleted-entry-id and entries-read, which the target does not support",
        ),
        (
            words::count(hashes, "hash has", "hashes have"),
            hashes,
            "the times at which fields expire: these fields stay",
        ),
    ];
    for (values, _, lost) in losses.into_iter().filter(|(_, count, _)| *count > 0) {
        job.cx.events.warn(WarningKind::Other, "", format!("{values} lost {lost}"));
        report.warnings += 1;
    }
}

/// The error of a restore that ended half way: how many keys it left, and how to go on.
fn stopped(job: &Job<'_>, error: SourceError, restored: u64) -> SourceError {
    if restored == 0 {
        return error;
    }
    let keys = words::count(restored, "key was", "keys were");
    let text = format!("the restore stopped after {keys} written");
    let again = match job.request.if_exists {
        IfExists::Replace => "restore again with --if-exists replace",
        IfExists::Fail | IfExists::Merge => {
            "restore again with --if-exists merge, which replaces the written keys"
        }
    };
    if error.kind() == SourceErrorKind::Cancelled {
        // Nothing else is shown of a cancelled command.
        job.cx.events.warn(WarningKind::Other, "", format!("{text}: {again}"));
        return error;
    }
    let hint = match error.hint() {
        Some(hint) => format!("{hint}; then {again}"),
        None => again.to_owned(),
    };
    error.context(text).with_hint(hint)
}

async fn refuse_what_is_impossible(job: &Job<'_>) -> SourceResult<()> {
    if let Some(what) = &job.description.dump.unknown {
        return Err(RdbError::Unknown(what.clone()).into_source());
    }
    if !Replays::of(job).await?.is_empty() {
        let text = "commands after the dump cannot be applied key by key";
        let time = job.description.time.round(jiff::Unit::Second).unwrap_or(job.description.time);
        let hint = format!(
            "restore as a replica or into a directory, or name the full snapshot of {time} for the \
             keys at that time"
        );
        return Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(hint));
    }
    if job.request.if_exists == IfExists::Replace && !job.request.selection.is_all() {
        let error = invalid(
            "--if-exists replace makes databases equal to the snapshot, but a selection is only a \
             part of it",
        );
        return Err(error.with_hint("use --if-exists merge instead"));
    }
    Ok(())
}

/// A larger value makes the server hang up, and with it everything that is on its way is lost.
async fn largest(clients: &mut [Client]) -> usize {
    let mut largest = LARGEST;
    for client in clients {
        let limit = server::setting(client, "proto-max-bulk-len").await.ok().flatten();
        let limit = limit.and_then(|limit| limit.parse().ok()).unwrap_or(LARGEST);
        largest = largest.min(limit);
    }
    largest
}

async fn write(
    job: &Job<'_>,
    plan: &Plan,
    target: &Target,
    connections: Vec<RawConnection>,
    largest: usize,
    restored: &AtomicU64,
) -> SourceResult<(RestoreReport, Read, Refused)> {
    let (lanes, ends) = target.lanes();
    let (dumps, own) = (job.read_dumps(), plan.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let mut writer = Writer::new(own, largest, lanes);
        let done = writer.run(dumps);
        if let Err(error) = &done {
            writer.lanes.fail(error);
        }
        done.map(|()| writer.read)
    });
    let each = connections
        .into_iter()
        .zip(ends)
        .map(|(connection, batches)| send(connection, batches, restored));
    let sent = super::super::unless_cancelled(job.cx, try_join_all(each)).await;
    let read = reading.await.map_err(|_| invalid("the reader of the dump ended unexpectedly"))?;
    match (sent, read) {
        (_, Err(RdbError::Source(error))) if error.kind() != SourceErrorKind::Cancelled => {
            Err(error)
        }
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) => Err(error.into_source()),
        (Ok(sent), Ok(read)) => {
            let (mut report, mut refused) = (RestoreReport::default(), Refused::default());
            for (one, more) in sent {
                report.entries += one.entries;
                report.total_bytes += one.total_bytes;
                report.written_bytes += one.written_bytes;
                refused.merge(more);
            }
            Ok((report, read, refused))
        }
    }
}

/// Sends one node its keys; `restored` counts the confirmed ones.
async fn send(
    connection: RawConnection,
    batches: Batches<About>,
    restored: &AtomicU64,
) -> SourceResult<(RestoreReport, Refused)> {
    let (mut report, mut refused) = (RestoreReport::default(), Refused::default());
    let sent = pipeline::run(connection, batches, DOING, |about, reply| {
        let (database, name, bytes) = match about {
            About::Select => return require(reply),
            About::Key { database, name, bytes } => (database, name, Some(bytes)),
            About::FieldTimes { database, name } => (database, name, None),
        };
        match reply {
            Reply::Error(text) if is_of_one_key(&text) && !refused.is_hopeless() => {
                refused.add_unplanned(database, &name, text);
            }
            // The key itself was refused before.
            Reply::Error(_) if bytes.is_none() && refused.is_unplanned(database, &name) => {}
            Reply::Error(text) => return Err(refusal(text)),
            _ => {
                let Some(bytes) = bytes else { return Ok(()) };
                report.entries += 1;
                restored.fetch_add(1, Ordering::Relaxed);
                report.total_bytes += bytes;
                report.written_bytes += bytes;
            }
        }
        Ok(())
    });
    sent.await?;
    Ok((report, refused))
}

fn refusal(text: String) -> SourceError {
    let has_moved = ["MOVED ", "ASK ", "TRYAGAIN"].iter().any(|start| text.starts_with(start));
    let error = WireError::Server(text).into_source_granting(DOING, GRANT_RESTORE);
    if has_moved {
        error.with_hint(
            "restore again when the cluster is stable: slots were moved during the restore",
        )
    } else {
        error
    }
}

fn require(reply: Reply) -> SourceResult<()> {
    match reply {
        Reply::Error(text) => Err(refusal(text)),
        _ => Ok(()),
    }
}

/// Whether the server may take the next one all the same.
fn is_of_one_key(text: &str) -> bool {
    ["BUSYKEY", "ERR Bad data format", "ERR DUMP payload", "ERR Invalid", "ERR invalid"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Libraries of functions belong to the server, not to a database: they come with everything.
async fn functions(
    job: &Job<'_>,
    plan: &Plan,
    server: &RedisOptions,
    libraries: &[Vec<u8>],
    refused: &mut Refused,
) -> SourceResult<()> {
    if libraries.is_empty() || job.options.without_functions || !plan.is_whole() {
        return Ok(());
    }
    if plan.refuses_libraries() {
        refused.add(0, b"", "function libraries, which the target does not support");
        return Ok(());
    }
    let policy = match job.request.if_exists {
        IfExists::Fail => "APPEND",
        IfExists::Replace if job.options.databases.is_empty() => "FLUSH",
        // Libraries of others belong to databases that are not written.
        IfExists::Replace | IfExists::Merge => "REPLACE",
    };
    let payload = functions_payload(libraries, 10);
    let mut client =
        Endpoint::of(server).ask().await.map_err(|error| error.into_source("cannot connect"))?;
    let mut command = redis::cmd("FUNCTION");
    match client.run::<()>(command.arg("RESTORE").arg(payload).arg(policy)).await {
        Err(WireError::Server(text)) => {
            refused.add(0, b"", format!("function libraries: {text}"));
        }
        other => other.map_err(|error| {
            error.into_source_granting("cannot restore functions", GRANT_RESTORE)
        })?,
    }
    Ok(())
}

/// Whoever asked for keys that cannot be had must hear of it.
fn finish(job: &Job<'_>, report: RestoreReport, refused: &Refused) -> SourceResult<RestoreReport> {
    if refused.count == 0 {
        return Ok(report);
    }
    refused.tell(job.cx);
    let text = format!(
        "{} of the keys could not be restored, {} restored: {}",
        refused.count,
        words::count(report.entries, "key was", "keys were"),
        refused.examples()
    );
    Err(SourceError::new(SourceErrorKind::Mismatch, text)
        .with_hint("exclude these keys, or restore to a server of the same kind and version"))
}
