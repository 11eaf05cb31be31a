//! Credentials of S3.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`AwsKeys`]: credentials that are fetched again when their time comes |
//! | `search.rs` | where they are looked for, in order |
//! | `profile.rs` | profiles: keys, programs, assumed roles |
//! | `container.rs` | the service of a container |
//! | `files.rs` | `~/.aws/config` and `~/.aws/credentials` |
//! | `process.rs` | programs that give credentials |
//! | `sts.rs` | assuming a role |
//!
//! Google's and Azure's are found by `object_store`.

mod container;
mod files;
mod process;
mod profile;
mod search;
mod sts;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backup_core::clock::{Clock as _, SystemClock};
use backup_process::LIMIT_VARIABLE;
use jiff::Timestamp;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub(crate) use search::{Search, find};

use container::Container;

use crate::settings::{Environment, Secret};
use crate::wire::WireError;
use profile::Profile;

/// Temporary credentials are fetched again so long before they expire, so that no request begins
/// with ones that expire on the way.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// While they are good, they are fetched anew no more often than this: some services give what
/// expires soon, or are away.
const PAUSE: Duration = Duration::from_secs(10);

/// Longest wait for a service that gives credentials; those of the machine's provider answer at
/// once or not at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Name of the domain that has a region's services.
pub(crate) fn amazon(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// Address of the service that gives temporary credentials.
fn sts(environment: &Environment, region: &str) -> String {
    let given = environment.get("AWS_ENDPOINT_URL_STS").map(ToOwned::to_owned);
    given.unwrap_or_else(|| format!("https://sts.{region}.{}", amazon(region)))
}

/// Credentials, and until when they are good.
#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) credential: Arc<AwsCredential>,
    pub(crate) expires: Option<Timestamp>,
}

impl Lease {
    /// Whether they are good for longer than that.
    fn lasts(&self, time: Duration) -> bool {
        self.expires.is_none_or(|expires| SystemClock.now() + time < expires)
    }

    fn lasting(key_id: &str, secret: &Secret, token: Option<&Secret>) -> Self {
        let credential = AwsCredential {
            key_id: key_id.to_owned(),
            secret_key: secret.reveal().to_owned(),
            token: token.map(|token| token.reveal().to_owned()),
        };
        Self { credential: Arc::new(credential), expires: None }
    }
}

/// A secret by reference.
#[derive(Debug, Clone)]
pub(crate) enum SecretRef {
    Value(Secret),
    /// Read again when the store does not accept the old one, for at most this time.
    File(PathBuf, Duration),
}

impl SecretRef {
    async fn read(&self) -> Result<Secret, WireError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path, limit) => read_secret(path, *limit).await.map_err(|error| {
                WireError::Credentials(format!(
                    "cannot read the secret access key from {}: {error}",
                    path.display()
                ))
            }),
        }
    }
}

/// Reads a file with a secret, which may be a FIFO or a socket, for at most `limit`.
async fn read_secret(path: &Path, limit: Duration) -> std::io::Result<Secret> {
    let bytes = backup_process::read_file(path, limit).await?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8 text"))?;
    Ok(Secret::new(text.to_owned()))
}

/// The time that programs and files with credentials may take.
fn limit(environment: &Environment) -> Result<Duration, WireError> {
    backup_process::limit(environment.get(LIMIT_VARIABLE))
        .map_err(|error| WireError::Credentials(error.to_string()))
}

/// Where credentials are not simply read, they are fetched on a mere suspicion only so often: there
/// are users who may not look at objects, and are told so each time.
const SUSPICION: Duration = Duration::from_secs(60);

/// Makes a provider of `object_store`. One that is made anew has nothing remembered.
type Make = Box<dyn Fn() -> Result<AwsCredentialProvider, WireError> + Send + Sync>;

/// Where credentials come from.
pub(crate) enum Origin {
    Keys {
        key_id: String,
        secret: SecretRef,
        token: Option<Secret>,
        /// The settings or variables that the keys come from.
        names: String,
    },
    Profile(Box<Profile>),
    Container(Container),
    /// A service that `object_store` asks: web identity, instance. The text says where was looked
    /// before.
    Service {
        make: Make,
        looked: String,
    },
}

/// Credentials that are fetched again shortly before they expire, and when the store does not
/// accept them.
pub(crate) struct AwsKeys {
    origin: Origin,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    provider: Option<AwsCredentialProvider>,
    /// When they were fetched on a mere suspicion.
    suspected: Option<Instant>,
    /// When they were fetched last, or could not be.
    tried: Option<Instant>,
}

