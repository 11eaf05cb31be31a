//! Azure Blob Storage.

use backup_core::sink::SinkResult;
use object_store::ClientOptions;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::{Plan, once, plain};
use crate::object::ObjectSink;
use crate::object::error::AZURE_CREDENTIALS;

/// Variables of the environment that tell how to log in.
const LOGIN: [(&str, AzureConfigKey); 9] = [
    ("AZURE_STORAGE_SAS_KEY", AzureConfigKey::SasKey),
    ("AZURE_STORAGE_SAS_TOKEN", AzureConfigKey::SasKey),
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
    ("AZURE_USE_AZURE_CLI", AzureConfigKey::UseAzureCli),
];

/// A sink over Azure Blob Storage. Credentials: the account's key, else a shared access signature,
/// a client's secret, a federated token or the machine's identity, all from the environment.
///
/// # Errors
/// Settings that make no sense, and credentials that are not there.
pub(crate) fn azure(plan: &Plan<'_>) -> SinkResult<ObjectSink> {
    let settings = &plan.settings;
    plan.refuse(
        "Azure",
        &[
            ("sse", settings.sse.is_some()),
            ("kms_key_id", settings.kms_key_id.is_some()),
            ("customer_key_file", settings.customer_key_file.is_some()),
            ("lock_days", settings.lock_days.is_some()),
            ("lock_mode", settings.lock_mode.is_some()),
            ("storage_class", settings.storage_class.is_some()),
            ("access_key_id", settings.access_key_id.is_some()),
            ("service_account", settings.service_account.is_some()),
            ("path_style = false", settings.path_style == Some(false)),
        ],
    )?;
    let environment = &settings.environment;
    let Some(account) = &settings.account else {
        return Err(plan.invalid("the storage account is not set").with_hint(
            "set account, write az://container/prefix?account=NAME, or set AZURE_STORAGE_ACCOUNT \
             in the environment",
        ));
    };
    let default = format!("https://{account}.blob.core.windows.net");
    let base = plan.endpoint(settings.endpoint.as_deref().unwrap_or(&default))?;
    let gate = plan.gate();
    let wire = plan.wire(plan.clients()?, &base, None, &gate);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(plan.bucket)
        // In the form in which the wire knows the host.
        .with_endpoint(plain(&base).to_owned())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(once())
        .with_http_connector(wire);
    let variable = settings.account_key_env.as_deref();
    let key = match variable {
        Some(name) => Some(environment.get(name).ok_or_else(|| {
            plan.invalid(format!(
                "the account key is missing: {name} is not set in the environment"
            ))
        })?),
        None => environment.first(&[
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_KEY",
            "AZURE_STORAGE_ACCESS_KEY",
        ]),
    };
    for (name, config) in LOGIN {
        if let (Some(value), None) = (environment.get(name), key) {
            builder = builder.with_config(config, value);
        }
    }
    if let Some(key) = key {
        builder = builder.with_access_key(key);
    }
    // The library's error may repeat a key that is not Base64.
    let store = builder.build().map_err(|_| {
        plan.invalid("no usable credentials for the storage account").with_hint(AZURE_CREDENTIALS)
    })?;
    Ok(ObjectSink::new(plan.parts(store, settings.endpoint.as_ref().map(|_| &base), gate)))
}
