//! The commands of each tool.

use std::path::{Path, PathBuf};

use backup_benches::{Result, tools};

use crate::child;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Init,
    First,
    /// Opening the repository, and nothing more.
    Open,
    Unchanged,
    Reread,
    Restore,
    Check,
}

impl Step {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::First => "first backup",
            Self::Open => "open (key derivation)",
            Self::Unchanged => "unchanged",
            Self::Reread => "forced re-read",
            Self::Restore => "restore",
            Self::Check => "check, all data",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Backup,
    /// `backup` with a pass phrase of a person, which is stretched.
    Stretched,
    Restic,
    Rustic,
    Borg,
    Tar,
    Floor,
}

impl Kind {
    /// Whether nothing has to be reached beside it.
    pub(crate) fn is_extra(self) -> bool {
        matches!(self, Self::Rustic | Self::Borg)
    }
}

/// A tool.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    /// With its version.
    pub(crate) name: String,
    program: PathBuf,
}

/// What a tool works on.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) source: PathBuf,
    /// The repository as the tool calls it.
    pub(crate) repo: String,
    pub(crate) target: PathBuf,
    /// For everything else that is written.
    pub(crate) room: PathBuf,
}

/// `backup` (built here, optimised), and those of the others that `scripts/tools` has installed.
pub(crate) fn available(wanted: &[Kind]) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for kind in wanted {
        let (name, program, ask) = match kind {
            Kind::Backup => {
                peers.push(Peer {
                    kind: *kind,
                    name: "backup".to_owned(),
                    program: tools::backup()?,
                });
                continue;
            }
            Kind::Stretched => {
                peers.push(Peer {
                    kind: *kind,
                    name: "backup, pass phrase".to_owned(),
                    program: tools::backup()?,
                });
                continue;
            }
            Kind::Tar => {
                peers.push(Peer {
                    kind: *kind,
                    name: "tar, zstd -3".to_owned(),
                    program: tools::tool("zstd")?,
                });
                continue;
            }
            Kind::Floor => {
                peers.push(Peer {
                    kind: *kind,
                    name: "primitives".to_owned(),
                    program: std::env::current_exe()?,
                });
                continue;
            }
            Kind::Restic => ("restic", tools::tool_if_there("restic-new"), "version"),
            Kind::Rustic => ("rustic", tools::tool_if_there("rustic"), "--version"),
            Kind::Borg => ("borg", tools::tool_if_there("borg"), "--version"),
        };
        if let Some(program) = program {
            let name = format!("{name} {}", tools::version(&program, ask)?);
            peers.push(Peer { kind: *kind, name, program });
        }
    }
    Ok(peers)
}

/// Pass phrases, and where each keeps what it remembers.
pub(crate) fn variables(room: &Path) -> Vec<(String, String)> {
    let mut variables = phrases("bench");
    variables.push(("BORG_BASE_DIR".to_owned(), room.display().to_string()));
    variables.push(("XDG_CACHE_HOME".to_owned(), room.join("cache").display().to_string()));
    variables
}

/// The same pass phrase for all of them.
pub(crate) fn phrases(phrase: &str) -> Vec<(String, String)> {
    let names = ["RESTIC_PASSWORD", "BACKUP_PASSWORD", "RUSTIC_PASSWORD", "BORG_PASSPHRASE"];
    names.iter().map(|name| ((*name).to_owned(), phrase.to_owned())).collect()
}

impl Peer {
    /// A shell command of `backup`. As in the README, a generated key needs no stretching, unlike a
    /// pass phrase; other tools stretch any.
    fn ours(&self, step: Step, place: &Place) -> String {
        let (program, source, repo, target) =
            (self.program.display(), place.source.display(), &place.repo, place.target.display());
        let (init, key) = match self.kind {
            Kind::Stretched => ("init", ""),
            _ => ("init --generate-key --key-file \"$HOME/key\"", " --password-file \"$HOME/key\""),
        };
        let with = |words: &str| format!("{program} {words} --repo '{repo}' --quiet");
        let backup = |words: &str| with(&format!("{words}{key}"));
        match step {
            Step::Init => with(init),
            Step::First | Step::Unchanged => backup(&format!("run --source {source}")),
            Step::Open => backup("key list"),
            Step::Reread => backup(&format!("run --source {source} --type full")),
            Step::Restore => backup(&format!("restore latest --target {target}")),
            Step::Check => backup("check --read-data"),
        }
    }

    /// A shell command, if the tool has such a step.
    pub(crate) fn script(&self, step: Step, place: &Place) -> Option<String> {
        let (program, source, repo, target) =
            (self.program.display(), place.source.display(), &place.repo, place.target.display());
        match self.kind {
            Kind::Backup | Kind::Stretched => Some(self.ours(step, place)),
            Kind::Restic => {
                let restic = |words: &str| format!("{program} --quiet --repo '{repo}' {words}");
                Some(match step {
                    Step::Init => restic("init"),
                    Step::First | Step::Unchanged => restic(&format!("backup {source}")),
                    Step::Open => restic("cat config"),
                    Step::Reread => restic(&format!("backup --force {source}")),
                    Step::Restore => restic(&format!("restore latest --target {target}")),
                    Step::Check => restic("check --read-data"),
                })
            }
            Kind::Rustic => {
                let rustic = |words: &str| {
                    format!("{program} --log-level error --no-progress -r '{repo}' {words}")
                };
                Some(match step {
                    Step::Init => rustic("init"),
                    Step::First | Step::Unchanged => rustic(&format!("backup {source}")),
                    Step::Open => rustic("cat config"),
                    Step::Reread => rustic(&format!("backup --force {source}")),
                    Step::Restore => rustic(&format!("restore latest {target}")),
                    Step::Check => rustic("check --read-data"),
                })
            }
            // Its own default is lz4; all others compress with zstd.
            Kind::Borg => Some(match step {
                Step::Init => format!("{program} init -e repokey-blake2 {repo}"),
                Step::First => format!("{program} create -C zstd,3 {repo}::first {source}"),
                Step::Unchanged => format!("{program} create -C zstd,3 {repo}::unchanged {source}"),
                Step::Open => format!("{program} list {repo}"),
                Step::Reread => format!(
                    "{program} create -C zstd,3 --files-cache disabled {repo}::reread {source}"
                ),
                Step::Restore => {
                    format!("mkdir {target} && cd {target} && {program} extract {repo}::first")
                }
                Step::Check => format!("{program} check --verify-data {repo}"),
            }),
            Kind::Tar => match step {
                Step::First => {
                    Some(format!("tar -cf - -C {source} . | {program} -q -3 -T2 -o {repo}"))
                }
                Step::Restore => Some(format!(
                    "mkdir {target} && {program} -q -dc {repo} | tar -xf - -C {target}"
                )),
                _ => None,
            },
            Kind::Floor => floor(&self.program, step, place),
        }
    }
}

/// The primitives of a step.
fn floor(program: &Path, step: Step, place: &Place) -> Option<String> {
    let (source, stored, target) = (place.source.display(), &place.repo, place.target.display());
    let words = match step {
        Step::First => format!("first {source} {stored}"),
        Step::Reread => format!("reread {source}"),
        Step::Restore => format!("restore {stored} {target}"),
        Step::Check => format!("check {stored}"),
        Step::Init | Step::Open | Step::Unchanged => return None,
    };
    Some(format!("{} {} floor {words}", program.display(), child::WORD))
}
