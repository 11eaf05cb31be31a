//! Every snapshot down to its blobs, and which paths damage affects.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{CheckReport, Damage, Problem};
use crate::context::Context;
use crate::error::Result;
use crate::event::Stage;
use crate::format::{BlobKind, Node};
use crate::id::BlobId;
use crate::pipeline::Meter;
use crate::repository::index::BlobLocation;
use crate::repository::{BlobReader, IndexedRepository, SnapshotInfo};
use crate::source::EntryPath;

/// Paths that are named per damaged object.
const MAX_NAMED: usize = 20;

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
        sound: HashSet::new(),
        bad: HashMap::new(),
        problems: BTreeMap::new(),
    };
    for info in snapshots {
        trees.survey(info.snapshot.tree).await?;
    }
    for info in snapshots {
        trees.name_affected(info).await?;
    }
    let is_damaged = |info: &&SnapshotInfo| trees.bad.contains_key(&info.snapshot.tree);
    report.damaged_snapshots = snapshots.iter().filter(is_damaged).map(|info| info.id).collect();
    trees.unneeded_damage();
    drop(ticking);
    meter.finish();
    report.trees = (trees.sound.len() + trees.bad.len()) as u64;
    report
        .problems
        .extend(trees.problems.into_iter().map(|(object, found)| found.into_problem(object)));
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
    sound: HashSet<BlobId>,
    bad: HashMap<BlobId, BadTree>,
    problems: BTreeMap<String, Found>,
}

/// A directory whose children are being surveyed.
struct Level {
    id: BlobId,
    subtrees: Vec<BlobId>,
    bad: bool,
}

impl Trees<'_> {
    /// Decides for every directory at or below `root` whether it is sound.
    async fn survey(&mut self, root: BlobId) -> Result<()> {
        let mut stack = Vec::new();
        self.enter(root, &mut stack).await?;
        while let Some(level) = stack.last_mut() {
            if let Some(next) = level.subtrees.pop() {
                if self.bad.contains_key(&next) {
                    level.bad = true;
                } else if !self.sound.contains(&next) {
                    // It is looked at again when this comes back, and is decided by then.
                    level.subtrees.push(next);
                    self.enter(next, &mut stack).await?;
                }
                continue;
            }
            let (id, bad) = (level.id, level.bad);
            stack.pop();
            if bad {
                self.bad.insert(id, BadTree::Contains);
            } else {
                self.sound.insert(id);
            }
        }
        Ok(())
    }

    async fn enter(&mut self, id: BlobId, stack: &mut Vec<Level>) -> Result<()> {
        self.cx.check_cancelled()?;
        if self.sound.contains(&id) || self.bad.contains_key(&id) {
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
        let bad = tree.nodes.iter().any(|node| self.node_trouble(node).is_some());
        let subtrees = tree.nodes.iter().filter_map(|node| node.subtree).collect();
        stack.push(Level { id, subtrees, bad });
        Ok(())
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
        for copy in self.reader.repository().index().find_all(BlobKind::Data, id) {
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

    /// Names the paths of a snapshot that need something damaged. Only damaged directories are
    /// entered.
    async fn name_affected(&mut self, info: &SnapshotInfo) -> Result<()> {
        let mut stack = vec![(EntryPath::root(), info.snapshot.tree)];
        let snapshot = info.id.short();
        while let Some((path, id)) = stack.pop() {
            match self.bad.get(&id).cloned() {
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
            for node in self.reader.tree(&id).await?.nodes {
                let path = path.join(&node.name);
                if let Some((object, message)) = self.node_trouble(&node) {
                    let object =
                        if object.contains(' ') { object } else { format!("{object} {path}") };
                    self.note(object, message, format!("snapshot {snapshot}: {path}"));
                }
                stack.extend(node.subtree.map(|subtree| (path, subtree)));
            }
        }
        Ok(())
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
