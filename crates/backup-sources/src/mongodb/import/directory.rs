//! A directory of mongodump. Each database has a directory with the documents and the description of
//! each collection. The oplog and the versions of server and tool stand beside them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use flate2::bufread::MultiGzDecoder;
use jiff::Timestamp;

use super::contents::Bytestream;
use super::description::Description;
use super::json::Json;
use crate::foreign::{self, GZIP};
use crate::mongodb::catalog::Kind;
use crate::mongodb::error::malformed;
use crate::mongodb::namespace::{BUCKETS, Namespace, file_stem};

/// Largest description, and most bytes of all of them, decompressed.
const LARGEST_DESCRIPTION: u64 = 48 << 20;
const MAX_DESCRIPTIONS: u64 = 256 << 20;

/// A file, and whether it is compressed.
#[derive(Debug, Clone)]
pub(super) struct DumpFile {
    path: PathBuf,
    is_gzip: bool,
}

impl DumpFile {
    /// Its bytes, decompressed.
    pub(super) fn bytes(&self) -> SourceResult<Bytestream> {
        let file =
            File::open(&self.path).map_err(|error| foreign::unreadable(&self.path, error))?;
        let plain = BufReader::with_capacity(1 << 20, file);
        Ok(if self.is_gzip { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) })
    }

    fn text(&self, most: u64) -> SourceResult<String> {
        let mut bytes = Vec::new();
        let read = self.bytes()?.take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| foreign::unreadable(&self.path, error))?;
        if bytes.len() as u64 > most {
            return Err(malformed(format!("{}: more than {most} bytes", self.path.display())));
        }
        String::from_utf8(bytes)
            .map_err(|_| malformed(format!("{}: not UTF-8", self.path.display())))
    }
}

/// The files of a dump, and its descriptions.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) server_version: String,
    pub(super) tool_version: String,
    pub(super) oplog: Option<DumpFile>,
    /// Documents by collection.
    pub(super) data: BTreeMap<Namespace, DumpFile>,
    pub(super) descriptions: BTreeMap<Namespace, Description>,
    /// The newest change of a file.
    pub(super) changed: Option<Timestamp>,
    /// Files that are no part of a dump.
    pub(super) others: u64,
    /// Bytes of descriptions.
    described: u64,
    has_gzip: bool,
    has_plain: bool,
}

/// A file of a database, by its name.
struct Named<'a> {
    stem: &'a str,
    is_description: bool,
    is_gzip: bool,
}

fn named(name: &str) -> Option<Named<'_>> {
    let (plain, is_gzip) = match name.strip_suffix(".gz") {
        Some(plain) => (plain, true),
        None => (name, false),
    };
    if let Some(stem) = plain.strip_suffix(".metadata.json") {
        return Some(Named { stem, is_description: true, is_gzip });
    }
    let stem = plain.strip_suffix(".bson").or_else(|| plain.strip_suffix(".bin"))?;
    Some(Named { stem, is_description: false, is_gzip })
}

