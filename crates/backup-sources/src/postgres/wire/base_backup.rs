//! BASE_BACKUP: the files of a cluster as the server sends them. Until 14 each tablespace comes as
//! a copy of its own and the manifest as the last one; from 15 on everything comes in one, and each
//! message says by a letter what it is.

use backup_core::source::SourceResult;
use bytes::{Buf as _, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use postgres_protocol::message::frontend::{self, CopyData};

use super::super::error::{ServerError, WireError, code, malformed};
use super::super::lsn::Lsn;
use super::connection::{Connection, Row};
use super::frame::Message;

/// Bounds of MAX_RATE, in KiB per second.
const RATES: std::ops::RangeInclusive<u64> = 32..=1_048_576;

/// Most that one message carries.
const PIECE: usize = 64 << 10;

/// How a backup is asked for.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct BaseBackup {
    pub(in super::super) fast_checkpoint: bool,
    pub(in super::super) max_bytes_per_second: Option<u64>,
    /// Only what changed since the backup whose manifest was uploaded.
    pub(in super::super) incremental: bool,
}

/// A directory outside of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Tablespace {
    pub(in super::super) oid: u32,
    pub(in super::super) location: String,
}

/// What comes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum BackupEvent {
    /// An archive begins: of a tablespace, or of the data directory. The one before is complete.
    Archive(Option<Tablespace>),
    /// The manifest begins. The archive before is complete.
    Manifest,
    /// Bytes of what began last.
    Data(Bytes),
    /// What began last is complete.
    Complete,
    /// The server remarks something.
    Notice(ServerError),
    /// All is sent, but pages were found damaged.
    Damaged(ServerError),
    /// The backup is consistent from here on, on this timeline.
    End(Lsn, u32),
}

/// A connection that sends a backup.
#[derive(Debug)]
pub(in super::super) struct BackupStream {
    connection: Connection,
    /// Of all archives, in the order in which they come.
    archives: Vec<Option<Tablespace>>,
    /// Until 14: how many copies have begun.
    copies: usize,
    columns: Vec<String>,
    end: Option<(Lsn, u32)>,
}

impl Connection {
    /// Tells the server what an earlier backup holds: from 17 on it sends then what changed since.
    /// `manifest` is that one's own (`backup_manifest`).
    pub(in super::super) async fn upload_manifest(
        &mut self,
        mut manifest: BoxStream<'_, SourceResult<Bytes>>,
    ) -> Result<(), WireError> {
        self.send_query("UPLOAD_MANIFEST").await?;
        loop {
            match self.frames.next().await? {
                Message::CopyIn => break,
                Message::Error(error) => return Err(WireError::Server(error)),
                Message::Notice(_) | Message::Parameter(..) | Message::Other => {}
                _ => return Err(malformed("reply to UPLOAD_MANIFEST").into()),
            }
        }
        let mut out = BytesMut::new();
        while let Some(piece) = manifest.next().await {
            for piece in piece?.chunks(PIECE) {
                CopyData::new(piece)?.write(&mut out);
                self.frames.send(&out.split()).await?;
            }
        }
        frontend::copy_done(&mut out);
        self.frames.send(&out).await?;
        let mut failed = None;
        loop {
            let message = match (self.frames.next().await, &failed) {
                // Behind a fatal error nothing comes.
                (Err(_), Some(_)) => Message::Ready,
                (message, _) => message?,
            };
            match message {
                Message::Error(error) => failed = Some(error),
                Message::Ready => {
                    return failed.map_or(Ok(()), |error| Err(WireError::Server(error)));
                }
                Message::Complete
                | Message::Notice(_)
                | Message::Parameter(..)
                | Message::Other => {}
                _ => return Err(malformed("reply to the uploaded manifest").into()),
            }
        }
    }
}

impl BackupStream {
    /// Begins a backup: from where on the log is needed, and the tablespaces.
    pub(in super::super) async fn start(
        mut connection: Connection,
        request: BaseBackup,
    ) -> Result<(Self, Lsn, u32), WireError> {
        let command = command(connection.major(), request);
        connection.send_query(&command).await?;
        let mut stream =
            Self { connection, archives: Vec::new(), copies: 0, columns: Vec::new(), end: None };
        let mut begin = None;
        let mut results = 0;
        while results < 2 {
            match stream.connection.frames.next().await? {
                Message::Columns(columns) => stream.columns = columns,
                Message::Row(values) => {
                    let row = Row { columns: stream.columns.clone(), values };
                    if results == 0 {
                        begin = Some((row.need("recptr")?, row.need("tli")?));
                    } else {
                        stream.archives.push(tablespace(&row)?);
                    }
                }
                Message::Complete => results += 1,
                Message::Error(error) => return Err(WireError::Server(error)),
                Message::Notice(_) | Message::Parameter(..) | Message::Other => {}
                _ => return Err(malformed("reply to BASE_BACKUP").into()),
            }
        }
        let (from, timeline) = begin.ok_or_else(|| malformed("start position of the backup"))?;
        Ok((stream, from, timeline))
    }

