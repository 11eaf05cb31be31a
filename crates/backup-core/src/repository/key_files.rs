//! Key files.

use jiff::Timestamp;
use serde::Serialize;

use super::{Repository, layout, receipts};
use crate::context::Context;
use crate::crypto::{MasterKey, Passphrase};
use crate::error::{Error, ErrorKind, Result};
use crate::format::KeyFile;
use crate::id::KeyId;
use crate::sink::{Sink, SinkOps};

/// A key file, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its name.
    pub id: KeyId,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// What it is for.
    pub label: Option<String>,
    /// Whether this key opened the repository.
    pub current: bool,
}

/// A key file that is ready to be stored.
#[derive(Debug)]
pub(crate) struct WrappedKey {
    pub(crate) id: KeyId,
    json: Vec<u8>,
}

/// Wraps the master key under one more pass phrase.
pub(crate) async fn wrap(
    master: &MasterKey,
    passphrase: &Passphrase,
    label: Option<String>,
    cx: &Context,
) -> Result<WrappedKey> {
    let now = cx.clock.now();
    let (master, passphrase) = (master.clone(), passphrase.clone());
    let json = tokio::task::spawn_blocking(move || {
        KeyFile::wrap(&master, &passphrase, label, now)?.to_json()
    })
    .await
    .map_err(super::cpu::panicked)??;
    Ok(WrappedKey { id: KeyId::digest(&json), json })
}

/// Stores a key file, then its receipt.
pub(crate) async fn store(
    sink: &dyn Sink,
    master: &MasterKey,
    key: &WrappedKey,
    cx: &Context,
) -> Result<()> {
    sink.put_bytes(&layout::key_file(&key.id), key.json.clone()).await?;
    receipts::put(sink, master, &layout::key_receipt(&key.id), cx.clock.now()).await
}

/// Finds the key files that `passphrase` opens: at least one.
pub(crate) async fn unlock(
    sink: &dyn Sink,
    passphrase: &Passphrase,
) -> Result<Vec<(MasterKey, KeyId)>> {
    let mut opened_keys = Vec::new();
    let mut damaged = Vec::new();
    let mut tried = 0;
    for meta in sink.list_all(&layout::keys()).await? {
        let Ok(id) = meta.key.file_name().parse::<KeyId>() else {
            continue;
        };
        let file = match load(sink, id).await {
            Ok(file) => file,
            Err(error) if error.is_damage() => {
                damaged.push(id.short());
                continue;
            }
            Err(error) => return Err(error),
        };
        let passphrase = passphrase.clone();
        let opened = tokio::task::spawn_blocking(move || file.unwrap_with(&passphrase));
        match opened.await.map_err(super::cpu::panicked)? {
            Ok(Some(master)) => opened_keys.push((master, id)),
            Ok(None) => tried += 1,
            Err(_) => damaged.push(id.short()),
        }
    }
    if opened_keys.is_empty() { Err(not_opened(tried, &damaged)) } else { Ok(opened_keys) }
}

/// The master key, if `passphrase` opens this key file.
pub(crate) async fn unlock_one(
    sink: &dyn Sink,
    id: KeyId,
    passphrase: &Passphrase,
) -> Result<Option<MasterKey>> {
    let file = load(sink, id).await?;
    let passphrase = passphrase.clone();
    tokio::task::spawn_blocking(move || file.unwrap_with(&passphrase))
        .await
        .map_err(super::cpu::panicked)?
}

fn not_opened(tried: usize, damaged: &[String]) -> Error {
    if tried == 0 && damaged.is_empty() {
        return Error::damaged("the repository has no key file")
            .with_hint("restore the objects under keys/ from a copy of this repository");
    }
    if damaged.is_empty() {
        return Error::new(
            ErrorKind::WrongPassphrase,
            "wrong pass phrase: it opens no key of this \
             repository",
        )
        .with_hint("check where the pass phrase comes from; a recovery key works too");
    }
    let names = damaged.join(", ");
    if tried == 0 {
        Error::damaged(format!("all key files are damaged: {names}"))
    } else {
        Error::new(
            ErrorKind::WrongPassphrase,
            format!("wrong pass phrase, or it belongs to a damaged key file: {names}"),
        )
    }
    .with_hint(
        "use another key of this repository, for example the recovery key, or restore the key file \
         from a copy",
    )
}

async fn load(sink: &dyn Sink, id: KeyId) -> Result<KeyFile> {
    let json = sink.get_bytes(&layout::key_file(&id)).await?;
    if KeyId::digest(&json) != id {
        return Err(Error::damaged(format!("key file {} is damaged", id.short())));
    }
    KeyFile::from_json(&json)
}

impl Repository {
    /// All key files; damaged ones as errors.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn keys(&self) -> Result<Vec<(KeyId, Result<KeyInfo>)>> {
        let mut keys = Vec::new();
        for meta in self.sink().list_all(&layout::keys()).await? {
            let Ok(id) = meta.key.file_name().parse::<KeyId>() else {
                continue;
            };
            let info = match load(&**self.sink(), id).await {
                Ok(file) => Ok(KeyInfo {
                    id,
                    created: file.created,
                    label: file.x_label,
                    current: id == self.key_id(),
                }),
                Err(error) if error.is_damage() => Err(error),
                Err(error) => return Err(error),
            };
            keys.push((id, info));
        }
        Ok(keys)
    }
}
