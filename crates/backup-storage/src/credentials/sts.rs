//! Assuming a role.

use std::sync::Arc;

use http::Method;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequestBody, HttpService};
use url::form_urlencoded;

use super::Lease;
use crate::wire::{Wire, WireError, tag};

/// A role and how to ask for it.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session: String,
    pub(super) external_id: Option<String>,
    /// Seconds; the service's default is an hour.
    pub(super) duration: Option<String>,
    pub(super) region: String,
    /// Address of the service.
    pub(super) endpoint: String,
}

/// Asks for temporary credentials of a role with those of somebody who may assume it.
pub(super) async fn assume(
    role: &Role,
    with: &AwsCredential,
    wire: &Wire,
) -> Result<Lease, WireError> {
    let failed =
        |why: String| WireError::Credentials(format!("cannot assume the role {}: {why}", role.arn));
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri(format!("{}/", role.endpoint.trim_end_matches('/')))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(HttpRequestBody::from(form(role)))
        .map_err(|_| failed("the address of the service is not valid".to_owned()))?;
    AwsAuthorizer::new(with, "sts", &role.region)
        .try_authorize(&mut request, None)
        .map_err(|_| failed("the request cannot be signed".to_owned()))?;
    let response = wire.call(request).await.map_err(|error| {
        failed(
            WireError::find(&error).map_or_else(|| "no connection".to_owned(), ToString::to_string),
        )
    })?;
    let status = response.status();
    let body = response
        .into_body()
        .bytes()
        .await
        .map_err(|_| failed("the connection broke".to_owned()))?;
    let text = String::from_utf8_lossy(&body);
    if !status.is_success() {
        let (code, message) =
            (tag(&text, "Code").unwrap_or_default(), tag(&text, "Message").unwrap_or_default());
        return Err(failed(format!(
            "the service answered with status {} and code {code}: {message}",
            status.as_u16()
        )));
    }
    let field = |name: &str| {
        tag(&text, name)
            .map(ToOwned::to_owned)
            .ok_or_else(|| failed(format!("the answer has no {name}")))
    };
    let credential = AwsCredential {
        key_id: field("AccessKeyId")?,
        secret_key: field("SecretAccessKey")?,
        token: Some(field("SessionToken")?),
    };
    let expires = field("Expiration")?
        .parse()
        .map_err(|_| failed("the answer has no valid expiry time".to_owned()))?;
    Ok(Lease { credential: Arc::new(credential), expires: Some(expires) })
}

/// What is asked for.
fn form(role: &Role) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("Action", "AssumeRole").append_pair("Version", "2011-06-15");
    query.append_pair("RoleArn", &role.arn).append_pair("RoleSessionName", &role.session);
    if let Some(id) = &role.external_id {
        query.append_pair("ExternalId", id);
    }
    if let Some(duration) = &role.duration {
        query.append_pair("DurationSeconds", duration);
    }
    query.finish()
}
