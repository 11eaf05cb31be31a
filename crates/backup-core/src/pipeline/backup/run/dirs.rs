//! Opening directories, and storing complete ones from the bottom up.

use jiff::Timestamp;

use super::Run;
use crate::compress::Take;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BlobKind, METADATA_DIR, Node, Tree, stream_tree, write_tree};
use crate::id::BlobId;
use crate::pipeline::backup::assembler::{Dir, DirId};
use crate::source::{EntryPath, Metadata};

/// Directories from this many entries on are written piece by piece.
const LARGE_DIR: usize = 20_000;

/// One that was there before is likely the same: with fewer entries than this, finding that out
/// takes less time than handing it to another thread.
const SMALL_DIR: usize = 64;

impl Run {
    /// The open directory at `path`, opened with all above it if need be.
    pub(in crate::pipeline::backup) async fn ensure_dir(
        &mut self,
        path: &EntryPath,
    ) -> Result<DirId> {
        if let Some(dir) = self.assembler.find(path) {
            return Ok(dir);
        }
        let mut missing = vec![path.clone()];
        let mut above = None;
        let mut at = path.parent();
        while let Some(path) = at {
            above = self.assembler.find(&path);
            if above.is_some() {
                break;
            }
            at = path.parent();
            missing.push(path);
        }
        let mut dir = above;
        for path in missing.into_iter().rev() {
            let earlier = self.earlier_tree(dir, &path).await?;
            dir = Some(self.assembler.open(path, dir, earlier)?);
        }
        dir.ok_or_else(|| Error::internal("a directory has no root"))
    }

    /// The directory at `path` in the parent snapshot. If it cannot be read, its files are read
    /// again.
    async fn earlier_tree(
        &mut self,
        above: Option<DirId>,
        path: &EntryPath,
    ) -> Result<Option<(BlobId, Tree)>> {
        let id = match above {
            None => self.parent.map(|parent| parent.tree),
            Some(above) => self.assembler.earlier(above, path.name()).and_then(|node| node.subtree),
        };
        let Some(id) = id else {
            return Ok(None);
        };
        match self.reader.tree(&id).await {
            Ok(tree) => Ok(Some((id, tree))),
            Err(error) if error.is_damage() => {
                // If this run comes to the same directory, it must be stored again.
                self.stage.writer.distrust(BlobKind::Tree, id);
                let text = format!(
                    "Cannot read {path} of the earlier snapshot ({}): everything below it is read \
                     again.",
                    error.chain()
                );
                self.stage.cx.events.note(text);
                Ok(None)
            }
            // A writer that may store but not read what is stored: it still stores nothing twice.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let text = format!(
                    "The credentials do not permit reading {path} of the earlier snapshot: \
                     everything below it is read again."
                );
                self.stage.cx.events.note(text);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn close(&mut self, path: &EntryPath) -> Result<()> {
        let Some(dir) = self.assembler.find(path) else {
            return Ok(());
        };
        self.assembler.close(path)?;
        if self.assembler.is_ready(dir) {
            return self.store_upwards(dir).await;
        }
        for dir in self.assembler.ready_below(path) {
            self.store_upwards(dir).await?;
        }
        Ok(())
    }

    /// Stores a directory if it is complete, then the one above it if that is complete now, and so
    /// on.
    pub(super) async fn store_upwards(&mut self, dir: DirId) -> Result<()> {
        let mut at = Some(dir);
        while let Some(dir) = at.filter(|dir| self.assembler.is_ready(*dir)) {
            let (done, above) = self.assembler.take(dir)?;
            let node = self.store_dir(done).await?;
            if let Some(above) = above {
                self.assembler.arrived(above, Some(node))?;
            }
            at = above;
        }
        Ok(())
    }

    async fn store_dir(&mut self, dir: Dir) -> Result<Node> {
        let Dir { path, metadata, nodes, earlier_id, earlier, .. } = dir;
        drop(earlier);
        let tree =
            self.store_tree(nodes, earlier_id).await.map_err(|error| error.context(&path))?;
        self.totals.dirs += 1;
        match earlier_id {
            None => self.dirs.new += 1,
            Some(id) if id == tree => self.dirs.unmodified += 1,
            Some(_) => self.dirs.changed += 1,
        }
        self.stage.meter.add_items(1);
        let metadata = metadata.unwrap_or_else(|| Metadata::directory(Timestamp::UNIX_EPOCH));
        Ok(Node { name: path.name().into(), metadata, content: Vec::new(), subtree: Some(tree) })
    }

    /// Stores a directory of these nodes; `earlier` is what it was in the parent snapshot.
    pub(in crate::pipeline::backup) async fn store_tree(
        &mut self,
        mut nodes: Vec<Node>,
        earlier: Option<BlobId>,
    ) -> Result<BlobId> {
        let (writer, zone) = (self.stage.writer.clone(), self.zone.clone());
        if let Some(earlier) = earlier
            && nodes.len() < SMALL_DIR
        {
            let tree = write_tree(&mut nodes, &zone)?;
            if BlobId::digest(&tree) == earlier && writer.knows(BlobKind::Tree, &earlier) {
                return Ok(earlier);
            }
            return self
                .stage
                .repository
                .cpu()
                .run(move || Ok(writer.store(BlobKind::Tree, &tree)?.id))
                .await;
        }
        let work = move || {
            if nodes.len() < LARGE_DIR {
                return Ok(writer.store(BlobKind::Tree, &write_tree(&mut nodes, &zone)?)?.id);
            }
            nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            let produce = |take: Take<'_>| stream_tree(&nodes, &zone, take);
            Ok(writer.store_streamed(BlobKind::Tree, &produce)?.id)
        };
        self.stage.repository.cpu().run(work).await
    }

    /// Stores the root with `.backup` added.
    pub(in crate::pipeline::backup) async fn store_root(
        &mut self,
        metadata_dir: Node,
    ) -> Result<BlobId> {
        let root = self.ensure_dir(&EntryPath::root()).await?;
        if !self.assembler.only_root_is_left() {
            return Err(Error::internal("a directory was left open at the end"));
        }
        let (root, _) = self.assembler.take(root)?;
        let mut nodes = root.nodes;
        if nodes.iter().any(|node| *node.name == *METADATA_DIR.as_bytes()) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the source has an entry /.backup, a name that every snapshot reserves",
            )
            .with_hint("exclude or rename the entry"));
        }
        nodes.push(metadata_dir);
        self.store_tree(nodes, None).await
    }
}
