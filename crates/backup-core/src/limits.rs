//! Limits on everything that is read from a repository. `docs/limits.md` documents them.
//!
//! A writer with the key can store a small object that expands to a huge one. Every reader therefore
//! has a limit, and reports a larger object as damaged; other objects stay usable.
//! Directories have no fixed limit: real ones have millions of entries. Theirs grows with the bytes
//! that are stored for them, so that only an object that expands far beyond its stored size is
//! refused.

use std::fmt;

use crate::format::{BlobKind, PackedBlob};
use crate::source::EntryPath;

/// Longest name of an entry, in bytes: that of Linux file systems.
pub const MAX_NAME: usize = 255;
/// Longest target of a symbolic link, in bytes: that of Linux.
pub const MAX_LINK_TARGET: usize = 4095;
/// Longest name of an extended attribute, in bytes: that of Linux.
pub const MAX_ATTRIBUTE_NAME: usize = 255;
/// Largest file, in bytes: sums of sizes do not overflow.
pub const MAX_FILE: u64 = 1 << 50;
/// Most levels of directories below the root of a snapshot.
pub const MAX_DEPTH: usize = 2048;
/// Entries that the directories of one snapshot may have together, counted as often as they are
/// met, beyond one for each byte of directory objects in the repository before compression. Entries
/// take more than a hundred bytes each, so that only directories that refer to each other many times
/// have more.
pub const MAX_REPEATED: u64 = 1 << 18;
/// Longest path in a snapshot, in bytes.
pub const MAX_PATH: usize = 32 << 10;
/// Longest text in a directory object, in bytes: an extended attribute in Base64.
pub const MAX_TEXT: usize = 16 << 20;
/// Memory that the entries of one directory may take, in bytes,
pub const TREE_MEMORY: usize = 320 << 20;
/// or this many times its stored size, if that is more.
pub const TREE_MEMORY_RATIO: usize = 16;
/// Length of a directory object before compression, in bytes,
pub const TREE_LENGTH: u64 = 256 << 20;
/// or this many times its stored size, if that is more.
pub const TREE_LENGTH_RATIO: u64 = 64;
/// Largest data blob before compression, in bytes.
pub const MAX_DATA_BLOB: u32 = 8 << 20;
/// Largest data blob that a repository may permit by `chunk_max_size` in its config, in bytes.
pub const MAX_CHUNK: u32 = 64 << 20;
/// Largest snapshot object before compression, in bytes.
pub const MAX_SNAPSHOT: usize = 16 << 20;
/// Bytes before compression by which the snapshot objects of a repository may exceed
/// [`SNAPSHOT_RATIO`] times their stored size, together: a listing holds all of them in memory.
pub const MAX_SNAPSHOT_EXCESS: usize = 8 << 20;
/// Length of a snapshot object before compression, in stored sizes, that counts as no excess.
pub const SNAPSHOT_RATIO: usize = 16;
/// Most objects of one kind in a repository (snapshots, indexes, keys, locks), except packs.
pub const MAX_LISTED: usize = 1 << 19;
/// Most packs in a repository.
pub const MAX_PACKS: usize = 1 << 24;
/// Most packs in a listing beyond those that the index knows: a listing of all is held in memory,
/// some 100 bytes for each pack.
pub const MAX_UNLISTED: usize = 1 << 21;
/// Largest index object before compression, in bytes: about 400 000 blobs.
pub const MAX_INDEX: usize = 64 << 20;
/// Largest other sealed object before compression, in bytes.
pub const MAX_OBJECT: usize = 64 << 20;
/// Most JSON values in a sealed object other than an index.
pub const MAX_VALUES: usize = 1 << 19;
/// Largest config object and key file, in bytes.
pub const MAX_CONFIG: usize = 1 << 20;
/// Largest manifest of a snapshot, in bytes.
pub const MAX_MANIFEST: usize = 64 << 20;
/// Most JSON values in a manifest.
pub const MAX_MANIFEST_VALUES: usize = 1 << 21;
/// Longest line of the list of skipped entries of a snapshot, in bytes: a path may be escaped.
pub const MAX_SKIPPED_LINE: usize = 6 * MAX_PATH + 1024;
/// Most entries of that list: a restore with `--delete` holds 16 bytes for each of them in memory.
pub const MAX_SKIPPED: u64 = 1 << 25;
/// Most memory that a key file may demand of scrypt, in bytes: restic's demand at most 64 MiB.
pub const MAX_KEY_MEMORY: u128 = 256 << 20;

