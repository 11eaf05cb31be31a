//! What a command failed with: the one place where errors get their heading, hint, JSON form and
//! exit code.

mod event;

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;

use backup_control::catalog::Error as CatalogError;
use backup_control::error::Error as ControlError;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::id::SnapshotId;
use backup_core::sink::{SinkError, SinkErrorKind};
use backup_core::source::{MissingPassword, SourceError};
use backup_storage::RefusedCredentials;

use crate::exit_code;
pub(crate) use crate::outcome::Outcome;
use event::{OtherMistake, OtherMistakes};

/// What helps where archived data is in the way of a verb that thaws nothing.
const THAW_HINT: &str = "request a thaw with `backup restore SNAPSHOT --thaw --no-wait --target \
                         DIR` (no other command can), and repeat this command when the data is \
                         readable";

/// Result of a command.
pub(crate) type CommandResult<T = Outcome> = Result<T, CommandError>;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request makes no sense.
    Usage,
    /// The configuration cannot be used.
    Config,
    /// The store refuses the credentials, or requires some and none are found.
    Credentials,
    /// The pass phrase, or the password of a server, cannot be had.
    Passphrase,
    /// It needs a confirmation that was not given, or something exists already.
    Refused,
    /// A confirmation was answered with no, or could not be given.
    Declined,
    /// Somebody else executes the job.
    Held,
    /// A file of this machine could not be read or written.
    Io,
    /// What was restored is not what was backed up.
    Mismatch,
    /// Nobody reads the output any more.
    BrokenPipe,
    /// The data plane failed.
    Core(ErrorKind),
}

/// Failure of a command.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// Whether data lies in an archive and has to be thawed.
    is_archived: bool,
    /// The snapshot that was made before it failed.
    snapshot: Option<SnapshotId>,
    /// Further mistakes of a configuration; boxed because errors are returned by value.
    others: Option<Box<OtherMistakes>>,
}

impl CommandError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            is_archived: false,
            snapshot: None,
            others: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// A confirmation that cannot be given: nothing was done, so nothing failed.
    pub(crate) fn unconfirmed(message: impl Into<String>) -> Self {
        Self::new(Kind::Declined, message)
    }

    /// No to a confirmation.
    pub(crate) fn declined(nothing: &str) -> Self {
        Self::new(Kind::Declined, format!("not confirmed; {nothing}"))
    }

    /// A failure to read or write a file of this machine.
    pub(crate) fn io(doing: impl Display, error: &io::Error) -> Self {
        Self { causes: vec![error.to_string()], ..Self::new(Kind::Io, doing.to_string()) }
    }

    /// With the causes of another error.
    pub(crate) fn from_error(kind: Kind, error: &dyn StdError) -> Self {
        Self { causes: causes(error), ..Self::new(kind, error.to_string()) }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// For verbs that thaw nothing: which one does, if data has to be thawed.
    pub(crate) fn with_hint_at_thawing(self) -> Self {
        if self.is_archived { self.with_hint(THAW_HINT) } else { self }
    }

    /// Puts `doing` in front of the message.
    pub(crate) fn context(mut self, doing: impl Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    pub(crate) fn is_missing_repository(&self) -> bool {
        self.kind == Kind::Core(ErrorKind::NoRepository)
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == Kind::Core(ErrorKind::NotFound)
    }

    /// Where the request makes sense, and what it asks for must not be done.
    pub(crate) fn invalid_is_refused(mut self) -> Self {
        if self.kind == Kind::Core(ErrorKind::Invalid) {
            self.kind = Kind::Refused;
        }
        self
    }

    /// Whether the same may succeed later without anybody doing anything.
    pub(crate) fn may_pass(&self) -> bool {
        // What is done already is not to be done again.
        self.snapshot.is_none()
            && matches!(self.kind, Kind::Core(ErrorKind::Unavailable | ErrorKind::Source))
    }

    /// A failure after the snapshot was made.
    pub(crate) fn after(self, snapshot: Option<SnapshotId>) -> Self {
        Self { snapshot, ..self }
    }

    /// The snapshot that was made before it failed.
    pub(crate) fn snapshot(&self) -> Option<SnapshotId> {
        self.snapshot
    }

    /// Whether it is the same the next time, as long as nobody changes anything.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(
            self.kind,
            Kind::Usage
                | Kind::Config
                | Kind::Credentials
                | Kind::Mismatch
                | Kind::Core(ErrorKind::TooLarge)
        )
    }

    /// Whether damage was found.
    pub(crate) fn is_damage(&self) -> bool {
        self.kind == Kind::Core(ErrorKind::Damaged)
    }

    /// True if the storage has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.kind == Kind::Core(ErrorKind::StorageFull)
    }

    /// Whether somebody else is at it.
    pub(crate) fn is_busy(&self) -> bool {
        self.kind == Kind::Core(ErrorKind::Busy)
    }

    pub(crate) fn held(self) -> Self {
        Self { kind: Kind::Held, ..self }
    }

    /// Whether somebody else executes the job.
    pub(crate) fn is_held(&self) -> bool {
        self.kind == Kind::Held
    }

    /// Whether somebody has stopped the command.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.kind == Kind::Core(ErrorKind::Cancelled)
    }

    pub(crate) fn is_declined(&self) -> bool {
        self.kind == Kind::Declined
    }

    /// Whether the request makes no sense.
    pub(crate) fn is_usage(&self) -> bool {
        self.kind == Kind::Usage
    }

    pub(crate) fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// True if the request itself was wrong, or a person stopped or declined it.
    pub(crate) fn is_of_user(&self) -> bool {
        use ErrorKind::{Ambiguous, Cancelled, Invalid, NotFound};
        matches!(
            self.kind,
            Kind::Usage
                | Kind::Config
                | Kind::Refused
                | Kind::Declined
                | Kind::BrokenPipe
                | Kind::Core(Ambiguous | Cancelled | Invalid | NotFound)
        )
    }

    /// Whether nothing has to be said about it.
    pub(crate) fn is_silent(&self) -> bool {
        self.kind == Kind::BrokenPipe
    }

    /// The message with its causes, in one line.
    pub(crate) fn chain(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).cloned().collect::<Vec<_>>().join(": ")
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn causes(&self) -> &[String] {
        &self.causes
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage | Kind::Config | Kind::Credentials => exit_code::USAGE,
            Kind::Passphrase => exit_code::PASSPHRASE,
            Kind::Refused | Kind::Declined => exit_code::REFUSED,
            Kind::Held => exit_code::BUSY,
            Kind::Io | Kind::Mismatch => exit_code::FAILURE,
            Kind::BrokenPipe => exit_code::BROKEN_PIPE,
            Kind::Core(kind) => match kind {
                ErrorKind::NoRepository => exit_code::NO_REPOSITORY,
                ErrorKind::RepositoryExists | ErrorKind::TargetExists => exit_code::REFUSED,
                ErrorKind::WrongPassphrase => exit_code::PASSPHRASE,
                ErrorKind::Damaged => exit_code::DAMAGE,
                ErrorKind::Invalid | ErrorKind::Ambiguous => exit_code::USAGE,
                ErrorKind::Busy => exit_code::BUSY,
                ErrorKind::Cancelled => exit_code::INTERRUPTED,
                _ => exit_code::FAILURE,
            },
        }
    }
}

