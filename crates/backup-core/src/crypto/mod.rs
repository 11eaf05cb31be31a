//! Sealing, key derivation and pass phrases, as restic's repository format 2 prescribes.
//!
//! | file | what is in it |
//! |---|---|
//! | `key.rs` | [`MasterKey`]: AES-256-CTR with Poly1305-AES, seal and open |
//! | `kdf.rs` | [`KdfParams`]: scrypt |
//! | `passphrase.rs` | [`Passphrase`]: secret text, generated if wanted |

mod kdf;
mod key;
mod passphrase;

pub use kdf::KdfParams;
pub use key::{IV_LEN, MasterKey, OVERHEAD, OpenError, TAG_LEN};
pub use passphrase::Passphrase;
