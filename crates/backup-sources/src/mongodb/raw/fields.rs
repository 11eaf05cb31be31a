//! Documents that can be changed, all other bytes staying as they are.

use std::fmt;

use backup_core::source::SourceResult;
use bson::{RawDocumentBuf, Timestamp};

use super::elements::{Element, Value, elements, kind};

/// A document: its fields in order, the values as bytes. Unlike `bson::Document`, it keeps fields of
/// equal names and strings that are not UTF-8.
#[derive(Clone, PartialEq, Eq, Default)]
pub(in crate::mongodb) struct Fields(Vec<Field>);

#[derive(Clone, PartialEq, Eq)]
struct Field {
    name: Box<[u8]>,
    value: OwnedValue,
}

/// A value for a field.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::mongodb) struct OwnedValue {
    kind: u8,
    bytes: Vec<u8>,
}

impl OwnedValue {
    pub(in crate::mongodb) fn get(&self) -> Value<'_> {
        Value { kind: self.kind, bytes: &self.bytes }
    }

    /// An array.
    pub(in crate::mongodb) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        let mut fields = Fields::default();
        for (index, item) in items.into_iter().enumerate() {
            fields.push(index.to_string(), item);
        }
        Self { kind: kind::ARRAY, bytes: fields.encode() }
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        Self { kind: value.kind, bytes: value.bytes.to_vec() }
    }
}

impl From<&str> for OwnedValue {
    fn from(text: &str) -> Self {
        // As long as a document may be, which the caller's is not.
        let length = i32::try_from(text.len() + 1).unwrap_or(i32::MAX);
        let bytes = [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat();
        Self { kind: kind::STRING, bytes }
    }
}

impl From<&String> for OwnedValue {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<bool> for OwnedValue {
    fn from(value: bool) -> Self {
        Self { kind: kind::BOOLEAN, bytes: vec![value.into()] }
    }
}

impl From<i32> for OwnedValue {
    fn from(number: i32) -> Self {
        Self { kind: kind::INT32, bytes: number.to_le_bytes().to_vec() }
    }
}

impl From<i64> for OwnedValue {
    fn from(number: i64) -> Self {
        Self { kind: kind::INT64, bytes: number.to_le_bytes().to_vec() }
    }
}

impl From<Timestamp> for OwnedValue {
    fn from(at: Timestamp) -> Self {
        let bytes = [at.increment.to_le_bytes(), at.time.to_le_bytes()].concat();
        Self { kind: kind::TIMESTAMP, bytes }
    }
}

impl From<[u8; 16]> for OwnedValue {
    /// A UUID.
    fn from(uuid: [u8; 16]) -> Self {
        let bytes = [&[16, 0, 0, 0, 4][..], &uuid].concat();
        Self { kind: kind::BINARY, bytes }
    }
}

impl From<&Fields> for OwnedValue {
    fn from(document: &Fields) -> Self {
        Self { kind: kind::DOCUMENT, bytes: document.encode() }
    }
}

impl From<Fields> for OwnedValue {
    fn from(document: Fields) -> Self {
        (&document).into()
    }
}

impl From<RawDocumentBuf> for OwnedValue {
    fn from(document: RawDocumentBuf) -> Self {
        Self { kind: kind::DOCUMENT, bytes: document.into_bytes() }
    }
}

impl Fields {
    /// The fields of a document.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`](backup_core::source::SourceErrorKind::Invalid) if it is not
    /// BSON. Documents inside are not looked into.
    pub(in crate::mongodb) fn parse(document: &[u8]) -> SourceResult<Self> {
        let owned =
            |element: Element<'_>| Field { name: element.name.into(), value: element.value.into() };
        elements(document).map(|element| element.map(owned)).collect::<SourceResult<_>>().map(Self)
    }

