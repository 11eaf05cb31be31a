//! The verbs of the program that look at something, as they may be asked for from elsewhere: which
//! they are, who may, and with which flags. Nothing that is not named here becomes a word of a
//! command line.

use backup_control::words::count;

use super::problem::{Answer, Problem};
use super::words;
use crate::tokens::Role;

/// Flags and names of one request, at most.
const MOST_WORDS: usize = 64;

/// What says which snapshots are meant.
const FILTER: [&str; 6] = ["job", "source", "tier", "host", "tag", "date"];

/// A verb.
#[derive(Debug)]
pub(super) struct Verb {
    /// What it is called here: its words, with a dash between them.
    pub(super) name: &'static str,
    /// Its words.
    words: &'static [&'static str],
    /// Who may.
    pub(super) role: Role,
    /// Flags that take a value, besides those of [`FILTER`].
    values: &'static [&'static str],
    /// Flags that take none.
    switches: &'static [&'static str],
    /// How many names there may be behind the flags.
    names: usize,
    /// Whether the flags of [`FILTER`] may be given.
    filters: bool,
    /// Whether a repository may be named.
    repository: bool,
}

/// A verb that takes nothing.
const fn verb(name: &'static str, words: &'static [&'static str], role: Role) -> Verb {
    Verb {
        name,
        words,
        role,
        values: &[],
        switches: &[],
        names: 0,
        filters: false,
        repository: false,
    }
}

/// A verb that looks at snapshots.
const fn looking(name: &'static str, words: &'static [&'static str]) -> Verb {
    Verb { filters: true, repository: true, ..verb(name, words, Role::Operator) }
}

/// All of them.
pub(super) const VERBS: [Verb; 18] = [
    Verb { names: 16, ..verb("advise", &["advise"], Role::Operator) },
    verb("alerts", &["alerts"], Role::Operator),
    Verb { names: 1, ..verb("analyze", &["analyze"], Role::Operator) },
    Verb {
        values: &["since", "user", "operation", "status", "limit"],
        ..verb("audit", &["audit"], Role::Auditor)
    },
    Verb { switches: &["offline"], ..verb("audit-verify", &["audit", "verify"], Role::Auditor) },
    Verb { names: 2, repository: true, ..verb("diff", &["diff"], Role::Operator) },
    Verb { names: 16, repository: true, ..verb("doctor", &["doctor"], Role::Operator) },
    Verb {
        values: &["status", "limit", "before", "after", "days"],
        names: 16,
        ..looking("find", &["find"])
    },
    Verb { values: &["before", "after", "days"], ..looking("list", &["list"]) },
    Verb { names: 1, ..verb("logs-run", &["logs", "run"], Role::Operator) },
    Verb { names: 1, repository: true, ..verb("logs-status", &["logs", "status"], Role::Operator) },
    Verb { switches: &["long", "recursive"], names: 2, ..looking("ls", &["ls"]) },
    Verb { values: &["since", "format"], ..verb("report", &["report"], Role::Auditor) },
    Verb { values: &["days"], ..verb("schedule", &["schedule"], Role::Operator) },
    Verb { names: 1, ..looking("show", &["show"]) },
    Verb {
        values: &["date", "host", "runs"],
        switches: &["nagios"],
        names: 16,
        repository: true,
        ..verb("status", &["status"], Role::Operator)
    },
    Verb { values: &["job"], repository: true, ..verb("storage", &["storage"], Role::Operator) },
    Verb { names: 1, repository: true, ..verb("timeline", &["timeline"], Role::Operator) },
];

/// The verb of that name.
pub(super) fn named(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

impl Verb {
    /// How many words it is itself, before any flag.
    pub(super) fn length(&self) -> usize {
        self.words.len()
    }

    /// The words of a command line, from those of a request: flags as `--flag` or `--flag=value`,
    /// behind `--` names. Repositories are named by the configuration: `knows` says whether one is.
    pub(super) fn words(
        &self,
        given: &[String],
        knows: impl Fn(&str) -> bool,
    ) -> Answer<Vec<String>> {
        if given.len() > MOST_WORDS {
            return Err(Problem::wrong(format!("`words` has more than {MOST_WORDS} elements")));
        }
        let end = given.iter().position(|word| word == "--").unwrap_or(given.len());
        let (flags, names) = (&given[..end], given.get(end + 1..).unwrap_or_default());
        if names.len() > self.names {
            return Err(Problem::wrong(format!(
                "`{}` takes at most {}",
                self.name,
                count(self.names as u64, "name", "names")
            )));
        }
        let mut asked: Vec<String> = self.words.iter().map(|word| (*word).to_owned()).collect();
        for flag in flags {
            asked.push(self.flag(flag, &knows)?);
        }
        if !names.is_empty() {
            asked.push("--".to_owned());
        }
        for name in names {
            asked.push(words::word("words", name)?);
        }
        Ok(asked)
    }

    fn flag(&self, text: &str, knows: impl Fn(&str) -> bool) -> Answer<String> {
        let refused = || {
            Problem::wrong(format!("`{}` does not accept this flag through the API", self.name))
                .hint("use the flag on the machine of the daemon")
        };
        let Some(flag) = text.strip_prefix("--") else { return Err(refused()) };
        let Some((name, value)) = flag.split_once('=') else {
            return if self.switches.contains(&flag) {
                Ok(text.to_owned())
            } else {
                Err(refused())
            };
        };
        match name {
            "repo" if self.repository && knows(value) => {}
            "repo" if self.repository => {
                return Err(Problem::unknown(
                    "there is no such repository in the configuration of the daemon",
                ));
            }
            name if self.values.contains(&name) || self.filters && FILTER.contains(&name) => {}
            _ => return Err(refused()),
        }
        Ok(format!("--{name}={}", words::word(name, value)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, given: &[&str]) -> Answer<String> {
        let given: Vec<String> = given.iter().map(|word| (*word).to_owned()).collect();
        named(name).unwrap().words(&given, |name| name == "main").map(|words| words.join(" "))
    }

    #[test]
    fn only_what_is_named_becomes_a_word() {
        assert_eq!(
            of("list", &["--job=a", "--repo=main", "--days=7"]).unwrap(),
            "list --job=a --repo=main --days=7"
        );
        assert_eq!(
            of("ls", &["--long", "--", "latest", "/etc"]).unwrap(),
            "ls --long -- latest /etc"
        );
        assert_eq!(of("audit-verify", &["--offline"]).unwrap(), "audit verify --offline");
        for (name, bad) in [
            ("list", vec!["--config=/etc/shadow"]),
            ("list", vec!["--password-command=id"]),
            ("list", vec!["--repo=s3://elsewhere"]),
            ("list", vec!["--job"]),
            ("list", vec!["latest"]),
            ("list", vec!["-r", "x"]),
            ("list", vec!["--", "latest"]),
            ("show", vec!["--", "--help"]),
            ("show", vec!["--", "a", "b"]),
            ("show", vec!["--job=a\nb"]),
            ("report", vec!["--output=/etc/cron.d/x"]),
            ("report", vec!["--send=ops"]),
            ("doctor", vec!["--clear-unfinished"]),
            ("doctor", vec!["--source=/"]),
            ("alerts", vec!["--", "check"]),
            ("schedule", vec!["--days="]),
        ] {
            assert!(of(name, &bad).is_err(), "{name} {bad:?}");
        }
        assert!(named("restore").is_none() && named("key").is_none());
    }

    #[test]
    fn auditors_ask_for_logs_and_reports_alone() {
        let of_auditors: Vec<_> =
            VERBS.iter().filter(|verb| verb.role == Role::Auditor).map(|verb| verb.name).collect();
        assert_eq!(of_auditors, ["audit", "audit-verify", "report"]);
        assert!(VERBS.is_sorted_by_key(|verb| verb.name));
    }
}
