//! Creating a repository. The config is written last: it is what makes a repository exist.

use std::sync::Arc;

use futures::StreamExt;

use super::{Repository, guard, keys, layout};
use crate::context::Context;
use crate::crypto::{MasterKey, Passphrase};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Config;
use crate::sink::{Prefix, Sink, SinkOps};

/// How to create a repository.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// A second pass phrase, to be kept offline, that opens the repository if the first is lost.
    pub recovery: Option<Passphrase>,
}

impl Repository {
    /// Creates a repository and opens it.
    ///
    /// # Errors
    /// [`ErrorKind::RepositoryExists`] if there is one; [`ErrorKind::Damaged`] if there are the remains of one;
    /// [`ErrorKind::Invalid`] for an empty pass phrase; those of the sink.
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
        let master = MasterKey::generate();
        let config = Config::generate();
        let mut written = vec![keys::store(&*sink, &master, passphrase, None, cx).await?];
        if let Some(recovery) = &options.recovery {
            written.push(keys::store(&*sink, &master, recovery, Some("recovery".to_owned()), cx).await?);
        }
        guard::put(&*sink, &master, &config).await?;
        let sealed = config.seal(&master)?;
        if !sink.create(&layout::config(), sealed.clone()).await? {
            // Another one was faster: this one leaves nothing behind.
            for id in &written {
                sink.delete_one(&layout::key_file(id)).await?;
                sink.delete_one(&layout::key_receipt(id)).await?;
            }
            guard::remove(&*sink, &master, &config).await?;
            return Err(exists());
        }
        sink.put_bytes(&layout::config_copy(), sealed).await?;
        Ok(Self::assemble(sink, master, written[0], config))
    }
}

fn exists() -> Error {
    Error::new(ErrorKind::RepositoryExists, "there is a repository here already")
        .with_hint("choose another place, or use this repository as it is")
}

/// Refuses where a repository is, or where one has lost its config; clears away the keys of an `init` that was killed.
async fn refuse_existing(sink: &dyn Sink, cx: &Context) -> Result<()> {
    if sink.exists(&layout::config()).await? {
        return Err(exists());
    }
    let remains = [layout::packs(), layout::indexes(), layout::snapshots()];
    for prefix in &remains {
        if sink.list(prefix).next().await.transpose()?.is_some() {
            return Err(Error::damaged(format!("there is no config here, but there are objects under {prefix}/"))
                .with_hint("this is a repository that lost its config: copy x-receipts/config to config, or choose another place"));
        }
    }
    if sink.exists(&layout::config_copy()).await? {
        return Err(Error::damaged("there is no config here, but a copy of one")
            .with_hint("copy x-receipts/config to config, or choose another place"));
    }
    for prefix in [layout::keys(), layout::locks(), layout::key_receipts()] {
        delete_old(sink, &prefix, cx).await?;
    }
    Ok(())
}

/// Removes what is older than an hour: it was left by an `init` that was killed, and is not of one that runs beside this.
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