impl Directory {
    /// Lists a dump and reads its descriptions. Waits for the files.
    ///
    /// # Errors
    /// If it is no dump or cannot be read; with `must_be_gzip` also if a file is not compressed.
    pub(super) fn read(cx: &Context, path: &Path, must_be_gzip: bool) -> SourceResult<Self> {
        let mut found = Self::default();
        let mut oplog = None;
        for (name, path, is_dir) in entries(path)? {
            cx.check_cancelled().map_err(SourceError::from)?;
            let Ok(name) = name.into_string() else {
                found.others += 1;
                continue;
            };
            match &*name {
                _ if is_dir => found.database(cx, &name, &path)?,
                "oplog.bson" | "oplog.bson.gz" => oplog = Some((path, name.ends_with(".gz"))),
                "prelude.json" | "prelude.json.gz" => found.prelude(&path)?,
                _ if named(&name).is_some() => return Err(is_database(&path)),
                _ => found.others += 1,
            }
        }
        if found.data.is_empty() && found.descriptions.is_empty() {
            let text = format!("{} is no dump: no collection is in it", path.display());
            return Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint(
                "name the directory that mongodump wrote with --out, which has a directory per \
                 database",
            ));
        }
        if let Some((path, is_gzip)) = oplog {
            // Tools compress it and leave its name as it is.
            let is_gzip = is_gzip || (found.has_gzip && begins_like_gzip(&path)?);
            found.note(&path, is_gzip)?;
            found.oplog = Some(DumpFile { path, is_gzip });
        }
        if must_be_gzip && found.has_plain {
            return Err(foreign::not_gzip(path));
        }
        found.refuse_missing()?;
        Ok(found)
    }

    fn note(&mut self, path: &Path, is_gzip: bool) -> SourceResult<()> {
        self.changed = self.changed.max(Some(foreign::changed(path)?));
        *if is_gzip { &mut self.has_gzip } else { &mut self.has_plain } = true;
        Ok(())
    }

    fn database(&mut self, cx: &Context, db: &str, path: &Path) -> SourceResult<()> {
        let mut data = BTreeMap::new();
        let mut descriptions = BTreeMap::new();
        for (name, path, is_dir) in entries(path)? {
            cx.check_cancelled().map_err(SourceError::from)?;
            let Ok(name) = name.into_string() else {
                self.others += 1;
                continue;
            };
            if is_dir {
                // Snapshots spread databases of very many collections.
                match name.strip_prefix('~').is_some_and(|shard| shard.len() == 2) {
                    true => self.database(cx, db, &path)?,
                    false => self.others += 1,
                }
                continue;
            }
            if matches!(&*name, "prelude.json" | "prelude.json.gz") {
                self.prelude(&path)?;
                continue;
            }
            let Some(Named { stem, is_description, is_gzip }) = named(&name) else {
                self.others += 1;
                continue;
            };
            self.note(&path, is_gzip)?;
            let file = DumpFile { path, is_gzip };
            let files = if is_description { &mut descriptions } else { &mut data };
            files.insert(stem.to_owned(), file);
        }
        for (stem, file) in descriptions {
            let subject = format!("{db}.{}", unescaped(&stem));
            let text = file.text(LARGEST_DESCRIPTION)?;
            self.described += text.len() as u64;
            if self.described > MAX_DESCRIPTIONS {
                return Err(malformed("dump: its descriptions of collections are too large"));
            }
            let description = Description::parse(&text, "", &subject)?;
            let name = description.name.clone().unwrap_or_else(|| unescaped(&stem));
            if let Some(file) = data.remove(&stem) {
                self.put(Namespace::new(db, &*name), file)?;
            }
            if let Some(file) = data.remove(&file_stem(&format!("{BUCKETS}{name}"))) {
                self.put(Namespace::new(db, format!("{BUCKETS}{name}")), file)?;
            }
            self.descriptions.insert(Namespace::new(db, name), description);
        }
        for (stem, file) in data {
            self.put(Namespace::new(db, unescaped(&stem)), file)?;
        }
        Ok(())
    }

    fn put(&mut self, namespace: Namespace, file: DumpFile) -> SourceResult<()> {
        if self.data.contains_key(&namespace) {
            return Err(malformed(format!("dump: it has two files for {namespace}")));
        }
        self.data.insert(namespace, file);
        Ok(())
    }

    fn prelude(&mut self, path: &Path) -> SourceResult<()> {
        let is_gzip = begins_like_gzip(path)?;
        self.note(path, is_gzip)?;
        let text = DumpFile { path: path.to_owned(), is_gzip }.text(1 << 20)?;
        let json = Json::parse(&text).map_err(|error| error.context(path.display()))?;
        let text = |name| json.get(name).and_then(Json::text).unwrap_or_default().to_owned();
        (self.server_version, self.tool_version) = (text("ServerVersion"), text("ToolVersion"));
        Ok(())
    }

    /// A collection that is described has a file of documents, also if it is empty.
    fn refuse_missing(&self) -> SourceResult<()> {
        for (name, description) in &self.descriptions {
            let has = |name: &Namespace| self.data.contains_key(name);
            let is_there = match description.kind {
                Kind::View => true,
                Kind::Collection => has(name),
                Kind::TimeSeries => has(&name.buckets()) || has(name),
            };
            if !is_there {
                let text = format!("the dump has a description of {name}, and no documents");
                return Err(SourceError::new(SourceErrorKind::Mismatch, text).with_hint(
                    "copy the dump again from where it was made; to import it without this \
                     collection, remove the description",
                ));
            }
        }
        Ok(())
    }
}

/// Names, paths and whether they are directories, in order of names.
fn entries(path: &Path) -> SourceResult<Vec<(std::ffi::OsString, PathBuf, bool)>> {
    let failed = |error| foreign::unreadable(path, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_dir = std::fs::metadata(entry.path()).map_err(failed)?.is_dir();
        found.push((entry.file_name(), entry.path(), is_dir));
    }
    found.sort();
    Ok(found)
}

fn begins_like_gzip(path: &Path) -> SourceResult<bool> {
    let mut head = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(3).read_to_end(&mut head));
    opened.map_err(|error| foreign::unreadable(path, error))?;
    Ok(head == GZIP)
}

fn is_database(path: &Path) -> SourceError {
    let directory = path.parent().unwrap_or(path);
    let text = format!("{} is the directory of one database", directory.display());
    let hint = "name the directory above it, which mongodump wrote with --out";
    SourceError::new(SourceErrorKind::Invalid, text).with_hint(hint)
}

/// The name of a collection that the name of a file stands for: escaped as a URL's query. Tools
/// before 4.2 escape nothing; names that are no such escapes are theirs.
fn unescaped(stem: &str) -> String {
    let mut out = Vec::with_capacity(stem.len());
    let mut bytes = stem.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(Option::unwrap_or_default);
                match hex::decode(digits) {
                    Ok(decoded) => out.extend(decoded),
                    Err(_) => return stem.to_owned(),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescaped_returns_the_name_of_the_collection() {
        for name in ["orders", "a b", "a/b", "é$x", "system.buckets.t", "a+b", "50%"] {
            assert_eq!(unescaped(&file_stem(name)), name);
        }
        assert_eq!(unescaped("50%"), "50%");
        assert_eq!(unescaped("$admin.system.users"), "$admin.system.users");
        assert!(named("x.txt").is_none());
        let found = named("a.b.metadata.json.gz").unwrap();
        assert_eq!((found.stem, found.is_description, found.is_gzip), ("a.b", true, true));
    }
}
