//! The rules that entries of a directory must keep, for every reader: restore, export, check,
//! verify and copy. A stored name becomes a name in a file system only after it passed them.
//!
//! [`Tree`](super::Tree) holds the entries that can be restored, and a [`Fault`] for every other
//! one. The one rule that needs the index, the length of a file, is [`Node::misfit`].

use super::{Node, Tree};
use crate::error::{Error, Result};
use crate::id::BlobId;
use crate::limits;

/// Characters of a name that messages show.
const SHOWN: usize = 64;

/// Something wrong with one entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The entry's name for messages, shortened, or its number if it has no name.
    pub entry: String,
    /// Reason, as a lower-case fragment that follows the name.
    pub message: String,
    /// Lost part of the entry.
    pub loss: Loss,
    /// Blobs that the entry refers to, which other tools may be able to use.
    pub content: Vec<BlobId>,
    /// The directory that it refers to.
    pub subtree: Option<BlobId>,
}

/// The part of an entry that is lost by a [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it: it is not among the nodes of the directory, and no program can restore it.
    Entry,
    /// Nothing, but this program does not support its type: it is not among the nodes of the
    /// directory, and stays in the directory object. This is no damage.
    Unsupported,
    /// Some of its metadata: its node has defaults instead.
    Metadata,
}

impl Fault {
    /// True if the entry is not among the nodes of its directory.
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        self.loss != Loss::Metadata
    }

    /// True if no program can restore the entry: that is damage.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.loss == Loss::Entry
    }

    /// The name and the reason.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("the entry {:?} {}", self.entry, self.message)
    }
}

impl Tree {
    /// The directory, if all its entries can be restored.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) for the first that cannot.
    pub fn sound(self) -> Result<Self> {
        match self.faults.iter().find(|fault| fault.is_left_out()) {
            None => Ok(self),
            Some(fault) => Err(Error::damaged(fault.describe())
                .with_hint("run `backup check` to list every entry that cannot be restored")),
        }
    }
}

impl Node {
    /// The reason why it cannot be restored, if its blobs have `content_len` bytes together: its
    /// kind and a lower-case fragment. Checks, verifications, restores and exports agree on it.
    #[must_use]
    pub fn misfit(&self, content_len: u64) -> Option<(&'static str, String)> {
        if let Some(message) = name_fault(&self.name) {
            return Some(("entry", message));
        }
        if self.is_dir() && self.subtree.is_none() {
            return Some(("directory", NO_SUBTREE.to_owned()));
        }
        let size_fault = size_fault(self.metadata.size, content_len);
        Some(("file", size_fault.filter(|_| self.is_file())?))
    }

    /// True for a name that a directory entry can have; names in a repository are not to be
    /// trusted.
    #[must_use]
    pub fn has_safe_name(&self) -> bool {
        name_fault(&self.name).is_none()
    }
}

pub(super) const NO_SUBTREE: &str = "has no subtree";

/// The reason why a file cannot be restored whose recorded size is `recorded`, and whose blobs have
/// `content_len` bytes together.
#[must_use]
pub fn size_fault(recorded: u64, content_len: u64) -> Option<String> {
    (recorded != content_len).then(|| {
        format!("has a recorded size of {recorded} bytes, but its blobs have {content_len}")
    })
}

/// The reason why no directory can have an entry of this name.
pub(super) fn name_fault(name: &[u8]) -> Option<String> {
    let is_special = matches!(name, b"" | b"." | b"..");
    if is_special || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Some("has a name that is invalid in a directory".to_owned());
    }
    (name.len() > limits::MAX_NAME).then(|| {
        format!(
            "has a name of {} bytes, of which file systems accept {}",
            name.len(),
            limits::MAX_NAME
        )
    })
}

/// The reason why no symbolic link can have this target.
pub(super) fn target_fault(target: &[u8]) -> Option<String> {
    if target.is_empty() {
        return Some("is a symbolic link without a target".to_owned());
    }
    if target.contains(&0) {
        return Some("is a symbolic link with a NUL byte in its target".to_owned());
    }
    (target.len() > limits::MAX_LINK_TARGET).then(|| {
        format!(
            "is a symbolic link with a target of {} bytes, of which file systems accept {}",
            target.len(),
            limits::MAX_LINK_TARGET
        )
    })
}

/// Sorts nodes by name. Of several with one name only the first stays.
pub(super) fn sort(nodes: &mut Vec<Node>, faults: &mut Vec<Fault>) {
    if nodes.is_sorted_by(|a, b| a.name < b.name) {
        return;
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes.dedup_by(|node, first| {
        let is_twice = node.name == first.name;
        if is_twice {
            faults.push(Fault {
                entry: shown(&node.name),
                message: "is in its directory more than once; only the first one is used"
                    .to_owned(),
                loss: Loss::Entry,
                content: std::mem::take(&mut node.content),
                subtree: node.subtree,
            });
        }
        is_twice
    });
}

/// A name for messages.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.char_indices().nth(SHOWN) {
        None => text.into_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_directory_can_have() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b", &[b'x'; 256]] {
            assert!(name_fault(bad).is_some(), "{bad:?}");
        }
        for good in [&b"..."[..], b" ", b"\\", b"\xff\xfe", b"a\nb", &[b'x'; 255]] {
            assert!(name_fault(good).is_none(), "{good:?}");
        }
    }

    #[test]
    fn targets_that_no_link_can_have() {
        for bad in [&b""[..], b"a\0b", &[b'x'; 4096]] {
            assert!(target_fault(bad).is_some());
        }
        for good in [&b".."[..], b"/", b"\xff", &[b'x'; 4095]] {
            assert!(target_fault(good).is_none());
        }
    }

    #[test]
    fn long_names_are_shortened() {
        assert_eq!(shown(b"short"), "short");
        assert_eq!(shown("ä".repeat(300).as_bytes()), format!("{}…", "ä".repeat(64)));
    }
}
