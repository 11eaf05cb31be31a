//! Azurite.

use std::process::Command;

use bytes::Bytes;
use http::{Method, Request};
use object_store::azure::{
    AzureAccessKey, AzureAuthorizer, AzureCredential, MicrosoftAzureBuilder,
};
use object_store::client::HttpRequestBody;

use super::process::Server;
use super::s3::{Answer, once};
use crate::support::http::wait_for;
use crate::support::plain::Plain;
use backup_core::testing::tool;

/// The account that every Azurite has; its key is public.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
pub(crate) const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Azurite {
    pub(crate) server: Server,
}

impl Azurite {
    pub(crate) fn start() -> Self {
        let server = Server::start(
            "Azurite",
            |ports, data| {
                let mut command = Command::new(tool("azurite-blob"));
                command.args(["--blobHost", "127.0.0.1", "--blobPort", &ports.port(0).to_string()]);
                command
                    .args(["--skipApiVersionCheck", "--disableTelemetry", "--silent", "--location"])
                    .arg(data);
                command
            },
            // It listens only when it is ready.
            |_| true,
        );
        Self { server }
    }

    /// With the account, as `object_store` wants it.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}/{ACCOUNT}", self.server.endpoint())
    }

    /// For `object_store`.
    pub(crate) fn builder(&self, container: &str) -> MicrosoftAzureBuilder {
        MicrosoftAzureBuilder::new()
            .with_http_connector(Plain::patient())
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_container_name(container)
    }

    #[track_caller]
    pub(crate) fn create_bucket(&self, name: &str) {
        self.send(Method::PUT, &format!("/{name}?restype=container")).succeeded();
    }

    /// A signed request without a body; `target` is what follows the account.
    pub(crate) fn send(&self, method: Method, target: &str) -> Answer {
        let request = Request::builder().method(method).uri(format!("{}{target}", self.endpoint()));
        let mut request = request
            .header("content-length", "0")
            .body(HttpRequestBody::from(Bytes::new()))
            .unwrap();
        let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
        AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).unwrap();
        wait_for(once(request)).unwrap()
    }
}
