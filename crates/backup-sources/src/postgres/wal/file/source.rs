//! A file of the log as a source, so that it is captured as any other log is.

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::{Position, Watermark};
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Digest, LogReader, LogSegment, Probe, RestoreReport,
    RestoreRequest, Selection, Source, SourceCapabilities, SourceError, SourceErrorKind,
    SourceIdentity, SourceResult,
};
use tokio::sync::watch;

use super::super::super::layout::Layout;
use super::WalFile;

fn nothing() -> SourceError {
    SourceError::new(
        SourceErrorKind::Unsupported,
        "a WAL file supports only the capture of its own content",
    )
}

#[async_trait]
impl Source for WalFile {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    /// The cluster's.
    fn identity(&self) -> SourceIdentity {
        let paths = vec![Layout::of(self.system_id).cluster().display().into_owned()];
        SourceIdentity {
            kind: self.kind().to_owned(),
            id: self.system_id.to_string(),
            host: String::new(),
            paths,
        }
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: true }
    }

    async fn probe(&self, _cx: &Context) -> SourceResult<Probe> {
        Err(nothing())
    }

    async fn open_backup(
        &self,
        _cx: &Context,
        _request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        Err(nothing())
    }

    async fn open_log(
        &self,
        _cx: &Context,
        from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        let later = from
            .filter(|from| from.branch.parse::<u32>().is_ok_and(|number| number > self.timeline));
        if let Some(later) = later.filter(|later| !self.is_before(later)) {
            let text = format!(
                "{self} continues a timeline after the beginning of timeline {}",
                later.branch
            );
            let error = SourceError::new(SourceErrorKind::Invalid, text);
            return Err(error.with_hint(
                "stop this server if another one replaced it: its WAL is no longer part of the \
                 cluster",
            ));
        }
        let log = self.log(later)?;
        let end = log.last().map(|last| Position::new(last.branch.clone(), last.to));
        Ok(Box::new(Reader { left: log.into_iter(), end, stored: self.stored.clone() }))
    }

    async fn restore(
        &self,
        _: &Context,
        _: &RestoreRequest,
        _: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        Err(nothing())
    }

    async fn digest(&self, _cx: &Context, _selection: &Selection) -> SourceResult<Digest> {
        Err(nothing())
    }
}

struct Reader {
    left: std::vec::IntoIter<LogSegment>,
    /// Where all of it ends.
    end: Option<Position>,
    stored: watch::Sender<bool>,
}

#[async_trait]
impl LogReader for Reader {
    /// When all was told, nothing more comes: whoever captures is told to stop.
    async fn next(&mut self) -> SourceResult<LogSegment> {
        match self.left.next() {
            Some(segment) => Ok(segment),
            None => std::future::pending().await,
        }
    }

    fn vouched_for(&self) -> Option<Watermark> {
        None
    }

    async fn acknowledge(&mut self, position: &Position) -> SourceResult<()> {
        if self.left.len() == 0 && self.end.as_ref() == Some(position) {
            self.stored.send_replace(true);
        }
        Ok(())
    }
}
