//! Time zones: those of `TZ`, of the machine and of the configuration; machines without a database.
//!
//! The expected times come from Python's zoneinfo and from `date` of coreutils.

use crate::common::{Env, Run};

const CONFIG: &str = r#"
[repositories.main]
url = "repo"
[sources.data]
kind = "files"
paths = ["data"]
[jobs.docs]
source = "data"
repository = "main"
schedule = "30 2 1 1,7 *"
"#;

fn configured(config: &str) -> Env {
    let env = Env::new();
    env.write("backup.toml", config);
    std::fs::create_dir(env.path("empty")).unwrap();
    env
}

/// Runs on a machine without a time zone database.
fn without_database(env: &Env, args: &[&str], tz: &str) -> Run {
    env.run_with(args, &[("TZ", tz), ("TZDIR", env.path("empty").to_str().unwrap())])
}

#[test]
fn schedules_are_in_the_zone_of_tz_also_without_a_database() {
    let env = configured(CONFIG);
    // 02:30 on 1 January and on 1 July, in UTC.
    for (tz, name, january, july) in [
        ("Europe/Rome", "Europe/Rome", "01:30", "00:30"),
        (":Europe/Rome", "Europe/Rome", "01:30", "00:30"),
        ("/usr/share/zoneinfo/Europe/Rome", "Europe/Rome", "01:30", "00:30"),
        ("America/New_York", "America/New_York", "07:30", "06:30"),
        ("Asia/Kathmandu", "Asia/Kathmandu", "20:45", "20:45"),
        ("Australia/Lord_Howe", "Australia/Lord_Howe", "15:30", "16:00"),
        ("America/St_Johns", "America/St_Johns", "06:00", "05:00"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "CET-1CEST,M3.5.0,M10.5.0/3", "01:30", "00:30"),
        ("EST5EDT,M3.2.0,M11.1.0", "EST5EDT,M3.2.0,M11.1.0", "07:30", "06:30"),
        ("", "UTC", "02:30", "02:30"),
    ] {
        let args = ["schedule", "--days", "400", "--json"];
        let bare = without_database(&env, &args, tz).ok().json();
        assert_eq!(env.run_with(&args, &[("TZ", tz)]).ok().json()["times"], bare["times"], "{tz}");
        assert_eq!((&bare["time_zone"], &bare["time_zone_origin"]), (&name.into(), &"TZ".into()));
        let times = bare["times"].as_array().unwrap();
        let utc = |local: &str| {
            let of_month = times.iter().find(|time| {
                time["local"].as_str().unwrap().get(5..16) == Some(&format!("{local}T02:30"))
            });
            of_month.unwrap()["time"].as_str().unwrap()[11..16].to_owned()
        };
        assert_eq!([utc("01-01"), utc("07-01")], [january, july], "{tz}");
    }
}

/// The zone of this machine without `TZ`.
fn of_machine() -> String {
    const LOCALTIME: &str = "/etc/localtime";
    if let Ok(link) = std::fs::read_link(LOCALTIME)
        && let Some((_, name)) = link.to_str().unwrap().rsplit_once("zoneinfo/")
    {
        return format!("{name} (from /etc/localtime)");
    }
    match std::fs::read(LOCALTIME) {
        // The last line of such a file is a rule.
        Ok(data) => {
            let data = String::from_utf8_lossy(&data).trim_end().to_owned();
            format!("{} (from /etc/localtime)", data.lines().last().unwrap())
        }
        Err(_) => "UTC, no zone is set".to_owned(),
    }
}

#[test]
fn schedule_names_time_zone_and_origin() {
    let env = configured(CONFIG);
    let told = |run: Run| {
        run.ok().stderr.lines().find(|line| line.starts_with("Times are in")).unwrap().to_owned()
    };
    let rome = [("TZ", "Europe/Rome")];
    assert_eq!(told(env.run_with(&["schedule"], &rome)), "Times are in Europe/Rome (from TZ).");
    assert_eq!(
        told(env.run_without(&["schedule"], "TZ")),
        format!("Times are in {}.", of_machine())
    );
    let both = "[defaults]\ntime_zone = \"Asia/Tokyo\"\n[schedule]\ntime_zone = \"UTC\"\n";
    let window = "window = \"00:00-23:00\"\nschedule";
    env.write("backup.toml", &format!("{both}{}", CONFIG.replace("schedule", window)));
    let text = env.run_with(&["schedule"], &rome).ok().stderr;
    assert!(text.contains("Times are in UTC (from `schedule.time_zone`)."), "{text}");
    assert!(text.contains("Windows are in Asia/Tokyo (from `defaults.time_zone`)."), "{text}");
    // It also complains about the missing directory `data`.
    let text = env.run_with(&["config", "check"], &rome).stdout;
    assert!(text.contains("times are in UTC (from `schedule.time_zone`)"), "{text}");
}

