//! Where the values of a configuration come from, and showing them with that.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::load::{LineIndex, LoadedConfig};
use crate::environment::Environment;

/// What stands for what may hold a secret.
const HIDDEN: &str = "…";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The line of its key, counted from 1.
    pub line: usize,
    /// Environment variables that are in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// Variables that are not set, so that their defaults are in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub defaults: Vec<String>,
}

/// Where values come from, by the names of their keys from section to key, joined by dots.
pub type Origins = BTreeMap<String, Origin>;

/// Where the values of `table`, which was read from `text`, come from; before references are
/// resolved.
pub(super) fn of(text: &str, table: &DeTable<'_>, env: &Environment) -> Origins {
    let (mut origins, lines) = (Origins::new(), LineIndex::new(text));
    leaves(table, &mut Vec::new(), &mut |path, key, value| {
        let (mut variables, mut defaults) = (Vec::new(), Vec::new());
        references(value.get_ref(), &mut |name| match env.get(name) {
            Some(_) => variables.push(name.to_owned()),
            None => defaults.push(name.to_owned()),
        });
        origins.insert(path.join("."), Origin { line: lines.line(key), variables, defaults });
    });
    origins
}

/// Calls `found` for every key that has a value, and no table, with its path and where it and its
/// value stand.
fn leaves<'a>(
    table: &DeTable<'a>,
    path: &mut Vec<String>,
    found: &mut impl FnMut(&[String], usize, &Spanned<DeValue<'a>>),
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        match value.get_ref().as_table() {
            Some(inner) => leaves(inner, path, found),
            None => found(path, key.span().start, value),
        }
        path.pop();
    }
}

/// Calls `found` for the variables that a value names. Shells expand commands themselves; whoever
/// looks at a value sees it.
fn references(value: &DeValue<'_>, found: &mut impl FnMut(&str)) {
    match value {
        DeValue::String(text) => {
            for (at, _) in text.match_indices("${") {
                let inner = text[at + 2..].split('}').next().unwrap_or_default();
                if !text[..at].ends_with('$') {
                    found(inner.split_once(":-").map_or(inner, |(name, _)| name));
                }
            }
        }
        DeValue::Array(items) => items.iter().for_each(|item| references(item.get_ref(), found)),
        DeValue::Table(table) => {
            table.iter().for_each(|(_, value)| references(value.get_ref(), found));
        }
        _ => {}
    }
}

impl LoadedConfig {
    /// The configuration as it may be shown: without what may hold a secret.
    #[must_use]
    pub fn shown(&self) -> super::Config {
        let mut config = self.config.clone();
        let hide = |command: &mut Option<String>| {
            if let Some(command) = command {
                HIDDEN.clone_into(command);
            }
        };
        config
            .repositories
            .values_mut()
            .for_each(|repository| hide(&mut repository.passphrase_command));
        config.sources.values_mut().for_each(|source| hide(&mut source.password_command));
        hide(&mut config.catalog.password_command);
        for channel in config.notify.values_mut() {
            [&mut channel.secret_command, &mut channel.command].into_iter().for_each(hide);
        }
        for hooks in config.jobs.values_mut().filter_map(|job| job.hooks.as_mut()) {
            let of_backup = [&mut hooks.before, &mut hooks.after, &mut hooks.on_failure];
            of_backup
                .into_iter()
                .chain([&mut hooks.before_restore, &mut hooks.after_restore])
                .for_each(hide);
        }
        config
    }

    /// The configuration as text again, without what may hold a secret; every value with where it
    /// comes from.
    ///
    /// # Errors
    /// The message of the serializer, which would be a bug in the types.
    pub fn to_toml(&self) -> Result<String, String> {
        let text = toml::to_string(&self.shown()).map_err(|error| error.to_string())?;
        let table = DeTable::parse(&text).map_err(|error| error.to_string())?;
        let (mut remarks, lines) = (BTreeMap::new(), LineIndex::new(&text));
        leaves(table.get_ref(), &mut Vec::new(), &mut |path, _, value| {
            if let Some(origin) = self.origins.get(&path.join(".")) {
                // Behind the value, which may have several lines.
                remarks.insert(lines.line(value.span().end.saturating_sub(1)), origin.to_string());
            }
        });
        let mut shown = String::with_capacity(text.len() * 2);
        for (number, line) in (1..).zip(text.lines()) {
            let written = match remarks.get(&number) {
                Some(remark) => writeln!(shown, "{line}  # {remark}"),
                None => writeln!(shown, "{line}"),
            };
            written.map_err(|error| error.to_string())?;
        }
        Ok(shown)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}", self.line)?;
        self.variables.iter().try_for_each(|name| write!(f, ", ${name}"))?;
        self.defaults.iter().try_for_each(|name| write!(f, ", default for ${name}"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::read;

    #[test]
    fn every_value_says_where_it_comes_from() {
        let text = r#"
[repositories.main]
url = "/${WHERE}/${WHO:-me}"
passphrase_command = "echo hush"

[sources.shop]
kind = "mongodb"
url = "mongodb://me:${SECRET}@db/"
password_command = "echo hush"

[jobs."a.b"]
source = "shop"
repository = "main"
exclude = ["*.${WHO:-me}", "$${WHERE}"]
keep = { daily = 7, weekly = 4 }
"#;
        let env = [("WHERE", "srv"), ("SECRET", "hush")].into_iter().collect();
        let loaded = read(text, Path::new("/etc/backup.toml"), &env).unwrap();
        let shown = loaded.to_toml().unwrap();
        assert!(!shown.contains("hush"), "{shown}");
        insta::assert_snapshot!(shown);
        // It is a configuration still.
        read(&shown, Path::new("/etc/backup.toml"), &env).unwrap();
    }
}
