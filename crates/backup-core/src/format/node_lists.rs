//! Lists in a node: blobs and extended attributes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::loose::{Loose, otherwise};
use crate::id::BlobId;
use crate::limits::Budget;

/// An extended attribute as it is stored.
#[derive(Debug, Default)]
pub(super) struct RawXattr<'a> {
    pub(super) name: Loose<'a>,
    pub(super) value: Loose<'a>,
}

impl RawXattr<'_> {
    /// Memory that it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        let len = |text: &Loose<'_>| text.as_text().map_or(0, str::len);
        size_of::<Self>() + len(&self.name) + len(&self.value)
    }
}

/// A list, and whether the value was one.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    pub(super) is_wrong: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), is_wrong: false }
    }
}

impl<T> List<T> {
    fn wrong() -> Self {
        Self { items: Vec::new(), is_wrong: true }
    }
}

/// Names of blobs; `is_wrong` if one of them is none.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pub(super) ids: Vec<BlobId>,
    pub(super) is_wrong: bool,
}

pub(super) struct IdsSeed<'a>(pub(super) &'a mut Budget);

impl<'de> DeserializeSeed<'de> for IdsSeed<'_> {
    type Value = Ids;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Ids, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IdsSeed<'_> {
    type Value = Ids;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of blobs")
    }

    otherwise!('de, Ids::default(); nulls);
    otherwise!('de, Ids { ids: Vec::new(), is_wrong: true }; scalars numbers texts maps);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ids, A::Error> {
        let mut ids = Ids::default();
        while let Some(value) = list.next_element::<Loose<'de>>()? {
            match value.as_id() {
                Some(id) => {
                    self.0.take(size_of::<BlobId>()).map_err(A::Error::custom)?;
                    ids.ids.push(id);
                }
                None => ids.is_wrong = true,
            }
        }
        ids.ids.shrink_to_fit();
        Ok(ids)
    }
}

pub(super) struct XattrsSeed<'a>(pub(super) &'a mut Budget);

impl<'de> DeserializeSeed<'de> for XattrsSeed<'_> {
    type Value = List<RawXattr<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for XattrsSeed<'_> {
    type Value = List<RawXattr<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of extended attributes")
    }

    otherwise!('de, List::default(); nulls);
    otherwise!('de, List::wrong(); scalars numbers texts maps);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut xattrs = List::default();
        while let Some(xattr) = list.next_element::<RawXattr<'de>>()? {
            self.0.take(xattr.memory()).map_err(A::Error::custom)?;
            xattrs.items.push(xattr);
        }
        Ok(xattrs)
    }
}

impl<'de> Deserialize<'de> for RawXattr<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(XattrVisitor)
    }
}

struct XattrVisitor;

impl<'de> Visitor<'de> for XattrVisitor {
    type Value = RawXattr<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an extended attribute")
    }

    otherwise!('de, RawXattr::default(); nulls scalars numbers texts lists);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut xattr = RawXattr::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "name" => xattr.name = map.next_value()?,
                "value" => xattr.value = map.next_value()?,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(xattr)
    }
}
