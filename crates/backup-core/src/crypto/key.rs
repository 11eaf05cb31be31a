//! `IV (16) ‖ AES-256-CTR ciphertext ‖ Poly1305-AES tag (16)`; the Poly1305 key is
//! `r ‖ AES-128_k(IV)`.

use std::fmt;

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use poly1305::Poly1305;
use rand::Rng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

type Aes256Ctr = ctr::Ctr128BE<Aes256>;

/// Bytes in front of sealed content.
pub const IV_LEN: usize = 16;
/// Bytes behind sealed content.
pub const TAG_LEN: usize = 16;

/// Bytes by which sealing makes data longer.
pub const OVERHEAD: usize = IV_LEN + TAG_LEN;

/// The data was not sealed with this key, or was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the authentication code does not match")]
pub struct OpenError;

/// A key that seals objects: the repository's own, or one derived from a pass phrase to seal that
/// one.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    encrypt: [u8; 32],
    mac_k: [u8; 16],
    mac_r: [u8; 16],
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(secret)")
    }
}

impl MasterKey {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 64]);
        rand::rng().fill_bytes(&mut *bytes);
        Self::from_bytes(&bytes)
    }

    /// Splits 64 bytes as restic does: encryption key, MAC key `k`, MAC key `r`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut key = Self { encrypt: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// Seals `plain` under a random IV.
    #[must_use]
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let mut iv = [0; IV_LEN];
        rand::rng().fill_bytes(&mut iv);
        self.seal_with_iv(plain, iv)
    }

    /// Seals in place: the plain content lies between [`IV_LEN`] and [`TAG_LEN`] bytes, which are
    /// filled in. A shorter buffer than [`OVERHEAD`] is left alone.
    pub fn seal_in_place(&self, buffer: &mut [u8]) {
        let mut iv = [0; IV_LEN];
        rand::rng().fill_bytes(&mut iv);
        self.seal_around(buffer, iv);
    }

    /// Seals under a given IV. Only for an object whose content is constant, so that its name is
    /// constant too.
    #[must_use]
    pub fn seal_with_iv(&self, plain: &[u8], iv: [u8; IV_LEN]) -> Vec<u8> {
        let mut sealed = vec![0; plain.len() + OVERHEAD];
        sealed[IV_LEN..IV_LEN + plain.len()].copy_from_slice(plain);
        self.seal_around(&mut sealed, iv);
        sealed
    }

    fn seal_around(&self, buffer: &mut [u8], iv: [u8; IV_LEN]) {
        let Some(end) = buffer.len().checked_sub(TAG_LEN).filter(|end| *end >= IV_LEN) else {
            return;
        };
        buffer[..IV_LEN].copy_from_slice(&iv);
        Aes256Ctr::new(&self.encrypt.into(), &iv.into()).apply_keystream(&mut buffer[IV_LEN..end]);
        let tag = self.tag(&iv, &buffer[IV_LEN..end]);
        buffer[end..].copy_from_slice(&tag);
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// [`OpenError`] if the key is another one or the data was changed.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut plain = Vec::new();
        self.open_into(sealed, &mut plain)?;
        Ok(plain)
    }

    /// Like [`Self::open`], into `out`, whose old content is thrown away.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn open_into(&self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        out.clear();
        let (iv, end) = self.check(sealed)?;
        out.extend_from_slice(&sealed[IV_LEN..end]);
        Aes256Ctr::new(&self.encrypt.into(), &iv.into()).apply_keystream(out);
        Ok(())
    }

    /// Like [`Self::open`], in the same memory: for what is long.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn open_vec(&self, mut sealed: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        let (iv, end) = self.check(&sealed)?;
        sealed.truncate(end);
        sealed.drain(..IV_LEN);
        Aes256Ctr::new(&self.encrypt.into(), &iv.into()).apply_keystream(&mut sealed);
        Ok(sealed)
    }

    /// The initialisation vector, and where the content ends behind it, if nothing was changed.
    fn check(&self, sealed: &[u8]) -> Result<([u8; IV_LEN], usize), OpenError> {
        let Some(end) = sealed.len().checked_sub(TAG_LEN).filter(|end| *end >= IV_LEN) else {
            return Err(OpenError);
        };
        let mut iv = [0; IV_LEN];
        iv.copy_from_slice(&sealed[..IV_LEN]);
        match self.tag(&iv, &sealed[IV_LEN..end]).ct_eq(&sealed[end..]).into() {
            true => Ok((iv, end)),
            false => Err(OpenError),
        }
    }

    fn tag(&self, iv: &[u8; IV_LEN], body: &[u8]) -> [u8; TAG_LEN] {
        let mut nonce = (*iv).into();
        Aes128::new(&self.mac_k.into()).encrypt_block(&mut nonce);
        let mut key = Zeroizing::new([0; 32]);
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&nonce);
        Poly1305::new(&(*key).into()).compute_unpadded(body).into()
    }

    /// A secret derived from this key for one purpose; used where a repository has no seed of its
    /// own.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update(self.encrypt);
        hash.update(self.mac_k);
        hash.update(purpose.as_bytes());
        hash.finalize().into()
    }

    /// The JSON that a key file seals.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let stored = StoredKey {
            mac: StoredMac { k: BASE64.encode(self.mac_k), r: BASE64.encode(self.mac_r) },
            encrypt: BASE64.encode(self.encrypt),
        };
        // Serialising three strings cannot fail.
        Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default())
    }

    /// Reads what [`Self::to_json`] made.
    #[must_use]
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let stored: StoredKey = serde_json::from_slice(json).ok()?;
        let mut bytes = Zeroizing::new([0; 64]);
        decode_into(&stored.encrypt, &mut bytes[..32])?;
        decode_into(&stored.mac.k, &mut bytes[32..48])?;
        decode_into(&stored.mac.r, &mut bytes[48..])?;
        Some(Self::from_bytes(&bytes))
    }
}

