//! Key files: adding, removing and replacing pass phrases, and keeping key files elsewhere.
//!
//! Every key file wraps the same master key. Removing one revokes its pass phrase for everybody who
//! does not have a copy of that key file; who may have one is kept out only by a new master key,
//! which means a new repository.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::crypto::Passphrase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Config, EXPORTED_KEY_VERSION, KeyFile, require_known_json};
use crate::id::KeyId;
use crate::repository::{Repository, cpu, key_files, layout};
use crate::sink::{Sink, SinkErrorKind, SinkOps};

/// What a rotation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeyRotation {
    /// The key file with the new pass phrase.
    pub added: KeyId,
    /// The one that is gone.
    pub removed: KeyId,
}

/// A key file with all that is needed beside the data, to be kept elsewhere. Useless without its
/// pass phrase.
#[derive(Debug, Serialize, Deserialize)]
struct Bundle {
    /// Tells what this is to whoever finds it in ten years.
    about: String,
    version: u32,
    /// Key file, Base64 of its bytes.
    key: String,
    /// The sealed config, Base64 of its bytes.
    config: String,
}

const ABOUT: &str = "Key file and config of a backup repository in restic's format. `backup key \
                     import` restores them; by hand: decode `key` from Base64 into keys/<its \
                     SHA-256>, and `config` into config.";

impl Repository {
    /// Adds a pass phrase. It is proven to open the repository before this returns.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is empty, or opens the repository already: removing one of the
    /// two keys would then revoke nothing. Those of the sink.
    pub async fn add_key(
        &self,
        passphrase: &Passphrase,
        label: Option<String>,
        cx: &Context,
    ) -> Result<KeyId> {
        self.require_writable()?;
        if passphrase.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "the pass phrase is empty"));
        }
        if let Ok(opened) = key_files::unlock(&**self.sink(), passphrase).await {
            let names: Vec<String> = opened.iter().map(|(_, id)| id.short()).collect();
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "this pass phrase already opens the repository with key {}",
                    names.join(", ")
                ),
            )
            .with_hint("choose another pass phrase"));
        }
        let wrapped = key_files::wrap(self.key(), passphrase, label, cx).await?;
        key_files::store(&**self.sink(), self.key(), &wrapped, cx).await?;
        let opened = key_files::unlock_one(&**self.sink(), wrapped.id, passphrase).await?;
        if opened.is_none_or(|master| master.derive("proof") != self.key().derive("proof")) {
            return Err(Error::damaged(format!(
                "key {} was not stored intact",
                wrapped.id.short()
            ))
            .with_hint("check the disk: the storage is faulty; the old pass phrases still work"));
        }
        Ok(wrapped.id)
    }

    /// Removes a key file: its pass phrase opens the repository no more.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] if it is the last one that can be read, or
    /// the one that opened the repository: nothing has proven then that another one works. Those of
    /// the sink.
    pub async fn remove_key(&self, id: &KeyId) -> Result<()> {
        self.require_writable()?;
        let keys = self.keys().await?;
        if !keys.iter().any(|(known, _)| known == id) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no key {}", id.short()))
                .with_hint("list the keys with `backup key list`"));
        }
        if !keys.iter().any(|(other, info)| other != id && info.is_ok()) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "this is the last usable key: without it the repository cannot be read",
            )
            .with_hint("add another key first with `backup key add`"));
        }
        if *id == self.key_id() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the key that opened the repository cannot be removed",
            )
            .with_hint(
                "give the pass phrase of another key to remove this one, which proves that the \
                 other key works",
            ));
        }
        self.delete_key(id).await
    }

    /// The receipt goes first: what is gone without one was removed, not lost.
    async fn delete_key(&self, id: &KeyId) -> Result<()> {
        self.sink().delete_one(&layout::key_receipt(id)).await?;
        self.sink().delete_one(&layout::key_file(id)).await?;
        Ok(())
    }

    /// Replaces the pass phrase that opened the repository by a new one. Whoever has opened it
    /// already goes on working.
    ///
    /// # Errors
    /// Those of [`Self::add_key`], then nothing has changed; those of the sink, then both may work.
    pub async fn rotate_key(
        &self,
        new: &Passphrase,
        label: Option<String>,
        cx: &Context,
    ) -> Result<KeyRotation> {
        let added = self.add_key(new, label, cx).await?;
        let removed = self.key_id();
        self.delete_key(&removed).await?;
        Ok(KeyRotation { added, removed })
    }

    /// A key file and the config in one text, to be kept elsewhere: with it and the pass phrase the
    /// data can be read even if all key files are lost.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; those of the sink.
    pub async fn export_key(&self, id: &KeyId) -> Result<Vec<u8>> {
        let key = match self.sink().get_bytes(&layout::key_file(id)).await {
            Ok(key) if KeyId::digest(&key) == *id => key,
            Ok(_) => return Err(Error::damaged(format!("key file {} is damaged", id.short()))),
            Err(error) if error.kind() == SinkErrorKind::NotFound => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("there is no key {}", id.short()),
                )
                .with_hint("list the keys with `backup key list`"));
            }
            Err(error) => return Err(error.into()),
        };
        let config = self.sink().get_bytes(&layout::config()).await?;
        let bundle = Bundle {
            about: ABOUT.to_owned(),
            version: EXPORTED_KEY_VERSION,
            key: BASE64.encode(key),
            config: BASE64.encode(config),
        };
        serde_json::to_vec_pretty(&bundle)
            .map_err(|error| Error::internal("cannot encode a key").with_source(error))
    }

    /// Puts an exported key file back, and the config if it is missing. The next backup notes that
    /// the key is there. `passphrase` supplies the pass phrase of the exported key; it is called
    /// only if the config object is not the exported one, as after an upgrade of the repository:
    /// then the identities inside both configs decide.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if that is no exported key, or that of another repository;
    /// [`ErrorKind::WrongPassphrase`]; those of `passphrase` and of the sink.
    pub async fn import_key<E: From<Error>>(
        sink: &dyn Sink,
        bundle: &[u8],
        passphrase: impl AsyncFnOnce() -> Result<Passphrase, E>,
    ) -> Result<KeyId, E> {
        let exported = ExportedKey::parse(bundle)?;
        match sink.get_bytes(&layout::config()).await {
            Ok(there) if there == exported.config => {}
            Ok(there) => {
                let passphrase = passphrase().await?;
                exported.require_same_repository(&there, passphrase).await?;
            }
            Err(error) if error.kind() == SinkErrorKind::NotFound => {
                exported.restore_config(sink).await?;
            }
            Err(error) => return Err(Error::from(error).into()),
        }
        let id = KeyId::digest(&exported.key);
        sink.put_bytes(&layout::key_file(&id), exported.key).await.map_err(Error::from)?;
        Ok(id)
    }
}

