//! Records of an RDB file.

use super::input::{Input, Sums};
use super::{Pieces, RdbError, damaged, unknown};

/// Longest key that is taken, bytes. Redis takes up to 512 MiB; nobody browses those.
const LONGEST_KEY: u64 = 64 << 20;
/// Most databases of a file. Servers select each once; every one is counted in memory.
const MAX_DATABASES: u32 = 1 << 16;
/// Longest library of functions or remark of the file, bytes.
const LONGEST_TEXT: u64 = 64 << 20;

/// Opcodes, from `rdb.h`.
pub(super) mod op {
    pub(in super::super) const SLOT_INFO: u8 = 244;
    pub(in super::super) const FUNCTION: u8 = 245;
    pub(in super::super) const MODULE_AUX: u8 = 247;
    pub(in super::super) const IDLE: u8 = 248;
    pub(in super::super) const FREQ: u8 = 249;
    pub(in super::super) const AUX: u8 = 250;
    pub(in super::super) const RESIZE: u8 = 251;
    pub(in super::super) const EXPIRES_MS: u8 = 252;
    pub(in super::super) const EXPIRES: u8 = 253;
    pub(in super::super) const SELECT: u8 = 254;
    pub(in super::super) const END: u8 = 255;
    /// Above all types, and still not one of those that are known.
    pub(in super::super) const FIRST: u8 = 240;
}

/// Whose file it is: the same numbers mean different types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Flavour {
    /// Begins with `REDIS`: of Redis, Redict, and of Valkey before 9.
    Redis,
    /// Begins with `VALKEY`.
    Valkey,
}

/// What stands before a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Key {
    /// Number of the database.
    pub(in super::super) database: u32,
    /// Its name.
    pub(in super::super) name: Vec<u8>,
    /// Type of the value as the file says it.
    pub(in super::super) kind: u8,
    /// When it expires, in milliseconds since 1970.
    pub(in super::super) expires: Option<u64>,
    /// How long nobody has used it, in seconds, with LRU.
    pub(in super::super) idle: Option<u64>,
    /// How often it is used, a logarithm, with LFU.
    pub(in super::super) frequency: Option<u8>,
}

/// One thing in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Record {
    /// A remark: name and value.
    Remark(Vec<u8>, Vec<u8>),
    /// Source of a library of functions.
    Library(Vec<u8>),
    /// Data of a module that belongs to no key.
    ModuleData,
    /// A key: its value comes next, to be skipped or taken.
    Key(Key),
}

/// Reads a file.
#[derive(Debug)]
pub(in super::super) struct Parser<P> {
    input: Input<P>,
    /// Databases that were selected so far.
    selected: u32,
    begun: bool,
    flavour: Flavour,
    version: u16,
    next: Key,
    /// Type of the value that comes next.
    pending: Option<u8>,
    /// Memory for the next name.
    name: Vec<u8>,
    ended: bool,
}

impl<P: Pieces> Parser<P> {
    pub(in super::super) fn new(pieces: P) -> Self {
        Self {
            input: Input::new(pieces),
            selected: 0,
            begun: false,
            flavour: Flavour::Redis,
            version: 0,
            next: Key::default(),
            pending: None,
            name: Vec::new(),
            ended: false,
        }
    }

    /// Whose file it is, once a record was read.
    pub(in super::super) fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Version of the format.
    pub(in super::super) fn version(&self) -> u16 {
        self.version
    }

    /// How many bytes have been read.
    pub(in super::super) fn position(&self) -> u64 {
        self.input.position()
    }

