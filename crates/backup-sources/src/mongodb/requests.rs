//! Commands and cursors, each wait for which is limited.

use std::sync::Arc;
use std::time::Duration;

use ::mongodb::error::{CommandError, Error, ErrorKind, Result};
use ::mongodb::options::{CursorType, ReadPreference, SelectionCriteria};
use ::mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;

use super::error::{code_of, is_transient, is_unreachable, stalled};
use super::member::Choice;
use super::server::Server;
use crate::waits::Ask;

/// Members that one request is sent to, one after another.
const MAX_MOVES: u32 = 8;
/// Failed connections after which a request is given up.
const MAX_FAILURES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// A cursor that hands over whole batches.
pub(super) struct Batches {
    cursor: RawBatchCursor,
    server: Server,
    /// The member that the cursor is of; `None` for the primary.
    choice: Option<Choice>,
}

impl Batches {
    /// The member that the cursor is of; `None` for the primary.
    pub(super) fn choice(&self) -> Option<&Choice> {
        self.choice.as_ref()
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// [`is_moved`] once another member is read: the cursor's own member may lag or not answer.
    pub(super) async fn next(&mut self) -> Result<Option<RawBatch>> {
        let next = self.cursor.try_next();
        match &self.choice {
            Some(choice) => self.server.on(choice, next).await,
            None => self.server.within_written(next).await,
        }
    }
}

impl Server {
    /// Runs a command on the member that is read, and again on the next one if it is replaced.
    pub(super) async fn run(&self, db: &str, command: Document) -> Result<Document> {
        let db = self.client.database(db);
        self.again_elsewhere(|choice| {
            let running = db.run_command(command.clone()).selection_criteria(choice.criteria);
            running.into_future()
        })
        .await
    }

    /// Sends a request to the member that is read, and to the next one if that is replaced.
    async fn again_elsewhere<T, W: Future<Output = Result<T>>>(
        &self,
        request: impl Fn(Choice) -> W,
    ) -> Result<T> {
        let (mut moves, mut failures) = (0, 0);
        loop {
            let choice = self.member.choice();
            match self.on(&choice, request(choice.clone())).await {
                Err(error) if is_moved(&error) && moves < MAX_MOVES => moves += 1,
                // A member that died: either it comes back, or it stays silent and is replaced.
                Err(error)
                    if self.member.may_move()
                        && is_transient(&error)
                        && !is_unreachable(&error)
                        && failures < MAX_FAILURES =>
                {
                    failures += 1;
                    tokio::time::sleep(PAUSE * failures).await;
                }
                other => return other,
            }
        }
    }

    /// Runs a command that writes, on the primary.
    pub(super) async fn write(&self, db: &str, command: Document) -> Result<Document> {
        let db = self.client.database(db);
        let running = db.run_command(command);
        let reply = acknowledged(self.within_written(running).await?)?;
        match reply.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document()) {
            Some(error) => Err(refusal(error)),
            None => Ok(reply),
        }
    }

    /// As [`Self::write`], for a command in bytes. Errors of single documents stay in the reply.
    pub(super) async fn write_raw(&self, db: &str, command: RawDocumentBuf) -> Result<Document> {
        let db = self.client.database(db);
        let running = db.run_raw_command(command);
        acknowledged(self.within_written(running).await?)
    }

    /// All results of a command that answers with a cursor.
    pub(super) async fn list(&self, db: &str, command: Document) -> Result<Vec<Document>> {
        let found = self.list_raw(db, command).await?;
        found.into_iter().map(|raw| Document::try_from(raw).map_err(Error::from)).collect()
    }

    /// As [`Self::list`], every result as its bytes.
    pub(super) async fn list_raw(
        &self,
        db: &str,
        command: Document,
    ) -> Result<Vec<RawDocumentBuf>> {
        let db = self.client.database(db);
        self.again_elsewhere(|choice| {
            let listing = db.run_cursor_command(command.clone());
            async move {
                let mut cursor = listing.selection_criteria(choice.criteria).await?;
                let mut found = Vec::new();
                while cursor.advance().await? {
                    found.push(cursor.current().to_owned());
                }
                Ok(found)
            }
        })
        .await
    }

