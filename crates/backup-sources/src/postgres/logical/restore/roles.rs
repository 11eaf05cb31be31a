//! Roles that are missing at the target. Those that are there stay as they are.

use std::collections::HashSet;

use backup_core::event::WarningKind;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::error::{code_of, writing};
use super::super::sql::{Script, Token, tokens};
use super::plan::Plan;
use super::{Job, NAMED};

/// Roles of services and of the server itself, by how their names begin.
const FOREIGN: [&str; 6] = ["pg_", "rds_", "cloudsql", "azure_", "azuresu", "alloydb"];
/// Those of services, by their whole names.
const FOREIGN_NAMES: [&str; 3] = ["rdsadmin", "rdsrepladmin", "rdstopmgr"];

/// Creates roles that `globals.sql` has and the target has not, with their passwords, settings and
/// memberships. Returns how many warnings there were.
pub(super) async fn create_missing(job: &Job<'_>) -> SourceResult<u64> {
    if job.dump.whole.passwords.is_none() {
        return Ok(0);
    }
    let text = job.dump.globals().await?;
    let there: HashSet<&str> = job.server.roles.iter().map(String::as_str).collect();
    let is_foreign = |name: &str| {
        FOREIGN_NAMES.contains(&name) || FOREIGN.iter().any(|begin| name.starts_with(begin))
    };
    let is_ours = |name: &str| !there.contains(name) && !is_foreign(name);
    let (mut made, mut warnings) = (HashSet::new(), 0);
    for statement in Script::parse(&text).entries.iter().flat_map(|entry| &entry.statements) {
        let said: Vec<Token<'_>> = tokens(statement).filter(|token| !token.is_blank()).collect();
        let Some(role) = concerned(&said).filter(|role| is_ours(role)) else { continue };
        match job.server.sql.client.batch_execute(statement).await {
            Ok(()) => _ = made.insert(role),
            Err(error) if matches!(code_of(&error), "42501" | "42704" | "0LP01") => {
                let text = format!("{}: not restored", writing(&error, format!("role {role}")));
                job.cx.events.warn(WarningKind::Metadata, role, text);
                warnings += 1;
            }
            Err(error) => return Err(writing(&error, format!("cannot create the role {role}"))),
        }
    }
    Ok(warnings)
}

/// The role that a statement makes or changes: of a membership, the member.
fn concerned(said: &[Token<'_>]) -> Option<String> {
    match said {
        [first, second, role, ..]
            if (first.is("CREATE") || first.is("ALTER")) && second.is("ROLE") =>
        {
            role.name()
        }
        [first, ..] if first.is("GRANT") && !said.iter().any(|token| token.is("ON")) => {
            let to = said.iter().position(|token| token.is("TO"))?;
            said.get(to + 1)?.name()
        }
        _ => None,
    }
}

/// Fails if somebody who owns something of what is restored is not at the target.
pub(super) async fn require_owners(job: &Job<'_>, plans: &[Plan<'_>]) -> SourceResult<()> {
    let rows = job.server.sql.client.query("SELECT rolname::text FROM pg_roles", &[]).await;
    let there = rows.and_then(|rows| {
        rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<String>, _>>()
    });
    let there = there.map_err(|error| writing(&error, "cannot inspect the target"))?;
    let mut missing: Vec<&str> = plans
        .iter()
        .flat_map(Plan::owners)
        .filter(|owner| !there.contains(*owner))
        .collect::<HashSet<_>>()
        .into_iter()
        .collect();
    missing.sort_unstable();
    if missing.is_empty() {
        return Ok(());
    }
    missing.truncate(NAMED);
    let text =
        format!("the target has no role {}, which owns objects to restore", missing.join(", "));
    Err(SourceError::new(SourceErrorKind::Target, text).with_hint(
        "create the role as in globals.sql of the snapshot, or leave owners and grants out \
         (--no-owner, --no-privileges)",
    ))
}
