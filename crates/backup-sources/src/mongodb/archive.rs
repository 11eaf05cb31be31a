//! Writing a snapshot as an archive that `mongorestore --archive` takes: brought to its moment,
//! without an oplog, one collection after the other.
//!
//! [`import`](super::import) describes the format. Readers require a last block for everything that
//! the beginning describes, also for views.

use std::collections::BTreeSet;
use std::io::Write;

use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{RawDocumentBuf, rawdoc};
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::catalog::Collection;
use super::dump::Dump;
use super::export::{ExportReport, ExportRequest, described, refuse_unmatched};
use super::fold::{Folded, Live};
use super::import::{END, new_sum};
use super::layout;
use super::namespace::{Filter, Namespace};
use super::output::encoder;
use super::raw::first_of;
use super::rename::Renames;
use super::server::unless_cancelled;
use super::synthetic::Spool;
use crate::foreign::MONGO_ARCHIVE;

/// Pieces that reading may be ahead of writing.
const AHEAD: usize = 16;

/// Writes the selected part of `snapshot` to `writer`, which comes back when all was written.
///
/// # Errors
/// As [`export()`](super::export()); a writer that does not come back holds no archive.
pub async fn export_archive<W: Write + Send + 'static>(
    cx: &Context,
    snapshot: &SnapshotReader,
    request: &ExportRequest,
    writer: W,
) -> SourceResult<(ExportReport, W)> {
    let dump = unless_cancelled(cx, Dump::open(cx, snapshot)).await?;
    let until = dump.moment(request.until).await?;
    let filter = Filter::new(&request.selection)?;
    let mut folded = unless_cancelled(cx, dump.fold(cx, until, &filter)).await?;
    refuse_unmatched(&folded, &filter, &request.renames)?;
    let spool = unless_cancelled(cx, Spool::fill(cx, &dump, &mut folded)).await?;
    let (sender, receiver) = channel(AHEAD);
    let is_gzip = request.is_gzip;
    let writing = tokio::task::spawn_blocking(move || write(receiver, writer, is_gzip));
    let mut archive = Archive { sender, report: ExportReport::default(), seen: BTreeSet::new() };
    let filled = archive.fill(cx, (&dump, &folded, &spool), &filter, &request.renames);
    let filled = filled.await;
    let report = archive.report;
    drop(archive);
    let ended = || SourceError::new(SourceErrorKind::Target, "writing ended unexpectedly");
    let written = writing.await.map_err(|_| ended())?;
    match (filled, written) {
        (Err(error), Ok(_)) => Err(error),
        (_, Err(Some(error))) => Err(error),
        (Err(error), Err(None)) => Err(error),
        (Ok(()), Err(None)) => Err(ended()),
        (Ok(()), Ok(writer)) => Ok((report, writer)),
    }
}

fn gone() -> SourceError {
    SourceError::new(SourceErrorKind::Target, "the archive is not written any more")
}

/// Writes pieces until the end, which is a message of its own; `None` as error if it never came.
fn write<W: Write>(
    mut pieces: Receiver<Option<Bytes>>,
    writer: W,
    is_gzip: bool,
) -> Result<W, Option<SourceError>> {
    let failed = |error: std::io::Error| {
        let error = SourceError::new(SourceErrorKind::Target, "cannot write the archive")
            .with_source(error);
        Some(error)
    };
    let mut copy = |out: &mut dyn Write| loop {
        match pieces.blocking_recv() {
            Some(Some(piece)) => out.write_all(&piece).map_err(failed)?,
            Some(None) => return Ok(()),
            None => return Err(None),
        }
    };
    if is_gzip {
        let mut encoder = encoder(writer);
        copy(&mut encoder)?;
        return encoder.finish().map_err(failed);
    }
    let mut writer = writer;
    copy(&mut writer)?;
    Ok(writer)
}

struct Archive {
    sender: Sender<Option<Bytes>>,
    report: ExportReport,
    seen: BTreeSet<Namespace>,
}

impl Archive {
    /// Everything that the filter covers, and the message that ends the archive.
    async fn fill(
        &mut self,
        cx: &Context,
        (dump, folded, spool): (&Dump, &Folded, &Spool),
        filter: &Filter,
        renames: &Renames,
    ) -> SourceResult<()> {
        let renamed = |collection: &Collection| {
            let namespace = renames.apply(&collection.namespace)?;
            SourceResult::Ok(Collection { namespace, ..collection.clone() })
        };
        let is_meant = |live: &&Live| !live.temporary && filter.covers(&live.collection.namespace);
        let live: Vec<&Live> = folded.live.iter().filter(is_meant).collect();
        let views = folded.views.iter().filter(|view| filter.covers(&view.namespace));
        let views = views.map(renamed).collect::<SourceResult<Vec<_>>>()?;
        self.begin(dump, &views, &live, renamed).await?;
        for view in &views {
            self.end(&view.namespace, new_sum()).await?;
        }
        for one in live {
            let namespace = renamed(&one.collection)?.namespace;
            self.collection(cx, (dump, folded, spool), one, &namespace).await?;
        }
        self.sender.send(None).await.map_err(|_| gone())
    }

