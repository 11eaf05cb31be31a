//! Addresses of repositories.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use backup_core::sink::{Operation, SinkError, SinkErrorKind, SinkResult};
use url::form_urlencoded;

use crate::settings::{StoreSettings, URL_KEYS, overlay};

/// Where a repository is. Parsed from what users type: a path (also a relative one), a `file://`
/// URL, or the address of an object store: `s3://bucket/prefix`, `gs://bucket/prefix`,
/// `az://container/prefix`, the latter three with settings that are not secret behind a `?`
/// ([`URL_KEYS`]): `s3://bucket/prefix?endpoint=https://minio.example&region=eu-1`.
///
/// [`Display`](fmt::Display) gives text that parses to an equal location. There is never a secret
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A directory of this machine.
    Local(PathBuf),
    /// A bucket of S3, or of a store that speaks its language.
    #[non_exhaustive]
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Beginning of all keys, without slashes at its ends; may be empty.
        prefix: String,
        /// Settings of the URL.
        query: BTreeMap<String, String>,
    },
    /// A bucket of Google Cloud Storage.
    #[non_exhaustive]
    Gcs {
        /// Name of the bucket.
        bucket: String,
        /// Beginning of all keys, without slashes at its ends; may be empty.
        prefix: String,
        /// Settings of the URL.
        query: BTreeMap<String, String>,
    },
    /// A container of Azure Blob Storage.
    #[non_exhaustive]
    Azure {
        /// Name of the container.
        container: String,
        /// Beginning of all keys, without slashes at its ends; may be empty.
        prefix: String,
        /// Settings of the URL.
        query: BTreeMap<String, String>,
    },
}

impl Location {
    /// A directory of this machine.
    pub fn local(path: impl Into<PathBuf>) -> Self {
        Self::Local(path.into())
    }
}

impl Location {
    /// The same place without what its URL says of a setting, so that the settings of the caller
    /// decide.
    #[must_use]
    pub fn without(mut self, setting: &str) -> Self {
        match &mut self {
            Self::Local(_) => {}
            Self::S3 { query, .. } | Self::Gcs { query, .. } | Self::Azure { query, .. } => {
                _ = query.remove(setting);
            }
        }
        self
    }
}

impl FromStr for Location {
    type Err = SinkError;

    /// # Errors
    /// [`SinkErrorKind::Invalid`] for what is no address or holds a secret,
    /// [`SinkErrorKind::Unsupported`] for kinds of storage that do not exist here.
    fn from_str(text: &str) -> SinkResult<Self> {
        if text.is_empty() {
            return Err(refused(SinkErrorKind::Invalid, text, "the address is empty"));
        }
        if text.contains('\0') {
            return Err(refused(SinkErrorKind::Invalid, text, "a path cannot contain a NUL byte"));
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            return foreign(text).map_or_else(|| Ok(Self::local(text)), Err);
        };
        match &*scheme.to_ascii_lowercase() {
            "file" => file_url(text, rest),
            "s3" => bucket_url(scheme, rest).map(|(bucket, prefix, query)| Self::S3 {
                bucket,
                prefix,
                query,
            }),
            "gs" => bucket_url(scheme, rest).map(|(bucket, prefix, query)| Self::Gcs {
                bucket,
                prefix,
                query,
            }),
            "az" => bucket_url(scheme, rest).map(|(container, prefix, query)| Self::Azure {
                container,
                prefix,
                query,
            }),
            _ => {
                let message = format!(
                    "{scheme}:// is not a supported storage type; use a path, file://, s3://, \
                     gs:// or az://"
                );
                Err(refused(SinkErrorKind::Unsupported, &format!("{scheme}://…"), message))
            }
        }
    }
}

/// Bucket, prefix and settings of what follows the `://`. Errors do not repeat the text: it may
/// hold a secret.
fn bucket_url(scheme: &str, rest: &str) -> SinkResult<(String, String, BTreeMap<String, String>)> {
    let name = format!("{scheme}://…");
    let invalid = |message: &str| refused(SinkErrorKind::Invalid, &name, message.to_owned());
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    if bucket.contains('@') {
        return Err(
            invalid("an address must not contain a user name or password").with_hint(BY_REFERENCE)
        );
    }
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if bucket.is_empty() || !bucket.bytes().all(is_name) {
        return Err(invalid("the bucket name is missing or has invalid characters").with_hint(
            format!(
                "write {scheme}://bucket/prefix, with ?endpoint=https://host for another server"
            ),
        ));
    }
    let prefix = prefix.trim_matches('/');
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|b| is_name(b) || matches!(b, b'!' | b'*' | b'(' | b')' | b'=' | b'+'))
    };
    if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
        return Err(invalid(
            "the prefix has empty segments or characters that are not safe in every store",
        )
        .with_hint("use letters, digits and !-_.*()=+ in the prefix"));
    }
    Ok((bucket.to_owned(), prefix.to_owned(), settings_of(&name, query)?))
}

/// How secrets are given instead.
const BY_REFERENCE: &str = "set credentials in the environment, in a profile, or with the settings \
                            secret_access_key_file, secret_access_key_env, service_account or \
                            account_key_env";

