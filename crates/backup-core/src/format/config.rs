//! The object `config`: sealed JSON, never compressed.

use std::fmt;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::polynomial;
use super::version::require_known;
use crate::crypto::MasterKey;
use crate::error::{Error, Result};
use crate::limits;

/// Format versions that can be read.
pub const SUPPORTED_VERSIONS: std::ops::RangeInclusive<u32> = 1..=2;
/// Format version that is written.
pub const WRITE_VERSION: u32 = 2;

/// What a repository says of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Format version.
    pub version: u32,
    /// The repository's identity: 64 hexadecimal digits.
    pub id: String,
    /// Polynomial of restic's chunker, hexadecimal.
    pub chunker_polynomial: String,
    /// Seed of our chunker's table, hexadecimal. Copies of the repository inherit it so that they
    /// deduplicate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_chunker_seed: Option<String>,
    /// Chunk size of rustic, in bytes, where it is not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
    /// Largest chunk of rustic, in bytes, where it is not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_max_size: Option<u64>,
    /// IV under which the guard lock is sealed, hexadecimal: makes its name constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_guard_iv: Option<String>,
}

impl fmt::Debug for Config {
    /// Without the seeds, which are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("version", &self.version)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// A config for a new repository.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; 80];
        rand::rng().fill_bytes(&mut bytes);
        Self {
            version: WRITE_VERSION,
            id: hex::encode(&bytes[..32]),
            chunker_polynomial: format!("{:x}", polynomial::random()),
            x_chunker_seed: Some(hex::encode(&bytes[32..64])),
            chunk_size: None,
            chunk_max_size: None,
            x_guard_iv: Some(hex::encode(&bytes[64..])),
        }
    }

    /// Largest data blob that is read, in bytes.
    #[must_use]
    pub fn max_data_blob(&self) -> u32 {
        let permitted = self.chunk_max_size.max(self.chunk_size).unwrap_or_default();
        let permitted = permitted.min(limits::MAX_CHUNK.into());
        u32::try_from(permitted).unwrap_or(limits::MAX_CHUNK).max(limits::MAX_DATA_BLOB)
    }

    /// A config for another repository that cuts the same data into the same chunks.
    #[must_use]
    pub fn relative(&self, key: &MasterKey) -> Self {
        Self {
            chunker_polynomial: self.chunker_polynomial.clone(),
            x_chunker_seed: Some(hex::encode(self.chunker_seed(key))),
            ..Self::generate()
        }
    }

    /// Seals the config for storing.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) only.
    pub fn seal(&self, key: &MasterKey) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self)
            .map_err(|e| Error::internal("cannot encode the config").with_source(e))?;
        Ok(key.seal(&json))
    }

    /// Opens and checks a stored config.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it was changed;
    /// [`ErrorKind::UnsupportedVersion`](crate::error::ErrorKind::UnsupportedVersion) if its version
    /// is newer than those in [`SUPPORTED_VERSIONS`].
    pub fn open(sealed: &[u8], key: &MasterKey) -> Result<Self> {
        let json = key
            .open(sealed)
            .map_err(|error| Error::damaged("the config object is damaged").with_source(error))?;
        if json.len() > limits::MAX_CONFIG {
            return Err(Error::damaged("the config object is too large"));
        }
        let config: Self = serde_json::from_slice(&json)
            .map_err(|error| Error::damaged("cannot parse the config object").with_source(error))?;
        if !SUPPORTED_VERSIONS.contains(&config.version) {
            let newest = *SUPPORTED_VERSIONS.end();
            require_known("the repository", config.version, newest)?;
            return Err(Error::damaged("the format version of the config object is 0"));
        }
        config.require_valid_id()?;
        Ok(config)
    }

    /// The identity becomes part of paths on this machine, such as that of the cache: a crafted one
    /// must not lead elsewhere.
    fn require_valid_id(&self) -> Result<()> {
        if self.id.len() == 64 && self.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        Err(Error::damaged("the id in the config object is not 64 hexadecimal digits"))
    }

    /// Seed of the chunker: the config's own, or for repositories that other tools made, one
    /// derived from the key.
    #[must_use]
    pub fn chunker_seed(&self, key: &MasterKey) -> [u8; 32] {
        let mut seed = [0; 32];
        match &self.x_chunker_seed {
            Some(text) if hex::decode_to_slice(text, &mut seed).is_ok() => seed,
            _ => key.derive(&format!("chunker {}", self.id)),
        }
    }

    /// IV of the guard lock.
    #[must_use]
    pub fn guard_iv(&self, key: &MasterKey) -> [u8; 16] {
        let mut iv = [0; 16];
        match &self.x_guard_iv {
            Some(text) if hex::decode_to_slice(text, &mut iv).is_ok() => iv,
            _ => {
                iv.copy_from_slice(&key.derive(&format!("guard {}", self.id))[..16]);
                iv
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn seals_and_opens() {
        let key = MasterKey::generate();
        let config = Config::generate();
        let sealed = config.seal(&key).unwrap();
        assert_eq!(Config::open(&sealed, &key).unwrap(), config);
        assert_eq!(Config::open(&sealed[1..], &key).unwrap_err().kind(), ErrorKind::Damaged);
        let newer = Config { version: 3, ..config };
        let error = Config::open(&newer.seal(&key).unwrap(), &key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
        let text = "the repository was written by format 3, this program reads up to 2";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn id_is_never_a_path() {
        let key = MasterKey::generate();
        let good = Config::generate();
        for id in ["", "/etc", "../../elsewhere", &"a".repeat(63), &format!("{}/", "a".repeat(63))]
        {
            let crafted = Config { id: id.to_owned(), ..good.clone() };
            let error = Config::open(&crafted.seal(&key).unwrap(), &key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{id}");
        }
    }

    /// The fields as rustic 0.11 stores them.
    #[test]
    fn config_permits_larger_chunks() {
        let max = |fields: &str| {
            let json = format!(r#"{{"version":2,"id":"","chunker_polynomial":""{fields}}}"#);
            serde_json::from_str::<Config>(&json).unwrap().max_data_blob()
        };
        assert_eq!(max(""), 8 << 20);
        assert_eq!(max(r#","chunk_size":1048576,"chunk_max_size":4194304"#), 8 << 20);
        assert_eq!(max(r#","chunk_max_size":16777216"#), 16 << 20);
        assert_eq!(max(r#","chunker":"fixed_size","chunk_size":16777216"#), 16 << 20);
        assert_eq!(max(r#","chunk_max_size":18446744073709551615"#), 64 << 20);
    }

    #[test]
    fn foreign_configs_get_derived_seeds() {
        let key = MasterKey::generate();
        let foreign = Config { x_chunker_seed: None, x_guard_iv: None, ..Config::generate() };
        assert_eq!(foreign.chunker_seed(&key), foreign.chunker_seed(&key));
        assert_ne!(foreign.chunker_seed(&key), foreign.chunker_seed(&MasterKey::generate()));
        assert_ne!(foreign.guard_iv(&key), [0; 16]);
    }
}
