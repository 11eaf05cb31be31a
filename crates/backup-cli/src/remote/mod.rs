//! The same verbs, done by a daemon: `--server`.
//!
//! ```text
//!  command line ─▶ asked ─▶ looking: the program beside the daemon is asked, and what it says is shown as it is
//!                       └─▶ work: begun by the daemon ─▶ follow: progress until it ends ─▶ told
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`run`]: which verb is done how |
//! | `server.rs` | which daemon, and the token for it |
//! | `client.rs` | requests, and what their answers mean |
//! | `asked.rs` | a command line as flags and names, whatever its verb |
//! | `work.rs` | verbs that the daemon begins |
//! | `follow.rs` | waiting for the end of what was begun |
//! | `told.rs` | what came of it, as the verb itself says it |
//! | `going.rs` | what goes on in a daemon; pausing and stopping it |

mod asked;
mod client;
mod follow;
mod going;
mod server;
mod told;
mod work;

use std::ffi::OsString;

use serde_json::{Value, json};

use crate::cli::Command;
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::session::Session;
use crate::ui::SCHEMA_VERSION;
use asked::Asked;
use client::Client;
pub(crate) use server::Server;

/// The verbs that look at something, of which the daemon's program says what it says by itself.
const LOOKING: [&str; 18] = [
    "advise",
    "alerts",
    "analyze",
    "audit",
    "audit-verify",
    "diff",
    "doctor",
    "find",
    "list",
    "logs-run",
    "logs-status",
    "ls",
    "report",
    "schedule",
    "show",
    "status",
    "storage",
    "timeline",
];

/// The daemon that is to do a command; none: it is done here.
///
/// # Errors
/// If flags name one that there cannot be.
pub(crate) fn server(session: &Session, command: &Command) -> CommandResult<Option<Server>> {
    // These are about this machine, whatever daemon is usually asked.
    if matches!(
        command,
        Command::Config(_) | Command::Completions(_) | Command::Version(_) | Command::Man(_)
    ) {
        return Ok(None);
    }
    let is_for_daemon = match command {
        Command::Running(_) | Command::Cancel(_) => true,
        Command::Schedule(args) => args.is_for_daemon(),
        _ => false,
    };
    Server::of(session, is_for_daemon)
}

/// For what never comes to where it would be done here.
pub(crate) fn only_by_a_daemon() -> CommandError {
    CommandError::usage("this command needs a daemon").with_hint("name the daemon with --server")
}

/// Has a daemon do a command.
pub(crate) async fn run(session: &Session, server: &Server, args: &[OsString]) -> CommandResult {
    let asked = Asked::of(args)?;
    require_nothing_of_here(session)?;
    let client = Client::new(session, server)?;
    match asked.verb.as_str() {
        "running" => going::running(session, &client, &asked).await,
        "cancel" => going::cancel(session, &client, &asked).await,
        "schedule-pause" => going::pause(session, &client, &asked, true).await,
        "schedule-resume" => going::pause(session, &client, &asked, false).await,
        "alerts-list" => {
            look(session, &client, &Asked { verb: "alerts".to_owned(), ..asked }).await
        }
        "alerts-silence" => silence(session, &client, &asked).await,
        "alerts-unsilence" => unsilence(session, &client, &asked).await,
        verb if LOOKING.contains(&verb) => look(session, &client, &asked).await,
        _ => work::run(session, &client, &asked).await,
    }
}

/// The daemon has its own configuration and pass phrases: those of here would be ignored.
fn require_nothing_of_here(session: &Session) -> CommandResult<()> {
    let global = &session.global;
    let given = [
        ("--password-file", global.password_file.is_some()),
        ("--password-command", global.password_command.is_some()),
        ("--no-cache", global.no_cache),
    ];
    if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
        let text = format!("{flag} applies to this machine and cannot be used with --server");
        return Err(CommandError::usage(text)
            .with_hint("leave out the flag; the daemon uses its own configuration"));
    }
    match &global.repo {
        Some(repo) if repo.contains('/') || repo.contains(':') => {
            Err(CommandError::usage("--repo takes no address with --server")
                .with_hint("give --repo the repository's name in the daemon's configuration"))
        }
        _ => Ok(()),
    }
}

