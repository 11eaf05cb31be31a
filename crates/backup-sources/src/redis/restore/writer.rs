//! Commands of a dump: one RESTORE for each key.

use std::collections::BTreeMap;
use std::sync::Arc;

use backup_core::source::SourceError;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::backup::Channel;
use super::super::rdb::{
    Flavour, HASH, Key, Parser, RdbError, Record, frame, has_field_times, living_fields,
    loses_counters, oldest_version, reencode,
};
use super::dumps::Dumps;
use super::lanes::Lanes;
use super::pipeline::Batch;
use super::plan::{Form, Plan, Refused, Way, too_large};

/// A value of this size has a batch of its own, bytes;
const LARGE: usize = 256 << 10;
/// and so many bytes of such wait to be sent, or one that is larger.
const LARGE_WAITING: usize = 32 << 20;

/// What was read of the dump.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) expired: u64,
    pub(super) expired_fields: u64,
    pub(super) refused: Refused,
    pub(super) libraries: Vec<Vec<u8>>,
    /// Whether a module has stored data that belongs to no key.
    pub(super) has_module_data: bool,
    /// Streams in an older form, which lacks counters.
    pub(super) without_counters: u64,
    /// Hashes whose fields have lost their times.
    pub(super) without_field_times: u64,
}

/// Fields of a hash by the time at which they expire, in milliseconds since 1970.
type FieldTimes = BTreeMap<u64, Vec<Vec<u8>>>;

/// What a reply is about.
pub(super) enum About {
    Select,
    Key {
        database: u32,
        name: Vec<u8>,
        bytes: u64,
    },
    /// Times of fields of this key.
    FieldTimes {
        database: u32,
        name: Vec<u8>,
    },
}

/// Makes commands of a dump, on a thread of its own.
pub(super) struct Writer {
    plan: Plan,
    largest: usize,
    pub(super) lanes: Lanes<About>,
    /// Bytes of large values that may still wait.
    room: Arc<Semaphore>,
    pub(super) read: Read,
}

impl Writer {
    /// `largest` is what the target takes, bytes.
    pub(super) fn new(plan: Plan, largest: usize, lanes: Lanes<About>) -> Self {
        let room = Arc::new(Semaphore::new(LARGE_WAITING));
        Self { plan, largest, lanes, room, read: Read::default() }
    }

    /// Reads all dumps.
    pub(super) fn run(&mut self, mut dumps: Dumps) -> Result<(), RdbError> {
        while let Some(parser) = dumps.next()? {
            self.read(parser)?;
        }
        self.lanes.send()
    }

    fn read(&mut self, mut parser: Parser<Channel>) -> Result<(), RdbError> {
        let mut payload = Vec::new();
        while let Some(record) = parser.next()? {
            match record {
                // All nodes of a cluster have the same ones.
                Record::Library(library) if self.read.libraries.contains(&library) => {}
                Record::Library(library) => self.read.libraries.push(library),
                Record::ModuleData => self.read.has_module_data |= self.plan.is_whole(),
                Record::Remark(..) => {}
                Record::Key(key) => match self.plan.way(&key) {
                    Way::NotSelected => {}
                    Way::Expired => self.read.expired += 1,
                    Way::Refused(why) => self.read.refused.add(key.database, &key.name, why),
                    Way::To { database, name, expires } => {
                        self.send(&mut parser, &key, (database, &name, expires), &mut payload)?;
                        if payload.capacity() > LARGE_WAITING {
                            payload = Vec::new();
                        }
                    }
                },
            }
        }
        Ok(())
    }

    /// Sends the value of a key to its place. `payload` is memory to use.
    fn send(
        &mut self,
        parser: &mut Parser<Channel>,
        key: &Key,
        (database, name, expires): (u32, &[u8], u64),
        payload: &mut Vec<u8>,
    ) -> Result<(), RdbError> {
        payload.clear();
        payload.push(key.kind);
        let (_, fits) = parser.take_value(payload, self.largest.saturating_sub(10))?;
        if !fits {
            self.refuse(key, too_large(self.largest));
            return Ok(());
        }
        let flavour = parser.flavour();
        if !self.lives(key, flavour, &payload[1..])? {
            return Ok(());
        }
        let Some((kind, fields)) = self.convert(key, flavour, payload)? else { return Ok(()) };
        frame(payload, oldest_version(kind, flavour));
        let permit = self.make_room(payload.len())?;
        let lane = self.lanes.of(name);
        lane.select(database, About::Select);
        restore(&mut lane.batch, self.plan.merging, key, name, expires, payload);
        for (at, fields) in &fields {
            set_field_times(&mut lane.batch, key, name, *at, fields);
        }
        permit.into_iter().for_each(|permit| lane.batch.hold(permit));
        lane.send_if_full()
    }

