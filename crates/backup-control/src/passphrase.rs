//! Where the pass phrase of a repository, or the password of a source, comes from, and fetching it.
//!
//! | | first that is given |
//! |---|---|
//! | 1 | flags: a file, a command |
//! | 2 | the repository's section in the configuration: `passphrase_file`, `passphrase_env`, `passphrase_command` |
//! | 3 | the environment: `BACKUP_PASSWORD`, `BACKUP_PASSWORD_FILE`, `BACKUP_PASSWORD_COMMAND` |
//! | 4 | nothing: the front-end asks, or fails |
//!
//! The environment comes after the configuration because it is one value for all repositories,
//! while a section speaks of its own. The password of a source has no flags: its section, else
//! `BACKUP_SOURCE_PASSWORD…`; that of a target of which there is no section:
//! `BACKUP_TARGET_PASSWORD…`; that of the catalog: `[catalog]`, else `BACKUP_CATALOG_PASSWORD…`;
//! else what the address holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backup_core::crypto::Passphrase;
use backup_process::{DEFAULT_LIMIT, Failure, LIMIT_VARIABLE, MAX_OUTPUT};
use zeroize::Zeroizing;

use crate::config::{Config, RepositoryConfig};
use crate::environment::Environment;
use crate::error::{Error, Result};

/// What is fetched, in messages: what opens a repository, and what a source's user is known by.
const PASS_PHRASE: &str = "pass phrase";
const PASSWORD: &str = "password";

const SECRET: &str = "secret";

/// What the flags of a front-end say.
#[derive(Debug, Clone, Default)]
pub struct PassphraseFlags {
    /// File that holds the pass phrase.
    pub file: Option<PathBuf>,
    /// Shell command whose output's first line is the pass phrase.
    pub command: Option<String>,
}

/// Where a pass phrase comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassphraseOrigin {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A shell command.
    Command(String),
}

impl std::fmt::Display for PassphraseOrigin {
    /// Names the place. Commands may hold secrets and are not repeated.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "the file {}", file.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Command(_) => f.write_str("a command"),
        }
    }
}

impl PassphraseOrigin {
    /// The first place that is given, in the order above.
    #[must_use]
    pub fn choose(
        flags: &PassphraseFlags,
        repository: Option<&RepositoryConfig>,
        env: &Environment,
    ) -> Option<Self> {
        let by_flag = Self::of(flags.file.as_deref(), None, flags.command.as_deref());
        let by_config = || {
            let config = repository?;
            let variable = config.passphrase_env.as_deref();
            Self::of(
                config.passphrase_file.as_deref(),
                variable,
                config.passphrase_command.as_deref(),
            )
        };
        by_flag.or_else(by_config).or_else(|| Self::from_env("BACKUP_PASSWORD", env))
    }

    /// The first place that is given for a pass phrase that takes the place of another, or is added
    /// to it: the flags, else `BACKUP_NEW_PASSWORD`, `BACKUP_NEW_PASSWORD_FILE`,
    /// `BACKUP_NEW_PASSWORD_COMMAND`.
    #[must_use]
    pub fn choose_new(flags: &PassphraseFlags, env: &Environment) -> Option<Self> {
        let by_flag = Self::of(flags.file.as_deref(), None, flags.command.as_deref());
        by_flag.or_else(|| Self::from_env("BACKUP_NEW_PASSWORD", env))
    }

    /// The first place that is given for the password of a source's user: its section, else the
    /// variable `name`, or those that name a file or a command.
    #[cfg(any(feature = "mongodb", feature = "postgres", feature = "redis"))]
    pub(crate) fn of_source(
        source: &crate::config::SourceConfig,
        name: &str,
        env: &Environment,
    ) -> Option<Self> {
        let variable = source.password_env.as_deref();
        let own =
            Self::of(source.password_file.as_deref(), variable, source.password_command.as_deref());
        own.or_else(|| Self::from_env(name, env))
    }

