//! Every snapshot down to its blobs, and which paths damage affects.

use std::collections::{BTreeMap, HashMap};

use super::{CheckReport, Damage, Problem};
use crate::context::Context;
use crate::error::Result;
use crate::event::Stage;
use crate::format::{BlobKind, Fault, Loss, Node, Tree};
use crate::id::BlobId;
use crate::limits;
use crate::pipeline::Meter;
use crate::repository::index::BlobLocation;
use crate::repository::{BlobReader, IndexedRepository, SnapshotInfo};
use crate::source::EntryPath;

/// Paths that are named per damaged object.
const MAX_NAMED: usize = 20;
/// Entries with invalid metadata or of unknown types that are named.
const MAX_NOTES: usize = 100;

/// Follows every snapshot's tree; every directory is read once.
pub(super) async fn check(
    indexed: &IndexedRepository,
    snapshots: &[SnapshotInfo],
    damage: Damage,
    report: &mut CheckReport,
    cx: &Context,
) -> Result<()> {
    let meter = Meter::start(Stage::Check, &cx.events);
    let ticking = meter.ticking();
    let mut trees = Trees {
        reader: indexed.reader(),
        cx,
        meter: meter.clone(),
        damage,
        sound: HashMap::new(),
        bad: HashMap::new(),
        problems: BTreeMap::new(),
        notes: Vec::new(),
        more_notes: 0,
    };
    for info in snapshots {
        trees.survey(info.snapshot.tree).await?;
    }
    for info in snapshots {
        trees.name_affected(info).await?;
    }
    let is_damaged = |info: &&SnapshotInfo| !trees.is_sound(info);
    report.damaged_snapshots = snapshots.iter().filter(is_damaged).map(|info| info.id).collect();
    trees.unneeded_damage();
    drop(ticking);
    meter.finish();
    report.trees = (trees.sound.len() + trees.bad.len()) as u64;
    report
        .problems
        .extend(trees.problems.into_iter().map(|(object, found)| found.into_problem(object)));
    report.notes.append(&mut trees.notes);
    if trees.more_notes > 0 {
        let more = trees.more_notes;
        report.notes.push(format!("{more} more entries have invalid metadata or unknown types"));
    }
    Ok(())
}

/// Trouble with a directory.
#[derive(Debug, Clone)]
enum BadTree {
    /// It cannot be read itself.
    Unreadable { object: String, message: String },
    /// Something in or below it is damaged.
    Contains,
}

#[derive(Debug, Default)]
struct Found {
    message: String,
    affects: Vec<String>,
    more: usize,
}

impl Found {
    fn affects(&mut self, text: String) {
        if self.affects.len() < MAX_NAMED {
            self.affects.push(text);
        } else {
            self.more += 1;
        }
    }

    fn into_problem(mut self, object: String) -> Problem {
        if self.more > 0 {
            self.affects.push(format!("{} more", self.more));
        }
        Problem { object, message: self.message, affects: self.affects }
    }
}

struct Trees<'a> {
    reader: BlobReader,
    cx: &'a Context,
    meter: Meter,
    damage: Damage,
    /// Directories with nothing damaged in or below them.
    sound: HashMap<BlobId, Extent>,
    bad: HashMap<BlobId, BadTree>,
    problems: BTreeMap<String, Found>,
    /// Entries of which some metadata is invalid, or whose types this program does not support.
    notes: Vec<String>,
    more_notes: u64,
}

/// Depth of the directories below a directory.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    /// Levels of directories below it.
    levels: u16,
    /// Length of the longest path of a directory below it.
    path: u16,
    /// Entries in and below it, counted as often as they are met.
    entries: u64,
    /// True if entries in or below it have invalid metadata or unknown types.
    noted: bool,
}

impl Extent {
    /// Takes in a directory of this name in it.
    fn add(&mut self, name: u16, below: Self) {
        self.levels = self.levels.max(below.levels.saturating_add(1));
        self.path = self.path.max(below.path.saturating_add(name).saturating_add(1));
        self.entries = self.entries.saturating_add(below.entries);
        self.noted |= below.noted;
    }

    fn is_too_deep(self) -> bool {
        usize::from(self.levels) > limits::MAX_DEPTH || usize::from(self.path) > limits::MAX_PATH
    }
}

/// A directory whose children are being surveyed.
struct Level {
    id: BlobId,
    /// Each with the length of its name.
    subtrees: Vec<(BlobId, u16)>,
    bad: bool,
    extent: Extent,
}

