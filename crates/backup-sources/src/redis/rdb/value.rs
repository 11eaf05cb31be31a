//! How long a value is, by its type: what has to be read to get behind it.

use super::input::Input;
use super::parser::Flavour;
use super::{Pieces, RdbError, damaged, unknown};

/// Types, from `rdb.h`.
pub(super) mod kind {
    pub(in super::super) const STRING: u8 = 0;
    pub(in super::super) const LIST: u8 = 1;
    pub(in super::super) const SET: u8 = 2;
    pub(in super::super) const ZSET: u8 = 3;
    pub(in super::super) const HASH: u8 = 4;
    pub(in super::super) const ZSET_2: u8 = 5;
    pub(in super::super) const MODULE_2: u8 = 7;
    pub(in super::super) const HASH_ZIPMAP: u8 = 9;
    pub(in super::super) const LIST_ZIPLIST: u8 = 10;
    pub(in super::super) const SET_INTSET: u8 = 11;
    pub(in super::super) const ZSET_ZIPLIST: u8 = 12;
    pub(in super::super) const HASH_ZIPLIST: u8 = 13;
    pub(in super::super) const LIST_QUICKLIST: u8 = 14;
    pub(in super::super) const STREAM: u8 = 15;
    pub(in super::super) const HASH_LISTPACK: u8 = 16;
    pub(in super::super) const ZSET_LISTPACK: u8 = 17;
    pub(in super::super) const LIST_QUICKLIST_2: u8 = 18;
    pub(in super::super) const STREAM_2: u8 = 19;
    pub(in super::super) const SET_LISTPACK: u8 = 20;
    pub(in super::super) const STREAM_3: u8 = 21;
    /// Of Valkey; Redis had something else under this number before 7.4 was released.
    pub(in super::super) const HASH_2: u8 = 22;
    /// Of Redis, as the next one.
    pub(in super::super) const HASH_METADATA: u8 = 24;
    pub(in super::super) const HASH_LISTPACK_EX: u8 = 25;
}

/// The word for a type, as the command TYPE answers.
pub(in super::super) fn type_name(kind: u8) -> &'static str {
    match kind {
        kind::STRING => "string",
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => "list",
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => "set",
        kind::ZSET | kind::ZSET_2 | kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => "zset",
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => "stream",
        kind::MODULE_2 => "module",
        _ => "hash",
    }
}

/// Whether a module has made it, without which no server loads it.
pub(in super::super) fn is_module(kind: u8) -> bool {
    kind == kind::MODULE_2
}

impl<P: Pieces> Input<P> {
    /// Reads to the end of a value.
    pub(super) fn value(&mut self, kind: u8, flavour: Flavour) -> Result<(), RdbError> {
        match kind {
            kind::STRING | kind::HASH_ZIPMAP..=kind::HASH_ZIPLIST => self.skip_string(),
            kind::HASH_LISTPACK | kind::ZSET_LISTPACK | kind::SET_LISTPACK => self.skip_string(),
            kind::LIST | kind::SET | kind::LIST_QUICKLIST => self.times(Self::skip_string),
            kind::HASH => self.times(|input| {
                input.skip_string()?;
                input.skip_string()
            }),
            kind::ZSET => self.times(|input| {
                input.skip_string()?;
                input.text_score()
            }),
            kind::ZSET_2 => self.times(|input| {
                input.skip_string()?;
                input.skip(8)
            }),
            kind::MODULE_2 => {
                self.number()?;
                self.module()
            }
            kind::LIST_QUICKLIST_2 => self.times(|input| {
                input.number()?;
                input.skip_string()
            }),
            kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => self.stream(kind),
            kind::HASH_2 if flavour == Flavour::Valkey => self.times(|input| {
                input.skip_string()?;
                input.skip_string()?;
                input.skip(8)
            }),
            kind::HASH_METADATA if flavour == Flavour::Redis => {
                self.skip(8)?;
                self.times(|input| {
                    input.number()?;
                    input.skip_string()?;
                    input.skip_string()
                })
            }
            kind::HASH_LISTPACK_EX if flavour == Flavour::Redis => {
                self.skip(8)?;
                self.skip_string()
            }
            _ => Err(unknown(format!("a value of the unknown type {kind}"))),
        }
    }

    /// A number of things, and so often what reads one.
    fn times(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<(), RdbError>,
    ) -> Result<(), RdbError> {
        for _ in 0..self.number()? {
            one(self)?;
        }
        Ok(())
    }

    /// A score as text, or a marker for what is no number.
    fn text_score(&mut self) -> Result<(), RdbError> {
        match self.byte()? {
            253..=255 => Ok(()),
            len => self.skip(len.into()),
        }
    }

    /// What a module has stored, to its marker of the end.
    pub(super) fn module(&mut self) -> Result<(), RdbError> {
        loop {
            match self.number()? {
                0 => return Ok(()),
                1 | 2 => _ = self.number()?,
                3 => self.skip(4)?,
                4 => self.skip(8)?,
                5 => self.skip_string()?,
                other => {
                    return Err(damaged(format!(
                        "a module value has a part of the unknown kind {other}"
                    )));
                }
            }
        }
    }

    fn stream(&mut self, kind: u8) -> Result<(), RdbError> {
        self.times(|input| {
            input.skip_string()?;
            input.skip_string()
        })?;
        // Length and last id; then first id, highest deleted id, number of entries ever added.
        for _ in 0..if kind == kind::STREAM { 3 } else { 8 } {
            self.number()?;
        }
        self.times(|input| {
            input.skip_string()?;
            // Last id delivered; how many entries were read.
            for _ in 0..if kind == kind::STREAM { 2 } else { 3 } {
                input.number()?;
            }
            input.times(|input| {
                input.skip(16 + 8)?;
                input.number()?;
                Ok(())
            })?;
            input.times(|input| {
                input.skip_string()?;
                // Seen; active.
                input.skip(if kind == kind::STREAM_3 { 16 } else { 8 })?;
                input.times(|input| input.skip(16))
            })
        })
    }
}
