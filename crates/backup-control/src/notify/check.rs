//! What makes no sense in the configuration of a channel.

use globset::{Glob, GlobSet, GlobSetBuilder};
use lettre::message::Mailbox;
use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use super::template::Template;
use crate::config::{ChannelKind, NotifyConfig, SecurityConfig};
use crate::error::{Error, Result};
use crate::jobs::GLOB_HINT;

/// What stands for the secret in addresses and headers.
pub(super) const SECRET: &str = "{{secret}}";
/// Nothing takes longer than this to send.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(600);
/// Headers that say who somebody is: their values are secrets.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// A key and what is wrong with it.
type Mistake = (&'static str, Error);

/// The first key that makes no sense, and why.
pub(crate) fn mistake(channel: &NotifyConfig) -> Option<Mistake> {
    check(channel).err()
}

fn check(channel: &NotifyConfig) -> Result<(), Mistake> {
    let kind = channel.kind;
    if let Some((key, owners)) = channel.keys_of_kinds().find(|(_, owners)| !owners.contains(&kind))
    {
        let owners =
            owners.iter().map(|owner| format!("`{owner}`")).collect::<Vec<_>>().join(" or ");
        let hint = format!(
            "`{key}` is for channels of kind {owners}; leave the key out, or change `kind`"
        );
        return Err((
            key,
            Error::invalid(format!("a channel of kind `{kind}` has no `{key}`")).with_hint(hint),
        ));
    }
    patterns(&channel.jobs).map_err(|error| ("jobs", error))?;
    let given: Vec<&str> = channel.secrets().collect();
    if let [_, second, ..] = given[..] {
        let hint = format!("keep one of `{}`", given.join("`, `"));
        return Err((second, Error::invalid("the secret is set by several keys").with_hint(hint)));
    }
    if channel.timeout().is_zero() || channel.timeout() > LONGEST {
        let error = Error::invalid(format!(
            "a timeout of {} is out of range",
            shown(channel.timeout.as_ref())
        ));
        return Err(("timeout", error.with_hint("choose a time up to 10min; the default is 30s")));
    }
    match kind {
        ChannelKind::Smtp => smtp(channel),
        ChannelKind::Resend => secret(channel, "API key").and_then(|()| mailboxes(channel)),
        ChannelKind::Slack => secret(channel, "address of the incoming webhook"),
        ChannelKind::Webhook => webhook(channel),
        ChannelKind::Pagerduty => secret(channel, "routing key (integration key)"),
        ChannelKind::Sms => sms(channel),
        ChannelKind::Command => {
            needed("command", channel.command.as_deref(), "write the shell command to run")
        }
    }?;
    channel.url.as_ref().map_or(Ok(()), |url| {
        address(url.reveal(), channel).map(drop).map_err(|error| ("url", error))
    })
}

fn shown(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// The patterns of jobs, as one.
///
/// # Errors
/// [`Error::Invalid`]: one of them is none.
pub(crate) fn patterns(jobs: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    let wrong = |error: globset::Error| Error::invalid(error.to_string()).with_hint(GLOB_HINT);
    for pattern in jobs {
        set.add(Glob::new(pattern).map_err(wrong)?);
    }
    set.build().map_err(wrong)
}

/// The address of a service, where there may be `{{secret}}` in its path.
///
/// # Errors
/// [`Error::Invalid`], without the address.
pub(super) fn address(text: &str, channel: &NotifyConfig) -> Result<Url> {
    let wrong = |why: &str| Err(Error::invalid(why).with_hint("write it like https://host/path"));
    let Ok(url) = text.parse::<Url>() else {
        return wrong("not an http or https address");
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return wrong("not an http or https address");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("the address contains a user or a password");
    }
    if channel.kind != ChannelKind::Webhook && (url.query().is_some() || url.fragment().is_some()) {
        return wrong("the address of this kind of channel must end with its path");
    }
    if url.scheme() == "http" && channel.allow_http != Some(true) {
        return Err(Error::invalid(
            "the address is plain http: others on the network could read and change messages",
        )
        .with_hint("use https://, or set `allow_http = true` if the network is trusted"));
    }
    Ok(url)
}

/// The sender or a recipient of mail.
///
/// # Errors
/// [`Error::Invalid`]: it is none.
pub(super) fn mailbox(text: &str) -> Result<Mailbox> {
    let mailbox =
        text.trim().parse::<Mailbox>().ok().filter(|found| found.email.to_string().is_ascii());
    mailbox.ok_or_else(|| {
        Error::invalid(format!("{text:?} is not a mail address"))
            .with_hint("write it like backup@example.com or `Backup <backup@example.com>`")
    })
}

fn needed(key: &'static str, value: Option<&str>, hint: &str) -> Result<(), Mistake> {
    if value.is_some_and(|value| !value.trim().is_empty()) {
        return Ok(());
    }
    Err((key, Error::invalid(format!("`{key}` is missing")).with_hint(hint)))
}

fn secret(channel: &NotifyConfig, what: &str) -> Result<(), Mistake> {
    if channel.secrets().next().is_some() {
        return Ok(());
    }
    let hint = "set `secret_file`, `secret_env` or `secret_command`";
    Err(("secret_file", Error::invalid(format!("the {what} is missing")).with_hint(hint)))
}

fn recipients(channel: &NotifyConfig, hint: &str) -> Result<(), Mistake> {
    needed("to", channel.to.first().map(String::as_str), hint)
}

fn mailboxes(channel: &NotifyConfig) -> Result<(), Mistake> {
    const HINT: &str = "for instance `backup@example.com`";
    needed("from", channel.from.as_deref(), HINT)?;
    recipients(channel, "for instance `to = [\"ops@example.com\"]`")?;
    mailbox(channel.from.as_deref().unwrap_or_default()).map_err(|error| ("from", error))?;
    channel.to.iter().try_for_each(|to| mailbox(to).map(drop)).map_err(|error| ("to", error))
}

fn smtp(channel: &NotifyConfig) -> Result<(), Mistake> {
    needed("host", channel.host.as_deref(), "name the mail server")?;
    let is_host = |host: &str| {
        host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':'))
    };
    if !channel.host.as_deref().is_some_and(is_host) {
        let error =
            Error::invalid("not a valid name of a host").with_hint("give the port in `port`");
        return Err(("host", error));
    }
    mailboxes(channel)?;
    let has_secret = channel.secrets().next().is_some();
    if channel.security == Some(SecurityConfig::None) && (has_secret || channel.user.is_some()) {
        let error = Error::invalid("passwords are never sent in cleartext");
        return Err((
            "security",
            error.with_hint("choose `starttls` or `tls`, or leave user and secret out"),
        ));
    }
    if has_secret && channel.user.is_none() {
        return needed("user", None, "name the user that the password belongs to");
    }
    if channel.user.is_some() { secret(channel, "password of `user`") } else { Ok(()) }
}

