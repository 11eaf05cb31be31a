//! Reading the oplog, entry by entry and without a gap: the one way in which it is read.
//!
//! A reader stands on an entry, named by its `ts` and term. Opened or opened again, it asks for
//! everything from that entry on, and the first entry that comes must be that very one: the server
//! answers a question for what is no longer there with the next that is, without a word. Only what
//! a majority has is read, so that no failover takes it back. What is not kept still moves the
//! position; so do the no-ops that a set writes while nothing happens.

use std::time::Duration;

use ::mongodb::error::Error;
use ::mongodb::raw_batch_cursor::RawBatch;
use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, doc};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::error::{Doing, code, code_of, convert, is_stalled, is_transient, malformed};
use super::history::gap;
use super::options::MongoOptions;
use super::position::{LogPosition, Position};
use super::requests::{Batches, is_moved};
use super::server::{Purpose, Server, unless_cancelled};

/// How long the server waits for something new before it answers with nothing.
const AWAIT: Duration = Duration::from_millis(500);
/// Least time from one question to the next while little comes: asking at once gives a batch for
/// every few entries, which costs ten times as much (mongo.md section 4).
const PACE: Duration = Duration::from_millis(250);
/// Batches of this many bytes mean that the reader is behind: then it does not wait.
const BEHIND: usize = 2 << 20;
/// How often in a row reading is taken up without any progress.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);
/// Failures after which another member is looked for.
const MOVE_AFTER: u32 = 2;
/// How long the entry that the reader stands on may be ahead of all that the server has.
const AHEAD: Duration = Duration::from_secs(60);

/// When an entry was written, by the clock of the server that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The entry.
    pub at: Position,
    /// Where it begins in the batch.
    pub offset: u32,
    /// Milliseconds since 1970.
    pub wall_millis: i64,
}

/// Entries that follow each other without a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct OplogBatch {
    /// The entry before the first one.
    pub from: LogPosition,
    /// The last one, also if it was not kept.
    pub to: LogPosition,
    /// The entries that are kept, as the server has them, one after another.
    pub data: Bytes,
    /// Their times.
    pub ticks: Vec<Tick>,
    /// When the last one was written, also if it was not kept.
    pub wall_millis: Option<i64>,
}

/// What a batch of the server comes to.
enum Taken {
    Batch(OplogBatch),
    Nothing,
    /// The entry that the reader stands on is not there.
    Gap,
}

/// A cursor, if one is open, and its next batch.
type Reply = (Option<Batches>, Result<Option<RawBatch>, Error>);

/// Which entries are kept.
pub(super) type Keep = Box<dyn Fn(&RawDocument) -> SourceResult<bool> + Send + Sync>;

/// Follows the oplog.
pub struct OplogTail {
    server: Server,
    /// How to find another member, if the reader may move.
    moves: Option<MongoOptions>,
    keep: Keep,
    /// Where the reader stands, once it has seen that entry.
    stands: Position,
    /// Its term; `None` if only its time was known at the beginning.
    term: Option<i64>,
    /// The first entry is wanted too.
    inclusive: bool,
    /// Nothing later is wanted.
    until: Option<Position>,
    cursor: Option<Batches>,
    /// A request on its way. Callers may drop [`Self::next`] at any time: the request and its limits
    /// last.
    request: Option<AbortOnDropHandle<Reply>>,
    /// Whether the open cursor has shown the entry that the reader stands on.
    confirmed: bool,
    opened: Instant,
    asked: Option<Instant>,
    failures: u32,
    /// The connection is lost, and that is reported.
    lost: bool,
}

impl std::fmt::Debug for OplogTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OplogTail")
            .field("stands", &self.stands)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// No-ops say that time goes on, and nothing else.
fn is_no_op(entry: &RawDocument) -> bool {
    entry.get_str("op").ok() == Some("n")
}

impl OplogTail {
    /// Follows the oplog for ever, from behind `from`, on whichever member answers.
    pub(super) fn after(server: &Server, options: &MongoOptions, from: LogPosition) -> Self {
        let keep: Keep = Box::new(|entry| Ok(!is_no_op(entry)));
        let mut tail = Self::new(server, from.at, keep);
        tail.term = Some(from.term);
        tail.moves = Some(options.clone());
        tail
    }

