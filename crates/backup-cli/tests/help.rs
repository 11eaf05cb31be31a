//! The help of every verb. It is the manual, so a change of it is meant.

use crate::common::Env;

const VERBS: [&str; 47] = [
    "quickstart",
    "init",
    "run",
    "import",
    "retry",
    "schedule",
    "running",
    "cancel",
    "status",
    "analyze",
    "advise",
    "alerts",
    "audit",
    "report",
    "logs",
    "timeline",
    "wal-push",
    "wal-fetch",
    "list",
    "find",
    "show",
    "ls",
    "diff",
    "restore",
    "compare",
    "export",
    "copy",
    "archive",
    "hold",
    "release",
    "forget",
    "undo-forget",
    "cleanup",
    "prune",
    "verify",
    "check",
    "repair",
    "migrate",
    "key",
    "stats",
    "storage",
    "doctor",
    "notify",
    "catalog",
    "config",
    "completions",
    "version",
];

#[test]
fn overview() {
    Env::new().run(&["--help"]).ok().snapshot("help");
}

#[test]
fn of_every_verb() {
    let env = Env::new();
    for verb in VERBS {
        env.run(&[verb, "--help"]).ok().snapshot(&format!("help_{verb}"));
    }
    for verb in ["follow", "status", "roll-up", "compact", "run"] {
        env.run(&["logs", verb, "--help"]).ok().snapshot(&format!("help_logs_{verb}"));
    }
    for verb in ["pause", "resume"] {
        env.run(&["schedule", verb, "--help"]).ok().snapshot(&format!("help_schedule_{verb}"));
    }
    for verb in ["check", "silence", "unsilence"] {
        env.run(&["alerts", verb, "--help"]).ok().snapshot(&format!("help_alerts_{verb}"));
    }
    env.run(&["catalog", "rebuild", "--help"]).ok().snapshot("help_catalog_rebuild");
    for verb in ["check", "show", "schema", "from-env", "example"] {
        env.run(&["config", verb, "--help"]).ok().snapshot(&format!("help_config_{verb}"));
    }
    for verb in ["status", "list", "test", "send", "discard"] {
        env.run(&["notify", verb, "--help"]).ok().snapshot(&format!("help_notify_{verb}"));
    }
    for verb in ["generate", "add", "remove", "rotate", "export", "import"] {
        env.run(&["key", verb, "--help"]).ok().snapshot(&format!("help_key_{verb}"));
    }
}

#[test]
fn overview_lists_every_verb() {
    let help = Env::new().run(&["--help"]).stdout;
    let (groups, _) = help.split_once("\nGlobal options:").unwrap();
    let mut listed: Vec<&str> = groups
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    listed.sort_unstable();
    let mut verbs = VERBS;
    verbs.sort_unstable();
    assert_eq!(listed, verbs);
}

#[test]
fn summaries_hide_examples_and_global_options() {
    let env = Env::new();
    for args in [&["-h"][..], &["restore", "-h"], &["key", "rotate", "-h"]] {
        let run = env.run(args).ok();
        assert!(!run.stdout.contains("--no-cache"), "{}", run.stdout);
        assert!(run.stdout.contains("--help adds details, examples"), "{}", run.stdout);
    }
    env.run(&["list", "-h"]).ok().snapshot("help_short");
}

#[test]
fn program_without_arguments_shows_help_and_fails() {
    let run = Env::new().run(&[]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("Usage: backup"));
}

#[test]
fn version() {
    Env::new().run(&["--version"]).ok().snapshot("version");
}

/// The numbers are those of docs/format.md, not of the code.
#[test]
fn version_lists_every_format() {
    let run = Env::new().run(&["version", "--json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(listed["version"], env!("CARGO_PKG_VERSION"));
    let page = include_str!("../../../docs/format.md");
    let (_, rows) = page.split_once("| format | version | written in |\n").unwrap();
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut documented = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (name, reads) = (cells[1].trim_matches('`'), cells[2]);
        let (from, up_to) = reads.split_once(" to ").unwrap_or((reads, reads));
        let form = &listed["formats"][name];
        assert_eq!(form["reads_from"].to_string(), from, "{name}: {listed}");
        assert_eq!(form["reads_up_to"].to_string(), up_to, "{name}: {listed}");
        assert_eq!(form["writes"].to_string(), up_to, "{name}: {listed}");
        documented += 1;
    }
    assert_eq!(listed["formats"].as_object().unwrap().len(), documented);
    Env::new().run(&["version"]).ok().snapshot("version_formats");
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = Env::new().run(&["completions", shell]).ok();
        assert!(run.stdout.contains("quickstart"), "{shell}");
    }
}

/// Each verb and subverb has a page with its help.
#[test]
fn every_verb_has_a_manual_page() {
    let env = Env::new();
    env.run(&["man", "pages/man1"]).ok();
    let page = |name: &str| {
        let text = std::fs::read_to_string(env.path(&format!("pages/man1/{name}.1")));
        text.unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    for verb in VERBS {
        let text = page(&format!("backup-{verb}"));
        let help = env.run(&[verb, "--help"]).ok().stdout;
        let first = help.lines().next().unwrap().split_whitespace().next().unwrap();
        assert!(
            text.contains(".SH DESCRIPTION")
                && text.contains(first)
                && text.contains("password\\-file"),
            "{text}"
        );
    }
    let overview = page("backup");
    for verb in VERBS {
        assert!(
            overview.contains(&format!("backup\\-{}(1)", verb.replace('-', "\\-"))),
            "{verb}: {overview}"
        );
    }
    for below in
        ["backup-logs-follow", "backup-key-add", "backup-config-schema", "backup-alerts-silence"]
    {
        assert!(page(below).contains(".SH OPTIONS"), "{below}");
    }
    assert!(!env.path("pages/man1/backup-man.1").exists(), "it is for those who package");
    let refused = env.run(&["man", "--json", "pages"]);
    assert_eq!(refused.code, 2, "{}", refused.text());
}

#[test]
fn colours_appear_only_on_request() {
    let env = Env::new();
    let colored = |args: &[&str]| env.run(args).stderr.contains('\x1b');
    assert!(!colored(&["list"]));
    assert!(colored(&["list", "--color", "always"]));
    assert!(!colored(&["lst"]));
    assert!(colored(&["lst", "--color=always"]));
}
