//! Indexes, snapshots and locks: `seal(0x02 ‖ zstd(JSON))`, or plain sealed JSON as format 1 writes
//! it.

use std::io::{BufWriter, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::compress;
use crate::crypto::MasterKey;
use crate::error::{Error, Result};
use crate::limits;

use super::version::require_known_record;

/// First byte of compressed content.
const COMPRESSED: u8 = 2;
/// Names are random hexadecimal digits: level 3 takes five times as long, finds chance matches, and
/// comes to 9 % more.
const LEVEL: i32 = 1;
/// Text is written and read in pieces of so many bytes.
pub(super) const PIECE: usize = 64 << 10;

/// Encodes, compresses and seals.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) only.
pub fn seal_json(key: &MasterKey, value: &impl Serialize) -> Result<Vec<u8>> {
    let plain = compress::compress_with(vec![COMPRESSED], LEVEL, |out| {
        // The text of an index object is of megabytes, and never there as a whole.
        let mut out = BufWriter::with_capacity(PIECE, out);
        serde_json::to_writer(&mut out, value)?;
        std::io::Write::flush(&mut out)
    });
    let plain =
        plain.map_err(|error| Error::internal("cannot encode an object").with_source(error))?;
    Ok(key.seal(&plain))
}

/// What was sealed: JSON text, compressed or as it is.
#[derive(Debug)]
pub(super) struct Opened(Vec<u8>);

impl Opened {
    pub(super) fn new(key: &MasterKey, sealed: Vec<u8>) -> Result<Self> {
        let plain = key
            .open_vec(sealed)
            .map_err(|error| Error::damaged("object is damaged").with_source(error))?;
        match plain.first() {
            Some(&COMPRESSED | b'{' | b'[') => Ok(Self(plain)),
            _ => Err(Error::damaged("object has an unknown encoding")),
        }
    }

    #[cfg(test)]
    pub(super) fn of(text: &[u8]) -> Self {
        let write = |out: &mut dyn std::io::Write| out.write_all(text);
        Self(compress::compress_with(vec![COMPRESSED], LEVEL, write).unwrap())
    }

    fn compressed(&self) -> Option<&[u8]> {
        self.0.strip_prefix(&[COMPRESSED])
    }

    /// Reads the text piece by piece; it may be of any length.
    pub(super) fn reader(&self) -> Result<Box<dyn Read + '_>> {
        match self.compressed() {
            Some(frame) => Ok(Box::new(compress::decompressing(frame)?)),
            None => Ok(Box::new(&self.0[..])),
        }
    }

    /// The text, if it has at most `limit` bytes.
    pub(super) fn text(self, limit: usize) -> Result<Vec<u8>> {
        match self.compressed() {
            Some(frame) => compress::decompress_up_to(frame, limit),
            None if self.0.len() > limit => {
                Err(Error::damaged(format!("the object is larger than {limit} bytes")))
            }
            None => Ok(self.0),
        }
    }
}

/// Opens and decodes.
///
/// # Errors
/// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if the object was changed or cannot be
/// understood, or is larger than [`limits`] permit;
/// [`ErrorKind::UnsupportedVersion`](crate::error::ErrorKind::UnsupportedVersion) if its field
/// `x_version` is newer than [`RECORD_VERSION`](super::RECORD_VERSION).
pub fn open_json<T: DeserializeOwned>(key: &MasterKey, sealed: &[u8]) -> Result<T> {
    open_json_up_to(key, sealed, limits::MAX_OBJECT)
}

/// Opens and decodes an object of at most `limit` bytes.
///
/// # Errors
/// Those of [`open_json`].
pub(super) fn open_json_up_to<T: DeserializeOwned>(
    key: &MasterKey,
    sealed: &[u8],
    limit: usize,
) -> Result<T> {
    open_measured(key, sealed, limit).map(|(value, _)| value)
}

/// Opens and decodes an object of at most `limit` bytes; returns its length before compression too,
/// in bytes.
///
/// # Errors
/// The errors of [`open_json`].
pub(super) fn open_measured<T: DeserializeOwned>(
    key: &MasterKey,
    sealed: &[u8],
    limit: usize,
) -> Result<(T, usize)> {
    let text = Opened::new(key, sealed.to_vec())?.text(limit)?;
    if !limits::has_at_most(limits::MAX_VALUES, &text) {
        let most = limits::MAX_VALUES;
        return Err(Error::damaged(format!("the object has more than {most} values")));
    }
    require_known_record(&text)?;
    understand(&text).map(|value| (value, text.len()))
}

pub(super) fn understand<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json)
        .map_err(|error| Error::damaged("cannot parse the object").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_encodings() {
        let key = MasterKey::generate();
        let sealed = seal_json(&key, &vec![1, 2, 3]).unwrap();
        assert_eq!(open_json::<Vec<u32>>(&key, &sealed).unwrap(), [1, 2, 3]);
        assert_eq!(open_json::<Vec<u32>>(&key, &key.seal(b"[4]")).unwrap(), [4]);
        assert!(open_json::<Vec<u32>>(&key, &key.seal(b"\x03[4]")).is_err());
        assert!(open_json::<Vec<u32>>(&key, &key.seal(b"")).is_err());
    }

    #[test]
    fn newer_objects_are_refused_and_never_count_as_damaged() {
        let key = MasterKey::generate();
        let open = |text: &[u8]| open_json::<serde_json::Value>(&key, &key.seal(text));
        assert!(open(br#"{"x_version":1}"#).is_ok());
        let error = open(br#"{"x_version":2}"#).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::UnsupportedVersion);
        assert!(!error.is_damage() && error.hint().is_some());
    }
}
