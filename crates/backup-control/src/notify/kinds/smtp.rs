//! Talking to a mail server. Every step is taken here and not by the library's transport, so that
//! one recipient whom the server does not want keeps no mail from the others, and a password only
//! goes where nobody can read along.

use std::error::Error as _;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use tokio::net::TcpStream;

use super::smtp_lines::Lines;
use super::{Failure, Reached, Task, mail};
use crate::config::SecurityConfig;
use crate::notify::message::{cut, one_line};

/// Letters of an answer that are shown.
const SHOWN: usize = 300;
/// How long to wait for the server to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

pub(in crate::notify) async fn send(
    task: &Task<'_>,
    reached: &mut Reached<'_>,
) -> Result<(), Failure> {
    let left = reached.left(&task.config.to);
    if left.is_empty() {
        return Ok(());
    }
    let mail = mail::mail(task)?;
    let mut server = connect(task).await?;
    log_in(task, &mut server).await?;
    let from = mail::sender(task)?.email;
    server
        .command(Mail::new(Some(from), Vec::new()))
        .await
        .map_err(|error| failure("the sender", &error))?;
    let (mut taken, mut failures) = (Vec::new(), Vec::new());
    for to in left {
        let address: Address = mail::understood(to)?.email;
        match server.command(Rcpt::new(address, Vec::new())).await {
            Ok(_) => taken.push(to),
            Err(error) => failures.push(failure(to, &error)),
        }
    }
    if !taken.is_empty() {
        server.command(Data).await.map_err(|error| failure("the mail", &error))?;
        server.message(&mail).await.map_err(|error| failure("the mail", &error))?;
        reached.add(taken)?;
    }
    // It has the mail: whether it also says goodbye does not matter.
    _ = tokio::time::timeout(GOODBYE, server.quit()).await;
    Failure::worst(&failures).map_or(Ok(()), Err)
}

/// Connects, with TLS unless the configuration says none.
async fn connect(task: &Task<'_>) -> Result<AsyncSmtpConnection, Failure> {
    let config = task.config;
    let security = config.security.unwrap_or_default();
    let host = config.host.as_deref().unwrap_or_default();
    let hello = hello(task.host);
    let server = (host, config.port.unwrap_or_else(|| security.port()));
    let connected = if security == SecurityConfig::Tls {
        let tls = Some(tls(task, host)?);
        AsyncSmtpConnection::connect_tokio1(server, None, &hello, tls, None).await
    } else {
        let stream = TcpStream::connect(server).await;
        let stream = stream.map_err(|error| Failure::later(format!("the connection: {error}")))?;
        AsyncSmtpConnection::connect_with_transport(Box::new(Lines::new(stream)), &hello).await
    };
    let mut connection = connected.map_err(|error| failure("the connection", &error))?;
    if security == SecurityConfig::Starttls {
        let upgraded = connection.starttls(tls(task, host)?, &hello).await;
        upgraded.map_err(|error| failure("TLS", &error))?;
    }
    Ok(connection)
}

/// Proves who we are, if there is a password and nobody can read along.
async fn log_in(task: &Task<'_>, server: &mut AsyncSmtpConnection) -> Result<(), Failure> {
    let (Some(user), Some(password)) = (&task.config.user, task.secret.reveal()) else {
        return Ok(());
    };
    if !server.is_encrypted() {
        return Err(Failure::refused("passwords are never sent in cleartext: set `security`"));
    }
    let credentials = Credentials::new(user.clone(), password.to_owned());
    let done = server.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
    done.map(drop).map_err(|error| failure("the login", &error))
}

fn tls(task: &Task<'_>, host: &str) -> Result<TlsParameters, Failure> {
    let mut tls = TlsParameters::builder(host.to_owned());
    if let Some(file) = &task.config.ca_file {
        let wrong = |why: String| {
            Failure::later(format!("cannot read certificates from {}: {why}", file.display()))
        };
        let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        tls = tls.add_root_certificate(
            Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?,
        );
    }
    tls.build_rustls().map_err(|error| Failure::later(format!("cannot set up TLS: {error}")))
}

/// How we introduce ourselves: servers take names of hosts only.
fn hello(host: &str) -> ClientId {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    match !host.is_empty() && host.bytes().all(fits) {
        true => ClientId::Domain(host.to_owned()),
        false => ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST),
    }
}

/// Answers of 5yz are final, those of 4yz are not (RFC 5321, section 4.2.1); nor is what no server
/// said.
fn failure(what: &str, error: &Error) -> Failure {
    let said = error.source().map(|cause| one_line(&cause.to_string())).unwrap_or_default();
    let why = match error.status() {
        Some(code) => format!("{what}: the mail server answers {code} {said}"),
        None if said.is_empty() => format!("{what}: {error}"),
        None => format!("{what}: {said}"),
    };
    let why = cut(why.trim_end(), SHOWN);
    if error.is_permanent() { Failure::refused(why) } else { Failure::later(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_server_takes_are_not_said() {
        assert_eq!(hello("db1.example.com").to_string(), "db1.example.com");
        assert_eq!(hello("höhe").to_string(), "[127.0.0.1]");
        assert_eq!(hello("").to_string(), "[127.0.0.1]");
    }
}
