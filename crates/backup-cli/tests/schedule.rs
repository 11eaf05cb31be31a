//! schedule: what happens when, by the configuration.

use crate::common::Env;

const CONFIG: &str = r#"
[defaults]
time_zone = "Europe/Berlin"
[repositories.main]
url = "repo"
[sources.data]
kind = "files"
paths = ["data"]
[jobs.docs]
source = "data"
repository = "main"
window = "01:00-06:00"
[[jobs.docs.schedule]]
at = "30 2 * * 1-6"
tier = "daily"
[[jobs.docs.schedule]]
at = "30 2 * * 0"
type = "full"
tier = "weekly"
[schedule]
cleanup = "0 7 * * *"
check = "0 8 * * 0"
"#;

#[test]
fn tasks_and_their_times() {
    let env = Env::new();
    env.write("backup.toml", CONFIG);
    env.run(&["schedule"]).ok().snapshot("schedule");
    // Whenever this runs, seven days have so many of each.
    let week = env.run(&["schedule", "--days", "7", "--json"]).ok().json();
    let times = week["times"].as_array().unwrap();
    let of = |task: &str| times.iter().filter(|time| time["task"] == task).count();
    assert_eq!(
        ["docs/daily", "docs/weekly", "cleanup", "check/main"].map(of),
        [6, 1, 7, 1],
        "{week}"
    );
    assert!(times.iter().all(|time| {
        let local = time["local"].as_str().unwrap();
        local.ends_with("+01:00") || local.ends_with("+02:00")
    }));
    let text = env.run(&["schedule", "--days", "7"]).ok().stdout;
    assert_eq!(text.lines().count(), 16, "{text}");
    assert_eq!(week["time_zone"], "Europe/Berlin");
}

#[test]
fn nothing_and_mistakes() {
    let env = Env::new();
    assert_eq!(env.run(&["schedule"]).code, 2);
    env.write("backup.toml", CONFIG.split("window").next().unwrap());
    env.run(&["schedule"]).ok().snapshot("schedule_of_nothing");
    env.write("backup.toml", &CONFIG.replace("30 2 * * 0", "30 26 * * 0"));
    env.run(&["schedule"]).snapshot("schedule_mistake");
}

#[test]
fn starts_that_are_left_out_are_reported() {
    let env = Env::new();
    let often =
        CONFIG.split("[[jobs").next().unwrap().replace("window", "schedule = \"* * * * *\"\n#");
    env.write("backup.toml", &often);
    // A start in each of the 1440 minutes of a day.
    let starts = |days: &str| {
        let run = env.run(&["schedule", "--days", days]).ok();
        let json = env.run(&["schedule", "--days", days, "--json"]).ok().json();
        let count = json["times"].as_array().unwrap().len();
        let is_told = run.stderr.contains("only the first 10000 starts are shown");
        assert_eq!(is_told, json["truncated"].as_bool().unwrap(), "{}", run.stderr);
        (count, is_told)
    };
    assert_eq!(starts("6"), (6 * 1440, false));
    assert_eq!(starts("7"), (10_000, true));
}
