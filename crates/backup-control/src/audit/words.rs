//! What somebody typed, without secrets.

use crate::address;

/// The words of a command line as they may be recorded: addresses without what may be a password,
/// and neither commands that print pass phrases nor values of settings.
#[must_use]
pub fn without_secrets(words: &[String]) -> String {
    hiding(words, address::without_secrets).join(" ")
}

/// The same for whoever has typed them, one by one: what can be typed again as it is stays, the
/// users of servers for instance.
#[must_use]
pub fn without_passwords(words: &[String]) -> Vec<String> {
    hiding(words, address::without_password)
}

fn hiding(words: &[String], of_address: fn(&str) -> String) -> Vec<String> {
    let mut shown = Vec::new();
    let mut hides_next = None;
    for word in words {
        let (flag, value) = match word.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
            Some((flag, value)) => (Some(flag), value),
            None => (None, word.as_str()),
        };
        if let Some(kind) = hides_next.take() {
            shown.push(hidden(kind, value));
            continue;
        }
        match (flag, Kind::of(flag.unwrap_or(word.trim_start_matches('-')))) {
            (Some(flag), Some(kind)) => shown.push(format!("--{flag}={}", hidden(kind, value))),
            (Some(flag), None) => shown.push(format!("--{flag}={}", of_address(value))),
            (None, Some(kind)) if word.starts_with("--") => {
                hides_next = Some(kind);
                shown.push(word.clone());
            }
            (None, _) => shown.push(of_address(word)),
        }
    }
    shown
}

/// Flags whose values may hold secrets.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A command.
    Command,
    /// `name=value`.
    Setting,
}

impl Kind {
    fn of(flag: &str) -> Option<Self> {
        match flag {
            "set" => Some(Self::Setting),
            flag if flag.ends_with("command") => Some(Self::Command),
            _ => None,
        }
    }
}

fn hidden(kind: Kind, value: &str) -> String {
    match (kind, value.split_once('=')) {
        (Kind::Setting, Some((name, _))) => format!("{name}=…"),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_and_nothing_else() {
        for (typed, shown) in [
            ("run documents --tier daily", "run documents --tier daily"),
            (
                "run --source postgres://u:hush@h/db?x=hush -r s3://b/p",
                "run --source postgres://…@h/db?… -r s3://b/p",
            ),
            ("run --source=mongodb://u:hush@h/ --job=a", "run --source=mongodb://…@h/ --job=a"),
            ("check --password-command hush --quiet", "check --password-command … --quiet"),
            ("check --to-password-command=hush -q", "check --to-password-command=… -q"),
            ("restore x --set primary_conninfo=hush", "restore x --set primary_conninfo=…"),
            ("restore x --set=a=hush --at=1@2", "restore x --set=a=… --at=1@2"),
        ] {
            let words: Vec<String> = typed.split(' ').map(str::to_owned).collect();
            assert_eq!(without_secrets(&words), shown);
        }
    }

    #[test]
    fn whoever_typed_it_sees_what_can_be_typed_again() {
        for (typed, shown) in [
            (
                "restore 1a --target mongodb://me@h,i/?authSource=x",
                "restore 1a --target mongodb://me@h,i/?authSource=x",
            ),
            ("restore 1a --target=redis://me:hu:s@h@h/", "restore 1a --target=redis://me:…@h/"),
            (
                "restore 1a --target postgres://h/?password=hush",
                "restore 1a --target postgres://h/?…",
            ),
            ("restore 1a --target crm=redis://:hush@h", "restore 1a --target crm=redis://:…@h"),
            ("restore 1a --password-command hush", "restore 1a --password-command …"),
        ] {
            let words: Vec<String> = typed.split(' ').map(str::to_owned).collect();
            assert_eq!(without_passwords(&words).join(" "), shown);
        }
    }
}