fn decode_into(text: &str, out: &mut [u8]) -> Option<()> {
    let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
    (bytes.len() == out.len()).then(|| out.copy_from_slice(&bytes))
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredKey {
    mac: StoredMac,
    encrypt: String,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredMac {
    k: String,
    r: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let key = MasterKey::generate();
        for len in [0, 1, 15, 16, 17, 100_000] {
            let plain = vec![7; len];
            let sealed = key.seal(&plain);
            assert_eq!(sealed.len(), len + OVERHEAD);
            assert_eq!(key.open(&sealed).unwrap(), plain);
            for at in [0, 16.min(sealed.len() - 1), sealed.len() - 1] {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(key.open(&changed), Err(OpenError));
            }
            assert_eq!(MasterKey::generate().open(&sealed), Err(OpenError));
            assert_eq!(key.open(&sealed[..sealed.len() - 1]), Err(OpenError));
        }
        assert_eq!(key.open(b"short"), Err(OpenError));
    }

    /// Test vector of Poly1305-AES (Bernstein 2005, appendix B), which restic's own tests use too.
    #[test]
    fn poly1305_aes_matches_the_paper() {
        let unhex = |text: &str| hex::decode(text).unwrap();
        let mut bytes = [0; 64];
        bytes[32..48].copy_from_slice(&unhex("ec074c835580741701425b623235add6"));
        bytes[48..].copy_from_slice(&unhex("851fc40c3467ac0be05cc20404f3f700"));
        let iv: [u8; 16] = unhex("fb447350c4e868c52ac3275cf9d4327e").try_into().unwrap();
        let tag = MasterKey::from_bytes(&bytes).tag(&iv, &unhex("f3f6"));
        assert_eq!(hex::encode(tag), "f4c633c3044fc145f84f335cb81953de");
    }

    #[test]
    fn json_round_trip() {
        let key = MasterKey::generate();
        let copy = MasterKey::from_json(&key.to_json()).unwrap();
        assert_eq!(copy.open(&key.seal(b"x")).unwrap(), b"x");
        assert!(MasterKey::from_json(b"{}").is_none());
    }
}
