//! Lengths, numbers and strings of a value that lies in memory.

use std::borrow::Cow;

use super::input::{Length, integer};
use super::{RdbError, damaged, lzf};

/// Longest string that a compressed one may expand to here, bytes.
const LONGEST: u64 = 32 << 20;

/// So many times its bytes in the file a compressed string may have at most: three bytes of LZF
/// stand for up to 264.
const EXPANDS: u64 = 88;

pub(super) fn bad() -> RdbError {
    damaged("a value is damaged")
}

/// A value that lies in memory.
pub(super) struct Slice<'a>(pub(super) &'a [u8]);

impl<'a> Slice<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], RdbError> {
        let (taken, behind) = self.0.split_at_checked(len).ok_or_else(bad)?;
        self.0 = behind;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        self.take(N)?.try_into().map_err(|_| bad())
    }

    fn length(&mut self) -> Result<Length, RdbError> {
        let [first] = self.array()?;
        let low = u64::from(first & 0x3f);
        Ok(match first >> 6 {
            0 => Length::Plain(low),
            1 => Length::Plain(low << 8 | u64::from(self.array::<1>()?[0])),
            2 if first == 0x80 => Length::Plain(u32::from_be_bytes(self.array()?).into()),
            2 if first == 0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
            3 if low <= 2 => Length::Integer(1 << low),
            3 if low == 3 => Length::Compressed,
            _ => return Err(bad()),
        })
    }

    pub(super) fn number(&mut self) -> Result<u64, RdbError> {
        if let Length::Plain(number) = self.length()? { Ok(number) } else { Err(bad()) }
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, RdbError> {
        let sized = |len: u64| usize::try_from(len).map_err(|_| bad());
        Ok(match self.length()? {
            Length::Plain(len) => self.take(sized(len)?)?.into(),
            Length::Integer(size) => integer(self.take(size)?).to_string().into_bytes().into(),
            Length::Compressed => {
                let (packed, len) = (self.number()?, self.number()?);
                let packed = self.take(sized(packed)?)?;
                if len > LONGEST {
                    let is_possible = len / EXPANDS <= packed.len() as u64;
                    return Err(if is_possible { RdbError::TooLarge } else { bad() });
                }
                lzf::expand(packed, len).ok_or_else(bad)?.into()
            }
        })
    }

    pub(super) fn times(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<(), RdbError>,
    ) -> Result<(), RdbError> {
        for _ in 0..self.number()? {
            one(self)?;
        }
        Ok(())
    }
}
