//! Values of the flags of `backup restore`.

use backup_control::sources::{ExpiryFlag, ServerConfigFlag};
use backup_core::source::IfExists;
use clap::ValueEnum;

/// Treatment of Redis keys that expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExpiryArg {
    /// Keep the expiry time, and leave out expired keys
    Absolute,
    /// Keep the remaining time of the snapshot's moment
    Shifted,
    /// Remove the expiry
    Never,
}

impl From<ExpiryArg> for ExpiryFlag {
    fn from(arg: ExpiryArg) -> Self {
        match arg {
            ExpiryArg::Absolute => Self::Absolute,
            ExpiryArg::Shifted => Self::Shifted,
            ExpiryArg::Never => Self::Never,
        }
    }
}

/// Configuration of a restored PostgreSQL server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerConfigArg {
    /// The configuration of the original, adapted to the new data directory
    Original,
    /// Only required settings; the files of the original stand beside as *.original
    Minimal,
}

impl From<ServerConfigArg> for ServerConfigFlag {
    fn from(arg: ServerConfigArg) -> Self {
        match arg {
            ServerConfigArg::Original => Self::Original,
            ServerConfigArg::Minimal => Self::Minimal,
        }
    }
}

/// Action if data exists at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfExistsArg {
    /// Refuse, and write nothing
    Fail,
    /// Replace objects of the snapshot (Redis: also remove ones that the snapshot lacks)
    Replace,
    /// Replace differing objects, and keep ones that the snapshot lacks
    Merge,
}

impl From<IfExistsArg> for IfExists {
    fn from(arg: IfExistsArg) -> Self {
        match arg {
            IfExistsArg::Fail => Self::Fail,
            IfExistsArg::Replace => Self::Replace,
            IfExistsArg::Merge => Self::Merge,
        }
    }
}
