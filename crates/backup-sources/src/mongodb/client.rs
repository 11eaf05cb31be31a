//! The driver's client for an address, and the choice of a secondary.

use std::time::Duration;

use ::mongodb::Client;
use ::mongodb::error::{Error, ErrorKind};
use ::mongodb::options::{
    AuthMechanism, ClientOptions, Credential, ReadPreference, SelectionCriteria, Tls, TlsOptions,
};
use backup_core::source::{MissingPassword, SourceError, SourceErrorKind, SourceResult};
use bson::{Document, doc};

use super::address::{Address, BALANCED, unsupported};
use super::error::{Doing, Explain as _, convert};
use super::members::Members;
use super::options::MongoOptions;
use super::server::SETTLING;

/// Longest that connecting waits for a suitable server, unless the address sets a limit: an election
/// fits into it.
pub(super) const SELECTION: Duration = Duration::from_secs(15);

/// Longest that connecting waits for the first answer of any member, unless the address sets a
/// limit.
const FIRST_ANSWER: Duration = Duration::from_secs(8);

/// Longest wait for the DNS records of a `mongodb+srv` address.
const DNS: Duration = Duration::from_secs(8);

/// The driver's maximum of connections to a member, unless the address sets one.
const DEFAULT_POOL_SIZE: u32 = 10;

/// A client that has not been used yet.
pub(super) struct Connecting {
    pub(super) client: Client,
    pub(super) members: Members,
    /// The read preference of the address.
    pub(super) preference: Option<SelectionCriteria>,
    /// The first host of the address.
    pub(super) first: String,
    /// The hosts of the address, or "the server".
    label: String,
    /// The address is about one member, whether that belongs to a set or not.
    pub(super) is_direct: bool,
    /// Longest wait for the first answer.
    first_answer: Duration,
    /// The database that the user belongs to.
    pub(super) auth_source: Option<String>,
}

impl Connecting {
    /// The first command.
    ///
    /// # Errors
    /// The cause for each member if none answers in time.
    pub(super) async fn greet(&self, wanted: &SelectionCriteria) -> SourceResult<Document> {
        let admin = self.client.database("admin");
        let hello = admin.run_command(doc! { "isMaster": 1 }).selection_criteria(wanted.clone());
        let no_answer = async {
            tokio::time::sleep(self.first_answer).await;
            // Members that answer may elect a primary.
            if self.members.any_answers() {
                std::future::pending::<()>().await;
            }
        };
        let hello = tokio::select! {
            biased;
            hello = async { hello.await } => match hello {
                Ok(hello) => Ok(hello),
                Err(error) => Err(self.members.explained(error).await),
            },
            () = no_answer => Err(Error::custom(self.members.unreachable().await)),
        };
        hello.map_err(|error| match error.kind.as_ref() {
            ErrorKind::Authentication { .. } => {
                convert(&error, Doing::Reading, format_args!("cannot connect to {}", self.label))
            }
            _ => convert(&error, Doing::Reading, "cannot connect to the server"),
        })
    }
}

/// The settings of an address; those of `mongodb+srv` are partly in the DNS.
async fn parsed(options: &MongoOptions, address: &Address) -> SourceResult<ClientOptions> {
    let parsing = tokio::time::timeout(DNS, ClientOptions::parse(&address.uri)).await;
    let reason = match &parsing {
        Err(_) => Some(format!("no answer of the DNS in {} seconds", DNS.as_secs())),
        Ok(Err(error)) => records_error(error),
        Ok(Ok(_)) => None,
    };
    match (parsing, reason) {
        (Ok(parsed), None) => parsed.reading("cannot parse the server's address"),
        (_, reason) => {
            let host = match options.hosts() {
                "" => "the address",
                hosts => hosts,
            };
            let reason = reason.unwrap_or_default();
            let text = format!("cannot look up the DNS records of {host}: {reason}");
            Err(SourceError::new(SourceErrorKind::Unavailable, text).with_hint(
                "correct the host name of the mongodb+srv address, check the DNS of this machine, \
                 or write mongodb:// with the members of the replica set",
            ))
        }
    }
}

/// The reason for which the records of a `mongodb+srv` address cannot be used.
fn records_error(error: &Error) -> Option<String> {
    let ErrorKind::DnsResolve { message, .. } = error.kind.as_ref() else { return None };
    let has = |text: &str| message.contains(text);
    Some(if has("no record") {
        "there is no SRV record".to_owned()
    } else if has("timed out") || has("timeout") || has("no connections") {
        "no answer of the DNS".to_owned()
    } else if has("does not match domain name") {
        "a record names a host of another domain".to_owned()
    } else if has("TXT") {
        "the TXT record has options that are not allowed".to_owned()
    } else {
        message.clone()
    })
}

/// The client for an address.
pub(super) async fn client_of(options: &MongoOptions) -> SourceResult<Connecting> {
    let address = Address::new(&options.uri)?;
    if let Some(warning) = address.warning() {
        options.waits.warn(warning);
    }
    let mut settings = parsed(options, &address).await?;
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
    let first_answer = settings.server_selection_timeout.unwrap_or(FIRST_ANSWER);
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
    let auth_source = settings.credential.as_ref().and_then(|user| user.source.clone());
    let is_direct = settings.direct_connection == Some(true);
    let members = Members::watch(&mut settings);
    let client = Client::with_options(settings).map_err(|error| match error.kind.as_ref() {
        ErrorKind::Io(io) => {
            let text = format!("cannot read the certificate and key of the client: {io}");
            SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("correct `tls_certificate_key_file` or tlsCertificateKeyFile")
        }
        _ => convert(&error, Doing::Reading, "cannot connect to the server"),
    })?;
    let hosts = options.hosts();
    let label = if hosts.is_empty() { "the server".to_owned() } else { hosts.to_owned() };
    Ok(Connecting {
        client,
        members,
        preference,
        first,
        label,
        is_direct,
        first_answer,
        auth_source,
    })
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

/// Secondaries where there are some: a backup must not slow the primary down. If it
/// only prefers secondaries, the driver takes the first member that answers, often the primary: so
/// secondaries get a little time.
pub(super) async fn settle_for(
    client: &Client,
    wanted: SelectionCriteria,
    hello: &Document,
) -> SelectionCriteria {
    let SelectionCriteria::ReadPreference(ReadPreference::SecondaryPreferred { options }) = &wanted
    else {
        return wanted;
    };
    if members_of(hello) < 2 {
        return wanted;
    }
    let secondary =
        SelectionCriteria::ReadPreference(ReadPreference::Secondary { options: options.clone() });
    let admin = client.database("admin");
    let ping =
        async { admin.run_command(doc! { "ping": 1 }).selection_criteria(secondary.clone()).await };
    match tokio::time::timeout(SETTLING, ping).await {
        Ok(Ok(_)) => secondary,
        _ => wanted,
    }
}

/// Number of members with data in the reply of one of them.
pub(super) fn members_of(hello: &Document) -> usize {
    let count = |key: &str| hello.get_array(key).map_or(0, Vec::len);
    count("hosts") + count("passives")
}
