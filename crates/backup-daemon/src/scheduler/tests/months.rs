//! Whole months.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const STEP: Duration = Duration::from_secs(20);

/// A job every night, one every hour that takes too long at times, one on Sundays that does not fit
/// beside the night's, a quarter-hourly look, and a log.
fn config(zone: &str) -> String {
    format!(
        r#"
        [defaults]
        time_zone = "{zone}"
        [repositories.main]
        url = "/r"
        [sources.home]
        kind = "files"
        paths = ["/home"]
        [sources.db]
        kind = "mongodb"
        url = "mongodb://db1"
        [jobs.night]
        source = "home"
        repository = "main"
        [[jobs.night.schedule]]
        at = "30 2 * * *"
        tier = "daily"
        [[jobs.night.schedule]]
        at = "30 2 * * 0"
        tier = "weekly"
        [jobs.db]
        source = "db"
        repository = "main"
        schedule = "10 * * * *"
        [jobs.db.logs]
        [schedule]
        alerts = "*/15 * * * *"
        "#
    )
}

fn takes(task: &str) -> Duration {
    match task {
        "night/daily" => Duration::from_secs(40 * 60),
        "night/weekly" => Duration::from_secs(2 * 3600),
        // Every second one is still going on when the next is due.
        "db/backup" => Duration::from_secs(70 * 60),
        "db/logs" => Duration::MAX,
        _ => Duration::from_secs(30),
    }
}

/// The local time of every minute, with how often it was there before.
fn minutes(zone: &str, from: &str, days: i32) -> Vec<(jiff::civil::DateTime, bool)> {
    let zone = TimeZone::get(zone).unwrap();
    let from: Timestamp = from.parse().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let minute = |at: i32| {
        let time = zone.to_datetime(from + SignedDuration::from_mins(i64::from(at)));
        (time, seen.insert(time))
    };
    (1..=days * 24 * 60).map(minute).collect()
}

fn shown(time: jiff::civil::DateTime) -> String {
    time.strftime("%d %H:%M").to_string()
}

/// Runs a month, in which clocks are changed on `day`, with restarts; `after_gap` is when that
/// day's 02:30 comes if there is none.
fn month(zone: &str, from: &str, day: &str, days: i32, night: &str) {
    let mut world = World::new(&config(zone), from, takes);
    world.pass(DAY * u32::try_from(days).unwrap(), STEP);
    let minutes = minutes(zone, from, days);
    let is = |hour: i8, minute: i8| {
        move |time: &jiff::civil::DateTime| (time.hour(), time.minute()) == (hour, minute)
    };

    // Once every night, on the day on which clocks are changed as documented. On Sundays both are
    // due at once, and one waits.
    let mut daily: Vec<String> = minutes
        .iter()
        .filter(|(time, first)| *first && is(2, 30)(time))
        .map(|(time, _)| shown(*time))
        .collect();
    if !daily.iter().any(|time| time.starts_with(day)) {
        daily.push(format!("{day} {night}"));
        daily.sort();
    }
    assert_eq!(world.times("night/daily", zone), daily, "{zone}");
    assert_eq!(daily.len(), usize::try_from(days).unwrap());
    let weekly = world.begun.iter().filter(|begun| begun.task == "night/weekly");
    let sundays = minutes
        .iter()
        .filter(|(time, _)| is(12, 0)(time) && time.weekday() == jiff::civil::Weekday::Sunday);
    assert_eq!(weekly.clone().count(), sundays.count());
    for weekly in weekly {
        let daily = world.begun.iter().find(|begun| {
            begun.task == "night/daily"
                && begun.at.duration_since(weekly.at).abs() < SignedDuration::from_hours(3)
        });
        assert!(weekly.at >= daily.unwrap().ended.unwrap(), "not both at once");
    }

    // By the clock, whatever it shows: every quarter of an hour that there is.
    let quarters: Vec<String> = minutes
        .iter()
        .filter(|(time, _)| time.minute() % 15 == 0)
        .map(|(time, _)| shown(*time))
        .collect();
    assert_eq!(world.times("alerts", zone), quarters);

    // Every hour is due; what takes 70 minutes lets every second one go by.
    let hours: Vec<String> = minutes
        .iter()
        .filter(|(time, _)| time.minute() == 10)
        .step_by(2)
        .map(|(time, _)| shown(*time))
        .collect();
    assert_eq!(world.times("db/backup", zone), hours);
    assert_eq!(world.begun.iter().filter(|begun| begun.task == "db/logs").count(), 1);
}

