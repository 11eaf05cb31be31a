//! Versions of everything that this program stores or offers, for `backup version`.
//!
//! A version is raised by a change that earlier programs would misread. They refuse the newer form
//! and name both versions.

use std::ops::RangeInclusive;

use backup_core::format;
use serde::Serialize;

use crate::{catalog, state};

/// Version of the configuration file. The file itself has no such key: unknown keys are errors.
pub const CONFIGURATION_VERSION: u32 = 1;
/// Version of the API: the number in `/api/v1`.
pub const API_VERSION: u32 = 1;

/// A stored or offered form and its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Format {
    /// Name of the form: words joined by `_`.
    #[serde(skip)]
    pub name: &'static str,
    /// Oldest version that this program reads.
    pub reads_from: u32,
    /// Newest version that this program reads.
    pub reads_up_to: u32,
    /// Version that this program writes.
    pub writes: u32,
}

impl Format {
    const fn new(name: &'static str, reads: RangeInclusive<u32>, writes: u32) -> Self {
        Self { name, reads_from: *reads.start(), reads_up_to: *reads.end(), writes }
    }

    /// A form that is written in its newest version, and read from its first one on.
    const fn up_to(name: &'static str, version: u32) -> Self {
        Self::new(name, 1..=version, version)
    }
}

/// All forms: those of a repository, of the state directory, and those that others use.
pub const FORMATS: [Format; 10] = [
    Format::new("repository", format::SUPPORTED_VERSIONS, format::WRITE_VERSION),
    Format::up_to("records", format::RECORD_VERSION),
    Format::up_to("log_slices", format::SLICE_VERSION),
    Format::up_to("manifest", format::MANIFEST_SCHEMA),
    Format::up_to("exported_key", format::EXPORTED_KEY_VERSION),
    Format::up_to("catalog_sqlite", catalog::FILE_VERSION),
    Format::up_to("catalog_postgres", catalog::SERVER_VERSION),
    Format::up_to("state_files", state::VERSION),
    Format::up_to("configuration", CONFIGURATION_VERSION),
    Format::up_to("api", API_VERSION),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_written_is_read() {
        for form in FORMATS {
            assert!((form.reads_from..=form.reads_up_to).contains(&form.writes), "{form:?}");
        }
    }

    #[test]
    fn schema_of_the_configuration_has_no_version() {
        let schema = serde_json::to_value(schemars::schema_for!(crate::config::Config)).unwrap();
        assert!(schema["properties"]["jobs"].is_object(), "{schema}");
        assert!(schema["properties"]["version"].is_null(), "a key that must be checked");
        assert_eq!(schema["additionalProperties"], false);
    }
}
