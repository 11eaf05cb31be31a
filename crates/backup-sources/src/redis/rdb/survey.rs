//! What a whole file holds, found while it comes.

use std::collections::BTreeMap;

use backup_core::source::ObjectDigest;
use serde::{Deserialize, Serialize};

use super::content::Content;
use super::parser::{Key, Parser, Record};
use super::sums::{digest_of, joined};
use super::value::type_name;
use super::{Pieces, RdbError};

/// So many of the largest values are named.
const BIGGEST: usize = 20;
/// Of longer names only the beginning is kept, bytes.
const LONGEST_NAME: usize = 256;
/// Of values up to this size the digest covers the content, of larger ones the type alone: memory
/// stays bounded.
const LARGEST_HASHED: usize = 32 << 20;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in super::super) struct Survey {
    /// `redis` or `valkey`, as the file begins.
    pub(in super::super) format: String,
    /// Version of the format.
    pub(in super::super) version: u16,
    /// Bytes of the file.
    pub(in super::super) bytes: u64,
    /// Remarks at its beginning: version of the server, time, memory in use, and others.
    pub(in super::super) remarks: BTreeMap<String, String>,
    /// By number.
    pub(in super::super) databases: BTreeMap<u32, DatabaseSurvey>,
    /// Libraries of functions.
    pub(in super::super) libraries: u64,
    /// Whether modules have stored something that belongs to no key.
    pub(in super::super) module_data: bool,
    /// The largest values, largest first.
    pub(in super::super) biggest: Vec<Biggest>,
    /// Values too large for their content to be in the digest.
    pub(in super::super) not_hashed: u64,
    /// Why keys cannot be told apart, if they cannot: the file is restored as a whole only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) unknown: Option<String>,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in super::super) struct DatabaseSurvey {
    /// Keys.
    pub(in super::super) keys: u64,
    /// Those of them that expire,
    pub(in super::super) expiring: u64,
    /// the first time at which one does, and the last; milliseconds since 1970.
    pub(in super::super) expires_from: Option<u64>,
    pub(in super::super) expires_to: Option<u64>,
    /// Bytes of the values in the file.
    pub(in super::super) bytes: u64,
    /// Bytes of names and contents, however they are encoded.
    pub(in super::super) content_bytes: u64,
    /// By type: how many, and their bytes.
    pub(in super::super) types: BTreeMap<String, (u64, u64)>,
    /// Digest of keys, expiry times and contents: of which kind, and in hexadecimal.
    pub(in super::super) digest: String,
    /// Of the hashes of its keys.
    #[serde(skip)]
    pub(in super::super) sum: u128,
}

/// A large value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Biggest {
    pub(in super::super) database: u32,
    /// Its name; what is no text is replaced.
    pub(in super::super) key: String,
    #[serde(rename = "type")]
    pub(in super::super) kind: String,
    /// In the file.
    pub(in super::super) bytes: u64,
}

/// Adds what another dump holds: keys that no other one has.
pub(in super::super) fn merge(
    all: &mut BTreeMap<u32, DatabaseSurvey>,
    other: &BTreeMap<u32, DatabaseSurvey>,
) {
    for (number, database) in other {
        match all.get_mut(number) {
            Some(known) => known.add(database),
            None => _ = all.insert(*number, database.clone()),
        }
    }
}

impl DatabaseSurvey {
    fn add(&mut self, other: &Self) {
        self.keys += other.keys;
        self.expiring += other.expiring;
        self.expires_from = self.expires_from.into_iter().chain(other.expires_from).min();
        self.expires_to = self.expires_to.max(other.expires_to);
        self.bytes += other.bytes;
        self.content_bytes += other.content_bytes;
        for (kind, (count, bytes)) in &other.types {
            let known = self.types.entry(kind.clone()).or_default();
            *known = (known.0 + count, known.1 + bytes);
        }
        self.digest = joined(&self.digest, &other.digest);
    }

