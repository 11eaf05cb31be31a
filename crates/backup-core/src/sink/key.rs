//! Object names. Only characters that every store keeps as they are, so that no escaping is ever
//! needed.

use std::fmt;

/// Longest allowed key in bytes; object stores allow 1024 including their own prefix.
const MAX_LEN: usize = 512;

/// The text is not a valid key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid object name")]
pub struct InvalidKey(pub String);

/// Name of an object: segments of `[A-Za-z0-9._-]` joined by `/`; no segment is empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Beginning of keys up to a `/`; the empty prefix means everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Prefix(String);

fn valid(text: &str) -> bool {
    text.len() <= MAX_LEN
        && text.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        })
}

impl Key {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`InvalidKey`] if the text does not follow the rules of [`Key`].
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidKey> {
        let text = text.into();
        if valid(&text) { Ok(Self(text)) } else { Err(InvalidKey(text)) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl Prefix {
    /// Everything.
    #[must_use]
    pub fn root() -> Self {
        Self(String::new())
    }

    /// Checks and wraps a prefix, written without a trailing `/`.
    ///
    /// # Errors
    /// [`InvalidKey`] if the text does not follow the rules of [`Key`] and is not empty.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidKey> {
        let text = text.into();
        if text.is_empty() || valid(&text) { Ok(Self(text)) } else { Err(InvalidKey(text)) }
    }

    /// The prefix as text, without a trailing `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `key` lies under this prefix.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.0.is_empty() || key.0.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_portable_names_are_keys() {
        for good in ["config", "data/ab/abcd", "x-lane/s1/0/1.pack", "A_b-c.d"] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", ".", "a b", "ä", "a\\b", "a%20"] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
        assert!(Key::new("a".repeat(MAX_LEN + 1)).is_err());
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        let prefix = Prefix::new("data").unwrap();
        assert!(prefix.contains(&Key::new("data/a").unwrap()));
        assert!(!prefix.contains(&Key::new("database/a").unwrap()));
        assert!(!prefix.contains(&Key::new("data").unwrap()));
        assert!(Prefix::root().contains(&Key::new("config").unwrap()));
    }
}