#[test]
fn clocks_go_forward_in_berlin() {
    month("Europe/Berlin", "2026-03-02T10:59:30Z", "29", 29, "03:00");
}

#[test]
fn clocks_go_back_in_berlin() {
    month("Europe/Berlin", "2026-10-02T10:59:30Z", "25", 29, "-");
}

#[test]
fn clocks_go_forward_in_new_york() {
    month("America/New_York", "2026-03-01T15:59:30Z", "08", 28, "03:00");
}

#[test]
fn clocks_go_back_in_new_york() {
    month("America/New_York", "2026-11-01T01:00:00Z", "01", 28, "-");
}

#[test]
fn restarts_make_up_for_what_was_missed_once() {
    let zone = "Europe/Berlin";
    let mut world = World::new(&config(zone), "2026-05-04T10:00:00Z", |task| {
        Duration::from_secs(if task == "db/backup" { 600 } else { 30 })
    });
    let hour = Duration::from_secs(3600);
    // From 12:00 of the 4th to 00:00 of the 5th, then gone until 08:05 of the 8th: four nights and
    // many hours were missed.
    world.pass(hour * 12, STEP);
    world.killed_for(hour * 80 + Duration::from_secs(300));
    world.pass(hour, STEP);
    assert_eq!(world.times("night/daily", zone), ["08 08:05"]);
    let of_that_day = |task| {
        world
            .times(task, zone)
            .into_iter()
            .filter(|time| time.starts_with("08"))
            .collect::<Vec<_>>()
    };
    // That of 08:10 is left out: what makes up for 07:10 goes on.
    assert_eq!(of_that_day("db/backup"), ["08 08:05"]);
    assert_eq!(of_that_day("alerts"), ["08 08:05", "08 08:15", "08 08:30", "08 08:45", "08 09:00"]);
    // Short restarts repeat nothing and leave nothing out.
    world.pass(Duration::from_secs(120), STEP);
    let before = world.begun.len();
    for _ in 0..6 {
        world.killed_for(Duration::from_secs(40));
        world.pass(Duration::from_secs(560), STEP);
    }
    world.pass(Duration::from_secs(900), STEP);
    let later: Vec<String> =
        world.times("db/backup", zone).into_iter().filter(|time| time.as_str() > "08 09").collect();
    // That of 09:10 is cut off again and again, until it comes to its end.
    assert_eq!(
        later,
        ["08 09:10", "08 09:17", "08 09:27", "08 09:37", "08 09:47", "08 09:57", "08 10:10"]
    );
    let looks = world.begun[before..].iter().filter(|begun| begun.task == "alerts").count();
    assert_eq!(looks, 5, "09:15 to 10:15: {:?}", world.times("alerts", zone));
}

#[test]
fn a_clock_that_jumps() {
    let zone = "UTC";
    let mut world = World::new(&config(zone), "2026-05-04T00:00:00Z", |_| Duration::from_secs(60));
    world.minutes(4 * 60);
    let count = |world: &World| world.times("night/daily", zone).len();
    assert_eq!(count(&world), 1);
    // Two hours back: 02:30 comes again, and is not done again.
    world.now.wall -= SignedDuration::from_hours(2);
    world.minutes(3 * 60);
    assert_eq!(count(&world), 1);
    // Three days forward: once.
    world.now.wall += SignedDuration::from_hours(72);
    world.minutes(60);
    assert_eq!(count(&world), 2);
    // Ten years forward and back: what was done then says nothing of now.
    world.now.wall += SignedDuration::from_hours(10 * 365 * 24);
    world.minutes(1);
    assert_eq!(count(&world), 3);
    world.now.wall -= SignedDuration::from_hours(10 * 365 * 24);
    world.minutes(24 * 60);
    assert_eq!(count(&world), 4, "{:?}", world.times("night/daily", zone));
    assert!(world.said.iter().any(|line| line.contains("set back")));
}

#[test]
fn tasks_wait_for_a_clock_that_can_be_right() {
    let zone = "UTC";
    let mut world = World::new(&config(zone), "1970-01-01T00:00:00Z", |_| Duration::from_secs(60));
    world.minutes(4 * 60);
    assert!(world.begun.is_empty(), "{:?}", world.begun);
    let said =
        |world: &World, text: &str| world.said.iter().filter(|line| line.contains(text)).count();
    assert_eq!(said(&world, "the clock is wrong"), 1, "{:?}", world.said);
    world.now.wall = "2026-05-04T00:00:00Z".parse().unwrap();
    world.minutes(4 * 60);
    assert_eq!(world.times("night/daily", zone), ["04 02:30"]);
    assert_eq!(said(&world, "no longer wrong"), 1, "{:?}", world.said);
    // While it runs, too.
    let begun = world.begun.len();
    world.now.wall = Timestamp::UNIX_EPOCH;
    world.minutes(4 * 60);
    assert_eq!(world.begun.len(), begun);
    assert_eq!(said(&world, "the clock is wrong"), 2, "{:?}", world.said);
}

