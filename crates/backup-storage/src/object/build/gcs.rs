//! Google Cloud Storage, by its XML interface.

use std::path::PathBuf;
use std::sync::Arc;

use backup_core::sink::{Custody, SinkResult};
use object_store::ClientOptions;
use object_store::gcp::GoogleCloudStorageBuilder;

use super::{Plan, once, plain};
use crate::object::custody::{GcsCustody, Raw};
use crate::object::error::GOOGLE_CREDENTIALS;
use crate::object::{ObjectSink, Parts};

const GOOGLE: &str = "https://storage.googleapis.com";

/// A sink over Google Cloud Storage. Credentials: the service account of the settings, else the
/// file that `GOOGLE_APPLICATION_CREDENTIALS` (or `GOOGLE_SERVICE_ACCOUNT`) names, else those of
/// the user (`gcloud auth application-default login`), else those of the machine.
///
/// # Errors
/// Settings that make no sense, and credentials that cannot be read.
pub(crate) fn gcs(plan: &Plan<'_>) -> SinkResult<ObjectSink> {
    let settings = &plan.settings;
    plan.refuse(
        "Google Cloud Storage",
        &[
            ("sse", settings.sse.is_some()),
            ("kms_key_id", settings.kms_key_id.is_some()),
            ("customer_key_file", settings.customer_key_file.is_some()),
            ("lock_days", settings.lock_days.is_some()),
            ("lock_mode", settings.lock_mode.is_some()),
            ("access_key_id", settings.access_key_id.is_some()),
            ("path_style = false", settings.path_style == Some(false)),
            ("account_key_env", settings.account_key_env.is_some()),
        ],
    )?;
    let base = plan.endpoint(settings.endpoint.as_deref().unwrap_or(GOOGLE))?;
    // In the form in which the wire knows the host.
    let endpoint = plain(&base);
    let gate = plan.gate();
    let wire = plan.wire(plan.clients()?, &base, None, &gate);
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(plan.bucket)
        .with_base_url(endpoint)
        .with_client_options(ClientOptions::new())
        .with_retry(once())
        .with_http_connector(wire.clone());
    let environment = &settings.environment;
    let named = environment
        .first(&["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"])
        .map(PathBuf::from);
    if let Some(path) = settings.service_account.clone().or(named) {
        builder = builder.with_service_account_path(path.to_string_lossy());
    } else if let Some(path) = environment.get("GOOGLE_APPLICATION_CREDENTIALS") {
        builder = builder.with_application_credentials(path);
    }
    let store = builder.build().map_err(|error| {
        plan.invalid(format!("no usable credentials: {error}")).with_hint(GOOGLE_CREDENTIALS)
    })?;
    let raw = Raw {
        bearer: Some(Arc::clone(store.credentials())),
        ..plan.raw(wire, format!("{endpoint}/{}", plan.bucket))
    };
    let custody: Arc<dyn Custody> = Arc::new(GcsCustody { raw });
    Ok(ObjectSink::new(Parts {
        storage_class: settings.storage_class.clone(),
        custody: Some(custody),
        ..plan.parts(store, settings.endpoint.as_ref().map(|_| &base), gate)
    }))
}
