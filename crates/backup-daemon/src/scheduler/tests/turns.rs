//! Limits, priorities, deadlines, pauses, and what somebody asks for.

use super::*;
use crate::engine::{ArchiveOrder, CopyOrder, Refusal, RestoreOrder, Work};

/// Three jobs of two hosts at the same time, one before the others.
const CONFIG: &str = r#"
    [repositories.main]
    url = "/r"
    [repositories.other]
    url = "/s"
    [sources.a]
    kind = "mongodb"
    url = "mongodb://db1"
    [sources.b]
    kind = "redis"
    url = "redis://db1:6379"
    [sources.c]
    kind = "files"
    paths = ["/c"]
    [jobs.a]
    source = "a"
    repository = "main"
    schedule = "0 1 * * *"
    deadline = "10h"
    [jobs.b]
    source = "b"
    repository = "main"
    schedule = "0 1 * * *"
    priority = 5
    [jobs.c]
    source = "c"
    repository = "main"
    window = "01:00-03:00"
    schedule = "0 1 * * *"
    [groups.all]
    jobs = ["a", "c"]
    [schedule]
    alerts = "*/5 * * * *"
    time_zone = "UTC"
    max_parallel = 2
"#;

fn world(takes: fn(&str) -> Duration) -> World {
    World::new(
        &CONFIG
            .replace("[repositories.main]", "[defaults]\ntime_zone = \"UTC\"\n[repositories.main]"),
        "2026-05-04T00:30:00Z",
        takes,
    )
}

fn backup(job: &str) -> Work {
    Work::Backup { job: job.to_owned(), kind: None, tier: None }
}

fn hour(_: &str) -> Duration {
    Duration::from_secs(3600)
}

#[test]
fn one_of_a_host_and_the_first_by_priority() {
    let mut world = world(hour);
    world.minutes(35);
    let at = |world: &World, job: &str| world.times(&format!("{job}/backup"), "UTC");
    assert_eq!((at(&world, "a"), at(&world, "b")), (vec![], vec!["04 01:00".to_owned()]));
    assert_eq!(at(&world, "c"), ["04 01:00"]);
    world.minutes(60);
    assert_eq!(at(&world, "a"), ["04 02:00"], "the host is free again");
}

#[test]
fn what_hangs_is_stopped_and_holds_up_nothing_else() {
    let mut world =
        world(|task| if task == "b/backup" { Duration::MAX } else { Duration::from_secs(60) });
    world.deaf = "b/backup";
    world.minutes(26 * 60);
    let task = |name: &str| world.times(name, "UTC");
    assert_eq!(task("c/backup").len(), 2, "another host");
    assert_eq!(task("alerts").len(), 26 * 12);
    // b is asked to stop after a day, does not listen, and is killed.
    assert_eq!(task("a/backup"), ["05 01:06"]);
    let ended = world.core.ended();
    let b = ended.iter().find(|ended| ended.task.as_deref() == Some("b/backup")).unwrap();
    assert!(b.exit_code.is_none() && b.error.contains("deadline was exceeded"), "{b:?}");
    assert!(
        world.said.iter().any(|line| line.starts_with("b/backup") && line.contains("is skipped"))
    );
}

#[test]
fn whoever_waits_for_a_host_leaves_room_to_others() {
    let text = CONFIG.replace(
        "window = \"01:00-03:00\"\n    schedule = \"0 1 * * *\"",
        "schedule = \"0 2 * * *\"",
    );
    let mut world = World::new(&text, "2026-05-04T00:30:00Z", |task| match task {
        "b/backup" => Duration::MAX,
        _ => Duration::from_secs(60),
    });
    world.minutes(4 * 60);
    assert_eq!(world.times("b/backup", "UTC"), ["04 01:00"]);
    assert!(world.times("a/backup", "UTC").is_empty(), "its host is in use");
    assert_eq!(world.times("c/backup", "UTC"), ["04 02:00"]);
}

#[test]
fn what_ended_well_while_the_daemon_stops_is_done() {
    let mut world = world(hour);
    world.deaf = "b/backup";
    world.minutes(31);
    world.core.stop(world.now);
    world.look();
    let id = world
        .going
        .iter()
        .find(|(_, (at, _))| world.begun[*at].task == "b/backup")
        .unwrap()
        .0
        .clone();
    world.end(&id, Some(0));
    world.killed_for(Duration::from_secs(60));
    world.minutes(5 * 60);
    assert_eq!(world.times("b/backup", "UTC"), ["04 01:00"]);
    assert_eq!(world.times("a/backup", "UTC").len(), 1, "what waited is made up for");
}