    /// The first place that is given for the password of the catalog's user: its section, else
    /// `BACKUP_CATALOG_PASSWORD`, or those that name a file or a command.
    #[cfg(feature = "postgres")]
    pub(crate) fn of_catalog(
        catalog: Option<&crate::config::CatalogConfig>,
        env: &Environment,
    ) -> Option<Self> {
        let own = catalog.and_then(|catalog| {
            let variable = catalog.password_env.as_deref();
            Self::of(
                catalog.password_file.as_deref(),
                variable,
                catalog.password_command.as_deref(),
            )
        });
        own.or_else(|| Self::from_env("BACKUP_CATALOG_PASSWORD", env))
    }

    /// The place of a channel's secret.
    pub(crate) fn of_channel(channel: &crate::config::NotifyConfig) -> Option<Self> {
        Self::of(
            channel.secret_file.as_deref(),
            channel.secret_env.as_deref(),
            channel.secret_command.as_deref(),
        )
    }

    /// From the variable `name`, or those that name a file or a command.
    fn from_env(name: &str, env: &Environment) -> Option<Self> {
        if env.get(name).is_some() {
            return Some(Self::Variable(name.to_owned()));
        }
        let (file, command) = (format!("{name}_FILE"), format!("{name}_COMMAND"));
        Self::of(env.get(&file).map(Path::new), None, env.text(&command))
    }

    fn of(file: Option<&Path>, variable: Option<&str>, command: Option<&str>) -> Option<Self> {
        let file = file.map(|path| Self::File(path.to_path_buf()));
        let variable = variable.map(|name| Self::Variable(name.to_owned()));
        file.or(variable).or_else(|| command.map(|line| Self::Command(line.to_owned())))
    }

    /// Fetches the pass phrase. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`Error::Passphrase`] if there is none to be had there.
    pub async fn fetch(&self, env: &Environment) -> Result<Passphrase> {
        self.fetch_as(PASS_PHRASE, env).await
    }

    /// Fetches the password of a server's user.
    #[cfg(any(feature = "mongodb", feature = "postgres", feature = "redis"))]
    pub(crate) async fn fetch_password(&self, env: &Environment) -> Result<Passphrase> {
        self.fetch_as(PASSWORD, env).await
    }

    /// Fetches a channel's secret.
    pub(crate) async fn fetch_secret(&self, env: &Environment) -> Result<Passphrase> {
        self.fetch_as(SECRET, env).await
    }

    /// The hint for a pass phrase from here that opens no key.
    #[must_use]
    pub fn hint_if_wrong(&self, passphrase: &Passphrase) -> String {
        if passphrase.reveal().contains('\n') {
            return format!(
                "the pass phrase came from {self}, which has several lines: all of them belong to \
                 the pass phrase. Keep the right line only, or use a recovery key"
            );
        }
        format!("the pass phrase came from {self}: correct it there, or use a recovery key")
    }

    async fn fetch_as(&self, what: &str, env: &Environment) -> Result<Passphrase> {
        let limit = limit(env)?;
        let (text, from) = match self {
            Self::File(path) => {
                let bytes = backup_process::read_file(path, limit).await;
                (text_of_file(what, path, bytes)?, path.display().to_string())
            }
            Self::Variable(name) => {
                (read_variable(what, name, env)?, format!("the environment variable {name}"))
            }
            Self::Command(line) => {
                (run(what, line, env, limit).await?, format!("the command for the {what}"))
            }
        };
        if text.is_empty() {
            return Err(Error::passphrase(format!("{from} contains no {what}"))
                .with_hint(format!("store the {what} there, or name another source of it")));
        }
        Ok(Passphrase::new(text.as_str()))
    }
}

