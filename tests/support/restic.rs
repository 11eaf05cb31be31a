//! Stock restic and rustic, each with a home of its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::process::{Outcome, run};
use super::repo::HOST;
use super::tree::{STRANGE_NAMES, chmod, everything, settle};
use backup_core::testing::tool;

/// Both versions of stock restic that every repository must suit.
pub(crate) const RESTICS: [&str; 2] = ["restic-0.14", "restic-new"];

/// Stock restic on one repository.
pub(crate) struct Restic {
    program: PathBuf,
    repository: OsString,
    password: String,
    /// Such as credentials of an object store.
    environment: BTreeMap<String, String>,
    home: TempDir,
}

impl Restic {
    pub(crate) fn new(version: &str, repository: &Path, password: &str) -> Self {
        Self::remote(version, repository, password, BTreeMap::new())
    }

    /// On a repository of one of restic's backends, such as `s3:http://HOST:PORT/BUCKET/PREFIX`.
    pub(crate) fn remote(
        version: &str,
        repository: impl AsRef<OsStr>,
        password: &str,
        environment: BTreeMap<String, String>,
    ) -> Self {
        let (program, repository) = (tool(version), repository.as_ref().to_owned());
        Self {
            program,
            repository,
            password: password.to_owned(),
            environment,
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs it; see [`Outcome::succeeded`].
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }

    /// Begins to run it; what it reads from standard input is up to the caller.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("RESTIC_CACHE_DIR", self.home.path().join("cache"))
            .env("RESTIC_REPOSITORY", &self.repository)
            .env("RESTIC_PASSWORD", &self.password)
            .envs(&self.environment)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// `check --read-data`: fails unless it finds nothing.
    #[track_caller]
    pub(crate) fn check(&self) {
        let checked = self.run(&["check", "--read-data", "--no-lock"]).succeeded();
        assert!(checked.text().contains("no errors were found"), "{checked}");
    }

    /// Restores into `target`.
    #[track_caller]
    pub(crate) fn restore(&self, snapshot: &str, target: &Path) {
        self.run(&["restore", snapshot, "--no-lock", "--target", text(target)]).succeeded();
    }

    /// `backup` of `paths`; returns the summary that `--json` prints.
    #[track_caller]
    pub(crate) fn backup(&self, paths: &[&Path]) -> serde_json::Value {
        let mut arguments = vec!["backup", "--json", "--host", HOST];
        arguments.extend(paths.iter().map(|path| text(path)));
        let done = self.run(&arguments).succeeded();
        let summary = done
            .text()
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find(|line| line["message_type"] == "summary");
        summary.unwrap_or_else(|| panic!("no summary: {done}"))
    }

    /// Creates the repository.
    #[track_caller]
    pub(crate) fn init(&self, version: &str) {
        self.run(&["init", "--repository-version", version]).succeeded();
    }
}

/// rustic on one repository.
pub(crate) struct Rustic {
    program: PathBuf,
    home: TempDir,
}

impl Rustic {
    pub(crate) fn new(repository: &Path, password: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let profile = format!(
            "[repository]\nrepository = {:?}\npassword = {password:?}\nno-cache = true\n",
            text(repository)
        );
        fs::write(home.path().join("rustic.toml"), profile).unwrap();
        Self { program: tool("rustic"), home }
    }

    /// Runs it; see [`Outcome::succeeded`].
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(&self.program);
        command
            .arg("--no-progress")
            .args(["--use-profile", text(&self.home.path().join("rustic"))])
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        run(&mut command)
    }
}

/// A path of these tests as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// Everything that the stock tool `name` knows. No restic stores sockets; 0.14 knows link targets
/// as text only, and takes attributes of a link for those of what it points to. rustic takes mode
/// 000 for an unknown mode.
pub(crate) fn everything_for(name: &str, top: &Path) {
    everything(top);
    match name {
        "rustic" => chmod(top.join("content/one byte"), 0o400),
        _ => fs::remove_file(top.join("special/socket")).unwrap(),
    }
    if name == "restic-0.14" {
        for name in STRANGE_NAMES.into_iter().filter(|name| str::from_utf8(name).is_err()) {
            fs::remove_file(top.join("names/links").join(OsStr::from_bytes(name))).unwrap();
        }
        fs::remove_file(top.join("links/strange target")).unwrap();
        fs::remove_file(top.join("attributes/link")).ok();
    }
    settle();
}
