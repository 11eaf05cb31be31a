//! Asking the program `backup`, for what only it can tell.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use backup_control::audit::USER_VARIABLE;
use backup_control::environment::Environment;
use backup_control::remote;
use backup_process::Family;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of what it says that are kept.
const MAX_OUT: u64 = 16 << 20;
/// Bytes of its complaints that are kept.
const MAX_ERR: u64 = 64 << 10;
/// Programs that are asked at the same time; and those who wait for their turn, after which no more
/// are heard.
const AT_THE_SAME_TIME: usize = 2;
const WAITING: usize = 16;

/// What a program said.
#[derive(Debug, Clone, Default)]
pub struct Spoken {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote on its standard output.
    pub out: Vec<u8>,
    /// What it wrote on its standard error.
    pub err: String,
}

/// Why it was not heard to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unheard {
    /// It cannot be started.
    #[error("cannot start the program {}", .0.display())]
    Missing(PathBuf, #[source] io::Error),
    /// It takes too long.
    #[error("the program did not answer within {} seconds", .0.as_secs())]
    Late(Duration),
    /// It says too much.
    #[error("the output of the program is too large")]
    Long,
    /// Too many ask.
    #[error("too many requests run the program at the same time")]
    Busy,
    /// It failed.
    #[error("{message}")]
    Failed {
        /// What it said.
        message: String,
        /// What can be done about it.
        hint: Option<String>,
        /// Its exit code.
        code: Option<i32>,
        /// There is nothing of the name that was asked for.
        is_unknown: bool,
    },
}

/// The program `backup`.
#[async_trait]
pub trait Program: fmt::Debug + Send + Sync {
    /// Runs it with these words, on behalf of `by`, and hears it to the end.
    ///
    /// # Errors
    /// All of [`Unheard`] but for `Failed`: whatever it says, it was heard.
    async fn ask(&self, words: &[String], by: &str) -> Result<Spoken, Unheard>;
}

/// The program as it lies on the disk.
#[derive(Debug)]
pub struct Child {
    /// Where it is.
    pub program: PathBuf,
    /// The configuration that it is given.
    pub config: Option<PathBuf>,
    /// Its environment.
    pub env: Environment,
    turns: Semaphore,
    doors: Semaphore,
}

impl Child {
    /// The program, with the configuration and the environment that it is given.
    #[must_use]
    pub fn new(program: PathBuf, config: Option<PathBuf>, env: Environment) -> Self {
        let (turns, doors) =
            (Semaphore::new(AT_THE_SAME_TIME), Semaphore::new(AT_THE_SAME_TIME + WAITING));
        Self { program, config, env, turns, doors }
    }

    async fn hear(&self, words: &[String], by: &str) -> Result<Spoken, Unheard> {
        let failed = |error| Unheard::Missing(self.program.clone(), error);
        let mut command = Command::new(&self.program);
        let own = |(name, _): &(&std::ffi::OsStr, &std::ffi::OsStr)| {
            !remote::VARIABLES.iter().any(|other| *name == *other)
        };
        command
            .env_clear()
            .envs(self.env.iter().filter(own))
            .env(USER_VARIABLE, by)
            .env("NO_COLOR", "1");
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut family = Family::of(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(io::Error::other("the process has no output")));
        };
        let said = async { bounded(out, MAX_OUT).await.map_err(failed)?.ok_or(Unheard::Long) };
        let complained = async { Ok(beginning(err).await) };
        let (out, err) = tokio::try_join!(said, complained)?;
        let code = child.wait().await.map_err(failed)?.code();
        family.release();
        Ok(Spoken { code, out, err: String::from_utf8_lossy(&err).into_owned() })
    }
}

/// What there is to read; none if it is too much, and the rest is not waited for.
async fn bounded(from: impl AsyncRead + Unpin, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut read = Vec::new();
    from.take(most + 1).read_to_end(&mut read).await?;
    Ok((read.len() as u64 <= most).then_some(read))
}

/// The beginning of what there is to read, all of which is waited for: nobody shall stop because
/// nobody listens.
async fn beginning(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut read = Vec::new();
    _ = (&mut from).take(MAX_ERR).read_to_end(&mut read).await;
    _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    read
}

#[async_trait]
impl Program for Child {
    async fn ask(&self, words: &[String], by: &str) -> Result<Spoken, Unheard> {
        let _door = self.doors.try_acquire().map_err(|_| Unheard::Busy)?;
        let heard = async {
            let _turn = self.turns.acquire().await.map_err(|_| Unheard::Busy)?;
            self.hear(words, by).await
        };
        // Dropping it kills the program with everything that it started.
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or(Err(Unheard::Late(PATIENCE)))
    }
}

