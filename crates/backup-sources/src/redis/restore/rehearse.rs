//! What a restore will meet: the dump and the commands behind it are read through before anything
//! of a target goes.
//!
//! What is missing or damaged in the repository is found here, and so is every key that the target
//! cannot have.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use backup_core::event::WarningKind;
use backup_core::source::{
    ExistingObject, PlannedObject, Removal, RestoreReport, SourceError, SourceErrorKind,
    SourceResult,
};
use backup_core::words;
use bytes::{Buf as _, BytesMut};

use super::super::backup::{Channel, database_name};
use super::super::error::{invalid, malformed};
use super::super::rdb::{Parser, RdbError, Record};
use super::super::wire::{Reply, parse_reply};
use super::Job;
use super::merged::Replays;
use super::plan::{Plan, Refused, Way, short_hash, too_large};
use crate::renaming::unmatched;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) keys: u64,
    /// Databases of the snapshot that have some of them.
    pub(super) databases: BTreeSet<u32>,
    /// Keys that are written, by database of the target.
    written: BTreeMap<u32, u64>,
    /// One of them: the database and the name it gets.
    pub(super) example: Option<(u32, Vec<u8>)>,
    /// Those of them whose time has come.
    expired: u64,
    refused: Refused,
    /// Whether a module has stored data that belongs to no key.
    has_module_data: bool,
    /// Hashes of the names that they get, where they get others.
    names: HashSet<u64>,
    /// Whether the dump was read for it.
    pub(super) is_read: bool,
    /// Whether the renaming rule matches some key, and names of keys that it does not match.
    is_renamed: bool,
    unrenamed: Vec<String>,
}

impl Found {
    /// Keys that are named if the renaming rule matches none.
    const NAMED: usize = 10;

    /// Everything, as it was recorded with the snapshot.
    pub(super) fn recorded(job: &Job<'_>, plan: &Plan) -> Self {
        let databases = &job.description.dump.databases;
        let biggest = job.description.dump.biggest.first();
        let example = biggest
            .and_then(|one| Some((plan.database(one.database), plan.name(one.key.as_bytes())?)));
        let keys = databases.values().map(|database| database.keys).sum();
        Self { keys, databases: databases.keys().copied().collect(), example, ..Self::default() }
    }

    /// Reads the dump to its end. `largest` is what the target takes, bytes.
    pub(super) async fn read(job: &Job<'_>, plan: &Plan, largest: usize) -> SourceResult<Self> {
        let (mut dumps, plan) = (job.read_dumps(), plan.clone());
        let reading = move || {
            let mut found = Self { is_read: true, ..Self::default() };
            while let Some(mut parser) = dumps.next()? {
                while let Some(record) = parser.next()? {
                    found.add(record, &mut parser, &plan, largest)?;
                }
            }
            Ok(found)
        };
        let found = tokio::task::spawn_blocking(reading)
            .await
            .map_err(|_| invalid("the reader of the dump ended unexpectedly"))?;
        found.map_err(RdbError::into_source)
    }

