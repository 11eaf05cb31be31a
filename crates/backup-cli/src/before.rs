//! `--before`: a position of MongoDB's oplog that is not reached.
//!
//! `--at` includes its position, as `mongorestore --oplogLimit` does not. Positions are whole
//! numbers, so everything before one is everything up to the number before it.

use std::str::FromStr;

use backup_control::config::SourceKind;
use backup_core::log::Position;
use backup_core::repository::SnapshotInfo;

use crate::command_error::{CommandError, CommandResult};

/// Value of `--before`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Before(String);

impl Before {
    /// The last moment before the position, in the form of `--at`.
    pub(crate) fn moment(&self) -> &str {
        &self.0
    }

    /// The last moment before the position, for a snapshot of MongoDB.
    ///
    /// # Errors
    /// Snapshots of other sources.
    pub(crate) fn of(&self, info: &SnapshotInfo) -> CommandResult<&str> {
        let kind = info.snapshot.tag("source").unwrap_or("files");
        if kind == SourceKind::Mongodb.as_str() {
            return Ok(&self.0);
        }
        let text = format!("--before is for MongoDB, and the snapshot is of kind {kind}");
        Err(CommandError::usage(text).with_hint("name the moment with --at"))
    }
}

impl FromStr for Before {
    type Err = String;

    /// `seconds:increment`, `seconds` alone as `mongorestore --oplogLimit` takes it, or
    /// `branch@offset`.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "write seconds:increment as in the oplog; for a time or `latest`, use --at";
        if let Ok(Position { branch, offset }) = text.parse::<Position>() {
            let last = offset.checked_sub(1).ok_or("there is nothing before the first position")?;
            return Ok(Self(Position::new(branch, last).to_string()));
        }
        let (seconds, increment) = text.split_once(':').unwrap_or((text, "0"));
        let (Ok(seconds), Ok(increment)) = (seconds.parse::<u32>(), increment.parse::<u32>())
        else {
            return Err(FORM.to_owned());
        };
        let offset = (u64::from(seconds) << 32) + u64::from(increment);
        let last = offset.checked_sub(1).ok_or("there is nothing before the first position")?;
        Ok(Self(format!("{}:{}", last >> 32, last & u64::from(u32::MAX))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_precedes_the_position() {
        let before = |text: &str| text.parse::<Before>().map(|before| before.0);
        assert_eq!(before("1700000000:5").unwrap(), "1700000000:4");
        assert_eq!(before("1700000000:1").unwrap(), "1700000000:0");
        assert_eq!(before("1700000000:0").unwrap(), "1699999999:4294967295");
        assert_eq!(before("1700000000").unwrap(), "1699999999:4294967295");
        assert_eq!(before("a1b2@7").unwrap(), "a1b2@6");
        for bad in ["latest", "2h ago", "2026-11-21 14:30", "1:2:3", "0:0", "a@0", "", "-1:2"] {
            assert!(before(bad).is_err(), "{bad}");
        }
    }
}
