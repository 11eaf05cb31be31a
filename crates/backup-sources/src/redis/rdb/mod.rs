//! RDB files, read while they come.
//!
//! ```text
//!  pieces ─▶ Input (position, checksum) ─▶ Parser ─▶ records; values are skipped or taken as they are
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a map, [`RdbError`] |
//! | `crc64.rs` | the checksum of RDB files and of DUMP |
//! | `input.rs` | [`Input`]: bytes, lengths and strings out of pieces of any size |
//! | `parser.rs` | [`Parser`]: records; which versions and types are known |
//! | `value.rs` | how long a value is, by its type |
//! | `lzf.rs` | compressed strings |
//! | `packed.rs` | elements of listpacks, ziplists, intsets |
//! | `slice.rs` | lengths, numbers and strings of a value in memory |
//! | `content.rs` | [`content_hash`]: what a value says, whatever its encoding |
//! | `sums.rs` | hashes of that, and which kind of digest they make |
//! | `survey.rs` | [`Survey`]: what a whole file holds |
//! | `builder.rs` | [`Builder`]: a file, made of what DUMP answers |
//! | `reencode.rs` | values in an older form |
//! | `payload.rs` | what DUMP would answer, made of the value in the file |
//!
//! Lengths come from a file that may be damaged or made by somebody: nothing is allocated before
//! its bytes are there, and what is not known is never guessed. The format is that of `rdb.h` and
//! `rdb.c` of Redis and Valkey.

mod builder;
mod content;
mod crc64;
mod input;
mod lzf;
mod packed;
mod parser;
mod payload;
mod reencode;
mod slice;
mod sums;
mod survey;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;

use backup_core::source::{SourceError, SourceErrorKind};

pub(super) use builder::Builder;
pub(super) use content::{content_hash, has_field_times, living_fields};
pub(super) use crc64::crc64;
pub(super) use input::Pieces;
pub(super) use parser::{Flavour, Key, Parser, Record};
pub(super) use payload::{dump_parts, frame, functions_payload, oldest_version, payload_version};
pub(super) use reencode::{HASH, loses_counters, older_kind, reencode};
pub(super) use sums::is_comparable;
pub(super) use survey::{DatabaseSurvey, Survey, merge, survey};
pub(super) use value::{is_module, type_name};

/// Why a file cannot be read.
#[derive(Debug)]
pub(super) enum RdbError {
    /// It ends too early.
    Truncated,
    /// It is not what it says: the reason.
    Damaged(String),
    /// A string of a value expands to more than is held in memory: the limit is ours, and this no
    /// damage.
    TooLarge,
    /// It has something that is not known here: what. No damage.
    Unknown(String),
    /// Its bytes could not be had.
    Source(SourceError),
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("unexpected end of the file"),
            Self::TooLarge => f.write_str("a value is too large to be examined"),
            Self::Damaged(what) | Self::Unknown(what) => f.write_str(what),
            Self::Source(error) => error.fmt(f),
        }
    }
}

impl RdbError {
    /// Our error for it.
    pub(super) fn into_source(self) -> SourceError {
        match self {
            Self::Source(error) => error,
            Self::Unknown(what) => {
                SourceError::new(SourceErrorKind::Unsupported, format!("the dump has {what}"))
                    .with_hint("restore the dump as a whole: as a replica, or into a directory")
            }
            other => SourceError::new(
                SourceErrorKind::Mismatch,
                format!("the dump cannot be loaded: {other}"),
            ),
        }
    }
}

impl From<SourceError> for RdbError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

fn damaged(what: impl Into<String>) -> RdbError {
    RdbError::Damaged(what.into())
}

fn unknown(what: impl Into<String>) -> RdbError {
    RdbError::Unknown(what.into())
}
