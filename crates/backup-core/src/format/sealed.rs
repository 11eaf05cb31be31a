//! Indexes, snapshots and locks: `seal(0x02 ‖ zstd(JSON))`, or plain sealed JSON as format 1 writes it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::compress;
use crate::crypto::MasterKey;
use crate::error::{Error, Result};

/// First byte of compressed content.
const COMPRESSED: u8 = 2;
/// Names are random hexadecimal digits: level 3 takes five times as long, finds chance matches, and comes to 9 % more.
const LEVEL: i32 = 1;
/// Largest metadata object that is accepted, uncompressed. An index of 50 000 blobs has about 8 MB.
const LIMIT: usize = 1 << 30;

/// Encodes, compresses and seals.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) only.
pub fn seal_json(key: &MasterKey, value: &impl Serialize) -> Result<Vec<u8>> {
    let json =
        serde_json::to_vec(value).map_err(|error| Error::internal("cannot encode an object").with_source(error))?;
    let mut plain = vec![COMPRESSED];
    plain.extend(compress::compress_at(&json, LEVEL)?);
    Ok(key.seal(&plain))
}

/// Opens to the JSON text.
///
/// # Errors
/// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if the object was changed or cannot be understood.
pub fn open_raw(key: &MasterKey, sealed: &[u8]) -> Result<Vec<u8>> {
    let plain = key.open(sealed).map_err(|error| Error::damaged("object is damaged").with_source(error))?;
    match plain.first() {
        Some(&COMPRESSED) => compress::decompress_up_to(&plain[1..], LIMIT),
        Some(b'{' | b'[') => Ok(plain),
        _ => Err(Error::damaged("object has an unknown encoding")),
    }
}

/// Opens and decodes.
///
/// # Errors
/// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if the object was changed or cannot be understood.
pub fn open_json<T: DeserializeOwned>(key: &MasterKey, sealed: &[u8]) -> Result<T> {
    serde_json::from_slice(&open_raw(key, sealed)?)
        .map_err(|error| Error::damaged("object cannot be understood").with_source(error))
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
}
