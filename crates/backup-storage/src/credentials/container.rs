//! The service that gives a container its credentials: ECS, EKS pod identity, and agents that speak
//! as they do.
//!
//! `object_store` asks it only where the variables are those that EKS sets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, StatusCode};
use object_store::aws::AwsCredential;
use object_store::client::HttpRequestBody;
use serde::Deserialize;
use url::{Host, Url};

use super::{Lease, PATIENCE};
use crate::settings::{Environment, Secret};
use crate::wire::{Wire, WireError};

const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";

/// Where relative addresses begin.
const ECS: &str = "http://169.254.170.2";

/// Addresses that nobody but the machine itself answers, those of ECS and EKS.
const OF_THE_MACHINE: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// An agent that restarts is away for a moment.
const TRIES: u32 = 3;

#[derive(Clone)]
enum Token {
    /// Read again whenever credentials are fetched: it is replaced from time to time.
    File(PathBuf),
    Value(Secret),
}

/// See the module documentation.
pub(crate) struct Container {
    address: Url,
    token: Option<Token>,
    wire: Wire,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<jiff::Timestamp>,
}

/// Why there are no credentials, and whether there may be some a moment later.
struct Failure {
    error: WireError,
    passes: bool,
}

impl Container {
    /// `None`: the environment names no such service.
    ///
    /// # Errors
    /// An address that may not be asked.
    pub(super) fn find(environment: &Environment, wire: &Wire) -> Result<Option<Self>, WireError> {
        let Some(address) = address(environment)? else { return Ok(None) };
        let value =
            || environment.get(TOKEN).map(|value| Token::Value(Secret::new(value.to_owned())));
        let token = environment.get(TOKEN_FILE).map(|path| Token::File(path.into())).or_else(value);
        Ok(Some(Self { address, token, wire: wire.clone() }))
    }

    pub(super) async fn fetch(&self) -> Result<Lease, WireError> {
        match tokio::time::timeout(PATIENCE, self.insist()).await {
            Ok(result) => result,
            Err(_) => {
                Err(self.wrong(&format!("does not answer within {} seconds", PATIENCE.as_secs())))
            }
        }
    }

    async fn insist(&self) -> Result<Lease, WireError> {
        let mut pause = Duration::from_millis(200);
        for _ in 1..TRIES {
            match self.ask().await {
                Err(Failure { passes: true, .. }) => tokio::time::sleep(pause).await,
                result => return result.map_err(|failure| failure.error),
            }
            pause *= 2;
        }
        self.ask().await.map_err(|failure| failure.error)
    }

    async fn ask(&self) -> Result<Lease, Failure> {
        let last = |error| Failure { error, passes: false };
        let mut request =
            http::Request::get(self.address.as_str()).header(ACCEPT, "application/json");
        if let Some(token) = self.token().await.map_err(last)? {
            request = request.header(AUTHORIZATION, token);
        }
        // The error would repeat the address.
        let request = request
            .body(HttpRequestBody::empty())
            .map_err(|_| last(self.wrong("has an invalid address")))?;
        match self.wire.ask(request).await {
            Ok((StatusCode::OK, body)) => self.lease(&body).map_err(last),
            Ok((status, _)) => {
                let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                let shown = if self.token.is_some() { "with" } else { "without" };
                let why = format!(
                    "answers {} to a request {shown} a token ({TOKEN_FILE} or {TOKEN})",
                    status.as_u16()
                );
                Err(Failure { error: self.wrong(&why), passes })
            }
            Err(error) => Err(Failure {
                error: self.wrong(&format!("cannot be reached: {error}")),
                passes: true,
            }),
        }
    }

