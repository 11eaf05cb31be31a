//! Five processes that write into one repository at the same time.

use std::fs;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::cli::Cli;
use crate::support::compare::assert_same;
use crate::support::noise::{noise, text};
use crate::support::repo::{Repo, restored};
use crate::support::restic::{Restic, text as path_text};
use crate::support::tree::write;

const WRITERS: u64 = 5;

/// Lets five processes back up one tree each; returns the repository's checked state to whoever
/// looks further.
async fn five_writers(look: impl Fn(&Cli, &std::path::Path)) {
    let (source, room) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let repository = room.path().join("repository");
    let cli = Cli::new(&repository, Repo::in_dir(&repository).await.passphrase.reveal());
    let tops: Vec<_> = (0..WRITERS).map(|at| source.path().join(format!("top {at}"))).collect();
    for (at, top) in (0..).zip(&tops) {
        write(top.join("shared"), noise(7, 3_000_000));
        write(top.join("own"), noise(at, 5_000_000));
        for file in 0..100 {
            write(top.join(format!("dir/{file}")), text(at * 1000 + file, 3000));
        }
    }
    let start = |top: &std::path::PathBuf| -> Child {
        let mut command = cli.command(&[], &["run", "--source", path_text(top)]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    for _ in 0..2 {
        let children: Vec<_> = tops.iter().map(start).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
    }
    cli.check();
    let listed: Value =
        serde_json::from_slice(&cli.run(&["list", "--json"]).succeeded().stdout).unwrap();
    let listed = listed["snapshots"].as_array().unwrap();
    assert_eq!(listed.len() as u64, 2 * WRITERS);
    let target = room.path().join("restored");
    for snapshot in listed {
        cli.run(&["restore", snapshot["id"].as_str().unwrap(), "--target", path_text(&target)])
            .succeeded();
        let top = std::path::Path::new(snapshot["paths"][0].as_str().unwrap());
        assert_same(top, &restored(&target, top));
        fs::remove_dir_all(&target).unwrap();
    }
    look(&cli, &repository);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_processes() {
    five_writers(|_, _| ()).await;
}

mod needs_restic_new {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn five_processes() {
        five_writers(|cli, repository| {
            Restic::new("restic-new", repository, cli.password()).check();
        })
        .await;
    }
}
