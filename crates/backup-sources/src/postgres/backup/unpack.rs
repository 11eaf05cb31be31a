//! From the server's archives to entries, while they come.

use std::collections::BTreeSet;

use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::source::{
    Chunking, Content, Entry, EntryPath, Item, Metadata, SourceError, SourceErrorKind, SourceResult,
};
use bytes::Bytes;

use super::super::delta::Delta;
use super::super::error::{ServerError, WireError, malformed};
use super::super::layout::{Layout, Segments};
use super::super::lsn::Lsn;
use super::super::wire::{BackupEvent, BackupStream, Tablespace};
use super::feed::{Feed, Growing, chunking, metadata};
use super::sums::Sums;
use super::tar::{Header, Kind, Piece, Tar};
use super::thin::{Instead, Thinning};

/// Takes a backup apart.
pub(super) struct Unpacker {
    feed: Feed,
    layout: Layout,
    segments: Segments,
    /// If only what changed is taken, of files that come in full.
    thinning: Option<Thinning>,
    sums: Sums,
    tar: Tar,
    /// What is being sent.
    part: Part,
    file: Option<File>,
    /// Whether the archive's own directory was handed on.
    rooted: bool,
    /// Segments of the log that came with it.
    log: BTreeSet<(u32, u64)>,
    /// What the server said of damaged pages.
    warnings: Vec<String>,
    /// Files that the server skipped: links and special files.
    skipped: Vec<String>,
}

#[derive(Debug, Clone)]
enum Part {
    None,
    Archive(Option<Tablespace>),
    Manifest,
}

/// The file that is being sent.
struct File {
    /// Its path in the manifest.
    listed: Vec<u8>,
    size: u64,
    crc: u32,
    growing: Growing,
    /// What is stored instead of it.
    instead: Option<Instead>,
}

impl Unpacker {
    pub(super) fn new(
        feed: Feed,
        layout: Layout,
        segments: Segments,
        thinning: Option<Thinning>,
    ) -> Self {
        Self {
            feed,
            layout,
            segments,
            thinning,
            sums: Sums::default(),
            tar: Tar::default(),
            part: Part::None,
            file: None,
            rooted: false,
            log: BTreeSet::new(),
            warnings: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Hands everything on that `stream` sends; returns where the backup ends, and the files that
    /// the server skipped. `from` on `timeline` is where it begins.
    pub(super) async fn run(
        mut self,
        cx: &Context,
        mut stream: BackupStream,
        from: Lsn,
        timeline: u32,
    ) -> SourceResult<(Lsn, Vec<String>)> {
        let taken = self.take_all(cx, &mut stream).await;
        if let (Err(error), Some(file)) = (&taken, self.file.take()) {
            file.growing.break_off(error).await;
        }
        let (end, ended_on) = taken?;
        self.sums.finish()?;
        same_timeline(timeline, ended_on)?;
        self.require_log(from, end, timeline)?;
        self.report_damage(cx).await?;
        Ok((end, self.skipped))
    }

    async fn take_all(
        &mut self,
        cx: &Context,
        stream: &mut BackupStream,
    ) -> SourceResult<(Lsn, u32)> {
        let mut end = None;
        loop {
            let event = tokio::select! {
                () = cx.cancel.cancelled() => return Err(SourceError::cancelled()),
                event = stream.next() => event.map_err(broken)?,
            };
            match event {
                Some(BackupEvent::Archive(archive)) => self.archive(archive).await?,
                Some(BackupEvent::Manifest) => self.manifest(cx).await?,
                Some(BackupEvent::Data(data)) => self.data(data).await?,
                Some(BackupEvent::Complete) => self.complete().await?,
                Some(BackupEvent::Notice(notice)) => self.notice(cx, &notice).await?,
                Some(BackupEvent::Damaged(error)) => self.warn(error.to_string()).await?,
                Some(BackupEvent::End(lsn, timeline)) => {
                    end = Some((lsn, timeline));
                    break;
                }
                None => break,
            }
        }
        end.ok_or_else(|| malformed("backup from the server: its end is missing"))
    }

    async fn archive(&mut self, archive: Option<Tablespace>) -> SourceResult<()> {
        self.complete().await?;
        (self.part, self.rooted) = (Part::Archive(archive), false);
        Ok(())
    }

    async fn manifest(&mut self, cx: &Context) -> SourceResult<()> {
        self.complete().await?;
        self.part = Part::Manifest;
        let path = self.layout.manifest();
        let growing = self
            .feed
            .begin(path, Metadata::stream(cx.clock.now()), Chunking::ContentDefined, None)
            .await?;
        self.file = Some(File { listed: Vec::new(), size: 0, crc: 0, growing, instead: None });
        Ok(())
    }

    /// What was being sent is complete.
    async fn complete(&mut self) -> SourceResult<()> {
        match std::mem::replace(&mut self.part, Part::None) {
            Part::None => Ok(()),
            Part::Archive(_) => std::mem::take(&mut self.tar).finish(),
            Part::Manifest => match self.file.take() {
                Some(file) => self.feed.end(file.growing).await,
                None => Ok(()),
            },
        }
    }

    async fn data(&mut self, mut data: Bytes) -> SourceResult<()> {
        match &self.part {
            Part::None => Err(malformed("backup from the server: data outside of a file")),
            Part::Manifest => {
                let own = self.sums.manifest(&data)?;
                match &mut self.file {
                    Some(file) => file.growing.push(own.into()).await,
                    None => Ok(()),
                }
            }
            Part::Archive(_) => {
                while let Some(piece) = self.tar.next(&mut data)? {
                    match piece {
                        Piece::Header(header) => self.entry(header).await?,
                        Piece::Data(data) => self.file_data(data).await?,
                        Piece::End => self.file_end().await?,
                    }
                }
                Ok(())
            }
        }
    }

    async fn file_data(&mut self, data: Bytes) -> SourceResult<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.crc = crc32c::crc32c_append(file.crc, &data);
        let Some(instead) = &mut file.instead else { return file.growing.push(data).await };
        for piece in instead.take(&data) {
            file.growing.push(piece).await?;
        }
        Ok(())
    }

    async fn file_end(&mut self) -> SourceResult<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.sums.add(&file.listed, file.size, file.crc);
        if let Some(instead) = &mut file.instead {
            file.growing.push(instead.tail()).await?;
            self.sums.instead(
                &file.listed,
                instead.is_part(),
                instead.size(file.size),
                instead.crc(),
            );
        }
        match self.file.take() {
            Some(file) => self.feed.end(file.growing).await,
            None => Ok(()),
        }
    }

