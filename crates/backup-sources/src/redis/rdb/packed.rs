//! Elements of listpacks, ziplists and intsets, as bytes: numbers are written out.

use super::input::integer;
use super::{RdbError, damaged};

fn bad() -> RdbError {
    damaged("a packed value is damaged")
}

/// Takes `len` bytes from the front.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], RdbError> {
    let (taken, behind) = rest.split_at_checked(len).ok_or_else(bad)?;
    *rest = behind;
    Ok(taken)
}

/// Calls `each` with the elements of a listpack (`listpack.c`).
pub(super) fn listpack(
    bytes: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), RdbError>,
) -> Result<(), RdbError> {
    let mut rest = bytes.get(6..).ok_or_else(bad)?;
    loop {
        let (before, first) = (rest.len(), take(&mut rest, 1)?[0]);
        let low = usize::from(first);
        let number =
            |rest: &mut &[u8], size| Ok::<_, RdbError>(integer(take(rest, size)?).to_string());
        match first {
            0..0x80 => each(first.to_string().as_bytes())?,
            0x80..0xc0 => each(take(&mut rest, low & 0x3f)?)?,
            0xc0..0xe0 => {
                let whole = (i64::from(first & 0x1f) << 8) | i64::from(take(&mut rest, 1)?[0]);
                let signed = if whole >= 1 << 12 { whole - (1 << 13) } else { whole };
                each(signed.to_string().as_bytes())?;
            }
            0xe0..0xf0 => {
                let len = (low & 0x0f) << 8 | usize::from(take(&mut rest, 1)?[0]);
                each(take(&mut rest, len)?)?;
            }
            0xf0 => {
                let len = take(&mut rest, 4)?
                    .iter()
                    .rev()
                    .fold(0, |len, byte| len << 8 | usize::from(*byte));
                each(take(&mut rest, len)?)?;
            }
            0xf1 => each(number(&mut rest, 2)?.as_bytes())?,
            0xf2 => each(number(&mut rest, 3)?.as_bytes())?,
            0xf3 => each(number(&mut rest, 4)?.as_bytes())?,
            0xf4 => each(number(&mut rest, 8)?.as_bytes())?,
            0xff => return Ok(()),
            _ => return Err(bad()),
        }
        // The length of the entry, for whoever reads backwards.
        let back = match before - rest.len() {
            0..128 => 1,
            128..16_383 => 2,
            16_383..2_097_151 => 3,
            2_097_151..268_435_455 => 4,
            _ => 5,
        };
        take(&mut rest, back)?;
    }
}

/// Calls `each` with the elements of a ziplist (`ziplist.c`).
pub(super) fn ziplist(
    bytes: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), RdbError>,
) -> Result<(), RdbError> {
    let mut rest = bytes.get(10..).ok_or_else(bad)?;
    loop {
        match take(&mut rest, 1)?[0] {
            0xff => return Ok(()),
            // The length of the entry before.
            0xfe => _ = take(&mut rest, 4)?,
            _ => {}
        }
        let first = take(&mut rest, 1)?[0];
        let size = match first {
            0..0x40 => {
                each(take(&mut rest, usize::from(first))?)?;
                continue;
            }
            0x40..0x80 => {
                let len = usize::from(first & 0x3f) << 8 | usize::from(take(&mut rest, 1)?[0]);
                each(take(&mut rest, len)?)?;
                continue;
            }
            0x80..0xc0 => {
                let len =
                    take(&mut rest, 4)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
                each(take(&mut rest, len)?)?;
                continue;
            }
            0xc0 => 2,
            0xd0 => 4,
            0xe0 => 8,
            0xf0 => 3,
            0xfe => 1,
            0xf1..=0xfd => {
                each(((first & 0x0f) - 1).to_string().as_bytes())?;
                continue;
            }
            _ => return Err(bad()),
        };
        each(integer(take(&mut rest, size)?).to_string().as_bytes())?;
    }
}

/// Calls `each` with the elements of an intset (`intset.c`).
pub(super) fn intset(
    bytes: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), RdbError>,
) -> Result<(), RdbError> {
    let size = match bytes.first_chunk::<4>().map(|size| u32::from_le_bytes(*size)) {
        Some(2) => 2,
        Some(4) => 4,
        Some(8) => 8,
        _ => return Err(bad()),
    };
    for number in bytes.get(8..).ok_or_else(bad)?.chunks_exact(size) {
        each(integer(number).to_string().as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = fn(&[u8], &mut dyn FnMut(&[u8]) -> Result<(), RdbError>) -> Result<(), RdbError>;

    fn elements(read: Read, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut each = |element: &[u8]| {
            found.push(String::from_utf8_lossy(element).into_owned());
            Ok(())
        };
        read(bytes, &mut each).unwrap();
        found
    }

    #[test]
    fn numbers_of_listpacks_have_signs() {
        // 7 bits, 13 bits (-1), 16 bits (-2), a string.
        let bytes =
            [0, 0, 0, 0, 0, 0, 5, 1, 0xdf, 0xff, 2, 0xf1, 0xfe, 0xff, 3, 0x82, b'a', b'b', 3, 0xff];
        assert_eq!(elements(|bytes, each| listpack(bytes, each), &bytes), ["5", "-1", "-2", "ab"]);
        assert!(listpack(&bytes[..18], |_| Ok(())).is_err());
    }

    #[test]
    fn ziplists_and_intsets() {
        let mut bytes = vec![0; 10];
        bytes.extend([0, 0x02, b'a', b'b', 4, 0xf4, 2, 0xfe, 0xff, 3, 0xc0, 0x00, 0x80, 0xff]);
        assert_eq!(
            elements(|bytes, each| ziplist(bytes, each), &bytes),
            ["ab", "3", "-1", "-32768"]
        );
        let bytes = [2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 1, 0];
        assert_eq!(elements(|bytes, each| intset(bytes, each), &bytes), ["-1", "1"]);
    }
}
