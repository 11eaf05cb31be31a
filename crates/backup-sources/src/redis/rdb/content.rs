//! What a value says, whatever its encoding and wherever its elements lie: the same after it was
//! restored by another server.
//!
//! Lists and streams are hashed in their order; elements of sets, hashes and sorted sets one by
//! one, and their hashes added. Left out is what servers add or forget: when consumers of a stream
//! were seen, counters that older formats do not have.

use super::parser::{Flavour, Key};
use super::slice::{Slice, bad};
use super::sums::{Sequence, hash};
use super::value::{kind, type_name};
use super::{RdbError, packed, unknown};

/// The hash of a value, without fields whose time comes up to `until`; milliseconds since 1970.
pub(in super::super) fn content_hash(
    kind: u8,
    flavour: Flavour,
    value: &[u8],
    until: u64,
) -> Result<u128, RdbError> {
    let mut content = Content { until, ..Content::default() };
    content.add(kind, flavour, value)?;
    Ok(content.take().0)
}

/// Whether fields of such a value may have times of their own.
pub(in super::super) fn has_field_times(kind: u8, flavour: Flavour) -> bool {
    matches!(
        (kind, flavour),
        (kind::HASH_METADATA | kind::HASH_LISTPACK_EX, _) | (kind::HASH_2, Flavour::Valkey)
    )
}

/// How many fields such a value has whose time comes later than `until` or never, and how many
/// others.
pub(in super::super) fn living_fields(
    kind: u8,
    flavour: Flavour,
    value: &[u8],
    until: u64,
) -> Result<(u64, u64), RdbError> {
    let (mut living, mut expired) = (0, 0);
    Slice(value).fields(kind, flavour, &mut |_, _, expires| {
        let count = if expires != 0 && expires <= until { &mut expired } else { &mut living };
        *count += 1;
    })?;
    Ok((living, expired))
}

/// What is being hashed; used again and again.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    sequence: Sequence,
    /// One thing of those without an order.
    thing: Sequence,
    /// Bytes of names, elements and fields.
    bytes: u64,
    /// Fields whose time comes up to here are left out; milliseconds since 1970.
    until: u64,
}

impl Content {
    /// Begins anew, with name and time of a key.
    pub(super) fn begin(&mut self, key: &Key) {
        self.take();
        self.element(&key.name);
        self.sequence.number(key.expires.unwrap_or(0));
    }

    /// Adds the type of a value alone.
    pub(super) fn add_type(&mut self, kind: u8) {
        self.sequence.element(type_name(kind).as_bytes());
    }

    /// Adds a value.
    pub(super) fn add(&mut self, kind: u8, flavour: Flavour, value: &[u8]) -> Result<(), RdbError> {
        self.add_type(kind);
        add_content(self, kind, flavour, &mut Slice(value))
    }

    /// The hash of all, and how many bytes that was.
    pub(super) fn take(&mut self) -> (u128, u64) {
        (self.sequence.take(), std::mem::take(&mut self.bytes))
    }

    fn element(&mut self, element: &[u8]) {
        self.sequence.element(element);
        self.bytes += element.len() as u64;
    }
}

fn add_content(
    content: &mut Content,
    kind: u8,
    flavour: Flavour,
    value: &mut Slice<'_>,
) -> Result<(), RdbError> {
    let mut element = |element: &[u8]| {
        content.element(element);
        Ok(())
    };
    match kind {
        kind::STRING => element(&value.string()?),
        kind::LIST => value.times(|value| element(&value.string()?)),
        kind::LIST_ZIPLIST => packed::ziplist(&value.string()?, element),
        kind::LIST_QUICKLIST => {
            value.times(|value| packed::ziplist(&value.string()?, &mut element))
        }
        kind::LIST_QUICKLIST_2 => value.times(|value| {
            // One large element as it is, or many packed ones.
            let (container, node) = (value.number()?, value.string()?);
            if container == 1 { element(&node) } else { packed::listpack(&node, &mut element) }
        }),
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => value.stream(content, kind),
        kind::MODULE_2 | kind::HASH_ZIPMAP => element(value.0),
        _ => {
            let mut bag = Bag { sum: 0, bytes: 0, thing: &mut content.thing };
            value.bag(&mut bag, kind, flavour, content.until)?;
            content.sequence.element(&bag.sum.to_le_bytes());
            content.bytes += bag.bytes;
            Ok(())
        }
    }
}

/// Things without an order.
struct Bag<'a> {
    /// Of their hashes.
    sum: u128,
    /// Bytes that they have.
    bytes: u64,
    thing: &'a mut Sequence,
}

impl Bag<'_> {
    fn add(&mut self, hash: u128, bytes: usize) {
        self.sum = self.sum.wrapping_add(hash);
        self.bytes += bytes as u64;
    }

    fn member(&mut self, member: &[u8]) {
        self.add(hash(member), member.len());
    }

    fn scored(&mut self, member: &[u8], score: f64) {
        // Of the two zeros either may be kept.
        let score = if score == 0.0 { 0.0 } else { score };
        self.thing.number(score.to_bits());
        self.thing.element(member);
        let hash = self.thing.take();
        self.add(hash, member.len());
    }

    fn field(&mut self, field: &[u8], value: &[u8], expires: u64) {
        self.thing.number(expires);
        self.thing.element(field);
        self.thing.element(value);
        let hash = self.thing.take();
        self.add(hash, field.len() + value.len());
    }
}

/// Takes a field, its value and its time.
type OneField<'a> = dyn FnMut(&[u8], &[u8], u64) + 'a;