    async fn entry(&mut self, header: Header) -> SourceResult<()> {
        let mut name = header.name.strip_prefix(b"./").unwrap_or(&header.name).to_vec();
        let tablespace = match &self.part {
            Part::Archive(Some(tablespace)) => Some(tablespace.clone()),
            _ => None,
        };
        let (mut path, listed) = self.place(&name, tablespace.as_ref())?;
        let mut metadata = metadata(&header);
        if !std::mem::replace(&mut self.rooted, true) {
            self.top(&metadata, tablespace.as_ref()).await?;
        }
        if header.kind != Kind::File {
            let entry =
                Entry { path, metadata, content: Content::Empty, chunking: Chunking::default() };
            return self.feed.item(Item::Entry(entry)).await;
        }
        if let Some(name) = name.strip_prefix(b"pg_wal/") {
            self.log
                .extend(std::str::from_utf8(name).ok().and_then(|name| self.segments.parse(name)));
        }
        let mut instead =
            self.thinning.as_ref().and_then(|thinning| thinning.instead(&listed, header.size));
        if let Some(instead) = &instead {
            metadata.size = instead.size(header.size);
            if instead.is_part() {
                let part = EntryPath::new(Delta::path_of(path.as_bytes()));
                path = part.ok_or_else(|| malformed("path in the backup from the server"))?;
                name = Delta::path_of(&name);
            }
        }
        let chunking = chunking(&name, tablespace.is_some());
        let mut growing =
            self.feed.begin(path, metadata.clone(), chunking, Some(metadata.size)).await?;
        if let Some(instead) = &mut instead {
            growing.push(instead.head()).await?;
        }
        self.file = Some(File { listed, size: header.size, crc: 0, growing, instead });
        Ok(())
    }

    /// The directory that an archive is of has no entry in it: it belongs to whoever its first file
    /// does.
    async fn top(&self, first: &Metadata, tablespace: Option<&Tablespace>) -> SourceResult<()> {
        let path = tablespace.map_or_else(|| self.layout.base(), |one| self.top_of_tablespace(one));
        let mode = if first.mode & 0o040 == 0 { 0o700 } else { 0o750 };
        let metadata =
            Metadata { mode, uid: first.uid, gid: first.gid, ..Metadata::directory(first.mtime) };
        self.feed
            .item(Item::Entry(Entry {
                path,
                metadata,
                content: Content::Empty,
                chunking: Chunking::default(),
            }))
            .await
    }

