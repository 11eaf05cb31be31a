//! Snapshots with entries that cannot be restored: one without these entries takes the place of each.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::tz::TimeZone;

use super::blobs::{Missing, Needs};
use super::losses::{Losses, itself};
use super::{Run, quarantine};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{BlobKind, Fault, RawTree, Snapshot, Tree, with_field, write_tree};
use crate::id::{BlobId, SnapshotId};
use crate::limits;
use crate::repository::{BlobReader, BlobWriter, SnapshotInfo, layout};
use crate::retention::Hold;
use crate::sink::SinkOps;
use crate::source::EntryPath;

/// Visits of a directory that lacks something; later ones repeat the result of the last.
const MAX_VISITS: usize = 50;
/// Names of losses that are remembered for directories that are met again.
const MAX_REMEMBERED: usize = 1 << 20;
/// The tag of snapshots that lack something.
const TAG: &str = "repaired";

/// Replaces every snapshot with entries that cannot be restored. The original is put aside.
pub(super) async fn mend(
    run: &mut Run<'_>,
    snapshots: &[SnapshotInfo],
    needs: &Needs,
) -> Result<()> {
    if needs.missing.is_empty() && !needs.has_unfit {
        return Ok(());
    }
    let repository = run.repository().clone();
    let writer = run.writer();
    let mut mender = Mender {
        reader: run.indexed.reader(),
        writer: writer.clone(),
        missing: &needs.missing,
        cx: run.cx,
        dry_run: run.options.dry_run,
        done: HashMap::new(),
        changed: HashMap::new(),
        remembered: 0,
    };
    let evidence = repository.read_time_evidence(run.cx).await?;
    let mended = mender.all(snapshots).await;
    let (mended, _) = writer.close(mended).await?;
    for (info, tree, losses) in mended {
        let object = format!("snapshot {}", info.id.short());
        run.report.lost.extend(losses.problems(&object));
        if run.options.dry_run {
            continue;
        }
        if let Some(tree) = tree {
            let snapshot = without(&info.snapshot, info, tree, losses.count());
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
    /// Directories that lack something.
    changed: HashMap<BlobId, Changed>,
    /// Names in them.
    remembered: usize,
}

/// A directory that lacks something: its replacement, and its losses.
#[derive(Debug)]
struct Changed {
    visits: usize,
    left: Option<BlobId>,
    losses: Losses,
}

/// A snapshot, its new root directory if anything is left, and its losses.
type Mended<'s> = (&'s SnapshotInfo, Option<BlobId>, Losses);

impl Mender<'_> {
    /// The snapshots that lack something.
    async fn all<'s>(&mut self, snapshots: &'s [SnapshotInfo]) -> Result<Vec<Mended<'s>>> {
        let mut mended = Vec::new();
        for info in snapshots {
            let (tree, of_root) = self.directory(EntryPath::root(), info.snapshot.tree).await?;
            let mut losses = Losses::default();
            losses.add_below(&EntryPath::root(), &of_root);
            if tree != Some(info.snapshot.tree) {
                mended.push((info, tree, losses));
            }
        }
        Ok(mended)
    }

    /// The directory without entries that cannot be restored in and below it: the same one if there
    /// are none, and no directory if it is missing itself; and its losses.
    fn directory(
        &mut self,
        path: EntryPath,
        id: BlobId,
    ) -> BoxFuture<'_, Result<(Option<BlobId>, Losses)>> {
        async move {
            self.cx.check_cancelled()?;
            if let Some(same) = self.done.get(&id) {
                return Ok((Some(*same), Losses::default()));
            }
            let is_too_deep = limits::depth_fault(&path).is_some();
            if is_too_deep || self.missing.contains(&(BlobKind::Tree, id)) {
                let mut losses = Losses::default();
                losses.lost.push(itself());
                return Ok((None, losses));
            }
            // Directories that refer to each other can have more paths than can be followed.
            if let Some(known) = self.changed.get(&id).filter(|known| known.visits >= MAX_VISITS) {
                return Ok((known.left, known.losses.clone()));
            }
            let tree = match self.reader.tree(&id).await {
                // It would have been moved out of a damaged pack, or taken from a copy.
                Err(error) if self.dry_run && error.is_damage() => {
                    return Ok((Some(id), Losses::default()));
                }
                tree => tree?,
            };
            let (edits, losses) = self.edits(&path, tree).await?;
            let Some(edits) = edits else {
                if losses.count() == 0 {
                    self.done.insert(id, id);
                }
                return Ok((Some(id), losses));
            };
            let json = self.reader.blob(BlobKind::Tree, &id).await?;
            let writer = self.writer.clone();
            let repository = self.reader.repository().repository().clone();
            let work = move || Ok(writer.store(BlobKind::Tree, &edited(&json, &edits)?)?.id);
            let left = repository.cpu().run(work).await.map(Some)?;
            self.remember(id, left, &losses);
            Ok((left, losses))
        }
        .boxed()
    }

    /// Notes the losses of a directory for later visits.
    fn remember(&mut self, id: BlobId, left: Option<BlobId>, losses: &Losses) {
        let before = self.changed.get(&id);
        let visits = before.map_or(0, |before| before.visits) + 1;
        self.remembered -= before.map_or(0, |before| before.losses.named());
        let has_room = self.remembered + losses.named() <= MAX_REMEMBERED;
        let losses = if has_room { losses.clone() } else { losses.nameless() };
        self.remembered += losses.named();
        self.changed.insert(id, Changed { visits, left, losses });
    }

    /// The changes of a directory at `path`, none if it stays as it is; and its losses.
    async fn edits(&mut self, path: &EntryPath, tree: Tree) -> Result<(Option<Edits>, Losses)> {
        let (mut edits, mut losses) = (Edits::new(), Losses::default());
        let top = itself();
        self.reader.settle(&tree).await?;
        let unfit = tree.faults.iter().filter(|fault| fault.is_lost());
        unfit.for_each(|fault| losses.lost.push(top.join(fault.entry.as_bytes())));
        let is_unfit = losses.count() > 0;
        for node in tree.nodes {
            let own = top.join(&node.name);
            if node.content.iter().any(|blob| self.missing.contains(&(BlobKind::Data, *blob))) {
                losses.lost.push(own);
                edits.insert(node.name, Edit::Remove);
                continue;
            }
            if self.reader.misfit(&node).is_some() {
                losses.resized.push(own);
                edits.insert(node.name.clone(), Edit::Size(self.reader.content_len(&node)?));
                continue;
            }
            let Some(subtree) = node.subtree else { continue };
            let (left, inner) = self.directory(path.join(&node.name), subtree).await?;
            losses.add_below(&own, &inner);
            match left {
                None => _ = edits.insert(node.name, Edit::Remove),
                Some(left) if left == subtree => {}
                Some(left) => _ = edits.insert(node.name, Edit::Subtree(left)),
            }
        }
        Ok(((is_unfit || !edits.is_empty()).then_some(edits), losses))
    }
}

