//! Backups of file systems that stop answering end with an error within the time-out.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::pipeline::{BackupOptions, restore};
use backup_core::source::RestoreRequest;
use backup_sources::files::{FilesOptions, FilesSource};
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::frozen::{Frozen, Last, NAME};
use crate::support::repo::Repo;
use crate::support::restic::text;

/// A repository, a directory with a file, and a configuration.
struct Place {
    room: TempDir,
    cli: Cli,
}

impl Place {
    async fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().join("repository");
        let repo = Repo::in_dir(&dir).await;
        let data = room.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a"), "content").unwrap();
        let config = format!(
            "[repositories.main]\nurl = {dir:?}\npassphrase_env = \"BACKUP_PASSWORD\"\n\
             [sources.docs]\nkind = \"files\"\npaths = [{data:?}]\ntimeout = \"15s\"\n\
             [jobs.docs]\nsource = \"docs\"\nrepository = \"main\"\n"
        );
        fs::write(room.path().join("backup.toml"), config).unwrap();
        let cli = Cli::remote("main", repo.passphrase.reveal(), std::collections::BTreeMap::new());
        Self { room, cli }
    }

    fn mount(&self, last: Last) -> Frozen {
        Frozen::mount(&self.room.path().join("data/mount"), last)
    }

    fn arguments<'a>(&self, config: &'a Path, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--config", text(config)][..], arguments].concat()
    }

    /// A backup names `path`, leaves no snapshot, and the next one succeeds.
    fn assert_given_up(&self, last: Last, path: &str) {
        let config = self.room.path().join("backup.toml");
        let frozen = self.mount(last);
        let begun = Instant::now();
        let done = self.cli.run(&self.arguments(&config, &["run", "docs"]));
        let seconds = begun.elapsed().as_secs();
        assert_eq!(done.code, 1, "{last:?}: {done}");
        let place = format!("the file system of {}/{path}", text(&self.room.path().join("data")));
        for expected in [
            format!("waiting for {place}: no answer for "),
            format!("{place} has not answered for 15 seconds"),
            "raise `timeout` of the source".to_owned(),
        ] {
            assert!(done.stderr.contains(&expected), "{last:?}: {expected}: {done}");
        }
        assert!((15..60).contains(&seconds), "{last:?}: {seconds} seconds: {done}");
        drop(frozen);
        let listed = self.cli.run(&self.arguments(&config, &["list", "--json"])).succeeded();
        assert!(!listed.text().contains("docs"), "{last:?}: {listed}");
        self.cli.run(&self.arguments(&config, &["run", "docs"])).succeeded();
    }
}

mod needs_fuse {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn mount_point_without_attributes_is_given_up() {
        Place::new().await.assert_given_up(Last::Init, "mount");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn directory_without_names_is_given_up() {
        Place::new().await.assert_given_up(Last::OpenDirectory, "mount");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn names_without_attributes_are_given_up() {
        Place::new().await.assert_given_up(Last::ReadDirectory, &format!("mount/{NAME}"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_that_cannot_be_read_are_given_up() {
        for last in [Last::Open, Last::Read] {
            Place::new().await.assert_given_up(last, &format!("mount/{NAME}"));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn restore_to_a_frozen_target_is_given_up() {
        let room = tempfile::tempdir().unwrap();
        let repo = Repo::in_dir(&room.path().join("repository")).await;
        let data = room.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a"), "content").unwrap();
        let options = FilesOptions { timeout: Duration::from_secs(3), ..FilesOptions::default() };
        let source = FilesSource::new(vec![data], options).unwrap();
        let id = repo.backup(&source, &BackupOptions::default()).await.snapshot.unwrap();
        let reader = repo.reader(id).await;
        for last in [Last::Init, Last::OpenDirectory] {
            let target = room.path().join(format!("{last:?}"));
            let _frozen = Frozen::mount(&target, last);
            let request = RestoreRequest {
                target: Some(text(&target).to_owned()),
                ..RestoreRequest::default()
            };
            let begun = Instant::now();
            let restored = restore(&reader, &source, &request, &Context::silent()).await;
            let error = restored.unwrap_err().chain();
            let expected =
                format!("the file system of {} has not answered for 3 seconds", text(&target));
            assert!(error.contains(&expected), "{last:?}: {error}");
            assert!((3..60).contains(&begun.elapsed().as_secs()), "{last:?}: {error}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn doctor_reports_a_frozen_path() {
        let place = Place::new().await;
        let config = place.room.path().join("backup.toml");
        let _frozen = place.mount(Last::Init);
        let path = place.room.path().join("data/mount");
        let source = format!("paths = [{:?}]", place.room.path().join("data"));
        let frozen =
            fs::read_to_string(&config).unwrap().replace(&source, &format!("paths = [{path:?}]"));
        fs::write(&config, frozen).unwrap();
        let begun = Instant::now();
        let done = place.cli.run(&place.arguments(&config, &["doctor", "docs"]));
        assert_eq!(done.code, 1, "{done}");
        let expected = format!("the file system of {} has not answered", text(&path));
        assert!(format!("{}{}", done.text(), done.stderr).contains(&expected), "{done}");
        assert!((15..60).contains(&begun.elapsed().as_secs()), "{done}");
    }
}