    /// Reads the beginning. Called by [`Self::next`] if need be.
    pub(super) fn begin(&mut self) -> Result<(), RdbError> {
        self.begun = true;
        let head: [u8; 9] = self.input.array()?;
        let (flavour, digits) = match &head {
            [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (Flavour::Redis, &digits[..]),
            [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => (Flavour::Valkey, &digits[..]),
            _ => return Err(damaged("it does not begin like an RDB file")),
        };
        let version = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        self.version = version.ok_or_else(|| damaged("it has no version"))?;
        self.flavour = flavour;
        let known = match flavour {
            Flavour::Redis => 5..=12,
            Flavour::Valkey => 80..=80,
        };
        if known.contains(&self.version) {
            return Ok(());
        }
        Err(unknown(format!("the unknown RDB version {}", self.version)))
    }

    /// The next record; `None` behind the last one, when the checksum has been found right. A value
    /// that was not taken is skipped.
    pub(in super::super) fn next(&mut self) -> Result<Option<Record>, RdbError> {
        if !self.begun {
            self.begin()?;
        }
        self.skip_value()?;
        while !self.ended {
            let record = match self.input.byte()? {
                op::END => break,
                op::SELECT => {
                    self.selected += 1;
                    if self.selected > MAX_DATABASES {
                        return Err(damaged("it has more than 65536 databases"));
                    }
                    let number = self.input.number()?;
                    self.next.database = u32::try_from(number)
                        .map_err(|_| damaged("invalid number of a database"))?;
                    continue;
                }
                op::RESIZE => self.numbers(2)?,
                op::SLOT_INFO => self.numbers(3)?,
                op::EXPIRES => {
                    self.next.expires =
                        Some(u64::from(u32::from_le_bytes(self.input.array()?)) * 1000);
                    continue;
                }
                op::EXPIRES_MS => {
                    self.next.expires = Some(u64::from_le_bytes(self.input.array()?));
                    continue;
                }
                op::IDLE => {
                    self.next.idle = Some(self.input.number()?);
                    continue;
                }
                op::FREQ => {
                    self.next.frequency = Some(self.input.byte()?);
                    continue;
                }
                op::AUX => Some(self.remark()?),
                op::FUNCTION => Some(Record::Library(self.text()?)),
                op::MODULE_AUX => {
                    self.numbers(3)?;
                    self.input.module()?;
                    Some(Record::ModuleData)
                }
                opcode @ op::FIRST.. => {
                    return Err(unknown(format!("a record of the unknown kind {opcode}")));
                }
                kind => Some(self.key(kind)?),
            };
            if record.is_some() {
                return Ok(record);
            }
        }
        if !self.ended {
            self.ended = true;
            self.end()?;
        }
        Ok(None)
    }

    fn numbers(&mut self, count: usize) -> Result<Option<Record>, RdbError> {
        for _ in 0..count {
            self.input.number()?;
        }
        Ok(None)
    }

    fn text(&mut self) -> Result<Vec<u8>, RdbError> {
        let mut text = Vec::new();
        self.input.string(&mut text, LONGEST_TEXT)?;
        Ok(text)
    }

    fn remark(&mut self) -> Result<Record, RdbError> {
        Ok(Record::Remark(self.text()?, self.text()?))
    }

    fn key(&mut self, kind: u8) -> Result<Record, RdbError> {
        let mut name = std::mem::take(&mut self.name);
        self.input.string(&mut name, LONGEST_KEY)?;
        let next = Key { database: self.next.database, ..Key::default() };
        let key = Key { name, kind, ..std::mem::replace(&mut self.next, next) };
        self.pending = Some(kind);
        Ok(Record::Key(key))
    }

    /// Reads to the end of the value of the last key; says how many bytes it has in the file.
    pub(in super::super) fn skip_value(&mut self) -> Result<u64, RdbError> {
        let Some(kind) = self.pending.take() else { return Ok(0) };
        let from = self.input.position();
        self.input.value(kind, self.flavour)?;
        Ok(self.input.position() - from)
    }

    /// How many bytes the value of the last key has, and the value as it lies in the file if that
    /// is not more than `most`.
    pub(super) fn value(&mut self, most: usize) -> Result<(u64, Option<&[u8]>), RdbError> {
        self.input.begin_recording(most);
        let skipped = self.skip_value();
        let taken = self.input.end_recording();
        Ok((skipped?, taken))
    }

    /// Puts the value of the last key, as it lies in the file, behind what `out` holds; false, and
    /// `out` empty, if that would be more than `most` bytes. Says how many bytes the value has.
    pub(in super::super) fn take_value(
        &mut self,
        out: &mut Vec<u8>,
        most: usize,
    ) -> Result<(u64, bool), RdbError> {
        let (len, value) = self.value(most.saturating_sub(out.len()))?;
        match value {
            Some(value) => out.extend_from_slice(value),
            None => out.clear(),
        }
        Ok((len, value.is_some()))
    }

    /// Takes the memory of a key that is not needed any more.
    pub(in super::super) fn reuse(&mut self, key: Key) {
        self.name = key.name;
    }

    fn end(&mut self) -> Result<(), RdbError> {
        let from = self.input.position();
        let sums = self.input.finish()?;
        let len = self.input.position() - from;
        if len < 8 {
            return Err(RdbError::Truncated);
        }
        if len > 8 {
            return Err(damaged(format!("{} bytes follow its end", len - 8)));
        }
        sums.map_or(Err(RdbError::Truncated), require)
    }

    /// Reads what cannot be understood to its end, and checks the checksum.
    pub(super) fn drain(&mut self) -> Result<(), RdbError> {
        let sums = self.input.finish()?;
        sums.map_or(Err(RdbError::Truncated), require)
    }
}

/// Servers with `rdbchecksum no` write zero.
fn require(sums: Sums) -> Result<(), RdbError> {
    if sums.stored == 0 || sums.stored == sums.computed {
        return Ok(());
    }
    Err(damaged("its checksum is wrong"))
}
