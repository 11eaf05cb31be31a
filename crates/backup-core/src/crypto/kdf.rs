//! scrypt, which turns a pass phrase into a key.

use zeroize::Zeroizing;

use super::{MasterKey, Passphrase};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Cost parameters of scrypt (RFC 7914).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    /// CPU and memory cost, a power of two: `128 · n · r` bytes are needed.
    pub n: u32,
    /// Block size.
    pub r: u32,
    /// Parallelism.
    pub p: u32,
}

/// Most work it may ask for, in blocks of 128 bytes: a minute or so.
const MAX_WORK: u128 = 1 << 26;

impl KdfParams {
    /// For pass phrases that people choose: 32 MiB and about 0.15 s of CPU time for every guess,
    /// four times the cost of the key file in restic's design document. A generated pass phrase is
    /// better than any cost.
    pub const INTERACTIVE: Self = Self { n: 1 << 15, r: 8, p: 2 };

    /// For generated pass phrases of 256 bits, which need no stretching.
    pub const GENERATED: Self = Self { n: 1 << 12, r: 8, p: 1 };

    /// Derives the key that seals the master key.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the parameters are not valid or need more memory than
    /// [`limits::MAX_KEY_MEMORY`].
    pub fn derive(self, passphrase: &Passphrase, salt: &[u8]) -> Result<MasterKey> {
        let (n, r, p) = (u128::from(self.n), u128::from(self.r), u128::from(self.p));
        let memory = 128 * r * (n + p);
        if !self.n.is_power_of_two()
            || self.n < 2
            || r * p == 0
            || memory > limits::MAX_KEY_MEMORY
            || n * r * p > MAX_WORK
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("key file has invalid or excessive scrypt parameters {self:?}"),
            ));
        }
        let log_n = u8::try_from(self.n.trailing_zeros()).unwrap_or(u8::MAX);
        let params = scrypt::Params::new(log_n, self.r, self.p).map_err(|error| {
            Error::new(ErrorKind::Invalid, "invalid scrypt parameters")
                .with_source(error.to_string())
        })?;
        let mut bytes = Zeroizing::new([0; 64]);
        scrypt::scrypt(passphrase.as_bytes(), salt, &params, &mut *bytes)
            .map_err(|error| Error::internal("scrypt failed").with_source(error.to_string()))?;
        Ok(MasterKey::from_bytes(&bytes))
    }
}