    pub(in crate::mongodb) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::mongodb) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::mongodb) fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        self.0.iter().map(|field| Element { name: &field.name, value: field.value.get() })
    }

    /// The first value of a name.
    pub(in crate::mongodb) fn get(&self, name: &str) -> Option<Value<'_>> {
        self.iter().find(|field| field.name == name.as_bytes()).map(|field| field.value)
    }

    pub(in crate::mongodb) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A string that is UTF-8.
    pub(in crate::mongodb) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// True for a field that is `true`.
    pub(in crate::mongodb) fn is_true(&self, name: &str) -> bool {
        self.get(name).and_then(Value::boolean) == Some(true)
    }

    /// A document.
    pub(in crate::mongodb) fn document(&self, name: &str) -> Option<Self> {
        Self::parse(self.get(name)?.document()?).ok()
    }

    /// Sets a field, in its place if it is there. Only the first one of several stays.
    pub(in crate::mongodb) fn set(&mut self, name: impl AsRef<[u8]>, value: impl Into<OwnedValue>) {
        let (name, value) = (name.as_ref(), value.into());
        match self.0.iter().position(|field| *field.name == *name) {
            Some(at) => {
                self.0[at].value = value;
                let mut place = 0..;
                self.0.retain(|field| place.next() == Some(at) || *field.name != *name);
            }
            None => self.push(name, value),
        }
    }

    /// Appends a field, whatever there is.
    pub(in crate::mongodb) fn push(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl Into<OwnedValue>,
    ) {
        self.0.push(Field { name: name.as_ref().into(), value: value.into() });
    }

    /// This field set, for what is built in one expression.
    #[must_use]
    pub(in crate::mongodb) fn with(mut self, name: &str, value: impl Into<OwnedValue>) -> Self {
        self.set(name, value);
        self
    }

    /// Appends all fields of another document.
    pub(in crate::mongodb) fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Removes all fields of a name; returns the value of the first one.
    pub(in crate::mongodb) fn remove(&mut self, name: &str) -> Option<OwnedValue> {
        let mut found = None;
        self.0.retain(|field| {
            let stays = *field.name != *name.as_bytes();
            if !stays && found.is_none() {
                found = Some(field.value.clone());
            }
            stays
        });
        found
    }

    /// The fields whose names `keep` accepts.
    #[must_use]
    pub(in crate::mongodb) fn only(&self, keep: impl Fn(&[u8]) -> bool) -> Self {
        Self(self.0.iter().filter(|field| keep(&field.name)).cloned().collect())
    }

    /// The same without its first field.
    #[must_use]
    pub(in crate::mongodb) fn behind_the_first(&self) -> Self {
        Self(self.0.get(1..).unwrap_or_default().to_vec())
    }

    /// In the order of their names; fields of one name stay in their order.
    #[must_use]
    pub(in crate::mongodb) fn sorted(mut self) -> Self {
        self.0.sort_by(|one, other| one.name.cmp(&other.name));
        self
    }

    /// The document as bytes.
    pub(in crate::mongodb) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        for field in &self.0 {
            put(&mut out, field.value.kind, &field.name);
            out.extend_from_slice(&field.value.bytes);
        }
        close(&mut out, 0);
        out
    }

    /// As the driver takes it.
    pub(in crate::mongodb) fn to_raw(&self) -> SourceResult<RawDocumentBuf> {
        RawDocumentBuf::from_bytes(self.encode())
            .map_err(|error| crate::mongodb::error::malformed("document").with_source(error))
    }
}

/// Appends type and name of a field; the value follows.
pub(in crate::mongodb) fn put(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    out.push(kind);
    out.extend_from_slice(name);
    out.push(0);
}

/// Ends the document that began at `start` with four bytes for its length.
pub(in crate::mongodb) fn close(out: &mut Vec<u8>, start: usize) {
    out.push(0);
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

impl From<RawDocumentBuf> for Fields {
    /// Of a document that this program made: what is no BSON in it is left out.
    fn from(document: RawDocumentBuf) -> Self {
        Self::parse(document.as_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
impl From<bson::Document> for Fields {
    fn from(document: bson::Document) -> Self {
        Self::parse(RawDocumentBuf::try_from(&document).unwrap().as_bytes()).unwrap()
    }
}

impl fmt::Debug for Fields {
    /// Names only: values may be customers' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|field| String::from_utf8_lossy(&field.name));
        f.debug_list().entries(names).finish()
    }
}
