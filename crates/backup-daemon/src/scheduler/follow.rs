//! Continuous tasks: their restarts, and their lines in the journal.

use std::time::Duration;

use serde_json::Value;

use crate::journal::Level;

/// The same trouble of a log is not reported again before.
const TROUBLE_EVERY: Duration = Duration::from_secs(600);

/// After a failure it is begun again after this, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// … but no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What went on for so long had begun well.
const WELL: Duration = Duration::from_secs(60);

/// How it went so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Supervised {
    failures: u32,
    not_before: Duration,
}

impl Supervised {
    /// Whether it may be begun.
    pub(super) fn may_begin(&self, steady: Duration) -> bool {
        steady >= self.not_before
    }

    /// Whether what has gone on since `began` goes on well.
    pub(super) fn is_well(began: Duration, steady: Duration) -> bool {
        steady.saturating_sub(began) >= WELL
    }

    /// It ended by itself: how long until it is begun again.
    pub(super) fn failed(&mut self, began: Duration, steady: Duration) -> Duration {
        self.failures =
            if Self::is_well(began, steady) { 0 } else { self.failures.saturating_add(1) };
        let factor = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
        self.not_before = steady + pause;
        pause
    }
}

/// Turns events of a followed log into lines: changes of its state, not every stored slice.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// The trouble that was reported last, and when.
    trouble: Option<(String, Duration)>,
}

impl Heard {
    /// The line for an event that the process printed, if it gets one.
    pub(super) fn line(&mut self, event: &Value, steady: Duration) -> Option<(Level, String)> {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        match (text("event"), text("log")) {
            ("log", "following") => {
                self.trouble = None;
                let from = &event["from"];
                let from = match (from["branch"].as_str(), from["offset"].as_u64()) {
                    (Some(branch), Some(offset)) => format!("{branch}@{offset} on"),
                    _ => "now on".to_owned(),
                };
                Some((Level::Info, format!("connected: the log is followed from {from}")))
            }
            ("log", "connected") => {
                self.trouble = None;
                Some((Level::Info, "connected again".to_owned()))
            }
            ("log", "stored") => {
                let (was, _) = self.trouble.take()?;
                Some((Level::Info, format!("the log is stored again (was: {was})")))
            }
            ("log", "gap") => {
                Some((Level::Error, format!("a part of the log is missing: {}", text("reason"))))
            }
            ("log", kind @ ("unreachable" | "reconnecting" | "delayed" | "full")) => {
                let words = match kind {
                    "unreachable" => format!("the server is unreachable: {}", text("message")),
                    "reconnecting" => format!("capture interrupted: {}", text("message")),
                    "delayed" => format!("the log cannot be stored: {}", text("message")),
                    _ => "the buffer of the log is full".to_owned(),
                };
                self.told(kind, steady).then_some((Level::Warning, format!("{words}; retrying")))
            }
            ("summary", _) if text("verb") == "run" => {
                let kind = text("type");
                Some((Level::Info, format!("{kind} backup made: snapshot {}", text("snapshot"))))
            }
            ("error", _) => Some((Level::Error, text("message").to_owned())),
            _ => None,
        }
    }

    /// True for another trouble than before, and for one that was not reported for long.
    fn told(&mut self, kind: &str, steady: Duration) -> bool {
        let is_known = self.trouble.as_ref().is_some_and(|(last, since)| {
            last == kind && steady.saturating_sub(*since) < TROUBLE_EVERY
        });
        if !is_known {
            self.trouble = Some((kind.to_owned(), steady));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn journal_lists_changes_of_a_log_and_no_slices() {
        let mut heard = Heard::default();
        let mut line = |mut event: Value, second: u64| {
            if event["log"].is_string() {
                event["event"] = json!("log");
            }
            let line = heard.line(&event, Duration::from_secs(second));
            line.map(|(level, text)| format!("{level:?} {text}")).unwrap_or_default()
        };
        let from = json!({ "branch": "1", "offset": 7 });
        let following = json!({ "log": "following", "from": from });
        assert_eq!(line(following, 0), "Info connected: the log is followed from 1@7 on");
        let stored = || json!({ "log": "stored", "position": from, "waiting_bytes": 0 });
        assert_eq!(line(stored(), 1), "");
        let lost = || json!({ "log": "unreachable", "message": "reset" });
        assert_eq!(line(lost(), 2), "Warning the server is unreachable: reset; retrying");
        assert_eq!(line(lost(), 3), "");
        assert_eq!(line(lost(), 602), "Warning the server is unreachable: reset; retrying");
        assert_eq!(line(json!({ "log": "connected" }), 603), "Info connected again");
        let gap = json!({ "log": "gap", "reason": "gone" });
        assert_eq!(line(gap, 604), "Error a part of the log is missing: gone");
        let delayed = json!({ "log": "delayed", "message": "full", "waiting_bytes": 1 });
        assert_eq!(line(delayed, 605), "Warning the log cannot be stored: full; retrying");
        assert_eq!(line(stored(), 606), "Info the log is stored again (was: delayed)");
        let made = json!({ "event": "summary", "verb": "run", "type": "full", "snapshot": "ab" });
        assert_eq!(line(made, 607), "Info full backup made: snapshot ab");
        assert_eq!(line(json!({ "event": "progress" }), 608), "");
    }

    #[test]
    fn pauses_grow_while_it_fails_at_once() {
        let mut supervised = Supervised::default();
        let second = Duration::from_secs(1);
        let pauses: Vec<u64> =
            (0..10).map(|at| supervised.failed(second * at, second * at).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(!supervised.may_begin(second * 308) && supervised.may_begin(second * 309));
        assert_eq!(
            supervised.failed(second * 400, second * 500).as_secs(),
            2,
            "it had gone on well"
        );
    }
}