    /// As [`Self::list_raw`], on the primary.
    pub(super) async fn list_written(
        &self,
        db: &str,
        command: Document,
    ) -> Result<Vec<RawDocumentBuf>> {
        let db = self.client.database(db);
        let listing = db.run_cursor_command(command);
        let mut cursor = self.within_written(listing).await?;
        let mut found = Vec::new();
        while self.within_written(cursor.advance()).await? {
            found.push(cursor.current().to_owned());
        }
        Ok(found)
    }

    /// Opens a cursor that hands over whole batches, at a member that was chosen before.
    ///
    /// # Errors
    /// [`is_moved`] if another member is read by now.
    pub(super) async fn batches(
        &self,
        choice: &Choice,
        db: &str,
        command: RawDocumentBuf,
    ) -> Result<Batches> {
        let db = self.client.database(db);
        let opening = db.run_raw_cursor_command(command);
        let opening = opening.selection_criteria(choice.criteria.clone()).batch();
        let cursor = self.on(choice, opening.into_future()).await?;
        Ok(Batches { cursor, server: self.clone(), choice: Some(choice.clone()) })
    }

    /// As [`Self::batches`], on the primary.
    pub(super) async fn batches_written(
        &self,
        db: &str,
        command: RawDocumentBuf,
    ) -> Result<Batches> {
        let db = self.client.database(db);
        let opening = db.run_raw_cursor_command(command).batch();
        let cursor = self.within_written(opening.into_future()).await?;
        Ok(Batches { cursor, server: self.clone(), choice: None })
    }

    /// As [`Self::batches`], for a cursor at whose end the server waits this long for more.
    pub(super) async fn following(
        &self,
        db: &str,
        command: RawDocumentBuf,
        wait: Option<Duration>,
    ) -> Result<Batches> {
        let choice = self.member.choice();
        let Some(wait) = wait else { return self.batches(&choice, db, command).await };
        let db = self.client.database(db);
        let opening = db.run_raw_cursor_command(command);
        let opening = opening.selection_criteria(choice.criteria.clone());
        let opening = opening.cursor_type(CursorType::TailableAwait).max_time(wait).batch();
        let cursor = self.on(&choice, opening.into_future()).await?;
        Ok(Batches { cursor, server: self.clone(), choice: Some(choice) })
    }

    /// Limits `work` on the member that is read.
    pub(super) async fn within<T>(&self, work: impl IntoFuture<Output = Result<T>>) -> Result<T> {
        self.on(&self.member.choice(), work.into_future()).await
    }

    /// As [`Self::within`], on the primary.
    pub(super) async fn within_written<T>(
        &self,
        work: impl IntoFuture<Output = Result<T>>,
    ) -> Result<T> {
        let work = Box::pin(work.into_future());
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let (label, ask) = (self.label(&self.address()), self.ask(primary));
        match self.answered(&label, &ask, work).await {
            Answered::Done(Err(error)) => Err(self.members.explained(error).await),
            Answered::Done(done) => done,
            Answered::Silent(work) => self.rest_of(&label, &ask, work).await,
        }
    }