    fn add(
        &mut self,
        record: Record,
        parser: &mut Parser<Channel>,
        plan: &Plan,
        largest: usize,
    ) -> Result<(), RdbError> {
        let key = match record {
            Record::Key(key) if plan.is_selected(&key) => key,
            Record::ModuleData => {
                self.has_module_data |= plan.is_whole();
                return Ok(());
            }
            Record::Library(_) if plan.refuses_libraries() => {
                self.refused.add(0, b"", "function libraries, which the target does not support");
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.keys += 1;
        self.databases.insert(key.database);
        if self.example.is_none() {
            self.example = plan.name(&key.name).map(|name| (plan.database(key.database), name));
        }
        if plan.matches_rule(&key.name) {
            self.is_renamed = true;
        } else if self.unrenamed.len() < Self::NAMED {
            let name = &key.name[..key.name.len().min(200)];
            self.unrenamed.push(String::from_utf8_lossy(name).into_owned());
        }
        match plan.way(&key) {
            Way::NotSelected => {}
            Way::Expired => self.expired += 1,
            Way::Refused(why) => self.refused.add(key.database, &key.name, why),
            Way::To { database, name, .. } => {
                if plan.renames() && !self.names.insert(short_hash(database, &name)) {
                    self.refused.add(key.database, &key.name, "another key gets the same name");
                    return Ok(());
                }
                // Type, version and checksum come with it.
                if parser.skip_value()?.saturating_add(11) > largest as u64 {
                    self.refused.add(key.database, &key.name, too_large(largest));
                } else {
                    *self.written.entry(database).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    /// Refuses a renaming rule that matches no restored key: the keys would replace the originals.
    pub(super) fn require_renamed(&self, plan: &Plan) -> SourceResult<()> {
        match &plan.options.rename_prefix {
            Some((from, to)) if !self.is_renamed && self.keys > 0 => {
                let sides: BTreeSet<String> =
                    self.unrenamed.iter().filter_map(|name| prefix(name)).collect();
                let sides: Vec<String> = sides.into_iter().collect();
                Err(unmatched(&format!("{from}*={to}*"), &sides, &self.unrenamed))
            }
            _ => Ok(()),
        }
    }

    /// Refuses if something would be left out: nothing may be dropped for a part of what was asked
    /// for.
    pub(super) fn require_that_all_fit(&self) -> SourceResult<()> {
        require_any(self.keys, self.expired)?;
        if self.refused.count == 0 {
            return Ok(());
        }
        let text = format!(
            "the target cannot hold {} of the keys, so nothing at the target is dropped: {}",
            self.refused.count,
            self.refused.examples()
        );
        Err(SourceError::new(SourceErrorKind::Target, text).with_hint(
            "restore to a server of the same kind and version, or use --if-exists merge, which \
             leaves these keys out and reports them at the end",
        ))
    }

    /// The plan of a restore that drops `removed` keys. `there` are the keys of the target by
    /// database, and `everything` is true if all of them go.
    pub(super) fn foretold(
        &self,
        job: &Job<'_>,
        removed: u64,
        (there, everything): (&BTreeMap<u32, u64>, bool),
    ) -> SourceResult<RestoreReport> {
        let entries = self.keys.saturating_sub(self.expired).saturating_sub(self.refused.count);
        let mut report = RestoreReport {
            entries,
            removed,
            warnings: self.refused.count,
            objects: planned(&self.written, there),
            removals: if everything { removals(&self.written, there) } else { Vec::new() },
            ..RestoreReport::default()
        };
        self.refused.tell(job.cx);
        tell_module_data(job, self.has_module_data, &mut report);
        tell_expired(job, self.keys, self.expired, &mut report)?;
        Ok(report)
    }
}

/// The left side of a rule for keys that begin like `name`, up to the first separator.
fn prefix(name: &str) -> Option<String> {
    let at = name.find([':', '.', '/', '|', '-'])?;
    let prefix = &name[..=at];
    (!prefix.contains('*')).then(|| format!("{prefix}*"))
}

/// Databases that get keys (`written`), beside the keys of the target by database.
pub(super) fn planned(
    written: &BTreeMap<u32, u64>,
    there: &BTreeMap<u32, u64>,
) -> Vec<PlannedObject> {
    let object = |(number, keys): (&u32, &u64)| PlannedObject {
        kind: "database".to_owned(),
        name: database_name(*number),
        count: Some(*keys),
        existing: there
            .get(number)
            .map(|keys| ExistingObject { count: Some(*keys), estimate: None }),
    };
    written.iter().map(object).collect()
}

/// Databases of the target that lose all keys and get none.
pub(super) fn removals(written: &BTreeMap<u32, u64>, there: &BTreeMap<u32, u64>) -> Vec<Removal> {
    let lost = there.iter().filter(|(number, _)| !written.contains_key(number));
    let removal = |(number, keys): (&u32, &u64)| Removal {
        kind: "database".to_owned(),
        name: database_name(*number),
        count: Some(*keys),
        estimate: None,
    };
    lost.map(removal).collect()
}

/// That nothing is left of what was asked for is no success.
fn require_any(keys: u64, expired: u64) -> SourceResult<()> {
    if expired == 0 || expired < keys {
        return Ok(());
    }
    let keys = words::count(keys, "key has", "keys have");
    let text = format!("nothing is left to be restored: {keys} expired since the snapshot");
    Err(SourceError::new(SourceErrorKind::NotFound, text).with_hint(
        "restore key by key with --expiry shifted: keys then live as long from now as they had \
         left at the snapshot",
    ))
}

/// What has expired is left out; that little is left has to be seen.
pub(super) fn tell_expired(
    job: &Job<'_>,
    keys: u64,
    expired: u64,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    require_any(keys, expired)?;
    if expired == 0 {
        return Ok(());
    }
    let of = words::count(keys, "key", "keys");
    let text = format!("{expired} of {of} expired since the snapshot and left out");
    if expired > keys / 2 {
        job.cx.events.warn(
            WarningKind::Other,
            "",
            format!("{text}: --expiry shifted would keep them"),
        );
        report.warnings += 1;
    } else {
        job.cx.events.note(text);
    }
    Ok(())
}

/// Warns of data of modules that belongs to no key: RESTORE cannot write it.
pub(super) fn tell_module_data(job: &Job<'_>, has_some: bool, report: &mut RestoreReport) {
    if has_some {
        let text = "data of modules that belongs to no key is left out: a restore as a replica or \
                    into a directory keeps it";
        job.cx.events.warn(WarningKind::Other, "", text);
        report.warnings += 1;
    }
}

/// Reads all dumps that are sent as they are to their ends.
pub(super) async fn read_dumps(job: &Job<'_>) -> SourceResult<()> {
    for one in job.parts()? {
        read_dump(&one).await?;
    }
    Ok(())
}

async fn read_dump(job: &Job<'_>) -> SourceResult<()> {
    let mut pieces = job.read_dump();
    if job.description.dump.unknown.is_none() {
        let reading = move || {
            let mut parser = Parser::new(Channel(pieces));
            while parser.next()?.is_some() {}
            Ok(())
        };
        let read = tokio::task::spawn_blocking(reading)
            .await
            .map_err(|_| invalid("the reader of the dump ended unexpectedly"))?;
        return read.map_err(RdbError::into_source);
    }
    let mut len = 0;
    while let Some(piece) = pieces.recv().await.transpose()? {
        len += piece.len() as u64;
    }
    if len == job.dump.metadata.size {
        return Ok(());
    }
    Err(SourceError::new(SourceErrorKind::Mismatch, "the snapshot does not hold the whole dump"))
}

/// Reads the commands to their end; returns the databases that they use.
pub(super) async fn read_commands(job: &Job<'_>) -> SourceResult<BTreeSet<u32>> {
    let (mut replay, mut used) = (Replays::of(job).await?, BTreeSet::new());
    while let Some(bytes) = replay.next().await? {
        job.cx.check_cancelled()?;
        let mut bytes = BytesMut::from(bytes);
        loop {
            while bytes.first().is_some_and(u8::is_ascii_whitespace) {
                bytes.advance(1);
            }
            if bytes.is_empty() {
                break;
            }
            let command =
                parse_reply(&mut bytes)?.ok_or_else(|| malformed("replication stream"))?;
            if job.dumps.len() > 1 {
                require_of_some_keys(command.parts())?;
            }
            used.extend(databases_of(command.parts()));
        }
    }
    Ok(used)
}

/// What empties one master of a cluster would empty all of them, where they become one server.
fn require_of_some_keys(words: &[Reply]) -> SourceResult<()> {
    let name = words.first().and_then(Reply::text).unwrap_or_default().to_ascii_uppercase();
    if !["FLUSHALL", "FLUSHDB", "SWAPDB"].contains(&&*name) {
        return Ok(());
    }
    let text = format!(
        "the commands of a master contain {name}, by which a single server would lose the keys of \
         other masters"
    );
    Err(SourceError::new(SourceErrorKind::Unsupported, text)
        .with_hint("restore into a directory with files for one server per master"))
}

/// The databases that a command names.
fn databases_of(words: &[Reply]) -> Vec<u32> {
    let number = |at: usize| {
        words.get(at).and_then(Reply::number).and_then(|number| u32::try_from(number).ok())
    };
    let name = words.first().and_then(Reply::text).unwrap_or_default().to_ascii_uppercase();
    let found = match &*name {
        "SELECT" => vec![number(1)],
        "SWAPDB" => vec![number(1), number(2)],
        "MOVE" => vec![number(2)],
        "COPY" => {
            let is_db =
                |word: &Reply| word.text().is_some_and(|text| text.eq_ignore_ascii_case("DB"));
            vec![words.iter().skip(3).position(is_db).and_then(|at| number(at + 4))]
        }
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::push_command;
    use super::*;

    #[test]
    fn databases_of_commands_are_found() {
        for (words, expected) in [
            (&["select", "20"][..], &[20][..]),
            (&["SWAPDB", "3", "17"], &[3, 17]),
            (&["MOVE", "7", "9"], &[9]),
            (&["COPY", "a", "DB", "REPLACE"], &[]),
            (&["COPY", "a", "b", "REPLACE", "DB", "12"], &[12]),
            (&["SET", "SELECT", "4"], &[]),
        ] {
            let mut command = Vec::new();
            push_command(&mut command, words);
            let parsed = parse_reply(&mut BytesMut::from(&command[..])).unwrap().unwrap();
            assert_eq!(databases_of(parsed.parts()), expected, "{words:?}");
        }
    }
}
