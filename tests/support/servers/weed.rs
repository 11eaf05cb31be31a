//! SeaweedFS.

use std::fs;
use std::path::Path;
use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use super::process::{Ports, Server};
use super::s3::S3;
use backup_core::testing::tool;

/// A user besides the administrator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User<'a> {
    pub(crate) key: &'a str,
    pub(crate) secret: &'a str,
    /// Such as `Read:bucket/prefix/*`, `Write:…` (which includes deleting), `List:…`, `Tagging:…`.
    pub(crate) actions: &'a [&'a str],
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct SeaweedFs {
    pub(crate) server: Server,
    pub(crate) s3: S3,
}

const PARTS: [&str; 5] = ["s3", "master", "filer", "volume", "admin"];

impl SeaweedFs {
    pub(crate) fn start() -> Self {
        Self::with_users(&[])
    }

    pub(crate) fn with_users(users: &[User<'_>]) -> Self {
        let at = |ports: &Ports| S3::new(&format!("http://127.0.0.1:{}", ports.port(0)));
        // A bucket can be made as soon as all its parts have found each other.
        let ready = |ports: &Ports| {
            let answer = at(ports).try_send(Method::PUT, "/ready-or-not", &[], b"");
            answer.is_ok_and(|answer| answer.status == 200)
        };
        let server = Server::start("SeaweedFS", |ports, data| command(ports, data, users), ready);
        let s3 = at(&server.ports);
        s3.send(Method::DELETE, "/ready-or-not", &[], b"").succeeded();
        Self { s3, server }
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        // Sockets that no option moves.
        for (at, part) in (0..).zip(PARTS) {
            fs::remove_file(format!(
                "/tmp/seaweedfs-{part}-grpc-{}.sock",
                self.server.ports.port(2 * at + 1)
            ))
            .ok();
        }
    }
}

pub(super) fn command(ports: &Ports, data: &Path, users: &[User<'_>]) -> Command {
    let room = data.parent().unwrap();
    let config = room.join("users.json");
    fs::write(&config, identities(users).to_string()).unwrap();
    let mut command = Command::new(tool("weed"));
    command.arg("mini").args([
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-webdav=false",
        "-admin.ui=false",
    ]);
    // Telemetry is on by default. Unknown buckets would be made by a mere upload.
    command.args(["-master.telemetry=false", "-s3.autoCreateBucket=false"]);
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    for (at, part) in (0..).zip(PARTS) {
        command.arg(format!("-{part}.port={}", ports.port(2 * at)));
        command.arg(format!("-{part}.port.grpc={}", ports.port(2 * at + 1)));
    }
    for (option, path) in [
        ("dir", data),
        ("s3.config", &config),
        ("s3.localSocket", &room.join("s3.sock")),
        ("filer.localSocket", &room.join("filer.sock")),
    ] {
        command.arg(format!("-{option}={}", path.display()));
    }
    command
}

fn identities(users: &[User<'_>]) -> Value {
    let identity = |name: &str, secret: &str, actions: &[&str]| json!({"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions});
    let admin = identity("test", "testtest", &["Admin"]);
    let users = users.iter().map(|user| identity(user.key, user.secret, user.actions));
    let all: Vec<_> = [admin].into_iter().chain(users).collect();
    json!({ "identities": all })
}
