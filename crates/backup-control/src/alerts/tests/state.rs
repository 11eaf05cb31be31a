//! The state of alerts over moved and copied configurations, and its earlier forms.

use super::*;

/// A configuration file in `dir`, with the same job and repository for each name.
fn config_at(dir: &Path, name: &str) -> Scope {
    let file = dir.join(name);
    std::fs::write(&file, "").unwrap();
    Scope { file: file.display().to_string(), ..scope("c") }
}

/// The messages of one evaluation of `backup_failure` with a failed backup.
fn evaluate(state: &Path, scope: &Scope, minutes: i64) -> Vec<Message> {
    let now = now() + SignedDuration::from_mins(minutes);
    let mut ledger = Ledger::open(state, scope.clone(), now).unwrap();
    let (rule, facts) = (of("failure"), facts(vec![failed(1)]));
    let observed = observe("backup_failure", &rule, &facts, now).unwrap();
    let mut messages = ledger.observe("backup_failure", &rule, &observed, "h", |_| true, now);
    let covers =
        |alert: &Alert| scope.covers(alert.about, &alert.subject, alert.repository.as_deref());
    messages.extend(ledger.retain(covers, "h", now).into_iter().map(|(_, message)| message));
    ledger.save().unwrap();
    messages
}

#[test]
fn moved_configuration_keeps_alerts() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (config_at(dir.path(), "a.toml"), config_at(dir.path(), "b.toml"));
    assert_eq!(evaluate(dir.path(), &before, 0).len(), 1);
    std::fs::remove_file(&before.file).unwrap();
    assert_eq!(evaluate(dir.path(), &after, 5), []);
    let ledger = Ledger::open(dir.path(), after, now()).unwrap();
    let alert = ledger.alerts().next().unwrap();
    assert_eq!((alert.since, alert.times, ledger.own_alerts().count()), (now(), 1, 1));
}

#[test]
fn copied_configuration_shares_alerts() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (config_at(dir.path(), "a.toml"), config_at(dir.path(), "b.toml"));
    assert_eq!(evaluate(dir.path(), &one, 0).len(), 1);
    assert_eq!(evaluate(dir.path(), &other, 5), []);
    let drop = |scope: &Scope| {
        let mut ledger = Ledger::open(dir.path(), scope.clone(), now()).unwrap();
        let ended = ledger.retain(|_| false, "h", now());
        ledger.save().unwrap();
        ended.len()
    };
    assert_eq!((drop(&one), drop(&other)), (0, 1));
}

#[test]
fn alerts_of_a_deleted_configuration_end_after_a_week() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (config_at(dir.path(), "a.toml"), config_at(dir.path(), "b.toml"));
    evaluate(dir.path(), &one, 0);
    std::fs::remove_file(&one.file).unwrap();
    let retain = |days: i64| {
        let now = now() + SignedDuration::from_hours(24 * days);
        let mut ledger = Ledger::open(dir.path(), other.clone(), now).unwrap();
        ledger.retain(|_| false, "h", now).len()
    };
    assert_eq!((retain(7), retain(8)), (0, 1));
}

#[test]
fn jobs_of_one_name_in_two_repositories_have_alerts_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (one, mut other) = (config_at(dir.path(), "a.toml"), config_at(dir.path(), "b.toml"));
    other.repositories.insert("main".into(), "/elsewhere".into());
    assert_eq!(evaluate(dir.path(), &one, 0).len(), 1);
    let mut ledger = Ledger::open(dir.path(), other, now()).unwrap();
    let mut facts = facts(vec![failed(1)]);
    facts.jobs.get_mut("shop").unwrap().address = "/elsewhere".into();
    let observed = observe("backup_failure", &of("failure"), &facts, now()).unwrap();
    let messages =
        ledger.observe("backup_failure", &of("failure"), &observed, "h", |_| true, now());
    assert_eq!((messages.len(), ledger.alerts().len()), (1, 2));
}

