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