    /// One that lies in the data directory, as the server's own tests have it, stays there.
    fn top_of_tablespace(&self, tablespace: &Tablespace) -> EntryPath {
        if tablespace.location.starts_with('/') {
            return self.layout.tablespace(tablespace.oid);
        }
        self.layout.base().join(b"pg_tblspc").join(tablespace.oid.to_string().as_bytes())
    }

    /// Where an entry lies in the snapshot, and what it is called in the manifest.
    fn place(
        &self,
        name: &[u8],
        tablespace: Option<&Tablespace>,
    ) -> SourceResult<(EntryPath, Vec<u8>)> {
        let (top, listed) = match tablespace {
            None => (self.layout.base(), name.to_vec()),
            Some(tablespace) => {
                let inside = format!("pg_tblspc/{}/", tablespace.oid);
                let top = self.top_of_tablespace(tablespace);
                (top, [inside.as_bytes(), name].concat())
            }
        };
        let path = [top.as_bytes(), b"/", name].concat();
        let path = EntryPath::new(path).filter(|path| path.starts_with(&top));
        Ok((path.ok_or_else(|| malformed("path in the backup from the server"))?, listed))
    }

    /// Warnings are about damaged pages, or about files that are skipped.
    async fn notice(&mut self, cx: &Context, notice: &ServerError) -> SourceResult<()> {
        if notice.code.starts_with("00") {
            cx.events.note(notice.message.clone());
            return Ok(());
        }
        // The only warning of the function that walks through directories.
        let skipped = (notice.routine.as_deref() == Some("sendDir"))
            .then(|| notice.message.split_once("./"))
            .flatten();
        if let Some((_, path)) = skipped {
            self.skipped.push(path.trim_end_matches(is_quote).to_owned());
            return Ok(());
        }
        self.warn(notice.to_string()).await
    }

    async fn warn(&mut self, message: String) -> SourceResult<()> {
        self.warnings.push(message.clone());
        let path = self.layout.base().display().into_owned();
        self.feed.item(Item::Warning(Warning { kind: WarningKind::Other, path, message })).await
    }

    /// Without every byte of it the files never become consistent.
    fn require_log(&self, from: Lsn, end: Lsn, timeline: u32) -> SourceResult<()> {
        let last = self.segments.number(Lsn(end.0.saturating_sub(1)));
        for number in self.segments.number(from)..=last {
            if !self.log.contains(&(timeline, number)) {
                let name = self.segments.name(timeline, number);
                let text = format!("the server did not send WAL segment {name} with the backup");
                return Err(SourceError::new(SourceErrorKind::Unavailable, text)
                    .with_hint("run the backup again"));
            }
        }
        Ok(())
    }

    /// Marks the snapshot.
    async fn report_damage(&mut self, cx: &Context) -> SourceResult<()> {
        if self.warnings.is_empty() {
            return Ok(());
        }
        let text = format!("{}\n", self.warnings.join("\n"));
        let metadata = Metadata::stream(cx.clock.now());
        self.feed.whole(self.layout.damage(), metadata, Chunking::default(), text.into()).await
    }
}

/// Messages put names in the quotes of their language.
fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '«' | '»' | '“' | '”' | '„' | '’' | '\u{a0}') || c.is_whitespace()
}

/// A standby that follows its primary to another timeline meanwhile says nothing of it: where the
/// backup ends would be taken for a place on the timeline on which it began.
fn same_timeline(began: u32, ended: u32) -> SourceResult<()> {
    if began == ended {
        return Ok(());
    }
    let text =
        format!("the server changed its timeline during the backup, from {began} to {ended}");
    Err(SourceError::new(SourceErrorKind::Unavailable, text).with_hint("run the backup again"))
}

fn broken(error: WireError) -> SourceError {
    use super::super::error::code::NOT_IN_PREREQUISITE_STATE;
    let promoted = error.code() == Some(NOT_IN_PREREQUISITE_STATE);
    let error = error.into_source("the backup failed");
    if promoted {
        error.with_hint("run the backup again: the standby was promoted during the backup")
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_stays_on_its_timeline() {
        assert!(same_timeline(3, 3).is_ok());
        let error = same_timeline(3, 4).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Unavailable);
        assert!(error.chain().contains("changed its timeline during the backup"));
    }
}
