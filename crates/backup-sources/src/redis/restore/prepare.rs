//! What the target is like, looked at before anything in it is changed; then room is made.

use backup_core::source::{IfExists, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;

use super::super::error::{GRANT_RESTORE, WireError, invalid};
use super::super::options::RedisOptions;
use super::super::server::Info;
use super::super::wire::Connection;
use super::plan::{Plan, format_of};
use super::rehearse::Found;
use super::{Job, gone};

const DOING: &str = "cannot inspect the target";

/// What has to go before keys can come.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// All databases,
    pub(super) everything: bool,
    /// and all libraries of functions;
    functions: bool,
    /// or these databases.
    databases: Vec<u32>,
    /// Keys that go.
    pub(super) keys: u64,
    /// Keys that the target has evicted so far.
    evicted: Option<u64>,
}

/// Looks whether the target can take what is asked for. Nothing is changed.
pub(super) async fn look(
    job: &Job<'_>,
    plan: &Plan,
    connection: &mut Connection,
    info: &Info,
    found: &Found,
) -> SourceResult<Room> {
    let replacing = job.request.if_exists == IfExists::Replace;
    let everything = replacing && plan.is_whole() && job.options.databases.is_empty();
    let mut room = Room { everything, evicted: info.number("evicted_keys"), ..Room::default() };
    for database in found.databases.iter().map(|database| plan.database(*database)) {
        let doing = |error: WireError| {
            error.into_source(format!("cannot inspect database {database} of the target"))
        };
        connection.run(&["SELECT", &database.to_string()]).await.map_err(doing)?;
        let keys = connection.run(&["DBSIZE"]).await.map_err(doing)?.number().unwrap_or(0);
        match job.request.if_exists {
            IfExists::Fail if keys > 0 => {
                let keys = words::count(keys.unsigned_abs(), "key", "keys");
                let text = format!("database {database} of the target has {keys}");
                return Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(
                    "map it to an empty database (--db), or choose --if-exists merge or \
                         replace",
                ));
            }
            IfExists::Replace if keys > 0 => {
                room.databases.push(database);
                room.keys += u64::try_from(keys).unwrap_or(0);
            }
            _ => {}
        }
    }
    if everything {
        room.keys = info.keys().values().sum();
    }
    if let Some((database, name)) = &found.example {
        connection
            .run(&["SELECT", &database.to_string()])
            .await
            .map_err(|error| error.into_source(DOING))?;
        // No payload at all: a server that may be asked says so, and changes nothing. So does a
        // node that has not its slot.
        require_right(connection, &[b"RESTORE", name, b"0", b"-"], replacing).await?;
    }
    connection.run(&["SELECT", "0"]).await.map_err(|error| error.into_source(DOING))?;
    let knows_functions = info.version().is_some_and(|version| format_of(&version).1 >= 10);
    if knows_functions && plan.is_whole() && !job.options.without_functions {
        if job.description.dump.libraries > 0 {
            require_right(connection, &[b"FUNCTION", b"RESTORE", b"-", b"APPEND"], replacing)
                .await?;
        } else {
            room.functions = everything;
        }
    }
    room.require_rights(connection).await?;
    Ok(room)
}

/// Whether a command is allowed, found by one that can do nothing.
async fn require_right(
    connection: &mut Connection,
    arguments: &[&[u8]],
    replacing: bool,
) -> SourceResult<()> {
    match connection.run(arguments).await {
        Err(WireError::Server(text))
            if ["ERR", "BUSYKEY", "MOVED"].iter().any(|start| text.starts_with(start))
                || replacing && text.starts_with("OOM") =>
        {
            Ok(())
        }
        Err(error) if error.is_denied() => Err(error.into_source(DOING).with_hint(GRANT_RESTORE)),
        Err(error) => Err(error.into_source(DOING)),
        Ok(_) => {
            Err(invalid("the target accepts an invalid value: it is not a Redis or Valkey server"))
        }
    }
}