/// The files with secrets that a configuration names and this process cannot read, or that are
/// empty, with the sections that name them. FIFOs and sockets are not read: they may deliver a
/// secret only once.
#[must_use]
pub fn unreadable_files(config: &Config) -> Vec<(String, Error)> {
    let of = |section: &str, name: &str, what: &'static str, file: &Option<PathBuf>| {
        file.clone().map(|file| (format!("[{section}.{name}]"), what, file))
    };
    let repositories = config.repositories.iter();
    let sources = config.sources.iter();
    let channels = config.notify.iter();
    let catalog = config.catalog.password_file.clone();
    let named = repositories
        .filter_map(|(name, one)| of("repositories", name, PASS_PHRASE, &one.passphrase_file))
        .chain(sources.filter_map(|(name, one)| of("sources", name, PASSWORD, &one.password_file)))
        .chain(channels.filter_map(|(name, one)| of("notify", name, SECRET, &one.secret_file)))
        .chain(catalog.map(|file| ("[catalog]".to_owned(), PASSWORD, file)));
    let tried = |(section, what, file): (String, &str, PathBuf)| match check_file(what, &file) {
        Err(error) => Some((section, error)),
        Ok(Some(text)) if text.is_empty() => {
            let error = Error::passphrase(format!("{} contains no {what}", file.display()));
            Some((section, error.with_hint(format!("store the {what} there"))))
        }
        Ok(_) => None,
    };
    named.filter_map(tried).collect()
}

/// The secret in a regular file; `None` if the file is a FIFO, a socket or a device, of which only
/// the permission is checked.
fn check_file(what: &str, path: &Path) -> Result<Option<Zeroizing<String>>> {
    let is_stream =
        std::fs::metadata(path).is_ok_and(|data| backup_process::is_stream(data.file_type()));
    if !is_stream {
        let bytes = backup_process::read_file_blocking(path, DEFAULT_LIMIT);
        return text_of_file(what, path, bytes).map(Some);
    }
    let readable = rustix::fs::access(path, rustix::fs::Access::READ_OK);
    let nothing = readable.map(|()| Zeroizing::default()).map_err(std::io::Error::from);
    text_of_file(what, path, nothing).map(|_| None)
}

/// White space around a secret does not belong to it: stock restic reads such a file the same way.
fn text_of_file(
    what: &str,
    path: &Path,
    bytes: std::io::Result<Zeroizing<Vec<u8>>>,
) -> Result<Zeroizing<String>> {
    let text = bytes.and_then(|bytes| match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.trim_start_matches('\u{feff}').trim().to_owned())),
        Err(_) => Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "the content is not UTF-8 text",
        )),
    });
    text.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound if what == PASS_PHRASE => {
                "check the path; `backup init --generate-key` creates a repository and its key file"
                    .to_owned()
            }
            std::io::ErrorKind::NotFound => "check the path".to_owned(),
            std::io::ErrorKind::PermissionDenied => {
                "run the command as the user who owns the file".to_owned()
            }
            std::io::ErrorKind::TimedOut => format!(
                "start the program that writes into the FIFO or socket, or raise {LIMIT_VARIABLE}"
            ),
            _ => format!("the file must hold the {what} as UTF-8 text"),
        };
        Error::passphrase(format!("cannot read the {what} file {}", path.display()))
            .with_source(error)
            .with_hint(hint)
    })
}

/// The time that helper programs and key files may take.
fn limit(env: &Environment) -> Result<Duration> {
    backup_process::limit(env.text(LIMIT_VARIABLE))
        .map_err(|error| Error::invalid(error.to_string()).with_hint("correct the variable"))
}

