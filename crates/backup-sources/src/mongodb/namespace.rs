//! Names: of collections, of the files that mongodump gives them, and which of them are meant.

use std::collections::BTreeSet;
use std::fmt;

use backup_core::source::{
    EntryPath, ExcludePatterns, MatchRecord, Selection, SourceError, SourceErrorKind, SourceResult,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// What time-series data is stored in.
pub(super) const BUCKETS: &str = "system.buckets.";

/// Longest escaped name that gets a file of its own name, and how much of a longer one is kept:
/// mongodump's rule, so that `.metadata.json.gz` still fits into 255 bytes.
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

    /// What the measurements of a time-series collection of this name would be stored in.
    pub(super) fn buckets(&self) -> Self {
        Self::new(&*self.db, format!("{BUCKETS}{}", self.name))
    }

    pub(super) fn is_buckets(&self) -> bool {
        self.name.starts_with(BUCKETS)
    }

    /// Users and roles.
    pub(super) fn is_authorization(&self) -> bool {
        self.db == "admin" && matches!(&*self.name, "system.users" | "system.roles")
    }

    /// What no backup holds: what belongs to the server itself, is made anew by it, or is recorded
    /// elsewhere (views).
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

/// The name that mongodump gives the files of a collection: escaped as a URL's query (`+` for
/// spaces), and if that is longer than 238 bytes, its first 208, `%24` and a hash.
pub(super) fn file_stem(collection: &str) -> String {
    let mut escaped = String::with_capacity(collection.len());
    for byte in collection.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
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

/// Directory of the files of `collection` below the dump's directory. Databases of very many
/// collections are spread over sub-directories (which stock mongorestore does not enter; an export
/// lies flat again).
pub(super) fn directory(dump: &EntryPath, namespace: &Namespace, collections: usize) -> EntryPath {
    let db = dump.join(namespace.db.as_bytes());
    if collections <= FLAT {
        return db;
    }
    let shard = Sha256::digest(&*namespace.name)[0];
    db.join(format!("~{shard:02x}").as_bytes())
}

/// Which collections are meant: globs over `database.collection`, or over names of databases. `*`
/// and `**` also match dots. Excluding wins.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    include: Option<GlobSet>,
    exclude: ExcludePatterns,
    /// Where the include patterns may match.
    databases: Option<Vec<Databases>>,
    /// Records the include patterns that match.
    record: MatchRecord,
}

/// Names of databases that a pattern may match something in.
#[derive(Debug, Clone)]
struct Databases {
    /// What stands before the first dot or wildcard.
    begin: String,
    /// It is the whole name. Behind a wildcard nothing is known: it also matches dots.
    is_whole: bool,
}

impl Databases {
    fn of(pattern: &str) -> Self {
        let pattern = pattern.trim_start_matches('/');
        let end = pattern.find(['.', '*', '?', '[', '{', '\\']);
        let begin = end.map_or(pattern, |end| &pattern[..end]).to_owned();
        Self { begin, is_whole: end.is_none_or(|end| pattern[end..].starts_with('.')) }
    }

    fn has(&self, db: &str) -> bool {
        if self.is_whole { db == self.begin } else { db.starts_with(&self.begin) }
    }
}

/// True if these patterns can match in no other database than these.
pub(super) fn are_within(patterns: &[String], databases: &BTreeSet<&str>) -> bool {
    let is_within = |pattern: &String| {
        let meant = Databases::of(pattern);
        meant.is_whole && databases.contains(&*meant.begin)
    };
    !patterns.is_empty() && patterns.iter().all(is_within)
}

impl Filter {
    pub(super) fn new(selection: &Selection) -> SourceResult<Self> {
        let include =
            (!selection.include().is_empty()).then(|| compile(selection.include())).transpose()?;
        let databases =
            selection.include().iter().map(|pattern| Databases::of(pattern)).collect::<Vec<_>>();
        let databases = (!databases.is_empty()).then_some(databases);
        let exclude = ExcludePatterns::new(selection.exclude(), compile)?;
        Ok(Self { include, exclude, databases, record: selection.record().clone() })
    }

    /// Nothing is left out.
    pub(super) fn everything() -> Self {
        let record = MatchRecord::default();
        Self { include: None, exclude: ExcludePatterns::default(), databases: None, record }
    }

    pub(super) fn covers_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }

    /// Whether a collection is meant, or lies where ones that are meant lie and is not left out: it
    /// may become one of them by a rename. Views are documents of `system.views`, so that is left
    /// out only with its whole database.
    pub(super) fn may_come_to_cover(&self, namespace: &Namespace) -> bool {
        let visible = namespace.visible();
        let full = visible.to_string();
        // A readmitted collection lies in a database that is excluded.
        let is_left_out = (self.exclude.excludes([&visible.db]) && !self.exclude.has_readmission())
            || (visible.name != "system.views" && self.exclude.excludes([&full, &visible.db]));
        let lies_there = || {
            self.databases
                .as_ref()
                .is_none_or(|list| list.iter().any(|these| these.has(&visible.db)))
        };
        self.covers(namespace) || (!is_left_out && lies_there())
    }

    /// Whether a collection is meant. Buckets go by the name of what they are the storage of.
    pub(super) fn covers(&self, namespace: &Namespace) -> bool {
        let visible = namespace.visible();
        let full = visible.to_string();
        let matches = |set: &GlobSet| set.is_match(&full) || set.is_match(&visible.db);
        let covers = !self.exclude.excludes([&full, &visible.db])
            && self.include.as_ref().is_none_or(matches);
        if let Some(include) = self.include.as_ref().filter(|_| covers)
            && self.record.is_incomplete()
        {
            let found = include.matches(&full).into_iter().chain(include.matches(&visible.db));
            found.for_each(|pattern| self.record.note(pattern));
        }
        covers
    }
}

