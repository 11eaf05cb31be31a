//! START_REPLICATION: the log as it is written.

use std::time::Duration;

use backup_core::source::SourceResult;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::time::Instant;

use super::super::error::{WireError, malformed};
use super::super::identifier::quoted;
use super::super::lsn::Lsn;
use super::connection::{Connection, Row};
use super::frame::Message;

/// The server is told how far we are so often; it gives a connection up after `wal_sender_timeout`
/// (60 seconds by default).
const STATUS: Duration = Duration::from_secs(10);
/// Silence before a request for an answer, if silence is to be reported,
const PROBE: Duration = Duration::from_secs(2);
/// and from the request to the report.
const REPORT: Duration = Duration::from_millis(2500);
/// Time without an answer after which the connection is given up.
const SILENCE: Duration = Duration::from_secs(50);

/// What comes of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum WalEvent {
    /// Bytes of the log from a place on.
    Data { at: Lsn, data: Bytes },
    /// Nothing new at this time of the server's (microseconds since 2000), which has so much.
    Quiet { end: Lsn, time: i64 },
    /// The timeline ends: it goes on with another one from a place on.
    Turn { next: u32, at: Lsn },
    /// The server does not answer: reported once, by streams that report silence.
    Silent,
}

/// A connection that sends its log.
#[derive(Debug)]
pub(in super::super) struct WalStream {
    connection: Connection,
    /// What we say that we have: received, and durable.
    received: Lsn,
    durable: Lsn,
    told: Instant,
    heard: Instant,
    /// Since when it owes us an answer.
    asked: Option<Instant>,
    reports_silence: bool,
    /// The silence that lasts was reported.
    is_reported: bool,
    ending: bool,
    /// What is known so far of the timeline that comes next.
    columns: Vec<String>,
    turn: Option<WalEvent>,
}

impl WalStream {
    /// Follows `timeline` from `from` on.
    pub(in super::super) async fn start(
        mut connection: Connection,
        slot: Option<&str>,
        timeline: u32,
        from: Lsn,
    ) -> Result<Self, WireError> {
        let slot = slot.map(|name| format!("SLOT {} ", quoted(name))).unwrap_or_default();
        connection
            .send_query(&format!("START_REPLICATION {slot}PHYSICAL {from} TIMELINE {timeline}"))
            .await?;
        let mut stream = Self {
            connection,
            received: Lsn(0),
            durable: Lsn(0),
            told: Instant::now(),
            heard: Instant::now(),
            asked: None,
            reports_silence: false,
            is_reported: false,
            ending: false,
            columns: Vec::new(),
            turn: None,
        };
        loop {
            match stream.connection.frames.next().await? {
                Message::CopyBoth => return Ok(stream),
                // The timeline has ended exactly there: the answer comes at once.
                Message::Columns(columns) => {
                    (stream.ending, stream.columns) = (true, columns);
                    return Ok(stream);
                }
                Message::Error(error) => return Err(WireError::Server(error)),
                Message::Notice(_) | Message::Parameter(..) | Message::Other => {}
                _ => return Err(malformed("reply to START_REPLICATION").into()),
            }
        }
    }

    /// The same stream; a server that is silent for five seconds is reported.
    pub(in super::super) fn reporting_silence(self) -> Self {
        Self { reports_silence: true, ..self }
    }

    /// Time of the next message to the server, or of the next look at its silence.
    fn due(&self) -> Instant {
        let status = self.told + STATUS;
        match self.asked {
            _ if !self.reports_silence => status,
            None => status.min(self.told.max(self.heard) + PROBE),
            Some(asked) if !self.is_reported => asked + REPORT,
            Some(_) => status,
        }
    }

