//! What a rule watches.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::suggest;
use crate::units::{Share, Size, Text, Time};

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// Jobs.
    Job,
    /// Repositories.
    Repository,
    /// The daemon of this machine.
    Daemon,
}

/// What a replication slot may do at most.
#[derive(Debug, Clone, PartialEq)]
pub enum SlotLimit {
    /// Nothing is said.
    None,
    /// Be there for so long without being read.
    Unread(Time),
    /// Make the server keep so much of its log.
    Kept(Size),
}

/// What a rule watches, as it is written: `failure`, `stale > 24h`, `duration > 2x`,
/// `storage_free < 20%`.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// The last backup of a job failed.
    Failure,
    /// A backup succeeded: told once, never over.
    Success,
    /// A job has had no success for so long.
    Stale(Time),
    /// A backup took, or takes, so many times as long as the job's usually do.
    Duration(f64),
    /// A backup is larger or smaller than the one before by such a share.
    SizeAnomaly(Share),
    /// Such a share of the quota, or of the disk, is used.
    StorageUsed(Share),
    /// Less than such a share of the quota, or of the disk, is left.
    StorageFree(Share),
    /// What is left will do for less than this.
    StorageFull(Time),
    /// More than this could be lost; without a time, more than `rpo` of the job.
    Rpo(Option<Time>),
    /// Something is missing in the captured log, and no full backup came after it.
    LogGap,
    /// What is captured of the log is so far behind.
    LogLag(Time),
    /// The last verification or check found damage or failed.
    VerifyFailed,
    /// The last copy or archiving failed.
    CopyFailed,
    /// The last cleanup of a job failed, or was stopped by unusual snapshots.
    CleanupFailed,
    /// The clock of this machine contradicts the latest time that is known of a repository, or
    /// differs from the clock of its store.
    Clock,
    /// The last copy is so much older than the last backup.
    CopyLag(Time),
    /// The replication slot of a job lost what it keeps, is about to, is not read, or keeps too
    /// much.
    SlotUnhealthy(SlotLimit),
    /// The daemon of this machine has given no sign of life for so long; without a time, for five
    /// minutes.
    DaemonSilent(Option<Time>),
    /// A silence or the pause of a task has lasted for this time; without a time, for 24 hours.
    Suppressed(Option<Time>),
    /// A restore started: one notification.
    RestoreStarted,
    /// A restore completed: one notification.
    RestoreFinished,
    /// A restore failed: one notification.
    RestoreFailed,
}

/// How conditions are written.
const FORMS: [&str; 22] = [
    "failure",
    "success",
    "stale > 24h",
    "duration > 2x",
    "size_anomaly > 50%",
    "storage_used > 80%",
    "storage_free < 20%",
    "storage_full < 14d",
    "rpo > 15min",
    "log_gap",
    "log_lag > 5min",
    "verify_failed",
    "copy_failed",
    "cleanup_failed",
    "clock",
    "copy_lag > 24h",
    "slot_unhealthy > 10GiB",
    "daemon_silent > 5min",
    "suppressed > 24h",
    "restore_started",
    "restore_finished",
    "restore_failed",
];