    /// The documents of a collection: first those that no operation touches.
    async fn collection(
        &mut self,
        cx: &Context,
        (dump, folded, spool): (&Dump, &Folded, &Spool),
        live: &Live,
        namespace: &Namespace,
    ) -> SourceResult<()> {
        self.document(header(namespace, None)).await?;
        let mut sum = new_sum();
        if let Some(mut reading) = dump.documents(live)? {
            while let Some(mut piece) = unless_cancelled(cx, reading.piece()).await? {
                if !folded.is_touched(live) {
                    self.documents(piece, &mut sum).await?;
                    continue;
                }
                while let Some(document) = first_of(&mut piece)? {
                    if folded.waits(live, &document)?.is_none() {
                        self.documents(document, &mut sum).await?;
                    }
                }
            }
        }
        let mut next = 0;
        while let Some(piece) = spool.read(live.number, next)? {
            cx.check_cancelled().map_err(SourceError::from)?;
            self.documents(piece, &mut sum).await?;
            next += 1;
        }
        self.send(Bytes::from_static(&END)).await?;
        self.end(namespace, sum).await
    }

    async fn send(&self, bytes: Bytes) -> SourceResult<()> {
        self.sender.send(Some(bytes)).await.map_err(|_| gone())
    }

    async fn document(&self, document: RawDocumentBuf) -> SourceResult<()> {
        self.send(document.into_bytes().into()).await
    }

    /// The beginning: everything that will come, with its description.
    async fn begin(
        &mut self,
        dump: &Dump,
        views: &[Collection],
        live: &[&Live],
        renamed: impl Fn(&Collection) -> SourceResult<Collection>,
    ) -> SourceResult<()> {
        self.send(Bytes::from_static(&MONGO_ARCHIVE)).await?;
        let [major, minor, patch] = dump.state.version;
        self.document(rawdoc! {
            "concurrent_collections": 1,
            "version": "0.1",
            "server_version": format!("{major}.{minor}.{patch}"),
            "tool_version": concat!("backup ", env!("CARGO_PKG_VERSION")),
        })
        .await?;
        for view in views {
            self.describe(view, layout::metadata(view)).await?;
        }
        for one in live {
            let collection = renamed(&one.changed())?;
            let shown = described(&collection, one.orphan);
            let text = match shown.namespace.is_buckets() {
                // As in a directory, buckets without their collection have no description.
                true => String::new(),
                false => layout::metadata(&shown),
            };
            self.describe(&shown, text).await?;
        }
        self.send(Bytes::from_static(&END)).await
    }

    async fn describe(&mut self, collection: &Collection, metadata: String) -> SourceResult<()> {
        let Collection { namespace, kind, .. } = collection;
        if !self.seen.insert(namespace.clone()) {
            let text = format!("two collections would be exported as {namespace}");
            return Err(SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("change the renaming rules"));
        }
        self.report.collections += 1;
        self.document(rawdoc! {
            "db": &*namespace.db,
            "collection": &*namespace.name,
            "metadata": metadata,
            "size": 0,
            "type": kind.word(),
        })
        .await
    }

    /// The last block of a collection.
    async fn end(&self, namespace: &Namespace, sum: crc_fast::Digest) -> SourceResult<()> {
        self.document(header(namespace, Some(sum.finalize()))).await?;
        self.send(Bytes::from_static(&END)).await
    }

    /// Whole documents.
    async fn documents(&mut self, piece: Bytes, sum: &mut crc_fast::Digest) -> SourceResult<()> {
        let mut rest = piece.clone();
        while first_of(&mut rest)?.is_some() {
            self.report.documents += 1;
        }
        self.report.bytes += piece.len() as u64;
        sum.update(&piece);
        self.send(piece).await
    }
}

fn header(namespace: &Namespace, end: Option<u64>) -> RawDocumentBuf {
    rawdoc! {
        "db": &*namespace.db,
        "collection": &*namespace.name,
        "EOF": end.is_some(),
        "CRC": end.unwrap_or_default().cast_signed(),
    }
}
