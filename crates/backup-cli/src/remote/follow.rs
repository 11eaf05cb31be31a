//! Waiting for the end of what was begun.

use std::time::{Duration, Instant};

use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::event::{Event, Progress, Stage};
use reqwest::Response;
use serde::Deserialize;
use serde_json::Value;

use super::client::Client;
use super::told;
use crate::command_error::{CommandError, CommandResult, Kind};
use crate::session::Session;

/// The daemon sends something every fifteen seconds, if only that it lives.
const SILENCE: Duration = Duration::from_secs(60);
/// For how long it is tried to find the daemon again.
const PATIENCE: Duration = Duration::from_secs(300);
/// After which time it is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Bytes of an event, at most.
const LONGEST: usize = 1 << 20;

/// Follows a piece of work to its end, and says what came of it.
pub(super) async fn follow(session: &Session, client: &Client, id: &str) -> CommandResult {
    let ended = tokio::select! {
        ended = until_the_end(session, client, id) => ended?,
        () = session.cx.cancel.cancelled() => {
            session.ui.status(format_args!("Operation {id} continues in the daemon."));
            session.ui.hint(format_args!("stop the operation with `backup cancel {id}{}`, or show \
                                          it with `backup running{0}`", client.flag()));
            return Err(CoreError::cancelled().into());
        }
    };
    told::tell(session, &ended)
}

async fn until_the_end(session: &Session, client: &Client, id: &str) -> CommandResult<Value> {
    let mut view = View { session, stage: None, totals: Progress::default(), has_waited: false };
    let mut lost: Option<Instant> = None;
    loop {
        match watch(session, client, id, &mut view).await {
            Ok(Some(ended)) => {
                view.finish();
                return Ok(ended);
            }
            // Whatever was missed, it is asked for.
            Ok(None) => lost = None,
            // That too many listen does not end what was begun.
            Err(error) if !error.may_pass() && !error.is_busy() => {
                return Err(match error.hint() {
                    Some(_) => error,
                    None => error.with_hint(format!(
                        "check `backup running`; operation {id} continues if the daemon still runs"
                    )),
                });
            }
            Err(error) => {
                if lost.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(error.with_hint(format!(
                        "check `backup running`; operation {id} continues if the daemon still runs"
                    )));
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Listens until it has ended; none if the daemon has nothing more to say, and is to be asked
/// again.
async fn watch(
    session: &Session,
    client: &Client,
    id: &str,
    view: &mut View<'_>,
) -> CommandResult<Option<Value>> {
    let mut events = Events { response: client.events().await?, read: Vec::new() };
    // Whoever listens hears all that comes; this is what was before.
    match client.get(session, &["api", "v1", "running", id], &[]).await {
        Ok(running) => view.waits(&running),
        Err(error) if error.is_not_found() => return over(session, client, id).await.map(Some),
        Err(error) => return Err(error),
    }
    while let Some((name, data)) = events.next().await? {
        match name.as_str() {
            "progress" if data["id"] == id => view.progress(&data["progress"]),
            "ended" if data["id"] == id => return Ok(Some(data)),
            // Its end may have been among them.
            "missed" => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

/// What is over already.
async fn over(session: &Session, client: &Client, id: &str) -> CommandResult<Value> {
    let list = client.get(session, &["api", "v1", "ended"], &[]).await?;
    let found = list["ended"].as_array().into_iter().flatten().find(|ended| ended["id"] == id);
    found.cloned().ok_or_else(|| {
        CommandError::new(Kind::Io, format!("the daemon has no record of operation {id}"))
            .with_hint(
                "look for the result in `backup status --runs`; the daemon may have restarted",
            )
    })
}

/// Server-sent events.
struct Events {
    response: Response,
    read: Vec<u8>,
}

impl Events {
    /// The next one; none at the end, and when nothing comes although something should.
    async fn next(&mut self) -> CommandResult<Option<(String, Value)>> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.read.drain(..end + 2).collect();
                if let Some(event) = understood(&String::from_utf8_lossy(&event)) {
                    return Ok(Some(event));
                }
                continue;
            }
            let piece = tokio::time::timeout(SILENCE, self.response.chunk()).await;
            let Ok(Ok(Some(piece))) = piece else { return Ok(None) };
            if self.read.len() + piece.len() > LONGEST {
                return Err(CommandError::new(
                    Kind::Core(ErrorKind::Unavailable),
                    "the daemon sent an event larger than 1 MiB",
                ));
            }
            self.read.extend_from_slice(&piece);
        }
    }
}

/// An event's name and data. What only says that the other side lives is none.
fn understood(text: &str) -> Option<(String, Value)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let data = serde_json::from_str(field("data:")?).ok()?;
    Some((field("event:")?.to_owned(), data))
}

/// What is shown meanwhile: as the verb itself shows it.
struct View<'a> {
    session: &'a Session,
    stage: Option<Stage>,
    totals: Progress,
    has_waited: bool,
}

/// A line of progress of the program.
#[derive(Deserialize)]
struct Line {
    stage: Stage,
    #[serde(flatten)]
    progress: Progress,
}

impl View<'_> {
    fn waits(&mut self, running: &Value) {
        if running["since"].is_null() && !self.has_waited {
            self.has_waited = true;
            self.session.ui.status("Waiting in the queue of the daemon.");
        }
        self.progress(&running["progress"]);
    }

    fn progress(&mut self, said: &Value) {
        if self.session.ui.is_json() {
            if said.is_object() {
                self.session.ui.event(said);
            }
            return;
        }
        let Ok(Line { stage, progress }) = Line::deserialize(said) else { return };
        if self.stage != Some(stage) {
            self.finish();
            self.stage = Some(stage);
            self.session.cx.events.emit(&Event::StageStarted { stage });
        }
        self.totals = progress;
        self.session.cx.events.emit(&Event::Progress { stage, progress });
    }

    fn finish(&mut self) {
        if let Some(stage) = self.stage.take() {
            self.session.cx.events.emit(&Event::StageFinished { stage, progress: self.totals });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_understood() {
        let (name, data) = understood("event: ended\ndata: {\"id\":\"1\"}\n\n").unwrap();
        assert_eq!((name.as_str(), &data["id"]), ("ended", &Value::from("1")));
        assert_eq!(understood(":\n\n"), None);
        assert_eq!(understood("event: x\n\n"), None);
        let said = serde_json::json!({ "schema_version": 1, "event": "progress", "stage": "backup", "done_items": 1,
            "total_items": 2, "done_bytes": 3, "total_bytes": 4 });
        let line = Line::deserialize(&said).unwrap();
        assert_eq!((line.stage, line.progress.total_bytes), (Stage::Backup, 4));
    }
}
