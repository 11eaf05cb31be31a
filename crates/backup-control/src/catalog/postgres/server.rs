//! Which database holds a catalog, and how it is connected to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backup_core::source::SourceErrorKind;
use backup_sources::postgres::{PostgresOptions, PostgresSession, TlsMode};

use super::super::error::Error;
use crate::address::ServerAddress;
use crate::config::CatalogConfig;
use crate::environment::Environment;
use crate::passphrase::PassphraseOrigin;

/// How long each host may take to let us in.
const CONNECTING: Duration = Duration::from_secs(5);
/// What helps where the server is away.
const AWAY: &str = "check that the server runs and this machine can reach it; backups continue \
                    without the catalog";
/// What helps where the address or the credentials are wrong.
const WRONG: &str = "check user, password and database of `[catalog]` or BACKUP_CATALOG";

/// Which database holds a catalog.
#[derive(Clone)]
pub struct Server {
    options: Arc<PostgresOptions>,
    /// The address as it may be shown.
    shown: String,
    password: Option<PassphraseOrigin>,
    env: Environment,
}

impl Server {
    pub(in super::super) fn new(
        url: &ServerAddress,
        section: Option<&CatalogConfig>,
        env: &Environment,
    ) -> crate::error::Result<Self> {
        let mut options =
            PostgresOptions::parse(url.reveal()).map_err(backup_core::error::Error::from)?;
        if let Some(file) = section.and_then(|section| section.tls_ca_file.clone()) {
            options.tls_ca_file = Some(file);
            // Whoever names an authority wants it to be asked.
            if options.tls != TlsMode::VerifyCa {
                options.tls = TlsMode::VerifyFull;
            }
        }
        let password = PassphraseOrigin::of_catalog(section, env);
        Ok(Self { options: Arc::new(options), shown: url.to_string(), password, env: env.clone() })
    }

    /// The address as it may be shown.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Connects to the first host that takes writes. The password is fetched each time: it may have
    /// been changed.
    pub(super) async fn connect(&self) -> Result<PostgresSession, Refusal> {
        let mut options = (*self.options).clone();
        if let Some(origin) = &self.password {
            let fetched = origin.fetch_password(&self.env).await;
            let fetched = fetched.map_err(|error| {
                let hint = error.hint().unwrap_or(WRONG).to_owned();
                Refusal { is_away: false, hint, text: crate::words::chain(&error) }
            })?;
            options.password = Some(fetched.reveal().to_owned());
        }
        PostgresSession::open(&options, CONNECTING).await.map_err(|error| {
            let is_away = error.kind() == SourceErrorKind::Unavailable;
            let hint = error.hint().unwrap_or(if is_away { AWAY } else { WRONG }).to_owned();
            Refusal { is_away, hint, text: crate::words::chain(&error) }
        })
    }

    /// An error that says why it cannot be reached.
    pub(super) fn unreachable(&self, refusal: Refusal) -> Error {
        let Refusal { hint, text, .. } = refusal;
        Error::Unreachable { catalog: self.shown.clone(), hint, cause: text.into() }
    }

    /// The same for one that does not answer.
    pub(super) fn late(&self, waited: Duration) -> Error {
        let text = format!("no answer within {} seconds", waited.as_secs());
        self.unreachable(Refusal { is_away: true, hint: AWAY.to_owned(), text })
    }
}

/// Why a server cannot be connected to.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// Whether it may be there in a moment.
    pub(super) is_away: bool,
    pub(super) hint: String,
    pub(super) text: String,
}

/// Without credentials.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.shown).finish()
    }
}
