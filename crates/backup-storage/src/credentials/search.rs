//! Where credentials are looked for, in order:
//!
//! 1. the settings' access key, with its secret from a file or an environment variable;
//! 2. the profile of the URL or the settings;
//! 3. `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`;
//! 4. the profile `AWS_PROFILE`;
//! 5. `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`;
//! 6. the container (`AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, `…_FULL_URI`);
//! 7. the profile `default`, if it exists;
//! 8. the instance, unless `AWS_EC2_METADATA_DISABLED` is set.

use std::sync::Arc;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use super::container::Container;
use super::profile::{Profile, WebIdentity};
use super::{NONE_FOUND, Origin, SecretRef, UNSET, files, limit, sts};
use crate::settings::{Secret, StoreSettings};
use crate::wire::{Wire, WireError};

/// Variable with the secret access key, unless the settings name another one.
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// What the search needs.
pub(crate) struct Search<'a> {
    pub(crate) settings: &'a StoreSettings,
    pub(crate) region: &'a str,
    /// For services that give credentials.
    pub(crate) wire: Wire,
}

/// Where the credentials come from. Nothing is fetched yet.
///
/// # Errors
/// [`WireError::Credentials`] with all places that were looked at.
pub(crate) fn find(search: &Search<'_>) -> Result<Origin, WireError> {
    let settings = search.settings;
    let environment = &settings.environment;
    if let Some(key_id) = &settings.access_key_id {
        return Ok(Origin::Keys {
            key_id: key_id.clone(),
            secret: secret(settings)?,
            token: token(settings)?,
            names: format!("access_key_id and {}", secret_name(settings)),
        });
    }
    if let Some(name) = &settings.profile {
        return Ok(search.profile(name));
    }
    if let (Some(id), Some(_)) =
        (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY"))
    {
        return Ok(Origin::Keys {
            key_id: id.to_owned(),
            secret: secret(settings)?,
            token: token(settings)?,
            names: format!("AWS_ACCESS_KEY_ID and {}", secret_name(settings)),
        });
    }
    if let Some(name) = environment.get("AWS_PROFILE") {
        return Ok(search.profile(name));
    }
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE").zip(environment.get("AWS_ROLE_ARN")).is_some()
    {
        return Ok(search.service());
    }
    if let Some(container) = Container::find(environment, &search.wire)? {
        return Ok(Origin::Container(container));
    }
    if files::read(environment)?.contains_key("default") {
        return Ok(search.profile("default"));
    }
    if environment
        .get("AWS_EC2_METADATA_DISABLED")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Err(WireError::Credentials(format!("{NONE_FOUND}; looked in {}", search.looked())));
    }
    Ok(search.service())
}

/// The setting or variable that the secret access key comes from.
fn secret_name(settings: &StoreSettings) -> &str {
    match (&settings.secret_access_key_file, &settings.secret_access_key_env) {
        (Some(_), _) => "secret_access_key_file",
        (None, Some(name)) => name,
        (None, None) => SECRET,
    }
}

fn secret(settings: &StoreSettings) -> Result<SecretRef, WireError> {
    if let Some(path) = &settings.secret_access_key_file {
        return Ok(SecretRef::File(path.clone(), limit(&settings.environment)?));
    }
    let name = settings.secret_access_key_env.as_deref().unwrap_or(SECRET);
    match settings.environment.get(name) {
        Some(value) => Ok(SecretRef::Value(Secret::new(value.to_owned()))),
        None => {
            Err(WireError::Credentials(format!("the secret access key is missing: {name} {UNSET}")))
        }
    }
}

fn token(settings: &StoreSettings) -> Result<Option<Secret>, WireError> {
    let environment = &settings.environment;
    let value = |value: &str| Secret::new(value.to_owned());
    match &settings.session_token_env {
        Some(name) => environment.get(name).map(|text| Some(value(text))).ok_or_else(|| {
            WireError::Credentials(format!("the session token is missing: {name} {UNSET}"))
        }),
        // The variable belongs to the key of the environment, not to another one.
        None if settings
            .access_key_id
            .as_deref()
            .is_none_or(|id| environment.get("AWS_ACCESS_KEY_ID") == Some(id)) =>
        {
            Ok(environment.get("AWS_SESSION_TOKEN").map(value))
        }
        None => Ok(None),
    }
}

impl Search<'_> {
    fn profile(&self, name: &str) -> Origin {
        let (builder, wire) = (self.builder(), self.wire.clone());
        let web_identity: WebIdentity = Arc::new(move |token_file, role, session| {
            let builder = builder
                .clone()
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file)
                .with_config(AmazonS3ConfigKey::RoleArn, role)
                .with_config(AmazonS3ConfigKey::RoleSessionName, session);
            provider(builder)
        });
        Origin::Profile(Box::new(Profile {
            name: name.to_owned(),
            environment: self.settings.environment.clone(),
            wire,
            region: self.region.to_owned(),
            web_identity,
        }))
    }

    fn service(&self) -> Origin {
        use AmazonS3ConfigKey as Config;
        let environment = &self.settings.environment;
        let variables = [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", Config::WebIdentityTokenFile),
            ("AWS_ROLE_ARN", Config::RoleArn),
            ("AWS_ROLE_SESSION_NAME", Config::RoleSessionName),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", Config::MetadataEndpoint),
        ];
        let mut builder = self.builder();
        for (name, config) in variables {
            if let Some(value) = environment.get(name) {
                builder = builder.with_config(config, value);
            }
        }
        Origin::Service { make: Box::new(move || provider(builder.clone())), looked: self.looked() }
    }

    fn builder(&self) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_bucket_name("unused")
            .with_region(self.region)
            .with_http_connector(self.wire.clone())
            .with_retry(RetryConfig { max_retries: 2, ..RetryConfig::default() })
            .with_config(
                AmazonS3ConfigKey::StsEndpoint,
                sts(&self.settings.environment, self.region),
            )
    }

    fn looked(&self) -> String {
        let environment = &self.settings.environment;
        let files: Vec<_> = files::paths(environment)
            .into_iter()
            .flatten()
            .map(|path| path.display().to_string())
            .collect();
        let files =
            if files.is_empty() { "~/.aws (HOME is not set)".to_owned() } else { files.join(", ") };
        format!(
            "the settings access_key_id and profile, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             AWS_PROFILE, {files}, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, \
             AWS_CONTAINER_CREDENTIALS_*, the instance's metadata service"
        )
    }
}

fn provider(
    builder: AmazonS3Builder,
) -> Result<object_store::aws::AwsCredentialProvider, WireError> {
    let store = builder.build().map_err(|error| WireError::Credentials(error.to_string()))?;
    Ok(Arc::clone(store.credentials()))
}
