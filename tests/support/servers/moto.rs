//! moto.

use std::process::Command;

use http::Method;

use super::process::Server;
use super::s3::S3;
use crate::support::tools::tool;

/// See the module documentation. Its metadata service (`IMDSv2`), STS and IAM answer at the same address.
#[derive(Debug)]
pub(crate) struct Moto {
    pub(crate) server: Server,
    pub(crate) s3: S3,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let server = Server::start(
            "moto",
            |ports, _| {
                let mut command = Command::new(tool("moto_server"));
                command.args(["-H", "127.0.0.1", "-p", &ports.port(0).to_string()]);
                command
            },
            |ports| {
                let s3 = S3::new(&format!("http://127.0.0.1:{}", ports.port(0)));
                s3.try_send(Method::GET, "/moto-api/data.json", &[], b"").is_ok_and(|answer| answer.status == 200)
            },
        );
        Self { s3: S3::new(&server.endpoint()), server }
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        self.s3.send(Method::POST, "/moto-api/reset", &[], b"").succeeded();
    }
}