impl Trees<'_> {
    /// Decides for every directory at or below `root` whether it is sound.
    async fn survey(&mut self, root: BlobId) -> Result<()> {
        let mut stack = Vec::new();
        self.enter(root, &mut stack).await?;
        while let Some(level) = stack.last_mut() {
            if let Some((next, name)) = level.subtrees.pop() {
                if self.bad.contains_key(&next) {
                    level.bad = true;
                } else if let Some(below) = self.sound.get(&next) {
                    level.extent.add(name, *below);
                } else {
                    // It is looked at again when this comes back, and is decided by then.
                    level.subtrees.push((next, name));
                    self.enter(next, &mut stack).await?;
                }
                continue;
            }
            let (id, bad, extent) = (level.id, level.bad, level.extent);
            stack.pop();
            if bad {
                self.bad.insert(id, BadTree::Contains);
            } else {
                self.sound.insert(id, extent);
            }
        }
        Ok(())
    }

    async fn enter(&mut self, id: BlobId, stack: &mut Vec<Level>) -> Result<()> {
        self.cx.check_cancelled()?;
        if self.sound.contains_key(&id) || self.bad.contains_key(&id) {
            return Ok(());
        }
        self.meter.add_items(1);
        let tree = match self.reader.tree(&id).await {
            Ok(tree) => tree,
            Err(error) if error.is_damage() => {
                let object = self.object_of(BlobKind::Tree, &id);
                self.bad.insert(id, BadTree::Unreadable { object, message: error.chain() });
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let bad = self.has_trouble(&tree).await?;
        let name = |node: &Node| u16::try_from(node.name.len()).unwrap_or(u16::MAX);
        let subtree = |node: &Node| Some((node.subtree?, name(node)));
        let subtrees = tree.nodes.iter().filter_map(subtree).collect();
        let entries = tree.entries() as u64;
        let extent = Extent { noted: !tree.faults.is_empty(), entries, ..Extent::default() };
        stack.push(Level { id, subtrees, bad, extent });
        Ok(())
    }

    /// True if entries of a directory cannot be restored.
    async fn has_trouble(&self, tree: &Tree) -> Result<bool> {
        self.reader.settle_disputed(tree).await?;
        let mut has_trouble = tree.faults.iter().any(Fault::is_lost);
        for node in &tree.nodes {
            if self.node_trouble(node).is_some() {
                // A copy in another place than the index states may be sound.
                self.reader.settle_by_headers(node).await?;
                has_trouble |= self.node_trouble(node).is_some();
            }
        }
        Ok(has_trouble)
    }

    /// The pack or blob to name when this blob is damaged.
    fn object_of(&self, kind: BlobKind, id: &BlobId) -> String {
        match self.reader.locate(kind, id) {
            Ok(location) => format!("pack {}", location.pack.short()),
            Err(_) => format!(
                "{} {}",
                if kind == BlobKind::Tree { "directory" } else { "blob" },
                id.short()
            ),
        }
    }

    /// What is wrong with a node itself: the object that is damaged, and how.
    fn node_trouble(&self, node: &Node) -> Option<(String, String)> {
        let mut size = 0;
        for id in &node.content {
            match self.blob_trouble(id) {
                Ok(len) => size += len,
                Err(trouble) => return Some(trouble),
            }
        }
        node.misfit(size).map(|(what, message)| (what.to_owned(), message))
    }

    /// The length of a blob of which at least one copy is sound.
    fn blob_trouble(&self, id: &BlobId) -> Result<u64, (String, String)> {
        let mut trouble = None;
        // The copy that was read counts, if several lengths are stated.
        let settled = self.reader.repository().settled().get(id);
        let copies = self.reader.repository().index().find_all(BlobKind::Data, id);
        for copy in settled.into_iter().chain(copies) {
            match self.copy_trouble(&copy) {
                None => return Ok(u64::from(copy.blob.plain_len())),
                Some(message) => trouble = Some((format!("pack {}", copy.pack.short()), message)),
            }
        }
        Err(trouble.unwrap_or_else(|| {
            (
                format!("blob {}", id.short()),
                "is in no index: an index object or a pack is lost".to_owned(),
            )
        }))
    }

    /// What is wrong with one copy of a blob.
    fn copy_trouble(&self, copy: &BlobLocation) -> Option<String> {
        if self.damage.missing_packs.contains(&copy.pack) {
            return Some("is missing".to_owned());
        }
        let max_data = self.reader.repository().repository().config().max_data_blob();
        if let Some(message) = limits::blob_fault(&copy.blob, max_data) {
            return Some(message);
        }
        if let Some(message) = self.damage.blobs.get(&(copy.pack, copy.blob.id)) {
            return Some(message.clone());
        }
        let size = self.damage.short_packs.get(&copy.pack)?;
        let end = u64::from(copy.blob.offset) + u64::from(copy.blob.len);
        (end > *size).then(|| format!("has only {size} bytes"))
    }

    fn note(&mut self, object: String, message: String, affects: String) {
        let found = self.problems.entry(object).or_default();
        found.message = message;
        found.affects(affects);
    }

    /// True if all of a snapshot can be restored.
    fn is_sound(&self, info: &SnapshotInfo) -> bool {
        self.sound
            .get(&info.snapshot.tree)
            .is_some_and(|extent| !extent.is_too_deep() && self.repetition(*extent).is_none())
    }

    fn repetition(&self, extent: Extent) -> Option<String> {
        if extent.entries <= limits::MAX_REPEATED {
            return None;
        }
        limits::repetition_fault(extent.entries, self.reader.repository().directory_bytes())
    }

    /// Names the paths of a snapshot that need something damaged. Only directories with something
    /// to name are entered, and each of them at most [`MAX_NAMED`] times: directories that refer to
    /// each other can have more paths than can be followed.
    async fn name_affected(&mut self, info: &SnapshotInfo) -> Result<()> {
        let mut stack = vec![(EntryPath::root(), info.snapshot.tree)];
        let snapshot = info.id.short();
        let extent = self.sound.get(&info.snapshot.tree).copied().unwrap_or_default();
        let mut visits: HashMap<BlobId, usize> = HashMap::new();
        if let Some(message) = self.repetition(extent) {
            let object = format!("snapshot {snapshot}");
            self.note(object, message, format!("snapshot {snapshot}: directories below /"));
        }
        let mut is_depth_named = !extent.is_too_deep();
        while let Some((path, id)) = stack.pop() {
            if let Some(message) = limits::depth_fault(&path) {
                let affects = format!("snapshot {snapshot}: {path} and everything below");
                self.note(format!("directory {}", id.short()), message, affects);
                is_depth_named = true;
                continue;
            }
            match self.bad.get(&id).cloned() {
                None if extent.is_too_deep()
                    || self.sound.get(&id).is_some_and(|extent| extent.noted) => {}
                None => continue,
                Some(BadTree::Unreadable { object, message }) => {
                    self.note(
                        object,
                        message,
                        format!("snapshot {snapshot}: {path} and everything below"),
                    );
                    continue;
                }
                Some(BadTree::Contains) => {}
            }
            let visits = visits.entry(id).or_default();
            *visits += 1;
            if *visits > MAX_NAMED {
                continue;
            }
            self.cx.check_cancelled()?;
            let tree = self.reader.tree(&id).await?;
            for fault in &tree.faults {
                self.note_fault(&snapshot, &path.join(fault.entry.as_bytes()), fault);
            }
            for node in tree.nodes {
                let path = path.join(&node.name);
                if let Some((object, message)) = self.node_trouble(&node) {
                    let object =
                        if object.contains(' ') { object } else { format!("{object} {path}") };
                    self.note(object, message, format!("snapshot {snapshot}: {path}"));
                }
                stack.extend(node.subtree.map(|subtree| (path, subtree)));
            }
        }
        if !is_depth_named {
            let message = "has directories that lie too deep".to_owned();
            let affects = format!("snapshot {snapshot}: directories below /");
            self.note(format!("snapshot {snapshot}"), message, affects);
        }
        Ok(())
    }

    fn note_fault(&mut self, snapshot: &str, path: &EntryPath, fault: &Fault) {
        let affects = format!("snapshot {snapshot}: {path}");
        let message = fault.message.clone();
        match fault.loss {
            Loss::Entry => self.note(format!("entry {path}"), message, affects),
            Loss::Metadata | Loss::Unsupported if self.notes.len() < MAX_NOTES => {
                self.notes.push(format!("{affects} {message}"));
            }
            Loss::Metadata | Loss::Unsupported => self.more_notes += 1,
        }
    }

    /// Damage that no snapshot needs is still damage.
    fn unneeded_damage(&mut self) {
        let nobody = || "no snapshot: none needs the data, or a second copy exists".to_owned();
        let missing = self.damage.missing_packs.iter().map(|id| (*id, "is missing".to_owned()));
        let short = self.damage.short_packs.iter().map(|(id, size)| {
            (*id, format!("has {size} bytes, which differs from the size in the index"))
        });
        let packs: Vec<_> = missing.chain(short).collect();
        for (id, message) in packs {
            let object = format!("pack {}", id.short());
            if !self.problems.contains_key(&object) {
                self.note(object, message, nobody());
            }
        }
        let blobs: Vec<_> =
            self.damage.blobs.iter().map(|((pack, _), message)| (*pack, message.clone())).collect();
        for (pack, message) in blobs {
            let object = format!("pack {}", pack.short());
            if !self.problems.contains_key(&object) {
                self.note(object, message, nobody());
            }
        }
    }
}