/// The reason why a blob is not read, if it is larger than a reader accepts. `max_data` is the
/// repository's limit for data blobs.
pub(crate) fn blob_fault(blob: &PackedBlob, max_data: u32) -> Option<String> {
    let (plain, sealed) = (u64::from(blob.plain_len()), u64::from(blob.len));
    let limit = match blob.kind {
        BlobKind::Data => u64::from(max_data),
        BlobKind::Tree => TREE_LENGTH.max(TREE_LENGTH_RATIO * sealed),
    };
    // Compression makes incompressible data longer by at most 1/256.
    let is_padded = blob.kind == BlobKind::Data && sealed > limit + limit / 128 + 1024;
    if plain <= limit && !is_padded {
        return None;
    }
    let len = plain.max(sealed);
    Some(format!("has a length of {len} bytes, of which at most {limit} are accepted"))
}

/// The reason why a directory at `path` is not entered, if it lies too deep.
#[must_use]
pub fn depth_fault(path: &EntryPath) -> Option<String> {
    let bytes = path.as_bytes();
    if bytes.len() > MAX_PATH {
        return Some(format!("has a path of more than {MAX_PATH} bytes"));
    }
    let levels = bytes.iter().filter(|byte| **byte == b'/').count();
    (!path.is_root() && levels > MAX_DEPTH)
        .then(|| format!("lies more than {MAX_DEPTH} directories deep"))
}

/// Counts the entries that a walk through a snapshot meets.
#[derive(Debug, Default)]
pub struct Entries(u64);

impl Entries {
    /// Counts the entries of a directory that is entered. `directories` returns the length of all
    /// directory objects in the repository, in bytes; it may be slow, and is rarely called.
    ///
    /// # Errors
    /// The reason why the directory is not entered.
    pub fn enter(
        &mut self,
        entries: usize,
        directories: impl FnOnce() -> u64,
    ) -> Result<(), String> {
        let sum = self.0.saturating_add(entries as u64);
        if sum > MAX_REPEATED
            && let Some(message) = repetition_fault(sum, directories())
        {
            return Err(message);
        }
        self.0 = sum;
        Ok(())
    }
}

/// The reason why not all entries of a snapshot can be read, if it has `entries` of them in a
/// repository with `directories` bytes of directory objects.
pub(crate) fn repetition_fault(entries: u64, directories: u64) -> Option<String> {
    (entries > MAX_REPEATED.saturating_add(directories))
        .then(|| "repeats its directories too many times".to_owned())
}

/// Memory that is left for the entries of one directory.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
    most: usize,
}

impl Budget {
    /// For a directory of which `stored` bytes are in the repository.
    pub(crate) fn of_stored(stored: usize) -> Self {
        let most = TREE_MEMORY.max(stored.saturating_mul(TREE_MEMORY_RATIO));
        Self { left: most, most }
    }

    /// Takes `bytes` of it.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.left = self.left.checked_sub(bytes).ok_or(TooLarge(self.most))?;
        Ok(())
    }
}

/// A directory needs more memory than this.
#[derive(Debug)]
pub(crate) struct TooLarge(usize);

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its entries need more than {} MiB of memory", self.0 >> 20)
    }
}

/// True for a JSON text of at most `most` values; counts separators outside of strings.
pub(crate) fn has_at_most(most: usize, json: &[u8]) -> bool {
    let (mut values, mut in_text, mut escaped) = (1_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values <= most
}

/// Passes on a JSON text, and fails in a string of more than [`MAX_TEXT`] bytes, which a parser
/// would hold in memory as a whole.
#[derive(Debug)]
pub(crate) struct ShortTexts<R> {
    source: R,
    /// Bytes of the string that is being read.
    text: Option<usize>,
    escaped: bool,
}

impl<R: std::io::Read> ShortTexts<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, text: None, escaped: false }
    }
}

