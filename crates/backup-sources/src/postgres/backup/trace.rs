//! What changed since an earlier backup, by the log between the two: the beginning of it is in the
//! earlier backup, what follows in the repository as far as it was captured, and the rest the
//! server still has.
//!
//! The log is read record by record with their checksums, and each must follow the one before it.
//! Whatever is missing, damaged or not known is a reason for a full backup.

use backup_core::context::Context;
use backup_core::log::{LogPart, LogView, Position};
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use futures::StreamExt as _;

use super::super::changed::Changed;
use super::super::cluster::Cluster;
use super::super::error::{invalid, malformed};
use super::super::layout::Segments;
use super::super::lsn::Lsn;
use super::super::options::{Host, PostgresOptions};
use super::super::wal::{Change, KNOWN, Records, changes};
use super::super::wire::{Connection, WalEvent, WalStream};
use super::earlier::Earlier;

/// The server says so often that it has nothing more, before it is believed.
const QUIET: u32 = 2;

/// The log that was read so far.
pub(super) struct Trace<'a> {
    cx: &'a Context,
    cluster: &'a Cluster,
    options: &'a PostgresOptions,
    earlier: &'a Earlier,
    records: Records,
    changed: Changed,
}

impl<'a> Trace<'a> {
    /// Reads what the repository has; `Err` within says why it cannot be told what changed.
    pub(super) async fn begin(
        cx: &'a Context,
        cluster: &'a Cluster,
        options: &'a PostgresOptions,
        earlier: &'a Earlier,
    ) -> SourceResult<Result<Self, String>> {
        let major = cluster.version / 10_000;
        if !KNOWN.contains(&major) {
            return Ok(Err(format!("the WAL format of PostgreSQL {major} is unknown")));
        }
        let records = Records::new(cluster.segments, earlier.start());
        let mut trace =
            Self { cx, cluster, options, earlier, records, changed: Changed::default() };
        let read = async {
            trace.read_earlier().await?;
            trace.read_repository().await
        };
        let read = read.await;
        Ok(reason(read)?.map(|()| trace))
    }

    /// Reads the rest, up to where a backup on `host` begins, and returns what changed; `Err`
    /// within says why that cannot be told.
    pub(super) async fn up_to(
        mut self,
        (to, timeline): (Lsn, u32),
        host: &Host,
    ) -> SourceResult<Result<Changed, String>> {
        if timeline != self.earlier.timeline() || to < self.earlier.start() {
            return Ok(Err("the earlier snapshot is on another timeline".to_owned()));
        }
        let read = self.read_server(to, host).await.and_then(|()| match self.records.within() {
            Some(from) if from < to => {
                Err(malformed(format!("WAL: the backup begins within the record at {from}")))
            }
            _ => Ok(()),
        });
        Ok(reason(read)?.map(|()| self.changed))
    }

    /// The log that makes the earlier backup consistent is in it.
    async fn read_earlier(&mut self) -> SourceResult<()> {
        let (segments, end) = (self.cluster.segments, self.earlier.end());
        while self.records.at() < end {
            let number = segments.number(self.records.at());
            let name = segments.name(self.earlier.timeline(), number);
            let mut content = self.earlier.segment(&name).await?;
            let mut at = segments.start(number);
            while let Some(piece) = content.next().await.transpose()? {
                self.cx.check_cancelled()?;
                self.take(at, &piece, end)?;
                at.0 += piece.len() as u64;
                // What follows in the file may never have been written.
                if self.records.at() >= end {
                    return Ok(());
                }
            }
            if self.records.at() < end.min(segments.start(number + 1)) {
                return Err(invalid(format!(
                    "segment {name} of the earlier snapshot is truncated"
                )));
            }
        }
        Ok(())
    }

