//! The manifest's checksums against what came.
//!
//! The manifest (`backup_manifest`, described in PostgreSQL's documentation, “Backup Manifest
//! Format”) is JSON with one file on each line. It is read line by line as it comes: that of a
//! large cluster is not held in memory, and of the files only 20 bytes are.

use std::collections::HashMap;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::super::delta::Delta;
use super::super::error::malformed;

/// Longest line that is taken: a path and its numbers.
const LONGEST: usize = 64 << 10;
/// The log has checksums of its own.
const LOG: &[u8] = b"pg_wal/";

/// A file of the manifest.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Last-Modified")]
    modified: String,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: String,
    #[serde(rename = "Checksum")]
    checksum: String,
}

impl Listed {
    fn path(&self) -> SourceResult<Vec<u8>> {
        match (&self.path, &self.encoded_path) {
            (Some(path), _) => Ok(path.as_bytes().to_vec()),
            (None, Some(encoded)) => hex::decode(encoded).map_err(|_| malformed("backup manifest")),
            (None, None) => Err(malformed("backup manifest")),
        }
    }

    /// The line of what is stored instead.
    fn instead(
        &self,
        path: &[u8],
        (is_part, size, crc): (bool, u64, u32),
        comma: &str,
    ) -> SourceResult<String> {
        let bad = || malformed("backup manifest");
        let path = if is_part { Delta::path_of(path) } else { path.to_vec() };
        let path = String::from_utf8(path).map_err(|_| bad())?;
        let quoted = |text: &str| serde_json::to_string(text).map_err(|_| bad());
        Ok(format!(
            "{{ \"Path\": {}, \"Size\": {size}, \"Last-Modified\": {}, \"Checksum-Algorithm\": \
             \"CRC32C\", \"Checksum\": \"{}\" }}{comma}\n",
            quoted(&path)?,
            quoted(&self.modified)?,
            hex::encode(crc.to_le_bytes())
        ))
    }
}

#[derive(Debug, Deserialize)]
struct Last {
    #[serde(rename = "Manifest-Checksum")]
    checksum: String,
}

/// What came, until the manifest says what should have.
#[derive(Debug, Default)]
pub(in super::super) struct Sums {
    /// By a hash of the path: size and CRC-32C.
    files: HashMap<u64, (u64, u32)>,
    /// What is stored instead of files: whether it is called a part of it, size and CRC-32C.
    instead: HashMap<u64, (bool, u64, u32)>,
    line: Vec<u8>,
    hash: Sha256,
    /// Of the manifest that tells what is stored.
    own_hash: Sha256,
    closed: bool,
    /// Checksums are not known.
    only_sizes: bool,
}

impl Sums {
    /// For files of which the sizes alone are known.
    pub(in super::super) fn of_sizes() -> Self {
        Self { only_sizes: true, ..Self::default() }
    }

    /// A file came.
    pub(in super::super) fn add(&mut self, path: &[u8], size: u64, crc: u32) {
        if !path.starts_with(LOG) {
            self.files.insert(hash(path), (size, crc));
        }
    }

    /// Something else is stored instead of a file that came; `is_part` if it is called a part of
    /// it.
    pub(super) fn instead(&mut self, path: &[u8], is_part: bool, size: u64, crc: u32) {
        self.instead.insert(hash(path), (is_part, size, crc));
    }

    /// More of the manifest; returns what it is of what is stored.
    pub(in super::super) fn manifest(&mut self, bytes: &[u8]) -> SourceResult<Vec<u8>> {
        let mut own = Vec::with_capacity(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LONGEST {
                return Err(malformed("backup manifest: a line is too long"));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                own.extend(self.take(line)?);
            }
        }
        Ok(own)
    }

    fn take(&mut self, line: Vec<u8>) -> SourceResult<Vec<u8>> {
        let bad = || malformed("backup manifest");
        if line.starts_with(b"\"Manifest-Checksum\"") {
            let json = [b"{", &*line].concat();
            let last: Last = serde_json::from_slice(&json).map_err(|_| bad())?;
            // Of everything before its own line.
            if hex::encode(std::mem::take(&mut self.hash).finalize()) != last.checksum {
                return Err(differs("the manifest's own checksum is wrong"));
            }
            self.closed = true;
            let own = hex::encode(std::mem::take(&mut self.own_hash).finalize());
            return Ok(format!("\"Manifest-Checksum\": \"{own}\"}}\n").into_bytes());
        }
        self.hash.update(&line);
        let trimmed = line.trim_ascii();
        let (trimmed, comma) =
            trimmed.strip_suffix(b",").map_or((trimmed, ""), |trimmed| (trimmed, ","));
        let mut own = None;
        if trimmed.starts_with(b"{ \"Path\"") || trimmed.starts_with(b"{ \"Encoded-Path\"") {
            // The last one of the list ends with nothing more.
            let listed: Listed = serde_json::from_slice(trimmed).map_err(|_| bad())?;
            let path = listed.path()?;
            self.compare(&listed, &path)?;
            if let Some(instead) = self.instead.remove(&hash(&path)) {
                own = Some(listed.instead(&path, instead, comma)?.into_bytes());
            }
        }
        let own = own.unwrap_or(line);
        self.own_hash.update(&own);
        Ok(own)
    }

