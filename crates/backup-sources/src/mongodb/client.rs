//! The driver's client for an address, and the choice of a secondary.

use std::time::Duration;

use ::mongodb::Client;
use ::mongodb::options::{
    AuthMechanism, ClientOptions, Credential, ReadPreference, SelectionCriteria, Tls, TlsOptions,
};
use backup_core::source::{MissingPassword, SourceError, SourceErrorKind, SourceResult};
use bson::doc;

use super::address::{Address, BALANCED, unsupported};
use super::error::{Explain as _, is_refused};
use super::options::MongoOptions;
use super::server::SETTLING;

/// Longest that connecting waits for a suitable server, unless the address says something else.
pub(super) const SELECTION: Duration = Duration::from_secs(15);

/// The driver's maximum of connections to a member, unless the address sets one.
const DEFAULT_POOL_SIZE: u32 = 10;

/// The client, the read preference of the address, and its first host.
pub(super) async fn client_of(
    options: &MongoOptions,
) -> SourceResult<(Client, Option<SelectionCriteria>, String)> {
    let address = Address::new(&options.uri)?;
    if let Some(warning) = address.warning() {
        options.waits.warn(warning);
    }
    let mut settings =
        ClientOptions::parse(&address.uri).await.reading("cannot parse the server's address")?;
    // Also by the DNS records of a `mongodb+srv` address.
    if settings.load_balanced == Some(true) {
        return Err(unsupported("loadBalanced", BALANCED));
    }
    if let Some(password) = &options.password {
        let credential = settings.credential.as_mut().ok_or_else(|| {
            SourceError::new(SourceErrorKind::Invalid, "the address has no user for the password")
                .with_hint("write mongodb://USER@host/")
        })?;
        credential.password = Some(password.clone());
    }
    if settings.credential.as_ref().is_some_and(lacks_password) {
        return Err(without_password("no password is given for the user of the address"));
    }
    if options.tls_ca_file.is_some() || options.tls_certificate_key_file.is_some() {
        let mut tls = match settings.tls.take() {
            Some(Tls::Enabled(tls)) => tls,
            _ => TlsOptions::default(),
        };
        tls.ca_file_path = options.tls_ca_file.clone().or(tls.ca_file_path);
        tls.cert_key_file_path =
            options.tls_certificate_key_file.clone().or(tls.cert_key_file_path);
        settings.tls = Some(Tls::Enabled(tls));
    }
    settings.app_name.get_or_insert_with(|| "backup".to_owned());
    settings.server_selection_timeout.get_or_insert(SELECTION);
    // Questions whether the server is alive must not queue behind the commands they are about. Zero
    // means no limit.
    let pool = settings.max_pool_size.unwrap_or(DEFAULT_POOL_SIZE);
    if pool != 0 {
        let commands = u32::try_from(options.cursors.max(options.parallel)).unwrap_or(u32::MAX);
        settings.max_pool_size = Some(pool.max(commands.saturating_add(2)));
    }
    let preference = settings.selection_criteria.clone();
    let first = settings.hosts.first().map(ToString::to_string).unwrap_or_default();
    let client = Client::with_options(settings).reading("cannot connect to the server")?;
    Ok((client, preference, first))
}

/// True if a user is named without a password, and the mechanism needs one.
fn lacks_password(credential: &Credential) -> bool {
    let needs = credential.mechanism.as_ref().is_none_or(|mechanism| {
        matches!(
            mechanism,
            AuthMechanism::ScramSha1 | AuthMechanism::ScramSha256 | AuthMechanism::Plain
        )
    });
    needs && credential.username.is_some() && credential.password.is_none()
}

/// The error for a missing password.
pub(super) fn without_password(text: &str) -> SourceError {
    let hint = "write the address with a user, mongodb://USER@HOST/, and set `password_file` or \
                `password_env` of the source, or write mongodb://USER:PASSWORD@HOST/";
    SourceError::new(SourceErrorKind::Invalid, text).with_hint(hint).with_source(MissingPassword)
}

/// Secondaries where there are some: a backup must not slow the primary down. The driver takes
/// whoever answers first if it only prefers secondaries, and that is often the primary: so
/// secondaries get a little time.
///
/// # Errors
/// Refused credentials: another attempt would wait for the driver to try the server again, ten
/// seconds later.
pub(super) async fn settle_for(
    client: &Client,
    wanted: SelectionCriteria,
) -> SourceResult<SelectionCriteria> {
    let SelectionCriteria::ReadPreference(ReadPreference::SecondaryPreferred { options }) = &wanted
    else {
        return Ok(wanted);
    };
    let secondary =
        SelectionCriteria::ReadPreference(ReadPreference::Secondary { options: options.clone() });
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "isMaster": 1 }).selection_criteria(wanted.clone()).await;
    let hello = match hello {
        Err(error) if is_refused(&error) => {
            return Err(error).reading("cannot connect to the server");
        }
        other => other.ok(),
    };
    let members = hello.and_then(|hello| hello.get_array("hosts").ok().map(Vec::len)).unwrap_or(0);
    if members < 2 {
        return Ok(wanted);
    }
    let ping =
        async { admin.run_command(doc! { "ping": 1 }).selection_criteria(secondary.clone()).await };
    match tokio::time::timeout(SETTLING, ping).await {
        Ok(Ok(_)) => Ok(secondary),
        _ => Ok(wanted),
    }
}
