//! A repository to be damaged: which object is which, and every way to damage one.

use std::collections::BTreeSet;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::error::Result;
use backup_core::format::{BlobKind, IndexFile, KeyFile, open_json, seal_json};
use backup_core::id::{IndexId, SnapshotId};
use backup_core::pipeline::BackupOptions;
use backup_core::repository::{InitOptions, Repository};
use backup_core::sink::{Key, SinkOps};
use backup_core::testing::{MemorySink, ScriptedSource};

use super::repo::{Repo, options};
use super::samples::script;

/// Something done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// One bit of the byte at this share of the length, in thousandths, is flipped; 1000 is the
    /// last byte.
    Flip(usize),
    /// So many bytes at the end are gone.
    Shorten(usize),
    /// The second half is gone.
    Halve,
    /// All bytes are gone.
    Empty,
    /// The object is gone.
    Delete,
}

/// All of them: flips from the first byte to the last, with the IV, the MAC and a pack's header
/// length among them.
pub(crate) const DAMAGES: [Damage; 10] = [
    Damage::Flip(0),
    Damage::Flip(10),
    Damage::Flip(333),
    Damage::Flip(667),
    Damage::Flip(990),
    Damage::Flip(1000),
    Damage::Shorten(1),
    Damage::Halve,
    Damage::Empty,
    Damage::Delete,
];

impl Damage {
    pub(crate) fn is_flip(self) -> bool {
        matches!(self, Self::Flip(_))
    }

    /// Damages an object.
    pub(crate) fn strike(self, sink: &MemorySink, key: &Key) {
        match self {
            Self::Delete => sink.remove(key),
            _ => sink.corrupt(key, |bytes| self.apply(bytes)),
        }
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Flip(share) => {
                let at = (bytes.len() * share / 1000).min(bytes.len() - 1);
                bytes[at] ^= 1 << (share % 8);
            }
            Self::Shorten(count) => bytes.truncate(bytes.len() - count),
            Self::Halve => bytes.truncate(bytes.len() / 2),
            Self::Empty => bytes.clear(),
            Self::Delete => {}
        }
    }
}

/// A repository with two pass phrases and three snapshots: of nothing, and of two sources with
/// nothing in common.
pub(crate) struct Fixture {
    sink: MemorySink,
    passphrase: Passphrase,
    recovery: Passphrase,
    /// The source whose objects are damaged.
    pub(crate) hit: ScriptedSource,
    pub(crate) hit_id: SnapshotId,
    /// The source that must be unharmed.
    pub(crate) spared: ScriptedSource,
    pub(crate) spared_id: SnapshotId,
    /// The key file of the first pass phrase.
    pub(crate) key_file: Key,
    /// Objects that only the snapshot of `hit` needs.
    pub(crate) index: Key,
    pub(crate) snapshot: Key,
    pub(crate) data_pack: Key,
    pub(crate) tree_pack: Key,
}

/// All data of a run in one pack, so that everybody knows which.
pub(crate) fn one_pack() -> BackupOptions {
    let mut options = options();
    options.write.open_packs = 1;
    options
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let sink = MemorySink::new();
        let (passphrase, recovery) = (Passphrase::generate(), Passphrase::generate());
        let init = InitOptions { recovery: Some(recovery.clone()), ..InitOptions::default() };
        let made =
            Repository::init(Arc::new(sink.clone()), &passphrase, &init, &Context::silent()).await;
        let repo = Repo { repository: made.unwrap(), passphrase: passphrase.clone() };
        // What all snapshots have in common is stored with this one.
        repo.backup(&ScriptedSource::named("nothing"), &one_pack()).await;
        let (hit, spared) = (script("hit"), script("spared"));
        let spared_id = repo.backup(&spared, &one_pack()).await.snapshot.unwrap();
        let before: BTreeSet<_> = sink.objects().into_keys().collect();
        let hit_id = repo.backup(&hit, &one_pack()).await.snapshot.unwrap();
        let new: Vec<_> = sink.objects().into_keys().filter(|key| !before.contains(key)).collect();
        let only = |top: &str| {
            new.iter().find(|key| key.as_str().starts_with(top)).cloned().expect("it is stored")
        };
        let indexed = repo.repository.load_index(&Context::silent()).await.unwrap();
        let root = repo.reader(hit_id).await.root_id();
        let tree_pack = indexed.index().find(BlobKind::Tree, &root).unwrap().pack.to_hex();
        let pack = |of_trees: bool| {
            let mut found = new.iter().filter(|key| key.as_str().starts_with("data/"));
            found
                .find(|key| (key.file_name() == tree_pack) == of_trees)
                .cloned()
                .expect("it is stored")
        };
        Self {
            key_file: Key::new(format!("keys/{}", repo.repository.key_id())).unwrap(),
            index: only("index/"),
            snapshot: only("snapshots/"),
            data_pack: pack(false),
            tree_pack: pack(true),
            sink,
            passphrase,
            recovery,
            hit,
            hit_id,
            spared,
            spared_id,
        }
    }

    /// The pass phrase of the recovery key, which is never damaged.
    pub(crate) fn recovery(&self) -> &str {
        self.recovery.reveal()
    }

    /// A copy of the repository in which other index objects stand for that of `hit`.
    pub(crate) async fn with_indexes(
        &self,
        change: impl FnOnce(IndexFile) -> Vec<IndexFile>,
    ) -> MemorySink {
        let copy = self.sink.copy();
        let objects = copy.objects();
        let file = KeyFile::from_json(&objects[&self.key_file]).unwrap();
        let key = file.unwrap_with(&self.passphrase).unwrap().expect("the pass phrase is right");
        let index = open_json(&key, &objects[&self.index]).unwrap();
        copy.remove(&self.index);
        for file in change(index) {
            let sealed = seal_json(&key, &file).unwrap();
            let name = Key::new(format!("index/{}", IndexId::digest(&sealed))).unwrap();
            copy.put_bytes(&name, sealed).await.unwrap();
        }
        copy
    }

    /// An undamaged copy of the repository.
    pub(crate) fn copy(&self) -> MemorySink {
        self.sink.copy()
    }

    /// A copy of the repository in which one object is damaged.
    pub(crate) fn damaged(&self, key: &Key, damage: Damage) -> MemorySink {
        let copy = self.sink.copy();
        damage.strike(&copy, key);
        copy
    }

    /// Opens a copy with the first pass phrase, or with the recovery key.
    pub(crate) async fn open(&self, sink: &MemorySink, recovery: bool) -> Result<Repo> {
        let passphrase = if recovery { &self.recovery } else { &self.passphrase };
        Repo::open(Arc::new(sink.clone()), passphrase.reveal()).await
    }
}
