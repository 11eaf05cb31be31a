//! A repository with crafted objects. They are sealed with its key and listed in its index, as a
//! writer with the key can store them; the content is free.

use std::fs;
use std::path::{Path, PathBuf};

use backup_core::crypto::{MasterKey, Passphrase};
use backup_core::format::{
    BlobKind, IndexFile, IndexPack, KeyFile, PackHeader, PackedBlob, seal_json,
};
use backup_core::id::{BlobId, IndexId, PackId, SnapshotId};
use tempfile::TempDir;

use super::cli::Cli;
use super::repo::Repo;

/// First byte of compressed objects.
const COMPRESSED: u8 = 2;

/// Stores crafted objects in a repository.
pub(crate) struct Crafted {
    dir: PathBuf,
    key: MasterKey,
    index: IndexFile,
    /// Packs that are not stored yet: data, directories.
    open: [(Vec<u8>, Vec<PackedBlob>); 2],
    snapshots: u32,
}

impl Crafted {
    /// In a new repository: the directory `repository` of a new one.
    pub(crate) async fn in_new_repository() -> (TempDir, Repo, Cli, Self) {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().join("repository");
        let repo = Repo::in_dir(&dir).await;
        let cli = Cli::new(&dir, repo.passphrase.reveal());
        let crafted = Self::within(&dir, &repo.passphrase);
        (room, repo, cli, crafted)
    }

    /// In a repository in a directory.
    pub(crate) fn within(dir: &Path, passphrase: &Passphrase) -> Self {
        let file = fs::read_dir(dir.join("keys")).unwrap().next().unwrap().unwrap().path();
        let file = KeyFile::from_json(&fs::read(file).unwrap()).unwrap();
        let key = file.unwrap_with(passphrase).unwrap().expect("the pass phrase is right");
        let (dir, index) = (dir.to_owned(), IndexFile::default());
        Self { dir, key, index, open: Default::default(), snapshots: 0 }
    }

    /// Stores a blob as it is.
    pub(crate) fn blob(&mut self, kind: BlobKind, plain: &[u8]) -> BlobId {
        self.sealed(kind, BlobId::digest(plain), plain, None)
    }

    /// Stores a blob compressed, with a length of choice in the index.
    pub(crate) fn compressed(
        &mut self,
        kind: BlobKind,
        id: BlobId,
        frame: &[u8],
        length: u32,
    ) -> BlobId {
        self.sealed(kind, id, frame, Some(length))
    }

    /// Stores a blob under the name of another content.
    pub(crate) fn named(&mut self, kind: BlobKind, id: BlobId, content: &[u8]) -> BlobId {
        self.sealed(kind, id, content, None)
    }

    fn sealed(
        &mut self,
        kind: BlobKind,
        id: BlobId,
        content: &[u8],
        uncompressed_len: Option<u32>,
    ) -> BlobId {
        let sealed = self.key.seal(content);
        let (pack, blobs) = &mut self.open[usize::from(kind == BlobKind::Tree)];
        let (offset, len) = (pack.len().try_into().unwrap(), sealed.len().try_into().unwrap());
        blobs.push(PackedBlob { id, kind, offset, len, uncompressed_len });
        pack.extend(sealed);
        id
    }

    /// Stores a directory of these nodes.
    pub(crate) fn directory(&mut self, nodes: &[String]) -> BlobId {
        let json = format!("{{\"nodes\":[{}]}}\n", nodes.join(","));
        self.blob(BlobKind::Tree, json.as_bytes())
    }

    /// Stores a snapshot of `/data` with this root directory.
    pub(crate) fn snapshot(&mut self, tree: &BlobId) -> SnapshotId {
        self.snapshots += 1;
        let (days, seconds) = (self.snapshots / 60, self.snapshots % 60);
        let json = format!(
            r#"{{"time":"2026-01-{:02}T00:00:{seconds:02}Z","tree":"{tree}","paths":["/data"],
            "hostname":"testhost","username":"tester"}}"#,
            days + 1
        );
        self.snapshot_object(json.as_bytes())
    }

    /// Stores a snapshot object with this text.
    pub(crate) fn snapshot_object(&self, json: &[u8]) -> SnapshotId {
        let sealed = self.key.seal(json);
        let id = SnapshotId::digest(&sealed);
        self.store("snapshots", &id.to_hex(), &sealed);
        id
    }

    /// Stores an index object with this text; returns its name.
    pub(crate) fn index_object(&self, json: &[u8]) -> String {
        let sealed = self.key.seal(json);
        let name = IndexId::digest(&sealed).to_hex();
        self.store("index", &name, &sealed);
        name
    }

    /// Replaces the config object by one with this text.
    pub(crate) fn config(&self, json: &[u8]) {
        fs::write(self.dir.join("config"), self.key.seal(json)).unwrap();
    }

    /// Stores a compressed object whose text is this frame of zstd.
    pub(crate) fn compressed_object(&self, folder: &str, frame: &[u8]) -> String {
        let sealed = self.key.seal(&[&[COMPRESSED][..], frame].concat());
        let name = IndexId::digest(&sealed).to_hex();
        self.store(folder, &name, &sealed);
        name
    }

    /// Stores the packs and an index that lists them; returns the names of the packs, that of the
    /// data first.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let mut names = Vec::new();
        for (mut pack, blobs) in std::mem::take(&mut self.open) {
            if blobs.is_empty() {
                continue;
            }
            let header = PackHeader { blobs };
            pack.extend(header.seal(&self.key));
            let id = PackId::digest(&pack);
            self.store(&format!("data/{}", &id.to_hex()[..2]), &id.to_hex(), &pack);
            let blobs = header.blobs.into_iter().map(Into::into).collect();
            self.index.packs.push(IndexPack { id, blobs });
            names.push(id.to_hex());
        }
        let sealed = seal_json(&self.key, &self.index).unwrap();
        self.store("index", &IndexId::digest(&sealed).to_hex(), &sealed);
        names
    }

    fn store(&self, folder: &str, name: &str, bytes: &[u8]) {
        let folder = self.dir.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}