impl<R: std::io::Read> std::io::Read for ShortTexts<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.source.read(buffer)?;
        for byte in &buffer[..len] {
            let Some(text) = &mut self.text else {
                self.text = (*byte == b'"').then_some(0);
                continue;
            };
            *text += 1;
            // The closing quote counts.
            if *text > MAX_TEXT + 1 {
                let message = format!("a text is longer than {MAX_TEXT} bytes");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
            }
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.text = None,
                _ => {}
            }
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::id::BlobId;

    fn blob(kind: BlobKind, len: u32, uncompressed_len: Option<u32>) -> PackedBlob {
        PackedBlob { id: BlobId::digest(b"blob"), kind, offset: 0, len, uncompressed_len }
    }

    #[test]
    fn blobs_are_limited_by_kind() {
        let fits = |blob: &PackedBlob| blob_fault(blob, MAX_DATA_BLOB).is_none();
        assert!(fits(&blob(BlobKind::Data, 100, Some(8 << 20))));
        assert!(!fits(&blob(BlobKind::Data, 100, Some((8 << 20) + 1))));
        // Stored larger than it is, as incompressible data may be; but not by far.
        assert!(fits(&blob(BlobKind::Data, (8 << 20) + 40_000, Some(8 << 20))));
        assert!(!fits(&blob(BlobKind::Data, 9 << 20, Some(8 << 20))));
        assert!(fits(&blob(BlobKind::Tree, 100, Some(256 << 20))));
        assert!(!fits(&blob(BlobKind::Tree, 100, Some((256 << 20) + 1))));
        assert!(fits(&blob(BlobKind::Tree, 50 << 20, Some(3 << 30))));
    }

    #[test]
    fn depth_counts_levels_and_bytes() {
        let path = |text: String| EntryPath::new(text).unwrap();
        assert_eq!(depth_fault(&EntryPath::root()), None);
        assert_eq!(depth_fault(&path("/a".repeat(2048))), None);
        assert!(depth_fault(&path("/a".repeat(2049))).is_some());
        assert_eq!(depth_fault(&path(format!("/{}", "a".repeat(200)).repeat(160))), None);
        assert!(depth_fault(&path(format!("/{}", "a".repeat(200)).repeat(170))).is_some());
    }

    #[test]
    fn entries_are_limited_by_stored_directories() {
        let mut entries = Entries::default();
        entries.enter(1 << 18, || panic!("is not needed")).unwrap();
        entries.enter(100, || 100).unwrap();
        assert!(entries.enter(1, || 100).is_err());
        entries.enter(0, || 100).unwrap();
        entries.enter(1, || 101).unwrap();
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        let text = br#"{"a":",,,[[[{{{\",","b":[1,2]}"#;
        assert!(has_at_most(5, text) && !has_at_most(4, text));
    }

    #[test]
    fn long_texts_end_the_reading() {
        let read = |text: &str| {
            let mut all = Vec::new();
            ShortTexts::new(text.as_bytes()).read_to_end(&mut all).map(|_| all)
        };
        let many = format!("[{}]", format!("\"{}\",", "x".repeat(1 << 20)).repeat(40));
        assert_eq!(read(&many).unwrap(), many.as_bytes());
        assert!(read(&format!("[\"{}\"]", "x".repeat(MAX_TEXT + 1))).is_err());
        assert!(read(&format!("[\"{}\"]", "\\\"".repeat(MAX_TEXT))).is_err());
    }

    /// The table for people states the values that hold.
    #[test]
    fn table_in_the_documentation_is_true() {
        let table = include_str!("../../../docs/limits.md");
        for (name, value) in [
            ("Name of an entry", "255 bytes"),
            ("Target of a symbolic link", "4095 bytes"),
            ("Name of an extended attribute", "255 bytes"),
            ("Size of a file", "1 PiB"),
            ("Levels of directories", "2048"),
            ("Path in a snapshot", "32 KiB"),
            ("Entries of a snapshot, counted as often as they are met", "262 144"),
            ("Text in a directory object", "16 MiB"),
            ("Memory for the entries of one directory", "320 MiB, or 16 times its stored size"),
            ("Directory object", "256 MiB, or 64 times its stored size"),
            ("Data blob", "8 MiB"),
            ("`chunk_max_size` in the config", "64 MiB"),
            ("Snapshot object", "16 MiB"),
            ("Snapshot objects of a repository together", "8 MiB beyond 16 times"),
            ("Objects of one kind", "524 288; 16 777 216 packs"),
            ("Packs that no index lists", "2 097 152"),
            ("Index object", "64 MiB"),
            ("Other sealed object", "64 MiB"),
            ("JSON values in a sealed object", "524 288"),
            ("Config object, key file", "1 MiB"),
            ("Manifest of a snapshot", "64 MiB, 2 097 152 JSON values"),
            ("Memory of scrypt", "256 MiB"),
        ] {
            assert!(table.contains(&format!("| {name} | {value}")), "{name}: {value}");
        }
        let shown = (MAX_NAME, MAX_LINK_TARGET, MAX_ATTRIBUTE_NAME, MAX_DEPTH, MAX_VALUES);
        assert_eq!(shown, (255, 4095, 255, 2048, 524_288));
        let kib =
            (MAX_PATH, MAX_TEXT, TREE_MEMORY, MAX_SNAPSHOT, MAX_INDEX, MAX_OBJECT, MAX_CONFIG);
        assert_eq!(kib, (32 << 10, 16 << 20, 320 << 20, 16 << 20, 64 << 20, 64 << 20, 1 << 20));
        assert_eq!((TREE_LENGTH, MAX_DATA_BLOB, MAX_CHUNK), (256 << 20, 8 << 20, 64 << 20));
        assert_eq!((MAX_MANIFEST, MAX_MANIFEST_VALUES), (64 << 20, 2_097_152));
        assert_eq!((MAX_KEY_MEMORY, MAX_REPEATED), (256 << 20, 262_144));
        assert_eq!(MAX_FILE, 1 << 50);
        assert_eq!((MAX_SNAPSHOT_EXCESS, SNAPSHOT_RATIO), (8 << 20, 16));
        assert_eq!((MAX_LISTED, MAX_PACKS, MAX_UNLISTED), (524_288, 16_777_216, 2_097_152));
        assert_eq!((TREE_MEMORY_RATIO, TREE_LENGTH_RATIO), (16, 64));
    }
}
