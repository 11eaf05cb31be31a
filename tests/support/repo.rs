//! One repository and what tests do with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use backup_core::check::{CheckOptions, CheckReport, ReadData, check};
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::error::Result;
use backup_core::id::SnapshotId;
use backup_core::pipeline::{
    BackupOptions, BackupReport, VerifyLevel, VerifyReport, backup, restore, verify,
};
use backup_core::repository::{InitOptions, Repository, SnapshotInfo, SnapshotReader};
use backup_core::sink::Sink;
use backup_core::source::{RestoreReport, RestoreRequest, Source};
use backup_sources::files::{FilesOptions, FilesSource};
use backup_storage::LocalSink;
use jiff::tz::TimeZone;

use super::process::run;

/// The host that all snapshots of these tests are of: restic looks for a parent of the same host.
pub(crate) const HOST: &str = "testhost";

/// An opened repository and its pass phrase.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    pub(crate) repository: Repository,
    pub(crate) passphrase: Passphrase,
}

impl Repo {
    /// A new repository in `sink`.
    pub(crate) async fn init(sink: Arc<dyn Sink>) -> Self {
        let passphrase = Passphrase::generate();
        let made =
            Repository::init(sink, &passphrase, &InitOptions::default(), &Context::silent()).await;
        Self { repository: made.unwrap(), passphrase }
    }

    /// A new repository in a directory.
    pub(crate) async fn in_dir(dir: &Path) -> Self {
        Self::init(local(dir)).await
    }

    /// The repository in a sink that has one.
    pub(crate) async fn open(sink: Arc<dyn Sink>, passphrase: &str) -> Result<Self> {
        let passphrase = Passphrase::new(passphrase);
        let repository = Repository::open(sink, &passphrase).await?;
        Ok(Self { repository, passphrase })
    }

    /// Backs up, with success.
    pub(crate) async fn backup(
        &self,
        source: &dyn Source,
        options: &BackupOptions,
    ) -> BackupReport {
        self.try_backup(source, options).await.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    pub(crate) async fn try_backup(
        &self,
        source: &dyn Source,
        options: &BackupOptions,
    ) -> Result<BackupReport> {
        backup(&self.repository, source, options, &Context::silent()).await
    }

    /// All readable snapshots, oldest first.
    pub(crate) async fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.repository.snapshots(&Context::silent()).await.unwrap().snapshots
    }

    /// A reader for a snapshot that is listed.
    pub(crate) async fn reader(&self, id: SnapshotId) -> SnapshotReader {
        self.try_reader(id).await.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    pub(crate) async fn try_reader(&self, id: SnapshotId) -> Result<SnapshotReader> {
        let cx = Context::silent();
        let list = self.repository.snapshots(&cx).await?;
        let info = list.resolve(&id.to_hex())?;
        Ok(self.repository.load_index(&cx).await?.snapshot(info))
    }

    /// Restores a snapshot of files, with success and without a warning.
    pub(crate) async fn restore(&self, id: SnapshotId, target: &Path) -> RestoreReport {
        let report = self.restore_with(id, &RestoreRequest::default(), target).await;
        let report = report.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(report.warnings, 0, "{report:?}");
        report
    }

    pub(crate) async fn restore_with(
        &self,
        id: SnapshotId,
        request: &RestoreRequest,
        target: &Path,
    ) -> Result<RestoreReport> {
        let request = RestoreRequest {
            target: Some(
                target.to_str().expect("temporary directories have plain names").to_owned(),
            ),
            verify: true,
            ..request.clone()
        };
        let any = files(&[target]);
        restore(&self.try_reader(id).await?, &any, &request, &Context::silent()).await
    }

    pub(crate) async fn verify(&self, id: SnapshotId) -> VerifyReport {
        verify(&self.reader(id).await, VerifyLevel::Deep, &Context::silent()).await.unwrap()
    }

    pub(crate) async fn check(&self, read_data: ReadData) -> Result<CheckReport> {
        check(
            &self.repository,
            &CheckOptions { read_data, ..CheckOptions::default() },
            &Context::silent(),
        )
        .await
    }

    /// Fails unless a check that reads everything finds nothing.
    #[track_caller]
    pub(crate) fn assert_sound(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let report = self.check(ReadData::All).await.unwrap();
            assert!(report.problems.is_empty(), "{caller}: {:#?}", report.problems);
        }
    }
}

/// A sink in a directory.
pub(crate) fn local(dir: &Path) -> Arc<dyn Sink> {
    Arc::new(LocalSink::create(dir).unwrap())
}

/// A source of files on [`HOST`].
pub(crate) fn files(paths: &[&Path]) -> FilesSource {
    let options = FilesOptions { host: HOST.to_owned(), ..FilesOptions::default() };
    FilesSource::new(paths.iter().map(|path| path.to_path_buf()).collect(), options).unwrap()
}

/// Options that suit this machine: restic writes times with the local offset.
#[expect(clippy::disallowed_methods, reason = "independent of the code under test")]
pub(crate) fn options() -> BackupOptions {
    BackupOptions {
        time_zone: TimeZone::system(),
        username: "tester".to_owned(),
        ..BackupOptions::default()
    }
}

/// Where `path` is restored to below `target`.
pub(crate) fn restored(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").expect("an absolute path"))
}

/// An exact copy of a directory, for later comparison.
pub(crate) fn keep(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "--"]).arg(from).arg(to)).succeeded();
}
