//! Snapshots that need something which is lost for good: one without it takes their place.

use std::collections::HashMap;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::blobs::Missing;
use super::{Run, quarantine};
use crate::check::Problem;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{BlobKind, RawTree, Snapshot, Tree, with_subtree};
use crate::id::{BlobId, SnapshotId};
use crate::limits;
use crate::repository::{BlobReader, BlobWriter, SnapshotInfo, layout};
use crate::retention::Hold;
use crate::sink::SinkOps;
use crate::source::EntryPath;

/// Paths that are named per snapshot.
const MAX_NAMED: usize = 50;
/// The tag of snapshots that lack something.
const TAG: &str = "repaired";

/// Replaces every snapshot that needs something of `missing`. The original is put aside.
pub(super) async fn mend(
    run: &mut Run<'_>,
    snapshots: &[SnapshotInfo],
    missing: &Missing,
) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let repository = run.repository().clone();
    let writer = run.writer();
    let mut mender = Mender {
        reader: run.indexed.reader(),
        writer: writer.clone(),
        missing,
        cx: run.cx,
        dry_run: run.options.dry_run,
        done: HashMap::new(),
        changed: HashMap::new(),
    };
    let evidence = repository.read_time_evidence(run.cx).await?;
    let mended = mender.all(snapshots).await;
    let (mended, _) = writer.close(mended).await?;
    for (info, tree, lost) in mended {
        let object = format!("snapshot {}", info.id.short());
        let message = format!("{} of its entries cannot be recovered", lost.len());
        let mut affects: Vec<String> =
            lost.iter().take(MAX_NAMED).map(|path| format!("{object}: {path}")).collect();
        if lost.len() > MAX_NAMED {
            affects.push(format!("{object}: {} more", lost.len() - MAX_NAMED));
        }
        run.report.lost.push(Problem { object: object.clone(), message, affects });
        if run.options.dry_run {
            continue;
        }
        if let Some(tree) = tree {
            let snapshot = without(&info.snapshot, info, tree, lost.len() as u64);
            let received = repository.received(&info.id).await?.unwrap_or(info.snapshot.time);
            let sealed = crate::format::seal_json(repository.key(), &snapshot)?;
            let name = SnapshotId::digest(&sealed);
            if let Some(hold) = repository.read_note::<Hold>(&layout::hold(&info.id)).await? {
                repository
                    .sink()
                    .put_bytes(
                        &layout::hold(&name),
                        crate::format::seal_json(repository.key(), &hold)?,
                    )
                    .await?;
            }
            let id = repository.save_sealed_snapshot(sealed, received, run.cx).await?;
            let is_own = evidence.effective(&info.id, &info.snapshot).is_own();
            if is_own && info.effective.is_own() {
                repository.vouch_for(&id, &snapshot, run.cx).await?;
            }
            run.repaired(object, format!("snapshot {} holds the remaining entries", id.short()));
        }
        let sealed = repository.sealed_snapshot(&info.id).await?;
        quarantine::keep(&repository, &layout::snapshot(&info.id), sealed).await?;
        repository.sink().delete_one(&layout::snapshot_receipt(&info.id)).await?;
        repository.sink().delete_one(&layout::snapshot(&info.id)).await?;
    }
    Ok(())
}

fn without(snapshot: &Snapshot, info: &SnapshotInfo, tree: BlobId, lost: u64) -> Snapshot {
    let mut tags = snapshot.tags.clone();
    if !tags.iter().any(|tag| tag == TAG) {
        tags.push(TAG.to_owned());
    }
    Snapshot {
        tree,
        tags,
        original: Some(snapshot.original.unwrap_or(info.id)),
        x_warnings: Some(snapshot.x_warnings.unwrap_or(0) + lost),
        ..snapshot.clone()
    }
}

struct Mender<'a> {
    reader: BlobReader,
    writer: BlobWriter,
    missing: &'a Missing,
    cx: &'a Context,
    dry_run: bool,
    /// Directories that nothing is missing of.
    done: HashMap<BlobId, BlobId>,
    /// Directories that lack something, with their replacements, and how often they were met.
    changed: HashMap<BlobId, (usize, Option<BlobId>)>,
}

/// A snapshot, its new root directory if anything is left, and what it lacks.
type Mended<'s> = (&'s SnapshotInfo, Option<BlobId>, Vec<EntryPath>);

