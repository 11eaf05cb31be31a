//! Anchors of the audit log in repositories, and announcements of its records to channels.

use std::time::Duration;

use backup_control::audit::{Audit, Head};
use backup_control::notify::{Channels, Outbox};
use backup_control::repositories::RepositorySpec;
use backup_control::state;
use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::maintenance::Anchor;

use super::{Action, lock};
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::records;
use crate::session::Session;

/// Time for storing an anchor in a repository, and for opening one for that.
const ANCHOR_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for sending announcements. Unsent messages wait in the outbox.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// Stores an anchor in the repositories that a command opened. Commands about alerts open none: the
/// repositories of the configuration are opened for them.
pub(super) async fn afterwards(session: &Session, action: Action) {
    let is_about_alerts = matches!(action.operation, "silence" | "unsilence" | "notify discard");
    if is_about_alerts && lock(&session.trail.opened).is_empty() {
        _ = open_all(session).await;
    }
    stored(session).await;
    if let Err(error) = announce(session).await {
        records::warn_unrecorded(session, "audit records were not announced", &error);
    }
}

/// `backup audit anchor`: stores an anchor in all repositories of the configuration or in --repo,
/// and announces records. Returns the head and the number of repositories.
pub(crate) async fn everywhere(session: &Session) -> CommandResult<(Option<(Head, u64)>, Outcome)> {
    let mut outcome = open_all(session).await?;
    let opened = lock(&session.trail.opened).len() as u64;
    let anchored = stored(session).await;
    if anchored.as_ref().is_some_and(|(_, count)| *count < opened) {
        outcome = Outcome::Warnings;
    }
    announce(session).await?;
    match anchored {
        Some((head, 0)) if outcome != Outcome::Success || opened > 0 => {
            let text = format!("no repository stores an anchor of audit record {}", head.sequence);
            Err(CommandError::new(Kind::Io, text)
                .with_hint("see the warnings; `backup doctor` checks the repositories"))
        }
        anchored => Ok((anchored, outcome)),
    }
}

/// Opens all repositories of the configuration, or --repo, but those that would need a prompt. A
/// missing repository has no anchors.
async fn open_all(session: &Session) -> CommandResult<Outcome> {
    let mut specs = Vec::from_iter(session.named_repository()?);
    if specs.is_empty()
        && let Some(loaded) = session.config()?
    {
        for name in loaded.config.repositories.keys() {
            specs.push(session.resolve(name)?);
        }
    }
    let mut outcome = Outcome::Success;
    let has_passphrase = |spec: &RepositorySpec| session.passphrase_origin(spec).is_some();
    for spec in specs.into_iter().filter(has_passphrase) {
        let what = format!("cannot store an anchor of the audit log in {spec}");
        match tokio::time::timeout(ANCHOR_TIMEOUT, session.open(&spec)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.is_cancelled() => return Err(error),
            Ok(Err(error)) if error.is_missing_repository() => {}
            Ok(Err(error)) => {
                records::warn(session, &what, &error);
                outcome = Outcome::Warnings;
            }
            Err(_) => {
                let seconds = ANCHOR_TIMEOUT.as_secs();
                session.ui.warning(format_args!("{what}: no answer for {seconds} seconds"));
                outcome = Outcome::Warnings;
            }
        }
    }
    Ok(outcome)
}

/// Stores the head of the log in the opened repositories. A user without the right to write there
/// stores none. Returns the head and the number of repositories that hold it now.
async fn stored(session: &Session) -> Option<(Head, u64)> {
    let opened = lock(&session.trail.opened).clone();
    let audit = Audit::in_state(&state::dir(&session.env)?);
    let reading = audit.clone();
    let head = tokio::task::spawn_blocking(move || reading.head()).await.ok()?.ok()??;
    let anchor = Anchor {
        chain: head.chain.clone(),
        sequence: head.sequence,
        hash: head.hash.clone(),
        time: session.cx.clock.now(),
        host: session.machine.host.clone(),
        place: audit.path().display().to_string(),
    };
    let mut count = 0;
    for repository in opened {
        match tokio::time::timeout(ANCHOR_TIMEOUT, repository.anchor(&anchor)).await {
            Ok(Ok(())) => count += 1,
            Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => {}
            Ok(Err(error)) => {
                let what = "cannot store an anchor of the audit log in the repository";
                records::warn(session, what, &error.into());
            }
            Err(_) => {
                session
                    .ui
                    .warning("storing an anchor of the audit log in the repository timed out");
            }
        }
    }
    if count > 0 {
        let new = head.clone();
        let noting = tokio::task::spawn_blocking(move || audit.note_anchored(&new)).await;
        if let Ok(Err(error)) = noting {
            let error = CommandError::from_error(Kind::Io, &error);
            records::warn(session, "cannot note the anchor of the audit log", &error);
        }
    }
    Some((head, count))
}

/// Sends the records that are to be announced to the channels of `[audit] notify`.
async fn announce(session: &Session) -> CommandResult<()> {
    let Some(loaded) = session.config().ok().flatten() else { return Ok(()) };
    let names = loaded.config.audit.notify.clone();
    let Some(dir) = state::dir(&session.env).filter(|_| !names.is_empty()) else { return Ok(()) };
    let now = session.cx.clock.now();
    let putting = tokio::task::spawn_blocking(move || {
        let outbox = Outbox::open(&dir)
            .map_err(|error| CommandError::io("cannot use the outbox", &error))?;
        let put =
            |message: &_| names.iter().try_for_each(|name| outbox.put(name, message).map(drop));
        let count = Audit::in_state(&dir)
            .announce(now, put)
            .map_err(|error| CommandError::from_error(Kind::Io, &error))?;
        Ok((outbox, count))
    });
    let put: CommandResult<(Outbox, u64)> =
        putting.await.map_err(|error| CommandError::new(Kind::Io, error.to_string()))?;
    let (outbox, count) = put?;
    if count > 0 {
        let channels = Channels::new(&loaded.config, &session.env)?;
        let cx = Context::new(session.cx.events.clone());
        let delivered = outbox.deliver(&channels, &cx, SEND_TIMEOUT).await;
        for (channel, waiting) in &delivered.waiting {
            let why = waiting.error.as_deref().unwrap_or("not tried yet");
            let text = format!("a message waits for channel {channel}: {why}");
            session.ui.warning(crate::human::text(text.as_bytes()));
        }
        for given_up in &delivered.given_up {
            let text = format!("channel {} refuses a message: {}", given_up.channel, given_up.why);
            session.ui.warning(crate::human::text(text.as_bytes()));
        }
    }
    Ok(())
}