#[test]
fn windows_are_waited_for() {
    let mut world = world(hour);
    // Gone from 00:35 to 04:00: the window is over, and the next one is waited for.
    world.minutes(5);
    world.killed_for(Duration::from_secs(3600 * 3 + 25 * 60));
    world.minutes(60);
    assert_eq!(world.times("b/backup", "UTC"), ["04 04:00"]);
    assert!(world.times("c/backup", "UTC").is_empty());
    world.minutes(22 * 60);
    assert_eq!(world.times("c/backup", "UTC"), ["05 01:00"]);
}

#[test]
fn pauses_last_over_restarts_and_nothing_is_made_up_for() {
    let mut world = world(hour);
    world.look();
    world.core.pause(Some("b/backup"), true, world.now).unwrap();
    assert!(matches!(world.core.pause(Some("none"), true, world.now), Err(Refusal::Unknown(_))));
    world.minutes(20);
    world.killed_for(Duration::from_secs(60));
    world.minutes(24 * 60 + 30);
    assert!(world.times("b/backup", "UTC").is_empty());
    let task = |world: &World| {
        world.core.tasks().into_iter().find(|task| task.name == "b/backup").unwrap()
    };
    assert!(task(&world).paused && task(&world).next.is_none());
    world.core.pause(None, false, world.now).unwrap();
    world.minutes(10);
    assert!(world.times("b/backup", "UTC").is_empty());
    assert!(task(&world).next.is_some());
    world.minutes(24 * 60);
    assert_eq!(world.times("b/backup", "UTC").len(), 1);
}

#[test]
fn a_pause_ends_after_seven_days() {
    let mut world = world(hour);
    world.look();
    world.core.pause(Some("b/backup"), true, world.now).unwrap();
    let is_paused = |world: &World| {
        let tasks = world.core.tasks();
        tasks.iter().any(|task| task.name == "b/backup" && task.paused)
    };
    world.minutes(4 * 24 * 60);
    world.killed_for(Duration::from_secs(60));
    // Pausing again does not prolong the pause.
    world.core.pause(None, true, world.now).unwrap();
    world.minutes(3 * 24 * 60 - 10);
    assert!(is_paused(&world) && world.times("b/backup", "UTC").is_empty());
    world.minutes(20);
    assert!(!is_paused(&world));
    world.minutes(24 * 60);
    assert_eq!(world.times("b/backup", "UTC").len(), 1);
}

#[test]
fn pausing_everything_leaves_log_capture_and_alerts_running() {
    let text = format!("{CONFIG}\n[jobs.a.logs]\n").replace("time_zone = \"UTC\"\n", "");
    let takes = |task: &str| if task == "a/logs" { Duration::MAX } else { hour(task) };
    let mut world = World::new(&text, "2026-05-04T00:30:00Z", takes);
    world.minutes(1);
    let paused = |world: &World| {
        let tasks = world.core.tasks().into_iter().filter(|task| task.paused);
        tasks.map(|task| task.name).collect::<Vec<_>>()
    };
    world.core.pause(None, true, world.now).unwrap();
    assert_eq!(paused(&world), ["a/backup", "b/backup", "c/backup"]);
    world.minutes(120);
    assert!(world.times("alerts", "UTC").len() >= 2, "alerts take an hour here");
    let mut following = world.core.running();
    following.retain(|running| running.work != Work::Alerts);
    assert_eq!(following.len(), 1, "{following:?}");
    assert_eq!(following[0].task.as_deref(), Some("a/logs"));
    world.core.pause(Some("a/logs"), true, world.now).unwrap();
    world.minutes(1);
    assert!(paused(&world).contains(&"a/logs".to_owned()));
    assert!(world.core.running().iter().all(|running| running.work == Work::Alerts));
    world.core.pause(None, false, world.now).unwrap();
    world.minutes(1);
    assert!(paused(&world).is_empty() && world.times("a/logs", "UTC").len() == 2);
}

