//! Whether the chain is whole.

use crate::words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use backup_core::maintenance::Anchor;
use jiff::Timestamp;
use serde::Serialize;

use super::file::{Audit, Error};
use super::line::{Line, NOTHING};
use super::{Class, Record, retain};

/// Findings that are told: one may have thousands behind it.
const MAX_FINDINGS: usize = 50;

/// Something that is not as this program left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The line, counted from 1; none if it is about no line.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// What came of verifying a chain.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// The name of the chain.
    pub chain: Option<String>,
    /// Lines in the file.
    pub lines: u64,
    /// Records among them whose time was over.
    pub expired: u64,
    /// The hash of the last line.
    pub head: Option<String>,
    /// Anchors that the chain was compared with.
    pub anchors: u64,
    /// The number of the last record that an anchor vouches for.
    pub anchored: Option<u64>,
    /// What is wrong, at most 50 of them.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, line: Option<u64>, what: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { line, what: what.into() });
        }
    }
}

/// What is remembered while lines are read.
#[derive(Default)]
struct Seen {
    /// The sequence and the hash of the line before.
    last: Option<(u64, String)>,
    /// Records whose time is said to be over: line, class and time.
    expired: Vec<(u64, Class, Timestamp)>,
    /// Up to when records of a class were allowed to be removed, and by which line.
    allowed: Vec<(u64, Class, Timestamp)>,
    /// The same, where the policy of today does not allow it.
    too_much: Vec<(u64, Class, Timestamp)>,
    /// The hashes of records that anchors are about.
    hashes: BTreeMap<u64, String>,
}

/// What a chain is held against.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// How far chains had got.
    pub anchors: &'a [Anchor],
    /// The name of this host.
    pub host: &'a str,
    /// Before which moment records of a class may be removed; none of a class that is kept for
    /// ever. Unknown without a configuration.
    pub keep: Option<&'a BTreeMap<Class, Timestamp>>,
}

impl Audit {
    /// Reads the whole chain, and compares it with the anchors of this host and with how long
    /// records are kept. Blocks.
    ///
    /// # Errors
    /// [`Error::Place`]: what is wrong with the chain is no error, but in the verdict.
    pub fn verify(&self, against: Against<'_>) -> Result<Verdict, Error> {
        let mut verdict = self.verify_file(against)?;
        self.look_aside(against, &mut verdict)?;
        Ok(verdict)
    }

    fn verify_file(&self, against: Against<'_>) -> Result<Verdict, Error> {
        let Against { anchors, host, keep } = against;
        let mut verdict = Verdict::default();
        let mut seen = Seen::default();
        let chain = self.chain().ok().flatten();
        let own = anchors.iter().filter(|anchor| Some(&anchor.chain) == chain.as_ref());
        let wanted: BTreeSet<u64> = own.map(|anchor| anchor.sequence).collect();
        for line in self.lines()? {
            verdict.lines += 1;
            match line.map_err(|error| self.failed(error))? {
                None => verdict.find(Some(verdict.lines), "not a line of an audit log"),
                Some(line) => seen.look_at(line, &wanted, keep, &mut verdict),
            }
        }
        for (line, class, time) in std::mem::take(&mut seen.expired) {
            let allows = |(at, of, up_to): &(u64, Class, Timestamp)| {
                *at > line && *of == class && time < *up_to
            };
            if !seen.allowed.iter().any(allows) {
                verdict.find(
                    Some(line),
                    format!(
                        "the content of this record of {time:.0} was removed before its retention \
                         ended"
                    ),
                );
            }
        }
        for (line, class, cut_off) in std::mem::take(&mut seen.too_much) {
            let class = class.as_str();
            let what = format!(
                "this cleanup removed the content of {class} records up to {cut_off:.0}, beyond \
                 `[audit.keep]`; was the retention shorter then?"
            );
            verdict.find(Some(line), what);
        }
        verdict.head = seen.last.as_ref().map(|(_, hash)| hash.clone());
        self.compare(anchors, host, &seen, &mut verdict);
        Ok(verdict)
    }

