use std::path::Path;
use std::time::Duration;

use backup_core::crypto::Passphrase;
use backup_core::log::{Acknowledge, capture};
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{InitOptions, Repository};
use backup_core::source::Source;
use backup_core::testing::{MemorySink, ScriptedLog};
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::jobs::{JobFlags, Place};
use crate::machine::Machine;
use crate::repositories::RepositorySpec;

const CONFIG: &str = r#"
    [repositories.main]
    url = "/repo"
    [sources.shop]
    kind = "mongodb"
    url = "mongodb://host/"
    [jobs.shop]
    source = "shop"
    repository = "main"
"#;

fn job(logs: &str, env: &Environment) -> Result<Job> {
    let text = format!("{CONFIG}[jobs.shop.logs]\n{logs}");
    let config = crate::config::parse(&text, Path::new("/etc/backup.toml"), env)?;
    let machine = Machine { host: "h".into(), user: "u".into(), zone: crate::zone::Zone::UTC };
    Job::from_config("shop", &config, None, &JobFlags::default(), Place { machine: &machine, env })
}

#[cfg(feature = "mongodb")]
#[test]
fn every_setting_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let logs = format!(
        "flush_size = \"2MiB\"\nflush_after = \"500ms\"\nacknowledge = \"spooled\"\nspool = \
         {:?}\nspool_size = \"1GiB\"\nroll_up_every = \"10min\"\nkeep_slices = \"2h\"\nidle_record = \"20s\"",
        dir.path().join("spool")
    );
    let env = Environment::default();
    let options = follow_options(&job(&logs, &env).unwrap(), "1234", "me@here", &env).unwrap();
    let capture = &options.capture;
    assert_eq!((capture.flush_bytes, capture.flush_after), (2 << 20, Duration::from_millis(500)));
    assert_eq!((capture.acknowledge, capture.holder.as_str()), (Acknowledge::Spooled, "me@here"));
    let spool = capture.spool.clone().unwrap();
    assert_eq!((spool.dir.clone(), spool.max_bytes), (dir.path().join("spool/1234"), 1 << 30));
    assert_eq!(std::fs::metadata(&spool.dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(
        (options.roll_up_every, options.roll_up.grace),
        (Duration::from_secs(600), Duration::from_secs(7200))
    );
    assert_eq!(options.roll_up.holder, "me@here");
    assert_eq!(capture.lease_period, Duration::from_secs(60));
}

#[cfg(feature = "mongodb")]
#[test]
fn a_spool_is_somewhere_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state").to_str().unwrap().to_owned();
    let env: Environment = [("BACKUP_STATE_DIR", state.as_str())].into_iter().collect();
    let default = follow_options(&job("", &env).unwrap(), "1234", "", &env).unwrap();
    assert_eq!(default.capture.spool, None);
    assert_eq!(default.capture.flush_bytes, FollowOptions::default().capture.flush_bytes);
    assert_eq!(default.capture.lease_period, Duration::from_secs(30), "in a directory");
    let mut remote = job("", &env).unwrap();
    remote.repository = RepositorySpec::resolve("s3://bucket/backups", None).unwrap();
    let options = follow_options(&remote, "1234", "", &env).unwrap();
    assert_eq!(options.capture.lease_period, Duration::from_secs(90), "in an object store");
    let spooled = job("acknowledge = \"spooled\"", &env).unwrap();
    std::fs::create_dir_all(Path::new(&state).join("spool/1234")).unwrap();
    let options = follow_options(&spooled, "1234", "", &env).unwrap();
    let spool = options.capture.spool.unwrap();
    assert_eq!(spool.dir, Path::new(&state).join("spool/1234"));
    assert_eq!(
        std::fs::metadata(&spool.dir).unwrap().permissions().mode() & 0o777,
        0o700,
        "also if it was there"
    );
    let nowhere = Environment::default();
    assert!(
        follow_options(&spooled, "1234", "", &nowhere).is_err_and(|error| error.hint().is_some())
    );
    std::fs::write(dir.path().join("file"), "").unwrap();
    let blocked = job(&format!("spool = {:?}", dir.path().join("file")), &env).unwrap();
    assert!(follow_options(&blocked, "1234", "", &env).is_err_and(|error| error.hint().is_some()));
}

