//! A repository of any size, made without backing anything up: its directories, index objects and
//! snapshots are real, its data packs have a size and nothing else.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use backup_core::crypto::{MasterKey, Passphrase};
use backup_core::format::{
    BlobKind, IndexFile, IndexPack, KeyFile, Node, PackHeader, PackedBlob, Snapshot, seal_json,
    write_tree,
};
use backup_core::id::{BlobId, IndexId, PackId, SnapshotId};
use backup_core::source::Metadata;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Sealed length of every data blob.
const BLOB: u32 = 4096;
/// What sealing adds.
const OVERHEAD: u32 = 32;
/// Data blobs of a file, and of an index object.
const PER_FILE: u64 = 500;
const PER_INDEX: usize = 50_000;
/// Data blobs of a pack.
const PER_PACK: u64 = 4_000;
const TREE_PACK: usize = 4 << 20;

/// Puts together what is to be found in a repository.
pub(crate) struct Vast {
    dir: PathBuf,
    key: MasterKey,
    index: IndexFile,
    /// A pack of directories that is not stored yet.
    trees: (Vec<u8>, Vec<PackedBlob>),
}

impl Vast {
    /// In a repository that exists and is empty.
    pub(crate) fn within(dir: &Path, passphrase: &Passphrase) -> Self {
        let file = fs::read_dir(dir.join("keys")).unwrap().next().unwrap().unwrap().path();
        let key =
            KeyFile::from_json(&fs::read(file).unwrap()).unwrap().unwrap_with(passphrase).unwrap();
        let key = key.expect("the pass phrase is right");
        Self {
            dir: dir.to_owned(),
            key,
            index: IndexFile::default(),
            trees: (Vec::new(), Vec::new()),
        }
    }

    /// Snapshots that need so many blobs together; each needs a few files, and has a root directory
    /// of its own. The blobs of `unneeded` packs are needed by none.
    pub(crate) fn fill(mut self, blobs: u64, snapshots: u64, unneeded: u64) {
        for pack in 0..blobs / PER_PACK + unneeded {
            self.data_pack(pack);
        }
        let files: Vec<BlobId> = (0..blobs / PER_FILE).map(|file| self.file(file)).collect();
        let begin: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        for number in 0..snapshots {
            let time = begin + SignedDuration::from_mins(i64::try_from(number).unwrap());
            let mut nodes: Vec<Node> = [1, 7, 61]
                .into_iter()
                .map(|step| {
                    let subtree = files[usize::try_from(number * step).unwrap() % files.len()];
                    let name = format!("directory {step}").into_bytes().into();
                    Node {
                        name,
                        metadata: Metadata::directory(time),
                        content: Vec::new(),
                        subtree: Some(subtree),
                    }
                })
                .collect();
            let tree = self.tree(&mut nodes);
            self.snapshot(number, time, tree);
        }
        self.store_trees();
        self.store_index();
    }

    fn data_pack(&mut self, number: u64) {
        let blobs: Vec<PackedBlob> =
            (0..PER_PACK).map(|at| data_blob(number * PER_PACK + at)).collect();
        let id = PackId::digest(&number.to_le_bytes());
        let size = PER_PACK * u64::from(BLOB) + PackHeader::sealed_len(&blobs) as u64;
        let path = self.path_of(&id);
        File::create(path).unwrap().set_len(size).unwrap();
        self.list(id, blobs);
    }

    fn path_of(&self, id: &PackId) -> PathBuf {
        let folder = self.dir.join("data").join(&id.to_hex()[..2]);
        fs::create_dir_all(&folder).unwrap();
        folder.join(id.to_hex())
    }

    /// A directory with one file.
    fn file(&mut self, number: u64) -> BlobId {
        let content: Vec<BlobId> =
            (0..PER_FILE).map(|at| data_blob(number * PER_FILE + at).id).collect();
        let size = PER_FILE * u64::from(BLOB - OVERHEAD);
        let metadata = Metadata { size, ..Metadata::stream(Timestamp::UNIX_EPOCH) };
        let name = format!("file {number}").into_bytes().into();
        self.tree(&mut [Node { name, metadata, content, subtree: None }])
    }

    fn tree(&mut self, nodes: &mut [Node]) -> BlobId {
        let json = write_tree(nodes, &TimeZone::UTC).unwrap();
        let (id, sealed) = (BlobId::digest(&json), self.key.seal(&json));
        let (bytes, blobs) = &mut self.trees;
        let (offset, len) =
            (u32::try_from(bytes.len()).unwrap(), u32::try_from(sealed.len()).unwrap());
        blobs.push(PackedBlob { id, kind: BlobKind::Tree, offset, len, uncompressed_len: None });
        bytes.extend(sealed);
        if bytes.len() > TREE_PACK {
            self.store_trees();
        }
        id
    }

    fn store_trees(&mut self) {
        let (mut bytes, blobs) = std::mem::take(&mut self.trees);
        let header = PackHeader { blobs };
        bytes.extend(header.seal(&self.key));
        let id = PackId::digest(&bytes);
        fs::write(self.path_of(&id), bytes).unwrap();
        self.list(id, header.blobs);
    }

    fn list(&mut self, id: PackId, blobs: Vec<PackedBlob>) {
        self.index.packs.push(IndexPack { id, blobs: blobs.into_iter().map(Into::into).collect() });
        if self.index.blobs() >= PER_INDEX {
            self.store_index();
        }
    }

    fn store_index(&mut self) {
        let sealed = seal_json(&self.key, &std::mem::take(&mut self.index)).unwrap();
        self.store("index", &IndexId::digest(&sealed).to_hex(), &sealed);
    }

    fn snapshot(&self, number: u64, time: Timestamp, tree: BlobId) {
        let snapshot = serde_json::json!({
            "time": time,
            "tree": tree.to_hex(),
            "paths": ["/srv"],
            "hostname": format!("host-{}", number % 50),
            "username": "tester",
            "tags": [format!("job=job-{}", number % 50), "source=files", "type=full", "tier=hourly"],
        });
        let snapshot: Snapshot = serde_json::from_value(snapshot).unwrap();
        let sealed = seal_json(&self.key, &snapshot).unwrap();
        self.store("snapshots", &SnapshotId::digest(&sealed).to_hex(), &sealed);
    }

    fn store(&self, folder: &str, name: &str, bytes: &[u8]) {
        let folder = self.dir.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn data_blob(number: u64) -> PackedBlob {
    let offset = u32::try_from(number % PER_PACK).unwrap() * BLOB;
    let id = BlobId::digest(&[b"data".as_slice(), &number.to_le_bytes()].concat());
    PackedBlob { id, kind: BlobKind::Data, offset, len: BLOB, uncompressed_len: None }
}
