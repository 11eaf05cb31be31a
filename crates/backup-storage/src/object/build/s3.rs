//! S3, and what speaks its language.

use std::sync::Arc;

use backup_core::sink::{Custody, Operation, SinkResult};
use backup_process::LIMIT_VARIABLE;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, Checksum};
use url::Url;

use super::{Plan, once, plain};
use crate::credentials::{AwsKeys, Search, amazon, find};
use crate::object::custody::{Raw, S3Custody};
use crate::object::error::{Place, map_wire};
use crate::object::{Kind, Lock, ObjectSink, Parts};
use crate::settings::{Encryption, LockMode, Secret};
use crate::wire::Signer;

/// A sink over S3.
///
/// # Errors
/// Settings that make no sense, and credentials that are not there.
pub(crate) fn s3(plan: &Plan<'_>) -> SinkResult<ObjectSink> {
    let settings = &plan.settings;
    plan.refuse(
        "S3",
        &[
            ("service_account", settings.service_account.is_some()),
            ("account_key_env", settings.account_key_env.is_some()),
        ],
    )?;
    let region = settings.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
    let environment = settings.environment.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    let endpoint = settings
        .endpoint
        .as_deref()
        .or(environment)
        .map(|endpoint| plan.endpoint(endpoint))
        .transpose()?;
    let base = base(plan, endpoint.as_ref(), &region)?;
    let (client, gate) = (plan.clients()?, plan.gate());
    let search =
        Search { settings, region: &region, wire: plan.wire(client.clone(), &base, None, &gate) };
    let place = Place { bucket: plan.bucket, kind: Kind::S3, customer_key: false, locks: false };
    let keys =
        find(&search).map_err(|error| map_wire(place, &error, Operation::Head, &plan.name))?;
    let signer = Signer { keys: Arc::new(AwsKeys::new(keys)), region: region.clone() };
    let wire = plan.wire(client, &base, Some(signer), &gate);
    let customer_key = customer_key(plan)?;
    let address = plain(&base).to_owned();
    let builder = AmazonS3Builder::new()
        .with_bucket_name(plan.bucket)
        .with_region(region)
        .with_endpoint(&address)
        // The address has the bucket in it, in whatever style.
        .with_virtual_hosted_style_request(true)
        .with_skip_signature(true)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(once())
        .with_http_connector(wire.clone());
    let builder = encrypted(builder, plan, customer_key.as_ref())?;
    let invalid = |error: object_store::Error| plan.invalid(error.to_string());
    let lock = lock(plan)?;
    let has_key = customer_key.is_some();
    let raw = Raw { customer_key, ..plan.raw(wire, address) };
    let custody: Arc<dyn Custody> = Arc::new(S3Custody { raw, lock });
    let store = builder.clone().build().map_err(invalid)?;
    Ok(ObjectSink::new(Parts {
        one_by_one: Arc::new(builder.with_disable_bulk_delete(true).build().map_err(invalid)?),
        storage_class: settings.storage_class.clone(),
        lock,
        customer_key: has_key,
        custody: Some(custody),
        ..plan.parts(store, endpoint.as_ref(), gate)
    }))
}

/// Address of the bucket.
fn base(plan: &Plan<'_>, endpoint: Option<&Url>, region: &str) -> SinkResult<Url> {
    let bucket = plan.bucket;
    // A dot in the name does not match the provider's certificate.
    let in_path = plan.settings.path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
    let mut url = match endpoint {
        Some(url) => url.clone(),
        None => plan.endpoint(&format!("https://s3.{region}.{}", amazon(region)))?,
    };
    if in_path {
        let path = format!("{}/{bucket}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        return Ok(url);
    }
    let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
    url.set_host(Some(&host)).map_err(|_| {
        plan.invalid(format!("{host} is not a valid host name"))
            .with_hint("set path_style = true for this endpoint")
    })?;
    Ok(url)
}

fn lock(plan: &Plan<'_>) -> SinkResult<Option<Lock>> {
    match (plan.settings.lock_days, plan.settings.lock_mode) {
        (None, None) => Ok(None),
        (Some(days), mode) if (1..=36_500).contains(&days) => {
            Ok(Some(Lock { mode: mode.unwrap_or(LockMode::Governance), days }))
        }
        (Some(_), _) => Err(plan.invalid("lock_days must be from 1 to 36500")),
        (None, Some(_)) => {
            Err(plan.invalid("lock_mode is set, but lock_days is not").with_hint("set lock_days"))
        }
    }
}

/// The key of SSE-C in the form in which it is sent.
fn customer_key(plan: &Plan<'_>) -> SinkResult<Option<Secret>> {
    let settings = &plan.settings;
    let is_customer = settings.sse == Some(Encryption::Customer);
    if settings.kms_key_id.is_some() && settings.sse != Some(Encryption::Kms) {
        return Err(plan
            .invalid("kms_key_id is set, but sse is not aws:kms")
            .with_hint("set sse = \"aws:kms\""));
    }
    let path = match (&settings.customer_key_file, is_customer) {
        (None, false) => return Ok(None),
        (Some(path), true) => path,
        (None, true) => return Err(plan.invalid("sse = \"customer\" needs customer_key_file")),
        (Some(_), false) => {
            return Err(plan
                .invalid("customer_key_file is set, but sse is not customer")
                .with_hint("set sse = \"customer\""));
        }
    };
    let shown = path.display();
    let limit = backup_process::limit(settings.environment.get(LIMIT_VARIABLE))
        .map_err(|error| plan.invalid(error.to_string()))?;
    let bytes = backup_process::read_file_blocking(path, limit)
        .map_err(|error| plan.invalid(format!("cannot read {shown}: {error}")))?;
    if bytes.len() == 32 {
        return Ok(Some(Secret::new(BASE64_STANDARD.encode(&*bytes))));
    }
    match BASE64_STANDARD.decode(bytes.trim_ascii()).map(zeroize::Zeroizing::new) {
        Ok(key) if key.len() == 32 => Ok(Some(Secret::new(BASE64_STANDARD.encode(&*key)))),
        _ => {
            Err(plan
                .invalid(format!("{shown} holds neither 32 bytes nor the Base64 form of 32 bytes")))
        }
    }
}

fn encrypted(
    builder: AmazonS3Builder,
    plan: &Plan<'_>,
    customer_key: Option<&Secret>,
) -> SinkResult<AmazonS3Builder> {
    let with = |builder: AmazonS3Builder, key: &str, value: &str| {
        let key =
            key.parse().map_err(|error: object_store::Error| plan.invalid(error.to_string()))?;
        Ok(builder.with_config(key, value))
    };
    match (plan.settings.sse, &plan.settings.kms_key_id, customer_key) {
        (None, _, _) => Ok(builder),
        (Some(Encryption::Aes256), _, _) => with(builder, "aws_server_side_encryption", "AES256"),
        (Some(Encryption::Kms), None, _) => with(builder, "aws_server_side_encryption", "aws:kms"),
        (Some(Encryption::Kms), Some(key), _) => Ok(builder.with_sse_kms_encryption(key)),
        (Some(Encryption::Customer), _, Some(key)) => {
            Ok(builder.with_ssec_encryption(key.reveal()))
        }
        (Some(Encryption::Customer), _, None) => {
            Err(plan.invalid("sse = \"customer\" needs customer_key_file"))
        }
    }
}