/// The change of an entry of a directory.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Remove,
    Subtree(BlobId),
    Size(u64),
}

impl Edit {
    /// The text of the entry after the change; none if it goes.
    fn apply(self, text: &[u8]) -> Result<Option<Vec<u8>>> {
        let changed = match self {
            Self::Remove => return Ok(None),
            Self::Subtree(id) => with_field(text, "subtree", &format!("\"{id}\"")),
            // restic requires a list, also if there is no blob.
            Self::Size(0) => with_field(text, "size", "0")
                .and_then(|changed| with_field(&changed, "content", "[]")),
            Self::Size(size) => with_field(text, "size", &size.to_string()),
        };
        let failed = || Error::damaged("cannot parse an entry of the directory");
        changed.map(Some).ok_or_else(failed)
    }
}

/// Entries of a directory by name.
type Edits = HashMap<Box<[u8]>, Edit>;

/// The text of a directory after these edits, without entries that no program can restore. All other
/// entries keep every byte: they may be of types, or have fields, of other programs.
fn edited(json: &[u8], edits: &Edits) -> Result<Vec<u8>> {
    let Some(raw) = RawTree::cut(json) else {
        return written(json, edits);
    };
    let mut nodes: Vec<Vec<u8>> = Vec::new();
    let mut names = HashSet::new();
    for text in &raw.nodes {
        let alone = [b"{\"nodes\":[", *text, b"]}"].concat();
        let tree = Tree::from_json(&alone)?;
        let Some(node) = tree.nodes.into_iter().next() else {
            // An entry that is not lost is of a type of other programs.
            if !tree.faults.iter().any(Fault::is_lost) {
                nodes.push(text.to_vec());
            }
            continue;
        };
        let edit = edits.get(&node.name).copied();
        // Of several entries with one name the first one counts.
        if !names.insert(node.name) {
            continue;
        }
        match edit {
            None => nodes.push(text.to_vec()),
            Some(edit) => nodes.extend(edit.apply(text)?),
        }
    }
    Ok(raw.with_nodes(&nodes))
}