/// A target that has to evict keys while others come answers OK all the same. Of a cluster all
/// nodes are asked.
pub(super) fn require_memory<'a>(
    job: &Job<'_>,
    infos: impl IntoIterator<Item = &'a Info>,
    emptied: bool,
) -> SourceResult<()> {
    let needed =
        job.description.dump.remarks.get("used-mem").and_then(|bytes| bytes.parse::<u64>().ok());
    let left = |info: &Info| {
        let most = info.number("maxmemory").filter(|most| *most > 0)?;
        let kept = if emptied { 0 } else { info.number("used_memory").unwrap_or(0) };
        Some(most.saturating_sub(kept))
    };
    // One without a limit may take everything.
    let left: Option<u64> = infos.into_iter().map(left).sum();
    match (needed, left) {
        (Some(needed), Some(left)) if needed > left => {
            let text = format!(
                "the snapshot takes {} MiB of memory, but the target has {} MiB left of its \
                 maxmemory",
                needed >> 20,
                left >> 20
            );
            Err(SourceError::new(SourceErrorKind::Target, text)
                .with_hint("raise maxmemory of the target, or select fewer keys"))
        }
        _ => Ok(()),
    }
}

/// Whatever was answered: keys that were evicted to make room for others are not there. `before` is
/// how many were, when nothing had been written; `None` if the target did not tell.
pub(super) async fn require_that_nothing_was_evicted(
    server: &RedisOptions,
    before: Option<u64>,
) -> SourceResult<()> {
    let Some(before) = before else { return Ok(()) };
    let asking = async { Info::ask(&mut Connection::open(server).await?).await };
    let info =
        asking.await.map_err(|error| error.into_source("cannot inspect the restored data"))?;
    match info.number("evicted_keys") {
        Some(now) if now > before => {
            let keys = words::count(now - before, "key", "keys");
            let text = format!("the target has evicted {keys} during the restore");
            Err(SourceError::new(SourceErrorKind::Mismatch, text)
                .with_hint("raise maxmemory of the target, and restore again"))
        }
        _ => Ok(()),
    }
}

impl Room {
    /// Whether something of the target is dropped for it.
    pub(super) fn empties(&self) -> bool {
        self.everything || !self.databases.is_empty()
    }

    /// Whether it may be dropped, as far as the target tells beforehand: servers from 7 on do.
    async fn require_rights(&self, connection: &mut Connection) -> SourceResult<()> {
        let mut needed: Vec<&[&str]> = Vec::new();
        match (self.everything, self.databases.is_empty()) {
            (true, _) => needed.push(&["FLUSHALL", "ASYNC"]),
            (false, false) => needed.push(&["FLUSHDB", "ASYNC"]),
            (false, true) => {}
        }
        if self.functions {
            needed.push(&["FUNCTION", "FLUSH"]);
        }
        let Ok(user) = connection.run(&["ACL", "WHOAMI"]).await else { return Ok(()) };
        for command in needed {
            let question = [&["ACL", "DRYRUN", user.text().unwrap_or_default()], command].concat();
            match connection.run(&question).await {
                Ok(reply) if reply.text() != Some("OK") => {
                    let text = format!("NOPERM {}", reply.text().unwrap_or_default());
                    return Err(WireError::Server(text)
                        .into_source(DOING)
                        .with_hint(GRANT_RESTORE));
                }
                // It does not tell.
                Ok(_) | Err(WireError::Server(_)) => {}
                Err(error) => return Err(error.into_source(DOING)),
            }
        }
        Ok(())
    }

    /// Drops it. The server frees the memory in the background, as it would take its time.
    pub(super) async fn make(&self, connection: &mut Connection) -> SourceResult<()> {
        let mut commands: Vec<Vec<String>> = Vec::new();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        if self.everything {
            commands.push(words("FLUSHALL ASYNC"));
        } else {
            let each =
                |database: &u32| [words(&format!("SELECT {database}")), words("FLUSHDB ASYNC")];
            commands.extend(self.databases.iter().flat_map(each));
        }
        if self.functions {
            commands.push(words("FUNCTION FLUSH"));
        }
        commands.push(words("SELECT 0"));
        let mut has_dropped = false;
        for command in commands {
            if let Err(error) = connection.run(&command).await {
                // Whether it was done is not known if the connection broke.
                has_dropped |= !matches!(error, WireError::Server(_));
                let is_denied = error.is_denied();
                let error = error.into_source("cannot empty the target");
                let error = if is_denied { error.with_hint(GRANT_RESTORE) } else { error };
                return Err(if has_dropped { gone(error) } else { error });
            }
            has_dropped |= command[0].starts_with('F');
        }
        Ok(())
    }

    /// Whatever was answered: keys that were evicted to make room for others are not there.
    pub(super) async fn require_that_nothing_was_evicted(
        &self,
        server: &RedisOptions,
    ) -> SourceResult<()> {
        require_that_nothing_was_evicted(server, self.evicted).await
    }
}
