//! Profiles: keys, programs, assumed roles.

use std::sync::Arc;

use backup_core::clock::{Clock as _, SystemClock};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::aws::AwsCredentialProvider;

use super::files::Profiles;
use super::sts::{Role, assume};
use super::{Lease, files, limit, process, sts};
use crate::settings::{Environment, Secret};
use crate::wire::{Wire, WireError};

/// Makes the provider of a web identity: token file, role, session name.
pub(crate) type WebIdentity =
    Arc<dyn Fn(&str, &str, &str) -> Result<AwsCredentialProvider, WireError> + Send + Sync>;

/// A profile of `~/.aws`. The files are read again whenever credentials are fetched.
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) environment: Environment,
    /// For services that give credentials.
    pub(crate) wire: Wire,
    /// Region of requests to them, unless the profile says otherwise.
    pub(crate) region: String,
    pub(crate) web_identity: WebIdentity,
}

/// Deepest chain of profiles that name each other.
const DEEPEST: usize = 8;

impl Profile {
    pub(super) async fn fetch(&self) -> Result<Lease, WireError> {
        let profiles = files::read(&self.environment)?;
        self.resolve(&profiles, &self.name, 0).await
    }

    fn resolve<'a>(
        &'a self,
        profiles: &'a Profiles,
        name: &'a str,
        depth: usize,
    ) -> BoxFuture<'a, Result<Lease, WireError>> {
        async move {
            let wrong = |why: &str| WireError::Credentials(format!("the profile {name:?} {why}"));
            let profile = profiles.get(name).ok_or_else(|| wrong(&self.missing(profiles)))?;
            if depth > DEEPEST {
                return Err(wrong(&format!(
                    "has a chain of source_profile that is circular or longer than {DEEPEST}"
                )));
            }
            let get =
                |key: &str| profile.get(key).map(String::as_str).filter(|value| !value.is_empty());
            let keys = keys_of_profile(get);
            let Some(arn) = get("role_arn") else {
                if let Some(lease) = keys {
                    return Ok(lease);
                }
                if let Some(command) = get("credential_process") {
                    return process::run(command, limit(&self.environment)?).await;
                }
                let sso = profile.keys().any(|key| key.starts_with("sso_"));
                return Err(wrong(if sso {
                    "uses single sign-on; set a credential_process for it that runs `aws configure \
                     export-credentials`"
                } else {
                    "has neither keys nor a credential_process nor a role_arn"
                }));
            };
            let session = get("role_session_name").unwrap_or("backup");
            if let Some(token_file) = get("web_identity_token_file") {
                let provider = (self.web_identity)(token_file, arn, session)?;
                return lease_of_web_identity(&provider, wrong).await;
            }
            let source = match (get("source_profile"), get("credential_source")) {
                // A profile that names itself uses its own keys.
                (Some(source), _) if source == name => {
                    keys.ok_or_else(|| wrong("has no keys to assume a role with"))?
                }
                (Some(source), _) => self.resolve(profiles, source, depth + 1).await?,
                (None, Some("Environment")) => self
                    .keys_of_environment()
                    .ok_or_else(|| wrong("takes its keys from the environment, which has none"))?,
                (None, Some(other)) => {
                    return Err(wrong(&format!(
                        "has credential_source = {other}, which is not \
                         supported"
                    )));
                }
                (None, None) => return Err(wrong("has a role_arn and no source_profile")),
            };
            let region = get("region").unwrap_or(&self.region).to_owned();
            let role = Role {
                arn: arn.to_owned(),
                session: session.to_owned(),
                external_id: get("external_id").map(ToOwned::to_owned),
                duration: get("duration_seconds").map(ToOwned::to_owned),
                endpoint: sts(&self.environment, &region),
                region,
            };
            assume(&role, &source.credential, &self.wire).await
        }
        .boxed()
    }

    fn missing(&self, profiles: &Profiles) -> String {
        let known: Vec<_> = profiles.keys().map(String::as_str).collect();
        let paths: Vec<_> = files::paths(&self.environment)
            .into_iter()
            .flatten()
            .map(|path| path.display().to_string())
            .collect();
        match known.is_empty() {
            true => format!("does not exist: there are no profiles in {}", paths.join(" and ")),
            false => format!("does not exist; the existing profiles are {}", known.join(", ")),
        }
    }

    fn keys_of_environment(&self) -> Option<Lease> {
        let get = |name: &str| self.environment.get(name);
        let secret = |name: &str| get(name).map(|value| Secret::new(value.to_owned()));
        Some(Lease::lasting(
            get("AWS_ACCESS_KEY_ID")?,
            &secret("AWS_SECRET_ACCESS_KEY")?,
            secret("AWS_SESSION_TOKEN").as_ref(),
        ))
    }
}

fn keys_of_profile<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Lease> {
    get("aws_access_key_id").zip(get("aws_secret_access_key")).map(|(id, secret)| {
        let token = get("aws_session_token").map(|token| Secret::new(token.to_owned()));
        Lease::lasting(id, &Secret::new(secret.to_owned()), token.as_ref())
    })
}

async fn lease_of_web_identity(
    provider: &AwsCredentialProvider,
    wrong: impl Fn(&str) -> WireError,
) -> Result<Lease, WireError> {
    let credential = provider.get_credential().await.map_err(|error| {
        wrong(&format!(
            "cannot get credentials for its web identity: {}",
            WireError::words_of(&error)
        ))
    })?;
    // Its lifetime is not told; it is an hour or more, and the provider is asked again
    // before.
    let expires = SystemClock.now() + std::time::Duration::from_secs(20 * 60);
    Ok(Lease { credential, expires: Some(expires) })
}