    /// The next event. May be dropped while it waits.
    pub(in super::super) async fn next(&mut self) -> Result<WalEvent, WireError> {
        if self.ending {
            return self.end().await;
        }
        loop {
            let due = self.due();
            let message = tokio::select! {
                // What lies here already is no silence, however long nobody asked for it.
                biased;
                message = self.connection.frames.next() => message?,
                () = tokio::time::sleep_until(due) => {
                    if self.asked.is_some_and(|asked| asked.elapsed() >= SILENCE) {
                        return Err(silent());
                    }
                    if self.asked.is_some() && self.reports_silence && !self.is_reported {
                        self.is_reported = true;
                        return Ok(WalEvent::Silent);
                    }
                    self.asked.get_or_insert_with(Instant::now);
                    self.status(true).await?;
                    continue;
                }
            };
            (self.asked, self.is_reported, self.heard) = (None, false, Instant::now());
            match message {
                Message::CopyData(data) => {
                    if let Some(event) = self.data(data).await? {
                        return Ok(event);
                    }
                }
                Message::CopyDone => {
                    self.ending = true;
                    let mut out = BytesMut::new();
                    postgres_protocol::message::frontend::copy_done(&mut out);
                    self.connection.frames.send(&out).await?;
                    return self.end().await;
                }
                Message::Error(error) => return Err(WireError::Server(error)),
                Message::Notice(_) | Message::Parameter(..) | Message::Other => {}
                // A server that shuts down ends the command without the end of the stream.
                Message::Complete => {
                    let kind = std::io::ErrorKind::ConnectionAborted;
                    return Err(std::io::Error::new(kind, "the server shut down").into());
                }
                _ => return Err(malformed("WAL from the server").into()),
            }
        }
    }

    async fn data(&mut self, mut data: Bytes) -> Result<Option<WalEvent>, WireError> {
        let short = |_| malformed("WAL from the server: a message is too short");
        match data.try_get_u8().map_err(short)? {
            // Its place, the end of the server's log, the time.
            b'w' => {
                let at = Lsn(data.try_get_u64().map_err(short)?);
                data.try_get_u64().map_err(short)?;
                data.try_get_u64().map_err(short)?;
                let end =
                    at.0.checked_add(data.len() as u64).ok_or_else(|| malformed("WAL position"))?;
                self.received = self.received.max(Lsn(end));
                Ok(Some(WalEvent::Data { at, data }))
            }
            // The end of the server's log, the time, whether it wants an answer.
            b'k' => {
                let end = Lsn(data.try_get_u64().map_err(short)?);
                let time = data.try_get_i64().map_err(short)?;
                if data.try_get_u8().map_err(short)? != 0 {
                    self.status(false).await?;
                }
                Ok(Some(WalEvent::Quiet { end, time }))
            }
            _ => Err(malformed("WAL from the server: a message of an unknown kind").into()),
        }
    }

    /// The server says at once how it goes on.
    async fn end(&mut self) -> Result<WalEvent, WireError> {
        tokio::time::timeout(SILENCE, self.turn()).await.map_err(|_| silent())?
    }

    /// Which timeline comes next: the server knows, adding one would be a guess.
    async fn turn(&mut self) -> Result<WalEvent, WireError> {
        loop {
            match self.connection.frames.next().await? {
                Message::Columns(columns) => self.columns = columns,
                Message::Row(values) => {
                    let row = Row { columns: self.columns.clone(), values };
                    self.turn = Some(WalEvent::Turn {
                        next: row.need("next_tli")?,
                        at: row.need("next_tli_startpos")?,
                    });
                }
                Message::Error(error) => return Err(WireError::Server(error)),
                Message::Ready => {
                    // A server that is shut down ends the stream just so, without another timeline.
                    let closed = || {
                        std::io::Error::new(
                            std::io::ErrorKind::UnexpectedEof,
                            "the server ended the WAL stream",
                        )
                    };
                    return Ok(self.turn.take().ok_or_else(closed)?);
                }
                // The log that was on its way, and the end of the copy.
                _ => {}
            }
        }
    }

    /// Everything up to `durable` is stored: the server may forget it.
    pub(in super::super) async fn acknowledge(&mut self, durable: Lsn) -> SourceResult<()> {
        self.durable = self.durable.max(durable);
        if self.ending {
            return Ok(());
        }
        self.status(false)
            .await
            .map_err(|error| error.into_source("cannot confirm the stored WAL to the server"))
    }

    async fn status(&mut self, wants_answer: bool) -> Result<(), WireError> {
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        body.put_u64(self.received.max(self.durable).0);
        body.put_u64(self.durable.0);
        // Nothing is applied here. The time is for people only.
        body.put_u64(0);
        body.put_i64(0);
        body.put_u8(u8::from(wants_answer));
        let mut out = BytesMut::new();
        postgres_protocol::message::frontend::CopyData::new(&body[..])?.write(&mut out);
        self.connection.frames.send(&out).await?;
        self.told = Instant::now();
        Ok(())
    }
}

fn silent() -> WireError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the server no longer responds").into()
}
