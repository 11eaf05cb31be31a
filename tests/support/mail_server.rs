//! A real mail server, aiosmtpd, that keeps what it is given in files.
//!
//! It knows nobody at `nobody@…`, and asks to come back later for every `grey…@…` once. The user
//! `backup` has a password.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::servers::process::Server;
use super::tls::Authority;
use backup_core::testing::tool;

/// The password of the user `backup`.
pub(crate) const PASSWORD: &str = "hush-hush-of-mail";

/// How it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// In clear, without any TLS.
    Clear,
    /// In clear at first; without TLS it takes no mail.
    StartTls,
    /// With TLS from the beginning.
    Tls,
}

/// See the module documentation.
pub(crate) struct MailServer {
    server: Server,
    room: TempDir,
}

impl MailServer {
    pub(crate) fn start(security: Security) -> Self {
        let room = tempfile::tempdir().unwrap();
        fs::write(room.path().join("mail_server.py"), include_str!("mail_server.py")).unwrap();
        fs::create_dir(room.path().join("mails")).unwrap();
        let authority = Authority::new();
        authority.write(room.path());
        let (certificate, key) = authority.issue(room.path());
        let server = Server::start(
            "aiosmtpd",
            |ports, _| {
                let mut command = Command::new("sh");
                // Python finds the class in the directory that it is started in.
                command
                    .args(["-c", "cd \"$0\" && exec \"$@\""])
                    .arg(room.path())
                    .arg(tool("aiosmtpd"));
                command.args([
                    "-n",
                    "-c",
                    "mail_server.Handler",
                    "-l",
                    &format!("127.0.0.1:{}", ports.port(0)),
                ]);
                match security {
                    Security::Clear => &mut command,
                    Security::StartTls => {
                        command.arg("--tlscert").arg(&certificate).arg("--tlskey").arg(&key)
                    }
                    Security::Tls => {
                        command.arg("--smtpscert").arg(&certificate).arg("--smtpskey").arg(&key)
                    }
                };
                command.arg(room.path().join("mails")).arg(PASSWORD);
                command
            },
            |_| true,
        );
        Self { server, room }
    }

    /// What clients must trust.
    pub(crate) fn authority(&self) -> PathBuf {
        self.room.path().join("authority.pem")
    }

    /// A channel `mail` of a configuration, for these recipients.
    pub(crate) fn channel(&self, to: &[&str], more: &str) -> String {
        let port = self.server.ports.port(0);
        format!(
            "[notify.mail]\nkind = \"smtp\"\nhost = \"localhost\"\nport = {port}\nfrom = \"Backup \
             <backup@example.com>\"\nto = {to:?}\nca_file = {:?}\n{more}\n",
            self.authority()
        )
    }

    fn noted(&self, kind: &str) -> Vec<Value> {
        let files = fs::read_dir(self.room.path().join("mails"))
            .unwrap()
            .map(|found| found.unwrap().path());
        let mut files: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
        files.sort();
        let read =
            |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        files.into_iter().map(read).filter_map(|noted| noted.get(kind).cloned()).collect()
    }

    /// The mails that it has taken.
    pub(crate) fn mails(&self) -> Vec<Value> {
        self.noted("mail")
    }

    /// The users who tried to log in.
    pub(crate) fn logins(&self) -> Vec<Value> {
        self.noted("login")
    }
}