    fn refuse(&mut self, key: &Key, why: impl Into<String>) {
        self.read.refused.add_unplanned(key.database, &key.name, why);
    }

    /// Gives `type | value` the form that the target loads; returns its type, and the fields that get
    /// their times by commands. `None` if the key is refused.
    fn convert(
        &mut self,
        key: &Key,
        flavour: Flavour,
        payload: &mut Vec<u8>,
    ) -> Result<Option<(u8, FieldTimes)>, RdbError> {
        let (to, has_times) = match self.plan.form(key.kind) {
            None | Some(Form::Stored) => return Ok(Some((key.kind, FieldTimes::new()))),
            Some(Form::Older { kind }) => (kind, false),
            Some(Form::Hash { has_times }) => (HASH, has_times),
        };
        let value = &payload[1..];
        let converted = match reencode((key.kind, flavour), to, value, self.plan.now()) {
            Ok(converted) if converted.value.len().saturating_add(11) > self.largest => {
                self.refuse(key, too_large(self.largest));
                return Ok(None);
            }
            Ok(converted) => converted,
            Err(RdbError::TooLarge) => {
                self.refuse(key, "the value is too large to be converted for the target");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.read.without_counters += u64::from(loses_counters(to));
        let mut fields = FieldTimes::new();
        if has_times {
            for (at, field) in converted.fields {
                fields.entry(at).or_default().push(field);
            }
        } else {
            self.read.without_field_times += u64::from(!converted.fields.is_empty());
        }
        payload.clear();
        payload.push(to);
        payload.extend_from_slice(&converted.value);
        Ok(Some((to, fields)))
    }

    /// Whether a hash has fields whose time has not come; servers do not take others.
    fn lives(&mut self, key: &Key, flavour: Flavour, value: &[u8]) -> Result<bool, RdbError> {
        if !has_field_times(key.kind, flavour) {
            return Ok(true);
        }
        match living_fields(key.kind, flavour, value, self.plan.now()) {
            Ok((0, _)) => self.read.expired += 1,
            Ok((_, expired)) => {
                self.read.expired_fields += expired;
                return Ok(true);
            }
            // What cannot be looked through is what the target decides about.
            Err(RdbError::TooLarge) => return Ok(true),
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    /// Waits until a large value may be kept beside those that are on their way.
    fn make_room(&mut self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, RdbError> {
        if bytes < LARGE {
            return Ok(None);
        }
        self.lanes.send()?;
        let permits = u32::try_from(bytes.min(LARGE_WAITING)).unwrap_or(u32::MAX);
        let waiting = Arc::clone(&self.room).acquire_many_owned(permits);
        let permit = Handle::current().block_on(waiting);
        permit.map(Some).map_err(|_| RdbError::Source(SourceError::cancelled()))
    }
}

fn restore(
    batch: &mut Batch<About>,
    merging: bool,
    key: &Key,
    name: &[u8],
    expires: u64,
    payload: &[u8],
) {
    let mut ttl = [0; 20];
    let ttl = decimal(expires, &mut ttl);
    let idle = key.idle.map(|idle| idle.to_string());
    let frequency = key.frequency.map(|frequency| frequency.to_string());
    let mut arguments: [&[u8]; 8] = [b"RESTORE", name, ttl, payload, b"ABSTTL", b"", b"", b""];
    let mut len = 5;
    if merging {
        arguments[len] = b"REPLACE";
        len += 1;
    }
    for (word, value) in [(&b"IDLETIME"[..], &idle), (b"FREQ", &frequency)] {
        if let Some(value) = value
            && len + 2 <= arguments.len()
        {
            (arguments[len], arguments[len + 1]) = (word, value.as_bytes());
            len += 2;
        }
    }
    let about =
        About::Key { database: key.database, name: key.name.clone(), bytes: payload.len() as u64 };
    batch.push(&arguments[..len], about);
}

/// Sets the time at which fields of a restored hash expire.
fn set_field_times(batch: &mut Batch<About>, key: &Key, name: &[u8], at: u64, fields: &[Vec<u8>]) {
    let (at, count) = (at.to_string(), fields.len().to_string());
    let mut arguments: Vec<&[u8]> =
        vec![b"HPEXPIREAT", name, at.as_bytes(), b"FIELDS", count.as_bytes()];
    arguments.extend(fields.iter().map(Vec::as_slice));
    let about = About::FieldTimes { database: key.database, name: key.name.clone() };
    batch.push(&arguments, about);
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
