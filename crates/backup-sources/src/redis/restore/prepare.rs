//! What the target is like, looked at before anything in it is changed; then room is made.

use backup_core::source::{IfExists, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use redis::Cmd;

use super::super::error::{GRANT_RESTORE, WireError, invalid};
use super::super::server::Info;
use super::super::wire::Client;
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
    pub(super) evicted: Option<u64>,
}

/// Looks whether the target can take what is asked for. Nothing is changed.
pub(super) async fn look(
    job: &Job<'_>,
    plan: &Plan,
    client: &mut Client,
    info: &Info,
    found: &Found,
) -> SourceResult<Room> {
    let replacing = job.request.if_exists == IfExists::Replace;
    let everything = replacing && plan.is_whole() && job.options.databases.is_empty();
    let mut room = Room { everything, evicted: info.number("evicted_keys"), ..Room::default() };
    for database in found.databases.iter().map(|database| plan.database(*database)) {
        let doing = |error: WireError| {
            let doing = format!("cannot inspect database {database} of the target");
            error.into_source_granting(doing, GRANT_RESTORE)
        };
        client.run::<()>(redis::cmd("SELECT").arg(database)).await.map_err(doing)?;
        let keys: u64 = client.run(&redis::cmd("DBSIZE")).await.map_err(doing)?;
        match job.request.if_exists {
            IfExists::Fail if keys > 0 => {
                let keys = words::count(keys, "key", "keys");
                let text = format!("database {database} of the target has {keys}");
                return Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(
                    "map it to an empty database (--db), or choose --if-exists merge or \
                         replace",
                ));
            }
            IfExists::Replace if keys > 0 => {
                room.databases.push(database);
                room.keys += keys;
            }
            _ => {}
        }
    }
    if everything {
        room.keys = info.keys().values().sum();
    }
    if let Some((database, name)) = &found.example {
        let selected = client.run::<()>(redis::cmd("SELECT").arg(database)).await;
        selected.map_err(|error| error.into_source_granting(DOING, GRANT_RESTORE))?;
        // No payload at all: a server that may be asked says so, and changes nothing. So does a
        // node that has not its slot.
        let mut command = redis::cmd("RESTORE");
        command.arg(name).arg(0).arg("-");
        require_right(client, &command, replacing).await?;
    }
    let knows_functions = info.version().is_some_and(|version| format_of(&version).1 >= 10);
    if knows_functions && plan.is_whole() && !job.options.without_functions {
        if job.description.dump.libraries > 0 {
            let mut command = redis::cmd("FUNCTION");
            command.arg("RESTORE").arg("-").arg("APPEND");
            require_right(client, &command, replacing).await?;
        } else {
            room.functions = everything;
        }
    }
    room.require_rights(client).await?;
    Ok(room)
}

/// Whether a command is allowed, found by one that can do nothing.
async fn require_right(client: &mut Client, command: &Cmd, replacing: bool) -> SourceResult<()> {
    match client.run::<()>(command).await {
        Err(WireError::Server(text))
            if ["ERR", "BUSYKEY", "MOVED"].iter().any(|start| text.starts_with(start))
                || replacing && text.starts_with("OOM") =>
        {
            Ok(())
        }
        Err(error) => Err(error.into_source_granting(DOING, GRANT_RESTORE)),
        Ok(()) => {
            Err(invalid("the target accepts an invalid value: it is not a Redis or Valkey server"))
        }
    }
}

impl Room {
    /// Whether something of the target is dropped for it.
    pub(super) fn empties(&self) -> bool {
        self.everything || !self.databases.is_empty()
    }

    /// Whether it may be dropped, as far as the target tells beforehand: servers from 7 on do.
    async fn require_rights(&self, client: &mut Client) -> SourceResult<()> {
        let mut needed: Vec<&[&str]> = Vec::new();
        match (self.everything, self.databases.is_empty()) {
            (true, _) => needed.push(&["FLUSHALL", "ASYNC"]),
            (false, false) => needed.push(&["FLUSHDB", "ASYNC"]),
            (false, true) => {}
        }
        if self.functions {
            needed.push(&["FUNCTION", "FLUSH"]);
        }
        let user: Result<String, _> = client.run(redis::cmd("ACL").arg("WHOAMI")).await;
        let Ok(user) = user else { return Ok(()) };
        for command in needed {
            let mut question = redis::cmd("ACL");
            question.arg("DRYRUN").arg(&user).arg(command);
            match client.run::<String>(&question).await {
                Ok(answer) if answer != "OK" => {
                    return Err(WireError::Server(format!("NOPERM {answer}"))
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
    pub(super) async fn make(&self, client: &mut Client) -> SourceResult<()> {
        let mut has_dropped = false;
        for (command, drops) in self.commands() {
            if let Err(error) = client.run::<()>(&command).await {
                // Whether it was done is not known if the connection broke.
                has_dropped |= !matches!(error, WireError::Server(_));
                let error = error.into_source_granting("cannot empty the target", GRANT_RESTORE);
                return Err(if has_dropped { gone(error) } else { error });
            }
            has_dropped |= drops;
        }
        Ok(())
    }

    /// The commands that empty the target, and whether each of them drops something.
    fn commands(&self) -> Vec<(Cmd, bool)> {
        let mut commands = Vec::new();
        if self.everything {
            commands.push((redis::cmd("FLUSHALL").arg("ASYNC").clone(), true));
        }
        for database in self.databases.iter().filter(|_| !self.everything) {
            commands.push((redis::cmd("SELECT").arg(*database).clone(), false));
            commands.push((redis::cmd("FLUSHDB").arg("ASYNC").clone(), true));
        }
        if self.functions {
            commands.push((redis::cmd("FUNCTION").arg("FLUSH").clone(), true));
        }
        commands
    }
}
