//! Servers that die in the middle of their work and come back.

use std::path::Path;
use std::process::Command;

use http::Method;

use super::process::{Ports, Server, quiet, spawn};
use super::s3::S3;
use super::weed::{self, SeaweedFs};

impl Server {
    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Self::kill`], on the same ports and data, with what `command` makes
    /// of them.
    pub(crate) fn start_again(
        &mut self,
        name: &str,
        command: impl Fn(&Ports, &Path) -> Command,
        ready: impl Fn(&Ports) -> bool,
    ) {
        let command = command(&self.ports, &self.data());
        self.child = spawn(quiet(&command, self.room.path()));
        assert!(self.comes_up(name, &ready), "{name} does not come back:\n{}", self.log());
    }
}

impl SeaweedFs {
    /// Starts it again after its server was killed; returns when `bucket` can be written to.
    pub(crate) fn start_again(&mut self, bucket: &str) {
        let ready = |ports: &Ports| {
            let s3 = S3::new(&format!("http://127.0.0.1:{}", ports.port(0)));
            s3.try_send(Method::PUT, &format!("/{bucket}/again"), &[], b"x")
                .is_ok_and(|answer| answer.status == 200)
        };
        self.server.start_again("SeaweedFS", |ports, data| weed::command(ports, data, &[]), ready);
    }
}
