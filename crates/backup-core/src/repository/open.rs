//! Opening a repository.

use std::sync::Arc;

use super::{Repository, guard, key_files, layout};
use crate::context::Context;
use crate::crypto::Passphrase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Config, WRITE_VERSION};
use crate::sink::{Sink, SinkErrorKind, SinkOps};

const RECOVER_CONFIG: &str = "copy the object x-receipts/config, which holds the same bytes, to \
                              config";

impl Repository {
    /// Opens a repository.
    ///
    /// # Errors
    /// [`ErrorKind::NoRepository`], [`ErrorKind::WrongPassphrase`], [`ErrorKind::Damaged`] if
    /// config or all key files are lost or damaged, [`ErrorKind::UnsupportedVersion`], and those of
    /// the sink.
    pub async fn open(sink: Arc<dyn Sink>, passphrase: &Passphrase) -> Result<Self> {
        let sealed = match sink.get_bytes(&layout::config()).await {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == SinkErrorKind::NotFound => {
                return Err(missing_config(&*sink).await?);
            }
            Err(error) => return Err(error.into()),
        };
        // Of keys that this pass phrase opens, the one that opens the config counts: an `init` that
        // was killed may have left another.
        let mut failure = None;
        for (master, key_id) in key_files::unlock(&*sink, passphrase).await? {
            match Config::open(&sealed, &master) {
                Ok(config) => return Ok(Self::assemble(sink, master, key_id, config)),
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    failure = Some(error.with_hint(RECOVER_CONFIG));
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::internal("no key was found")))
    }

    /// Refuses a repository of a format that is only read.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedVersion`]
    pub(crate) fn require_writable(&self) -> Result<()> {
        let version = self.config().version;
        if version == WRITE_VERSION {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::UnsupportedVersion,
            format!("repository format version {version} can be read but not written"),
        )
        .with_hint("upgrade the repository with `backup migrate`"))
    }

    /// What a writer needs before it stores anything: a format it can write, and the guard in its
    /// place.
    pub(crate) async fn prepare_writing(&self, cx: &Context) -> Result<()> {
        self.require_writable()?;
        if guard::ensure(self).await? {
            cx.events.note(
                "A guard lock was written: restic's own prune and forget now refuse to run here.",
            );
        }
        let copy = layout::config_copy();
        if !self.sink().exists(&copy).await? {
            let config = self.sink().get_bytes(&layout::config()).await?;
            self.sink().put_bytes(&copy, config).await?;
        }
        Ok(())
    }
}

async fn missing_config(sink: &dyn Sink) -> Result<Error> {
    if sink.exists(&layout::config_copy()).await? {
        return Ok(Error::damaged("the object config is missing").with_hint(RECOVER_CONFIG));
    }
    if !sink.list_all(&layout::keys()).await?.is_empty() {
        return Ok(Error::damaged("the object config is missing")
            .with_hint("restore the object from a copy of this repository"));
    }
    Ok(Error::new(ErrorKind::NoRepository, format!("there is no repository at {sink}"))
        .with_hint("check the address, or create a repository with `backup init`"))
}
