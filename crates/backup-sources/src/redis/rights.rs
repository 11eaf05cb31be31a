//! The right to be a replica, checked without a dump.

use backup_core::source::{LogCapture, ProbeProblem, SourceResult};
use redis::Value;

use super::error::{GRANT, WireError};
use super::options::{RedisOptions, SnapshotReading};
use super::probe::ask;
use super::server::Info;
use super::wire::{Client, Endpoint, Sync};

/// The command of replicas, unless a service has renamed it.
const PSYNC: &str = "psync";

/// An answer of a server, and the problem for anything but a clear yes.
type Checked = (LogCapture, Option<ProbeProblem>);

fn refused(finding: impl Into<String>, remedy: &str) -> Checked {
    (LogCapture::Refused, Some(ProbeProblem::new(finding, remedy)))
}

/// Checks the right to read a dump and the stream of commands.
///
/// # Errors
/// The server cannot be queried.
pub(super) async fn check(
    options: &RedisOptions,
    info: &Info,
    client: &mut Client,
) -> SourceResult<Checked> {
    if options.reader == Some(SnapshotReading::Scan) {
        return Ok((LogCapture::Refused, None));
    }
    match client.run(redis::cmd("REPLCONF").arg("capa").arg("psync2")).await {
        Ok(()) => {}
        Err(WireError::Server(text)) => {
            let remedy = if text.starts_with("NOPERM") { GRANT } else { MANAGED };
            return Ok(refused(format!("the server refuses replication ({text})"), remedy));
        }
        Err(error) => return Err(error.into_source("cannot query the server")),
    }
    let name = options.psync.to_lowercase();
    // Of an unknown command the answer has an empty place.
    let known = ask::<Vec<Value>>(client, redis::cmd("COMMAND").arg("INFO").arg(&name)).await?;
    if known.is_some_and(|known| known == [Value::Nil]) {
        return Ok(refused(format!("the server has no command {name}"), MANAGED));
    }
    match permission(client, &name).await? {
        Some(Ok(())) if name == PSYNC => Ok((LogCapture::AsDeclared, None)),
        Some(Ok(())) => Ok((LogCapture::Unchecked, Some(renamed(&name)))),
        Some(Err(text)) => Ok(refused(text, GRANT)),
        None if name == PSYNC => continued(options, info).await,
        None => Ok((LogCapture::Unchecked, Some(unchecked(&name)))),
    }
}

const MANAGED: &str = "managed services withhold this command; request its name there from the provider, or set \
     `reader` to `scan`: keys are then read one by one, not at one moment, and without a log";

/// A finding for a renamed command: servers that decide by its name answer as to old replicas.
fn renamed(name: &str) -> ProbeProblem {
    let finding = format!("the log could not be checked: the server may answer {name} as SYNC");
    let remedy = "run a backup, which reports it; a log and incremental snapshots need a server \
                  that answers as to PSYNC";
    ProbeProblem::new(finding, remedy)
}

fn unchecked(name: &str) -> ProbeProblem {
    let finding = format!("the right to run {name} could not be checked");
    let remedy = "run ACL SETUSER backup +acl|whoami +acl|dryrun (servers before 7: +acl|getuser), or \
                  run a backup to find out";
    ProbeProblem::new(finding, remedy)
}

/// The answer of the access list: the refusal if the user lacks the right; `None` if the server
/// does not report it.
async fn permission(client: &mut Client, name: &str) -> SourceResult<Option<Result<(), String>>> {
    let user = ask::<String>(client, redis::cmd("ACL").arg("WHOAMI")).await?;
    let Some(user) = user else { return Ok(None) };
    let mut dry_run = redis::cmd("ACL");
    dry_run.arg("DRYRUN").arg(&user).arg(name).arg("?").arg(-1);
    if let Some(text) = ask::<String>(client, &dry_run).await? {
        let has_right = text == "OK";
        return Ok(Some(if has_right { Ok(()) } else { Err(text) }));
    }
    // Servers before 7 have no DRYRUN.
    let rules = ask::<Vec<Value>>(client, redis::cmd("ACL").arg("GETUSER").arg(&user)).await?;
    let rules = rules.unwrap_or_default();
    let text = |value: &Value| redis::from_redis_value::<String>(value.clone()).ok();
    let commands = rules
        .windows(2)
        .find(|pair| text(&pair[0]).as_deref() == Some("commands"))
        .and_then(|pair| text(&pair[1]));
    Ok(commands.map(|rules| {
        if allows(&rules, name) { Ok(()) } else { Err(format!("the user {user} lacks +{name}")) }
    }))
}

/// Whether the rules of a user, in order, allow the command of replicas.
fn allows(rules: &str, name: &str) -> bool {
    // The categories of PSYNC.
    let concerns =
        |rule: &str| rule == name || ["@all", "@admin", "@slow", "@dangerous"].contains(&rule);
    let last = rules.split_whitespace().rfind(|rule| rule.get(1..).is_some_and(concerns));
    last.is_some_and(|rule| rule.starts_with('+'))
}

/// Requests the stream from the present offset, which a server with a backlog continues without a
/// dump. One without a backlog is not asked.
async fn continued(options: &RedisOptions, info: &Info) -> SourceResult<Checked> {
    let place = (info.get("master_replid"), info.number("master_repl_offset"));
    let (Some("1"), (Some(id), Some(offset))) = (info.get("repl_backlog_active"), place) else {
        return Ok((LogCapture::Unchecked, Some(unchecked(PSYNC))));
    };
    let asking = async {
        let mut replication = Endpoint::of(options).replica(false).await?;
        replication.sync(options, Some((id, offset))).await
    };
    match asking.await {
        Ok(Sync::Full { .. } | Sync::Continue { .. }) => Ok((LogCapture::AsDeclared, None)),
        Ok(Sync::Old) => Ok((LogCapture::Refused, Some(renamed(PSYNC)))),
        Err(WireError::Server(text)) => Ok(refused(text, GRANT)),
        Err(error) => Err(error.into_source("cannot query the server")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_rule_for_psync_decides() {
        for (rules, allowed) in [
            ("+@all", true),
            ("-@all +psync +ping", true),
            ("-@all +ping +@read", false),
            ("+@all -@dangerous", false),
            ("+@all -psync", false),
            ("+@all -@admin +psync", true),
            ("", false),
        ] {
            assert_eq!(allows(rules, "psync"), allowed, "{rules:?}");
        }
    }
}