impl Condition {
    /// The first word of it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Success => "success",
            Self::Stale(_) => "stale",
            Self::Duration(_) => "duration",
            Self::SizeAnomaly(_) => "size_anomaly",
            Self::StorageUsed(_) => "storage_used",
            Self::StorageFree(_) => "storage_free",
            Self::StorageFull(_) => "storage_full",
            Self::Rpo(_) => "rpo",
            Self::LogGap => "log_gap",
            Self::LogLag(_) => "log_lag",
            Self::VerifyFailed => "verify_failed",
            Self::CopyFailed => "copy_failed",
            Self::CleanupFailed => "cleanup_failed",
            Self::Clock => "clock",
            Self::CopyLag(_) => "copy_lag",
            Self::SlotUnhealthy(_) => "slot_unhealthy",
            Self::DaemonSilent(_) => "daemon_silent",
            Self::Suppressed(_) => "suppressed",
            Self::RestoreStarted => "restore_started",
            Self::RestoreFinished => "restore_finished",
            Self::RestoreFailed => "restore_failed",
        }
    }

    /// What it is about.
    #[must_use]
    pub fn about(&self) -> About {
        match self {
            Self::StorageUsed(_)
            | Self::StorageFree(_)
            | Self::StorageFull(_)
            | Self::VerifyFailed
            | Self::CopyFailed
            | Self::Clock
            | Self::CopyLag(_) => About::Repository,
            Self::DaemonSilent(_) | Self::Suppressed(_) => About::Daemon,
            _ => About::Job,
        }
    }

    /// True if the condition also watches the configuration of the daemon.
    #[must_use]
    pub fn counts_configuration(&self) -> bool {
        matches!(self, Self::Failure | Self::Stale(_))
    }

    /// False for the condition that reports long silences.
    #[must_use]
    pub fn can_be_silenced(&self) -> bool {
        !matches!(self, Self::Suppressed(_))
    }

    /// Whether it happens, and does not last.
    #[must_use]
    pub fn is_event(&self) -> bool {
        matches!(
            self,
            Self::Success | Self::RestoreStarted | Self::RestoreFinished | Self::RestoreFailed
        )
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let end = trimmed
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(trimmed.len());
        let (word, rest) = trimmed.split_at(end);
        let rest = rest.trim();
        let Some(form) = FORMS.iter().find(|form| form.split(' ').next() == Some(word)) else {
            let known = FORMS.iter().map(|form| form.split(' ').next().unwrap_or_default());
            let close =
                suggest::closest(word, known).map(|close| format!("; did you mean `{close}`?"));
            return Err(format!("{text:?} is not a condition{}", close.unwrap_or_default()));
        };
        let wrong = || format!("{text:?} is not a condition; write it like `{form}`");
        let sign = form.split(' ').nth(1);
        let value = match (sign, rest) {
            (None, "") => "",
            (Some(_), "") if word == "rpo" => return Ok(Self::Rpo(None)),
            (Some(_), "") if word == "slot_unhealthy" => {
                return Ok(Self::SlotUnhealthy(SlotLimit::None));
            }
            (Some(_), "") if word == "daemon_silent" => return Ok(Self::DaemonSilent(None)),
            (Some(_), "") if word == "suppressed" => return Ok(Self::Suppressed(None)),
            (Some(sign), rest) => rest
                .strip_prefix(sign)
                .map(str::trim)
                .filter(|rest| !rest.is_empty())
                .ok_or_else(wrong)?,
            (None, _) => return Err(wrong()),
        };
        let time = || value.parse::<Time>().map_err(|why| format!("{}: {why}", wrong()));
        let share = || value.parse::<Share>().map_err(|why| format!("{}: {why}", wrong()));
        Ok(match word {
            "failure" => Self::Failure,
            "success" => Self::Success,
            "stale" => Self::Stale(time()?),
            "duration" => Self::Duration(factor(value).ok_or_else(wrong)?),
            "size_anomaly" => Self::SizeAnomaly(share()?),
            "storage_used" => Self::StorageUsed(share()?),
            "storage_free" => Self::StorageFree(share()?),
            "storage_full" => Self::StorageFull(time()?),
            "rpo" => Self::Rpo(Some(time()?)),
            "log_gap" => Self::LogGap,
            "log_lag" => Self::LogLag(time()?),
            "verify_failed" => Self::VerifyFailed,
            "copy_failed" => Self::CopyFailed,
            "cleanup_failed" => Self::CleanupFailed,
            "clock" => Self::Clock,
            "copy_lag" => Self::CopyLag(time()?),
            "slot_unhealthy" => Self::SlotUnhealthy(match value.parse() {
                Ok(size) => SlotLimit::Kept(size),
                Err(_) => SlotLimit::Unread(
                    value.parse().map_err(|_| format!("{}, or `{word} > 30min`", wrong()))?,
                ),
            }),
            "daemon_silent" => Self::DaemonSilent(Some(time()?)),
            "suppressed" => Self::Suppressed(Some(time()?)),
            "restore_started" => Self::RestoreStarted,
            "restore_finished" => Self::RestoreFinished,
            _ => Self::RestoreFailed,
        })
    }
}

/// `2x`, also `average * 2`.
fn factor(text: &str) -> Option<f64> {
    let number = match text.split_once('*') {
        Some((average, number)) if average.trim() == "average" => number,
        Some(_) => return None,
        None => text.strip_suffix('x')?,
    };
    number.trim().parse::<f64>().ok().filter(|factor| factor.is_finite() && *factor > 1.0)
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word();
        match self {
            Self::Stale(time)
            | Self::LogLag(time)
            | Self::CopyLag(time)
            | Self::Rpo(Some(time))
            | Self::DaemonSilent(Some(time))
            | Self::Suppressed(Some(time))
            | Self::SlotUnhealthy(SlotLimit::Unread(time)) => write!(f, "{word} > {time}"),
            Self::SlotUnhealthy(SlotLimit::Kept(size)) => write!(f, "{word} > {size}"),
            Self::StorageFull(time) => write!(f, "{word} < {time}"),
            Self::SizeAnomaly(share) | Self::StorageUsed(share) => write!(f, "{word} > {share}"),
            Self::StorageFree(share) => write!(f, "{word} < {share}"),
            Self::Duration(factor) => write!(f, "{word} > {factor}x"),
            _ => f.write_str(word),
        }
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text::new("a condition such as \"stale > 24h\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood_and_shown_as_it_is_written() {
        for form in FORMS {
            assert_eq!(form.parse::<Condition>().unwrap().to_string(), form);
        }
        assert_eq!("rpo".parse::<Condition>().unwrap(), Condition::Rpo(None));
        for form in ["slot_unhealthy", "slot_unhealthy > 30min", "daemon_silent", "suppressed"] {
            assert_eq!(form.parse::<Condition>().unwrap().to_string(), form);
        }
        assert_eq!(
            " duration > average * 2.5 ".parse::<Condition>().unwrap(),
            Condition::Duration(2.5)
        );
        assert_eq!("stale>2d".parse::<Condition>().unwrap().to_string(), "stale > 2d");
    }

    #[test]
    fn mistakes_say_how_it_is_written() {
        for (text, word) in [
            ("", "not a condition"),
            ("failed", "did you mean"),
            ("stale", "stale > 24h"),
            ("stale < 24h", "stale > 24h"),
            ("stale > soon", "stale > 24h"),
            ("duration > 0.5x", "duration > 2x"),
            ("duration > 2", "duration > 2x"),
            ("storage_free < 200%", "storage_free < 20%"),
            ("failure > 1", "`failure`"),
            ("slot_unhealthy > much", "slot_unhealthy > 30min"),
            ("daemon_silent > 5", "daemon_silent > 5min"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