    /// Limits `work` on a member. Any command may take long (an index build, a filter that finds
    /// nothing): an answer to a ping over another connection is progress.
    ///
    /// # Errors
    /// [`is_moved`] once another member is read.
    async fn on<T>(&self, choice: &Choice, work: impl Future<Output = Result<T>>) -> Result<T> {
        let work = Box::pin(work);
        let (label, ask) = (self.label(&choice.host), self.ask(choice.criteria.clone()));
        let answered = tokio::select! {
            biased;
            () = self.member.left(choice) => return Err(Error::custom(Moved)),
            answered = self.answered(&label, &ask, work) => answered,
        };
        let work = match answered {
            Answered::Done(Err(error)) if is_unreachable(&error) => {
                return if self.move_from(choice).await {
                    Err(Error::custom(Moved))
                } else {
                    Err(self.members.explained(error).await)
                };
            }
            Answered::Done(done) => return done,
            Answered::Silent(work) => work,
        };
        let moving = async {
            if !self.move_from(choice).await {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            done = self.rest_of(&label, &ask, work) => done,
            () = moving => Err(Error::custom(Moved)),
        }
    }

    /// Reads another member from now on; false if there is none.
    async fn move_from(&self, choice: &Choice) -> bool {
        let Some(next) = self.member.move_from(choice).await else { return false };
        self.waits.note_move(&format!("{} does not answer: {next} is read instead", choice.host));
        true
    }

    fn label(&self, host: &str) -> String {
        let host = if host.is_empty() { self.address() } else { host.to_owned() };
        format!("MongoDB at {host}")
    }

    /// A ping to a member.
    fn ask(&self, criteria: SelectionCriteria) -> Ask {
        let client = self.client.clone();
        Arc::new(move || {
            let (client, criteria) = (client.clone(), criteria.clone());
            Box::pin(async move {
                let admin = client.database("admin");
                let ping = admin.run_command(doc! { "ping": 1 }).selection_criteria(criteria).await;
                // A refusal is an answer.
                ping.is_ok() || ping.is_err_and(|error| code_of(&error).is_some())
            })
        })
    }

    /// Waits for `work` until the server has been silent for the limit of one member.
    async fn answered<T, W: Future<Output = Result<T>> + Unpin>(
        &self,
        label: &str,
        ask: &Ask,
        mut work: W,
    ) -> Answered<T, W> {
        let waits = self.waits.at_most(self.silence());
        match waits.limit(label, Some(ask), &mut work).await {
            Ok(done) => Answered::Done(done),
            Err(_) => Answered::Silent(work),
        }
    }

    /// Waits for the rest of the time-out.
    async fn rest_of<T>(
        &self,
        label: &str,
        ask: &Ask,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let waits = self.waits.after_silence(self.silence());
        waits.limit(label, Some(ask), work).await.map_err(stalled)?
    }

    /// Silence after which another member is looked for: before the time-out, if that is short.
    fn silence(&self) -> Duration {
        self.member_timeout.min(self.waits.timeout() / 2)
    }
}

/// A wait for one member.
enum Answered<T, W> {
    Done(Result<T>),
    /// The member is silent; the unfinished work.
    Silent(W),
}

/// Another member is read from now on.
#[derive(Debug)]
struct Moved;

/// True if another member is read: cursors and record identifiers of the last one are void.
pub(super) fn is_moved(error: &Error) -> bool {
    error.get_custom::<Moved>().is_some()
}

/// Makes an error of a reply about too few members with a write: the driver takes it for a success.
fn acknowledged(reply: Document) -> Result<Document> {
    match reply.get_document("writeConcernError") {
        Ok(error) => Err(refusal(error)),
        Err(_) => Ok(reply),
    }
}

/// The error of a write in a reply.
fn refusal(error: &Document) -> Error {
    match bson::deserialize_from_document::<CommandError>(error.clone()) {
        Ok(error) => ErrorKind::Command(error).into(),
        Err(error) => Error::custom(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_too_few_members_have_is_an_error() {
        acknowledged(doc! { "ok": 1, "n": 0 }).unwrap();
        let stepped_down = doc! { "code": 189, "codeName": "PrimarySteppedDown", "errmsg": "primary stepped down" };
        let error =
            acknowledged(doc! { "ok": 1, "n": 0, "writeConcernError": stepped_down }).unwrap_err();
        assert_eq!(crate::mongodb::error::code_of(&error), Some(189));
        assert!(crate::mongodb::error::is_transient(&error));
    }
}