impl Mender<'_> {
    /// The snapshots that lack something.
    async fn all<'s>(&mut self, snapshots: &'s [SnapshotInfo]) -> Result<Vec<Mended<'s>>> {
        let mut mended = Vec::new();
        for info in snapshots {
            let mut lost = Vec::new();
            let tree = self.directory(EntryPath::root(), info.snapshot.tree, &mut lost).await?;
            if tree != Some(info.snapshot.tree) {
                mended.push((info, tree, lost));
            }
        }
        Ok(mended)
    }

    /// A directory without what is missing in and below it: itself, if that is nothing; none, if it
    /// is missing itself.
    fn directory<'s>(
        &'s mut self,
        path: EntryPath,
        id: BlobId,
        lost: &'s mut Vec<EntryPath>,
    ) -> BoxFuture<'s, Result<Option<BlobId>>> {
        async move {
            self.cx.check_cancelled()?;
            if let Some(same) = self.done.get(&id) {
                return Ok(Some(*same));
            }
            // Directories that refer to each other can have more paths than can be followed.
            if let Some((visits, left)) = self.changed.get(&id)
                && *visits >= MAX_NAMED
            {
                lost.push(path);
                return Ok(*left);
            }
            let is_too_deep = limits::depth_fault(&path).is_some();
            if is_too_deep || self.missing.contains(&(BlobKind::Tree, id)) {
                lost.push(path);
                return Ok(None);
            }
            let before = lost.len();
            let mut edits = Edits::new();
            let tree = match self.reader.tree(&id).await {
                // It would have been moved out of a damaged pack, or taken from a copy.
                Err(error) if self.dry_run && error.is_damage() => return Ok(Some(id)),
                tree => tree?,
            };
            for node in tree.nodes {
                let path = path.join(&node.name);
                if node.content.iter().any(|blob| self.missing.contains(&(BlobKind::Data, *blob))) {
                    lost.push(path);
                    edits.insert(node.name, None);
                    continue;
                }
                let Some(subtree) = node.subtree else { continue };
                let left = self.directory(path, subtree, lost).await?;
                if left != Some(subtree) {
                    edits.insert(node.name, left);
                }
            }
            if edits.is_empty() {
                if lost.len() == before {
                    self.done.insert(id, id);
                }
                return Ok(Some(id));
            }
            let json = self.reader.blob(BlobKind::Tree, &id).await?;
            let writer = self.writer.clone();
            let repository = self.reader.repository().repository().clone();
            let work = move || Ok(writer.store(BlobKind::Tree, &edited(&json, edits)?)?.id);
            let left = repository.cpu().run(work).await.map(Some)?;
            let visits = self.changed.get(&id).map_or(0, |(visits, _)| *visits) + 1;
            self.changed.insert(id, (visits, left));
            Ok(left)
        }
        .boxed()
    }
}

/// Entries of a directory by name: without their subtree they go, else it replaces the old one.
type Edits = HashMap<Box<[u8]>, Option<BlobId>>;

/// The text of a directory after these edits. All other nodes keep every byte: they may be of types,
/// or have fields, of other programs.
fn edited(json: &[u8], mut edits: Edits) -> Result<Vec<u8>> {
    let raw = RawTree::cut(json).ok_or_else(|| Error::damaged("cannot parse the directory"))?;
    let mut nodes: Vec<Vec<u8>> = Vec::new();
    for text in &raw.nodes {
        let alone = [b"{\"nodes\":[", *text, b"]}"].concat();
        let node = Tree::from_json(&alone)?.nodes.into_iter().next();
        // Of several entries with one name the first one counts.
        match node.and_then(|node| edits.remove(&node.name)) {
            None => nodes.push(text.to_vec()),
            Some(None) => {}
            Some(Some(subtree)) => nodes.push(
                with_subtree(text, &subtree)
                    .ok_or_else(|| Error::damaged("cannot parse an entry of the directory"))?,
            ),
        }
    }
    Ok(raw.with_nodes(&nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edited_directory_keeps_nodes_of_other_programs() {
        let (old, new) = (BlobId::digest(b"old"), BlobId::digest(b"new"));
        let kept = r#"{"name":"odd","type":"irregular","z":[1e999]},{"name":"a","type":"file","acl":{"b":1},"mtime":"10001-01-01T00:00:00Z"}"#;
        let dir = |id| format!(r#"{{"name":"dir","type":"dir","subtree":"{id}","extra":true}}"#);
        let lost = r#"{"name":"lost","type":"file","content":[]}"#;
        let json = format!("{{\"nodes\":[{kept},{},{lost}]}}\n", dir(old));
        let edits = [(&b"lost"[..], None), (&b"dir"[..], Some(new))];
        let edits = edits.into_iter().map(|(name, left)| (name.into(), left)).collect();
        let text = String::from_utf8(edited(json.as_bytes(), edits).unwrap()).unwrap();
        assert_eq!(text, format!("{{\"nodes\":[{kept},{}]}}\n", dir(new)));
    }
}