fn settings_of(name: &str, query: &str) -> SinkResult<BTreeMap<String, String>> {
    let invalid = |message: String| refused(SinkErrorKind::Invalid, name, message);
    let mut settings = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let lower = key.to_ascii_lowercase();
        if ["key", "secret", "token", "password", "sig", "credential"]
            .iter()
            .any(|word| lower.contains(word))
        {
            return Err(
                invalid("an address must not contain secrets".to_owned()).with_hint(BY_REFERENCE)
            );
        }
        if !URL_KEYS.contains(&&*key) {
            return Err(invalid(format!("{key:?} is not a setting of an address")).with_hint(
                format!("use only these settings in an address: {}", URL_KEYS.join(", ")),
            ));
        }
        if matches!(&*key, "endpoint" | "proxy") && value.contains('@') {
            let message = format!("{key} must not contain a user name or password");
            return Err(invalid(message).with_hint(BY_REFERENCE));
        }
        settings.insert(key.into_owned(), value.into_owned());
    }
    // What is wrong with a value is said where it is typed.
    overlay(&StoreSettings::default(), &settings).map_err(invalid)?;
    Ok(settings)
}

/// How stock restic writes addresses of stores. Taken for a path, one would become a directory of
/// that name, and a backup that is believed to be elsewhere.
fn foreign(text: &str) -> Option<SinkError> {
    const STORES: [&str; 9] = ["s3", "gs", "az", "azure", "b2", "swift", "rest", "sftp", "rclone"];
    let (scheme, _) = text.split_once(':')?;
    let store = STORES.iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
    let message = format!("{store}: without // is neither a path nor a supported address");
    let hint = format!(
        "write s3://bucket/prefix (with ?endpoint=https://host for another server), \
         gs://bucket/prefix, az://container/prefix?account=NAME, or ./{store}:… for a directory"
    );
    Some(refused(SinkErrorKind::Invalid, &format!("{store}:…"), message).with_hint(hint))
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
            return Err(invalid(
                "a file:// URL must have an absolute path: file:///path/to/directory",
            ));
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
            _ => {
                return Err(invalid(
                    "`%` must be followed by two hexadecimal digits other than 00",
                ));
            }
        }
    }
    Ok(Location::Local(std::ffi::OsString::from_vec(bytes).into()))
}

pub(crate) fn refused(kind: SinkErrorKind, text: &str, message: impl Into<String>) -> SinkError {
    SinkError::on(kind, Operation::Head, text).with_source(message.into()).without_effect()
}

impl fmt::Display for Location {
    /// The form that users know: a plain path, or a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix, query) = match self {
            Self::Local(path) => return path.display().fmt(f),
            Self::S3 { bucket, prefix, query } => ("s3", bucket, prefix, query),
            Self::Gcs { bucket, prefix, query } => ("gs", bucket, prefix, query),
            Self::Azure { container, prefix, query } => ("az", container, prefix, query),
        };
        write!(f, "{scheme}://{bucket}")?;
        if !prefix.is_empty() {
            write!(f, "/{prefix}")?;
        }
        if query.is_empty() {
            return Ok(());
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        // Addresses among the values stay readable: neither character has a meaning behind the `?`.
        write!(f, "?{}", query.replace("%3A", ":").replace("%2F", "/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> PathBuf {
        match text.parse() {
            Ok(Location::Local(path)) => path,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn paths_and_file_urls_are_directories() {
        for text in
            ["/srv/backup", "repo", "./repo", "../a b", "a:b", "./s3:x", "s3", "://x", "1a://x"]
        {
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
            ("sftp://host/x", SinkErrorKind::Unsupported, "not a supported storage type"),
            ("s3:https://host/bucket/x", SinkErrorKind::Invalid, "without //"),
            ("S3:bucket/x", SinkErrorKind::Invalid, "without //"),
            ("azure:container:/x", SinkErrorKind::Invalid, "without //"),
            ("rest:https://me:hush@host/", SinkErrorKind::Invalid, "without //"),
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
    fn object_stores_have_buckets_and_settings() {
        for (text, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("S3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("gs://bucket/x", "gs://bucket/x"),
            ("az://container/x?account=me", "az://container/x?account=me"),
            (
                "s3://b.c/x?region=eu-1&endpoint=https://host:9000",
                "s3://b.c/x?endpoint=https://host:9000&region=eu-1",
            ),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(shown.parse::<Location>().unwrap(), location);
        }
    }

    #[test]
    fn a_secret_is_refused_and_not_repeated() {
        for text in [
            "s3://me:hush@bucket/x",
            "s3://bucket/x?access_key=hush",
            "s3://bucket?secret_access_key_env=hush",
            "az://container?sig=hush",
            "s3://bucket?endpoint=https://me:hush@host",
            "s3://bucket?proxy=http://me:hush@host",
            "foo://me:hush@host",
            "rest:https://me:hush@host",
        ] {
            let error = text.parse::<Location>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hush"), "{shown}");
            assert!(text.starts_with("foo") || error.hint().is_some(), "{shown}");
        }
    }

    #[test]
    fn what_no_store_understands_is_refused() {
        for text in [
            "s3://",
            "s3:///x",
            "s3://b//x//y",
            "s3://b/a/../b",
            "s3://b/a b",
            "s3://b/ä",
            "s3://b?colour=red",
            "s3://b?path_style=maybe",
            "s3://b?connections=0",
            "s3://localhost:9000/b",
            "s3://b/x#y",
        ] {
            assert_eq!(
                text.parse::<Location>().unwrap_err().kind(),
                SinkErrorKind::Invalid,
                "{text}"
            );
        }
    }
}
