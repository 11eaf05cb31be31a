//! A machine as the documentation assumes it: its directories are below a scratch directory, its
//! host names are servers of the test.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

use super::page::blocks;
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
        // Programs look for their libraries beside themselves.
        if let Ok(pg_dump) = tools.join("bin/pg_dump-18").canonicalize() {
            for name in ["pg_dump", "pg_dumpall"] {
                symlink(pg_dump.with_file_name(name), machine.path("bin").join(name)).unwrap();
            }
        }
        machine
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes the file that the documentation calls `/etc/backup/{name}`.
    pub(super) fn password(&self, name: &str, password: &str) {
        let path = self.path("etc/backup").join(name);
        std::fs::write(&path, password).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// Executes the `sh` blocks of a page in one shell, in their order. The configuration is `config`;
    /// each `toml` block is merged into it when its turn comes.
    pub(super) fn execute(&self, page: &str, config: &str) {
        let mut config: Table = toml::from_str(config).unwrap();
        let mut script = save(&config);
        for block in blocks(page) {
            writeln!(script, "echo '==> {page}:{}' >&2", block.line).unwrap();
            match block.language.as_str() {
                "sh" => script.push_str(&block.text),
                "toml" => {
                    merge(&mut config, toml::from_str(&block.text).unwrap());
                    script.push_str(&save(&config));
                }
                _ => {}
            }
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
            .env("BACKUP_AUDIT_SYSLOG", "none")
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
        let mut diff = Command::new("diff");
        diff.arg("-r").arg(self.path("home/documents")).arg(restored.parent().unwrap());
        run(&mut diff).succeeded();
    }

    /// Stock restic finds no fault in the repository `name`.
    pub(super) fn assert_intact(&self, name: &str) {
        self.shell(&format!(
            "restic -r /mnt/backup/{name} --password-file /etc/backup/{name}.key --no-lock \
             --no-cache check --read-data"
        ));
    }
}

/// Commands that write the configuration.
pub(super) fn save(config: &Table) -> String {
    let text = toml::to_string(config).unwrap();
    format!("cat > ~/backup.toml <<'END_OF_TOML'\n{text}END_OF_TOML\n")
}

/// Adds the keys of `from`, table by table; other values, and tables of another kind, replace those
/// of `into`.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(table)), Value::Table(from))
                if !from.contains_key("kind") || table.get("kind") == from.get("kind") =>
            {
                merge(table, from);
            }
            (_, value) => _ = into.insert(key, value),
        }
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
