//! What is measured.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Result;
use crate::measure::{Cost, cost};
use crate::server::{Server, hand_over};
use crate::{ours, stock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `pg_dump -Fc`.
    Dump,
    /// Into an encrypted repository, without digests of rows.
    Logical,
    /// And with them.
    LogicalDigests,
    /// `pg_basebackup`.
    Base,
    /// pgBackRest without encryption.
    StockPlain,
    /// And with it.
    StockEncrypted,
    /// A data directory into an encrypted repository.
    Physical,
    /// pgBackRest, from its encrypted repository.
    StockRestore,
    /// From ours.
    PhysicalRestore,
}

/// In their order: what is restored was backed up before.
pub(crate) const STEPS: [Step; 9] = [
    Step::Dump,
    Step::Logical,
    Step::LogicalDigests,
    Step::Base,
    Step::StockPlain,
    Step::StockEncrypted,
    Step::Physical,
    Step::StockRestore,
    Step::PhysicalRestore,
];

impl Step {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Dump => "pg_dump -Fc",
            Self::Logical => "logical backup, encrypted",
            Self::LogicalDigests => "the same, with digests of rows",
            Self::Base => "pg_basebackup, zstd",
            Self::StockPlain => "pgBackRest, zstd",
            Self::StockEncrypted => "pgBackRest, zstd, encrypted",
            Self::Physical => "physical backup, encrypted",
            Self::StockRestore => "pgBackRest: restore, encrypted",
            Self::PhysicalRestore => "physical restore, encrypted",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Logical | Self::LogicalDigests | Self::Physical | Self::PhysicalRestore
        )
    }
}

/// The server, and a directory for everything that is written.
pub(crate) struct Bench {
    pub(crate) server: Server,
    room: TempDir,
}

impl Bench {
    pub(crate) fn new(server: Server) -> Result<Self> {
        let room = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
        hand_over(room.path())?;
        Ok(Self { server, room })
    }

    /// A path at which there is nothing.
    pub(crate) fn new_path(&self, name: &str) -> Result<PathBuf> {
        let path = self.room.path().join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else if path.exists() {
            std::fs::remove_file(&path)?;
        }
        Ok(path)
    }

    /// Runs a step once.
    pub(crate) fn measure(&self, step: Step) -> Result<Cost> {
        // What the step before left in memory is written before the clock starts.
        rustix::fs::sync();
        let (server, at) = (&self.server, |name: &str| self.room.path().join(name));
        let command = match step {
            Step::Dump => stock::dump(server, &self.new_path("dump")?)?,
            Step::Base => stock::base_backup(server, &self.new_path("base")?)?,
            Step::Logical => ours::command("logical", server, &self.new_path("logical")?)?,
            Step::LogicalDigests => ours::command("digests", server, &self.new_path("logical")?)?,
            Step::Physical => ours::command("physical", server, &self.new_path("ours")?)?,
            Step::PhysicalRestore => {
                self.new_path("ours.restored")?;
                ours::command("restore", server, &at("ours"))?
            }
            Step::StockPlain => self.backrest("plain", false)?,
            Step::StockEncrypted => self.backrest("sealed", true)?,
            Step::StockRestore => {
                let target = self.new_path("sealed.restored")?;
                std::fs::create_dir(&target)?;
                hand_over(&target)?;
                stock::pgbackrest(server, &at("sealed"), true, "restore")?
            }
        };
        cost(&command, server, self.room.path())
    }

    /// What a command takes.
    pub(crate) fn cost(&self, command: &std::process::Command) -> Result<Cost> {
        rustix::fs::sync();
        cost(command, &self.server, self.room.path())
    }

    /// Its repository is new each time; making that is not measured.
    fn backrest(&self, name: &str, encrypts: bool) -> Result<std::process::Command> {
        self.stanza(&self.new_path(name)?, encrypts)?;
        stock::pgbackrest(&self.server, &self.room.path().join(name), encrypts, "backup")
    }

    /// A new repository of pgBackRest.
    pub(crate) fn stanza(&self, repository: &Path, encrypts: bool) -> Result<()> {
        let made =
            stock::pgbackrest(&self.server, repository, encrypts, "stanza-create")?.output()?;
        if !made.status.success() {
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&made.stdout),
                String::from_utf8_lossy(&made.stderr)
            );
            return Err(format!("pgbackrest stanza-create: {said}").into());
        }
        Ok(())
    }
}
