//! All mistakes of a configuration, in the order of the file.
//!
//! A parser stops at the first mistake, and so does a check. Each mistake is noted, the key that it
//! is about is removed, and the rest is read again. A section that was changed in this way is not
//! complete: mistakes that may follow from a removed key are not reported.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::interpolate::Refused;
use super::load::{Lines, Source};
use super::validate::{self, Mistake};
use super::{Config, tables, tilde};
use crate::error::ConfigError;

/// Mistakes that are collected at most.
const MOST: usize = 100;
/// Sections that hold one table for each name.
const NAMED: [&str; 7] =
    ["repositories", "sources", "jobs", "groups", "servers", "alerts", "notify"];

/// Collects mistakes while their keys are removed from a table.
pub(super) struct Collector<'a> {
    source: Source<'a>,
    /// The table as it was read, for the lines of mistakes.
    lines: Lines<'a>,
    table: Spanned<DeTable<'a>>,
    found: Vec<ConfigError>,
    /// Sections with a value that could not be read: checks of these may be wrong.
    unread: BTreeSet<Vec<String>>,
    /// Keys that were removed.
    removed: BTreeSet<Vec<String>>,
    /// Names of sections that were removed.
    gone: BTreeSet<String>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(source: Source<'a>, table: Spanned<DeTable<'a>>) -> Self {
        Self {
            lines: Lines::new(source, table.clone()),
            source,
            table,
            found: Vec::new(),
            unread: BTreeSet::new(),
            removed: BTreeSet::new(),
            gone: BTreeSet::new(),
        }
    }

    /// Notes values that are refused before they are read.
    pub(super) fn refused(&mut self, refused: Vec<Refused>) {
        for one in refused {
            let path = path_at(self.table.get_ref(), &one.span);
            self.found.push(self.source.of_value(one));
            if let Some(path) = path {
                self.unread.insert(section(&path));
                self.remove(&path);
            }
        }
    }

    /// Reads and checks the rest of the table until no mistake is found. `finish` completes the
    /// configuration before it is checked.
    ///
    /// # Errors
    /// The first mistake of the file, with all others.
    pub(super) fn read(
        mut self,
        finish: impl Fn(&mut Config) -> Result<(), ConfigError>,
    ) -> Result<Config, ConfigError> {
        self.refused(tilde::refuse(self.table.get_ref()));
        self.refused(tables::refuse(self.table.get_ref()));
        while self.found.len() < MOST {
            let mut config = match Config::deserialize(Deserializer::from(self.table.clone())) {
                Ok(config) => config,
                Err(error) if self.unreadable(&error) => continue,
                Err(_) => break,
            };
            finish(&mut config)?;
            match validate::config(&config) {
                Ok(()) if self.found.is_empty() => return Ok(config),
                Ok(()) => break,
                Err(mistake) if self.wrong(&mistake) => {}
                Err(_) => break,
            }
        }
        Err(self.first())
    }

    /// Notes an error of the parser; false if nothing can be removed for it.
    fn unreadable(&mut self, error: &toml::de::Error) -> bool {
        let path = error.span().and_then(|span| path_at(self.table.get_ref(), &span));
        let Some(path) = path else {
            self.found.push(self.source.of_parser(error));
            return false;
        };
        let section = section(&path);
        // A key that is missing now may be one that was removed.
        let follows = path == section && self.removed.iter().any(|key| key.starts_with(&section));
        if !follows {
            self.found.push(self.source.of_parser(error));
        }
        self.unread.insert(section);
        self.remove(&path);
        true
    }

    /// Notes a mistake of the check, and removes its key; false if there is nothing to remove.
    fn wrong(&mut self, mistake: &Mistake) -> bool {
        let at: Vec<String> = mistake.at.iter().filter(|key| !key.is_empty()).cloned().collect();
        let section = section(&at);
        let names = |name: &String| mistake.message.contains(&format!("`{name}`"));
        let has = self.has(&at);
        // The keys of a source depend on others, such as `kind` and `method`.
        let depends = !has || section.first().is_some_and(|first| first == "sources");
        let follows = self.unread.contains(&section) && depends
            || self.removed.iter().any(|key| key.starts_with(&at) || is_detail(key, &at))
            || mistake.message.starts_with("there is no ") && self.gone.iter().any(names);
        if !follows {
            let line = self.lines.of(&at);
            let error = ConfigError::new(self.source.file, mistake.message.clone())
                .at_line(line)
                .with_hint(mistake.hint.clone());
            self.found.push(error);
        }
        let path = if has { at } else { section };
        let is_there = self.has(&path);
        self.remove(&path);
        is_there
    }

    fn has(&self, path: &[String]) -> bool {
        let mut table = self.table.get_ref();
        for (at, name) in path.iter().enumerate() {
            let Some((_, value)) = table.get_key_value(name.as_str()) else { return false };
            match value.get_ref().as_table() {
                Some(inner) => table = inner,
                None => return at + 1 == path.len(),
            }
        }
        !path.is_empty()
    }

    /// Removes the key at the end of `path`, or the last one on the way that exists.
    fn remove(&mut self, path: &[String]) {
        let section = section(path);
        self.removed.insert(path.to_vec());
        if path == section {
            self.gone.extend(path.last().cloned());
        }
        remove(self.table.get_mut(), path);
    }

    /// The first mistake of the file, with the others behind it.
    fn first(mut self) -> ConfigError {
        self.found.sort_by_key(|error| error.line);
        let mut all = self.found.into_iter();
        let first = all.next();
        let first = first.unwrap_or_else(|| ConfigError::new(self.source.file, "cannot be read"));
        ConfigError { others: all.collect(), ..first }
    }
}

/// The section of a key: `[jobs.NAME]`, or `[schedule]`.
fn section(path: &[String]) -> Vec<String> {
    let is_named = path.first().is_some_and(|first| NAMED.contains(&first.as_str()));
    path.iter().take(if is_named { 2 } else { 1 }).cloned().collect()
}

/// Returns `true` for a key such as `report_to`, beside `report`.
fn is_detail(key: &[String], of: &[String]) -> bool {
    match (key.split_last(), of.split_last()) {
        (Some((key, beside)), Some((of, section))) => {
            beside == section && key.strip_prefix(of).is_some_and(|rest| rest.starts_with('_'))
        }
        _ => false,
    }
}

fn remove(table: &mut DeTable<'_>, path: &[String]) {
    let Some((name, rest)) = path.split_first() else { return };
    if let Some(value) = table.get_mut(name.as_str())
        && !rest.is_empty()
        && let DeValue::Table(inner) = value.get_mut()
    {
        remove(inner, rest);
        return;
    }
    table.remove(name.as_str());
}

/// The path of the innermost key at which something that spans these bytes is written.
fn path_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    let covers = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table {
        let name = key.get_ref().to_string();
        if let Some(mut path) = value.get_ref().as_table().and_then(|inner| path_at(inner, span)) {
            path.insert(0, name);
            return Some(path);
        }
        if covers(&key.span()) || covers(&value.span()) {
            return Some(vec![name]);
        }
    }
    None
}
