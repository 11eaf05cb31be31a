//! Trees: one JSON object per directory.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufReader, Read};

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use super::mended::Mended;
use super::node_json::{NodesSeed, Reading};
use super::node_rules::{self, Fault};
use crate::error::{Error, Result};
use crate::id::BlobId;
use crate::source::{Metadata, NodeKind};

/// Type and special bits of Go's `fs.FileMode`.
pub(crate) mod go_mode {
    pub(crate) const DIR: u32 = 1 << 31;
    pub(crate) const SYMLINK: u32 = 1 << 27;
    pub(crate) const DEVICE: u32 = 1 << 26;
    pub(crate) const FIFO: u32 = 1 << 25;
    pub(crate) const SOCKET: u32 = 1 << 24;
    pub(crate) const SETUID: u32 = 1 << 23;
    pub(crate) const SETGID: u32 = 1 << 22;
    pub(crate) const CHAR_DEVICE: u32 = 1 << 21;
    pub(crate) const STICKY: u32 = 1 << 20;
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name; any bytes but `/` and NUL.
    pub name: Box<[u8]>,
    /// What is known about it.
    pub metadata: Metadata,
    /// The blobs that make up a file, in order.
    pub content: Vec<BlobId>,
    /// The tree of a directory.
    pub subtree: Option<BlobId>,
}

impl Node {
    /// Whether this is a regular file or stream.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.metadata.kind == NodeKind::File
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.metadata.kind == NodeKind::Dir
    }
}

/// A directory: nodes in ascending order of their names' bytes, no name twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// The entries that can be restored.
    pub nodes: Vec<Node>,
    /// Reasons why other entries, or metadata, cannot be restored.
    pub faults: Vec<Fault>,
}

impl Tree {
    /// Reads a tree blob.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it cannot be understood as a
    /// whole, or needs too much memory.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        match Self::decode(&mut serde_json::Deserializer::from_slice(json), json.len()) {
            Err(error) if error.is_syntax() => Self::from_mended(json, json.len()),
            result => result,
        }
        .map_err(unparsable)
    }

    /// Reads a tree to its end from a reader; `stored` bytes of it are in the repository.
    ///
    /// # Errors
    /// The errors of the parser. After a syntax error, [`Self::from_mended`] may succeed.
    pub(crate) fn from_reader(reader: impl Read, stored: usize) -> serde_json::Result<Self> {
        Self::decode(&mut serde_json::Deserializer::from_reader(reader), stored)
    }

    /// Like [`Self::from_reader`], but replaces values that end the reading, see [`Mended`].
    ///
    /// # Errors
    /// The errors of the parser.
    pub(crate) fn from_mended(reader: impl Read, stored: usize) -> serde_json::Result<Self> {
        Self::from_reader(BufReader::new(Mended::new(reader)), stored)
    }

    fn decode<'de, R: serde_json::de::Read<'de>>(
        deserializer: &mut serde_json::Deserializer<R>,
        stored: usize,
    ) -> serde_json::Result<Self> {
        let mut reading = Reading::new(stored);
        TreeSeed(&mut reading).deserialize(&mut *deserializer)?;
        deserializer.end()?;
        let Reading { mut nodes, mut faults, .. } = reading;
        node_rules::sort(&mut nodes, &mut faults);
        Ok(Self { nodes, faults })
    }

    /// Number of entries, with those that cannot be restored.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.nodes.len() + self.faults.iter().filter(|fault| fault.is_left_out()).count()
    }

    /// The node called `name`.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.binary_search_by(|node| (*node.name).cmp(name)).ok().map(|at| &self.nodes[at])
    }
}

/// The error for a directory that the parser refuses.
pub(crate) fn unparsable(error: serde_json::Error) -> Error {
    Error::damaged("cannot parse the directory").with_source(error)
}

struct TreeSeed<'a>(&'a mut Reading);

