//! What the S3 servers share.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequestBody, HttpService};

use crate::support::http::wait_for;
use crate::support::plain::Plain;

/// Where an S3 server is, and who may use it.
#[derive(Clone, Debug)]
pub(crate) struct S3 {
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) region: String,
}

/// An answer to a raw request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text());
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl S3 {
    pub(crate) fn new(endpoint: &str) -> Self {
        let [key, secret, region] = ["test", "testtest", "us-east-1"].map(str::to_owned);
        Self { endpoint: endpoint.to_owned(), key, secret, region }
    }

    /// The same through something in between, such as a `FaultProxy`.
    pub(crate) fn at(&self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self.clone() }
    }

    /// The same as another user.
    pub(crate) fn with_key(&self, key: &str, secret: &str) -> Self {
        Self { key: key.to_owned(), secret: secret.to_owned(), ..self.clone() }
    }

    /// The variables that name the user to programs.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("AWS_ACCESS_KEY_ID", &self.key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
            ("AWS_DEFAULT_REGION", &self.region),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.clone())).into()
    }

    /// For `object_store`; retries and the like may be set before it is built.
    pub(crate) fn builder(&self, bucket: &str) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_http_connector(Plain::patient())
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_region(&self.region)
            .with_access_key_id(&self.key)
            .with_secret_access_key(&self.secret)
            .with_bucket_name(bucket)
    }

    pub(crate) fn store(&self, bucket: &str) -> AmazonS3 {
        self.builder(bucket).build().unwrap()
    }

    /// A signed request, once; `target` is path and query.
    pub(crate) fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.try_send(method, target, headers, body)
            .unwrap_or_else(|error| panic!("{}{target}: {error}", self.endpoint))
    }

    /// The same, for servers that may not be there.
    pub(crate) fn try_send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, object_store::client::HttpError> {
        self.send_to("s3", method, target, headers, body)
    }

    /// A signed request to another service of the same provider.
    fn send_to(
        &self,
        service: &str,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, object_store::client::HttpError> {
        let mut request =
            http::Request::builder().method(method).uri(format!("{}{target}", self.endpoint));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request =
            request.body(HttpRequestBody::from(Bytes::copy_from_slice(body))).unwrap();
        let credential = AwsCredential {
            key_id: self.key.clone(),
            secret_key: self.secret.clone(),
            token: None,
        };
        AwsAuthorizer::new(&credential, service, &self.region)
            .try_authorize(&mut request, None)
            .unwrap();
        wait_for(once(request))
    }

    /// A request to the service that manages users; where there is one.
    #[track_caller]
    pub(crate) fn manage_users(&self, parameters: &[(&str, &str)]) -> Answer {
        self.call("iam", "2010-05-08", parameters)
    }

    /// A request to another service that takes forms, of this version.
    #[track_caller]
    pub(crate) fn call(&self, service: &str, version: &str, parameters: &[(&str, &str)]) -> Answer {
        let pairs = [&[("Version", version)], parameters].concat();
        let encoded: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
        let form = ("content-type", "application/x-www-form-urlencoded");
        let sent = self.send_to(service, Method::POST, "/", &[form], encoded.join("&").as_bytes());
        sent.unwrap_or_else(|error| panic!("{parameters:?}: {error}")).succeeded()
    }

    /// A new bucket, with object lock if asked for.
    #[track_caller]
    pub(crate) fn create_bucket(&self, name: &str, lock: bool) {
        let lock: &[_] = if lock { &[("x-amz-bucket-object-lock-enabled", "true")] } else { &[] };
        self.send(Method::PUT, &format!("/{name}"), lock, b"").succeeded();
    }
}

/// The value of a form.
fn percent(value: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    value.bytes().map(byte).collect()
}

/// Sends a request and collects the answer.
pub(crate) async fn once(
    request: http::Request<HttpRequestBody>,
) -> Result<Answer, object_store::client::HttpError> {
    let (head, body) = Plain::patient().call(request).await?.into_parts();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.bytes().await? })
}
