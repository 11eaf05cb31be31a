//! Signatures of S3 requests.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;

use super::WireError;
use super::extras::{self, SHA256};
use crate::credentials::AwsKeys;

/// Signs requests as the last thing that is done to them.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) keys: Arc<AwsKeys>,
    pub(crate) region: String,
}

impl Signer {
    /// Signs with credentials that are fetched again when their time comes; returns those that were
    /// used.
    pub(super) async fn sign(
        &self,
        request: &mut HttpRequest,
    ) -> Result<Arc<AwsCredential>, WireError> {
        let credential = self.keys.get().await?;
        request.headers_mut().remove(AUTHORIZATION);
        // A body of several pieces always comes with its checksum; one of a single piece is hashed
        // here.
        let digest =
            request.headers().get(SHA256).and_then(|value| extras::decode::<32>(value.as_bytes()));
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(request, digest.as_ref().map(|digest| &digest[..]))
            .map_err(|_| WireError::Request("it cannot be signed".to_owned()))?;
        Ok(credential)
    }

    /// The settings, variables or service that the credentials come from.
    pub(super) fn names(&self) -> String {
        self.keys.names()
    }

    /// Fetches other credentials than those; says whether there are any. It may not be certain that
    /// it is because of them.
    pub(super) async fn renew(&self, used: &AwsCredential, is_certain: bool) -> bool {
        self.keys.renew(used, is_certain).await
    }
}
