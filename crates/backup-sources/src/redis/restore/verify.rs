//! Reading restored keys back: what each of them says, and when it expires, must be what the dump
//! says.

use backup_core::event::WarningKind;
use backup_core::source::{RestoreReport, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use futures::future::try_join_all;

use super::super::backup::Channel;
use super::super::error::{GRANT_RESTORE, WireError, invalid, malformed};
use super::super::rdb::{
    Flavour, HASH, Key, Parser, RdbError, Record, content_hash, dump_parts, has_field_times,
    is_module, living_fields, reencode,
};
use super::super::wire::{RawConnection, Reply};
use super::Job;
use super::dumps::Dumps;
use super::lanes::{Batches, Lanes, Target};
use super::pipeline;
use super::plan::{Form, Plan, Refused, Way, format_of};

const DOING: &str = "cannot read back the restored keys";
/// Larger values are looked for, not compared: memory stays bounded.
const LARGEST: usize = 32 << 20;
/// Fields of hashes that expire within this time are not compared, milliseconds: some may do so
/// while others are read.
const FIELDS: u64 = 3_600_000;
/// How exact a remaining time is where servers do not tell the time itself, milliseconds: answers
/// wait in queues.
const TOLERANCE: u64 = 60_000;

/// What an answer should be.
enum Expected {
    /// Nothing of interest.
    Done,
    /// The value with this hash, without fields that expire up to then.
    Value { hash: u128, until: u64 },
    /// That there is one.
    Exists,
    /// The time at which it expires, of the key with this name; 0 for never.
    Expiry { name: String, bytes: u64, expires: u64, may_be_gone: bool },
}

/// Restored keys, compared with the snapshot.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    /// Bytes of the compared values.
    bytes: u64,
    /// Keys that the target lacks.
    pub(super) missing: u64,
    /// The first of them.
    first_missing: Option<String>,
    /// Keys of modules: they exist, and only their modules can compare the values.
    of_modules: u64,
}

impl ReadBack {
    /// Adds the result to the report. Up to `evicted` keys may be missing.
    ///
    /// # Errors
    /// [`SourceErrorKind::Mismatch`] if more are missing.
    pub(super) fn report(
        &self,
        job: &Job<'_>,
        evicted: u64,
        report: &mut RestoreReport,
    ) -> SourceResult<()> {
        if self.missing > evicted {
            return Err(differs(self.missing, self.first_missing.clone()));
        }
        report.verified_bytes = self.bytes;
        if self.of_modules > 0 {
            let keys = words::count(self.of_modules, "key of a module", "keys of modules");
            let text = format!("values not compared: {keys}, which exist at the target");
            job.cx.events.warn(WarningKind::Other, "", text);
            report.warnings += 1;
        }
        Ok(())
    }
}

fn differs(keys: u64, example: Option<String>) -> SourceError {
    let keys = words::count(keys, "restored key differs", "restored keys differ");
    let example = example.unwrap_or_default();
    let text = format!("{keys} from the snapshot, for instance {example}");
    SourceError::new(SourceErrorKind::Mismatch, text)
        .with_hint("check for other writers at the target")
}

/// Replies of one node.
#[derive(Default)]
struct Found {
    verified: u64,
    missing: u64,
    first_missing: Option<String>,
    different: u64,
    first: Option<String>,
    /// What the value was like, whose time is told next.
    value: Option<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Same,
    Other,
    Gone,
}

/// Compares all keys that were restored. Missing ones are counted, because the target may have
/// evicted them.
///
/// # Errors
/// [`SourceErrorKind::Mismatch`] if a key differs.
pub(super) async fn verify(
    job: &Job<'_>,
    plan: &Plan,
    target: &Target,
    refused: &Refused,
) -> SourceResult<ReadBack> {
    // The format of what is read back is that of the target.
    let (flavour, newest) =
        target.version().map_or((Flavour::Redis, 0), |version| format_of(&version));
    // Servers from 7 on tell the time itself.
    let exact = newest >= 10;
    let connections = target.pipelines().await?;
    let (lanes, ends) = target.lanes();
    let (dumps, own, refused) = (job.read_dumps(), plan.clone(), refused.clone());
    let reading =
        tokio::task::spawn_blocking(move || Asking { plan: own, refused, exact, lanes }.run(dumps));
    let each = connections
        .into_iter()
        .zip(ends)
        .map(|(connection, end)| compare(connection, end, plan, flavour, exact));
    let found = super::super::unless_cancelled(job.cx, try_join_all(each)).await?;
    let of_modules = reading
        .await
        .map_err(|_| invalid("the reader of the dump ended unexpectedly"))?
        .map_err(RdbError::into_source)?;
    let different: u64 = found.iter().map(|found| found.different).sum();
    let mut read_back = ReadBack { of_modules, ..ReadBack::default() };
    for one in &found {
        read_back.bytes += one.verified;
        read_back.missing += one.missing;
        read_back.first_missing = read_back.first_missing.take().or(one.first_missing.clone());
    }
    if different == 0 {
        return Ok(read_back);
    }
    let first = found.into_iter().find_map(|found| found.first);
    Err(differs(different + read_back.missing, first))
}