fn read_variable(what: &str, name: &str, env: &Environment) -> Result<Zeroizing<String>> {
    let value = env.get(name).ok_or_else(|| {
        Error::passphrase(format!("the environment variable {name} with the {what} is not set"))
            .with_hint("set the variable, or name another source in the configuration")
    })?;
    let text = value.to_str().ok_or_else(|| {
        Error::passphrase(format!("the environment variable {name} is not UTF-8"))
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Runs a shell command and returns the first line of its output. Neither the command nor its
/// outputs are shown: each of them may hold the secret, also the standard error of a shell with
/// `set -x`.
async fn run(
    what: &str,
    line: &str,
    env: &Environment,
    limit: Duration,
) -> Result<Zeroizing<String>> {
    let mut command = tokio::process::Command::new("/bin/sh");
    command.args(["-c", line]).env_clear().envs(env.iter());
    let output = backup_process::run(&mut command, limit).await.map_err(|failure| {
        let hint = match &failure {
            Failure::Late(_) => format!(
                "run the command by hand to find out why it hangs, or raise {LIMIT_VARIABLE}"
            ),
            _ => "run the command by hand to find the cause".to_owned(),
        };
        let error = Error::passphrase(format!("the command for the {what} {failure}"));
        let cause = std::error::Error::source(&failure).map(ToString::to_string);
        let error = if let Some(cause) = cause { error.with_source(cause) } else { error };
        error.with_hint(hint)
    })?;
    if !output.status.success() {
        let text = format!("the command for the {what} failed ({})", output.status);
        let hint = "run the command by hand to find the cause: its outputs may hold the secret, and \
                    are not shown";
        return Err(Error::passphrase(text).with_hint(hint));
    }
    let first = output.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if output.is_cut && first.len() == output.stdout.len() {
        let limit = MAX_OUTPUT >> 10;
        let text = format!("the output of the command for the {what} has a line above {limit} KiB");
        return Err(Error::passphrase(text).with_hint("the first line must be the secret"));
    }
    let first = std::str::from_utf8(first).map_err(|_| {
        Error::passphrase(format!("the output of the command for the {what} is not UTF-8 text"))
            .with_hint("the first line must be the secret as UTF-8 text")
    })?;
    Ok(Zeroizing::new(first.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    fn config(text: &str) -> RepositoryConfig {
        toml::from_str(&format!("url = \"x\"\n{text}")).unwrap()
    }

    #[test]
    fn flags_before_configuration_before_environment() {
        let flags = PassphraseFlags { file: Some("/f".into()), command: None };
        let section = config("passphrase_env = \"KEY\"");
        let bare = config("");
        let all = env(&[("BACKUP_PASSWORD", "x"), ("BACKUP_PASSWORD_FILE", "/e")]);
        let file = env(&[("BACKUP_PASSWORD_FILE", "/e"), ("BACKUP_PASSWORD_COMMAND", "c")]);
        let none = PassphraseFlags::default();
        let choose = PassphraseOrigin::choose;
        assert_eq!(choose(&flags, Some(&section), &all), Some(PassphraseOrigin::File("/f".into())));
        assert_eq!(
            choose(&none, Some(&section), &all),
            Some(PassphraseOrigin::Variable("KEY".into()))
        );
        assert_eq!(
            choose(&none, Some(&bare), &all),
            Some(PassphraseOrigin::Variable("BACKUP_PASSWORD".into()))
        );
        assert_eq!(choose(&none, None, &file), Some(PassphraseOrigin::File("/e".into())));
        assert_eq!(choose(&none, None, &env(&[])), None);

        // The old pass phrase is never taken for the new one.
        let new = env(&[("BACKUP_PASSWORD", "old"), ("BACKUP_NEW_PASSWORD_FILE", "/n")]);
        assert_eq!(
            PassphraseOrigin::choose_new(&none, &new),
            Some(PassphraseOrigin::File("/n".into()))
        );
        assert_eq!(
            PassphraseOrigin::choose_new(&flags, &new),
            Some(PassphraseOrigin::File("/f".into()))
        );
        assert_eq!(PassphraseOrigin::choose_new(&none, &all), None);
    }

    #[tokio::test]
    async fn files_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "\u{feff}top secret \r\n").unwrap();
        let origin = PassphraseOrigin::File(file.clone());
        assert_eq!(origin.fetch(&env(&[])).await.unwrap().reveal(), "top secret");
        std::fs::write(&file, "\n").unwrap();
        assert!(origin.fetch(&env(&[])).await.unwrap_err().to_string().contains("no pass phrase"));
        let origin = PassphraseOrigin::File(dir.path().join("none"));
        assert!(
            origin.fetch(&env(&[])).await.unwrap_err().hint().unwrap().contains("check the path")
        );
        let origin = PassphraseOrigin::Variable("KEY".into());
        assert_eq!(origin.fetch(&env(&[("KEY", " x ")])).await.unwrap().reveal(), " x ");
        assert!(origin.fetch(&env(&[])).await.is_err());
    }

    async fn command(line: &str) -> Result<Zeroizing<String>> {
        run(
            PASS_PHRASE,
            line,
            &env(&[("PATH", "/usr/bin:/bin"), ("NAME", "joe")]),
            Duration::from_millis(500),
        )
        .await
    }

    #[tokio::test]
    async fn commands() {
        assert_eq!(
            command("echo \"secret of $NAME\"; echo more").await.unwrap().as_str(),
            "secret of joe"
        );
        for line in [
            "echo hunter2; echo 'locked: hunter2' >&2; exit 3",
            "echo 'expected hunter2' >&2; exit 3",
            "set -x; printf '\\377%s' hunter2; exit 3",
        ] {
            let error = command(line).await.unwrap_err();
            let text = "the command for the pass phrase failed (exit status: 3)";
            assert_eq!(error.to_string(), text, "{line}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            assert!(error.hint().unwrap().contains("by hand"), "{error:?}");
        }
        let error = command("sleep 60").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the command for the pass phrase did not exit within 0.5 seconds"
        );
        assert!(error.hint().unwrap().contains("BACKUP_HELPER_TIMEOUT"));
    }

    #[tokio::test]
    async fn first_line_of_a_command_is_whole_or_refused() {
        let command = async |line: &str| {
            let variables = env(&[("PATH", "/usr/bin:/bin")]);
            run(PASS_PHRASE, line, &variables, Duration::from_secs(60)).await
        };
        // Anything may follow, as much as there is, and no line end is needed.
        let noise = "printf 'hunter2\\r\\n\\377'; head -c 300000 /dev/zero";
        assert_eq!(command(noise).await.unwrap().as_str(), "hunter2");
        assert_eq!(command("printf hunter2").await.unwrap().as_str(), "hunter2");
        let long = "head -c 262144 /dev/zero | tr '\\0' x";
        assert_eq!(command(long).await.unwrap().len(), 262_144);
        let error = command("head -c 262145 /dev/zero | tr '\\0' x").await.unwrap_err();
        assert!(error.to_string().contains("has a line above 256 KiB"), "{error}");
        let error = command("printf 'hunter2\\377'").await.unwrap_err();
        assert!(error.to_string().contains("is not UTF-8 text"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[tokio::test]
    async fn helper_timeout_holds_for_commands_and_fifos() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let variables = env(&[("PATH", "/usr/bin:/bin"), ("BACKUP_HELPER_TIMEOUT", "300ms")]);
        for origin in
            [PassphraseOrigin::Command("sleep 60".into()), PassphraseOrigin::File(fifo.clone())]
        {
            let since = std::time::Instant::now();
            let error = origin.fetch(&variables).await.unwrap_err();
            assert!(error.hint().unwrap().contains("BACKUP_HELPER_TIMEOUT"), "{error}");
            assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
        }
        let wrong = env(&[("BACKUP_HELPER_TIMEOUT", "soon")]);
        let error = PassphraseOrigin::File(fifo.clone()).fetch(&wrong).await.unwrap_err();
        assert!(error.to_string().contains("BACKUP_HELPER_TIMEOUT is not a duration"), "{error}");
        // A check of the configuration reads neither, and of a large file no more than a backup does.
        assert!(check_file(PASS_PHRASE, &fifo).unwrap().is_none());
        let large = dir.path().join("large");
        std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
        let error = check_file(PASS_PHRASE, &large).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("larger than 1 MiB"), "{cause}");
    }

    #[test]
    fn hint_of_a_wrong_pass_phrase_names_the_origin() {
        let origin = PassphraseOrigin::File("/key".into());
        let hint = origin.hint_if_wrong(&Passphrase::new("one\ntwo"));
        assert!(hint.contains("the file /key, which has several lines"), "{hint}");
        let hint = origin.hint_if_wrong(&Passphrase::new("one"));
        assert!(hint.starts_with("the pass phrase came from the file /key:"), "{hint}");
        let hint = PassphraseOrigin::Command("hush".into()).hint_if_wrong(&Passphrase::new("one"));
        assert!(hint.contains("came from a command") && !hint.contains("hush"), "{hint}");
    }
}