#[test]
fn settings_that_cannot_be_meant() {
    for (line, logs) in [
        (11, "flush_size = \"1KiB\""),
        (11, "flush_size = \"1GiB\""),
        (11, "flush_after = \"1ms\""),
        (11, "idle_record = \"1s\""),
        (11, "idle_record = \"1h\""),
        (11, "acknowledge = \"never\""),
        (12, "flush_after = \"2s\"\nspool_size = \"1GiB\""),
        (12, "spool = \"/s\"\nspool_size = \"1MiB\""),
        (11, "spool = \"\""),
        (11, "roll_up_every = \"1s\""),
        (11, "keep = \"1h\""),
    ] {
        let error = job(logs, &Environment::default()).unwrap_err();
        let Error::Config(error) = error else { panic!("{logs}: {error}") };
        assert_eq!(error.line, Some(line), "{logs}: {error}");
    }
    let text = CONFIG
        .replace("kind = \"mongodb\"", "kind = \"files\"")
        .replace("url = \"mongodb://host/\"", "paths = [\"/x\"]");
    let text = format!("{text}[jobs.shop.logs]\n");
    let error = crate::config::parse(&text, Path::new("/backup.toml"), &Environment::default())
        .unwrap_err();
    assert!(error.message.contains("no log") && error.hint.is_some(), "{error}");
}

static ZONE: TimeZone = TimeZone::UTC;

fn now() -> Now<'static> {
    Now { time: "2026-03-03T13:00:00Z".parse().unwrap(), zone: &ZONE }
}

#[test]
fn moments_of_a_log() {
    let parsed = |text: &str, source| target(text, Some(source), Some("b"), &now());
    let position = |branch: &str, offset| Target::Position(Position::new(branch, offset));
    assert_eq!(parsed("latest", "x").unwrap(), Target::Latest);
    assert_eq!(parsed("a@b@7", "x").unwrap(), position("a@b", 7));
    assert_eq!(parsed("@7", "x").unwrap(), position("", 7));
    assert_eq!(
        parsed("1640995200:1", "mongodb").unwrap(),
        position("b", (1_640_995_200 << 32) | 1)
    );
    assert_eq!(parsed("1/A0", "postgres").unwrap(), position("b", (1 << 32) | 0xa0));
    assert_eq!(parsed("2@0/3000028", "postgres").unwrap(), position("2", 0x300_0028));
    assert!(parsed("1/A0", "mongodb").is_err() && parsed("1/", "postgres").is_err());
    assert_eq!(parsed("4711", "redis").unwrap(), position("b", 4711));
    assert!(parsed("4711", "mongodb").is_err() && parsed("-1", "redis").is_err());
    assert_eq!(
        parsed("2h ago", "x").unwrap(),
        Target::Time("2026-03-03T11:00:00Z".parse().unwrap())
    );
    let end = "2026-03-02T23:59:59.999999999Z".parse().unwrap();
    assert_eq!(parsed("yesterday", "x").unwrap(), Target::Time(end));
    for source in ["mongodb", "postgres", "redis"] {
        let error = parsed("23:11", source).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("`today 23:11`")), "{error:?}");
    }
    for bad in ["soon", "1640995200:1", "a@b"] {
        assert!(parsed(bad, "x").is_err_and(|error| error.hint().is_some()), "{bad}");
    }
}

