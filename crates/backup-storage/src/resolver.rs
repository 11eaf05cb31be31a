//! From an address to a sink.
//!
//! A sink over a network is wrapped into a [`RetrySink`](crate::RetrySink) here, once and nowhere else, so that no
//! failure is tried again by two layers. A local disk is not: what it refuses once, it refuses again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use backup_core::sink::{Operation, Sink, SinkError, SinkErrorKind, SinkResult};

use crate::LocalSink;

/// Kinds of object stores, by the beginning of their addresses.
const OBJECT_STORES: [(&str, &str); 3] = [("s3", "S3"), ("gs", "Google Cloud Storage"), ("az", "Azure Blob Storage")];

/// Where a repository is. Parsed from what users type: a path (also a relative one), or a `file://` URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A directory of this machine.
    Local(PathBuf),
}

impl Location {
    /// A directory of this machine.
    pub fn local(path: impl Into<PathBuf>) -> Self {
        Self::Local(path.into())
    }
}

impl FromStr for Location {
    type Err = SinkError;

    /// # Errors
    /// [`SinkErrorKind::Invalid`] for what is no address, [`SinkErrorKind::Unsupported`] for stores that this build
    /// does not support.
    fn from_str(text: &str) -> SinkResult<Self> {
        if text.is_empty() {
            return Err(refused(SinkErrorKind::Invalid, text, "the address is empty"));
        }
        if text.contains('\0') {
            return Err(refused(SinkErrorKind::Invalid, text, "a path cannot hold a NUL byte"));
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            return Ok(Self::local(text));
        };
        if scheme.eq_ignore_ascii_case("file") {
            return file_url(text, rest);
        }
        let known = OBJECT_STORES.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name));
        Err(match known {
            Some((_, store)) => {
                let message = format!("built without support for {store}");
                refused(SinkErrorKind::Unsupported, text, message)
            }
            None => {
                let message = format!("{scheme}:// is no known kind of storage; use a path or file://");
                refused(SinkErrorKind::Unsupported, text, message)
            }
        })
    }
}

/// The scheme of a URL and what follows its `://`.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let mut letters = scheme.bytes();
    let is_scheme = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    is_scheme.then_some((scheme, rest))
}

/// The path of a `file://` URL; `%` and two hexadecimal digits stand for a byte.
fn file_url(text: &str, rest: &str) -> SinkResult<Location> {
    use std::os::unix::ffi::OsStringExt;
    let invalid = |message: &str| refused(SinkErrorKind::Invalid, text, message.to_owned());
    let path = match rest.find('/') {
        Some(0) => rest,
        Some(at) if rest[..at].eq_ignore_ascii_case("localhost") => &rest[at..],
        _ => {
            return Err(invalid("a file:// URL has an absolute path: file:///path/to/directory"));
        }
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || left.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) if high + low > 0 => bytes.push((high * 16 + low) as u8),
            _ => return Err(invalid("`%` is followed by two hexadecimal digits other than 00")),
        }
    }
    Ok(Location::Local(std::ffi::OsString::from_vec(bytes).into()))
}

fn refused(kind: SinkErrorKind, text: &str, message: impl Into<String>) -> SinkError {
    SinkError::on(kind, Operation::Head, text).with_source(message.into()).without_effect()
}

impl fmt::Display for Location {
    /// The form that users know: a plain path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
        }
    }
}

/// The sink of a place that exists.
///
/// # Errors
/// [`SinkErrorKind::NotFound`] if nothing is there, [`SinkErrorKind::Invalid`] for a regular file, and those of the
/// kind of storage.
pub fn open(location: &Location) -> SinkResult<Arc<dyn Sink>> {
    match location {
        Location::Local(path) => {
            refuse_file(path, location)?;
            Ok(Arc::new(LocalSink::open(path)?))
        }
    }
}

/// The sink of a place that is made if it does not exist.
///
/// # Errors
/// [`SinkErrorKind::Invalid`] for a regular file, and those of the kind of storage.
pub fn create(location: &Location) -> SinkResult<Arc<dyn Sink>> {
    match location {
        Location::Local(path) => {
            refuse_file(path, location)?;
            Ok(Arc::new(LocalSink::create(path)?))
        }
    }
}

fn refuse_file(path: &Path, location: &Location) -> SinkResult<()> {
    if path.exists() && !path.is_dir() {
        let name = location.to_string();
        return Err(refused(SinkErrorKind::Invalid, &name, "this is a file, not a directory"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> PathBuf {
        match text.parse() {
            Ok(Location::Local(path)) => path,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn paths_and_file_urls_are_directories() {
        for text in ["/srv/backup", "repo", "./repo", "../a b", "a:b", "://x", "1a://x"] {
            assert_eq!(local(text), PathBuf::from(text));
        }
        for (url, path) in [
            ("file:///srv/backup", "/srv/backup"),
            ("FILE://localhost/srv", "/srv"),
            ("file:///a%20b%C3%A4", "/a bä"),
            ("file:///a%2525", "/a%25"),
        ] {
            assert_eq!(local(url), PathBuf::from(path), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_so() {
        for (text, kind, words) in [
            ("", SinkErrorKind::Invalid, "empty"),
            ("file://host/x", SinkErrorKind::Invalid, "absolute"),
            ("file://repo", SinkErrorKind::Invalid, "absolute"),
            ("file:///a%zz", SinkErrorKind::Invalid, "hexadecimal"),
            ("file:///a%00", SinkErrorKind::Invalid, "hexadecimal"),
            ("file:///a%4", SinkErrorKind::Invalid, "hexadecimal"),
            ("s3://bucket/x", SinkErrorKind::Unsupported, "built without support for S3"),
            ("gs://bucket", SinkErrorKind::Unsupported, "built without support for Google"),
            ("az://container", SinkErrorKind::Unsupported, "built without support for Azure"),
            ("sftp://host/x", SinkErrorKind::Unsupported, "no known kind"),
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(words), "{text}: {cause}");
        }
    }

    #[test]
    fn a_location_prints_as_it_is_typed() {
        for text in ["/srv/backup", "./repo", "C:\\x"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!("file:///srv".parse::<Location>().unwrap().to_string(), "/srv");
    }

    #[test]
    fn a_place_must_be_there_to_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let place = Location::local(dir.path().join("a/b"));
        assert_eq!(open(&place).unwrap_err().kind(), SinkErrorKind::NotFound);
        create(&place).unwrap();
        create(&place).unwrap();
        assert_eq!(open(&place).unwrap().to_string(), place.to_string());
    }

    #[test]
    fn a_file_is_no_place_for_a_repository() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for place in [Location::local(&file), Location::local(file.join("below"))] {
            assert!(open(&place).is_err(), "{place}");
            assert_eq!(create(&place).unwrap_err().kind(), SinkErrorKind::Invalid, "{place}");
        }
    }
}
