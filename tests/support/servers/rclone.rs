//! rclone's S3 server.

use std::fs;
use std::path::Path;
use std::process::Command;

use http::Method;

use super::process::{Ports, Server};
use super::s3::S3;
use crate::support::tls::Authority;
use backup_core::testing::tool;

/// See the module documentation. Its buckets are directories.
#[derive(Debug)]
pub(crate) struct Rclone {
    pub(crate) server: Server,
    pub(crate) s3: S3,
}

impl Rclone {
    pub(crate) fn start() -> Self {
        let ready = |ports: &Ports| {
            let s3 = S3::new(&format!("http://127.0.0.1:{}", ports.port(0)));
            s3.try_send(Method::GET, "/", &[], b"").is_ok_and(|answer| answer.status == 200)
        };
        let server = Server::start("rclone", command, ready);
        Self { s3: S3::new(&server.endpoint()), server }
    }

    /// With TLS and a certificate of that authority, for `localhost` and 127.0.0.1. Raw requests do
    /// not trust it: make buckets with [`Self::make_bucket`].
    pub(crate) fn with_tls(authority: &Authority) -> Self {
        let with_certificate = |ports: &Ports, data: &Path| {
            let (certificate, key) = authority.issue(data.parent().unwrap());
            let mut command = command(ports, data);
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
            command
        };
        // It listens only when it is ready.
        let server = Server::start("rclone", with_certificate, |_| true);
        Self { s3: S3::new(&format!("https://127.0.0.1:{}", server.ports.port(0))), server }
    }

    pub(crate) fn make_bucket(&self, name: &str) {
        fs::create_dir(self.server.data().join(name)).unwrap();
    }
}

fn command(ports: &Ports, data: &Path) -> Command {
    let mut command = Command::new(tool("rclone"));
    command.args(["serve", "s3", "--auth-key", "test,testtest", "--addr"]);
    // Directories that tests make are to be seen soon. With 0s, each request takes twice as long as
    // the one before it.
    command.arg(format!("127.0.0.1:{}", ports.port(0))).args(["--dir-cache-time", "1s"]).arg(data);
    command
}
