//! Which keys go where, and in which form.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::source::{IfExists, SourceResult};
use tokio::time::Instant;

use super::super::digest::path_of;
use super::super::error::{WireError, invalid};
use super::super::options::{RestoreOptions, Ttl};
use super::super::rdb::{Flavour, Key, has_field_times, is_module, older_kind, oldest_version};
use super::super::server::{self, Vendor, Version};
use super::super::wire::Client;
use super::Job;

/// Formats from this version on have fields of hashes that expire, and their servers HPEXPIREAT.
const FIELD_TIMES: u16 = 12;

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It is not asked for.
    NotSelected,
    /// Its time has come.
    Expired,
    /// It cannot be restored: why.
    Refused(String),
    /// It goes to this database, under this name, and expires then; milliseconds since 1970, 0 for
    /// never.
    To { database: u32, name: Vec<u8>, expires: u64 },
}

/// The form in which a value is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it lies in the dump.
    Stored,
    /// As a value of this older type.
    Older { kind: u8 },
    /// As a hash without times; its fields get their times by commands of their own, if they do.
    Hash { has_times: bool },
}

/// Decides about keys.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) options: RestoreOptions,
    selection: Option<backup_core::source::Selection>,
    /// Now, as the target's clock has it, and the moment of the snapshot, as that of its server had
    /// it; milliseconds since 1970.
    now: u64,
    then: u64,
    /// When it was asked.
    asked: Instant,
    flavour: Flavour,
    /// What the target understands, if its version is known.
    target: Option<(Flavour, u16)>,
    /// Whether it has loaded modules, as far as it tells.
    has_modules: bool,
    pub(super) merging: bool,
}

/// The newest version of the format that a server reads.
pub(super) fn format_of(version: &Version) -> (Flavour, u16) {
    match (version.vendor, version.major, version.minor) {
        (Vendor::Valkey, 9.., _) => (Flavour::Valkey, 80),
        (Vendor::Valkey, ..) => (Flavour::Redis, 11),
        (Vendor::Redis, ..6, _) | (Vendor::Redis, 6, _) => (Flavour::Redis, 9),
        (Vendor::Redis, 7, 0..2) => (Flavour::Redis, 10),
        // Redict and others that branched off call themselves so as well.
        (Vendor::Redis, 7, 2..4) => (Flavour::Redis, 11),
        (Vendor::Redis, ..) => (Flavour::Redis, 12),
    }
}

/// What the target's clock says, milliseconds since 1970; our own, if it does not tell.
pub(in super::super) async fn target_time(cx: &Context, client: &mut Client) -> SourceResult<u64> {
    match server::time(client).await {
        Ok(time) => Ok(time),
        Err(WireError::Server(text)) => {
            cx.events.note(format!(
                "the time of the target is unknown ({text}): the clock of this machine decides \
                 which keys have expired"
            ));
            Ok(millis(cx.clock.now()))
        }
        Err(error) => Err(error.into_source("cannot read the time of the target")),
    }
}

