//! The JSON form of an error, and further mistakes of a configuration.

use backup_control::error::ConfigError;
use backup_core::error::ErrorKind;
use serde::Serialize;

use super::{CommandError, Kind};
use crate::ui::SCHEMA_VERSION;

/// Further mistakes of a configuration, in the order of the file.
#[derive(Debug)]
pub(super) struct OtherMistakes(pub(super) Vec<OtherMistake>);

/// A further mistake of a configuration.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OtherMistake {
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// The JSON form.
#[derive(Serialize)]
struct ErrorEvent<'a> {
    schema_version: u32,
    event: &'static str,
    kind: &'static str,
    message: &'a str,
    causes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    others: &'a [OtherMistake],
    exit_code: u8,
    /// The process exits after this event. Absent if it continues, for instance with another job.
    #[serde(rename = "final", skip_serializing_if = "std::ops::Not::not")]
    is_final: bool,
}

impl CommandError {
    /// Further mistakes of a configuration, in the order of the file.
    pub(crate) fn others(&self) -> &[OtherMistake] {
        self.others.as_ref().map_or(&[], |others| &others.0)
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Usage => "usage",
            Kind::Config => "config",
            Kind::Credentials => "credentials",
            Kind::Passphrase => "passphrase",
            Kind::Refused | Kind::Declined => "refused",
            Kind::Held => "busy",
            Kind::Io => "io",
            Kind::Mismatch => "mismatch",
            Kind::BrokenPipe => "broken_pipe",
            Kind::Core(kind) => match kind {
                ErrorKind::NoRepository => "no_repository",
                ErrorKind::RepositoryExists => "repository_exists",
                ErrorKind::WrongPassphrase => "wrong_passphrase",
                ErrorKind::UnsupportedVersion => "unsupported_version",
                ErrorKind::Damaged => "damaged",
                ErrorKind::NotFound => "not_found",
                ErrorKind::Ambiguous => "ambiguous",
                ErrorKind::Invalid => "invalid",
                ErrorKind::TargetExists => "target_exists",
                ErrorKind::PermissionDenied => "permission_denied",
                ErrorKind::StorageFull => "storage_full",
                ErrorKind::Unavailable => "unavailable",
                ErrorKind::Busy => "busy",
                ErrorKind::TooLarge => "too_large",
                ErrorKind::Source => "source",
                ErrorKind::Target => "target",
                ErrorKind::Cancelled => "cancelled",
                _ => "internal",
            },
        }
    }

    /// The JSON form: an event like any other. `is_final` states that the process exits after it.
    pub(crate) fn to_event(&self, is_final: bool) -> impl Serialize + '_ {
        ErrorEvent {
            schema_version: SCHEMA_VERSION,
            event: "error",
            kind: self.kind_name(),
            message: &self.message,
            causes: &self.causes,
            hint: self.hint(),
            others: self.others(),
            exit_code: self.exit_code(),
            is_final,
        }
    }
}

impl From<&ConfigError> for OtherMistake {
    fn from(error: &ConfigError) -> Self {
        Self { message: error.to_string(), hint: error.hint.clone() }
    }
}
