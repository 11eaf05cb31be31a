//! Verbs that the daemon begins, and that are followed to their end.

use serde_json::{Value, json};

use super::asked::Asked;
use super::client::Client;
use super::{follow, outcome};
use crate::before::Before;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::session::Session;

/// What else there is to be done.
const HINT: &str = "run the command on the daemon's machine; --server supports run, restore, \
                    verify, check, cleanup, prune, copy, archive, logs compact, alerts check and \
                    most read-only commands";

/// Has the daemon do it, and waits for the end.
pub(super) async fn run(session: &Session, client: &Client, asked: &Asked) -> CommandResult {
    let repository = session.global.repo.as_deref();
    if asked.verb == "restore" {
        return restore(session, client, asked, repository).await;
    }
    let works = works(asked, repository)?;
    if removes(asked) && !session.global.yes {
        return Err(CommandError::unconfirmed(format!(
            "`backup {}` removes data, and shows no plan with --server",
            asked.verb
        ))
        .with_hint(
            "add --yes to confirm, or show the plan with --dry-run on the daemon's machine",
        ));
    }
    let several = works.len() > 1;
    if asked.verb == "run" && several {
        require_known(session, client, &asked.names).await?;
    }
    let mut worst = Outcome::Success;
    for work in works {
        match begin(session, client, &["api", "v1", "running"], &work).await {
            Ok(done) => worst = worst.max(done),
            // The others do not depend on this one.
            Err(error) if several && !error.is_cancelled() => {
                session.ui.error(&error);
                worst = worst.or_failed(&error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(worst)
}

/// Nothing is begun of what has a mistake in it.
async fn require_known(session: &Session, client: &Client, names: &[String]) -> CommandResult<()> {
    let known = client.get(session, &["api", "v1", "jobs"], &[]).await?;
    let is_known = |name: &&String| {
        let all = ["jobs", "groups"].into_iter().filter_map(|key| known[key].as_array()).flatten();
        all.into_iter().any(|one| one["name"] == json!(name))
    };
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| !is_known(name))
        .map(|name| human::text(name.as_bytes()))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let text =
        format!("the daemon has no job or group {}; nothing was started", unknown.join(", "));
    Err(CommandError::usage(text)
        .with_hint("list the daemon's jobs with `backup status --server SERVER`"))
}

/// Whether something goes.
fn removes(asked: &Asked) -> bool {
    matches!(asked.verb.as_str(), "cleanup" | "prune")
        || asked.verb == "archive" && asked.has("remove")
}

/// The pieces of work of a command.
fn works(asked: &Asked, repository: Option<&str>) -> CommandResult<Vec<Value>> {
    let about_repository = ["verify", "check", "prune", "archive"].contains(&asked.verb.as_str());
    if repository.is_some() && !about_repository {
        return Err(CommandError::usage(format!(
            "`backup {}` with --server takes no --repo: the daemon's configuration names the \
             repository",
            asked.verb
        ))
        .with_hint("leave out --repo"));
    }
    match asked.verb.as_str() {
        "run" => backups(asked),
        "verify" => verification(asked, repository).map(one),
        "check" => {
            asked.allow(&["read-data-subset", "read-data"], 0)?;
            let data =
                if asked.has("read-data") { Some("100%") } else { asked.value("read-data-subset") };
            Ok(one(with(json!({ "kind": "check" }), [("repository", repository), ("data", data)])))
        }
        "cleanup" => {
            asked.allow(&["all"], 0)?;
            Ok(one(json!({ "kind": "cleanup" })))
        }
        "prune" => {
            asked.allow(&[], 0)?;
            Ok(one(with(json!({ "kind": "prune" }), [("repository", repository)])))
        }
        "copy" => copy(asked).map(one),
        "archive" => archive(asked, repository).map(one),
        "logs-compact" => {
            asked.allow(&[], 1)?;
            Ok(one(json!({ "kind": "compact", "job": asked.name(0) })))
        }
        "alerts-check" => {
            asked.allow(&[], 0)?;
            Ok(one(json!({ "kind": "alerts" })))
        }
        verb => {
            let verb = verb.replace('-', " ");
            Err(CommandError::usage(format!("`backup {verb}` is not available with --server"))
                .with_hint(HINT))
        }
    }
}

fn one(work: Value) -> Vec<Value> {
    vec![work]
}

fn backups(asked: &Asked) -> CommandResult<Vec<Value>> {
    asked.allow(&["type", "tier"], 64)?;
    if asked.names.is_empty() {
        return Err(CommandError::usage("no job is given")
            .with_hint("list the daemon's jobs with `backup status --server SERVER`"));
    }
    let of = |job| {
        with(
            json!({ "kind": "backup", "job": job }),
            [("type", asked.value("type")), ("tier", asked.value("tier"))],
        )
    };
    Ok(asked.names.iter().map(of).collect())
}

fn verification(asked: &Asked, repository: Option<&str>) -> CommandResult<Value> {
    asked.allow(&["job"], 1)?;
    let snapshot = match (asked.name(0), asked.value("job")) {
        (Some("latest"), Some(job)) => format!("{job}:latest"),
        (Some(_), Some(_)) => {
            return Err(CommandError::usage(
                "--job needs the snapshot name `latest` with --server",
            )
            .with_hint("leave out --job, or name the snapshot `latest`"));
        }
        (name, _) => name.unwrap_or_default().to_owned(),
    };
    Ok(with(json!({ "kind": "verify", "snapshot": snapshot }), [("repository", repository)]))
}

fn copy(asked: &Asked) -> CommandResult<Value> {
    asked.allow(&["from", "to", "all", "job"], 0)?;
    let (from, to) = (asked.value("from"), asked.value("to"));
    if from.is_none() {
        return Err(CommandError::usage(
            "copy with --server needs the name of the repository to copy",
        )
        .with_hint("add --from NAME"));
    }
    Ok(with(json!({ "kind": "copy" }), [("from", from), ("to", to), ("job", asked.value("job"))]))
}

fn archive(asked: &Asked, repository: Option<&str>) -> CommandResult<Value> {
    asked.allow(&["to", "older-than", "storage-class", "remove", "job"], 0)?;
    if repository.is_none() {
        return Err(CommandError::usage(
            "archive with --server needs the name of the repository to archive",
        )
        .with_hint("add --repo NAME"));
    }
    let values = [
        ("from", repository),
        ("to", asked.value("to")),
        ("older_than", asked.value("older-than")),
        ("storage_class", asked.value("storage-class")),
        ("job", asked.value("job")),
    ];
    Ok(with(json!({ "kind": "archive", "remove": asked.has("remove") }), values))
}

/// An object with these values besides, if they are given.
fn with<const N: usize>(mut object: Value, values: [(&str, Option<&str>); N]) -> Value {
    for (key, value) in values {
        if let Some(value) = value {
            object[key] = json!(value);
        }
    }
    object
}

async fn restore(
    session: &Session,
    client: &Client,
    asked: &Asked,
    repository: Option<&str>,
) -> CommandResult {
    asked.allow(&["at", "before", "target", "dry-run", "job"], 1)?;
    let before = asked.value("before").map(str::parse::<Before>).transpose();
    let before = before.map_err(|error| CommandError::usage(format!("--before: {error}")))?;
    let (what, at) = (asked.name(0), before.as_ref().map(Before::moment).or(asked.value("at")));
    let what = match (asked.value("job"), what, at) {
        (Some(job), None | Some("latest"), Some(_)) => job.to_owned(),
        (Some(job), Some("latest"), None) => format!("{job}:latest"),
        (None, Some(what), _) => what.to_owned(),
        (Some(_), _, _) => {
            return Err(CommandError::usage(
                "--job with --server needs the snapshot name `latest`, --at or --before",
            )
            .with_hint("leave out --job, or name the snapshot `latest`"));
        }
        (None, None, _) => {
            return Err(CommandError::usage("restore with --server needs a snapshot or a job")
                .with_hint("add --job NAME"));
        }
    };
    let targets = asked.flags.iter().filter(|(flag, _)| flag == "target").count();
    let Some(target) = asked.value("target").filter(|_| targets == 1) else {
        return Err(CommandError::usage(
            "restore with --server needs exactly one --target",
        )
        .with_hint(
            "give --target a directory on the daemon's machine or a target of its configuration; \
             for a group with its own targets, the group's name",
        ));
    };
    let order =
        with(json!({ "what": what, "target": target }), [("at", at), ("repository", repository)]);
    if asked.has("dry-run") {
        return plan(session, client, order).await;
    }
    begin(session, client, &["api", "v1", "restores"], &order).await
}

/// Says what would be done.
async fn plan(session: &Session, client: &Client, mut order: Value) -> CommandResult {
    if !session.ui.is_json() {
        order["format"] = json!("text");
    }
    let planned = client.post(session, &["api", "v1", "restores", "plan"], &order).await?;
    for event in planned["plan"].as_array().into_iter().flatten() {
        session.ui.json(event)?;
    }
    if let Some(text) = planned["text"].as_str() {
        session.ui.print(text.trim_end_matches('\n'))?;
    }
    Ok(outcome(planned["exit_code"].as_u64()))
}

async fn begin(session: &Session, client: &Client, path: &[&str], order: &Value) -> CommandResult {
    let begun = client.post(session, path, order).await?;
    let id = begun["id"].as_str().unwrap_or_default();
    follow::follow(session, client, id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str, repository: Option<&str>) -> CommandResult<String> {
        let words: Vec<_> = std::iter::once("backup")
            .chain(line.split(' '))
            .map(std::ffi::OsString::from)
            .collect();
        works(&Asked::of(&words).unwrap(), repository).map(|works| json!(works).to_string())
    }

    #[test]
    fn command_lines_become_work() {
        let lines = [
            ("run crm shop --type full", None),
            ("verify latest --job crm", None),
            ("verify 1a2b", Some("main")),
            ("check --read-data-subset 5%", Some("main")),
            ("cleanup --all", None),
            ("copy --from main --to offsite --all", None),
            ("archive --older-than 90d --to cold --remove", Some("main")),
            ("logs compact crm", None),
            ("alerts check", None),
        ];
        let works: Vec<String> =
            lines.iter().map(|(line, repository)| of(line, *repository).unwrap()).collect();
        insta::assert_snapshot!(works.join("\n"), @r#"
        [{"job":"crm","kind":"backup","type":"full"},{"job":"shop","kind":"backup","type":"full"}]
        [{"kind":"verify","snapshot":"crm:latest"}]
        [{"kind":"verify","repository":"main","snapshot":"1a2b"}]
        [{"data":"5%","kind":"check","repository":"main"}]
        [{"kind":"cleanup"}]
        [{"from":"main","kind":"copy","to":"offsite"}]
        [{"from":"main","kind":"archive","older_than":"90d","remove":true,"to":"cold"}]
        [{"job":"crm","kind":"compact"}]
        [{"kind":"alerts"}]
        "#);
        for (line, repository) in [
            ("run", None),
            ("run crm", Some("main")),
            ("run --source /etc", None),
            ("verify --all", None),
            ("verify 1a2b --job crm", None),
            ("cleanup crm", None),
            ("cleanup --job crm", None),
            ("copy latest --to offsite", None),
            ("copy --to offsite --all", None),
            ("archive --older-than 90d --to cold", None),
            ("key list", None),
            ("init", None),
            ("export latest --to x", None),
        ] {
            let error = of(line, repository).unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{line}: {error:?}");
        }
    }
}
