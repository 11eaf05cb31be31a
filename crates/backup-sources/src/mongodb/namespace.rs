//! Names: of collections, of the files that mongodump gives them, and which of them are meant.

use std::fmt;

use backup_core::source::{EntryPath, Selection, SourceError, SourceErrorKind, SourceResult};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// What time-series data is stored in.
pub(super) const BUCKETS: &str = "system.buckets.";

/// Longest escaped name that gets a file of its own name, and how much of a longer one is kept: mongodump's rule, so
/// that `.metadata.json.gz` still fits into 255 bytes.
const LONGEST: usize = 238;
const KEPT: usize = 208;

/// Most collections of a database whose files lie in one directory; each has two.
const FLAT: usize = 4_990;

/// `database.collection`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Namespace {
    pub(super) db: String,
    pub(super) name: String,
}

impl Namespace {
    pub(super) fn new(db: impl Into<String>, name: impl Into<String>) -> Self {
        Self { db: db.into(), name: name.into() }
    }

    /// Splits at the first dot: names of databases hold none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (db, name) = text.split_once('.')?;
        (!db.is_empty() && !name.is_empty()).then(|| Self::new(db, name))
    }

    /// The collection that users see: without the prefix of time-series buckets.
    pub(super) fn visible(&self) -> Self {
        Self::new(&*self.db, self.name.strip_prefix(BUCKETS).unwrap_or(&self.name))
    }

    pub(super) fn is_buckets(&self) -> bool {
        self.name.starts_with(BUCKETS)
    }

    /// Users and roles.
    pub(super) fn is_authorization(&self) -> bool {
        self.db == "admin" && matches!(&*self.name, "system.users" | "system.roles")
    }

    /// What no backup holds: what belongs to the server itself, is made anew by it, or is recorded elsewhere (views).
    pub(super) fn is_internal(&self) -> bool {
        match (&*self.db, &*self.name) {
            ("local" | "config", _) => true,
            ("admin", "system.users" | "system.roles" | "system.version") => false,
            (_, "system.js") => false,
            (_, name) => name.starts_with("system.") && !name.starts_with(BUCKETS),
        }
    }

    /// What is never written to a target.
    pub(super) fn is_restored_by_the_server(&self) -> bool {
        self.db == "admin" && self.name == "system.version"
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.db, self.name)
    }
}

/// The name that mongodump gives the files of a collection: escaped as a URL's query (`+` for spaces), and if that is
/// longer than 238 bytes, its first 208, `%24` and a hash.
pub(super) fn file_stem(collection: &str) -> String {
    let mut escaped = String::with_capacity(collection.len());
    for byte in collection.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            b' ' => escaped.push('+'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    if escaped.len() > LONGEST {
        escaped.truncate(KEPT);
        escaped.push_str("%24");
        escaped.push_str(&URL_SAFE_NO_PAD.encode(Sha1::digest(collection)));
    }
    escaped
}

/// Directory of the files of `collection` below the dump's directory. Databases of very many collections are spread over
/// sub-directories (which stock mongorestore does not enter; an export lies flat again).
pub(super) fn directory(dump: &EntryPath, namespace: &Namespace, collections: usize) -> EntryPath {
    let db = dump.join(namespace.db.as_bytes());
    if collections <= FLAT {
        return db;
    }
    let shard = Sha256::digest(&*namespace.name)[0];
    db.join(format!("~{shard:02x}").as_bytes())
}

/// Which collections are meant: globs over `database.collection`, or over names of databases. `*` and `**` also match
/// dots. Excluding wins.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    pub(super) fn new(selection: &Selection) -> SourceResult<Self> {
        let include = (!selection.include().is_empty()).then(|| compile(selection.include())).transpose()?;
        Ok(Self { include, exclude: compile(selection.exclude())? })
    }

    /// Whether a collection is meant. Buckets go by the name of what they are the storage of.
    pub(super) fn covers(&self, namespace: &Namespace) -> bool {
        let visible = namespace.visible();
        let full = visible.to_string();
        let matches = |set: &GlobSet| set.is_match(&full) || set.is_match(&visible.db);
        !matches(&self.exclude) && self.include.as_ref().is_none_or(matches)
    }
}

fn compile(patterns: &[String]) -> SourceResult<GlobSet> {
    let invalid = |pattern: &str, error: &globset::Error| {
        SourceError::new(SourceErrorKind::Invalid, format!("invalid pattern {pattern:?}: {}", error.kind()))
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern.trim_start_matches('/')).backslash_escape(true).build();
        set.add(glob.map_err(|error| invalid(pattern, &error))?);
    }
    set.build().map_err(|error| invalid(error.glob().unwrap_or_default(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Filter::new(&Selection::new(owned(include), owned(exclude)).unwrap()).unwrap()
    }

    fn covers(filter: &Filter, name: &str) -> bool {
        filter.covers(&Namespace::parse(name).unwrap())
    }

    #[test]
    fn files_are_called_as_mongodump_calls_them() {
        assert_eq!(file_stem("a b/c"), "a+b%2Fc");
        assert_eq!(file_stem("é$x"), "%C3%A9%24x");
        assert_eq!(file_stem("system.buckets.ts"), "system.buckets.ts");
        assert_eq!(file_stem(&"x".repeat(238)).len(), 238);
        let long = file_stem(&"x".repeat(239));
        assert_eq!(long.len(), 238);
        assert!(long.starts_with(&"x".repeat(208)) && long[208..].starts_with("%24"));
        assert_ne!(file_stem(&"x".repeat(240)), long);
    }

    #[test]
    fn patterns_match_collections_and_databases() {
        let f = filter(&["shop.*", "crm"], &["*.sessions", "shop.cache*"]);
        assert!(covers(&f, "shop.orders") && covers(&f, "shop.a.b") && covers(&f, "crm.people"));
        assert!(!covers(&f, "shop.sessions") && !covers(&f, "shop.cache.x") && !covers(&f, "other.x"));
        assert!(covers(&filter(&["shop.ts"], &[]), "shop.system.buckets.ts"));
        assert!(!covers(&filter(&[], &["/**"]), "a.b"));
    }

    #[test]
    fn what_belongs_to_the_server_stays_out() {
        let internal = |name: &str| Namespace::parse(name).unwrap().is_internal();
        for name in ["local.oplog.rs", "config.transactions", "admin.system.keys", "a.system.views", "a.system.profile"]
        {
            assert!(internal(name), "{name}");
        }
        for name in ["admin.system.users", "a.system.js", "a.system.buckets.x", "a.systemx", "admin.own"] {
            assert!(!internal(name), "{name}");
        }
    }

    #[test]
    fn very_many_collections_are_spread() {
        let dump = EntryPath::root();
        let ns = Namespace::new("db", "c");
        assert_eq!(directory(&dump, &ns, 10).display(), "/db");
        assert!(directory(&dump, &ns, 10_000).display().starts_with("/db/~"));
    }
}
