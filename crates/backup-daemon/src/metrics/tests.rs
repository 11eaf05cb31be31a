//! A scrape, what dashboards and rules ask for, and the list of metrics in the documentation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::counters;
use super::gauges::{ALL, Gauge};
use crate::engine::TaskEvent;
use crate::testing::{ScriptedEngine, Server, now};
use crate::tokens::Role;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A scrape of a server of which everything is known that can be.
async fn scrape() -> (Server, String) {
    let server = Server::start().await;
    server.remember().await;
    server.alert();
    server.note_verification();
    server.engine.tell(TaskEvent::Ended(ScriptedEngine::ended_backup("b1")));
    server.engine.tell(TaskEvent::Ended(ScriptedEngine::ended_restore("b2")));
    let auditor = server.remote(Role::Auditor);
    auditor.get("/api/v1/health").await;
    // Repositories are looked into some seconds after the beginning.
    let since = std::time::Instant::now();
    loop {
        let reply = auditor.get("/metrics").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.head.contains("content-type: text/plain; version=0.0.4"), "{}", reply.head);
        if reply.body.contains("storage_usage{") && reply.body.contains("backup_log_lag_seconds{") {
            return (server, reply.body);
        }
        assert!(since.elapsed().as_secs() < 60, "{}", reply.body);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// The names of the metrics of a scrape that have a value.
fn names(scrape: &str) -> BTreeSet<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn everything_is_measured_and_said_in_base_units() {
    let (server, text) = scrape().await;
    let has = |line: &str| assert!(text.lines().any(|known| known == line), "{line}:\n{text}");
    has(r#"backup_status{backup_job="docs",state="verified"} 1"#);
    has(r#"backup_status{backup_job="docs",state="failed"} 0"#);
    has(r#"backup_status{backup_job="new",state="none"} 1"#);
    has(r#"backup_last_duration_seconds{backup_job="docs"} 30"#);
    has(r#"backup_reduction_ratio{backup_job="docs"} 4"#);
    has(r#"backup_success_ratio{backup_job="docs"} 0.5"#);
    has(r#"backup_rpo_seconds{backup_job="docs"} 86400"#);
    has(r#"restore_progress{id="r1",what="latest"} 0.25"#);
    has(r#"restore_last_duration_seconds{backup_job="docs"} 30"#);
    has(r#"storage_usage{repository="main"} 1073741824"#);
    has(r#"storage_usage_ratio{repository="main"} 0.1"#);
    has(r#"storage_cost_per_month{currency="USD",repository="main"} 0.02"#);
    has(r#"storage_lasts_seconds{repository="main"} 7776000"#);
    has(r#"backup_last_verified_sound{repository="main"} 1"#);
    has(r#"backup_alert{rule="stale",severity="high",subject="docs"} 1"#);
    has(r#"backup_clock_offset_seconds{backup_job="docs",clock="store"} 2"#);
    has(r#"backup_clock_offset_seconds{backup_job="docs",clock="server"} -7200"#);
    // The helper remembers a backup 20 minutes ago.
    let measured = text.lines().find_map(|line| {
        line.strip_prefix(r#"backup_clock_measured_timestamp_seconds{backup_job="docs"} "#)
    });
    let ago = now().as_second() as f64 - measured.unwrap().parse::<f64>().unwrap();
    assert!((1200.0..1500.0).contains(&ago), "{ago}");
    has(r#"backupd_running{work="restore"} 1"#);
    has(r#"backupd_waiting{work="backup"} 1"#);
    has(r#"backupd_running{work="cleanup"} 0"#);
    has(r#"backupd_running{work="prune"} 0"#);
    has(r#"backupd_task_paused{task="docs/daily"} 0"#);
    has(r#"backupd_tasks_ended_total{result="success",work="backup"} 1"#);
    has("backupd_healthy 1");
    // A job that was never backed up has no age; none is not zero.
    assert!(!text.contains(r#"backup_age_seconds{backup_job="new"}"#), "{text}");
    // Nothing that somebody asks for becomes a label.
    server.stranger().get("/api/v1/jobs/made-up-by-a-stranger").await;
    server.remote(Role::Admin).get("/made/up").await;
    tokio::time::sleep(super::GOOD_FOR).await;
    let later = server.remote(Role::Admin).get("/metrics").await.body;
    assert!(!later.contains("made-up") && !later.contains("made/up"), "{later}");
    assert!(later.contains(r#"backupd_http_requests_total{code="404",route="none"} 1"#), "{later}");
}

#[tokio::test]
async fn every_metric_is_measured_and_has_a_meaning() {
    let (_server, text) = scrape().await;
    let known = names(&text);
    for Gauge { name, .. } in ALL {
        assert!(known.contains(*name), "{name} is never measured:\n{text}");
        assert!(
            text.contains(&format!("# HELP {name} "))
                && text.contains(&format!("# TYPE {name} gauge")),
            "{name}"
        );
    }
    for (name, ..) in counters::ALL {
        let measured = known.contains(name) || known.contains(&format!("{name}_bucket"));
        assert!(measured && text.contains(&format!("# HELP {name} ")), "{name}:\n{text}");
    }
}

/// The metrics that an expression asks for: names that stand neither before a bracket nor within
/// braces, nor behind `by` or `on`.
fn asked(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut word, mut within, mut is_text, mut labels_follow) = (String::new(), 0, false, false);
    for c in expression.chars().chain([' ']) {
        if is_text || c == '"' {
            is_text = is_text != (c == '"');
            continue;
        }
        if c.is_ascii_alphanumeric() || c == '_' || c == ':' {
            word.push(c);
            continue;
        }
        let done = std::mem::take(&mut word);
        let is_metric = ["backup_", "backupd_", "restore_", "storage_"]
            .iter()
            .any(|start| done.starts_with(start));
        if is_metric && within == 0 {
            names.insert(done.clone());
        }
        let opens = matches!(done.as_str(), "by" | "on" | "ignoring" | "without")
            || (labels_follow && done.is_empty());
        labels_follow = opens && c == ' ';
        match c {
            '{' => within += 1,
            '(' if opens || within > 0 => within += 1,
            '}' | ')' if within > 0 => within -= 1,
            _ => {}
        }
    }
    names
}

#[test]
fn names_in_expressions() {
    let asked = |text: &str| asked(text).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        asked(
            r#"sum by (work, backup_job) (rate(backupd_tasks_ended_total{work="backup_x"}[5m])) > 1"#
        ),
        "backupd_tasks_ended_total"
    );
    assert_eq!(asked("a_b / on (instance, backup_job) backup_rpo_seconds"), "backup_rpo_seconds");
    assert_eq!(asked("(storage_usage + (restore_progress))*2"), "restore_progress storage_usage");
}

/// What the dashboards and rules ask for, by where they do.
fn expressions() -> Vec<(String, String)> {
    let mut expressions = Vec::new();
    let packaging = workspace().join("packaging");
    for name in ["backup_overview", "restore_operations", "compliance_status"] {
        let text = std::fs::read_to_string(packaging.join(format!("grafana/{name}.json"))).unwrap();
        let board: serde_json::Value = serde_json::from_str(&text).unwrap();
        let panels = board["panels"].as_array().unwrap();
        assert!(panels.len() >= 10 && board["title"].is_string(), "{name}");
        for panel in panels {
            for target in panel["targets"].as_array().unwrap() {
                expressions.push((
                    format!("{name}: {}", panel["title"]),
                    target["expr"].as_str().unwrap().to_owned(),
                ));
            }
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            if let Some(query) = variable["definition"].as_str() {
                expressions.push((
                    format!("{name}: {}", variable["name"]),
                    query.replace(", ", " by (") + ")",
                ));
            }
        }
    }
    let rules = std::fs::read_to_string(packaging.join("prometheus/alerts.yml")).unwrap();
    for line in rules.lines() {
        if let Some(expression) = line.trim().strip_prefix("expr: ") {
            expressions.push((format!("rule: {expression}"), expression.to_owned()));
        }
    }
    expressions
}

#[tokio::test]
async fn dashboards_and_rules_ask_for_what_there_is() {
    let (_server, text) = scrape().await;
    let (known, expressions) = (names(&text), expressions());
    assert!(expressions.len() > 60, "{}", expressions.len());
    let mut all = BTreeSet::new();
    for (place, expression) in expressions {
        let asked = asked(&expression);
        assert!(!asked.is_empty(), "{place} asks for nothing: {expression}");
        for name in asked {
            assert!(known.contains(&name), "{place} asks for {name}, which is not measured");
            all.insert(name);
        }
    }
    for name in ["backup_status", "restore_progress", "storage_usage"] {
        assert!(all.contains(name), "{name} is shown nowhere");
    }
}

/// The list in `docs/metrics.md` is that of the program; with UPDATE_DOCS it is written.
#[test]
fn the_reference_is_that_of_the_program() {
    const BEGIN: &str = "<!-- made from the program: UPDATE_DOCS=1 -->\n";
    let file = workspace().join("docs/metrics.md");
    let written = std::fs::read_to_string(&file).unwrap();
    let (before, _) = written.split_once(BEGIN).unwrap();
    let mut lines = vec!["| metric | labels | meaning |".to_owned(), "|---|---|---|".to_owned()];
    for Gauge { name, labels, help } in ALL {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        lines.push(format!("| `{name}` | {} | {help} |", labels.join(", ")));
    }
    lines.extend(
        counters::ALL.map(|(name, labels, help)| format!("| `{name}` | {labels} | {help} |")),
    );
    let whole = format!("{before}{BEGIN}{}\n", lines.join("\n"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &whole).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap() == whole,
        "docs/metrics.md is old: run this test with UPDATE_DOCS=1"
    );
}

mod needs_promtool {
    use std::io::Write;

    use super::*;

    fn promtool(words: &[&str], input: &str) -> (bool, String) {
        let mut child = Command::new(backup_core::testing::tool("promtool"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned()
            + &String::from_utf8_lossy(&out.stderr);
        (out.status.success(), said)
    }

    #[tokio::test]
    async fn metrics_are_as_prometheus_wants_them() {
        let (_server, text) = scrape().await;
        assert_eq!(promtool(&["check", "metrics"], &text), (true, String::new()), "{text}");
        let wrong = promtool(&["check", "metrics"], "# TYPE x counter\nx 1\n");
        assert!(!wrong.0 || !wrong.1.is_empty(), "it looks: {wrong:?}");
    }

    #[test]
    fn rules_are_as_prometheus_wants_them() {
        let file = workspace().join("packaging/prometheus/alerts.yml");
        let (is_sound, said) = promtool(&["check", "rules", file.to_str().unwrap()], "");
        assert!(is_sound && said.contains("SUCCESS: 20 rules found"), "{said}");
    }

    /// Every query of the dashboards can be understood: as rules of a file.
    #[test]
    fn queries_of_dashboards_can_be_understood() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules.yml");
        let mut text = "groups:\n- name: queries\n  rules:\n".to_owned();
        let queries = expressions()
            .into_iter()
            .filter(|(_, expression)| !expression.starts_with("label_values"));
        for (number, (_, expression)) in queries.enumerate() {
            let plain = expression.replace("$job", ".*").replace("$repository", ".*");
            text.push_str(&format!(
                "  - record: query:{number}\n    expr: {}\n",
                serde_json::json!(plain)
            ));
        }
        std::fs::write(&file, &text).unwrap();
        let (is_sound, said) = promtool(&["check", "rules", file.to_str().unwrap()], "");
        assert!(is_sound, "{said}\n{text}");
    }
}
