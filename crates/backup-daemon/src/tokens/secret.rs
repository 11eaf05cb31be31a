//! A token as its owner has it, and what is kept of it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What every token begins with, so that scanners for lost secrets know one.
pub(super) const PREFIX: &str = "bkpd_";
/// Random bytes of a token.
const BYTES: usize = 32;

/// A token. It is shown once, to whoever asked for it; neither `Debug` nor anything else prints it.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let bytes = Zeroizing::new(rand::random::<[u8; BYTES]>());
        Self(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice()))))
    }

    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is kept of a token: with 256 random bits nothing slower than a plain hash is needed.
#[must_use]
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whether a text can be a token at all.
pub(super) fn can_be(text: &str) -> bool {
    text.strip_prefix(PREFIX)
        .is_some_and(|rest| URL_SAFE_NO_PAD.decode(rest).is_ok_and(|bytes| bytes.len() == BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_not_printed() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_ne!(one.reveal(), other.reveal());
        assert!(can_be(one.reveal()) && one.reveal().len() == PREFIX.len() + 43);
        for wrong in ["", "bkpd_", "bkpd_abc", &one.reveal()[5..], &format!("{}A", one.reveal())] {
            assert!(!can_be(wrong), "{wrong}");
        }
        assert!(!format!("{one:?}").contains(&one.reveal()[5..]));
    }
}