impl AwsKeys {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, state: Mutex::default() }
    }

    /// The settings, variables or service that the credentials come from.
    pub(crate) fn names(&self) -> String {
        match &self.origin {
            Origin::Keys { names, .. } => names.clone(),
            Origin::Profile(profile) => format!("the profile {}", profile.name),
            Origin::Container(_) => "the credentials of the container (AWS_CONTAINER_…)".to_owned(),
            Origin::Service { .. } => {
                "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, or the role of the instance"
                    .to_owned()
            }
        }
    }

    /// Credentials that are good now.
    pub(crate) async fn get(&self) -> Result<Arc<AwsCredential>, WireError> {
        let mut state = self.state.lock().await;
        self.get_locked(&mut state).await
    }

    /// Fetches others than those that were used, if there are any. It may be uncertain whether that
    /// is necessary. If they cannot be fetched, the old ones stay.
    pub(crate) async fn renew(&self, used: &AwsCredential, is_certain: bool) -> bool {
        let mut state = self.state.lock().await;
        // Somebody else may have renewed them meanwhile; but a provider hides what it remembers.
        if state.lease.as_ref().is_some_and(|lease| *lease.credential != *used) {
            return true;
        }
        if !is_certain && !matches!(self.origin, Origin::Keys { .. }) {
            if state.suspected.is_some_and(|last| last.elapsed() < SUSPICION) {
                return false;
            }
            state.suspected = Some(Instant::now());
        }
        let old = State { lease: state.lease.take(), provider: state.provider.take(), ..*state };
        match self.get_locked(&mut state).await {
            Ok(renewed) => *renewed != *used,
            Err(_) => {
                *state = old;
                false
            }
        }
    }

    async fn get_locked(&self, state: &mut State) -> Result<Arc<AwsCredential>, WireError> {
        if let Some(lease) = &state.lease
            && (lease.lasts(EARLY)
                || (lease.lasts(Duration::ZERO)
                    && state.tried.is_some_and(|at| at.elapsed() < PAUSE)))
        {
            return Ok(Arc::clone(&lease.credential));
        }
        state.tried = Some(Instant::now());
        let fetched = match &self.origin {
            Origin::Keys { key_id, secret, token, .. } => {
                secret.read().await.map(|secret| Lease::lasting(key_id, &secret, token.as_ref()))
            }
            Origin::Profile(profile) => profile.fetch().await,
            Origin::Container(container) => container.fetch().await,
            // It remembers them itself, until they expire.
            Origin::Service { make, looked } => return from_service(make, looked, state).await,
        };
        let lease = match (fetched, &state.lease) {
            (Ok(lease), _) => lease,
            // Who gives them may be away for a moment.
            (Err(error), Some(old)) if old.lasts(Duration::ZERO) => {
                tracing::warn!("cannot renew credentials that expire soon: {error}");
                old.clone()
            }
            (Err(error), _) => return Err(error),
        };
        let credential = Arc::clone(&lease.credential);
        state.lease = Some(lease);
        Ok(credential)
    }
}

/// Beginning of the message if no place has credentials.
pub(crate) const NONE_FOUND: &str = "no credentials found";
/// End of the message if a variable that the settings name is missing.
pub(crate) const UNSET: &str = "is not set in the environment";

async fn from_service(
    make: &Make,
    looked: &str,
    state: &mut State,
) -> Result<Arc<AwsCredential>, WireError> {
    let provider = match &state.provider {
        Some(provider) => Arc::clone(provider),
        None => Arc::clone(state.provider.insert(make()?)),
    };
    let none =
        |why: String| WireError::Credentials(format!("{NONE_FOUND} ({why}); looked in {looked}"));
    match tokio::time::timeout(PATIENCE, provider.get_credential()).await {
        Ok(Ok(credential)) => Ok(credential),
        Ok(Err(error)) => Err(none(WireError::words_of(&error))),
        Err(_) => Err(none(format!("no answer within {} seconds", PATIENCE.as_secs()))),
    }
}

impl fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.origin {
            Origin::Keys { .. } => "keys",
            Origin::Profile(_) => "profile",
            Origin::Container(_) => "container",
            Origin::Service { .. } => "service",
        };
        write!(f, "AwsKeys({kind})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_a_region_are_in_its_domain() {
        let none = Environment::default();
        assert_eq!(sts(&none, "eu-west-1"), "https://sts.eu-west-1.amazonaws.com");
        assert_eq!(sts(&none, "cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn");
        let given = Environment::from_iter([(
            "AWS_ENDPOINT_URL_STS".to_owned(),
            "https://mine".to_owned(),
        )]);
        assert_eq!(sts(&given, "cn-north-1"), "https://mine");
    }

    #[tokio::test]
    async fn a_key_file_is_read_again_when_the_old_key_expired() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "one\n").unwrap();
        let secret = SecretRef::File(path.clone(), Duration::from_secs(30));
        let (key_id, names) = ("me".to_owned(), "AWS_ACCESS_KEY_ID".to_owned());
        let keys = AwsKeys::new(Origin::Keys { key_id, secret, token: None, names });
        let first = keys.get().await.unwrap();
        assert_eq!(first.secret_key, "one");
        assert!(!keys.renew(&first, false).await, "nothing changed");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(keys.get().await.unwrap().secret_key, "one", "it is remembered");
        assert!(keys.renew(&first, true).await);
        assert_eq!(keys.get().await.unwrap().secret_key, "two");
        assert!(keys.renew(&first, true).await, "somebody renewed them before");
        assert!(!format!("{keys:?}").contains("two"));
        let second = keys.get().await.unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!keys.renew(&second, true).await);
        assert_eq!(
            keys.get().await.unwrap().secret_key,
            "two",
            "while the file is replaced, it may be missing"
        );
    }
}