    /// The directories outside of the data directory.
    pub(in super::super) fn tablespaces(&self) -> Vec<Tablespace> {
        self.archives.iter().flatten().cloned().collect()
    }

    /// The next event; none after the end. May be dropped while it waits.
    pub(in super::super) async fn next(&mut self) -> Result<Option<BackupEvent>, WireError> {
        loop {
            let message = self.connection.frames.next().await?;
            return Ok(Some(match message {
                Message::CopyOut if self.connection.major() < 15 => {
                    self.copies += 1;
                    match self.archives.get(self.copies - 1) {
                        Some(archive) => BackupEvent::Archive(archive.clone()),
                        None => BackupEvent::Manifest,
                    }
                }
                Message::CopyData(data) if self.connection.major() < 15 => BackupEvent::Data(data),
                Message::CopyData(data) => match self.labelled(data)? {
                    Some(event) => event,
                    None => continue,
                },
                Message::CopyDone => BackupEvent::Complete,
                Message::Columns(columns) => {
                    self.columns = columns;
                    continue;
                }
                Message::Row(values) => {
                    let row = Row { columns: self.columns.clone(), values };
                    self.end = Some((row.need("recptr")?, row.need("tli")?));
                    continue;
                }
                Message::Notice(notice) => BackupEvent::Notice(notice),
                // It comes last: everything was sent.
                Message::Error(error)
                    if error.code == code::DATA_CORRUPTED && self.end.is_some() =>
                {
                    BackupEvent::Damaged(error)
                }
                Message::Error(error) => return Err(WireError::Server(error)),
                Message::Ready => match self.end.take() {
                    Some((end, timeline)) => BackupEvent::End(end, timeline),
                    None => return Ok(None),
                },
                Message::CopyOut | Message::Complete | Message::Parameter(..) | Message::Other => {
                    continue;
                }
                _ => return Err(malformed("backup from the server").into()),
            }));
        }
    }

    fn labelled(&self, mut data: Bytes) -> Result<Option<BackupEvent>, WireError> {
        let bad = || malformed("message in the backup from the server");
        Ok(match data.try_get_u8().map_err(|_| bad())? {
            b'd' => Some(BackupEvent::Data(data)),
            b'm' => Some(BackupEvent::Manifest),
            b'n' => {
                let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
                let name = std::str::from_utf8(name).map_err(|_| bad())?;
                let oid = name.strip_suffix(".tar").ok_or_else(bad)?;
                let tablespace =
                    self.archives.iter().flatten().find(|one| one.oid.to_string() == oid);
                match tablespace {
                    Some(tablespace) => Some(BackupEvent::Archive(Some(tablespace.clone()))),
                    None if oid == "base" => Some(BackupEvent::Archive(None)),
                    None => return Err(bad().into()),
                }
            }
            // Progress.
            b'p' => None,
            _ => return Err(bad().into()),
        })
    }
}

fn tablespace(row: &Row) -> Result<Option<Tablespace>, WireError> {
    if row.get("spcoid").is_none() {
        return Ok(None);
    }
    Ok(Some(Tablespace { oid: row.need("spcoid")?, location: row.need("spclocation")? }))
}

/// The log that makes the files consistent comes with them; its archiver is not waited for.
fn command(major: u32, request: BaseBackup) -> String {
    let rate = request
        .max_bytes_per_second
        .map(|bytes| (bytes / 1024).clamp(*RATES.start(), *RATES.end()));
    if major < 15 {
        let fast = if request.fast_checkpoint { " FAST" } else { "" };
        let rate = rate.map(|rate| format!(" MAX_RATE {rate}")).unwrap_or_default();
        return format!(
            "BASE_BACKUP LABEL 'backup'{fast} WAL NOWAIT{rate} TABLESPACE_MAP MANIFEST 'yes'"
        );
    }
    let checkpoint = if request.fast_checkpoint { "fast" } else { "spread" };
    let rate = rate.map(|rate| format!(", MAX_RATE {rate}")).unwrap_or_default();
    let incremental = if request.incremental { ", INCREMENTAL" } else { "" };
    format!(
        "BASE_BACKUP (LABEL 'backup', CHECKPOINT '{checkpoint}', WAL true, WAIT false, \
         TABLESPACE_MAP true, MANIFEST 'yes'{incremental}{rate})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dialects() {
        let slow = BaseBackup {
            fast_checkpoint: false,
            max_bytes_per_second: Some(1),
            incremental: false,
        };
        let fast = BaseBackup {
            fast_checkpoint: true,
            max_bytes_per_second: Some(10 << 20),
            incremental: true,
        };
        assert!(
            command(14, fast)
                .starts_with("BASE_BACKUP LABEL 'backup' FAST WAL NOWAIT MAX_RATE 10240 ")
        );
        assert!(command(13, slow).contains("'backup' WAL NOWAIT MAX_RATE 32 "));
        assert!(
            command(15, fast).contains("CHECKPOINT 'fast'")
                && command(18, slow).contains("'yes', MAX_RATE 32)")
        );
        assert!(command(17, fast).contains("'yes', INCREMENTAL, MAX_RATE 10240)"));
    }
}
