//! Identifiers: SHA-256 digests, one type per kind of object, so that a pack can never be asked for
//! by a blob's name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use sha2::{Digest, Sha256};

/// Length of an identifier in bytes.
pub const ID_LEN: usize = 32;

/// The text is not a 64-digit lower-case hexadecimal identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an identifier (64 hexadecimal digits)")]
pub struct ParseIdError(String);

/// Of every byte, what it stands for as a digit; of all that are none, more than a digit can be.
static DIGITS: [u8; 256] = digits();

const HEX: &[u8; 16] = b"0123456789abcdef";

const fn digits() -> [u8; 256] {
    let (mut digits, mut value) = ([u8::MAX; 256], 0);
    while value < 16 {
        digits[HEX[value] as usize] = value as u8;
        value += 1;
    }
    digits
}

/// Indexes and trees are full of identifiers: these take a tenth of what general ones take.
fn print(id: &[u8; ID_LEN]) -> [u8; 2 * ID_LEN] {
    let mut text = [0; 2 * ID_LEN];
    let (pairs, _) = text.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(id) {
        *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
    }
    text
}

fn parse(text: &[u8]) -> Option<[u8; ID_LEN]> {
    let (pairs, rest) = text.as_chunks::<2>();
    let mut bytes = [0; ID_LEN];
    if pairs.len() != ID_LEN || !rest.is_empty() {
        return None;
    }
    let mut all = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all < 16).then_some(bytes)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_LEN]);

        impl $name {
            /// Wraps a digest.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; ID_LEN]) -> Self {
                Self(bytes)
            }

            /// The digest of `data`, which is what names an object of this kind.
            #[must_use]
            pub fn digest(data: &[u8]) -> Self {
                Self(Sha256::digest(data).into())
            }

            /// The raw digest.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
                &self.0
            }

            /// What 64 hexadecimal digits stand for.
            pub(crate) fn from_digits(text: &[u8]) -> Option<Self> {
                parse(text).map(Self)
            }

            /// The 64-digit hexadecimal form.
            #[must_use]
            pub fn to_hex(&self) -> String {
                self.to_string()
            }

            /// The first eight hexadecimal digits: what people are shown.
            #[must_use]
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = print(&self.0);
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::from_digits(text.as_bytes()).ok_or_else(|| ParseIdError(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = print(&self.0);
                serializer.serialize_str(std::str::from_utf8(&text).map_err(ser::Error::custom)?)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("64 hexadecimal digits")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        self.visit_bytes(text.as_bytes())
                    }

                    fn visit_bytes<E: de::Error>(self, text: &[u8]) -> Result<$name, E> {
                        let bad = || E::custom(ParseIdError(String::from_utf8_lossy(text).into_owned()));
                        $name::from_digits(text).ok_or_else(bad)
                    }
                }
                // As bytes: what are digits is UTF-8, and need not be looked through for that
                // first.
                deserializer.deserialize_bytes(Visitor)
            }
        }
    };
}

id_type! {
    /// A blob: SHA-256 of its plain content.
    BlobId
}
id_type! {
    /// A pack: SHA-256 of the whole object.
    PackId
}
id_type! {
    /// An index object: SHA-256 of the sealed object.
    IndexId
}
id_type! {
    /// A snapshot: SHA-256 of the sealed object.
    SnapshotId
}
id_type! {
    /// A key file: SHA-256 of the object.
    KeyId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_what_it_prints() {
        let id = BlobId::digest(b"abc");
        assert_eq!(id.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(id.to_hex().parse::<BlobId>().unwrap(), id);
        assert_eq!(id.short(), "ba7816bf");
        for bad in ["", "ba78", &id.to_hex().to_uppercase(), &format!("{id}0")] {
            assert!(bad.parse::<BlobId>().is_err(), "{bad}");
        }
        for at in 0..2 * ID_LEN {
            for byte in (0..=u8::MAX).filter(|byte| !b"0123456789abcdef".contains(byte)) {
                let mut text = id.to_hex().into_bytes();
                text[at] = byte;
                assert_eq!(parse(&text), None, "{byte} at {at}");
            }
        }
    }
}