/// Milliseconds since 1970.
fn millis(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

impl Plan {
    /// `now` is what the target's clock says, milliseconds since 1970.
    pub(super) fn of(job: &Job<'_>, target: Option<&Version>, has_modules: bool, now: u64) -> Self {
        let selection = &job.request.selection;
        // The server's clock, by which its keys expire, may be another one than ours: it says the
        // second, and ours no more than where in it.
        let created = job
            .description
            .dump
            .remarks
            .get("ctime")
            .and_then(|seconds| seconds.parse::<u64>().ok());
        let created = created.map(|seconds| seconds.saturating_mul(1000));
        let own = millis(job.description.time);
        let then = created.map_or(own, |second| own.clamp(second, second.saturating_add(999)));
        Self {
            options: job.options.clone(),
            selection: (!selection.is_all()).then(|| selection.clone()),
            now,
            then,
            asked: Instant::now(),
            flavour: if job.description.dump.format == "valkey" {
                Flavour::Valkey
            } else {
                Flavour::Redis
            },
            target: target.map(format_of),
            has_modules,
            merging: job.request.if_exists == IfExists::Merge,
        }
    }

    /// Refuses mappings that make no sense: `used` are the databases with keys that are asked for.
    pub(super) fn check_mapping(
        &self,
        all: &BTreeSet<u32>,
        used: &BTreeSet<u32>,
    ) -> SourceResult<()> {
        if let Some((from, _)) = self.options.databases.iter().find(|(from, _)| !all.contains(from))
        {
            let there: Vec<_> = all.iter().map(u32::to_string).collect();
            return Err(invalid(format!("the snapshot has no database {from} to map"))
                .with_hint(format!("map only databases of the snapshot: {}", there.join(", "))));
        }
        let mut taken = BTreeSet::new();
        for database in used {
            if !taken.insert(self.database(*database)) {
                return Err(invalid("two databases would be restored into one")
                    .with_hint("map each of these databases to a different one"));
            }
        }
        Ok(())
    }

    /// What the target's clock says now.
    pub(super) fn now(&self) -> u64 {
        self.now.saturating_add(u64::try_from(self.asked.elapsed().as_millis()).unwrap_or(0))
    }

    /// The target's clock when the restore began.
    pub(super) fn began(&self) -> u64 {
        self.now
    }

    /// The database that one goes to.
    pub(super) fn database(&self, from: u32) -> u32 {
        let to = self.options.databases.iter().find(|(database, _)| *database == from);
        to.map_or(from, |(_, to)| *to)
    }

    pub(super) fn is_selected(&self, key: &Key) -> bool {
        self.selection.as_ref().is_none_or(|selection| selection.covers(&path_of(key)))
    }

    /// Whether everything is asked for.
    pub(super) fn is_whole(&self) -> bool {
        self.selection.is_none()
    }

    /// Whether libraries of functions are asked for that the target does not know.
    pub(super) fn refuses_libraries(&self) -> bool {
        let knows = self.target.is_none_or(|(_, newest)| newest >= 10);
        !knows && self.is_whole() && !self.options.without_functions
    }

    /// What becomes of a key.
    pub(super) fn way(&self, key: &Key) -> Way {
        if !self.is_selected(key) {
            return Way::NotSelected;
        }
        let expires = match (self.options.ttl, key.expires) {
            (_, None) => 0,
            (Ttl::Absolute, Some(at)) if at <= self.now => return Way::Expired,
            (Ttl::Absolute, Some(at)) => at,
            // Dumps hold keys whose time has come and that nobody has looked at since.
            (Ttl::Shifted | Ttl::Never, Some(at)) if at <= self.then => return Way::Expired,
            (Ttl::Shifted, Some(at)) => at.saturating_add(self.now).saturating_sub(self.then),
            (Ttl::Never, Some(_)) => 0,
        };
        if self.options.ttl != Ttl::Absolute && has_field_times(key.kind, self.flavour) {
            return Way::Refused("its fields expire at times that cannot be changed".to_owned());
        }
        if let Some(why) = self.refusal(key.kind) {
            return Way::Refused(why);
        }
        if self.renames() && self.form(key.kind) == Some(Form::Hash { has_times: true }) {
            // Its times would be set on another key of that name, if there is one.
            let why =
                "the target gets the times of its fields by commands, which excludes --rename";
            return Way::Refused(why.to_owned());
        }
        match self.name(&key.name) {
            Some(name) => Way::To { database: self.database(key.database), name, expires },
            None => Way::Refused(
                "a renamed key may get the same name: restore into an empty database".to_owned(),
            ),
        }
    }

    /// Why a type cannot be restored.
    fn refusal(&self, kind: u8) -> Option<String> {
        if is_module(kind) && !self.has_modules {
            return Some("it belongs to a module, but the target has loaded none".to_owned());
        }
        if self.form(kind).is_some() {
            return None;
        }
        Some(if has_field_times(kind, self.flavour) {
            "the target does not support fields that expire: --drop-field-ttls keeps them forever"
                .to_owned()
        } else {
            "the target does not support this type of value".to_owned()
        })
    }

    /// The form of a type of values for the target; `None` if it has none.
    pub(super) fn form(&self, kind: u8) -> Option<Form> {
        let Some((flavour, newest)) = self.target else { return Some(Form::Stored) };
        let needs = oldest_version(kind, self.flavour);
        // Up to 11 the formats are the same.
        let is_foreign = needs > 11 && flavour != self.flavour;
        if !is_foreign && needs <= newest {
            return Some(Form::Stored);
        }
        if has_field_times(kind, self.flavour) {
            let has_times = newest >= FIELD_TIMES;
            let possible = has_times || self.options.drops_field_times;
            return possible.then_some(Form::Hash { has_times });
        }
        older_kind(kind, self.flavour, newest).map(|kind| Form::Older { kind })
    }

    /// Whether the renaming rule, if there is one, matches a key.
    pub(super) fn matches_rule(&self, name: &[u8]) -> bool {
        let rule = self.options.rename_prefix.as_ref();
        rule.is_none_or(|(from, _)| name.starts_with(from.as_bytes()))
    }

    /// Whether two keys may get one name.
    pub(super) fn renames(&self) -> bool {
        self.options.rename_prefix.is_some()
    }

    /// The name it gets; `None` if another one may get it.
    pub(super) fn name(&self, name: &[u8]) -> Option<Vec<u8>> {
        let Some((from, to)) = &self.options.rename_prefix else { return Some(name.to_vec()) };
        match name.strip_prefix(from.as_bytes()) {
            Some(rest) => Some([to.as_bytes(), rest].concat()),
            // Elsewhere the target refuses a second key of a name; here it would replace the first.
            None if self.merging && name.starts_with(to.as_bytes()) => None,
            None => Some(name.to_vec()),
        }
    }
}

/// Why a value cannot go to a target that takes `largest` bytes.
pub(super) fn too_large(largest: usize) -> String {
    format!("the value is larger than the {largest} bytes that the target accepts")
}

/// What was not restored.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused {
    pub(super) count: u64,
    /// Hashes of those that were refused only when their value was there, by the target or for
    /// their size: it may have an older value under the name, or none.
    unplanned: HashSet<u64>,
    /// The first of them, with their reasons.
    pub(super) named: BTreeMap<String, String>,
}

