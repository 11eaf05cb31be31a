//! Creating a repository. The config is written last: it is what makes a repository exist.

use std::sync::Arc;

use futures::StreamExt;

use super::key_files::WrappedKey;
use super::{Repository, adoptions, guard, key_files, layout};
use crate::context::Context;
use crate::crypto::{MasterKey, Passphrase};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Config;
use crate::sink::{Prefix, Sink, SinkErrorKind, SinkOps};

/// How to create a repository.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// A second pass phrase, to be kept offline, that opens the repository if the first is lost.
    pub recovery: Option<Passphrase>,
    /// A repository that this one is to receive copies from, and in which way it is to be like it.
    pub like: Option<Likeness>,
}

/// What a new repository takes over from another one.
#[derive(Debug, Clone)]
pub struct Likeness {
    /// The other one. Its chunker settings are always taken over: the same data is cut into the
    /// same chunks in both, so that what was copied and what is backed up directly deduplicate.
    pub repository: Repository,
    /// Take over its master key as well: then blobs are copied without being sealed anew, and
    /// whoever has a pass phrase of one and can read the key files of the other can read both.
    pub share_key: bool,
}

impl Repository {
    /// Creates a repository and opens it.
    ///
    /// # Errors
    /// [`ErrorKind::RepositoryExists`] if there is one; [`ErrorKind::Damaged`] if there are the
    /// remains of one; [`ErrorKind::Invalid`] for an empty pass phrase; those of the sink.
    pub async fn init(
        sink: Arc<dyn Sink>,
        passphrase: &Passphrase,
        options: &InitOptions,
        cx: &Context,
    ) -> Result<Self> {
        if passphrase.is_empty() || options.recovery.as_ref().is_some_and(Passphrase::is_empty) {
            return Err(Error::new(ErrorKind::Invalid, "the pass phrase is empty"));
        }
        refuse_existing(&*sink, cx).await?;
        let (master, config) = match &options.like {
            None => (MasterKey::generate(), Config::generate()),
            Some(Likeness { repository, share_key }) => {
                let master =
                    if *share_key { (**repository.key()).clone() } else { MasterKey::generate() };
                (master, repository.config().relative(repository.key()))
            }
        };
        let mut keys = vec![key_files::wrap(&master, passphrase, None, cx).await?];
        if let Some(recovery) = &options.recovery {
            keys.push(key_files::wrap(&master, recovery, Some("recovery".to_owned()), cx).await?);
        }
        let sealed = config.seal(&master)?;
        match store(&*sink, &master, &config, &keys, sealed.clone(), cx).await {
            Ok(()) => {}
            // The answer may have been lost on the way back: what is there decides.
            Err(error) => match sink.get_bytes(&layout::config()).await {
                Ok(stored) if stored == sealed => {}
                Ok(_) => {
                    remove_traces(&*sink, &master, &config, &keys).await;
                    return Err(exists());
                }
                Err(reading) => {
                    if reading.kind() == SinkErrorKind::NotFound {
                        remove_traces(&*sink, &master, &config, &keys).await;
                    }
                    return Err(error);
                }
            },
        }
        sink.put_bytes(&layout::config_copy(), sealed).await?;
        Ok(Self::assemble(sink, master, keys[0].id, config))
    }
}

/// Stores everything; the config last.
async fn store(
    sink: &dyn Sink,
    master: &MasterKey,
    config: &Config,
    keys: &[WrappedKey],
    sealed: Vec<u8>,
    cx: &Context,
) -> Result<()> {
    for key in keys {
        key_files::store(sink, master, key, cx).await?;
    }
    guard::put(sink, master, config).await?;
    // A new repository has no snapshots of an earlier version to adopt.
    sink.put_bytes(&layout::adoptions_begun(), adoptions::BEGUN).await?;
    if sink.create(&layout::config(), sealed).await? { Ok(()) } else { Err(exists()) }
}

/// Removes what an `init` that failed, or lost against another, has written. The first error
/// counts, not those of this.
async fn remove_traces(sink: &dyn Sink, master: &MasterKey, config: &Config, keys: &[WrappedKey]) {
    for key in keys {
        _ = sink.delete_one(&layout::key_file(&key.id)).await;
        _ = sink.delete_one(&layout::key_receipt(&key.id)).await;
    }
    _ = guard::remove(sink, master, config).await;
}

fn exists() -> Error {
    Error::new(ErrorKind::RepositoryExists, "a repository already exists here")
        .with_hint("choose another place, or use the existing repository")
}

/// Refuses where a repository is, or where one has lost its config; clears away the keys of an
/// `init` that was killed.
async fn refuse_existing(sink: &dyn Sink, cx: &Context) -> Result<()> {
    if sink.exists(&layout::config()).await? {
        return Err(exists());
    }
    let remains = [layout::packs(), layout::indexes(), layout::snapshots()];
    for prefix in &remains {
        if sink.list(prefix).next().await.transpose()?.is_some() {
            return Err(Error::damaged(format!(
                "the object config is missing, but there are objects under {prefix}/"
            ))
            .with_hint(
                "copy x-receipts/config to config, which this repository has lost, or choose \
                 another place",
            ));
        }
    }
    if sink.exists(&layout::config_copy()).await? {
        return Err(Error::damaged("the object config is missing, but its copy exists")
            .with_hint("copy x-receipts/config to config, or choose another place"));
    }
    for prefix in [layout::keys(), layout::locks(), layout::key_receipts()] {
        delete_old(sink, &prefix, cx).await?;
    }
    Ok(())
}

/// Removes what is older than an hour: it was left by an `init` that was killed, and is not of one
/// that runs beside this.
async fn delete_old(sink: &dyn Sink, prefix: &Prefix, cx: &Context) -> Result<()> {
    let now = cx.clock.now();
    for meta in sink.list_all(prefix).await? {
        let age = meta.last_modified.map(|written| written.duration_until(now));
        if age.is_some_and(|age| age > jiff::SignedDuration::from_hours(1)) {
            sink.delete_one(&meta.key).await?;
        }
    }
    Ok(())
}