/// The messages of all causes of `error`, without repetitions.
fn causes(error: &dyn StdError) -> Vec<String> {
    let mut causes = Vec::new();
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if message != last {
            causes.push(message.clone());
        }
        last = message;
        next = cause.source();
    }
    causes
}

/// Whether `error` comes from data in an archive.
fn is_archived(error: &dyn StdError) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if cause
            .downcast_ref::<SinkError>()
            .is_some_and(|cause| cause.kind() == SinkErrorKind::Archived)
        {
            return true;
        }
        next = cause.source();
    }
    false
}

impl From<CoreError> for CommandError {
    fn from(error: CoreError) -> Self {
        let kind = match RefusedCredentials::caused(&error) {
            true => Kind::Credentials,
            false if MissingPassword::caused(&error) => Kind::Passphrase,
            false => Kind::Core(error.kind()),
        };
        Self {
            kind,
            message: error.to_string(),
            causes: causes(&error),
            hint: error.hint().map(str::to_owned),
            is_archived: is_archived(&error),
            snapshot: None,
            others: None,
        }
    }
}

impl From<SourceError> for CommandError {
    fn from(error: SourceError) -> Self {
        CoreError::from(error).into()
    }
}

impl From<CatalogError> for CommandError {
    fn from(error: CatalogError) -> Self {
        let hint = error.hint();
        Self { causes: causes(&error), ..Self::new(Kind::Io, error.to_string()).with_hint(hint) }
    }
}

impl From<ControlError> for CommandError {
    fn from(error: ControlError) -> Self {
        let others = match &error {
            ControlError::Config(error) if !error.others.is_empty() => {
                let others = error.others.iter().map(OtherMistake::from).collect();
                Some(Box::new(OtherMistakes(others)))
            }
            _ => None,
        };
        let kind = match error {
            ControlError::Core(error) => return error.into(),
            ControlError::Config(_) => Kind::Config,
            ControlError::Passphrase(_) => Kind::Passphrase,
            _ => Kind::Usage,
        };
        let hint = error.hint().map(str::to_owned);
        Self { hint, others, causes: causes(&error), ..Self::new(kind, error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_hints_and_codes_survive() {
        let inner = io::Error::other("disk on fire");
        let error = CoreError::new(ErrorKind::StorageFull, "storage failed")
            .with_source(inner)
            .with_hint("buy a disk");
        let error = CommandError::from(error);
        assert_eq!(error.causes(), ["disk on fire"]);
        assert_eq!(error.hint(), Some("buy a disk"));
        assert_eq!(error.exit_code(), exit_code::FAILURE);
        let json = serde_json::to_value(error.to_event(true)).unwrap();
        assert_eq!(json["final"], true);
        assert_eq!(serde_json::to_value(error.to_event(false)).unwrap().get("final"), None);
        assert_eq!(json["kind"], "storage_full");
        assert_eq!(json["event"], "error");
    }

    #[test]
    fn restic_codes_where_the_meaning_is_the_same() {
        for (kind, code) in [
            (ErrorKind::NoRepository, 10),
            (ErrorKind::WrongPassphrase, 12),
            (ErrorKind::Cancelled, 130),
            (ErrorKind::Damaged, 4),
            (ErrorKind::TargetExists, 5),
            (ErrorKind::Unavailable, 1),
        ] {
            assert_eq!(CommandError::from(CoreError::new(kind, "x")).exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn what_was_made_is_not_made_again() {
        let away = || CommandError::new(Kind::Core(ErrorKind::Unavailable), "the store is away");
        assert!(away().may_pass());
        let id = "a1".repeat(32).parse().unwrap();
        let after = away().after(Some(id));
        assert!(!after.may_pass() && after.snapshot() == Some(id));
        assert!(away().after(None).may_pass(), "there is none");
    }
}
