//! A backup or a restore that is killed at any moment: the repository stays sound, and running it
//! again completes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::compare::assert_same;
use crate::support::killing::kill;
use crate::support::long::long;
use crate::support::noise::{noise, rng, text};
use crate::support::repo::{Repo, files, keep, options, restored};
use crate::support::restic::text as path_text;
use crate::support::tree::{everything, write};

/// A repository with a snapshot of a tree that has grown since.
struct Place {
    source: TempDir,
    room: TempDir,
    password: String,
}

impl Place {
    async fn new() -> Self {
        let (source, room) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let top = source.path().join("top");
        everything(&top);
        let repo = Repo::in_dir(&room.path().join("base")).await;
        repo.backup(&files(&[&top]), &options()).await;
        for at in 0..300 {
            write(
                top.join(format!("grown/{}/{at}", at % 7)),
                text(at, 1000 * at as usize % 90_000),
            );
        }
        for at in 0..6 {
            write(top.join(format!("grown/large {at}")), noise(1000 + at, 6_000_000));
        }
        Self { source, room, password: repo.passphrase.reveal().to_owned() }
    }

    fn top(&self) -> PathBuf {
        self.source.path().join("top")
    }

    /// A copy of the repository.
    fn copy(&self, name: &str) -> (PathBuf, Cli) {
        let copy = self.room.path().join(name);
        fs::remove_dir_all(&copy).ok();
        keep(&self.room.path().join("base"), &copy);
        let cli = Cli::new(&copy, &self.password);
        (copy, cli)
    }
}

fn spawn(cli: &Cli, arguments: &[&str]) -> Child {
    let mut command = cli.command(&[], arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// How long it takes when nobody kills it.
fn time_of(cli: &Cli, arguments: &[&str]) -> Duration {
    let started = Instant::now();
    assert!(spawn(cli, arguments).wait().unwrap().success());
    started.elapsed()
}

/// Starts a command and kills it within the time `whole`, as [`kill`] reports.
fn kill_at_random(cli: &Cli, arguments: &[&str], whole: &mut Duration, seed: u64) -> bool {
    let after = whole.mul_f64(rng(seed).random_range(0.0..1.05));
    kill(spawn(cli, arguments), after, whole)
}

/// How many times to kill.
fn seeds(few: u64) -> std::ops::Range<u64> {
    0..if long() { 50 } else { few }
}

/// Kills backups; `check` looks at the repository after each.
async fn kill_backups(few: u64, check: impl Fn(&Path, &Cli)) {
    let place = Place::new().await;
    let top = place.top();
    let arguments = ["run", "--source", path_text(&top)];
    let mut whole = time_of(&place.copy("unharmed").1, &arguments);
    let mut killed = 0;
    for seed in seeds(few) {
        let (repository, cli) = place.copy("repository");
        killed += u64::from(kill_at_random(&cli, &arguments, &mut whole, seed));
        check(&repository, &cli);
        cli.summary(&arguments);
        let target = place.room.path().join("restored");
        fs::remove_dir_all(&target).ok();
        cli.run(&["restore", "latest", "--target", path_text(&target)]).succeeded();
        assert_same(&top, &restored(&target, &top));
        check(&repository, &cli);
    }
    assert!(killed * 4 >= seeds(few).end, "only {killed} runs were killed before their end");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_backups() {
    kill_backups(4, |_, cli| cli.check()).await;
}

mod needs_restic_new {
    use super::*;
    use crate::support::restic::Restic;

    #[tokio::test(flavor = "multi_thread")]
    async fn killed_backups() {
        kill_backups(2, |repository, cli| {
            let password = cli.password();
            Restic::new("restic-new", repository, password).check();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_restores() {
    let place = Place::new().await;
    let (top, (_, cli)) = (place.top(), place.copy("repository"));
    cli.summary(&["run", "--source", path_text(&top)]);
    let target = place.room.path().join("restored");
    let arguments =
        ["restore", "latest", "--if-exists", "merge", "--yes", "--target", path_text(&target)];
    let mut whole = time_of(&cli, &arguments);
    let mut killed = 0;
    for seed in seeds(4) {
        fs::remove_dir_all(&target).ok();
        killed += u64::from(kill_at_random(&cli, &arguments, &mut whole, seed));
        cli.summary(&arguments);
        assert_same(&top, &restored(&target, &top));
    }
    assert!(killed * 4 >= seeds(4).end, "only {killed} restores were killed before their end");
    cli.check();
}

/// The first index object is written when a pack is complete five seconds after the start: a pause
/// makes that early.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_backup_has_stored_is_used_again() {
    let (source, room) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for at in 0..40 {
        write(source.path().join(format!("large {at}")), noise(at, 8_000_000));
    }
    let repository = room.path().join("repository");
    let cli = Cli::new(&repository, Repo::in_dir(&repository).await.passphrase.reveal());
    let arguments = ["run", "--source", path_text(source.path())];
    let mut child = spawn(&cli, &arguments);
    let pid = Pid::from_child(&child);
    // Of 8 MiB: three are what must not be lost.
    wait_for(&repository.join("data"), 3, &mut child);
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(5200));
    kill_process(pid, Signal::CONT).unwrap();
    wait_for(&repository.join("index"), 1, &mut child);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was faster than this test");

    cli.check();
    let summary = cli.summary(&arguments);
    let (total, packed) = (40 * 8_000_000, summary["stored"]["packed_bytes"].as_u64().unwrap());
    assert_eq!(summary["totals"]["bytes"], total);
    assert!(packed < total - 20_000_000, "{packed} of {total} bytes were stored again");
    cli.summary(&["verify", "latest"]);
}

/// Waits until so many entries are in a directory.
fn wait_for(dir: &Path, entries: usize, child: &mut Child) {
    while fs::read_dir(dir).map_or(0, Iterator::count) < entries {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before enough was in {}",
            dir.display()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