    /// What was captured.
    async fn read_repository(&mut self) -> SourceResult<()> {
        let (indexed, stream) = (self.earlier.indexed(), self.cluster.stream());
        let from = Position::new(self.earlier.timeline().to_string(), self.records.at().0);
        let view = LogView::since(indexed.repository(), &stream, &from, self.cx).await?;
        let pieces = view.timeline().pieces(&from.branch, from.offset, u64::MAX);
        let mut tape = view.tape(indexed, &stream, &pieces, self.cx)?;
        while let Some(part) = tape.next().await? {
            if let Some(at) = place(self.cluster.segments, &part)? {
                self.take(at, &part.data, Lsn(u64::MAX))?;
            }
        }
        Ok(())
    }

    /// What was not captured yet, or what nobody captures.
    async fn read_server(&mut self, to: Lsn, host: &Host) -> SourceResult<()> {
        if self.records.at() >= to {
            return Ok(());
        }
        let doing = "cannot read the WAL";
        let connected = Connection::to(self.options, host).await;
        let mut connection = connected.map_err(|error| error.into_source(doing))?;
        self.cluster.require_same(&mut connection).await?;
        let begun =
            WalStream::start(connection, None, self.earlier.timeline(), self.records.at()).await;
        let mut stream = begun.map_err(|error| error.into_source(doing))?;
        let mut quiet = 0;
        while self.records.at() < to {
            self.cx.check_cancelled()?;
            match stream.next().await.map_err(|error| error.into_source(doing))? {
                WalEvent::Data { at, data } => {
                    quiet = 0;
                    self.take(at, &data, to)?;
                }
                WalEvent::Quiet { .. } if quiet < QUIET => quiet += 1,
                WalEvent::Quiet { .. } => return Err(missing(self.records.at())),
                WalEvent::Silent => {}
                WalEvent::Turn { at, .. } => {
                    return Err(invalid(format!("the server left the timeline at {at}")));
                }
            }
        }
        Ok(())
    }

    /// Notes what the log from `at` on says, up to `to`. What came already does not count.
    fn take(&mut self, at: Lsn, data: &[u8], to: Lsn) -> SourceResult<()> {
        let next = self.records.at();
        if at > next {
            return Err(missing(next));
        }
        let within =
            |place: Lsn| usize::try_from(place.0 - at.0).unwrap_or(usize::MAX).min(data.len());
        let data = &data[within(next)..within(to.max(next))];
        let (major, changed) = (self.cluster.version / 10_000, &mut self.changed);
        let mut trouble = None;
        self.records.read(data, |event, record| {
            let noted = changes(record, major, |change| match change {
                Change::Untold => {
                    trouble = Some("wal_level was minimal since the earlier snapshot".to_owned());
                }
                change => changed.note(change),
            });
            if let Err(what) = noted {
                trouble = Some(format!("the WAL has {what} at {}", event.from));
            }
        })?;
        match trouble {
            Some(trouble) => Err(invalid(trouble)),
            None if self.records.ended() => Err(missing(self.records.at())),
            None => Ok(()),
        }
    }
}

/// A failure is a reason for a full backup, unless nobody wants one any more.
fn reason(read: SourceResult<()>) -> SourceResult<Result<(), String>> {
    match read {
        Err(error) if error.kind() != SourceErrorKind::Cancelled => Ok(Err(error.chain())),
        read => read.map(Ok),
    }
}

fn missing(at: Lsn) -> SourceError {
    invalid(format!("the WAL is missing at {at}"))
}

/// Where the bytes of a part belong; `None` if it is of no segment.
fn place(segments: Segments, part: &LogPart) -> SourceResult<Option<Lsn>> {
    let bad = || malformed(format!("captured WAL: {} at {}", part.path, part.at));
    let name = part.path.rsplit('/').next().unwrap_or_default();
    // What lies behind a hole in a file stands beside it, with the place where it begins.
    let (name, begins) = name.split_once('@').unwrap_or((name, "0"));
    let Some((_, number)) = segments.parse(name) else { return Ok(None) };
    let begins: u64 = begins.parse().map_err(|_| bad())?;
    let within =
        part.at.checked_add(begins).filter(|at| at + part.data.len() as u64 <= segments.size());
    Ok(Some(Lsn(segments.start(number).0 + within.ok_or_else(bad)?)))
}
