//! Directories and files.

use backup_sources::files::{FilesOptions, FilesSource};

use crate::config::SourceConfig;
use crate::error::Result;
use crate::machine::Machine;
use crate::units::Time;

pub(super) fn open(source: SourceConfig, machine: &Machine) -> Result<FilesSource> {
    let defaults = FilesOptions::default();
    let options = FilesOptions {
        exclude_files: source.exclude_files,
        exclude_if_present: source.exclude_if_present.unwrap_or(defaults.exclude_if_present),
        one_file_system: source.one_file_system.unwrap_or(false),
        max_file_size: source.max_file_size.map(|size| size.0),
        host: machine.host.clone(),
        timeout: source.timeout.as_ref().map_or(defaults.timeout, Time::length),
        scan_concurrency: defaults.scan_concurrency,
    };
    Ok(FilesSource::new(source.paths, options).map_err(backup_core::error::Error::from)?)
}