/// A repository with a backup and the log of two more events.
async fn logged() -> (Repository, ScriptedLog, Context) {
    let cx = Context::silent();
    let sink = Arc::new(MemorySink::new());
    let repository = Repository::init(sink, &Passphrase::generate(), &InitOptions::default(), &cx)
        .await
        .unwrap();
    let source = ScriptedLog::new();
    source.push("2026-03-01T12:00:00Z".parse().unwrap(), "one");
    back_up(&repository, &source, "shop", &cx).await;
    // Later than the backup, which is made now.
    source.push("2050-03-01T13:00:00Z".parse().unwrap(), "two");
    source.push("2050-03-01T14:00:00Z".parse().unwrap(), "three");
    let cancel = CancellationToken::new();
    let capturing = Context { cancel: cancel.clone(), ..cx.clone() };
    let options =
        CaptureOptions { flush_after: Duration::from_millis(20), ..CaptureOptions::default() };
    let (end, watched) = (source.end(), source.clone());
    let stop = async {
        while watched.acknowledged().as_ref() != Some(&end) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (captured, ()) = tokio::join!(capture(&repository, &source, &options, &capturing), stop);
    captured.unwrap();
    (repository, source, cx)
}

async fn back_up(repository: &Repository, source: &dyn Source, job: &str, cx: &Context) {
    let options = BackupOptions { job: job.to_owned(), ..BackupOptions::default() };
    backup(repository, source, &options, cx).await.unwrap();
}

#[tokio::test]
async fn a_moment_is_planned_or_refused() {
    let (repository, source, cx) = logged().await;
    let snapshots = repository.snapshots(&cx).await.unwrap().snapshots;
    let named = newest_of_job(&snapshots, "shop").unwrap();
    assert!(newest_of_job(&snapshots, "other").is_none());
    let indexed = repository.load_index(&cx).await.unwrap();
    assert_eq!(stream_of(&indexed, named).await.unwrap(), Stream::of(&source.identity()));
    let stop = async |at: &str| match plan(&indexed, named, at, &now(), &cx).await.unwrap() {
        Answer::Planned { base, replay } => {
            assert_eq!(base.id, named.id);
            Ok(replay.plan().stop.offset)
        }
        Answer::Refused(refusal) => {
            Err((refusal.before.map(|at| at.0.offset), refusal.after.map(|at| at.0.offset)))
        }
    };
    assert_eq!(stop("latest").await, Ok(3));
    assert_eq!(stop("2050-03-01 13:30").await, Ok(2));
    assert_eq!(stop("@1").await, Ok(1));
    assert_eq!(stop("@9").await, Err((Some(3), None)));

    // A later snapshot of the same source, but of another job, may hold something else.
    back_up(&repository, &source, "part", &cx).await;
    let indexed = repository.load_index(&cx).await.unwrap();
    let snapshots = repository.snapshots(&cx).await.unwrap().snapshots;
    for job in ["shop", "part"] {
        let newest = newest_of_job(&snapshots, job).unwrap();
        match plan(&indexed, newest, "latest", &now(), &cx).await.unwrap() {
            Answer::Planned { base, .. } => assert_eq!(base.id, newest.id, "{job}"),
            Answer::Refused(refusal) => panic!("{refusal:?}"),
        }
    }
}

/// A backup or a roll-up may end between loading the index and planning.
#[tokio::test]
async fn plan_has_an_index_with_newer_snapshots() {
    let (repository, source, cx) = logged().await;
    let indexed = repository.load_index(&cx).await.unwrap();
    let snapshots = repository.snapshots(&cx).await.unwrap().snapshots;
    let named = newest_of_job(&snapshots, "shop").unwrap();
    back_up(&repository, &source, "shop", &cx).await;
    let answer = plan(&indexed, named, "latest", &now(), &cx).await.unwrap();
    let Answer::Planned { base, replay } = answer else { panic!("{answer:?}") };
    assert_ne!(base.id, named.id);
    let root = &base.snapshot.tree;
    assert!(indexed.snapshot(&base).tree(root).await.is_err());
    replay.indexed().snapshot(&base).tree(root).await.unwrap();
}

#[test]
fn branch_prefix_stands_for_a_unique_branch() {
    let branches = ["a166680e1fb3c23a", "a166680e99999999", "b777777700000000"].map(str::to_owned);
    let named =
        |text: &str| match full_name(Target::Position(text.parse().unwrap()), &branches, None) {
            Target::Position(at) => at.to_string(),
            other => panic!("{other:?}"),
        };
    assert_eq!(named("b7777777@5"), "b777777700000000@5");
    assert_eq!(named("b777@5"), "b777@5", "too short");
    assert_eq!(named("a166680e@5"), "a166680e@5", "two branches begin with it");
    assert_eq!(named("a166680e1fb3c23a@5"), "a166680e1fb3c23a@5");
    assert_eq!(named("@5"), "@5", "sources without branches");
    let current = |branches: &[String]| {
        full_name(Target::Position(Position::new("", 5)), branches, Some("b777777700000000"))
    };
    let at = |branch: &str| Target::Position(Position::new(branch, 5));
    assert_eq!(current(&branches), at("b777777700000000"));
    let unnamed = [&branches[..], &[String::new()]].concat();
    assert_eq!(current(&unnamed), at(""), "one that has no name is meant");
    assert_eq!(full_name(Target::Latest, &branches, None), Target::Latest);
}