impl<'de> DeserializeSeed<'de> for TreeSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TreeSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tree")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "nodes" {
                found = true;
                map.next_value_seed(NodesSeed(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(serde::de::Error::missing_field("nodes")) }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::format::Loss;

    fn read(nodes: &str) -> Tree {
        Tree::from_json(format!("{{\"nodes\":[{nodes}]}}").as_bytes()).unwrap()
    }

    #[test]
    fn bad_entries_cost_only_themselves() {
        let id = BlobId::digest(b"x");
        let tree = read(&format!(
            r#"{{"name":"b","type":"file"}},{{"name":"..","type":"file","content":["{id}"]}},7,
               {{"name":"a","type":"x-database"}},{{"name":"c","type":"dir"}}"#
        ));
        let names: Vec<_> = tree.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, [b"b"]);
        let faults: Vec<_> = tree.faults.iter().map(Fault::describe).collect();
        assert_eq!(
            faults,
            [
                "the entry \"..\" has a name that is invalid in a directory",
                "the entry \"entry 3\" is no object",
                "the entry \"a\" has the type \"x-database\", which only other programs can restore",
                "the entry \"c\" has no subtree",
            ]
        );
        let losses: Vec<_> = tree.faults.iter().map(|fault| fault.loss).collect();
        assert_eq!(losses, [Loss::Entry, Loss::Entry, Loss::Unsupported, Loss::Entry]);
        // Other tools may still need the data of bad entries.
        assert_eq!(tree.faults[0].content, [id]);
        assert!(tree.sound().unwrap_err().is_damage());
    }

    #[test]
    fn bad_values_cost_only_themselves() {
        let tree = read(
            r#"{"name":"a","type":"file","mode":8389101,"uid":-1,"gid":7,
                "mtime":"9999-12-31T23:59:59Z","ctime":"2023-11-14T22:13:20Z",
                "extended_attributes":[{"name":"user.a","value":"eA=="},{"name":"user.b","value":7}]}"#,
        );
        let metadata = &tree.nodes[0].metadata;
        assert_eq!((metadata.uid, metadata.gid), (0, 7));
        assert_eq!(metadata.mode, 0o755, "a set-uid program must not change its owner");
        assert_eq!((metadata.mtime, metadata.atime), (Timestamp::MAX, Timestamp::MAX));
        assert_eq!(metadata.ctime.as_second(), 1_700_000_000);
        assert_eq!(metadata.xattrs.len(), 1);
        let [fault] = &tree.faults[..] else { panic!("{:?}", tree.faults) };
        assert_eq!(
            (&*fault.message, fault.loss),
            (
                "has a time outside of the supported years in mtime; the nearest one is used; \
                 has invalid values in uid, extended_attributes; defaults are used",
                Loss::Metadata
            )
        );
        assert_eq!(tree.clone().sound().unwrap(), tree);
    }

    #[test]
    fn every_field_with_an_invalid_time_is_named() {
        for (text, message) in [
            (
                "9999-12-31T23:59:59Z",
                "has a time outside of the supported years in mtime, atime, ctime",
            ),
            ("yesterday", "has invalid values in mtime, atime, ctime"),
        ] {
            let node = format!(
                r#"{{"name":"a","type":"file","mtime":"{text}","atime":"{text}","ctime":"{text}"}}"#
            );
            let tree = read(&node);
            assert!(tree.faults[0].message.starts_with(message), "{:?}", tree.faults);
        }
        let tree = read(
            r#"{"name":"a","type":"file","mtime":"2023-11-14T22:13:20Z",
                "atime":"2023-11-14T22:13:20Z","ctime":"2023-11-14T22:13:21Z"}"#,
        );
        let Metadata { mtime, atime, ctime, .. } = &tree.nodes[0].metadata;
        let seconds = [mtime, atime, ctime].map(|time| time.as_second());
        assert_eq!(seconds, [1_700_000_000, 1_700_000_000, 1_700_000_001]);
    }

    #[test]
    fn first_of_two_entries_with_one_name_stays() {
        let tree = read(
            r#"{"name":"b","type":"fifo"},{"name":"a","type":"file"},{"name":"b","type":"file"}"#,
        );
        let names: Vec<_> = tree.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, [b"a", b"b"]);
        assert_eq!(tree.nodes[1].metadata.kind, NodeKind::Fifo);
        assert_eq!((&*tree.faults[0].entry, tree.faults.len()), ("b", 1));
    }

    /// A reader that gives a few bytes at a time makes the parser copy every text.
    #[test]
    fn a_streamed_directory_is_the_same() {
        let nodes = r#"{"name":"a\\xff","type":"symlink","linktarget":"x\u0041","user":"u"},7"#;
        let json = format!("{{\"nodes\":[{nodes}]}}");
        let streamed = Tree::from_reader(BufReader::with_capacity(3, json.as_bytes()), 9);
        assert_eq!(streamed.unwrap(), read(nodes));
    }

    /// restic's decoder reads halves of surrogate pairs as U+FFFD.
    #[test]
    fn tree_keeps_entries_beside_values_that_json_refuses() {
        let nodes = r#"{"name":"a","type":"file"},{"name":"b","type":"file","size":1e999},
            {"name":"c\ud800","type":"file"},{"name":"d","type":"file","uid":-1e999,"user":"\udc00"}"#
            .replace("\\\\", "\\");
        let tree = read(&nodes);
        let names: Vec<_> = tree.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, [&b"a"[..], "c\u{fffd}".as_bytes(), b"d"]);
        let faults: Vec<_> = tree.faults.iter().map(|fault| (&*fault.entry, fault.loss)).collect();
        assert_eq!(faults, [("b", Loss::Entry), ("d", Loss::Metadata)]);
        let json = format!("{{\"nodes\":[{nodes}]}}");
        assert!(Tree::from_reader(json.as_bytes(), 9).unwrap_err().is_syntax());
        assert_eq!(Tree::from_mended(json.as_bytes(), 9).unwrap(), tree);
    }

    #[test]
    fn entries_may_not_take_more_memory_than_the_limit() {
        let json = format!("{{\"nodes\":[{}7]}}", "7,".repeat(4_000_000));
        let error = Tree::from_json(json.as_bytes()).unwrap_err();
        assert!(error.chain().contains("more than 320 MiB of memory"), "{}", error.chain());
    }
}