/// The content of a [`Bundle`].
struct ExportedKey {
    file: KeyFile,
    /// The key file, byte for byte.
    key: Vec<u8>,
    /// The sealed config.
    config: Vec<u8>,
}

impl ExportedKey {
    fn parse(bundle: &[u8]) -> Result<Self> {
        let invalid = |what: &str| {
            Error::new(ErrorKind::Invalid, format!("this is not an exported key: {what}"))
                .with_hint("give a file that `backup key export` wrote")
        };
        require_known_json("the exported key", bundle, EXPORTED_KEY_VERSION)?;
        let bundle: Bundle = serde_json::from_slice(bundle)
            .map_err(|error| invalid("it cannot be read").with_source(error))?;
        let key = BASE64.decode(&bundle.key).map_err(|_| invalid("its key file is damaged"))?;
        let file = KeyFile::from_json(&key)
            .map_err(|error| invalid("its key file is damaged").with_source(error))?;
        let config = BASE64.decode(&bundle.config).map_err(|_| invalid("its config is damaged"))?;
        Ok(Self { file, key, config })
    }

    /// Fails unless the config `there` has the identity of the exported config.
    async fn require_same_repository(&self, there: &[u8], passphrase: Passphrase) -> Result<()> {
        let file = self.file.clone();
        let unwrapped = tokio::task::spawn_blocking(move || file.unwrap_with(&passphrase));
        let Some(master) = unwrapped.await.map_err(cpu::panicked)?? else {
            return Err(Error::new(
                ErrorKind::WrongPassphrase,
                "the pass phrase does not open the exported key",
            )
            .with_hint(
                "give the pass phrase of the exported key: the config of the repository was \
                 changed since the export, and only this key shows whether it is the same \
                 repository",
            ));
        };
        let elsewhere = || {
            Error::new(ErrorKind::Invalid, "this key belongs to another repository")
                .with_hint("give a key exported from this repository")
        };
        let exported = Config::open(&self.config, &master)?;
        match Config::open(there, &master) {
            Ok(config) if config.id == exported.id => Ok(()),
            Ok(_) => Err(elsewhere()),
            // Another master key sealed it.
            Err(error) if error.kind() == ErrorKind::Damaged => Err(elsewhere()),
            Err(error) => Err(error),
        }
    }

    /// Puts the config back into a repository that has lost it.
    async fn restore_config(&self, sink: &dyn Sink) -> Result<()> {
        if sink.list_all(&layout::snapshots()).await?.is_empty()
            && sink.list_all(&layout::indexes()).await?.is_empty()
        {
            return Err(Error::new(
                ErrorKind::NoRepository,
                format!("there is no repository data at {sink}"),
            )
            .with_hint("check the address"));
        }
        sink.put_bytes(&layout::config_copy(), self.config.clone()).await?;
        sink.put_bytes(&layout::config(), self.config.clone()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_exported_keys_are_refused_with_both_versions() {
        let error = ExportedKey::parse(br#"{"version":2,"keys":[]}"#).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
        let text = "the exported key was written by format 2, this program reads up to 1";
        assert_eq!(error.to_string(), text);
        let other = ExportedKey::parse(br#"{"version":1}"#).err().unwrap();
        assert_eq!(other.kind(), ErrorKind::Invalid);
    }
}