impl Slice<'_> {
    /// Sets, sorted sets and hashes.
    fn bag(
        &mut self,
        bag: &mut Bag<'_>,
        kind: u8,
        flavour: Flavour,
        until: u64,
    ) -> Result<(), RdbError> {
        let mut member = |member: &[u8]| {
            bag.member(member);
            Ok(())
        };
        match kind {
            kind::SET => self.times(|value| member(&value.string()?)),
            kind::SET_INTSET => packed::intset(&self.string()?, member),
            kind::SET_LISTPACK => packed::listpack(&self.string()?, member),
            kind::ZSET | kind::ZSET_2 => self.times(|value| {
                let member = value.string()?;
                bag.scored(
                    &member,
                    if kind == kind::ZSET {
                        value.text_score()?
                    } else {
                        f64::from_le_bytes(value.array()?)
                    },
                );
                Ok(())
            }),
            kind::HASH => self.times(|value| {
                bag.field(&value.string()?, &value.string()?, 0);
                Ok(())
            }),
            _ if has_field_times(kind, flavour) => {
                self.fields(kind, flavour, &mut |field, value, expires| {
                    if expires == 0 || expires > until {
                        bag.field(field, value, expires);
                    }
                })
            }
            kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK | kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
                packed_pairs(bag, kind, &self.string()?)
            }
            _ => Err(unknown(format!("a value of the unknown type {kind}"))),
        }
    }

    /// Fields with their values and times; 0: never.
    pub(super) fn fields(
        &mut self,
        kind: u8,
        flavour: Flavour,
        one: &mut OneField<'_>,
    ) -> Result<(), RdbError> {
        match kind {
            kind::HASH_2 if flavour == Flavour::Valkey => self.times(|value| {
                let (field, content) = (value.string()?, value.string()?);
                // -1: never.
                one(
                    &field,
                    &content,
                    u64::try_from(i64::from_le_bytes(value.array()?)).unwrap_or(0),
                );
                Ok(())
            }),
            kind::HASH_METADATA => {
                let first = u64::from_le_bytes(self.array()?);
                self.times(|value| {
                    // Counted from the first one that expires, from 1; 0: never.
                    let expires =
                        value.number()?.checked_sub(1).map_or(0, |later| first.wrapping_add(later));
                    one(&value.string()?, &value.string()?, expires);
                    Ok(())
                })
            }
            _ => {
                self.take(8)?;
                let packed = self.string()?;
                in_groups::<3>(
                    &packed,
                    |bytes, one| packed::listpack(bytes, one),
                    |[field, value, expires]| {
                        let expires =
                            std::str::from_utf8(expires).ok().and_then(|text| text.parse().ok());
                        one(field, value, expires.ok_or_else(bad)?);
                        Ok(())
                    },
                )
            }
        }
    }

    fn text_score(&mut self) -> Result<f64, RdbError> {
        Ok(match self.array()? {
            [253] => f64::NAN,
            [254] => f64::INFINITY,
            [255] => f64::NEG_INFINITY,
            [len] => score(self.take(len.into())?)?,
        })
    }

    fn stream(&mut self, content: &mut Content, kind: u8) -> Result<(), RdbError> {
        self.times(|value| {
            content.element(&value.string()?);
            content.element(&value.string()?);
            Ok(())
        })?;
        for number in 0..if kind == kind::STREAM { 3 } else { 8 } {
            let value = self.number()?;
            if number < 3 {
                content.sequence.number(value);
            }
        }
        self.times(|value| {
            content.element(&value.string()?);
            content.sequence.number(value.number()?);
            content.sequence.number(value.number()?);
            if kind != kind::STREAM {
                value.number()?;
            }
            value.times(|value| {
                // Whose it is, since when, and how often it was delivered.
                content.sequence.element(value.take(16 + 8)?);
                content.sequence.number(value.number()?);
                Ok(())
            })?;
            value.times(|value| {
                content.element(&value.string()?);
                value.take(if kind == kind::STREAM_3 { 16 } else { 8 })?;
                value.times(|value| {
                    content.element(value.take(16)?);
                    Ok(())
                })
            })
        })
    }
}

/// Members with their scores, or fields with their values.
fn packed_pairs(bag: &mut Bag<'_>, kind: u8, packed: &[u8]) -> Result<(), RdbError> {
    let scored = matches!(kind, kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK);
    let each = |[first, second]: [&[u8]; 2]| {
        if scored {
            bag.scored(first, score(second)?);
        } else {
            bag.field(first, second, 0);
        }
        Ok(())
    };
    if matches!(kind, kind::ZSET_ZIPLIST | kind::HASH_ZIPLIST) {
        in_groups::<2>(packed, |bytes, one| packed::ziplist(bytes, one), each)
    } else {
        in_groups::<2>(packed, |bytes, one| packed::listpack(bytes, one), each)
    }
}

pub(super) fn score(text: &[u8]) -> Result<f64, RdbError> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)
}

/// Elements of a packed value, `N` at a time.
pub(super) fn in_groups<const N: usize>(
    packed: &[u8],
    read: impl FnOnce(&[u8], &mut dyn FnMut(&[u8]) -> Result<(), RdbError>) -> Result<(), RdbError>,
    mut each: impl FnMut([&[u8]; N]) -> Result<(), RdbError>,
) -> Result<(), RdbError> {
    let (mut group, mut count): ([Vec<u8>; N], usize) = (std::array::from_fn(|_| Vec::new()), 0);
    read(packed, &mut |element| {
        group[count].clear();
        group[count].extend_from_slice(element);
        count += 1;
        if count == N {
            count = 0;
            each(std::array::from_fn(|at| &group[at][..]))?;
        }
        Ok(())
    })?;
    if count == 0 { Ok(()) } else { Err(bad()) }
}
