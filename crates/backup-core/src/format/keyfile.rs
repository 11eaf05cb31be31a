//! Key files `keys/<SHA-256>`: plain JSON that wraps the master key with a pass phrase. Only scrypt
//! is ever written: a key file with another `kdf` makes stock restic refuse the repository for
//! everyone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::crypto::{KdfParams, MasterKey, Passphrase};
use crate::error::{Error, Result};
use crate::limits;

const SALT_LEN: usize = 64;

/// A key file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFile {
    /// When it was made.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Who made it.
    #[serde(default)]
    pub username: String,
    /// On which host.
    #[serde(default)]
    pub hostname: String,
    /// Key derivation function: `scrypt`.
    pub kdf: String,
    /// scrypt `N`.
    #[serde(rename = "N")]
    pub n: u32,
    /// scrypt `r`.
    pub r: u32,
    /// scrypt `p`.
    pub p: u32,
    /// Salt, base 64.
    pub salt: String,
    /// The sealed master key, base 64.
    pub data: String,
    /// What this key is for, for instance `recovery`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_label: Option<String>,
}

impl KeyFile {
    /// Wraps `master` with `passphrase`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) only.
    pub fn wrap(
        master: &MasterKey,
        passphrase: &Passphrase,
        label: Option<String>,
        now: Timestamp,
    ) -> Result<Self> {
        let kdf =
            if passphrase.is_generated() { KdfParams::GENERATED } else { KdfParams::INTERACTIVE };
        let mut salt = [0; SALT_LEN];
        rand::rng().fill_bytes(&mut salt);
        let data = kdf.derive(passphrase, &salt)?.seal(&master.to_json());
        Ok(Self {
            created: Some(now),
            username: String::new(),
            hostname: String::new(),
            kdf: "scrypt".to_owned(),
            n: kdf.n,
            r: kdf.r,
            p: kdf.p,
            salt: BASE64.encode(salt),
            data: BASE64.encode(data),
            x_label: label,
        })
    }

    /// The master key, or `None` if the pass phrase is another one.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if the file cannot be understood.
    pub fn unwrap_with(&self, passphrase: &Passphrase) -> Result<Option<MasterKey>> {
        if self.kdf != "scrypt" {
            return Err(Error::damaged(format!(
                "key file uses the key derivation function {:?} instead of scrypt",
                self.kdf
            )));
        }
        let decode = |text: &str| {
            BASE64.decode(text).map_err(|error| {
                Error::damaged("cannot decode the Base64 of the key file").with_source(error)
            })
        };
        let (salt, data) = (decode(&self.salt)?, decode(&self.data)?);
        let kdf = KdfParams { n: self.n, r: self.r, p: self.p };
        let Ok(json) = kdf.derive(passphrase, &salt)?.open(&data) else {
            return Ok(None);
        };
        let json = zeroize::Zeroizing::new(json);
        MasterKey::from_json(&json)
            .map(Some)
            .ok_or_else(|| Error::damaged("the key in the key file is malformed"))
    }

    /// The JSON that is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) only.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| Error::internal("cannot encode the key file").with_source(error))
    }

    /// Reads stored JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it cannot be understood.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() > limits::MAX_CONFIG {
            return Err(Error::damaged("the key file is too large"));
        }
        serde_json::from_slice(json)
            .map_err(|error| Error::damaged("cannot parse the key file").with_source(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_pass_phrase_opens() {
        let master = MasterKey::generate();
        let phrase = Passphrase::generate();
        let file = KeyFile::wrap(&master, &phrase, None, Timestamp::UNIX_EPOCH).unwrap();
        let file = KeyFile::from_json(&file.to_json().unwrap()).unwrap();
        let opened = file.unwrap_with(&phrase).unwrap().unwrap();
        assert_eq!(opened.open(&master.seal(b"x")).unwrap(), b"x");
        assert!(file.unwrap_with(&Passphrase::generate()).unwrap().is_none());
    }

    #[test]
    fn unreasonable_parameters_are_refused() {
        let file = KeyFile::wrap(
            &MasterKey::generate(),
            &Passphrase::generate(),
            None,
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
        for (n, r, p) in [
            (1 << 30, 8, 1),
            (1000, 8, 1),
            (2, 1 << 20, 1000),
            (1 << 31, 1 << 26, 1),
            (1 << 15, 8, 1 << 20),
            (2, 0, 1),
        ] {
            let bad = KeyFile { n, r, p, ..file.clone() };
            assert!(bad.unwrap_with(&Passphrase::new("x")).is_err());
        }
    }
}