impl Spoken {
    /// Whether it did what it was asked for; what is missing or incomplete is in what it says.
    #[must_use]
    pub fn is_done(&self) -> bool {
        // Warnings and damage that was found are answers too.
        matches!(self.code, Some(0 | 3 | 4))
    }

    /// The object that it printed behind its warnings.
    ///
    /// # Errors
    /// [`Unheard::Failed`] with what it said.
    pub fn object(&self) -> Result<Value, Unheard> {
        let last = self.lines().filter(|line| !is_event(line, &["warning", "error"])).last();
        match last.filter(|_| self.is_done()) {
            Some(object) => Ok(object),
            None => Err(self.failure()),
        }
    }

    /// All objects that it printed.
    pub fn lines(&self) -> impl Iterator<Item = Value> {
        self.out.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
    }

    /// Why it failed, as it said so.
    #[must_use]
    pub fn failure(&self) -> Unheard {
        if let Some(event) = self.lines().filter(|line| is_event(line, &["error"])).last() {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let causes = event["causes"].as_array().into_iter().flatten().filter_map(text);
            let parts: Vec<String> = text(&event["message"]).into_iter().chain(causes).collect();
            return Unheard::Failed {
                message: parts.join(": "),
                hint: text(&event["hint"]),
                code: self.code,
                is_unknown: matches!(event["kind"].as_str(), Some("not_found" | "no_repository")),
            };
        }
        let with = |heading: &str| {
            self.err.lines().find_map(|line| line.trim().strip_prefix(heading)).map(str::trim)
        };
        let message = with("Error:").map_or_else(|| failed(self.code), str::to_owned);
        Unheard::Failed {
            message,
            hint: with("Hint:").map(str::to_owned),
            code: self.code,
            is_unknown: false,
        }
    }
}

fn is_event(line: &Value, names: &[&str]) -> bool {
    line["event"].as_str().is_some_and(|event| names.contains(&event))
}

/// The message for a program that did not report an error of its own.
fn failed(code: Option<i32>) -> String {
    match code {
        Some(code) => format!("the program failed with exit code {code}"),
        None => "a signal ended the program".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn child(dir: &std::path::Path, script: &str) -> Child {
        let program = dir.join("backup");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        Child::new(
            program,
            Some("/c.toml".into()),
            [("PATH", "/usr/bin:/bin"), ("A", "b")].into_iter().collect(),
        )
    }

    #[tokio::test]
    async fn hears_it_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"echo '{"event":"warning","message":"careful"}'; echo "{\"words\":\"$*\",\"by\":\"$BACKUP_AUDIT_USER $A\"}"; exit 3"#;
        let spoken =
            child(dir.path(), script).ask(&["list".into(), "--json".into()], "anna").await.unwrap();
        let object = spoken.object().unwrap();
        assert_eq!(object["words"], "--config /c.toml list --json");
        assert_eq!(object["by"], "anna b");
    }

    #[tokio::test]
    async fn says_why_it_failed() {
        let dir = tempfile::tempdir().unwrap();
        let script =
            r#"echo '{"event":"error","message":"no","causes":["gone"],"hint":"look"}'; exit 1"#;
        let spoken = child(dir.path(), script).ask(&[], "anna").await.unwrap();
        let Err(Unheard::Failed { message, hint, code, .. }) = spoken.object() else {
            panic!("{spoken:?}")
        };
        assert_eq!((message.as_str(), hint.as_deref(), code), ("no: gone", Some("look"), Some(1)));
        let spoken = child(dir.path(), "echo 'Error: bad' >&2; echo 'Hint: good' >&2; exit 2")
            .ask(&[], "x")
            .await;
        let failure = spoken.unwrap().failure();
        assert!(
            matches!(&failure, Unheard::Failed { message, hint: Some(hint), .. } if message == "bad" && hint == "good")
        );
        let missing =
            Child::new(dir.path().join("none"), None, Environment::default()).ask(&[], "x").await;
        assert!(matches!(missing, Err(Unheard::Missing(..))));
    }

    #[tokio::test]
    async fn is_not_flooded() {
        let dir = tempfile::tempdir().unwrap();
        let endless = child(dir.path(), "exec cat /dev/zero").ask(&[], "x").await;
        assert!(
            matches!(endless, Err(Unheard::Long)),
            "{:?}",
            endless.map(|spoken| spoken.out.len())
        );
    }
}
