//! The `backup` binary of this build, on one repository.
//!
//! Cargo tells only the tests of a binary's own package where it is. It lies two directories above
//! this test; if it is not there (a run of this package alone), it is built once. Whoever changes
//! the program and then runs this package alone has to build it himself:
//! `cargo build --bin backup`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Outcome, run};

/// The program.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("backup-cli", "backup"))
}

/// The workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// A program of this build.
pub(crate) fn built(package: &str, name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let program = profile.join(name);
    // Several tests may find out at the same time.
    let lock = File::create(profile.join(format!(".{name}-tests.lock"))).unwrap();
    lock.lock().unwrap();
    if !program.exists() {
        build(profile, package, name);
    }
    program
}

fn build(profile: &Path, package: &str, name: &str) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace())
        .args(["build", "--package", package, "--bin", name, "--target-dir"])
        .arg(profile.parent().expect("a profile has a target directory"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    run(&mut cargo).succeeded();
}

/// `backup` with the address and the pass phrase of a repository.
pub(crate) struct Cli {
    repository: OsString,
    password: String,
    /// Such as credentials of an object store.
    environment: BTreeMap<String, String>,
    home: TempDir,
}

impl Cli {
    pub(crate) fn new(repository: &Path, password: &str) -> Self {
        Self::remote(repository, password, BTreeMap::new())
    }

    /// On any kind of storage; with `HOME` in the environment, that home is used.
    pub(crate) fn remote(
        repository: impl AsRef<OsStr>,
        password: &str,
        environment: BTreeMap<String, String>,
    ) -> Self {
        let repository = repository.as_ref().to_owned();
        Self {
            repository,
            password: password.to_owned(),
            environment,
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// The pass phrase.
    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// A command that is ready to run, started by `wrapper` if that is not empty.
    pub(crate) fn command(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut command = match wrapper {
            [] => Command::new(program()),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program());
                command
            }
        };
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BACKUP_REPO", &self.repository)
            .env("BACKUP_AUDIT_SYSLOG", "none")
            .env("BACKUP_PASSWORD", &self.password)
            .envs(&self.environment)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(&[], arguments))
    }

    /// Runs it with success; returns the summary that `--json` ends with.
    #[track_caller]
    pub(crate) fn summary(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let done = self.run(&arguments).succeeded();
        let last = done.text().lines().last().map(serde_json::from_str::<Value>);
        match last {
            Some(Ok(summary)) if summary["event"] == "summary" => summary,
            _ => panic!("no summary: {done}"),
        }
    }

    /// `check --read-data`: fails unless it finds nothing.
    #[track_caller]
    pub(crate) fn check(&self) {
        let summary = self.summary(&["check", "--read-data"]);
        assert_eq!(summary["problems"], Value::Array(Vec::new()), "{summary}");
    }
}