/// The file as the version before wrote it, which kept all by the path of the configuration.
fn earlier(config: &str) -> String {
    let config = serde_json::to_string(config).unwrap();
    format!(
        r#"{{
        "looks": {{ {config}: ["2026-02-01T00:00:00Z", "2026-03-01T11:00:00Z"] }},
        "alerts": [{{ "rule": "backup_failure", "config": {config}, "subject": "shop",
            "about": "job", "severity": "warning", "phase": "firing",
            "since": "2026-03-01T09:00:00Z", "told": "2026-03-01T09:00:00Z", "times": 1,
            "title": "the backup of shop failed", "cause": "no route to db1", "next": "" }}],
        "silences": [{{ "id": "s1", "config": {config}, "rule": "other", "subject": null,
            "until": "2026-03-02T00:00:00Z", "reason": "db1 moves", "user": "me",
            "since": "2026-03-01T00:00:00Z" }}],
        "unread": {{ {config}: {{ "shop": "2026-03-01T11:00:00Z" }} }}
    }}"#
    )
}

#[test]
fn earlier_form_is_taken_over_once() {
    for is_moved in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let own = config_at(dir.path(), "a.toml");
        let gone = dir.path().join("gone.toml").display().to_string();
        let text = earlier(if is_moved { &gone } else { &own.file });
        std::fs::write(dir.path().join("alerts.json"), text).unwrap();
        assert_eq!(evaluate(dir.path(), &own, 0), [], "moved: {is_moved}");
        let mut ledger = Ledger::open(dir.path(), own.clone(), now()).unwrap();
        let alert = ledger.alerts().next().unwrap();
        assert_eq!((alert.repository.as_deref(), alert.times), (Some("/repo"), 1));
        assert_eq!(alert.since, "2026-03-01T09:00:00Z".parse().unwrap());
        assert_eq!(ledger.silences(now()).len(), 1);
        assert!(ledger.is_silenced("other", "shop", Some("/repo"), now()));
        let since = "2026-03-01T10:50:00Z".parse().unwrap();
        assert_eq!(ledger.events_since("r", "/repo", now()), since);
        let mut known = with_slot(SlotFacts { is_read: false, ..slot(SlotState::Kept, None) });
        ledger.remember(&mut known, &BTreeMap::new(), now());
        let job = &known.jobs["shop"];
        assert_eq!(job.watched_since, Some("2026-02-01T00:00:00Z".parse().unwrap()));
        let idle = job.slot.as_ref().unwrap().unread_since;
        assert_eq!(idle, Some("2026-03-01T11:00:00Z".parse().unwrap()));
        ledger.note_events([&"r".to_owned()].into_iter(), now());
        ledger.save().unwrap();
        let left = std::fs::read_to_string(dir.path().join("alerts.json")).unwrap();
        for field in ["looks", "unread\": {", "config\":"] {
            assert!(!left.contains(field), "{field}: {left}");
        }
    }
}

#[test]
fn earlier_form_of_another_configuration_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (config_at(dir.path(), "a.toml"), config_at(dir.path(), "b.toml"));
    std::fs::write(dir.path().join("alerts.json"), earlier(&other.file)).unwrap();
    assert_eq!(evaluate(dir.path(), &own, 0).len(), 1, "an alert of its own");
    let ledger = Ledger::open(dir.path(), own, now()).unwrap();
    assert!(ledger.silences(now()).is_empty() && ledger.alerts().len() == 2);
    drop(ledger);
    assert_eq!(evaluate(dir.path(), &other, 5), [], "and none anew for the other one");
}

#[test]
fn silence_holds_for_a_moved_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (config_at(dir.path(), "a.toml"), config_at(dir.path(), "b.toml"));
    let mut ledger = Ledger::open(dir.path(), before.clone(), now()).unwrap();
    ledger.silence(Silence::new(
        "s1".into(),
        "backup_failure".into(),
        None,
        (now(), now() + SignedDuration::from_hours(1)),
        ("me".into(), "db1 moves".into()),
    ));
    ledger.save().unwrap();
    assert_eq!(evaluate(dir.path(), &before, 0), []);
    std::fs::remove_file(&before.file).unwrap();
    assert_eq!(evaluate(dir.path(), &after, 5), []);
    assert_eq!(evaluate(dir.path(), &after, 61).len(), 1, "it still fails");
}

#[test]
fn state_of_a_newer_program_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alerts.json");
    let newer = r#"{"version":2,"silences":{"s1":{"rule":"backup_failure"}}}"#;
    std::fs::write(&file, newer).unwrap();
    let error = Ledger::open(dir.path(), scope("c"), now()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("written by format 2, this program reads up to 1"), "{cause}");
    assert_eq!(error.hint(), Some("use a newer version of this program"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
    assert!(!dir.path().join("alerts.damaged.json").exists());
}