#[test]
fn what_somebody_asks_for() {
    let mut world = world(hour);
    world.look();
    let start = |world: &mut World, work| world.core.start(work, "me", world.now);
    let first = start(&mut world, backup("a")).unwrap();
    world.look();
    assert_eq!(world.times("by me", "UTC").len(), 1);
    // Once at a time, also as part of a group.
    assert!(
        matches!(start(&mut world, backup("a")), Err(Refusal::Refused(text)) if text.contains(&first))
    );
    assert!(matches!(start(&mut world, backup("all")), Err(Refusal::Refused(_))));
    assert!(matches!(start(&mut world, backup("d")), Err(Refusal::Unknown(_))));
    assert!(matches!(
        start(&mut world, Work::Check { repository: None, data: None }),
        Err(Refusal::Refused(_))
    ));
    assert!(matches!(
        start(&mut world, Work::Report { since: "7d".into() }),
        Err(Refusal::Refused(_))
    ));
    let order = RestoreOrder {
        what: "a".into(),
        repository: None,
        at: None,
        target: "mongodb://me:hush@h".into(),
        dry_run: false,
    };
    let refused = start(&mut world, Work::Restore(order)).unwrap_err().to_string();
    assert!(!refused.contains("hush"), "{refused}");
    // It can be cancelled, while it goes on and before.
    let second = start(&mut world, backup("b")).unwrap();
    world.look();
    world.core.cancel(&second, world.now).unwrap();
    assert!(world.core.ended()[0].exit_code.is_none());
    world.core.cancel(&first, world.now).unwrap();
    world.look();
    assert_eq!(world.core.ended()[0].exit_code, Some(130));
    assert!(matches!(world.core.cancel(&first, world.now), Err(Refusal::Unknown(_))));
}

#[test]
fn queues_are_bounded() {
    let mut world = world(hour);
    let restore = |at: usize| {
        Work::Restore(RestoreOrder {
            what: "latest".into(),
            repository: None,
            at: None,
            target: format!("/t/{at}"),
            dry_run: false,
        })
    };
    let refused = (0..1000)
        .map(|at| world.core.start(restore(at), "me", world.now))
        .filter(Result::is_err)
        .count();
    assert_eq!(refused, 1000 - 256);
    world.look();
    assert_eq!(world.core.running().iter().filter(|running| running.since.is_some()).count(), 2);
    world.minutes(31);
    let has_come =
        world.core.running().iter().any(|running| running.task.as_deref() == Some("b/backup"));
    assert!(has_come, "tasks come all the same");
    world.core.stop(world.now);
    world.look();
    assert!(world.core.is_over());
    assert!(matches!(world.core.start(Work::Cleanup, "me", world.now), Err(Refusal::Busy(_))));
}

#[test]
fn what_is_not_in_the_configuration_is_not_done() {
    let orders = orders(&loaded(CONFIG));
    let copy = |from: &str, to: &str, job: Option<&str>| {
        let (from, to, job) = (from.to_owned(), to.to_owned(), job.map(str::to_owned));
        orders.asked(Work::Copy(CopyOrder { from, to, job }), Duration::from_secs(60)).unwrap_err()
    };
    assert!(matches!(copy("main", "main", None), Refusal::Refused(_)));
    assert!(matches!(copy("main", "/tmp/x", None), Refusal::Unknown(_)));
    assert!(matches!(copy("s3://x", "main", None), Refusal::Unknown(_)));
    assert!(matches!(copy("main", "other", Some("nosuch")), Refusal::Unknown(_)));
    let restore = |what: &str, target: &str, repository: Option<&str>| {
        let (what, target, repository) =
            (what.to_owned(), target.to_owned(), repository.map(str::to_owned));
        Work::Restore(RestoreOrder { what, repository, at: None, target, dry_run: false })
    };
    for work in [
        restore("all", "standby", None),
        restore("all", "/t", Some("main")),
        restore("1a2b", "/t", Some("nosuch")),
        restore("nosuch:latest", "/t", None),
        Work::Prune { repository: Some("nosuch".into()) },
        Work::Verify { snapshot: "1a2b".into(), repository: Some("nosuch".into()) },
        Work::Compact { job: "a".into() },
        Work::Compact { job: "nosuch".into() },
    ] {
        assert!(orders.asked(work.clone(), Duration::from_secs(60)).is_err(), "{work:?}");
    }
}

