//! What is asked of a check, and what it found.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::id::SnapshotId;

/// Which packs to read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// A random share of them, percent.
    Percent(f64),
    /// Part `index` of `of`, counted from 1: all parts together are all packs.
    Part {
        /// Which part.
        index: u32,
        /// Of how many.
        of: u32,
    },
    /// Random packs of so many bytes together.
    Bytes(u64),
}

impl FromStr for ReadData {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::new(ErrorKind::Invalid, format!("{text:?} is not a valid subset of the data"))
                .with_hint("use a share (5%), a part (1/12) or a size (10G)")
        };
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| invalid())?;
            return if percent > 0.0 && percent <= 100.0 {
                Ok(Self::Percent(percent))
            } else {
                Err(invalid())
            };
        }
        if let Some((index, of)) = text.split_once('/') {
            let (index, of) =
                (index.parse().map_err(|_| invalid())?, of.parse().map_err(|_| invalid())?);
            return if index >= 1 && index <= of {
                Ok(Self::Part { index, of })
            } else {
                Err(invalid())
            };
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 1,
            "K" | "KIB" => 1 << 10,
            "M" | "MIB" => 1 << 20,
            "G" | "GIB" => 1 << 30,
            "T" | "TIB" => 1 << 40,
            _ => return Err(invalid()),
        };
        let count: u64 = digits.parse().map_err(|_| invalid())?;
        match count.checked_mul(factor) {
            Some(bytes) if bytes > 0 => Ok(Self::Bytes(bytes)),
            _ => Err(invalid()),
        }
    }
}

/// What to check.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CheckOptions {
    /// Which packs to read, besides checking the structure.
    pub read_data: ReadData,
    /// A file that notes the packs which were read and found to be sound, so that a check that was
    /// interrupted goes on where it stopped. It is removed when all selected packs were read.
    pub resume: Option<PathBuf>,
}

/// Something damaged or lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The object, for instance `pack 1234abcd`.
    pub object: String,
    /// What is wrong with it.
    pub message: String,
    /// What needs it: `snapshot ab12cd34: /path`.
    pub affects: Vec<String>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Snapshots.
    pub snapshots: u64,
    /// Different directories.
    pub trees: u64,
    /// Blobs in the index.
    pub blobs: u64,
    /// Packs in the index.
    pub packs: u64,
    /// Packs that were read by an earlier run that this one continues.
    pub read_before: u64,
    /// Packs that were read.
    pub read_packs: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// What is damaged or lost; empty if all is well.
    pub problems: Vec<Problem>,
    /// Snapshots that need something damaged or lost.
    #[serde(default)]
    pub damaged_snapshots: Vec<SnapshotId>,
    /// Findings that harm nothing, for instance packs that no index lists.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_data() {
        for (text, expected) in [
            ("5%", ReadData::Percent(5.0)),
            ("0.5%", ReadData::Percent(0.5)),
            ("1/12", ReadData::Part { index: 1, of: 12 }),
            ("10G", ReadData::Bytes(10 << 30)),
            ("512", ReadData::Bytes(512)),
        ] {
            assert_eq!(text.parse::<ReadData>().unwrap(), expected);
        }
        for bad in ["", "0%", "101%", "0/3", "4/3", "x", "5X", "G", "0", "-1"] {
            assert!(bad.parse::<ReadData>().is_err(), "{bad}");
        }
    }
}
