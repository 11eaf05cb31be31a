//! Values in an older form, for servers that do not know the form of the dump.
//!
//! Packed lists, sets, sorted sets and hashes become lists of their elements, which every server
//! loads. Streams lose the counters that their older form does not have. The forms are those of
//! `rdb.c`.

use super::RdbError;
use super::content::{has_field_times, in_groups, score};
use super::packed;
use super::parser::Flavour;
use super::slice::{Slice, bad};
use super::value::kind;

/// Type of a hash without times.
pub(in super::super) const HASH: u8 = kind::HASH;

/// A value in an older form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Reencoded {
    pub(in super::super) value: Vec<u8>,
    /// Fields that expire, by their time in milliseconds since 1970.
    pub(in super::super) fields: Vec<(u64, Vec<u8>)>,
}

/// The older type for a value, if a server loads formats up to `newest`.
pub(in super::super) fn older_kind(kind: u8, flavour: Flavour, newest: u16) -> Option<u8> {
    match kind {
        kind::LIST_QUICKLIST_2 => Some(kind::LIST),
        kind::SET_LISTPACK => Some(kind::SET),
        kind::ZSET_LISTPACK => Some(kind::ZSET_2),
        kind::HASH_LISTPACK => Some(kind::HASH),
        kind::STREAM_3 if newest >= 10 => Some(kind::STREAM_2),
        kind::STREAM_2 | kind::STREAM_3 => Some(kind::STREAM),
        _ if has_field_times(kind, flavour) => Some(kind::HASH),
        _ => None,
    }
}

/// Whether streams lose counters in this form.
pub(in super::super) fn loses_counters(to: u8) -> bool {
    to == kind::STREAM
}

/// Writes a value of type `from` as one of type `to`, which [`older_kind`] has returned. Fields that
/// expire up to `now` are left out.
///
/// # Errors
/// The value is damaged, or a part of it is too large.
pub(in super::super) fn reencode(
    (from, flavour): (u8, Flavour),
    to: u8,
    value: &[u8],
    now: u64,
) -> Result<Reencoded, RdbError> {
    if matches!(to, kind::STREAM | kind::STREAM_2) {
        let value = Copier { from: Slice(value), out: Vec::new() }.stream(from, to)?;
        return Ok(Reencoded { value, fields: Vec::new() });
    }
    let (mut parts, mut fields) = (Parts::default(), Vec::new());
    let mut value = Slice(value);
    match from {
        kind::LIST_QUICKLIST_2 => value.times(|value| {
            // One large element as it is, or many packed ones.
            let (container, node) = (value.number()?, value.string()?);
            if container == 1 { parts.string(&node) } else { parts.listpack(&node) }
        })?,
        kind::SET_LISTPACK => parts.listpack(&value.string()?)?,
        kind::ZSET_LISTPACK => {
            let packed = value.string()?;
            let member = |[member, text]: [&[u8]; 2]| {
                let score = score(text)?;
                parts.string(member)?;
                parts.out.extend_from_slice(&score.to_le_bytes());
                Ok(())
            };
            in_groups::<2>(&packed, |bytes, one| packed::listpack(bytes, one), member)?;
        }
        kind::HASH_LISTPACK => {
            let packed = value.string()?;
            let field = |[field, content]: [&[u8]; 2]| {
                parts.field(field, content);
                Ok(())
            };
            in_groups::<2>(&packed, |bytes, one| packed::listpack(bytes, one), field)?;
        }
        _ if has_field_times(from, flavour) => {
            value.fields(from, flavour, &mut |field, content, expires| {
                if expires == 0 || expires > now {
                    parts.field(field, content);
                }
                if expires > now {
                    fields.push((expires, field.to_vec()));
                }
            })?;
        }
        _ => return Err(bad()),
    }
    Ok(Reencoded { value: parts.end(), fields })
}

/// Elements of a value, counted.
#[derive(Debug, Default)]
struct Parts {
    count: u64,
    out: Vec<u8>,
}

impl Parts {
    /// An element that counts.
    #[expect(clippy::unnecessary_wraps, reason = "as those that read one")]
    fn string(&mut self, bytes: &[u8]) -> Result<(), RdbError> {
        self.count += 1;
        append(&mut self.out, bytes);
        Ok(())
    }

    fn listpack(&mut self, packed: &[u8]) -> Result<(), RdbError> {
        packed::listpack(packed, |element| self.string(element))
    }

    /// A pair that counts as one.
    fn field(&mut self, field: &[u8], content: &[u8]) {
        self.count += 1;
        append(&mut self.out, field);
        append(&mut self.out, content);
    }