#[test]
fn a_jitter_that_is_raised_and_lowered_repeats_nothing() {
    let zone = "UTC";
    let text = config(zone);
    let mut world = World::new(&text, "2026-05-04T00:00:00Z", |_| Duration::from_secs(60));
    world.minutes(4 * 60);
    assert_eq!(world.times("night/daily", zone).len(), 1);
    let jitter = |world: &mut World, jitter: &str| {
        let text = text.replace(
            "tier = \"daily\"",
            &format!("tier = \"daily\"\n        jitter = \"{jitter}\""),
        );
        world.loaded = loaded(&text);
        let new = plan(&world.loaded);
        let task = new.tasks.iter().find(|task| task.name == "night/daily").unwrap();
        let delay = task.timetable.as_ref().unwrap().delay;
        world.core.replace(new, orders(&world.loaded), world.now);
        delay
    };
    // Later by more than a clock may be put back by.
    let delay = jitter(&mut world, "20h");
    assert!(delay > Duration::from_secs(4 * 3600), "{delay:?}");
    world.killed_for(Duration::from_secs(60));
    world.minutes(20 * 60);
    assert_eq!(world.times("night/daily", zone).len(), 1, "not for the same night again");
    world.minutes(48 * 60);
    let so_far = world.times("night/daily", zone);
    assert!((2..=3).contains(&so_far.len()), "{so_far:?}");
    assert_eq!(jitter(&mut world, "1s"), Duration::ZERO);
    let before = so_far.len();
    world.minutes(48 * 60);
    let nights = world.times("night/daily", zone).len() - before;
    assert!((2..=3).contains(&nights), "{:?}", world.times("night/daily", zone));
    assert!(!world.said.iter().any(|line| line.contains("set back")), "{:?}", world.said);
}

#[test]
fn change_of_the_zone_of_the_machine_is_noticed_also_between_rules() {
    let text = config("UTC").replace("time_zone = \"UTC\"", "");
    let noon = "2026-05-04T12:00:00Z";
    // At noon in UTC, 02:30 of 4 May was at 00:30 in Rome, and at 06:30 in New York.
    for (before, after, is_due) in [
        ("CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", false),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "America/New_York", false),
        ("Europe/Rome", "EST5EDT,M3.2.0,M11.1.0", false),
        ("EST5EDT,M3.2.0,M11.1.0", "EST5EDT,M3.2.0,M11.1.0", true),
    ] {
        let mut world = World::new(&text, "2026-05-04T03:00:00Z", |_| Duration::from_secs(60));
        world.core.replace(plan_in(&world.loaded, before), orders(&world.loaded), world.now);
        world.look();
        world.now.wall = noon.parse().unwrap();
        world.core.replace(plan_in(&world.loaded, after), orders(&world.loaded), world.now);
        world.minutes(60);
        let times = world.times("night/daily", "UTC");
        assert_eq!(!times.is_empty(), is_due, "{before} to {after}: {times:?}");
    }
}

#[test]
fn memory_of_earlier_versions_about_zones_without_a_name_is_kept() {
    const RULE: &str = "EST5EDT,M3.2.0,M11.1.0";
    let text = config("UTC").replace("time_zone = \"UTC\"", "");
    for (stored, is_due) in [("30 2 * * * local", true), ("30 3 * * * local", false)] {
        // 02:30 in New York, at 06:30 in UTC, was missed.
        let memory = serde_json::json!({"tasks": {"night/daily": {
            "schedule": stored, "handled": "2026-05-04T00:00:00Z", "delay": 0, "paused": false,
        }}});
        let mut world = World::new(&text, "2026-05-04T12:00:00Z", |_| Duration::from_secs(60));
        let memory: Memory = serde_json::from_value(memory).unwrap();
        let (plan, orders) = (plan_in(&world.loaded, RULE), orders(&world.loaded));
        world.core = Core::new(plan, orders, memory, GRACE, world.now);
        world.minutes(60);
        let times = world.times("night/daily", "UTC");
        assert_eq!(!times.is_empty(), is_due, "{stored}: {times:?}");
    }
}
