//! Commands and cursors, each wait for which is limited.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use ::mongodb::Cursor;
use ::mongodb::error::{CommandError, Error, ErrorKind, Result};
use ::mongodb::options::{CursorType, ReadPreference, SelectionCriteria};
use ::mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;

use super::error::{code_of, stalled};
use super::server::Server;
use crate::waits::Ask;

/// A cursor that hands over whole batches.
pub(super) struct Batches {
    cursor: RawBatchCursor,
    server: Server,
}

impl Batches {
    /// The next batch; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<RawBatch>> {
        self.server.within(self.cursor.try_next()).await
    }
}

impl Server {
    /// Runs a command on the member that is read.
    pub(super) async fn run(&self, db: &str, command: Document) -> Result<Document> {
        let db = self.client.database(db);
        let running = db.run_command(command).selection_criteria(self.member.clone());
        self.within(running).await
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
        let listing = db.run_cursor_command(command);
        self.collect(listing.selection_criteria(self.member.clone())).await
    }

    /// As [`Self::list_raw`], on the primary.
    pub(super) async fn list_written(
        &self,
        db: &str,
        command: Document,
    ) -> Result<Vec<RawDocumentBuf>> {
        let db = self.client.database(db);
        self.collect(db.run_cursor_command(command)).await
    }

    async fn collect(
        &self,
        listing: impl IntoFuture<Output = Result<Cursor<Document>>>,
    ) -> Result<Vec<RawDocumentBuf>> {
        let mut cursor = self.within(listing.into_future()).await?;
        let mut found = Vec::new();
        while self.within(cursor.advance()).await? {
            found.push(cursor.current().to_owned());
        }
        Ok(found)
    }

    /// Opens a cursor that hands over whole batches.
    pub(super) async fn batches(&self, db: &str, command: RawDocumentBuf) -> Result<Batches> {
        let db = self.client.database(db);
        let opening = db.run_raw_cursor_command(command);
        let opening = opening.selection_criteria(self.member.clone()).batch();
        Ok(Batches { cursor: self.within(opening.into_future()).await?, server: self.clone() })
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
        Ok(Batches { cursor, server: self.clone() })
    }

    /// As [`Self::batches`], for a cursor at whose end the server waits this long for more.
    pub(super) async fn following(
        &self,
        db: &str,
        command: RawDocumentBuf,
        wait: Option<Duration>,
    ) -> Result<Batches> {
        let Some(wait) = wait else { return self.batches(db, command).await };
        let db = self.client.database(db);
        let opening = db.run_raw_cursor_command(command).selection_criteria(self.member.clone());
        let opening = opening.cursor_type(CursorType::TailableAwait).max_time(wait).batch();
        Ok(Batches { cursor: self.within(opening.into_future()).await?, server: self.clone() })
    }

    /// Limits `work` on the member that is read. Any command may take long (an index build, a filter
    /// that finds nothing): an answer to a ping over another connection is progress.
    pub(super) async fn within<T>(&self, work: impl IntoFuture<Output = Result<T>>) -> Result<T> {
        self.limited(Some(&self.member), work).await
    }

    /// As [`Self::within`], on the primary.
    pub(super) async fn within_written<T>(
        &self,
        work: impl IntoFuture<Output = Result<T>>,
    ) -> Result<T> {
        self.limited(None, work).await
    }

    async fn limited<T>(
        &self,
        member: Option<&SelectionCriteria>,
        work: impl IntoFuture<Output = Result<T>>,
    ) -> Result<T> {
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let (client, member) = (self.client.clone(), member.cloned().unwrap_or(primary));
        let ask: Ask = Arc::new(move || {
            let (client, member) = (client.clone(), member.clone());
            Box::pin(async move {
                let admin = client.database("admin");
                let ping = admin.run_command(doc! { "ping": 1 }).selection_criteria(member).await;
                // A refusal is an answer.
                ping.is_ok() || ping.is_err_and(|error| code_of(&error).is_some())
            })
        });
        let label = format!("MongoDB at {}", self.address());
        let work = Box::pin(work.into_future());
        self.waits.limit(&label, Some(&ask), work).await.map_err(stalled)?
    }
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
