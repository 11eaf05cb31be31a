//! A machine as the documentation assumes it: its directories are below a scratch directory, its
//! host names are servers of the test.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::page::{Block, blocks};
use crate::support::cli::built;
use crate::support::postgres::hand_over;
use crate::support::process::run;

/// Directories of the documentation that are below the scratch directory.
const DIRECTORIES: [&str; 6] =
    ["/mnt/backup", "/etc/backup/", "/srv/", "/tmp/", "/root/", "/var/spool/backup"];

/// A machine to execute the blocks of a page on.
pub(super) struct Machine {
    root: tempfile::TempDir,
    /// Texts of the documentation and their replacements here.
    replacements: Vec<(String, String)>,
}

impl Machine {
    /// With a directory of documents, and with `hosts`: a text of the documentation, and the
    /// address here.
    pub(super) fn new(hosts: &[(&str, String)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        hand_over(root.path());
        let path = root.path().to_str().unwrap().to_owned();
        let mut replacements: Vec<(String, String)> =
            hosts.iter().map(|(host, here)| ((*host).to_owned(), here.clone())).collect();
        let here = |name: &str| (name.to_owned(), format!("{path}{name}"));
        replacements.extend(DIRECTORIES.map(here));
        // Of two texts that begin at the same place, the longer one.
        replacements.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let machine = Self { root, replacements };
        for directory in ["mnt", "etc/backup", "srv", "tmp", "root", "bin", "home/documents"] {
            std::fs::create_dir_all(machine.path(directory)).unwrap();
        }
        std::fs::write(machine.path("home/documents/letter.txt"), "Dear Sir or Madam\n").unwrap();
        std::fs::write(machine.path("home/documents/thesis.odt"), [7; 70_000]).unwrap();
        symlink(built("backup-cli", "backup"), machine.path("bin/backup")).unwrap();
        symlink(built("backup-daemon", "backupd"), machine.path("bin/backupd")).unwrap();
        let tools = PathBuf::from(std::env::var_os("BACKUP_TEST_TOOLS").unwrap_or_default());
        symlink(tools.join("bin/restic-new"), machine.path("bin/restic")).unwrap();
        machine
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes the file that the documentation calls `/etc/backup/{name}`.
    pub(super) fn password(&self, name: &str, password: &str) {
        std::fs::write(self.path("etc/backup").join(name), password).unwrap();
    }

    /// Executes the `sh` blocks of a page in one shell, in their order. Each `toml` block is
    /// appended to `backup.toml` when its turn comes.
    pub(super) fn execute(&self, page: &str) {
        let mut script = String::new();
        for block in blocks(page) {
            write!(script, "echo '==> {page}:{}' >&2\n{}", block.line, step(&block)).unwrap();
        }
        self.shell(&script);
    }

    /// Executes commands in the home of the user, after replacing directories and hosts. Returns
    /// standard output.
    #[track_caller]
    pub(super) fn shell(&self, script: &str) -> String {
        let script = self.replaced(&format!("set -euo pipefail\n{script}"));
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .current_dir(self.path("home"))
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", path);
        let outcome = run(&mut command);
        assert_eq!(outcome.code, 0, "{}\n{}", outcome.text(), outcome.stderr);
        outcome.text()
    }

    /// Replaces in one pass: the scratch directory may itself be below `/tmp`.
    fn replaced(&self, text: &str) -> String {
        let (mut replaced, mut rest) = (String::new(), text);
        while let Some(next) = rest.chars().next() {
            let found = self.replacements.iter().find(|(from, _)| rest.starts_with(from));
            let (from, to) = match found {
                Some((from, to)) => (from.len(), to.as_str()),
                None => (next.len_utf8(), &rest[..next.len_utf8()]),
            };
            replaced.push_str(to);
            rest = &rest[from..];
        }
        replaced
    }

    /// Fails unless the documents were restored below `directory` as they are.
    pub(super) fn assert_documents(&self, directory: &str) {
        let restored = find(&self.path(directory), "letter.txt");
        self.shell(&format!("diff -r ~/documents {:?}", restored.parent().unwrap()));
    }

    /// Stock restic finds no fault in the repository `name`.
    pub(super) fn assert_intact(&self, name: &str) {
        self.shell(&format!(
            "restic -r /mnt/backup/{name} --password-file /etc/backup/{name}.key --no-lock \
             --no-cache check --read-data"
        ));
    }
}

/// The part of a script that executes a block.
fn step(block: &Block) -> String {
    match block.language.as_str() {
        "sh" => block.text.clone(),
        "toml" => format!("cat >> ~/backup.toml <<'END_OF_TOML'\n{}END_OF_TOML\n", block.text),
        _ => String::new(),
    }
}

/// The only file of this name below a directory.
fn find(directory: &Path, name: &str) -> PathBuf {
    let (mut found, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else if entry.file_name() == name {
                found.push(entry.path());
            }
        }
    }
    assert_eq!(found.len(), 1, "{name} below {}: {found:?}", directory.display());
    found.remove(0)
}
