//! The file with the tokens: their hashes, never they themselves. It is replaced as a whole;
//! writers wait for each other.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backup_control::{audit, cache, state};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Role;
use super::secret::{Secret, hash};

/// Its name in the state directory.
pub const FILE: &str = "tokens.json";
/// How long others are waited for.
const AT_THE_DOOR: Duration = Duration::from_secs(10);
/// A file is no larger: nobody has more tokens than a thousand.
const MAX_FILE: u64 = 1 << 20;
/// Tokens, at most.
const MAX_TOKENS: usize = 1000;
/// Names that mean somebody else in logs.
const RESERVED: [&str; 2] = ["schedule", "metrics"];

/// What goes wrong with tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be used.
    #[error("cannot use {}", .0.display())]
    Place(PathBuf, #[source] io::Error),
    /// What is in the file are no tokens.
    #[error("{} is not a token file of this version", .0.display())]
    Damaged(PathBuf, #[source] serde_json::Error),
    /// A newer version of this program wrote the file.
    #[error("cannot use {}", .0.display())]
    Newer(PathBuf, #[source] io::Error),
    /// Others could give themselves a token.
    #[error("{} is writable by other users", .0.display())]
    Open(PathBuf),
    /// Another process holds it for too long.
    #[error("another process does not release the lock on {}", .0.display())]
    Busy(PathBuf),
    /// There is one of that name.
    #[error("the token `{0}` already exists")]
    Exists(String),
    /// There is none of that name.
    #[error("there is no token `{0}`")]
    Unknown(String),
    /// Nobody can be called so.
    #[error("{0:?} is not a valid name of a token")]
    Name(String),
    /// It would have ended already.
    #[error("the expiry of the token is in the past")]
    Over,
    /// There are too many.
    #[error("there are {MAX_TOKENS} tokens already")]
    Full,
}

impl Error {
    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Place(..) => {
                "set `tokens_file` in `[api]` to another file, or BACKUP_STATE_DIR to another \
                 directory"
                    .into()
            }
            Self::Newer(..) => {
                "use a newer version of this program, or set `tokens_file` in `[api]` to another \
                 file"
                    .into()
            }
            Self::Damaged(path, _) => {
                format!("remove {}, and create the tokens again", path.display())
            }
            Self::Open(path) => {
                format!("run `chmod 600 {}`, and check the tokens in the file", path.display())
            }
            Self::Busy(path) => format!("find the process with `fuser {}`", path.display()),
            Self::Exists(name) => format!("replace the token with `backupd token rotate {name}`"),
            Self::Unknown(_) => "list the tokens with `backupd token list`".into(),
            Self::Name(_) => format!(
                "use up to 64 letters, digits, `-`, `_` and `.`; `{}` are reserved",
                RESERVED.join("` and `")
            ),
            Self::Over => "choose a later time".into(),
            Self::Full => "remove an unused token with `backupd token revoke`".into(),
        }
    }
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is: what logs call whoever uses it.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// The SHA-256 of it, in hex.
    pub(super) sha256: String,
    /// When it was made, or replaced last.
    pub created: Timestamp,
    /// When it ends; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it was used last, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// The one before, as long as it is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Before>,
}

/// A token that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    pub(super) sha256: String,
    pub(super) until: Timestamp,
}

impl Entry {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    tokens: Vec<Entry>,
}

/// By what a file is known to be another one.
pub(super) type Stamp = (u64, i64, i64, u64);

/// The tokens in a file.
#[derive(Debug, Clone)]
pub struct Tokens {
    path: PathBuf,
}

