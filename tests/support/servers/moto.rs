//! moto.

use std::process::Command;

use http::Method;

use super::process::Server;
use super::s3::S3;
use backup_core::testing::tool;

/// See the module documentation. Its metadata service (`IMDSv2`), STS and IAM answer at the same
/// address.
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
                s3.try_send(Method::GET, "/moto-api/data.json", &[], b"")
                    .is_ok_and(|answer| answer.status == 200)
            },
        );
        Self { s3: S3::new(&server.endpoint()), server }
    }

    /// A new user who may do what the policy says, once [`Self::enforce`] was called.
    pub(crate) fn user(&self, name: &str, policy: &str) -> S3 {
        self.s3.manage_users(&[("Action", "CreateUser"), ("UserName", name)]);
        let put = [
            ("Action", "PutUserPolicy"),
            ("UserName", name),
            ("PolicyName", name),
            ("PolicyDocument", policy),
        ];
        self.s3.manage_users(&put);
        let made =
            self.s3.manage_users(&[("Action", "CreateAccessKey"), ("UserName", name)]).text();
        let tag = |name: &str| {
            made.split(&format!("<{name}>")).nth(1).unwrap().split('<').next().unwrap().to_owned()
        };
        self.s3.with_key(&tag("AccessKeyId"), &tag("SecretAccessKey"))
    }

    /// From now on users may do only what their policies say.
    pub(crate) fn enforce(&self) {
        self.s3.send(Method::POST, "/moto-api/reset-auth", &[], b"0").succeeded();
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        self.s3.send(Method::POST, "/moto-api/reset", &[], b"").succeeded();
    }
}