    fn compare(&self, anchors: &[Anchor], host: &str, seen: &Seen, verdict: &mut Verdict) {
        let place = self.path().display().to_string();
        let last = seen.last.as_ref().map_or(0, |(sequence, _)| *sequence);
        let mut gone = BTreeMap::new();
        for anchor in anchors {
            if verdict.chain.as_ref() != Some(&anchor.chain) {
                // Names of hosts and directories change: only what was here can be missed here.
                if anchor.host == host && anchor.place == place {
                    gone.insert(&anchor.chain, anchor);
                }
                continue;
            }
            verdict.anchors += 1;
            verdict.anchored = verdict.anchored.max(Some(anchor.sequence));
            let (sequence, time) = (anchor.sequence, anchor.time);
            match seen.hashes.get(&sequence) {
                Some(hash) if *hash == anchor.hash => {}
                Some(_) => {
                    verdict.find(
                        None,
                        format!("record {sequence} or an earlier one was changed after {time:.0}"),
                    );
                }
                None if sequence > last => {
                    let what = format!(
                        "records {} to {sequence} existed at {time:.0}, and are missing",
                        last + 1
                    );
                    verdict.find(None, what);
                }
                None => verdict
                    .find(None, format!("record {sequence} existed at {time:.0}, and is missing")),
            }
        }
        let aside: Vec<Option<String>> =
            self.aside().iter().map(|audit| audit.chain().ok().flatten()).collect();
        let is_gone =
            |anchor: &&Anchor| !aside.iter().flatten().any(|chain| *chain == anchor.chain);
        for anchor in gone.into_values().filter(is_gone) {
            let (chain, time) = (&anchor.chain, anchor.time);
            let records = words::count(anchor.sequence, "record", "records");
            verdict.find(None, format!("chain {chain} had {records} at {time:.0}, and is missing"));
        }
    }

    /// Logs that were put aside because nothing could be added to them.
    fn aside(&self) -> Vec<Self> {
        let Some(entries) = self.path().parent().and_then(|dir| std::fs::read_dir(dir).ok()) else {
            return Vec::new();
        };
        let stem = self.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_aside = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&format!("{stem}.damaged-")))
        };
        let mut paths: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(is_aside).collect();
        paths.sort();
        paths.into_iter().map(Self::at).collect()
    }

    /// What was put aside is damaged, which stays a finding; whatever else is wrong with it is one
    /// too.
    fn look_aside(&self, against: Against<'_>, verdict: &mut Verdict) -> Result<(), Error> {
        for audit in self.aside() {
            let name = audit.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            let found = audit.verify_file(against)?;
            if found.is_sound() {
                verdict.find(
                    None,
                    format!("{name} was moved aside as damaged, but no fault was found in it"),
                );
            }
            for Finding { line, what } in found.findings {
                let at = line.map(|line| format!(", line {line}")).unwrap_or_default();
                verdict.find(None, format!("{name}{at}: {what}"));
            }
        }
        Ok(())
    }
}

impl Seen {
    fn look_at(
        &mut self,
        line: Line,
        wanted: &BTreeSet<u64>,
        keep: Option<&BTreeMap<Class, Timestamp>>,
        verdict: &mut Verdict,
    ) {
        let at = Some(verdict.lines);
        let (expected, previous) = match &self.last {
            None => (1, NOTHING),
            Some((sequence, hash)) => (sequence + 1, hash.as_str()),
        };
        if line.sequence != expected {
            verdict.find(at, format!("found record {}, expected record {expected}", line.sequence));
        } else if line.previous != previous {
            verdict.find(at, "the previous record is not the one that this record was chained to");
        }
        if line.computed().as_ref() != Some(&line.hash) {
            verdict.find(at, format!("record {} was changed", line.sequence));
        }
        if line.is_expired() {
            verdict.expired += 1;
            self.expired.push((verdict.lines, line.class, line.timestamp));
        }
        if wanted.contains(&line.sequence) {
            self.hashes.insert(line.sequence, line.hash.clone());
        }
        let is_first = self.last.is_none();
        self.last = Some((line.sequence, line.hash.clone()));
        let Some(record) = line.record() else { return };
        if is_first {
            verdict.chain = record.details.get("chain").cloned();
        }
        self.allow(verdict.lines, &record, keep);
    }

    /// Takes note of what was allowed to be removed.
    fn allow(&mut self, line: u64, record: &Record, keep: Option<&BTreeMap<Class, Timestamp>>) {
        if record.operation != retain::OPERATION {
            return;
        }
        for class in Class::ALL {
            let cut_off =
                record.details.get(class.as_str()).and_then(|text| text.parse::<Timestamp>().ok());
            // Nobody keeps records for less than nothing.
            if let Some(cut_off) = cut_off.filter(|cut_off| *cut_off < record.timestamp) {
                self.allowed.push((line, class, cut_off));
                // What was allowed then is allowed now: time goes on.
                if keep
                    .is_some_and(|keep| keep.get(&class).is_none_or(|allowed| cut_off > *allowed))
                {
                    self.too_much.push((line, class, cut_off));
                }
            }
        }
    }
}