/// Returns `true` if every include pattern selects within one of these databases.
pub(super) fn is_confined(selection: &Selection, databases: &[String]) -> bool {
    let is_one = |pattern: &String| {
        let place = Databases::of(pattern);
        place.is_whole && databases.contains(&place.begin)
    };
    !selection.include().is_empty() && selection.include().iter().all(is_one)
}

fn compile(patterns: &[String]) -> SourceResult<GlobSet> {
    let invalid = |pattern: &str, error: &globset::Error| {
        SourceError::new(
            SourceErrorKind::Invalid,
            format!("invalid pattern {pattern:?}: {}", error.kind()),
        )
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
    fn readmitted_collections_are_covered() {
        let filter = filter(&[], &["shop", "!shop.orders", "*.tmp"]);
        for (name, covered) in
            [("shop.orders", true), ("shop.people", false), ("shop.tmp", false), ("crm.x", true)]
        {
            let name = Namespace::parse(name).unwrap();
            assert_eq!(filter.covers(&name), covered, "{name}");
            assert_eq!(filter.may_come_to_cover(&name), covered, "{name}");
        }
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
        assert!(
            !covers(&f, "shop.sessions") && !covers(&f, "shop.cache.x") && !covers(&f, "other.x")
        );
        assert!(covers(&filter(&["shop.ts"], &[]), "shop.system.buckets.ts"));
        assert!(!covers(&filter(&[], &["/**"]), "a.b"));
    }

    #[test]
    fn what_may_be_renamed_into_a_selection() {
        let may = |filter: &Filter, name: &str| {
            filter.may_come_to_cover(&Namespace::parse(name).unwrap())
        };
        let f = filter(&["shop.orders", "c*.x", "crm"], &["*.sessions"]);
        assert!(may(&f, "shop.tmp.agg_out.1") && may(&f, "crm.a") && may(&f, "cx.other"));
        assert!(!may(&f, "shop.sessions") && !may(&f, "other.orders"));
        assert!(may(&filter(&["{a.b,c.d}"], &[]), "c.d"));
        assert!(may(&filter(&[], &["a"]), "b.x") && !may(&filter(&[], &["a"]), "a.x"));
    }

    #[test]
    fn what_is_meant_may_come_to_be_meant() {
        let patterns = [
            "*orders",
            "shop*orders",
            "shop?orders",
            "shop.*",
            "shop",
            "s*",
            "*.x",
            "{shop,crm}.orders",
            "[sc]*.orders",
            "shop[.]orders",
            "/shop.o*",
            "**",
            "s\\hop.orders",
            "shop{.orders,.x}",
            "?rm.*",
            "*shop.orders",
        ];
        let databases = ["shop", "crm", "s", "myshop", "shop-2"];
        let names =
            ["orders", "x", "a.orders", "tmp.agg_out.1", "system.views", "system.buckets.orders"];
        let names =
            databases.iter().flat_map(|db| names.iter().map(|name| Namespace::new(*db, *name)));
        let names = names.collect::<Vec<_>>();
        let mut covered = 0;
        for include in patterns {
            for exclude in patterns.map(Some).into_iter().chain([None]) {
                let f = filter(&[include], exclude.as_slice());
                for name in names.iter().filter(|name| f.covers(name)) {
                    assert!(f.may_come_to_cover(name), "{name} by {include} without {exclude:?}");
                    covered += 1;
                }
            }
        }
        assert!(covered > 1000, "{covered}");
        assert!(filter(&["*orders"], &[]).may_come_to_cover(&Namespace::new("shop", "tmp")));
    }

    #[test]
    fn views_are_left_out_with_their_database_only() {
        let views = Namespace::new("shop", "system.views");
        for exclude in ["*.system.*", "shop.s*", "*views"] {
            assert!(filter(&["shop.*"], &[exclude]).may_come_to_cover(&views), "{exclude}");
            assert!(filter(&[], &[exclude]).may_come_to_cover(&views), "{exclude}");
        }
        assert!(filter(&["shop.orders"], &[]).may_come_to_cover(&views));
        assert!(!filter(&[], &["shop"]).may_come_to_cover(&views));
        assert!(!filter(&["crm.*"], &[]).may_come_to_cover(&views));
    }

    #[test]
    fn what_belongs_to_the_server_stays_out() {
        let internal = |name: &str| Namespace::parse(name).unwrap().is_internal();
        for name in [
            "local.oplog.rs",
            "config.transactions",
            "admin.system.keys",
            "a.system.views",
            "a.system.profile",
        ] {
            assert!(internal(name), "{name}");
        }
        for name in
            ["admin.system.users", "a.system.js", "a.system.buckets.x", "a.systemx", "admin.own"]
        {
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
