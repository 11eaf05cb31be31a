//! What changed since an earlier backup, read by SQL: nothing of the cluster is read but that, and
//! files of which it cannot be told. The log that makes the files consistent is read from the
//! server behind it.

use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::source::{
    Chunking, Content, Entry, EntryPath, Item, Metadata, SourceError, SourceErrorKind, SourceResult,
};
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;

use super::super::changed::MainFile;
use super::super::cluster::Cluster;
use super::super::delta::{BLOCK, Delta, MOST};
use super::super::error::{malformed, of_sql};
use super::super::layout::Layout;
use super::super::lsn::Lsn;
use super::super::options::PostgresOptions;
use super::super::page;
use super::super::wire::{Connection, WalEvent, WalStream};
use super::feed::{Feed, chunking};
use super::fetch::Fetch;
use super::listing::Found;
use super::manifest::Manifest;
use super::thin::Thinning;

/// Most that is read at once,
const PIECE: u64 = 1 << 20;
/// and so much at a time.
const AT_ONCE: usize = 4;
/// A page that is being written is read again.
const TRIES: u32 = 5;
/// Before that.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// The last file that is read.
const CONTROL: &str = "global/pg_control";

const READING: &str = "cannot read the data directory";

/// Reads and hands on.
pub(super) struct Fetcher<'a> {
    pub(super) cx: &'a Context,
    pub(super) cluster: &'a Cluster,
    pub(super) options: &'a PostgresOptions,
    pub(super) feed: &'a Feed,
    pub(super) layout: Layout,
    pub(super) thinning: Thinning,
    /// What files and directories are like: those of the earlier backup.
    pub(super) like: Metadata,
    pub(super) fetch: Fetch,
    pub(super) manifest: Manifest,
    pub(super) damage: Vec<String>,
}

