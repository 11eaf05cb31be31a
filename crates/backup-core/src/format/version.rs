//! Versions of the stored forms, and the refusal of newer ones.
//!
//! Each form has a version of its own. A change that earlier programs would misread raises it; a
//! field that they may ignore does not.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// Version of snapshot objects and of the sealed JSON below `x-…/`: the field `x_version`, which
/// stands for 1 where it is missing.
pub const RECORD_VERSION: u32 = 1;
/// Version of the header of slices below `x-lane/`: the field `version`.
pub const SLICE_VERSION: u32 = 1;
/// Version of exported keys: the field `version`.
pub const EXPORTED_KEY_VERSION: u32 = 1;

/// The remedy for everything that is too new.
pub const NEWER_HINT: &str = "use a newer version of this program";

/// The sentence by which every newer form is refused: `format` is the version that was found,
/// `known` the newest one that this program reads.
#[must_use]
pub fn newer(format: impl std::fmt::Display, known: impl std::fmt::Display) -> String {
    format!("written by format {format}, this program reads up to {known}")
}

/// Refuses an object whose `format` is newer than `known`.
///
/// # Errors
/// [`ErrorKind::UnsupportedVersion`]; the message names both versions.
pub(super) fn require_known(object: &str, format: u32, known: u32) -> Result<()> {
    if format <= known {
        return Ok(());
    }
    let message = format!("{object} was {}", newer(format, known));
    Err(Error::new(ErrorKind::UnsupportedVersion, message).with_hint(NEWER_HINT))
}

/// Refuses a JSON object whose field `version` is newer than `known`; its other fields may have any
/// form. Text without such a field passes, for the parser of the object to judge.
///
/// # Errors
/// [`ErrorKind::UnsupportedVersion`]; the message names both versions.
pub fn require_known_json(object: &str, json: &[u8], known: u32) -> Result<()> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let versioned = of_object::<Versioned>(json);
    versioned.map_or(Ok(()), |versioned| require_known(object, versioned.version, known))
}

/// Refuses a record whose field `x_version` is newer than [`RECORD_VERSION`]; its other fields may
/// have any form.
///
/// # Errors
/// [`ErrorKind::UnsupportedVersion`]
pub(super) fn require_known_record(json: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Versioned {
        x_version: Option<u32>,
    }
    // Other text is for the parser of the object to judge.
    let versioned = of_object::<Versioned>(json);
    let version = versioned.and_then(|versioned| versioned.x_version).unwrap_or(1);
    require_known("the object", version, RECORD_VERSION)
}

/// Fields of a JSON object; none of any other text. The parser would take a list for an object, too.
fn of_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_are_refused_with_both_named() {
        let error = require_known("the slice", 3, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
        let text = "the slice was written by format 3, this program reads up to 2";
        assert_eq!((error.to_string().as_str(), error.hint()), (text, Some(NEWER_HINT)));
        require_known("the slice", 2, 2).unwrap();
        require_known("the slice", 1, 2).unwrap();
    }

    #[test]
    fn records_without_a_version_are_of_the_first() {
        for known in
            ["{}", r#"{"x_version":1,"a":[]}"#, r#"{"x_version":null}"#, "[1,2]", "[2]", "{"]
        {
            require_known_record(known.as_bytes()).unwrap();
        }
        let newer = br#"{"reason":{"of":"another form"},"x_version":2}"#;
        let error = require_known_record(newer).unwrap_err();
        assert!(error.to_string().contains("format 2, this program reads up to 1"), "{error}");
    }
}