/// Compares what one node answers.
async fn compare(
    connection: RawConnection,
    batches: Batches<Expected>,
    plan: &Plan,
    flavour: Flavour,
    exact: bool,
) -> SourceResult<Found> {
    let mut found = Found::default();
    let compared = pipeline::run(connection, batches, DOING, |expected: Expected, reply| {
        if let Reply::Error(text) = reply {
            return Err(WireError::Server(text).into_source_granting(DOING, GRANT_RESTORE));
        }
        match expected {
            Expected::Done => Ok(()),
            Expected::Value { hash, until } => found.value(&reply, flavour, hash, until),
            Expected::Exists => {
                found.value =
                    Some(if reply.number() == Some(1) { Value::Same } else { Value::Gone });
                Ok(())
            }
            Expected::Expiry { name, bytes, expires, may_be_gone } => {
                let told = reply.number().ok_or_else(|| malformed("expiry of a key"))?;
                let gone = may_be_gone || expires > 0 && expires <= plan.now();
                let same = match u64::try_from(told) {
                    Ok(at) if exact => at == expires,
                    Ok(left) => {
                        expires > 0
                            && plan.now().saturating_add(left).abs_diff(expires) <= TOLERANCE
                    }
                    Err(_) => expires == 0 || told == -2,
                };
                found.end_of_key(name, bytes, same, gone);
                Ok(())
            }
        }
    });
    compared.await?;
    Ok(found)
}

impl Found {
    fn value(
        &mut self,
        reply: &Reply,
        flavour: Flavour,
        hash: u128,
        until: u64,
    ) -> SourceResult<()> {
        self.value = Some(match reply {
            Reply::Bulk(None) => Value::Gone,
            Reply::Bulk(Some(payload)) => {
                let hashed = dump_parts(payload)
                    .map(|(kind, value)| content_hash(kind, flavour, value, until));
                if hashed.is_some_and(|found| found.is_ok_and(|found| found == hash)) {
                    Value::Same
                } else {
                    Value::Other
                }
            }
            _ => return Err(malformed("reply to DUMP")),
        });
        Ok(())
    }

    fn end_of_key(&mut self, name: String, bytes: u64, same_time: bool, may_be_gone: bool) {
        let good = match self.value.take() {
            Some(Value::Same) => same_time || may_be_gone,
            Some(Value::Gone) if may_be_gone => true,
            Some(Value::Gone) => {
                self.missing += 1;
                self.first_missing.get_or_insert(name);
                return;
            }
            Some(Value::Other) | None => false,
        };
        if good {
            self.verified += bytes;
        } else {
            self.different += 1;
            self.first.get_or_insert(name);
        }
    }
}

/// Makes questions of a dump, on a thread of its own.
struct Asking {
    plan: Plan,
    refused: Refused,
    exact: bool,
    lanes: Lanes<Expected>,
}

impl Asking {
    /// Returns the number of keys whose values only a module can compare.
    fn run(mut self, mut dumps: Dumps) -> Result<u64, RdbError> {
        let mut of_modules = 0;
        while let Some(parser) = dumps.next()? {
            of_modules += self.read(parser)?;
        }
        self.lanes.send()?;
        Ok(of_modules)
    }

    fn read(&mut self, mut parser: Parser<Channel>) -> Result<u64, RdbError> {
        let mut of_modules = 0;
        let mut value = Vec::new();
        while let Some(record) = parser.next()? {
            let Record::Key(key) = record else { continue };
            let Way::To { database, name, expires } = self.plan.way(&key) else { continue };
            if self.refused.is_unplanned(key.database, &key.name) {
                continue;
            }
            value.clear();
            let (bytes, fits) = parser.take_value(&mut value, LARGEST)?;
            let (flavour, until) = (parser.flavour(), self.plan.now().saturating_add(FIELDS));
            let timed = has_field_times(key.kind, flavour);
            // Modules may store the same value as other bytes.
            let is_module = is_module(key.kind);
            of_modules += u64::from(is_module);
            let hash = match self.plan.form(key.kind) {
                _ if !fits || is_module => None,
                Some(Form::Hash { has_times: false }) => {
                    self.hash_without_times(&key, flavour, &value)?
                }
                _ => Self::hash(&key, flavour, &value, until)?,
            };
            let may_be_gone = timed
                && hash.is_some()
                && living_fields(key.kind, flavour, &value, until)
                    .is_ok_and(|(living, _)| living == 0);
            let lane = self.lanes.of(&name);
            lane.select(database, Expected::Done);
            let (question, expected, compared): (&[u8], _, _) = match hash {
                Some(hash) => (b"DUMP", Expected::Value { hash, until }, bytes),
                None => (b"EXISTS", Expected::Exists, 0),
            };
            lane.batch.push(&[question, &name], expected);
            let shown = format!(
                "{}/{}",
                key.database,
                String::from_utf8_lossy(&key.name[..key.name.len().min(200)])
            );
            let question: &[u8] = if self.exact { b"PEXPIRETIME" } else { b"PTTL" };
            let expected = Expected::Expiry { name: shown, bytes: compared, expires, may_be_gone };
            lane.batch.push(&[question, &name], expected);
            lane.send_if_full()?;
        }
        Ok(of_modules)
    }

    /// The hash of a value whose fields have lost their times; `None` if some expired during the
    /// restore.
    fn hash_without_times(
        &self,
        key: &Key,
        flavour: Flavour,
        value: &[u8],
    ) -> Result<Option<u128>, RdbError> {
        let at = |now| reencode((key.kind, flavour), HASH, value, now);
        let (then, now) = match (at(self.plan.began()), at(self.plan.now())) {
            (Ok(then), Ok(now)) => (then, now),
            (Err(RdbError::TooLarge), _) => return Ok(None),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        if then != now {
            return Ok(None);
        }
        content_hash(HASH, flavour, &now.value, 0).map(Some)
    }

    /// `None` for what expands to more than is held in memory.
    fn hash(
        key: &Key,
        flavour: Flavour,
        value: &[u8],
        until: u64,
    ) -> Result<Option<u128>, RdbError> {
        match content_hash(key.kind, flavour, value, until) {
            Ok(hash) => Ok(Some(hash)),
            Err(RdbError::TooLarge) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