    async fn token(&self) -> Result<Option<HeaderValue>, WireError> {
        let token = match &self.token {
            None => return Ok(None),
            Some(Token::Value(value)) => value.clone(),
            Some(Token::File(path)) => {
                super::read_secret(path, PATIENCE).await.map_err(|error| {
                    WireError::Credentials(format!(
                        "cannot read {} ({TOKEN_FILE}): {error}",
                        path.display()
                    ))
                })?
            }
        };
        let header = HeaderValue::from_str(token.reveal()).ok().filter(|header| !header.is_empty());
        let mut header = header.ok_or_else(|| {
            self.wrong("needs a token of one line, which the configured token is not")
        })?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// What the service answered is secret, and is in no error.
    fn lease(&self, body: &Bytes) -> Result<Lease, WireError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|_| self.wrong("does not answer with credentials"))?;
        let credential = AwsCredential {
            key_id: answer.access_key_id,
            secret_key: answer.secret_access_key,
            token: answer.token.filter(|token| !token.is_empty()),
        };
        Ok(Lease { credential: Arc::new(credential), expires: answer.expiration })
    }

    fn wrong(&self, why: &str) -> WireError {
        // Path and query are the service's own business; some keep a secret there.
        let host = self.address.host_str().unwrap_or_default();
        WireError::Credentials(format!("the container credential service at {host} {why}"))
    }
}

/// The address to ask, if there is one that may be asked.
fn address(environment: &Environment) -> Result<Option<Url>, WireError> {
    let wrong = |name: &str, why: &str| WireError::Credentials(format!("{name} {why}"));
    let (name, text) = match (environment.get(RELATIVE_URI), environment.get(FULL_URI)) {
        (None, None) => return Ok(None),
        // Whatever else it begins with could name another host.
        (Some(path), _) if !path.starts_with('/') => {
            return Err(wrong(RELATIVE_URI, "does not begin with a slash"));
        }
        (Some(path), _) => (RELATIVE_URI, format!("{ECS}{path}")),
        (None, Some(address)) => (FULL_URI, address.to_owned()),
    };
    let url =
        Url::parse(&text).map_err(|error| wrong(name, &format!("is not a valid URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(name, "must not contain a user name or password"));
    }
    match url.scheme() {
        "https" => Ok(Some(url)),
        "http" if is_of_the_machine(&url) => Ok(Some(url)),
        "http" => Err(wrong(
            name,
            "uses plain http to another machine: use https://, or a loopback address, \
             169.254.170.2, 169.254.170.23 or [fd00:ec2::23]",
        )),
        _ => Err(wrong(name, "begins with neither https:// nor http://")),
    }
}

fn is_of_the_machine(url: &Url) -> bool {
    let known = |ip: String| OF_THE_MACHINE.contains(&&*ip);
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback() || known(ip.to_string()),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || known(ip.to_string()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address_of(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let found = address(&Environment::from_iter(pairs));
        found.map(|url| url.map(String::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_relative_address_is_that_of_ecs_and_goes_before_a_full_one() {
        let found =
            address_of(&[(RELATIVE_URI, "/v2/x?id=1"), (FULL_URI, "https://elsewhere.example/")]);
        assert_eq!(found.unwrap().unwrap(), "http://169.254.170.2/v2/x?id=1");
        assert_eq!(address_of(&[]), Ok(None));
        for stranger in ["@elsewhere.example/x", ".elsewhere.example/x", "x"] {
            let error = address_of(&[(RELATIVE_URI, stranger)]).unwrap_err();
            assert!(error.contains(RELATIVE_URI) && !error.contains(stranger), "{error}");
        }
    }

    #[test]
    fn plain_http_stays_on_the_machine() {
        for good in [
            "http://127.0.0.1:80/x",
            "http://127.9.9.9/x",
            "http://localhost:4000/x",
            "http://[::1]/x",
            "http://169.254.170.2/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "https://keys.example/x",
        ] {
            assert!(address_of(&[(FULL_URI, good)]).unwrap().is_some(), "{good}");
        }
        for bad in [
            "http://keys.example/hush",
            "http://localhost.example/hush",
            "http://10.0.0.1/hush",
            "http://169.254.169.254/hush",
            "http://169.254.170.22/hush",
            "http://[fd00:ec2::254]/hush",
            "http://127.0.0.1@keys.example/hush",
            "https://hush@keys.example/",
            "ftp://127.0.0.1/hush",
            "/hush",
        ] {
            let error = address_of(&[(FULL_URI, bad)]).unwrap_err();
            assert!(error.contains(FULL_URI) && !error.contains("hush"), "{bad}: {error}");
        }
    }
}