/// The same for a directory whose text cannot be cut, as one with two lists of entries: it is written
/// again from its nodes.
fn written(json: &[u8], edits: &Edits) -> Result<Vec<u8>> {
    let mut nodes = Tree::from_json(json)?.nodes;
    nodes.retain_mut(|node| {
        match edits.get(&node.name) {
            None => {}
            Some(Edit::Remove) => return false,
            Some(Edit::Subtree(id)) => node.subtree = Some(*id),
            Some(Edit::Size(size)) => node.metadata.size = *size,
        }
        true
    });
    write_tree(&mut nodes, &TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edited_directory_keeps_nodes_of_other_programs() {
        let (old, new) = (BlobId::digest(b"old"), BlobId::digest(b"new"));
        let kept = r#"{"name":"odd","type":"irregular","z":[1e999]},{"name":"a","type":"file","acl":{"b":1},"mtime":"10001-01-01T00:00:00Z"}"#;
        let dir = |id| format!(r#"{{"name":"dir","type":"dir","subtree":"{id}","extra":true}}"#);
        let file = |size| format!(r#"{{"name":"file","type":"file","size":{size},"x":1}}"#);
        let lost = r#"{"name":"lost","type":"file","content":[]}"#;
        let unfit = r#"{"name":"..","type":"file"},null,{"name":"a","type":"fifo"}"#;
        let empty = |fields| format!(r#"{{"name":"empty","type":"file",{fields}}}"#);
        let before = [kept, &dir(old), lost, unfit, &file(7), &empty(r#""content":null,"size":9"#)]
            .join(",");
        let after = [kept, &dir(new), &file(5), &empty(r#""content":[],"size":0"#)].join(",");
        let edits: Edits = [
            (&b"lost"[..], Edit::Remove),
            (&b"dir"[..], Edit::Subtree(new)),
            (&b"file"[..], Edit::Size(5)),
            (&b"empty"[..], Edit::Size(0)),
        ]
        .map(|(name, edit)| (name.into(), edit))
        .into();
        let text = edited(format!("{{\"nodes\":[{before}]}}\n").as_bytes(), &edits).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), format!("{{\"nodes\":[{after}]}}\n"));
        // Two lists of nodes.
        let twice = format!("{{\"nodes\":[{},{lost}],\"nodes\":[{}]}}", dir(old), file(7));
        let tree = Tree::from_json(&edited(twice.as_bytes(), &edits).unwrap()).unwrap();
        let names: Vec<&[u8]> = tree.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, [&b"dir"[..], b"file"]);
        assert_eq!((tree.nodes[0].subtree, tree.nodes[1].metadata.size), (Some(new), 5));
        assert_eq!(tree.faults, []);
    }
}
