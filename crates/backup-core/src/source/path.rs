//! Absolute paths inside a snapshot. Names are bytes: Unix allows any except `/` and NUL.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// An absolute path such as `/var/lib/data`; `/` is the root. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Bytes);

impl EntryPath {
    /// The root.
    #[must_use]
    pub const fn root() -> Self {
        Self(Bytes::from_static(b"/"))
    }

    /// Normalises `path` into an absolute path: empty and `.` segments vanish. `None` if a segment
    /// is `..` or holds a NUL byte.
    #[must_use]
    pub fn new(path: impl AsRef<[u8]>) -> Option<Self> {
        let mut out = Vec::with_capacity(path.as_ref().len() + 1);
        for segment in path.as_ref().split(|b| *b == b'/') {
            match segment {
                b"" | b"." => {}
                b".." => return None,
                name if name.contains(&0) => return None,
                name => {
                    out.push(b'/');
                    out.extend_from_slice(name);
                }
            }
        }
        Some(if out.is_empty() { Self::root() } else { Self(out.into()) })
    }

    /// The path of the child `name`, which must be a single valid name.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let base = if self.is_root() { &[][..] } else { &self.0 };
        let mut out = Vec::with_capacity(base.len() + 1 + name.len());
        out.extend_from_slice(base);
        out.push(b'/');
        out.extend_from_slice(name);
        Self(out.into())
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The containing directory; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|b| *b == b'/') {
            None | Some(0) => Some(Self::root()),
            Some(at) => Some(Self(self.0.slice(..at))),
        }
    }

    /// The last name; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let at = self.0.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        &self.0[at..]
    }

    /// The names from the root downwards.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|segment| !segment.is_empty())
    }

    /// Whether this path is `ancestor` or lies below it.
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(&ancestor.0[..])
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for people: bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn display(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn normalises() {
        assert_eq!(path("a//b/./c/").display(), "/a/b/c");
        assert_eq!(path(""), EntryPath::root());
        assert_eq!(EntryPath::new("/a/../b"), None);
        assert_eq!(EntryPath::new("/a\0b"), None);
    }

    #[test]
    fn family() {
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(EntryPath::root()));
        assert_eq!(EntryPath::root().parent(), None);
        assert_eq!(path("/a/b").name(), b"b");
        assert_eq!(EntryPath::root().join(b"x"), path("/x"));
        assert!(path("/a/b").starts_with(&path("/a")));
        assert!(!path("/ab").starts_with(&path("/a")));
        assert!(path("/ab").starts_with(&EntryPath::root()));
    }
}
