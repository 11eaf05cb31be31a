//! Commands of a dump: one RESTORE for each key.

use std::sync::Arc;

use backup_core::source::SourceError;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::backup::Channel;
use super::super::rdb::{
    Flavour, Key, Parser, RdbError, Record, frame, has_field_times, living_fields, oldest_version,
};
use super::dumps::Dumps;
use super::lanes::Lanes;
use super::pipeline::Batch;
use super::plan::{Plan, Refused, Way, too_large};

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
}

/// What a reply is about.
pub(super) enum About {
    Select,
    Key { database: u32, name: Vec<u8>, bytes: u64 },
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
                        payload.clear();
                        payload.push(key.kind);
                        let (_, fits) =
                            parser.take_value(&mut payload, self.largest.saturating_sub(10))?;
                        if !fits {
                            self.read.refused.add_unplanned(
                                key.database,
                                &key.name,
                                too_large(self.largest),
                            );
                        } else if self.lives(&key, parser.flavour(), &payload[1..])? {
                            frame(&mut payload, oldest_version(key.kind, parser.flavour()));
                            let permit = self.make_room(payload.len())?;
                            let lane = self.lanes.of(&name);
                            lane.select(database, About::Select);
                            restore(
                                &mut lane.batch,
                                self.plan.merging,
                                &key,
                                &name,
                                expires,
                                &payload,
                            );
                            permit.into_iter().for_each(|permit| lane.batch.hold(permit));
                            lane.send_if_full()?;
                        }
                        if payload.capacity() > LARGE_WAITING {
                            payload = Vec::new();
                        }
                    }
                },
            }
        }
        Ok(())
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
