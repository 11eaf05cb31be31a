//! Entries of snapshots of files. A directory that several snapshots share is searched once.

use std::collections::HashMap;

use backup_core::context::Context;
use backup_core::error::Result;
use backup_core::id::BlobId;
use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, NodeKind, Selection};
use jiff::Timestamp;

/// Directories and matches that are remembered at most: some 50 MB.
const ROOM: usize = 200_000;

/// A file, a directory, a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundEntry {
    pub(super) path: EntryPath,
    pub(super) kind: NodeKind,
    pub(super) bytes: Option<u64>,
    pub(super) mtime: Timestamp,
}

/// The matches below directories that were searched, by path and tree.
#[derive(Debug)]
pub(super) struct Searched {
    below: HashMap<(BlobId, EntryPath), Box<[FoundEntry]>>,
    /// Directories and matches that still find room.
    room: usize,
}

/// A directory that is being searched.
struct Open {
    tree: BlobId,
    path: EntryPath,
    /// Number of matches before it.
    before: usize,
}

impl Default for Searched {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl Searched {
    fn with_room(room: usize) -> Self {
        Self { below: HashMap::new(), room }
    }

    /// The entries of a snapshot that the globs cover. The content of a covered directory is left
    /// out. All calls need the same globs.
    pub(super) async fn entries(
        &mut self,
        snapshot: &SnapshotReader,
        globs: &Selection,
        cx: &Context,
    ) -> Result<Vec<FoundEntry>> {
        let root = (snapshot.root_id(), EntryPath::root());
        if let Some(known) = self.below.get(&root) {
            return Ok(known.to_vec());
        }
        let (tree, path) = root;
        let (mut found, mut open) = (Vec::new(), vec![Open { tree, path, before: 0 }]);
        let mut walk = snapshot.walk().with_faults();
        while let Some((path, node)) = walk.next().await? {
            cx.check_cancelled()?;
            while let Some(done) = open.pop_if(|last| !path.starts_with(&last.path)) {
                self.remember(done, &found);
            }
            if globs.covers(&path) {
                walk.skip_content();
                let kind = node.metadata.kind.clone();
                let bytes = node.is_file().then_some(node.metadata.size);
                found.push(FoundEntry { path, kind, bytes, mtime: node.metadata.mtime });
                continue;
            }
            let Some(tree) = node.subtree else { continue };
            let directory = (tree, path);
            if let Some(known) = self.below.get(&directory) {
                walk.skip_content();
                found.extend_from_slice(known);
            } else {
                let (tree, path) = directory;
                open.push(Open { tree, path, before: found.len() });
            }
        }
        for done in open.into_iter().rev() {
            self.remember(done, &found);
        }
        Ok(found)
    }

    fn remember(&mut self, done: Open, found: &[FoundEntry]) {
        let matches = &found[done.before..];
        if let Some(room) = self.room.checked_sub(1 + matches.len()) {
            self.room = room;
            self.below.insert((done.tree, done.path), matches.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backup_core::crypto::Passphrase;
    use backup_core::pipeline::{BackupOptions, backup};
    use backup_core::repository::{InitOptions, Repository};
    use backup_core::sink::Operation;
    use backup_core::testing::{MemorySink, RecordingSink, ScriptedEntry, ScriptedSource};

    use super::*;

    /// The matches of `*.txt` in both snapshots of a source, and the reads of data for the second.
    async fn searched(room: usize, change: impl FnOnce(&ScriptedSource)) -> (Vec<String>, u64) {
        let (cx, sink) = (Context::silent(), RecordingSink::new(Arc::new(MemorySink::new())));
        let (key, options) = (Passphrase::generate(), InitOptions::default());
        let repository =
            Repository::init(Arc::new(sink.clone()), &key, &options, &cx).await.unwrap();
        let source = ScriptedSource::new()
            .dir("/a")
            .dir("/a/deep")
            .file("/a/deep/one.txt", "one")
            .dir("/b")
            .file("/b/other", "two");
        backup(&repository, &source, &BackupOptions::default(), &cx).await.unwrap();
        change(&source);
        backup(&repository, &source, &BackupOptions::default(), &cx).await.unwrap();
        let list = repository.snapshots(&cx).await.unwrap();
        let globs = Selection::new(vec!["*.txt".to_owned()], Vec::new()).unwrap();
        let (mut searched, mut found, mut reads) = (Searched::with_room(room), Vec::new(), 0);
        for info in &list.snapshots {
            // A new index: the reader of the other snapshot keeps directories in memory.
            let indexed = repository.load_index(&cx).await.unwrap();
            sink.reset();
            let entries = searched.entries(&indexed.snapshot(info), &globs, &cx).await.unwrap();
            found.extend(entries.iter().map(|entry| entry.path.display().into_owned()));
            reads = sink.count(Operation::Get, "data");
        }
        (found, reads)
    }

    #[tokio::test]
    async fn shared_directories_are_searched_once() {
        let one = "/a/deep/one.txt".to_owned();
        let (found, reads) = searched(ROOM, |_| {}).await;
        assert_eq!(found, [one.clone(), one.clone()]);
        // The root has another date, and is read.
        assert_eq!(reads, 1);
        let (found, without) = searched(0, |_| {}).await;
        assert_eq!(found, [one.clone(), one.clone()]);
        assert!(without > reads, "nothing is remembered without room: {without}");

        let add = |source: &ScriptedSource| source.set(ScriptedEntry::file("/b/new.txt", "new"));
        let (found, _) = searched(ROOM, add).await;
        assert_eq!(found, [one.clone(), one, "/b/new.txt".to_owned()]);
    }

    /// The same tree has other paths below another name.
    #[tokio::test]
    async fn find_names_the_new_path_of_a_moved_directory() {
        let (found, _) = searched(ROOM, |source| {
            source.remove("/a/deep/one.txt");
            source.remove("/a/deep");
            source.set(ScriptedEntry::dir("/b/deep"));
            source.set(ScriptedEntry::file("/b/deep/one.txt", "one"));
        })
        .await;
        assert_eq!(found, ["/a/deep/one.txt", "/b/deep/one.txt"]);
    }
}