impl Fetcher<'_> {
    /// Hands everything on; returns where the backup ends.
    pub(super) async fn run(mut self) -> SourceResult<Lsn> {
        let found = std::mem::take(&mut self.fetch.found);
        self.directory(String::new()).await?;
        for one in &found {
            self.cx.check_cancelled()?;
            match one.is_dir {
                true => self.directory(one.path.clone()).await?,
                false if one.path != CONTROL => self.file(one).await?,
                false => {}
            }
        }
        self.directory("pg_wal/archive_status".to_owned()).await?;
        let control = found.iter().find(|one| one.path == CONTROL);
        self.file(control.ok_or_else(|| malformed("data directory: pg_control is missing"))?)
            .await?;
        let end = self.stop().await?;
        self.log(end).await?;
        let now = self.cx.clock.now();
        let text = std::mem::take(&mut self.manifest).text(
            self.cluster,
            (self.fetch.from, end),
            self.fetch.timeline,
        );
        self.feed
            .whole(
                self.layout.manifest(),
                self.metadata(0, now),
                Chunking::ContentDefined,
                text.into(),
            )
            .await?;
        if !self.damage.is_empty() {
            let text = format!("{}\n", self.damage.join("\n"));
            self.feed
                .whole(
                    self.layout.damage(),
                    Metadata::stream(now),
                    Chunking::default(),
                    text.into(),
                )
                .await?;
        }
        Ok(end)
    }

    fn metadata(&self, size: u64, modified: Timestamp) -> Metadata {
        Metadata { size, mtime: modified, ..self.like.clone() }
    }

    /// Where something lies in the snapshot: what belongs to a tablespace elsewhere, or in the data
    /// directory.
    fn place(&self, path: &str) -> SourceResult<EntryPath> {
        let of_tablespace = path.strip_prefix("pg_tblspc/").and_then(|rest| {
            let (oid, inside) = rest.split_once('/').unwrap_or((rest, ""));
            let oid = oid.parse().ok().filter(|oid| self.fetch.tablespaces.contains_key(oid))?;
            Some((self.layout.tablespace(oid), inside))
        });
        let (top, inside) = of_tablespace.unwrap_or_else(|| (self.layout.base(), path));
        let path = if inside.is_empty() {
            Some(top)
        } else {
            EntryPath::new([top.as_bytes(), b"/", inside.as_bytes()].concat())
        };
        path.ok_or_else(|| malformed("path in the data directory"))
    }

    async fn directory(&mut self, path: String) -> SourceResult<()> {
        let mode = if self.like.mode & 0o040 == 0 { 0o700 } else { 0o750 };
        let plain = Metadata::directory(self.cx.clock.now());
        let metadata = Metadata { mode, uid: self.like.uid, gid: self.like.gid, ..plain };
        let path = self.place(&path)?;
        self.feed
            .item(Item::Entry(Entry {
                path,
                metadata,
                content: Content::Empty,
                chunking: Chunking::default(),
            }))
            .await
    }

    async fn file(&mut self, found: &Found) -> SourceResult<()> {
        let Some(written) = self.write(found).await? else { return Ok(()) };
        self.manifest.add(&written.path, written.size, found.modified, written.crc)?;
        for message in written.damage {
            self.warn(message).await?;
        }
        Ok(())
    }

    /// Hands on a file, or of it what changed. One that is gone by now is left out: the log tells
    /// of it.
    async fn write(&self, found: &Found) -> SourceResult<Option<Written>> {
        let path = &*found.path;
        let delta = self.thinning.delta(path.as_bytes(), found.size);
        let ranges =
            delta.as_ref().map_or_else(|| pieces(found.size), |delta| runs(delta.numbers()));
        let reading = futures::stream::iter(ranges).map(|(at, len)| self.piece(path, at, len));
        let mut reading = std::pin::pin!(reading.buffered(AT_ONCE).peekable());
        if let Some(Ok(None)) = reading.as_mut().peek().await {
            return Ok(None);
        }
        let stored = delta
            .as_ref()
            .map_or_else(|| path.as_bytes().to_vec(), |_| Delta::path_of(path.as_bytes()));
        let stored =
            String::from_utf8(stored).map_err(|_| malformed("path in the data directory"))?;
        let size = delta.as_ref().map_or(found.size, Delta::size);
        let (place, metadata) = (self.place(&stored)?, self.metadata(size, found.modified));
        let how = chunking(stored.as_bytes(), stored.starts_with("pg_tblspc/"));
        let mut growing = self.feed.begin(place, metadata, how, Some(size)).await?;
        let head = Bytes::from(delta.as_ref().map(Delta::head).unwrap_or_default());
        let mut written =
            Written { path: stored, size, crc: crc32c::crc32c(&head), damage: Vec::new() };
        let mut result = growing.push(head).await;
        while let (Ok(()), Some(piece)) = (&result, reading.next().await) {
            result = match piece {
                Ok(piece) => {
                    let Piece { data, damage } = piece.unwrap_or_default();
                    written.crc = crc32c::crc32c_append(written.crc, &data);
                    written.damage.extend(damage);
                    growing.push(data).await
                }
                Err(error) => Err(error),
            };
        }
        if let Err(error) = result {
            growing.break_off(&error).await;
            return Err(error);
        }
        self.feed.end(growing).await?;
        Ok(Some(written))
    }

    /// A piece of a file; what is not there any more, or not yet, is zeros. None if the file is not
    /// there.
    async fn piece(&self, path: &str, at: u64, len: u64) -> SourceResult<Option<Piece>> {
        let mut tries = 0;
        loop {
            let Some(data) = self.read(path, at, len).await? else {
                return Ok(
                    (at > 0).then(|| Piece { data: vec![0; to_usize(len)].into(), damage: None })
                );
            };
            let damaged = self.damaged(path, at, &data);
            tries += 1;
            if damaged.is_some() && tries < TRIES {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let damage =
                damaged.map(|number| format!("invalid checksum in block {number} of {path}"));
            let mut data = data;
            data.resize(to_usize(len), 0);
            return Ok(Some(Piece { data: data.into(), damage }));
        }
    }

    async fn read(&self, path: &str, at: u64, len: u64) -> SourceResult<Option<Vec<u8>>> {
        let doing = |error| of_sql(&error, READING);
        let (at, len) = (at.cast_signed(), len.cast_signed());
        let row = self
            .fetch
            .sql
            .client
            .query_one(&self.fetch.read, &[&path, &at, &len])
            .await
            .map_err(doing)?;
        row.try_get(0).map_err(doing)
    }

    /// The first page of a relation's file whose checksum is wrong. Whatever was written since the
    /// backup began the log repairs.
    fn damaged(&self, path: &str, at: u64, data: &[u8]) -> Option<u64> {
        if !self.fetch.has_checksums {
            return None;
        }
        let first = u64::from(relation_segment(path)?) * u64::from(MOST);
        let pages = data.as_chunks::<{ BLOCK as usize }>().0.iter();
        (at / BLOCK..)
            .zip(pages)
            .find(|(number, page)| !page::is_sound(page, first + number, self.fetch.from))
            .map(|(number, _)| number)
    }

    async fn warn(&mut self, message: String) -> SourceResult<()> {
        let path = self.layout.base().display().into_owned();
        self.damage.push(message.clone());
        self.feed.item(Item::Warning(Warning { kind: WarningKind::Other, path, message })).await
    }

    /// The backup ends; the server says what its label is.
    async fn stop(&mut self) -> SourceResult<Lsn> {
        let stop = if self.cluster.version < 150_000 {
            "pg_stop_backup(false, false)"
        } else {
            "pg_backup_stop(false)"
        };
        let doing = |error| of_sql(&error, "cannot end the backup");
        let row = self
            .fetch
            .sql
            .client
            .query_one(&format!("SELECT lsn::text, labelfile, spcmapfile FROM {stop}"), &[])
            .await;
        let row = row.map_err(doing)?;
        let (end, label): (&str, &str) =
            (row.try_get(0).map_err(doing)?, row.try_get(1).map_err(doing)?);
        let map: Option<&str> = row.try_get(2).map_err(doing)?;
        let timeline = format!("START TIMELINE: {}", self.fetch.timeline);
        if !label.lines().any(|line| line == timeline) {
            let error = SourceError::new(
                SourceErrorKind::Unavailable,
                "the server changed its timeline during the backup",
            );
            return Err(error.with_hint("run the backup again"));
        }
        let label = format!("{label}{}", self.thinning.label());
        for (name, text) in
            [("backup_label", Some(&*label)), ("tablespace_map", map.filter(|map| !map.is_empty()))]
        {
            let Some(text) = text else { continue };
            let (now, bytes) = (self.cx.clock.now(), Bytes::copy_from_slice(text.as_bytes()));
            self.manifest.add(name, bytes.len() as u64, now, crc32c::crc32c(&bytes))?;
            let metadata = self.metadata(bytes.len() as u64, now);
            self.feed.whole(self.place(name)?, metadata, Chunking::ContentDefined, bytes).await?;
        }
        end.parse()
    }

    /// The log from the beginning of the backup to its end, in whole segments.
    async fn log(&mut self, end: Lsn) -> SourceResult<()> {
        let doing = "cannot read the WAL";
        let segments = self.cluster.segments;
        let connected = Connection::to(self.options, &self.fetch.sql.host).await;
        let mut connection = connected.map_err(|error| error.into_source(doing))?;
        self.cluster.require_same(&mut connection).await?;
        let mut at = segments.floor(self.fetch.from);
        let begun = WalStream::start(connection, None, self.fetch.timeline, at).await;
        let mut stream = begun.map_err(|error| error.into_source(doing))?;
        let mut waiting = Bytes::new();
        while at < end {
            let name = segments.name(self.fetch.timeline, segments.number(at));
            let path = format!("pg_wal/{name}");
            let metadata = self.metadata(segments.size(), self.cx.clock.now());
            let how = chunking(path.as_bytes(), false);
            let mut growing =
                self.feed.begin(self.place(&path)?, metadata, how, Some(segments.size())).await?;
            let next = segments.start(segments.number(at) + 1);
            while at < next.min(end) {
                if waiting.is_empty() {
                    waiting = match self.more(&mut stream, at).await {
                        Ok(data) => data,
                        Err(error) => {
                            growing.break_off(&error).await;
                            return Err(error);
                        }
                    };
                }
                let piece = waiting.split_to(to_usize(next.min(end).0 - at.0).min(waiting.len()));
                at.0 += piece.len() as u64;
                growing.push(piece).await?;
            }
            growing.push(vec![0; to_usize(next.0 - at.0)].into()).await?;
            self.feed.end(growing).await?;
        }
        Ok(())
    }

    /// The log from `from` on, as much as comes at once.
    async fn more(&self, stream: &mut WalStream, from: Lsn) -> SourceResult<Bytes> {
        loop {
            self.cx.check_cancelled()?;
            match stream.next().await.map_err(|error| error.into_source("cannot read the WAL"))? {
                WalEvent::Data { at, data } if at == from => return Ok(data),
                WalEvent::Quiet { .. } => {}
                _ => return Err(malformed("WAL from the server: not contiguous")),
            }
        }
    }
}