/// Shows what the daemon's program says.
async fn look(session: &Session, client: &Client, asked: &Asked) -> CommandResult {
    let mut words: Vec<String> =
        session.global.repo.iter().map(|name| format!("--repo={name}")).collect();
    words.extend(asked.words());
    let words = serde_json::to_string(&words).unwrap_or_default();
    let mut query = vec![("words", words.as_str())];
    let color = session.ui.has_colors();
    for (name, wanted) in
        [("json", session.ui.is_json()), ("quiet", session.ui.is_quiet()), ("color", color)]
    {
        if wanted {
            query.push((name, "true"));
        }
    }
    let said = client.get(session, &["api", "v1", "verbs", &asked.verb], &query).await?;
    let text = |key: &str| said[key].as_str().unwrap_or_default().trim_end_matches('\n').to_owned();
    let (out, err) = (text("out"), text("err"));
    if !err.is_empty() {
        session.ui.relay(err);
    }
    if !out.is_empty() {
        session.ui.print(out)?;
    }
    Ok(outcome(said["exit_code"].as_u64()))
}

/// What an exit code of the program says.
fn outcome(code: Option<u64>) -> Outcome {
    match code {
        Some(0) => Outcome::Success,
        Some(3) => Outcome::Warnings,
        Some(4) => Outcome::Damage,
        code => Outcome::Failed(
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(crate::exit_code::FAILURE),
        ),
    }
}

async fn silence(session: &Session, client: &Client, asked: &Asked) -> CommandResult {
    asked.allow(&["on", "for", "until", "reason"], 1)?;
    let mut order = json!({ "rule": asked.name(0), "reason": asked.value("reason") });
    for (flag, key) in [("on", "subject"), ("for", "for"), ("until", "until")] {
        if let Some(value) = asked.value(flag) {
            order[key] = json!(value);
        }
    }
    let silence = client.post(session, &["api", "v1", "alerts", "silences"], &order).await?;
    if session.ui.is_json() {
        session.ui.json(&json!({ "schema_version": SCHEMA_VERSION, "silence": silence }))?;
        return Ok(Outcome::Success);
    }
    let rule = human::text(asked.name(0).unwrap_or_default().as_bytes());
    session.ui.status(format_args!(
        "Alert rule {rule} is silenced until {}",
        moment(session, &silence["until"])
    ));
    let id = silence["id"].as_str().unwrap_or_default();
    session
        .ui
        .hint(format_args!("end the silence with `backup alerts unsilence {id}{}`", client.flag()));
    Ok(Outcome::Success)
}

async fn unsilence(session: &Session, client: &Client, asked: &Asked) -> CommandResult {
    asked.allow(&[], 1)?;
    let id = asked.name(0).unwrap_or_default();
    let silence = client.delete(session, &["api", "v1", "alerts", "silences", id]).await?;
    let rule = human::text(silence["rule"].as_str().unwrap_or_default().as_bytes());
    session.ui.status(format_args!("The silence of alert rule {rule} has ended"));
    Ok(Outcome::Success)
}

/// A moment of an answer, for people.
fn moment(session: &Session, value: &Value) -> String {
    let moment = value.as_str().and_then(|text| text.parse().ok());
    moment.map(|moment| human::time(moment, session.zone())).unwrap_or_default()
}

/// A failure of the daemon's program, by its exit code.
fn failure(code: Option<u64>, message: &str) -> CommandError {
    use backup_core::error::ErrorKind;
    let kind = match code {
        Some(2) => Kind::Usage,
        Some(4) => Kind::Core(ErrorKind::Damaged),
        Some(5) => Kind::Refused,
        Some(10) => Kind::Core(ErrorKind::NoRepository),
        Some(11) => Kind::Core(ErrorKind::Busy),
        Some(12) => Kind::Passphrase,
        Some(130) => Kind::Core(ErrorKind::Cancelled),
        _ => Kind::Io,
    };
    let message =
        if message.is_empty() { "the operation failed without an error message" } else { message };
    CommandError::new(kind, message)
}