#[test]
fn the_words_of_every_kind_of_work() {
    let orders = orders(&loaded(CONFIG));
    let words = |work| orders.asked(work, Duration::from_secs(60)).unwrap().args[4..].join(" ");
    let restore = |what: &str, at: Option<&str>| {
        let (what, at) = (what.to_owned(), at.map(str::to_owned));
        words(Work::Restore(RestoreOrder {
            what,
            repository: None,
            at,
            target: "/t".into(),
            dry_run: true,
        }))
    };
    let lines = [
        words(Work::Backup {
            job: "a".into(),
            kind: Some("full".into()),
            tier: Some("--x".into()),
        }),
        words(Work::Verify { snapshot: "a:latest".into(), repository: None }),
        words(Work::Verify { snapshot: "--all".into(), repository: None }),
        words(Work::Cleanup),
        words(Work::Check { repository: Some("other".into()), data: Some("5%".into()) }),
        words(Work::Prune { repository: Some("main".into()) }),
        words(Work::Copy(CopyOrder { from: "main".into(), to: "other".into(), job: None })),
        words(Work::Copy(CopyOrder {
            from: "main".into(),
            to: "other".into(),
            job: Some("a".into()),
        })),
        words(Work::Archive(ArchiveOrder {
            from: "main".into(),
            to: "other".into(),
            older_than: "90d".into(),
            job: Some("a".into()),
            storage_class: Some("GLACIER".into()),
            remove: true,
        })),
        words(Work::Verify { snapshot: "1a2b".into(), repository: Some("other".into()) }),
        words(Work::Alerts),
        restore("a:latest", None),
        restore("a", Some("2026-05-01 10:00")),
        restore("all", Some("latest")),
        restore("1a2b3c4d", None),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    run --type=full --tier=--x -- a
    verify --job=a --repo=main -- latest
    verify -- --all
    cleanup --all --yes
    check --repo=other --read-data-subset=5%
    prune --repo=main --yes
    copy --from=main --to=other --all
    copy --from=main --to=other --job=a
    archive --repo=main --to=other --older-than=90d --job=a --storage-class=GLACIER --remove --yes
    verify --repo=other -- 1a2b
    alerts check
    restore --target=/t --dry-run --job=a --repo=main -- latest
    restore --target=/t --at=2026-05-01 10:00 --dry-run --job=a --repo=main
    restore --target=a=/t/a --target=c=/t/c --at=latest --dry-run -- all
    restore --target=/t --dry-run -- 1a2b3c4d
    ");
}

#[test]
fn another_configuration() {
    let mut world = world(hour);
    world.minutes(31);
    assert_eq!(world.going.len(), 3);
    let text = CONFIG.replace(
        "[jobs.b]\n    source = \"b\"\n    repository = \"main\"\n    schedule = \"0 1 * * *\"",
        "[jobs.b]\n    source = \"b\"\n    repository = \"main\"\n    schedule = \"0 5 * * *\"",
    );
    let next = loaded(&text);
    world.core.replace(plan(&next), orders(&next), world.now);
    world.minutes(1);
    assert_eq!(
        world.begun.iter().filter(|begun| begun.task == "b/backup").count(),
        1,
        "what goes on comes to its end"
    );
    world.minutes(60 * 8);
    // That of 05:00 is done: 01:00 was another schedule.
    assert_eq!(world.times("b/backup", "UTC"), ["04 01:00", "04 05:00"]);
    assert_eq!(world.times("a/backup", "UTC"), ["04 02:00"], "what waited still comes");
}

#[test]
fn another_configuration_takes_nothing_from_what_waits() {
    let text = CONFIG.replace("max_parallel = 2", "max_parallel = 2\n    catch_up = false");
    let mut world = World::new(&text, "2026-05-04T00:30:00Z", hour);
    world.minutes(40);
    let next = loaded(&text.replace("deadline = \"10h\"", "deadline = \"11h\""));
    world.core.replace(plan(&next), orders(&next), world.now);
    world.minutes(60 * 4);
    assert_eq!(world.times("a/backup", "UTC"), ["04 02:00"]);
    assert_eq!(world.times("b/backup", "UTC"), ["04 01:00"]);
}