fn sms(channel: &NotifyConfig) -> Result<(), Mistake> {
    needed(
        "account",
        channel.account.as_deref(),
        "set the identifier of the account, which begins with AC",
    )?;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !channel.account.as_deref().is_some_and(is_plain) {
        return Err(("account", Error::invalid("not an identifier of an account")));
    }
    needed("from", channel.from.as_deref(), "set the number that sends the messages")?;
    recipients(channel, "for instance `to = [\"+4930123456\"]`")?;
    let is_number = |number: &str| {
        let digits = number.strip_prefix('+').unwrap_or_default();
        (5..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if let Some(number) = channel.to.iter().find(|number| !is_number(number)) {
        let hint = "write it with the country code and without spaces, like +4930123456";
        return Err((
            "to",
            Error::invalid(format!("{number:?} is not a telephone number")).with_hint(hint),
        ));
    }
    secret(channel, "token")
}

fn webhook(channel: &NotifyConfig) -> Result<(), Mistake> {
    needed(
        "url",
        channel.url.as_ref().map(|url| url.reveal()),
        "for instance `https://example.com/hook`",
    )?;
    let url = channel.url.as_ref().map(|url| url.reveal()).unwrap_or_default();
    let in_header = channel.headers.values().any(|value| value.contains(SECRET));
    if (url.contains(SECRET) || in_header) && channel.secrets().next().is_none() {
        return secret(channel, "secret for `{{secret}}`");
    }
    if let Some(template) = &channel.template {
        Template::parse(template).map_err(|error| ("template", error))?;
    }
    channel
        .headers
        .iter()
        .try_for_each(|(name, value)| header(name, value))
        .map_err(|error| ("headers", error))
}

fn header(name: &str, value: &str) -> Result<()> {
    if name.parse::<HeaderName>().is_err() {
        return Err(Error::invalid(format!("{name:?} is not a valid name of a header")));
    }
    if HeaderValue::from_str(value).is_err() {
        return Err(Error::invalid(format!("the value of the header {name} is not valid")));
    }
    if CREDENTIALS.contains(&name.to_ascii_lowercase().as_str()) && !value.contains(SECRET) {
        return Err(Error::invalid(format!("the value of the header {name} is a secret"))
            .with_hint(
                "write `{{secret}}` in its place, and set `secret_file`, `secret_env` or \
                 `secret_command`",
            ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake_in(text: &str) -> String {
        let channel: NotifyConfig = toml::from_str(text).unwrap();
        match mistake(&channel) {
            None => format!("{:<9} fine", channel.kind),
            Some((key, error)) => {
                let hint = error.hint().map(|hint| format!(" | {hint}")).unwrap_or_default();
                format!("{:<9} {key}: {error}{hint}", channel.kind)
            }
        }
    }

    #[test]
    fn mistakes_in_a_configuration_have_lines() {
        let mistake = |text: &str| {
            let env = crate::environment::Environment::default();
            let error =
                crate::config::parse(text, std::path::Path::new("/c.toml"), &env).unwrap_err();
            format!("{error} | {}", error.hint.as_deref().unwrap_or_default())
        };
        for (text, shown) in [
            (
                "[notify.a]\nkind = \"slack\"\nsecret = \"hush\"",
                "/c.toml:3: unknown key `secret` | set `secret_file`, `secret_env` or \
                 `secret_command` instead",
            ),
            (
                "[notify.a]\nkind = \"slak\"",
                "/c.toml:2: unknown value `slak` | did you mean `slack`?",
            ),
            (
                "[notify.a]\nkind = \"slack\"\nsecret_env = \"A\"\nhost = \"b\"",
                "/c.toml:4: a channel of kind `slack` has no `host` | `host` is for channels of \
                 kind `smtp`; leave the key out, or change `kind`",
            ),
            (
                "[notify.\"a b\"]\nkind = \"slack\"",
                "/c.toml:1: \"a b\" cannot be the name of a channel | use letters, digits, `-`, \
                 `_` and `.`",
            ),
        ] {
            assert_eq!(mistake(text), shown);
        }
    }

    #[test]
    fn mistakes_have_keys_and_hints() {
        const MAIL: &str =
            "kind = \"smtp\"\nhost = \"mail\"\nfrom = \"Backup <b@x.org>\"\nto = [\"ops@x.org\"]\n";
        const SMS: &str = "kind = \"sms\"\nsecret_env = \"T\"\nfrom = \"+1555000\"\n";
        const HOOK: &str = "kind = \"webhook\"\n";
        let smtp = |more: &str| format!("{MAIL}{more}");
        let sms = |more: &str| format!("{SMS}{more}");
        let hook = |more: &str| format!("{HOOK}{more}");
        let cases = [
            smtp(""),
            smtp("user = \"me\"\nsecret_file = \"/f\"\njobs = [\"shop-*\"]\ntimeout = \"5s\""),
            smtp("user = \"me\""),
            smtp("secret_env = \"X\""),
            smtp("secret_env = \"X\"\nsecret_file = \"/f\"\nuser = \"me\""),
            smtp("security = \"none\"\nuser = \"me\"\nsecret_env = \"X\""),
            smtp("jobs = [\"a[\"]"),
            smtp("timeout = \"1h\""),
            smtp("template = \"x\""),
            MAIL.replace("ops@x.org", "ops"),
            MAIL.replace("ops@x.org", "höhe@x.org"),
            MAIL.replace("\"mail\"", "\"mail/x\""),
            "kind = \"smtp\"".to_owned(),
            "kind = \"slack\"".to_owned(),
            "kind = \"slack\"\nsecret_env = \"X\"\nurl = \"https://x\"".to_owned(),
            "kind = \"pagerduty\"\nsecret_env = \"X\"\nurl = \"https://events.eu.pagerduty.com\""
                .to_owned(),
            "kind = \"pagerduty\"\nsecret_env = \"X\"\nurl = \"http://x\"".to_owned(),
            "kind = \"resend\"\nsecret_env = \"X\"\nto = [\"a@x.org\"]".to_owned(),
            "kind = \"command\"".to_owned(),
            "kind = \"command\"\ncommand = \"cat\"\nsecret_env = \"X\"".to_owned(),
            sms("account = \"AC1\"\nto = [\"+1555001\"]"),
            sms("to = [\"+1555001\"]"),
            sms("account = \"AC/1\"\nto = [\"+1555001\"]"),
            sms("account = \"AC1\"\nto = [\"0555001\"]"),
            hook("url = \"https://x/y?z=1\"\nheaders = { X-A = \"b\" }"),
            hook(""),
            hook("url = \"ftp://x\""),
            hook("url = \"https://me:hush@x\""),
            hook("url = \"http://x\""),
            hook("url = \"http://x\"\nallow_http = true"),
            hook("url = \"https://x/{{secret}}\""),
            hook("url = \"https://x\"\ntemplate = \"{{titel}}\""),
            hook("url = \"https://x\"\nheaders = { Authorization = \"Bearer hush\" }"),
            hook(
                "url = \"https://x\"\nsecret_env = \"X\"\nheaders = { Authorization = \"Bearer \
                 {{secret}}\" }",
            ),
            hook("url = \"https://x\"\nheaders = { \"A B\" = \"c\" }"),
        ];
        let shown = cases.map(|text| mistake_in(&text)).join("\n");
        assert!(!shown.contains("hush"), "{shown}");
        insta::assert_snapshot!(shown);
    }
}
