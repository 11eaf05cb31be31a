//! AUTH, and errors without its passwords.
//!
//! The crate can log in as well, but sends no user without a password, and repeats a refused login
//! without the user.

use backup_core::source::{MissingPassword, SourceError, SourceErrorKind, SourceResult};
use redis::Cmd;

use super::super::error::WireError;
use super::super::options::RedisOptions;
use super::guard::make_ascii;

/// Stands for a password in the text of a server.
const REPLACED: &str = "***";

/// A password that must not reach an error, though the server repeats it: as it is, and as a reply
/// repeats it, in ASCII.
#[derive(Clone, Default)]
pub(super) struct Secret(Vec<String>);

impl Secret {
    /// The password of a login.
    pub(super) fn of(login: Option<&Cmd>) -> Self {
        match login.and_then(|login| login.args_iter().last()) {
            Some(redis::Arg::Simple(password)) if !password.is_empty() => {
                let mut ascii = password.to_vec();
                make_ascii(&mut ascii);
                Self([password, &ascii].map(|text| String::from_utf8_lossy(text).into()).into())
            }
            _ => Self::default(),
        }
    }

    /// The same error without the password.
    pub(super) fn hide(&self, error: WireError) -> WireError {
        match error {
            WireError::Server(text) => {
                let hide = |text: String, password: &String| text.replace(password, REPLACED);
                WireError::Server(self.0.iter().fold(text, hide))
            }
            other => other,
        }
    }
}

/// Beginnings of replies to AUTH in which Redis and Valkey repeat no password.
const HARMLESS: [&str; 6] = [
    "WRONGPASS",
    "NOPERM",
    "LOADING",
    "BUSY",
    "ERR AUTH <password> called",
    "ERR Client sent AUTH",
];

/// The login, if the settings name a user or a password.
///
/// # Errors
/// The password file cannot be read.
pub(super) async fn command(options: &RedisOptions) -> SourceResult<Option<Cmd>> {
    let mut auth = redis::cmd("AUTH");
    match (&options.user, options.password().await?) {
        (Some(user), Some(password)) => auth.arg(user).arg(password),
        // A user may have no password.
        (Some(user), None) => auth.arg(user).arg(""),
        (None, Some(password)) => auth.arg(password),
        (None, None) => return Ok(None),
    };
    Ok(Some(auth))
}

/// The error for a refused login.
pub(super) fn refused(options: &RedisOptions, error: WireError) -> WireError {
    let has_password = options.password.is_some() || options.password_file.is_some();
    match error {
        WireError::Server(text) if !has_password && text.starts_with("WRONGPASS") => {
            let text = "the server requires a password";
            SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("give the password: redis://USER:PASSWORD@HOST/")
                .with_source(MissingPassword)
                .into()
        }
        other => without_secrets(other),
    }
}

/// Servers may repeat the arguments of AUTH: keeps only the first word of such a message.
fn without_secrets(error: WireError) -> WireError {
    match error {
        WireError::Server(text) if !HARMLESS.iter().any(|start| text.starts_with(start)) => {
            let code = text.split(' ').next().unwrap_or_default();
            WireError::Server(format!(
                "{code} in reply to AUTH (the rest may contain the password)"
            ))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_logins_contain_no_password() {
        let options = RedisOptions { password: Some("secret".to_owned()), ..Default::default() };
        for text in [
            "ERR unknown command 'AUTH', with args beginning with: 'user' 'secret' ",
            "ERR unknown command `auth`, with args beginning with: `secret`, ",
        ] {
            let shown = refused(&options, WireError::Server(text.to_owned())).to_string();
            assert!(
                !shown.contains("secret") && shown.starts_with("ERR in reply to AUTH"),
                "{shown}"
            );
        }
        let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(refused(&options, WireError::Server(wrong.to_owned())).to_string(), wrong);
    }

    #[tokio::test]
    async fn logins_name_the_user_only_if_there_is_one() {
        for (user, password, expected) in [
            (None, None, None),
            (None, Some("p"), Some(&b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n"[..])),
            (Some("u"), Some("p"), Some(b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n")),
            (Some("u"), None, Some(b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$0\r\n\r\n")),
        ] {
            let options = RedisOptions {
                user: user.map(str::to_owned),
                password: password.map(str::to_owned),
                ..Default::default()
            };
            let sent = command(&options).await.unwrap().map(|auth| auth.get_packed_command());
            assert_eq!(sent.as_deref(), expected);
        }
    }

    #[test]
    fn passwords_in_texts_of_servers_are_replaced() {
        let mut login = redis::cmd("AUTH");
        login.arg("me").arg("hush");
        for (login, expected) in
            [(Some(&login), "WRONGPASS me used ***"), (None, "WRONGPASS me used hush")]
        {
            let error = WireError::Server("WRONGPASS me used hush".to_owned());
            assert_eq!(Secret::of(login).hide(error).to_string(), expected);
        }
    }
}