    /// As it is recorded.
    pub(in super::super) fn object(&self) -> ObjectDigest {
        ObjectDigest { count: self.keys, bytes: self.content_bytes, digest: self.digest.clone() }
    }
}

/// Reads a file to its end. What is not known is no error: the survey says so. Of keys that are not
/// `wanted` nothing is counted.
pub(in super::super) fn survey(
    pieces: impl Pieces,
    wanted: impl Fn(&Key) -> bool,
) -> Result<Survey, RdbError> {
    let mut parser = Parser::new(pieces);
    let mut survey = Survey::default();
    match read(&mut parser, &mut survey, wanted) {
        Err(RdbError::Unknown(what)) => {
            parser.drain()?;
            survey.databases.clear();
            survey.biggest.clear();
            survey.unknown = Some(what);
        }
        other => other?,
    }
    survey.format = format!("{:?}", parser.flavour()).to_lowercase();
    survey.version = parser.version();
    survey.bytes = parser.position();
    for database in survey.databases.values_mut() {
        database.digest = digest_of(database.sum);
    }
    Ok(survey)
}

fn read<P: Pieces>(
    parser: &mut Parser<P>,
    survey: &mut Survey,
    wanted: impl Fn(&Key) -> bool,
) -> Result<(), RdbError> {
    let mut content = Content::default();
    while let Some(record) = parser.next()? {
        match record {
            Record::Remark(name, value) if survey.remarks.len() < 100 => {
                survey.remarks.insert(text(&name), text(&value));
            }
            Record::Remark(..) => {}
            Record::Library(_) => survey.libraries += 1,
            Record::ModuleData => survey.module_data = true,
            Record::Key(key) => {
                if wanted(&key) {
                    add(parser, survey, &mut content, &key)?;
                }
                parser.reuse(key);
            }
        }
    }
    Ok(())
}

/// Counts and hashes a key with its value.
fn add<P: Pieces>(
    parser: &mut Parser<P>,
    survey: &mut Survey,
    content: &mut Content,
    key: &Key,
) -> Result<(), RdbError> {
    let flavour = parser.flavour();
    let (len, value) = parser.value(LARGEST_HASHED)?;
    content.begin(key);
    let is_hashed = match value.map(|value| content.add(key.kind, flavour, value)) {
        Some(Ok(())) => true,
        // It is too large, or expands to more than is held in memory.
        None | Some(Err(RdbError::TooLarge)) => false,
        Some(Err(error)) => return Err(error),
    };
    if !is_hashed {
        survey.not_hashed += 1;
        // Of how many bytes it is depends on whether it is compressed.
        content.begin(key);
        content.add_type(key.kind);
    }
    let (hash, bytes) = content.take();
    let database = survey.count(key, len);
    database.sum = database.sum.wrapping_add(hash);
    database.content_bytes += bytes;
    Ok(())
}

impl Survey {
    /// Counts a key, in its database.
    fn count(&mut self, key: &Key, len: u64) -> &mut DatabaseSurvey {
        let kind = type_name(key.kind);
        if self.biggest.len() < BIGGEST || self.biggest.last().is_some_and(|last| last.bytes < len)
        {
            let at = self.biggest.partition_point(|other| other.bytes >= len);
            let one = Biggest {
                database: key.database,
                key: text(&key.name),
                kind: kind.to_owned(),
                bytes: len,
            };
            self.biggest.insert(at, one);
            self.biggest.truncate(BIGGEST);
        }
        let database = self.databases.entry(key.database).or_default();
        database.keys += 1;
        database.bytes += len;
        if let Some(expires) = key.expires {
            database.expiring += 1;
            database.expires_from =
                Some(database.expires_from.map_or(expires, |first| first.min(expires)));
            database.expires_to = database.expires_to.max(Some(expires));
        }
        if let Some((count, bytes)) = database.types.get_mut(kind) {
            (*count, *bytes) = (*count + 1, *bytes + len);
        } else {
            database.types.insert(kind.to_owned(), (1, len));
        }
        database
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_NAME)]).into_owned()
}
