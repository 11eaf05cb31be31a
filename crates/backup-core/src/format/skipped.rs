//! `.backup/skipped.jsonl`, beside the manifest of snapshots of files: one JSON object per line.
//!
//! The first line holds the schema and the rules of the backup. Each further line holds one skipped
//! entry with its cause. The last line holds the number of entries and a digest of the snapshot's
//! content. With another digest, a repair or `restic rewrite` changed the snapshot after the backup.
//! It may then lack other entries, too.

use serde::{Deserialize, Serialize};

use super::{METADATA_DIR, Node};
use crate::error::{Error, Result};
use crate::id::BlobId;
use crate::source::{EntryPath, SkipCause, SkipRules, Skipped};

/// Name of the file in the directory [`METADATA_DIR`].
pub const SKIPPED_NAME: &str = "skipped.jsonl";
/// Path of the file inside a snapshot.
pub const SKIPPED_PATH: &str = "/.backup/skipped.jsonl";
/// Version of its schema.
pub const SKIPPED_SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    schema: u32,
    #[serde(flatten)]
    rules: SkipRules,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    /// A path that is not UTF-8, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    cause: SkipCause,
}

/// Any line but the first one.
#[derive(Deserialize)]
struct AnyRow {
    path: Option<String>,
    path_hex: Option<String>,
    cause: Option<SkipCause>,
    entries: Option<u64>,
    content: Option<String>,
}

#[derive(Serialize)]
struct Tail {
    entries: u64,
    content: String,
}

/// A line behind the first one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SkippedLine {
    Entry(Skipped),
    End { entries: u64, content: String },
}

fn line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(|error| {
        Error::internal("cannot encode the list of skipped entries").with_source(error)
    })?;
    line.push(b'\n');
    Ok(line)
}

pub(crate) fn head_line(rules: &SkipRules) -> Result<Vec<u8>> {
    line(&Head { schema: SKIPPED_SCHEMA, rules: rules.clone() })
}

pub(crate) fn entry_line(skipped: &Skipped) -> Result<Vec<u8>> {
    let bytes = skipped.path.as_bytes();
    let path = std::str::from_utf8(bytes).ok();
    let path_hex = path.is_none().then(|| hex::encode(bytes));
    line(&Row { path, path_hex, cause: skipped.cause })
}

pub(crate) fn end_line(entries: u64, content: String) -> Result<Vec<u8>> {
    line(&Tail { entries, content })
}

fn damaged(reason: &str) -> Error {
    Error::damaged(format!("the list of skipped entries {reason}"))
}

/// Reads the first line.
pub(crate) fn parse_head(line: &[u8]) -> Result<SkipRules> {
    let head: Head = serde_json::from_slice(line)
        .map_err(|error| damaged("has no valid first line").with_source(error))?;
    super::version::require_known("the list of skipped entries", head.schema, SKIPPED_SCHEMA)?;
    Ok(head.rules)
}

/// Reads any other line.
pub(crate) fn parse_line(line: &[u8]) -> Result<SkippedLine> {
    let row: AnyRow = serde_json::from_slice(line)
        .map_err(|error| damaged("has an invalid line").with_source(error))?;
    if let (Some(entries), Some(content)) = (row.entries, row.content) {
        return Ok(SkippedLine::End { entries, content });
    }
    let bytes = match (row.path, row.path_hex) {
        (Some(path), None) => Some(path.into_bytes()),
        (None, Some(text)) => hex::decode(text).ok(),
        _ => None,
    };
    match (bytes.and_then(EntryPath::new), row.cause) {
        (Some(path), Some(cause)) => Ok(SkippedLine::Entry(Skipped { path, cause })),
        _ => Err(damaged("has a line without a path or a cause")),
    }
}

/// The digest of a snapshot's content by the nodes of its root: it changes if anything but the
/// metadata of these nodes and `.backup` changes.
pub(crate) fn content_digest(nodes: &[Node]) -> String {
    let mut nodes: Vec<&Node> =
        nodes.iter().filter(|node| *node.name != *METADATA_DIR.as_bytes()).collect();
    nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut text = Vec::new();
    for node in nodes {
        // Names hold no NUL byte and identifiers no space: no two lists of nodes look alike.
        text.extend_from_slice(&node.name);
        text.push(0);
        for id in node.subtree.iter().chain(&node.content) {
            text.extend_from_slice(id.to_hex().as_bytes());
            text.push(b' ');
        }
        text.push(0);
    }
    BlobId::digest(&text).to_hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_entries_survive_a_round_trip() {
        let rules = SkipRules { exclude: vec!["*.tmp".to_owned()], ..SkipRules::default() };
        assert_eq!(parse_head(&head_line(&rules).unwrap()).unwrap(), rules);
        for path in [&b"/a/b c\"\n"[..], b"/a/\xff\xfe", "/ü".as_bytes()] {
            let path = EntryPath::new(path).unwrap();
            let skipped = Skipped { path, cause: SkipCause::Excluded };
            let read = parse_line(&entry_line(&skipped).unwrap()).unwrap();
            assert_eq!(read, SkippedLine::Entry(skipped));
        }
        let end = SkippedLine::End { entries: 3, content: "ab".to_owned() };
        assert_eq!(parse_line(&end_line(3, "ab".to_owned()).unwrap()).unwrap(), end);
    }

    #[test]
    fn causes_of_newer_versions_count_as_not_chosen() {
        let line = br#"{"path":"/a","cause":"moon_phase"}"#;
        let SkippedLine::Entry(skipped) = parse_line(line).unwrap() else { panic!("no entry") };
        assert!(!skipped.cause.is_chosen());
        assert!(parse_line(br#"{"path":"/../a","cause":"excluded"}"#).unwrap_err().is_damage());
        assert!(parse_head(br#"{"schema":2}"#).is_err_and(|error| !error.is_damage()));
    }
}