impl Tokens {
    /// Those in this file, which need not be there.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Their file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::Place(self.path.clone(), error)
    }

    /// All of them, by name; none if there is no file. Blocks.
    ///
    /// # Errors
    /// [`Error::Place`], [`Error::Damaged`], [`Error::Newer`], [`Error::Open`]
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let known = file.metadata().map_err(|error| self.failed(error))?;
        if known.mode() & 0o022 != 0 {
            return Err(Error::Open(self.path.clone()));
        }
        let mut json = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut file, MAX_FILE), &mut json)
            .map_err(|error| self.failed(error))?;
        state::require_known(&json).map_err(|error| Error::Newer(self.path.clone(), error))?;
        let stored: Stored = serde_json::from_slice(&json)
            .map_err(|error| Error::Damaged(self.path.clone(), error))?;
        Ok(stored.tokens)
    }

    /// What the file is known by; none if there is none.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let known = std::fs::metadata(&self.path).ok()?;
        Some((known.ino(), known.mtime(), known.mtime_nsec(), known.len()))
    }

    /// Makes a token. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn create(
        &self,
        name: &str,
        role: Role,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Secret, Error> {
        if !audit::is_name(name) || RESERVED.contains(&name) {
            return Err(Error::Name(name.to_owned()));
        }
        let secret = Secret::random();
        self.change(|tokens| {
            if tokens.iter().any(|token| token.name == name) {
                return Err(Error::Exists(name.to_owned()));
            }
            if tokens.len() >= MAX_TOKENS {
                return Err(Error::Full);
            }
            let entry = Entry {
                name: name.to_owned(),
                role,
                sha256: hex::encode(hash(secret.reveal())),
                created: now,
                expires,
                last_used: None,
                before: None,
            };
            if entry.is_over(now) {
                return Err(Error::Over);
            }
            tokens.push(entry);
            tokens.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(())
        })?;
        Ok(secret)
    }

    /// Puts another token in the place of one, which stays good until `until`. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn rotate(
        &self,
        name: &str,
        expires: Option<Timestamp>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(Secret, Role), Error> {
        let secret = Secret::random();
        let mut role = Role::Auditor;
        self.change(|tokens| {
            let token = tokens.iter_mut().find(|token| token.name == name);
            let token = token.ok_or_else(|| Error::Unknown(name.to_owned()))?;
            // What is over does not become good again by being replaced.
            let until =
                until.map(|until| token.expires.map_or(until, |expires| expires.min(until)));
            let sha256 = std::mem::replace(&mut token.sha256, hex::encode(hash(secret.reveal())));
            token.before = until.map(|until| Before { sha256, until });
            (token.created, token.expires, token.last_used) = (now, expires, None);
            role = token.role;
            if token.is_over(now) { Err(Error::Over) } else { Ok(()) }
        })?;
        Ok((secret, role))
    }

    /// Makes a token worthless, at once. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn revoke(&self, name: &str) -> Result<(), Error> {
        self.change(|tokens| {
            let at = tokens.iter().position(|token| token.name == name);
            tokens.remove(at.ok_or_else(|| Error::Unknown(name.to_owned()))?);
            Ok(())
        })
    }

    /// Notes when tokens were used. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) fn note_used(&self, used: &[(String, Timestamp)]) -> Result<(), Error> {
        self.change(|tokens| {
            for (name, time) in used {
                if let Some(token) = tokens.iter_mut().find(|token| token.name == *name) {
                    token.last_used = token.last_used.max(Some(*time));
                }
            }
            Ok(())
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut tokens = self.list()?;
        change(&mut tokens)?;
        let json = serde_json::to_vec_pretty(&Stored { version: state::VERSION, tokens })
            .map_err(io::Error::other);
        let json = json.map_err(|error| self.failed(error))?;
        let new = self.path.with_extension("new");
        let written = || {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&json).and_then(|()| file.sync_all())?;
            std::fs::rename(&new, &self.path)
        };
        written().map_err(|error| self.failed(error))
    }

    fn lock(&self) -> Result<File, Error> {
        cache::create(self.path.parent().unwrap_or(Path::new(".")))
            .map_err(|error| self.failed(error))?;
        let path = self.path.with_extension("lock");
        let lock = File::options().append(true).create(true).mode(0o600).open(path);
        let lock = lock.map_err(|error| self.failed(error))?;
        let since = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(self.failed(error)),
                Err(TryLockError::WouldBlock) if since.elapsed() > AT_THE_DOOR => {
                    return Err(Error::Busy(self.path.clone()));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}
