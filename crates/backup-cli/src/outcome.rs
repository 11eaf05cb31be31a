//! Results of commands that do not fail.

use crate::command_error::CommandError;
use crate::exit_code;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// All is well.
    Success,
    /// Done, but something is missing or incomplete.
    Warnings,
    /// Stored data is damaged or lost.
    Damage,
    /// Some of several jobs failed, which was reported already; the exit code of the first.
    Failed(u8),
}

impl Outcome {
    /// [`Self::Warnings`] if there were any.
    pub(crate) fn with_warnings(warnings: u64) -> Self {
        if warnings == 0 { Self::Success } else { Self::Warnings }
    }

    /// [`Self::Failed`] because of `error`, unless another one was the first.
    pub(crate) fn or_failed(self, error: &CommandError) -> Self {
        if matches!(self, Self::Failed(_)) { self } else { Self::Failed(error.exit_code()) }
    }

    /// The worse of two results: damage, then failure, then warnings. Of two alike, the first.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        let severity = |outcome: Self| match outcome {
            Self::Success => 0,
            Self::Warnings => 1,
            Self::Failed(exit_code::DAMAGE) | Self::Damage => 3,
            Self::Failed(_) => 2,
        };
        if severity(other) > severity(self) { other } else { self }
    }

    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Success => exit_code::SUCCESS,
            Self::Warnings => exit_code::WARNINGS,
            Self::Damage => exit_code::DAMAGE,
            Self::Failed(code) => code,
        }
    }
}