    fn end(self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.out.len() + 9);
        length(&mut value, self.count);
        value.extend_from_slice(&self.out);
        value
    }
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The longest form of a length is one as well; short ones save most of the bytes.
fn length(out: &mut Vec<u8>, len: u64) {
    match u8::try_from(len) {
        Ok(short @ 0..0x40) => out.push(short),
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// Copies the parts of a stream that the older form has.
struct Copier<'a> {
    from: Slice<'a>,
    out: Vec<u8>,
}

impl<'a> Copier<'a> {
    /// Copies the bytes that `read` takes.
    fn copy<T>(
        &mut self,
        read: impl FnOnce(&mut Slice<'a>) -> Result<T, RdbError>,
    ) -> Result<T, RdbError> {
        let before = self.from.0;
        let found = read(&mut self.from)?;
        self.out.extend_from_slice(&before[..before.len() - self.from.0.len()]);
        Ok(found)
    }

    fn number(&mut self) -> Result<u64, RdbError> {
        self.copy(Slice::number)
    }

    fn string(&mut self) -> Result<(), RdbError> {
        self.copy(|from| from.string().map(drop))
    }

    fn stream(mut self, from: u8, to: u8) -> Result<Vec<u8>, RdbError> {
        // Nodes: their first identifiers and entries.
        for _ in 0..self.number()? {
            self.string()?;
            self.string()?;
        }
        // Its length and the last identifier.
        for _ in 0..3 {
            self.number()?;
        }
        // The first identifier, the largest deleted one, and the number of entries ever added.
        for _ in 0..5 {
            if to == kind::STREAM {
                self.from.number()?;
            } else {
                self.number()?;
            }
        }
        for _ in 0..self.number()? {
            self.group(from, to)?;
        }
        if self.from.0.is_empty() { Ok(self.out) } else { Err(bad()) }
    }

    fn group(&mut self, from: u8, to: u8) -> Result<(), RdbError> {
        self.string()?;
        self.number()?;
        self.number()?;
        // How many entries it has read.
        if to == kind::STREAM {
            self.from.number()?;
        } else {
            self.number()?;
        }
        // Entries that were not acknowledged: identifier, time and number of deliveries.
        for _ in 0..self.number()? {
            self.copy(|from| from.take(16 + 8).map(drop))?;
            self.number()?;
        }
        for _ in 0..self.number()? {
            self.string()?;
            self.copy(|from| from.take(8).map(drop))?;
            if from == kind::STREAM_3 {
                // When it was last active.
                self.from.take(8)?;
            }
            for _ in 0..self.number()? {
                self.copy(|from| from.take(16).map(drop))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::content_hash;
    use super::*;

    fn same(from: u8, value: &[u8], newest: u16) {
        let to = older_kind(from, Flavour::Redis, newest).unwrap();
        let older = reencode((from, Flavour::Redis), to, value, 0).unwrap().value;
        let hash = |kind, value: &[u8]| content_hash(kind, Flavour::Redis, value, 0).unwrap();
        assert_eq!(hash(from, value), hash(to, &older), "{from} to {to}");
    }

    #[test]
    fn packed_values_keep_their_content() {
        // A listpack with the elements 5, -1, -2 and "ab".
        let pack =
            [20, 0, 0, 0, 4, 0, 5, 1, 0xdf, 0xff, 2, 0xf1, 0xfe, 0xff, 3, 0x82, b'a', b'b', 3, 255];
        let packed = [&[20][..], &pack].concat();
        same(kind::SET_LISTPACK, &packed, 9);
        same(kind::HASH_LISTPACK, &packed, 9);
        // One plain element, and a packed node.
        let list = [&[2, 1, 3, b'x', b'y', b'z', 2][..], &packed].concat();
        same(kind::LIST_QUICKLIST_2, &list, 9);
        // "ab" is no score.
        let to = kind::ZSET_2;
        assert!(reencode((kind::ZSET_LISTPACK, Flavour::Redis), to, &packed, 0).is_err());
    }

    #[test]
    fn fields_are_given_with_their_times() {
        // The first time is 100; three fields: one that never expires, one at 100, one at 104.
        let fields = [0, 1, b'a', 1, b'x', 1, 1, b'b', 1, b'y', 5, 1, b'c', 1, b'z'];
        let value = [&100_u64.to_le_bytes()[..], &[3], &fields].concat();
        let found = reencode((kind::HASH_METADATA, Flavour::Redis), kind::HASH, &value, 100);
        let expected = Reencoded {
            value: b"\x02\x01a\x01x\x01c\x01z".to_vec(),
            fields: vec![(104, b"c".to_vec())],
        };
        assert_eq!(found.unwrap(), expected);
    }
}