    fn compare(&mut self, listed: &Listed, path: &[u8]) -> SourceResult<()> {
        // The server lists empty files that say which segments were archived.
        if path.starts_with(LOG) {
            return Ok(());
        }
        let shown = || String::from_utf8_lossy(path).into_owned();
        let Some((size, crc)) = self.files.remove(&hash(path)) else {
            return Err(differs(format!("{} is missing", shown())));
        };
        if size != listed.size {
            return Err(differs(format!("{} has another size", shown())));
        }
        if self.only_sizes {
            return Ok(());
        }
        // What the server uses unless it is asked for another one; the number's bytes as they stand
        // in its memory.
        if listed.algorithm != "CRC32C" {
            return Err(malformed(format!(
                "backup manifest: unknown checksum {}",
                listed.algorithm
            )));
        }
        let known = [crc.to_le_bytes(), crc.to_be_bytes()].map(hex::encode);
        if known.contains(&listed.checksum) {
            Ok(())
        } else {
            Err(differs(format!("{} has another checksum", shown())))
        }
    }

    /// Everything came that the manifest has, and nothing else.
    pub(in super::super) fn finish(&self) -> SourceResult<()> {
        if !self.closed || !self.line.is_empty() {
            return Err(malformed("backup manifest: truncated"));
        }
        if self.files.is_empty() {
            return Ok(());
        }
        Err(differs(words::count(
            self.files.len() as u64,
            "file is not listed",
            "files are not listed",
        )))
    }
}

/// What came is not what the server has read. Trying again may help.
fn differs(what: impl std::fmt::Display) -> SourceError {
    SourceError::new(
        SourceErrorKind::Unavailable,
        format!("the files differ from the backup manifest: {what}"),
    )
}

/// What stands for a path.
pub(super) fn hash(path: &[u8]) -> u64 {
    let digest = Sha256::digest(path);
    digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &[(&str, u64, u32)]) -> String {
        let listed: Vec<String> = files
            .iter()
            .map(|(path, size, crc)| {
                let sum = hex::encode(crc.to_le_bytes());
                format!(
                    "{{ \"Path\": {path:?}, \"Size\": {size}, \"Last-Modified\": \"2026-01-01 \
                     00:00:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{sum}\" }}"
                )
            })
            .collect();
        let text = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": \
             [\n{{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" \
             }}\n],\n",
            listed.join(",\n")
        );
        let sum = hex::encode(Sha256::digest(&text));
        format!("{text}\"Manifest-Checksum\": \"{sum}\"}}\n")
    }

    fn compared(came: &[(&str, u64, u32)], manifest: &str, cut: usize) -> SourceResult<()> {
        let mut sums = Sums::default();
        for (path, size, crc) in came {
            sums.add(path.as_bytes(), *size, *crc);
        }
        let mut own = Vec::new();
        for piece in manifest.as_bytes().chunks(cut) {
            own.extend(sums.manifest(piece)?);
        }
        sums.finish()?;
        assert!(own == manifest.as_bytes(), "nothing else is stored");
        Ok(())
    }

    #[test]
    fn what_came_is_what_the_manifest_has() {
        let files = [("base/1/2", 8192, 7), ("PG_VERSION", 3, 0xdead_beef)];
        let good = manifest(&files);
        let came = [files[0], files[1], ("pg_wal/000000010000000000000002", 1, 1)];
        for cut in [1, 7, 4096] {
            compared(&came, &good, cut).unwrap();
        }
        for (came, text) in [
            (&[files[0]][..], good.clone()),
            (&[files[0], files[1], ("more", 1, 1)], good.clone()),
            (&[files[0], ("PG_VERSION", 3, 1)], good.clone()),
            (&[files[0], ("PG_VERSION", 4, 0xdead_beef)], good.clone()),
            (&files, good.replace("GMT", "UTC")),
            (&files, good[..good.len() - 20].to_owned()),
        ] {
            assert!(compared(came, &text, 100).is_err(), "{came:?} {text}");
        }
    }

    #[test]
    fn the_manifest_tells_what_is_stored() {
        let files = [("base/1/2", 8192, 7), ("backup_label", 9, 3), ("PG_VERSION", 3, 5)];
        let mut sums = Sums::default();
        files.iter().for_each(|(path, size, crc)| sums.add(path.as_bytes(), *size, *crc));
        sums.instead(b"base/1/2", true, 12, 8);
        sums.instead(b"backup_label", false, 20, 4);
        let own = sums.manifest(manifest(&files).as_bytes()).unwrap();
        sums.finish().unwrap();
        let expected = manifest(&[
            ("base/1/INCREMENTAL.2", 12, 8),
            ("backup_label", 20, 4),
            ("PG_VERSION", 3, 5),
        ]);
        assert_eq!(String::from_utf8(own).unwrap(), expected);
    }
}
