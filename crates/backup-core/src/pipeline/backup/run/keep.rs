//! What is taken over from the parent as it is.

use super::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Node;
use crate::repository::TreeWalk;
use crate::source::EntryPath;

impl Run {
    /// What the parent has at `path`, without reading it. The source has seen that all of it is
    /// there.
    pub(super) async fn keep(&mut self, path: &EntryPath) -> Result<()> {
        let missing = || {
            Error::new(
                ErrorKind::Source,
                format!("the source reuses {path}, which the parent snapshot does not have"),
            )
        };
        let dir = self.ensure_dir(&path.parent().ok_or_else(missing)?).await?;
        let node = self.assembler.earlier(dir, path.name()).cloned().ok_or_else(missing)?;
        self.count_kept(&node);
        if let Some(tree) = node.subtree {
            let mut walk = TreeWalk::new(self.reader.clone(), tree, path.clone()).with_faults();
            while let Some((_, node)) = walk.next().await? {
                self.count_kept(&node);
            }
        }
        self.assembler.dir(dir)?.nodes.push(node);
        Ok(())
    }

    fn count_kept(&mut self, node: &Node) {
        if node.is_file() {
            self.count_file(true, true, node.metadata.size);
        } else if node.subtree.is_some() {
            self.totals.dirs += 1;
            self.dirs.unmodified += 1;
        } else {
            self.totals.others += 1;
        }
        self.stage.meter.add_items(1);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::context::Context;
    use crate::crypto::Passphrase;
    use crate::log::Position;
    use crate::pipeline::{BackupOptions, BackupReport, backup};
    use crate::repository::{InitOptions, Repository, SnapshotReader};
    use crate::source::{
        BackupReader, BackupRequest, Checkpoint, Digest, Item, LogReader, Probe, RestoreReport,
        RestoreRequest, Selection, Source, SourceCapabilities, SourceIdentity, SourceResult,
    };
    use crate::testing::{MemorySink, ScriptedSource};

    /// What the source inside is called, with nothing in it but what the parent has at a path.
    #[derive(Debug)]
    struct Keeping(ScriptedSource, &'static str);

    impl fmt::Display for Keeping {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("keeping")
        }
    }

    #[async_trait]
    impl Source for Keeping {
        fn kind(&self) -> &'static str {
            self.0.kind()
        }
        fn identity(&self) -> SourceIdentity {
            self.0.identity()
        }
        fn capabilities(&self) -> SourceCapabilities {
            self.0.capabilities()
        }
        async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
            self.0.probe(cx).await
        }
        async fn open_backup(
            &self,
            cx: &Context,
            request: &BackupRequest,
        ) -> SourceResult<Box<dyn BackupReader>> {
            let inner = self.0.open_backup(cx, request).await?;
            Ok(Box::new(Reader { inner, keep: Some(Item::Keep(EntryPath::new(self.1).unwrap())) }))
        }
        async fn open_log(
            &self,
            cx: &Context,
            from: Option<&Position>,
        ) -> SourceResult<Box<dyn LogReader>> {
            self.0.open_log(cx, from).await
        }
        async fn restore(
            &self,
            cx: &Context,
            request: &RestoreRequest,
            snapshot: &SnapshotReader,
        ) -> SourceResult<RestoreReport> {
            self.0.restore(cx, request, snapshot).await
        }
        async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
            self.0.digest(cx, selection).await
        }
    }

    struct Reader {
        inner: Box<dyn BackupReader>,
        keep: Option<Item>,
    }

    #[async_trait]
    impl BackupReader for Reader {
        async fn next(&mut self) -> SourceResult<Option<Item>> {
            Ok(self.keep.take())
        }
        async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
            self.inner.finish().await
        }
        async fn abort(self: Box<Self>) {
            self.inner.abort().await;
        }
    }

    async fn kept(path: &'static str) -> (BackupReport, Result<BackupReport>) {
        let sink = Arc::new(MemorySink::new());
        let (options, cx) = (InitOptions::default(), Context::silent());
        let repository =
            Repository::init(sink, &Passphrase::generate(), &options, &cx).await.unwrap();
        let source = ScriptedSource::new().dir("/db").file("/db/a", "one").file("/db/b", "three");
        let first = backup(&repository, &source, &BackupOptions::default(), &cx).await.unwrap();
        let second =
            backup(&repository, &Keeping(source, path), &BackupOptions::default(), &cx).await;
        (first, second)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_kept_counts_as_unmodified() {
        let (first, second) = kept("/db").await;
        let second = second.unwrap();
        assert_eq!(
            (second.totals.files, second.totals.bytes),
            (first.totals.files, first.totals.bytes)
        );
        assert_eq!((second.files.unmodified, second.files.new, second.files.changed), (2, 0, 0));
        assert_eq!(second.parent, first.snapshot);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_what_the_parent_has_can_be_kept() {
        let error = kept("/other").await.1.unwrap_err();
        assert!(error.chain().contains("/other"), "{}", error.chain());
    }
}