    /// The same, of what `keep` accepts.
    pub(super) fn keeping(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// Reads from the entry at `from` to the one at `until`, both inclusive.
    pub(super) fn between(server: &Server, from: Position, until: Position, keep: Keep) -> Self {
        let mut tail = Self::new(server, from, keep);
        tail.inclusive = true;
        tail.until = Some(until);
        tail
    }

    fn new(server: &Server, stands: Position, keep: Keep) -> Self {
        Self {
            server: server.clone(),
            moves: None,
            keep,
            stands,
            term: None,
            inclusive: false,
            until: None,
            cursor: None,
            request: None,
            confirmed: false,
            opened: Instant::now(),
            asked: None,
            failures: 0,
            lost: false,
        }
    }

    /// The next entries; waits until there are some. `None` only behind the last one of a limited
    /// reader.
    ///
    /// # Errors
    /// [`SourceErrorKind::LogGap`] if the oplog does not hold the entry that the reader stands on
    /// any more, because it has reached its size or because it was taken back;
    /// [`SourceErrorKind::Unavailable`] if no member answers.
    pub async fn next(&mut self, cx: &Context) -> SourceResult<Option<OplogBatch>> {
        loop {
            let step = unless_cancelled(cx, async { Ok(self.step().await) }).await?;
            if step.is_ok() && std::mem::take(&mut self.lost) {
                cx.events.connected();
            }
            match step {
                Ok(Some(batch)) => match self.take(&batch)? {
                    Taken::Batch(batch) => {
                        self.failures = 0;
                        return Ok(Some(batch));
                    }
                    Taken::Gap => return Err(gap(&self.server, self.stands).await),
                    Taken::Nothing if !self.confirmed && self.opened.elapsed() > AHEAD => {
                        return Err(self.ahead().await);
                    }
                    Taken::Nothing => {}
                },
                Ok(None) => {
                    self.cursor = None;
                    if let Some(until) = self.until {
                        if !self.confirmed {
                            return Err(gap(&self.server, self.stands).await);
                        }
                        if self.stands >= until {
                            return Ok(None);
                        }
                        // It has not shown everything yet: what is missing must not be taken for
                        // the end.
                        self.failures += 1;
                        if self.failures > ATTEMPTS {
                            return Err(self.ahead().await);
                        }
                    }
                    // The server gives a tailable cursor up when there is nothing at all yet.
                    self.wait(cx, PAUSE).await?;
                }
                Err(error) => self.survive(cx, &error).await?,
            }
        }
    }

    /// The next batch of the server, paced.
    async fn step(&mut self) -> Result<Option<RawBatch>, Error> {
        // Forgotten afterwards only: whoever gives up waiting meanwhile does not ask sooner by
        // that.
        if let Some(asked) = self.asked {
            tokio::time::sleep_until(asked + PACE).await;
            self.asked = None;
        }
        if self.until.is_none() {
            self.asked = Some(Instant::now());
        }
        if self.cursor.is_none() && self.request.is_none() {
            self.confirmed = false;
            self.opened = Instant::now();
        }
        let request = match &mut self.request {
            Some(request) => request,
            none => {
                let (server, cursor) = (self.server.clone(), self.cursor.take());
                let request = request(server, cursor, self.stands, self.until);
                none.insert(AbortOnDropHandle::new(tokio::spawn(request)))
            }
        };
        let reply = request.await;
        self.request = None;
        let (cursor, batch) = reply.map_err(Error::custom)?;
        self.cursor = cursor;
        batch
    }

    /// What is new in a batch.
    fn take(&mut self, batch: &RawBatch) -> SourceResult<Taken> {
        let array =
            batch.doc_slices().map_err(|error| malformed("oplog batch").with_source(error))?;
        if array.as_bytes().len() >= BEHIND {
            self.asked = None;
        }
        let from = self.term.map(|term| LogPosition { at: self.stands, term });
        let (mut data, mut ticks, mut first) = (BytesMut::new(), Vec::new(), from);
        let (mut moved, mut wall_millis) = (false, None);
        for entry in array {
            let Ok(RawBsonRef::Document(entry)) = entry else {
                return Err(malformed("oplog entry"));
            };
            let here = position_of(entry)?;
            if !self.confirmed {
                if here.at != self.stands || self.term.is_some_and(|term| term != here.term) {
                    return Ok(Taken::Gap);
                }
                self.confirmed = true;
                first = Some(here);
                if !std::mem::take(&mut self.inclusive) {
                    continue;
                }
            }
            (self.stands, self.term, moved) = (here.at, Some(here.term), true);
            wall_millis = entry.get_datetime("wall").ok().map(bson::DateTime::timestamp_millis);
            if (self.keep)(entry)? {
                let offset = u32::try_from(data.len()).map_err(|_| malformed("oplog batch"))?;
                ticks.push(Tick { at: here.at, offset, wall_millis: wall_millis.unwrap_or(0) });
                data.extend_from_slice(entry.as_bytes());
            }
        }
        let (Some(from), Some(term), true) = (first, self.term, moved) else {
            return Ok(Taken::Nothing);
        };
        let to = LogPosition { at: self.stands, term };
        Ok(Taken::Batch(OplogBatch { from, to, data: data.freeze(), ticks, wall_millis }))
    }

    /// Takes reading up again, or gives up.
    async fn survive(&mut self, cx: &Context, error: &Error) -> SourceResult<()> {
        self.cursor = None;
        if is_moved(error) {
            return Ok(());
        }
        self.failures += 1;
        let passing = is_transient(error)
            // Only who follows for long waits for more than one time-out.
            || (is_stalled(error) && self.moves.is_some())
            || matches!(
                code_of(error),
                Some(
                    code::CAPPED_POSITION_LOST
                        | code::CURSOR_NOT_FOUND
                        | code::CURSOR_KILLED
                        | code::QUERY_PLAN_KILLED
                )
            );
        if !passing || self.failures > ATTEMPTS {
            return Err(convert(error, Doing::Reading, "cannot read the oplog"));
        }
        if self.moves.is_some() && (is_transient(error) || is_stalled(error)) && !self.lost {
            self.lost = true;
            cx.events.unreachable(error.to_string());
        }
        self.wait(cx, PAUSE * self.failures).await?;
        if let (Some(options), true) = (&self.moves, self.failures >= MOVE_AFTER)
            && let Ok(server) =
                unless_cancelled(cx, Server::connect(options, Purpose::Reading)).await
        {
            self.server = server;
        }
        Ok(())
    }

    async fn wait(&mut self, cx: &Context, pause: Duration) -> SourceResult<()> {
        unless_cancelled(cx, async {
            tokio::time::sleep(pause).await;
            Ok(())
        })
        .await
    }

    async fn ahead(&mut self) -> SourceError {
        let newest = self
            .server
            .majority_time()
            .await
            .map_or_else(|_| "unknown".to_owned(), |at| at.to_string());
        let text = format!(
            "cannot read the oplog from {}: the server has nothing after {newest}",
            self.stands
        );
        SourceError::new(SourceErrorKind::Unavailable, text).with_hint(
            "wait until the member has caught up, or run a full backup if it belongs to \
                 another replica set",
        )
    }
}

pub(super) fn position_of(entry: &RawDocument) -> SourceResult<LogPosition> {
    let at = entry.get_timestamp("ts").map(Position::from);
    let at = at.map_err(|_| malformed("oplog entry: no timestamp"))?;
    Ok(LogPosition { at, term: entry.get_i64("t").unwrap_or(-1) })
}

/// The next batch of a cursor, which is opened first if there is none.
async fn request(
    server: Server,
    cursor: Option<Batches>,
    from: Position,
    until: Option<Position>,
) -> Reply {
    let mut cursor = match cursor {
        Some(cursor) => cursor,
        None => match open(&server, from, until).await {
            Ok(cursor) => cursor,
            Err(error) => return (None, Err(error)),
        },
    };
    let batch = cursor.next().await;
    (Some(cursor), batch)
}

async fn open(server: &Server, from: Position, until: Option<Position>) -> Result<Batches, Error> {
    let mut range = doc! { "$gte": Timestamp::from(from) };
    let mut find = doc! { "find": "oplog.rs", "hint": { "$natural": 1 }, "readConcern": { "level": "majority" } };
    match until {
        Some(until) => {
            range.insert("$lte", Timestamp::from(until));
        }
        None => {
            find.insert("tailable", true);
            find.insert("awaitData", true);
        }
    }
    find.insert("filter", doc! { "ts": range });
    let command = RawDocumentBuf::try_from(&find)?;
    server.following("local", command, until.is_none().then_some(AWAIT)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_from_entries() {
        let entry =
            bson::rawdoc! { "ts": Timestamp { time: 5, increment: 6 }, "t": 7_i64, "op": "n" };
        let here = position_of(&entry).unwrap();
        assert_eq!((here.at, here.term), (Position { seconds: 5, increment: 6 }, 7));
        assert!(is_no_op(&entry) && position_of(&bson::rawdoc! {}).is_err());
    }
}