#[test]
fn tz_that_is_not_understood_fails_config_check_and_warns_elsewhere() {
    let env = configured(CONFIG);
    for tz in ["Mars/Phobos", "Europe/Roma", "/nowhere/at/all", "CET-1CEST"] {
        let check = without_database(&env, &["config", "check"], tz);
        assert_eq!(check.code, 2, "{tz}: {}", check.text());
        assert!(check.stderr.starts_with("Error: TZ "), "{}", check.text());
        assert!(!check.stderr.contains("Warning"), "{}", check.text());
        let schedule = without_database(&env, &["schedule"], tz).ok();
        assert!(schedule.stderr.starts_with("Warning: TZ "), "{}", schedule.text());
        let zone = "Times are in UTC, because the zone of the machine is not understood.";
        assert!(schedule.stderr.contains(zone), "{}", schedule.text());
        for verb in [&["completions", "bash"][..], &["version"]] {
            let quiet = without_database(&env, verb, tz).ok();
            assert!(quiet.stderr.is_empty(), "{}", quiet.text());
        }
    }
    let misspelt = env.run_with(&["config", "check"], &[("TZ", "Europe/Roma")]);
    assert!(misspelt.stderr.contains("Hint: did you mean `Europe/Rome`?"), "{}", misspelt.text());
    // Its only complaint is the missing directory `data`.
    assert_eq!(without_database(&env, &["config", "check"], "Europe/Rome").code, 3);
}

#[test]
fn times_that_exist_twice_are_shown_with_their_offset() {
    // Clocks go back from 03:00 to 02:00 on 27 October of every year.
    let env = configured(&CONFIG.replace("30 2 1 1,7 *", "30 * 27 10 *"));
    let tz = [("TZ", "AAA-1BBB,J60/2,J300/3")];
    let text = env.run_with(&["schedule", "--days", "366"], &tz).ok().stdout;
    let of_day: Vec<&str> = text.lines().filter(|line| line.contains("-10-27 ")).collect();
    let times = |hour: &str| -> Vec<&str> {
        let begin = format!("-10-27 {hour}:30");
        let lines = of_day.iter().filter(|line| line.contains(&begin));
        lines.map(|line| line.split("-10-27 ").nth(1).unwrap()[..12].trim_end()).collect()
    };
    // The day of today may be the 27th: then the list has parts of two years.
    assert!(times("02").windows(2).any(|two| two == ["02:30 +02:00", "02:30 +01:00"]), "{text}");
    assert!(times("01").iter().chain(&times("03")).all(|time| !time.contains('+')), "{text}");
}

#[test]
fn windows_are_checked_if_the_configuration_names_their_zone() {
    let schedule = "window = \"22:15-22:45\"\nschedule = \"30 22 * * *\"";
    let config = CONFIG.replace("schedule = \"30 2 1 1,7 *\"", schedule);
    let zoned = format!("[schedule]\ntime_zone = \"Europe/Rome\"\n{config}");
    let env = configured(&zoned);
    // The window is in the zone of the machine.
    without_database(&env, &["schedule"], "Europe/Rome").ok();
    // 22:30 in Rome is 05:30 or 06:30 in Tokyo.
    env.write("backup.toml", &format!("[defaults]\ntime_zone = \"Asia/Tokyo\"\n{zoned}"));
    let tokyo = without_database(&env, &["schedule"], "Europe/Rome");
    assert_eq!(tokyo.code, 2, "{}", tokyo.text());
    assert!(tokyo.stderr.contains("is never in the window of the job"), "{}", tokyo.text());
}

#[test]
fn plan_of_cleanup_names_the_zone_of_days() {
    let config = CONFIG.replace("schedule =", "keep = { daily = 7 }\nschedule =");
    let env = configured(&config.replace("\"repo\"", "\"repo\"\npassphrase_file = \"key\""));
    env.write("key", "secret");
    std::fs::create_dir(env.path("data")).unwrap();
    env.run(&["init"]).ok();
    env.run(&["run", "docs"]).ok();
    let cleanup = ["cleanup", "docs", "--dry-run"];
    let named = |run: Run| {
        let text = run.ok().stderr;
        text.lines().find(|line| line.contains("days, weeks")).unwrap().to_owned()
    };
    assert_eq!(
        named(env.run_with(&cleanup, &[("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")])),
        "Job docs: days, weeks and months are in CET-1CEST,M3.5.0,M10.5.0/3 (from TZ)."
    );
    // The zone of schedules has no effect.
    let config = std::fs::read_to_string(env.path("backup.toml")).unwrap();
    let zoned = format!("[schedule]\ntime_zone = \"Asia/Tokyo\"\n{config}");
    env.write("backup.toml", &zoned);
    let rome = [("TZ", "Europe/Rome")];
    assert!(named(env.run_with(&cleanup, &rome)).ends_with("in Europe/Rome (from TZ)."));
    env.write("backup.toml", &format!("[defaults]\ntime_zone = \"Asia/Tokyo\"\n{config}"));
    let text = "in Asia/Tokyo (from `defaults.time_zone`).";
    assert!(named(env.run_with(&cleanup, &rome)).ends_with(text));
    let plan = env.run_with(&[&cleanup[..], &["--json"]].concat(), &rome).ok().json();
    assert_eq!(
        (&plan["time_zone"], &plan["time_zone_origin"]),
        (&"Asia/Tokyo".into(), &"defaults.time_zone".into())
    );
}
