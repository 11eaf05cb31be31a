//! The commands of each tool.

use std::path::{Path, PathBuf};
use std::process::Command;

use backup_benches::Result;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Init,
    First,
    Unchanged,
    Reread,
    Restore,
    Check,
}

/// All steps in order; each builds on the ones before.
pub(crate) const STEPS: [Step; 6] =
    [Step::Init, Step::First, Step::Unchanged, Step::Reread, Step::Restore, Step::Check];

impl Step {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::First => "first backup",
            Self::Unchanged => "unchanged",
            Self::Reread => "forced re-read",
            Self::Restore => "restore",
            Self::Check => "check, all data",
        }
    }
}

/// From step, source and scratch directory to a shell command, if the tool has that step.
type CommandOf = Box<dyn Fn(Step, &Path, &Path) -> Option<String>>;

/// A tool.
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) command: CommandOf,
}

/// `backup` (built here, optimised), the newest restic that `scripts/tools` installed, and tar with zstd.
pub(crate) fn available(workspace: &Path) -> Result<Vec<Tool>> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "backup-cli", "--bin", "backup"])
        .current_dir(workspace)
        .status()?;
    if !status.success() {
        return Err("building backup failed".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let mut tools = vec![backup(&target.join("release/backup"))];
    let restic = workspace.join(".tools/bin/restic-new");
    if restic.exists() {
        tools.push(self::restic(&restic)?);
    }
    tools.push(tar());
    Ok(tools)
}

fn backup(program: &Path) -> Tool {
    let program = program.display().to_string();
    let command = move |step, source: &Path, place: &Path| {
        let (source, repo, target) = (source.display(), place.join("repo"), place.join("restored"));
        let (repo, target) = (repo.display(), target.display());
        Some(match step {
            Step::Init => format!("{program} init --repo {repo} --quiet"),
            Step::First | Step::Unchanged => format!("{program} run --repo {repo} --source {source} --quiet"),
            Step::Reread => format!("{program} run --repo {repo} --source {source} --type full --quiet"),
            Step::Restore => format!("{program} restore latest --repo {repo} --target {target} --quiet"),
            Step::Check => format!("rm -rf {target}; {program} check --repo {repo} --read-data --quiet"),
        })
    };
    Tool { name: "backup".to_owned(), command: Box::new(command) }
}

fn restic(program: &Path) -> Result<Tool> {
    let version = Command::new(program).arg("version").output()?;
    let version = String::from_utf8_lossy(&version.stdout).split_whitespace().nth(1).unwrap_or("?").to_owned();
    let program = program.display().to_string();
    let command = move |step, source: &Path, place: &Path| {
        let (source, repo, target) = (source.display(), place.join("repo"), place.join("restored"));
        let (repo, target) = (repo.display(), target.display());
        let restic = format!("{program} --quiet --repo {repo}");
        Some(match step {
            Step::Init => format!("{restic} init"),
            Step::First | Step::Unchanged => format!("{restic} backup {source}"),
            Step::Reread => format!("{restic} backup --force {source}"),
            Step::Restore => format!("{restic} restore latest --target {target}"),
            Step::Check => format!("rm -rf {target}; {restic} check --read-data"),
        })
    };
    Ok(Tool { name: format!("restic {version}"), command: Box::new(command) })
}

fn tar() -> Tool {
    let command = |step, source: &Path, place: &Path| {
        let archive = place.join("repo");
        let (archive, place) = (archive.display(), place.display());
        match step {
            Step::First => Some(format!("tar -cf - -C {} . | zstd -q -3 -T2 -o {archive}", source.display())),
            Step::Restore => Some(format!(
                "mkdir {place}/restored && zstd -q -dc {archive} | tar -xf - -C {place}/restored; rm -rf {place}/restored"
            )),
            _ => None,
        }
    };
    Tool { name: "tar | zstd -3".to_owned(), command: Box::new(command) }
}