impl Refused {
    /// Most that are named.
    const NAMED: usize = 100;
    /// Most that are refused against the plan: then it is not about single keys any more, and
    /// memory stays bounded.
    const UNPLANNED: usize = 1 << 18;

    pub(super) fn add(&mut self, database: u32, name: &[u8], why: impl Into<String>) {
        self.count += 1;
        if self.named.len() < Self::NAMED {
            let name = String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
            self.named.insert(format!("{database}/{name}"), why.into());
        }
    }

    /// The same, if that is not part of the plan.
    pub(super) fn add_unplanned(&mut self, database: u32, name: &[u8], why: impl Into<String>) {
        self.unplanned.insert(short_hash(database, name));
        self.add(database, name, why);
    }

    /// Whether so many were refused against the plan that there is no point in going on.
    pub(super) fn is_hopeless(&self) -> bool {
        self.unplanned.len() >= Self::UNPLANNED
    }

    /// Up to three of them, each with another reason.
    pub(super) fn examples(&self) -> String {
        let reasons: BTreeMap<&str, &str> =
            self.named.iter().map(|(name, why)| (&**why, &**name)).collect();
        let examples: Vec<String> =
            reasons.iter().take(3).map(|(why, name)| format!("{name}: {why}")).collect();
        examples.join("; ")
    }

    /// A warning for each that is named.
    pub(super) fn tell(&self, cx: &Context) {
        for (name, why) in &self.named {
            cx.events.warn(WarningKind::Other, name, why);
        }
    }

    /// Whether this one was refused against the plan.
    pub(super) fn is_unplanned(&self, database: u32, name: &[u8]) -> bool {
        self.unplanned.contains(&short_hash(database, name))
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.unplanned.extend(other.unplanned);
        self.named.extend(other.named);
        while self.named.len() > Self::NAMED {
            self.named.pop_last();
        }
    }
}

pub(super) fn short_hash(database: u32, name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (database, name).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(ttl: Ttl, databases: &[(u32, u32)]) -> Plan {
        Plan {
            options: RestoreOptions {
                ttl,
                databases: databases.to_vec(),
                ..RestoreOptions::default()
            },
            selection: None,
            now: 5000,
            then: 1000,
            asked: Instant::now(),
            flavour: Flavour::Redis,
            target: None,
            has_modules: false,
            merging: false,
        }
    }

    #[test]
    fn each_clock_decides_about_its_own_times() {
        let way = |ttl, at, kind| {
            let key = Key { name: b"k".to_vec(), kind, expires: Some(at), ..Key::default() };
            plan(ttl, &[]).way(&key)
        };
        let to = |expires| Way::To { database: 0, name: b"k".to_vec(), expires };
        for (ttl, at, expected) in [
            (Ttl::Absolute, 5000, Way::Expired),
            (Ttl::Absolute, 5001, to(5001)),
            (Ttl::Shifted, 1000, Way::Expired),
            (Ttl::Shifted, 1001, to(5001)),
            // It was dead already, and stays so.
            (Ttl::Never, 1000, Way::Expired),
            (Ttl::Never, 1001, to(0)),
        ] {
            assert_eq!(way(ttl, at, 0), expected, "{ttl:?} {at}");
        }
        // The target's clock is behind: still as long as it had to live.
        let behind = Plan { now: 500, ..plan(Ttl::Shifted, &[]) };
        let key = Key { name: b"k".to_vec(), expires: Some(1700), ..Key::default() };
        assert_eq!(behind.way(&key), to(1200));
        assert!(matches!(way(Ttl::Shifted, 9000, 25), Way::Refused(_)));
        assert_eq!(way(Ttl::Absolute, 9000, 25), to(9000));
    }

    #[test]
    fn mappings_are_checked_against_what_is_asked_for() {
        let set = |numbers: &[u32]| numbers.iter().copied().collect::<BTreeSet<_>>();
        let mapped = plan(Ttl::Absolute, &[(3, 0)]);
        assert!(mapped.check_mapping(&set(&[0, 3]), &set(&[3])).is_ok());
        assert!(mapped.check_mapping(&set(&[0, 3]), &set(&[0, 3])).is_err());
        assert!(
            mapped
                .check_mapping(&set(&[0, 2]), &set(&[0]))
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("0, 2")
        );
    }
}