/// What was handed on.
struct Written {
    path: String,
    size: u64,
    crc: u32,
    damage: Vec<String>,
}

/// What was read.
#[derive(Debug, Default)]
struct Piece {
    data: Bytes,
    damage: Option<String>,
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// Which of the files of a relation it is, of any fork.
fn relation_segment(path: &str) -> Option<u32> {
    let (dir, name) = path.rsplit_once('/')?;
    let (name, segment) = name.split_once('.').unwrap_or((name, "0"));
    let number = name.split('_').next().unwrap_or_default();
    let main = format!(
        "{dir}/{number}{}",
        if segment == "0" { String::new() } else { format!(".{segment}") }
    );
    MainFile::of(main.as_bytes()).map(|file| file.segment)
}

/// A whole file.
fn pieces(size: u64) -> Vec<(u64, u64)> {
    (0..size.div_ceil(PIECE))
        .map(|piece| (piece * PIECE, PIECE.min(size - piece * PIECE)))
        .collect()
}

/// Blocks side by side, as bytes of their file.
fn runs(numbers: &[u32]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        let at = u64::from(*number) * BLOCK;
        match runs.last_mut() {
            Some((begin, len)) if *begin + *len == at && *len < PIECE => *len += BLOCK,
            _ => runs.push((at, BLOCK)),
        }
    }
    runs
}
